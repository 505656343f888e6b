"""The curve of a training: accuracy on the training batches, by type of question.

    python -m experiments.benchmark.curve runs/train/log.jsonl curve.png

Several logs are those of runs that each began with the checkpoint of the one before.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from .questions import TYPES

CHANCE = {"exists": 0.5, "order": 0.5, "direction": 0.5, "before": 0.5}
"""Of the types with two options; the others have four."""

COUNTED = ("step", "clips", "seconds")


def read(path: Path) -> list[dict[str, float]]:
    """The lines of a log that tell of training, in order; what was trained again after a stop counts once."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    kept: dict[int, dict[str, float]] = {}
    for line in lines:
        if "rate" in line:
            kept = {step: earlier for step, earlier in kept.items() if step < line["step"]}
            kept[int(line["step"])] = line
    return list(kept.values())


def join(runs: Sequence[list[dict[str, float]]]) -> list[dict[str, float]]:
    """The lines of runs one after the other: steps, clips and seconds count on, where a run begins them anew."""
    joined: list[dict[str, float]] = []
    before: dict[str, float] = {}
    last: dict[str, float] = {}
    for run in runs:
        for name in COUNTED:
            if name in last and run and run[0].get(name, 0) < last[name]:
                before[name] = joined[-1][name]
        joined += [line | {name: line[name] + before.get(name, 0) for name in COUNTED if name in line} for line in run]
        last = run[-1] if run else last
    return joined


def draw(lines: list[dict[str, float]], path: Path) -> None:
    """One small picture for each type: accuracy against minutes, chance as a dashed line, long clips shaded."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    minutes = [line["seconds"] / 60 for line in lines]
    figure, axes = plt.subplots(4, 4, figsize=(11, 8), sharex=True, sharey=True, layout="constrained")
    for kind, axis in zip(TYPES, axes.flat, strict=True):
        seen = [(minute, line[kind]) for minute, line in zip(minutes, lines, strict=True) if kind in line]
        axis.plot(*zip(*seen, strict=True), color="#0072b2", linewidth=1.5)
        axis.axhline(CHANCE.get(kind, 0.25), color="0.5", linestyle="--", linewidth=1)
        long = [line["frames"] > 8 for line in lines]
        axis.fill_between(minutes, 1.02, where=long, step="pre", color="0.92", linewidth=0)
        axis.set_title(kind, fontsize=10)
        axis.set_ylim(0, 1.02)
        axis.spines[["top", "right"]].set_visible(False)
    figure.supxlabel("minutes of training, one run after the other (grey: batches of 16 and 32 frames)")
    figure.supylabel("accuracy on training batches, moving average")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(arguments: list[str] | None = None) -> None:
    """Draw the curve of a log."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("logs", type=Path, nargs="+")
    parser.add_argument("picture", type=Path)
    told = parser.parse_args(arguments)
    draw(join([read(log) for log in told.logs]), told.picture)


if __name__ == "__main__":
    main()
