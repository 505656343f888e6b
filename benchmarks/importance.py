"""Which importance should trim the candidates where no attention is given: ``python -m benchmarks.importance [VIDEO
...]``.

Every registered importance that needs no signal, on the rendered sample and its kinds of events, on calibrated
synthetic tokens, and on any videos given (which have no known events, so only coverage counts there).
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from stgraph import STSimDiff, VideoTokens, read_video
from stgraph.encoders import ENCODERS
from stgraph.importance import IMPORTANCES
from stgraph.sample import event_tokens, load_events, render_events, render_sample
from stgraph.selectors import SELECTORS
from stgraph.selectors.metrics import evaluate

from .tokens import SHOT, clip

RETENTIONS = (0.1, 0.3)
KINDS = ("cut", "flash", "enter", "fade", "moving_object", "texture_change")
FLOORS = ("random", "uniform")


def clips(paths: list[Path]) -> Iterator[tuple[str, VideoTokens, Tensor | None]]:
    """Name, tokens and known event tokens of every clip."""
    encoder = ENCODERS.build("descriptor")
    with tempfile.TemporaryDirectory() as folder:
        sample = render_sample(Path(folder) / "sample.mp4")
        video = read_video(sample.path, frames=32)
        tokens = encoder(video).tokens
        yield "sample", tokens, event_tokens(load_events(sample.events_path), tokens, (video.height, video.width))
    for kind in KINDS:
        rendered = render_events(kind, seconds=2.0)
        tokens = encoder(rendered.video).tokens
        yield kind, tokens, event_tokens(rendered.events, tokens, (rendered.video.height, rendered.video.width))
    for share in (0.3, 0.6, 0.9):
        tokens = VideoTokens.from_grid(clip(2 * SHOT, 256, share))
        frame = tokens.coords[:, 0]
        yield f"synthetic {share:.0%}", tokens, (frame > 0) & (frame % SHOT == 0)
    for path in paths:
        yield path.stem, encoder(read_video(path, frames=32)).tokens, None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("videos", type=Path, nargs="*")
    substitutes = [name for name in IMPORTANCES if name != "auto" and not name.endswith("attention")]
    floors = {f"({name} selection)": name for name in FLOORS}
    coverage: dict[str, list[float]] = {name: [] for name in (*floors, *substitutes)}
    recall: dict[str, list[float]] = {name: [] for name in coverage}
    for _, tokens, events in clips(parser.parse_args().videos):
        for retention in RETENTIONS:
            for name in coverage:
                if name in floors:
                    selector = SELECTORS.build({"name": floors[name], "retention": retention})
                else:
                    selector = STSimDiff(retention=retention, importance=IMPORTANCES.build(name))
                quality = evaluate(tokens, selector(tokens), events)
                coverage[name].append(quality.coverage)
                if quality.event_recall is not None:
                    recall[name].append(quality.event_recall)
    print("| trimmed by | coverage | event recall | sum |")
    print("|---|---|---|---|")
    rows = [(name, torch.tensor(coverage[name]).mean(), torch.tensor(recall[name]).mean()) for name in coverage]
    for name, covered, recalled in sorted(rows, key=lambda row: -float(row[1] + row[2])):
        print(f"| {name} | {covered:.3f} | {recalled:.3f} | {covered + recalled:.3f} |")


if __name__ == "__main__":
    main()
