"""Do the small model's tokens behave like those of a real tower? Cosines between neighbours, side by side.

python -m experiments.benchmark.similarity clip.mp4 … --teacher DINOV2_FOLDER
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from stgraph import Video, VideoTokens, build_graph, read_video
from stgraph.community import COMMUNITIES

from .answering import CHECKPOINT, Reader

BINS = 10
"""Of the histograms, from 0 to 1; cosines below 0 are in the first."""

THRESHOLD = 0.8
"""The paper's τ_sim."""


def describe(tokens: VideoTokens) -> dict[str, Any]:
    """Of spatial and temporal edges: histogram, mean and share at least 0.8; and the largest community at 0.8.

    Returns:
        for ``"spatial"`` and ``"temporal"`` a dict of ``histogram`` (shares), ``mean`` and ``share``; ``"components"``
        and ``"leiden"``, the share of the tokens in the largest community, without pruning by size.
    """
    graph = build_graph(replace(tokens, features=tokens.features.float()))
    found: dict[str, Any] = {}
    for number, kind in enumerate(("spatial", "temporal")):
        weights = graph.edge_weight[graph.edge_kind == number]
        counted = torch.histc(weights.clamp(0, 1), BINS, 0, 1) / len(weights)
        found[kind] = {
            "histogram": [round(float(value), 4) for value in counted],
            "mean": float(weights.mean()),
            "share": float((weights >= THRESHOLD).float().mean()),
        }
    pruned = graph.prune(THRESHOLD)
    for name in ("components", "leiden"):
        labels = COMMUNITIES.get(name)()(pruned).labels
        found[name] = float(torch.bincount(labels).max() / len(labels))
    return found


def small_tokens(reader: Reader, video: Video) -> VideoTokens:
    """The tokens of a video as the small model's language model gets them."""
    made = reader.qa.prompt(video, "x")
    pixels = {key: value for key, value in made.items() if key.startswith(("pixel", "video"))}
    with torch.no_grad():
        features = reader.model.model.get_video_features(**pixels, return_dict=True).pooler_output[0]
    frames, height, width = (int(n) for n in pixels["video_grid_thw"][0])
    return VideoTokens.from_grid(features.view(frames, height // 2, width // 2, -1))


@torch.no_grad()
def teacher_tokens(folder: str, video: Video) -> VideoTokens:
    """The patches of a video in DINOv2, behind its last norm: what the small tower was taught with."""
    from transformers import AutoImageProcessor, AutoModel

    teacher, settings = AutoModel.from_pretrained(folder).eval(), AutoImageProcessor.from_pretrained(folder)
    mean, std = (torch.tensor(value).view(3, 1, 1) * 255 for value in (settings.image_mean, settings.image_std))
    patch = teacher.config.patch_size
    rows = [teacher((frame[None] - mean) / std).last_hidden_state[0, 1:] for frame in video.frames.float()]
    return VideoTokens.from_grid(torch.stack(rows).unflatten(1, (video.height // patch, video.width // patch)))


def main(arguments: list[str] | None = None) -> None:
    """Print a table for each video."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("videos", nargs="+", type=Path)
    parser.add_argument("--teacher", required=True)
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT)
    parser.add_argument("--frames", type=int, default=32)
    parser.add_argument("--rows", type=int, default=12, help="of tokens in a frame, for both towers")
    told = parser.parse_args(arguments)
    reader = Reader.from_pretrained(told.checkpoint, dtype="float32")
    for path in told.videos:
        video = read_video(path, frames=told.frames)
        columns = round(told.rows * video.width / video.height)
        shown = {}
        for name, patch in (("small", 16), ("teacher", 14)):
            size = (told.rows * patch, columns * patch)
            frames = F.interpolate(video.frames, size, mode="bilinear", antialias=True)
            resized = replace(video, frames=frames)
            if name == "small":
                shown[name] = small_tokens(reader, resized)
            else:
                shown[name] = teacher_tokens(told.teacher, resized)
        for name, tokens in shown.items():
            found = describe(tokens)
            print(f"{path.name} {name}: {len(tokens)} tokens, grid {tuple(tokens.grids[0])}")
            for kind in ("spatial", "temporal"):
                part = found[kind]
                print(f"  {kind:9} mean {part['mean']:.3f}  ≥ 0.8 {part['share']:.3f}  histogram {part['histogram']}")
            print(f"  largest: components {found['components']:.3f}, Leiden {found['leiden']:.3f}")


if __name__ == "__main__":
    main()
