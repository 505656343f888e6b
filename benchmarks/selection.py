"""Time and memory of a whole selection against three reads of the features: ``python -m benchmarks.selection``."""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import torch

from stgraph import STSimDiff, VideoTokens, kernels

from .tokens import clip, similar_share

STAGES = ("graph", "community", "centrality")


def timed_ms(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - start)


def table(frames: int, dim: int, repeats: int) -> None:
    """One read, and selections by both kernels, taken in turns so that all see the same machine."""
    size = f"{frames} frames of 14×14×{dim}"
    print(f"{size}, {torch.get_num_threads()} threads, torch {torch.__version__}; medians of {repeats} in ms\n")
    heads = ("similar edges", "dtype", "one read", "reference", "over three reads", "fused", "over three reads")
    heads += (*STAGES, "rest")
    print("| " + " | ".join(heads) + " |\n" + "|---" * len(heads) + "|")
    for share in (0.3, 0.6, 0.9, 1.0):
        x = clip(frames, dim, share)
        similar = f"{100 * similar_share(x):.0f} %"
        for dtype in (torch.float32, torch.float16, torch.bfloat16):
            tokens = VideoTokens.from_grid(x.to(dtype))
            # The floor is a read at memory speed: summing float32 words of the same bytes.
            words = tokens.features.flatten().view(torch.float32)
            reads, times, stages = [], {"reference": [], "fused": []}, []
            for _ in range(repeats + 1):
                reads.append(timed_ms(words.sum))
                for name, taken in times.items():
                    with kernels.use(name):
                        start = time.perf_counter()
                        selection = STSimDiff()(tokens)
                        taken.append(1000 * (time.perf_counter() - start))
                stages.append([1000 * selection.seconds[stage] for stage in STAGES])
                stages[-1].append(1000 * selection.seconds["selection"] - sum(stages[-1]))
            read, *whole = (statistics.median(taken[1:]) for taken in (reads, *times.values()))  # the first warms up
            cells = [similar, str(dtype).removeprefix("torch."), f"{read:.1f}"]
            for ms in whole:
                cells += [f"{ms:.1f}", f"{ms / (3 * read):.2f}×"]
            cells += [f"{statistics.median(stage):.1f}" for stage in zip(*stages[1:], strict=True)]
            print("| " + " | ".join(cells) + " |", flush=True)


FIRST_CALL = """
import time, torch
from stgraph import STSimDiff, VideoTokens
x = VideoTokens.from_grid(torch.randn({frames}, 14, 14, {dim}))
start = time.perf_counter()
STSimDiff()(x)
print(time.perf_counter() - start)
"""

PEAK = """
import torch
from stgraph import STSimDiff, VideoTokens
def peak():  # not getrusage, whose high-water mark is inherited from the process that starts this one
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
STSimDiff()(VideoTokens.from_grid(torch.randn(4, 8, 8, 64)))
x = torch.ones({frames}, 14, 14, {dim})
before = peak()
STSimDiff()(VideoTokens.from_grid(x))
print((peak() - before) / (x.numel() * x.element_size()))
"""


def in_new_process(code: str, kernel: str, cache: str | None = None) -> float:
    environment = os.environ | {"STGRAPH_KERNELS": kernel} | ({"XDG_CACHE_HOME": cache} if cache else {})
    command = [sys.executable, "-c", code]
    return float(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=64)
    parser.add_argument("--dim", type=int, default=3584)
    parser.add_argument("--repeats", type=int, default=15)
    arguments = parser.parse_args()
    table(arguments.frames, arguments.dim, arguments.repeats)
    size = {"frames": arguments.frames, "dim": arguments.dim}
    plain, first = [], []
    for _ in range(3):
        plain.append(in_new_process(FIRST_CALL.format(**size), "reference"))
        with tempfile.TemporaryDirectory() as cache:
            first.append(in_new_process(FIRST_CALL.format(**size), "auto", cache))
    first_ms, plain_ms = (1000 * statistics.median(taken) for taken in (first, plain))
    print(f"\nFirst call of a process: {plain_ms:.0f} ms with the reference kernels, {first_ms:.0f} ms where the fused")
    print(f"ones are compiled beside it for the first time ever ({first_ms / plain_ms:.2f}×).")
    print("\nPeak extra memory of a static clip over the features, float32: ", end="")
    print(", ".join(f"{in_new_process(PEAK.format(**size), name):.1%} {name}" for name in ("reference", "fused")))


if __name__ == "__main__":
    main()
