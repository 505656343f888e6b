"""Time and memory of a whole selection against three reads of the features: ``python -m benchmarks.selection``."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from stgraph import STSimDiff, VideoTokens, kernels

from .tokens import clip, similar_share

WARM_UP = 3

KERNELS: tuple[kernels.Name, ...] = ("reference", "fused")
"""The last ones are those whose stages and reads are shown."""

STAGES = ("graph", "community", "centrality")

RESULTS = Path("benchmarks/results/selection.json")


def measure(tokens: VideoTokens, repeats: int, clock: Callable[[], float]) -> dict[str, Any]:
    """Median milliseconds of one read and of a selection by each of the kernels, and the median of what the selection
    takes over three reads. Read and selection take turns, so that both see the same machine.
    """
    selector = STSimDiff(separators="vertex")
    words = tokens.features.flatten().view(torch.float32)  # a read at memory speed: a sum of float32 words
    medians: dict[str, Any] = {}
    for name in KERNELS:
        turns: list[dict[str, float]] = []
        with kernels.using(name):
            for _ in range(WARM_UP + repeats):
                start = clock()
                words.sum()
                read = 1000 * (clock() - start)
                start = clock()
                selection = selector(tokens)
                whole = 1000 * (clock() - start)
                stages = {stage: 1000 * selection.seconds[stage] for stage in STAGES}
                stages["rest"] = whole - sum(stages.values())
                turns.append({"read": read, name: whole, f"{name} ratio": whole / (3 * read), **stages})
        medians |= {key: statistics.median(turn[key] for turn in turns[WARM_UP:]) for key in turns[0]}
    return medians


def rows_of(
    grids: list[tuple[int, bool]], dim: int, repeats: int, clock: Callable[[], float]
) -> Iterator[dict[str, Any]]:
    for (frames, newline), share in itertools.product(grids, (0.3, 0.6, 0.9, 1.0)):
        x = clip(frames, dim, share)
        similar = similar_share(x)
        if newline:  # one repeated vector after each row, a vertex like any other, as in the authors' release
            x = torch.cat([x, x[:1, :1, :1].expand(frames, x.shape[1], 1, dim)], 2)
        for dtype in (torch.float32, torch.float16, torch.bfloat16):
            tokens = VideoTokens.from_grid(x.to(dtype), newline=newline)
            about = {"tokens": len(tokens), "similar": similar, "dtype": str(dtype).removeprefix("torch.")}
            yield about | measure(tokens, repeats, clock)


def line(row: dict[str, Any], stages: bool) -> str:
    cells = [str(row["tokens"]), f"{100 * row['similar']:.0f} %", row["dtype"], f"{row['read']:.1f}"]
    for name in KERNELS:
        cells += [f"{row[name]:.1f}", f"{row[f'{name} ratio']:.2f}×"]
    if stages:
        cells += [f"{row[stage]:.1f}" for stage in (*STAGES, "rest")]
    return "| " + " | ".join(cells) + " |"


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Where the time of each selection goes, in units of three reads."""
    from stgraph.viz.drawing import add_legend, new_chart

    rows = [row for dtype in ("float32", "bfloat16") for row in rows if row["dtype"] == dtype]
    figure, axes = new_chart(8.0, 0.6 + 0.28 * len(rows))
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x", linewidth=0.5)
    left = [0.0] * len(rows)
    for stage, colour in zip((*STAGES, "rest"), ("#2B6CB0", "#14855F", "#C05621", "#8A94A0"), strict=True):
        width = [row["fused ratio"] * row[stage] / row["fused"] for row in rows]
        axes.barh(range(len(rows)), width, left=left, height=0.66, color=colour, label=stage)
        left = [start + more for start, more in zip(left, width, strict=True)]
    axes.axvline(1, color="black", linewidth=1)
    axes.annotate("three reads", (1, -0.6), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8.5)
    names = [f"{row['dtype']}, {row['tokens']:,} tokens, {100 * row['similar']:.0f} % similar" for row in rows]
    axes.set_yticks(range(len(rows)), names)
    axes.invert_yaxis()
    axes.set_xlabel("time of a selection over that of three reads of its features")
    add_legend(axes)
    figure.savefig(path, metadata={"Date": None})


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


def in_new_process(code: str, kernel: str) -> float:
    command, environment = [sys.executable, "-c", code], os.environ | {"STGRAPH_KERNELS": kernel}
    return float(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--newline", action="store_true", help="one newline token after each row, as a vertex")
    parser.add_argument("--dim", type=int, default=3584)
    parser.add_argument("--repeats", type=int, default=25)
    parser.add_argument("--cpu", action="store_true", help="CPU time of one thread: what a busy machine leaves to tell")
    parser.add_argument("--figure", type=Path, help="SVG to draw")
    arguments = parser.parse_args()
    if arguments.cpu:
        torch.set_num_threads(1)
    clock = time.thread_time if arguments.cpu else time.perf_counter
    threads = torch.get_num_threads()
    print(f"{threads} threads, torch {torch.__version__}; medians of {arguments.repeats} in ms, ratios turn by turn\n")
    heads = ["tokens", "similar edges", "dtype", "one read"]
    heads += ["reference", "over three reads", "fused", "over three reads"]
    heads += [] if arguments.cpu else [*STAGES, "rest"]  # which are by the clock
    print("| " + " | ".join(heads) + " |\n" + "|---" * len(heads) + "|")
    grids = [(frames, arguments.newline) for frames in arguments.frames]
    rows = []
    for row in rows_of(grids, arguments.dim, arguments.repeats, clock):
        rows.append(row)
        print(line(row, stages=not arguments.cpu), flush=True)
    if arguments.figure:
        draw(rows, arguments.figure)
    if arguments.cpu:
        return
    size = {"frames": arguments.frames[0], "dim": arguments.dim}
    plain, first = [], []
    for _ in range(5):
        plain.append(in_new_process(FIRST_CALL.format(**size), "reference"))
        first.append(in_new_process(FIRST_CALL.format(**size), "auto"))
    first_ms, plain_ms = (1000 * statistics.median(taken) for taken in (first, plain))
    print(f"\nFirst call of a process: {plain_ms:.0f} ms with the reference kernels, {first_ms:.0f} ms with")
    print(f"those that serve by default ({first_ms / plain_ms:.2f}×).")
    peaks = {name: in_new_process(PEAK.format(**size), name) for name in KERNELS}
    print("\nPeak extra memory of a static clip over the features, float32: ", end="")
    print(", ".join(f"{peak:.1%} {name}" for name, peak in peaks.items()))
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    about = {"machine": platform.platform(), "threads": threads, "torch": torch.__version__}
    record = {**about, "rows": rows, "first_call_ms": [plain_ms, first_ms], "peak_over_features": peaks}
    RESULTS.write_text(json.dumps(record, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
