"""Time of a whole selection against one read of the features: ``python -m benchmarks.selection``."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from stgraph import STSimDiff, VideoTokens

from .tokens import clip, similar_share


def median_ms(work: Callable[[], object], repeats: int) -> float:
    """Median milliseconds after one warm-up."""
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=64)
    parser.add_argument("--dim", type=int, default=3584)
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    size = f"{arguments.frames} frames of 14×14×{arguments.dim}"
    print(f"{size}, {torch.get_num_threads()} threads, torch {torch.__version__}; medians in ms\n")
    heads = ("similar edges", "dtype", "one read", "selection", "over three reads")
    heads += ("graph", "community", "centrality", "rest")
    print("| " + " | ".join(heads) + " |\n" + "|---" * len(heads) + "|")
    for share in (0.3, 0.6, 0.9, 1.0):
        x = clip(arguments.frames, arguments.dim, share)
        for dtype in (torch.float32, torch.bfloat16):
            tokens = VideoTokens.from_grid(x.to(dtype))
            # The floor is a read at memory speed: summing float32 words of the same bytes.
            words = tokens.features.flatten().view(torch.float32)
            read = median_ms(words.sum, arguments.repeats)
            selector = STSimDiff()
            whole = median_ms(lambda selector=selector, tokens=tokens: selector(tokens), arguments.repeats)
            stage = selector(tokens).seconds
            main_stages = [1000 * stage[name] for name in ("graph", "community", "centrality")]
            rest = 1000 * stage["selection"] - sum(main_stages)
            cells = [
                f"{100 * similar_share(x):.0f} %",
                str(dtype).removeprefix("torch."),
                f"{read:.1f}",
                f"{whole:.1f}",
            ]
            cells += [f"{whole / (3 * read):.2f}×", *(f"{ms:.1f}" for ms in (*main_stages, rest))]
            print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
