"""Time and memory of a whole selection against three reads of the features: ``python -m benchmarks.selection``."""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial

import torch

from stgraph import Selection, STSimDiff, VideoTokens, kernels

from .tokens import clip, similar_share

STAGES = ("graph", "community", "centrality")


def table(grids: list[tuple[int, bool]], dim: int, repeats: int, clock: Callable[[], float]) -> None:
    """One read, and selections by both kernels, taken in turns so that all see the same machine."""
    heads = (
        "tokens",
        "similar edges",
        "dtype",
        "one read",
        "reference",
        "over three reads",
        "fused",
        "over three reads",
    )
    heads += (*STAGES, "rest") if clock is time.perf_counter else ()  # the clock of the stages
    print("| " + " | ".join(heads) + " |\n" + "|---" * len(heads) + "|")
    for (frames, newline), share in itertools.product(grids, (0.3, 0.6, 0.9, 1.0)):
        x = clip(frames, dim, share)
        similar = f"{100 * similar_share(x):.0f} %"
        if newline:  # one repeated vector after each row, a vertex like any other, as in the authors' release
            x = torch.cat([x, x[:1, :1, :1].expand(frames, x.shape[1], 1, dim)], 2)
        selector = STSimDiff(separators="vertex")
        for dtype in (torch.float32, torch.float16, torch.bfloat16):
            tokens = VideoTokens.from_grid(x.to(dtype), newline=newline)
            # The floor is a read at memory speed: summing float32 words of the same bytes.
            words = tokens.features.flatten().view(torch.float32)
            works: dict[str, Callable[[], object]] = {"read": words.sum}
            works |= {name: partial(select, selector, tokens, name) for name in ("reference", "fused")}
            fastest: dict[str, float] = dict.fromkeys(works, float("inf"))
            stages: dict[str, float] = {}
            for _ in range(repeats):
                for name, work in works.items():
                    start = clock()
                    found = work()
                    taken = 1000 * (clock() - start)
                    if taken < fastest[name]:
                        fastest[name] = taken
                        if name == "fused" and isinstance(found, Selection):
                            stages = found.seconds
            times = [1000 * stages[stage] for stage in STAGES]
            cells = [str(len(tokens)), similar, str(dtype).removeprefix("torch."), f"{fastest['read']:.1f}"]
            for name in ("reference", "fused"):
                cells += [f"{fastest[name]:.1f}", f"{fastest[name] / (3 * fastest['read']):.2f}×"]
            if clock is time.perf_counter:
                cells += [f"{ms:.1f}" for ms in (*times, 1000 * stages["selection"] - sum(times))]
            print("| " + " | ".join(cells) + " |", flush=True)


def select(selector: STSimDiff, tokens: VideoTokens, name: kernels.Name) -> Selection:
    with kernels.use(name):
        return selector(tokens)


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
    parser.add_argument("--frames", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--newline", action="store_true", help="one newline token after each row, as a vertex")
    parser.add_argument("--dim", type=int, default=3584)
    parser.add_argument("--repeats", type=int, default=25)
    parser.add_argument("--cpu", action="store_true", help="CPU time of one thread: what a busy machine leaves to tell")
    arguments = parser.parse_args()
    if arguments.cpu:
        torch.set_num_threads(1)
    clock = time.thread_time if arguments.cpu else time.perf_counter
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}; the fastest of {arguments.repeats} in ms\n")
    table([(frames, arguments.newline) for frames in arguments.frames], arguments.dim, arguments.repeats, clock)
    if arguments.cpu:
        return
    size = {"frames": arguments.frames[0], "dim": arguments.dim}
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
