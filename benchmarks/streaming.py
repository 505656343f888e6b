"""A day of video at one frame per second, window by window (Linux): ``python -m benchmarks.streaming``.

The frames are 14 × 14 tokens of d = 64 with 60 % similar edges and a cut every 40 frames, made beforehand and repeated,
so that only the selection is timed. Every row is measured in a process of its own. Writes JSON.
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from stgraph import STSimDiff, kernels, stream
from stgraph.difference import DIFFERENCES

from .community import memory
from .tokens import SHOT, frames_of

DAY = 86_400

SETTINGS = (  # frames, window, context, difference detector
    (DAY, 64, 1, "threshold"),
    (DAY // 10, 16, 1, "threshold"),
    (DAY // 10, 256, 1, "threshold"),
    (DAY // 10, 64, 32, "drift"),
)

RESULTS = Path("benchmarks/results/streaming.json")


def measure(frames: int, window: int, context: int, difference: str) -> dict[str, Any]:
    made = list(itertools.islice(frames_of(64, 0.6), 10 * SHOT))
    selector = STSimDiff(difference=DIFFERENCES.build(difference))

    def kept(count: int) -> int:
        arriving = itertools.islice(itertools.cycle(made), count)
        return sum(len(released.selection) for released in stream(arriving, selector, window=window, context=context))

    kept(2 * window)
    resident = memory("VmHWM")
    start = time.perf_counter()
    total = kept(frames)
    seconds = time.perf_counter() - start
    return {
        "frames": frames,
        "window": window,
        "context": context,
        "difference": difference,
        "kept": total,
        "seconds": seconds,
        "frames_per_second": frames / seconds,
        "extra_megabytes": memory("VmHWM") - resident,
        "stream_megabytes": frames * made[0].numel() * 4 / 1e6,
    }


def in_new_process(setting: tuple[int, int, int, str]) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.streaming", "--measure", *map(str, setting)]
    result: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measure", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        *numbers, difference = arguments.measure
        frames, window, context = map(int, numbers)
        print(json.dumps(measure(frames, window, context, difference)))
        return
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, {kernels.active()} kernels\n")
    heads = ("frames", "window", "context", "difference", "seconds", "frames per second", "memory beyond two windows")
    print("| " + " | ".join(heads) + " |\n" + "|---" * len(heads) + "|")
    rows = []
    for setting in SETTINGS:
        row = in_new_process(setting)
        rows.append(row)
        cells = [f"{row['frames']:,}", row["window"], row["context"], row["difference"], f"{row['seconds']:.1f}"]
        cells.append(f"{row['frames_per_second']:,.0f}")
        cells.append(f"{row['extra_megabytes']:.1f} MB of {row['stream_megabytes']:,.0f} MB")
        print("| " + " | ".join(map(str, cells)) + " |", flush=True)
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    about = {"machine": platform.platform(), "threads": torch.get_num_threads(), "kernels": kernels.active()}
    RESULTS.write_text(json.dumps({**about, "rows": rows}, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
