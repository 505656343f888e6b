"""How time and memory of a selection grow with the tokens and their length (Linux): ``python -m benchmarks.growth``.

Every size is measured in a process of its own. Writes JSON, and with ``--figure`` the figure of the documentation.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import math
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from stgraph import STSimDiff, VideoTokens, kernels

from .community import memory
from .tokens import SIDE, clip

FRAMES = (5, 16, 51, 160, 510, 1600, 5102)
"""Of 14 × 14 tokens: 1k to 1M."""

DIMENSIONS = (64, 256, 1024, 4096)

STAGES = ("graph", "community", "centrality", "difference", "importance")

RESULTS = Path("benchmarks/results/growth.json")


def measure(frames: int, dim: int, share: float) -> dict[str, Any]:
    """Seconds of one read and of a selection with its stages, and the megabytes that it takes beside the features.

    ``processor`` is the time of the selection on all cores without what other programs took: it tells growth best.
    """
    x = clip(frames, dim, share)
    tokens, selector = VideoTokens.from_grid(x), STSimDiff()
    selector(VideoTokens.from_grid(x[:2]))
    ctypes.CDLL(None).malloc_trim(0)  # or what the clip was made with would hide what the selection takes
    resident = memory("VmRSS", reset=True)
    reads, whole, processor, stages = [], [], [], []
    since = time.perf_counter()
    while len(whole) < 15 or time.perf_counter() - since < 3:  # long enough to find a quiet moment of a shared machine
        start = time.perf_counter()
        x.sum()
        reads.append(time.perf_counter() - start)
        start = time.process_time()
        selection = selector(tokens)
        processor.append(time.process_time() - start)
        whole.append(selection.seconds["selection"])
        stages.append([selection.seconds[stage] for stage in STAGES])
    best = whole.index(min(whole))
    seconds = dict(zip(STAGES, stages[best], strict=True))
    return {
        "frames": frames,
        "tokens": len(tokens),
        "dim": dim,
        "read": min(reads),
        "selection": whole[best],
        "processor": min(processor),
        "stages": seconds | {"rest": whole[best] - sum(seconds.values())},
        "extra_megabytes": memory("VmHWM") - resident,
        "feature_megabytes": x.numel() * x.element_size() / 1e6,
    }


def exponent(rows: list[dict[str, Any]], value: str, since: int = 10_000) -> float:
    """Slope of log time over log tokens, from ``since`` tokens up."""
    points = [(math.log(row["tokens"]), math.log(row[value])) for row in rows if row["tokens"] >= 0.9 * since]
    slope, _ = statistics.linear_regression(*zip(*points, strict=True))
    return slope


def in_new_process(frames: int, dim: int, share: float) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.growth", "--measure", f"{frames} {dim} {share}"]
    result: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return result


def table(rows: list[dict[str, Any]]) -> str:
    heads = (
        "tokens",
        "d",
        "selection",
        "processor time",
        "over three reads",
        *STAGES,
        "rest",
        "extra memory over features",
    )
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for row in rows:
        cells = [f"{row['tokens']:,}", str(row["dim"]), f"{1000 * row['selection']:.1f} ms"]
        cells.append(f"{1000 * row['processor']:.1f} ms")
        cells.append(f"{row['selection'] / (3 * row['read']):.1f}×")
        cells += [f"{1000 * seconds:.1f}" for seconds in row["stages"].values()]
        cells.append(f"{100 * row['extra_megabytes'] / row['feature_megabytes']:.0f} %")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Time over tokens, with the stages, in log-log."""
    from stgraph.viz.drawing import add_legend, new_chart

    figure, axes = new_chart(7.0, 4.0)
    n = [row["tokens"] for row in rows]
    axes.plot(n, [row["selection"] for row in rows], color="black", linewidth=2, marker="o", label="selection")
    for stage in ("graph", "community", "centrality", "rest"):
        axes.plot(n, [row["stages"][stage] for row in rows], linewidth=1.2, marker=".", label=stage)
    axes.plot(n, [3 * row["read"] for row in rows], color="grey", linestyle="--", label="three reads")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel(f"tokens (d = {rows[0]['dim']})")
    axes.set_ylabel("seconds")
    add_legend(axes)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--share", type=float, default=0.6, help="similar edges")
    parser.add_argument("--most", type=int, default=1_000_000, help="tokens of the largest clip")
    parser.add_argument("--figure", type=Path, help="SVG to draw")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        frames, dim, share = arguments.measure.split()
        print(json.dumps(measure(int(frames), int(dim), float(share))))
        return
    frames = [count for count in FRAMES if count * SIDE * SIDE <= arguments.most]
    by_tokens = [in_new_process(count, 256, arguments.share) for count in frames]
    by_dim = [in_new_process(64, dim, arguments.share) for dim in DIMENSIONS]
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, {kernels.active()} kernels\n")
    print(table(by_tokens), "\n\n" + table(by_dim), "\n")
    fitted = {name: exponent(by_tokens, name) for name in ("selection", "processor", "read")}
    print("growth exponent from 10k tokens: " + ", ".join(f"{name} {slope:.3f}" for name, slope in fitted.items()))
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    about = {"machine": platform.platform(), "threads": torch.get_num_threads(), "torch": torch.__version__}
    record = {**about, "kernels": kernels.active(), "exponent": fitted, "by_tokens": by_tokens, "by_dim": by_dim}
    RESULTS.write_text(json.dumps(record, indent=2) + "\n", "utf-8")
    if arguments.figure:
        draw(by_tokens, arguments.figure)


if __name__ == "__main__":
    main()
