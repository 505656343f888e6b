"""Many clips: one after the other against reading ahead (``python -m benchmarks.loader``). Writes JSON."""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from stgraph import compress_many, read_video
from stgraph.app.config import resolve
from stgraph.sample import render_sample
from stgraph.video import write_video

SETTINGS = ((1, 0), (1, 2), (2, 4))
"""Reading threads and clips ahead."""

RESULTS = Path("benchmarks/results/loader.json")


def clips(folder: Path, count: int) -> list[Path]:
    """Copies of the sample clip, each of them turned another way round the colours."""
    video = read_video(render_sample(folder / "sample.mp4").path, stride=1)
    paths = []
    for number in range(count):
        paths.append(folder / f"{number}.mp4")
        write_video(paths[-1], video.frames.roll(number, 1), 25, preset="ultrafast")
    return paths


def rounds(paths: list[Path], repeats: int) -> list[dict[str, Any]]:
    """Clips per second of every setting, taken in turns so that all see the same machine."""
    config = resolve(["video.frames=64"])
    seconds: dict[tuple[int, int], list[float]] = {setting: [] for setting in SETTINGS}
    stages: dict[str, float] = {}
    for _ in range(repeats + 1):
        for (workers, ahead), taken in seconds.items():
            start = time.perf_counter()
            outcomes = [outcome.seconds for outcome in compress_many(paths, config, workers=workers, ahead=ahead)]
            taken.append(time.perf_counter() - start)
            if not ahead:
                stages = {name: sum(each[name] for each in outcomes) / len(outcomes) for name in outcomes[0]}
    serial = statistics.median(seconds[SETTINGS[0]][1:])
    rows = []
    for (workers, ahead), taken in seconds.items():
        median = statistics.median(taken[1:])  # the first warms up
        rate = len(paths) / median
        rows.append({"workers": workers, "ahead": ahead, "clips_per_second": rate, "speedup": serial / median})
    return [{"one by one": stages}, *rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        stages, *rows = rounds(clips(Path(folder), arguments.clips), arguments.repeats)
    means = ", ".join(f"{name} {1000 * seconds:.0f} ms" for name, seconds in stages["one by one"].items())
    print(f"{torch.get_num_threads()} threads, 64 frames of each clip; one by one a clip takes {means}\n")
    print("| reading threads | ahead | clips per second | over one by one |\n|---|---|---|---|")
    for row in rows:
        print(f"| {row['workers']} | {row['ahead']} | {row['clips_per_second']:.2f} | {row['speedup']:.2f}× |")
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    about = {"machine": platform.platform(), "threads": torch.get_num_threads()}
    RESULTS.write_text(json.dumps({**about, **stages, "rows": rows}, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
