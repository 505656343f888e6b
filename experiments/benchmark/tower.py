"""Train the vision tower: what covers each token, its colour, how it looks, and how a real tower relates its tokens.

    python -m experiments.benchmark.tower --teacher DINOV2_FOLDER --minutes 10

The tower is frozen afterwards. The teacher gives two targets for each token of rendered clips: its features, through a
linear layer that is thrown away, and the cosines between neighbours in space and time, which the tokens shall have
themselves. So similarities between tokens are like those of a real tower, and thresholds mean the same.
"""

from __future__ import annotations

import argparse
import math
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import model as small
from .painting import MARGIN, Pose, add_noise, background, compressed, paint, put, share
from .questions import VISIBLE
from .script import Knobs, write_script
from .sprites import COLOURS, KINDS, painted

RUNS = Path(__file__).parent / "runs"
TAUGHT_CLIPS, TAUGHT_FRAMES = 160, 8
TEACHER_SIDE = 112
"""Pixels: 8 × 8 patches of the teacher, as many as tokens."""


def patches(frames: Tensor) -> tuple[Tensor, Tensor]:
    """(T, H, W, 3) uint8 frames as ``pixel_values_videos`` and ``video_grid_thw``, as the processor makes them."""
    count, height, width, _ = frames.shape
    p, m = small.PATCH, small.MERGE
    pixels = frames.float().div_(127.5).sub_(1)
    pixels = pixels.view(count, height // (p * m), m, p, width // (p * m), m, p, 3).permute(0, 1, 4, 2, 5, 7, 3, 6)
    return pixels.reshape(-1, 3 * p * p), torch.tensor([[count, height // p, width // p]])


def encode(model: Any, frames: Tensor) -> Tensor:
    """(T, h, w, d) tokens of (T, H, W, 3) uint8 frames, as they reach the language model."""
    pixels, grid = patches(frames)
    tokens: Tensor = model.model.visual(pixels, grid_thw=grid).pooler_output
    return tokens.view(len(frames), frames.shape[1] // 16, frames.shape[2] // 16, -1)


def teach(folder: str, path: Path) -> tuple[Tensor, Tensor]:
    """Frames (C, T, H, W, 3) uint8 and the teacher's features (C, T, 64, d) float16; kept in ``path``."""
    from transformers import AutoImageProcessor, AutoModel

    if path.exists():
        found: tuple[Tensor, Tensor] = torch.load(path)
        return found
    teacher = AutoModel.from_pretrained(folder, dtype=small.fast_dtype()).eval()
    settings = AutoImageProcessor.from_pretrained(folder)
    mean, std = (torch.tensor(value).view(3, 1, 1) * 255 for value in (settings.image_mean, settings.image_std))
    shown, taught = [], []
    for number in range(TAUGHT_CLIPS):
        clip = paint(write_script(f"tower distil {number}", Knobs(frames=TAUGHT_FRAMES)))
        frames = torch.from_numpy(clip.frames)
        pixels = F.interpolate(
            frames.permute(0, 3, 1, 2).float(), (TEACHER_SIDE, TEACHER_SIDE), mode="bilinear", antialias=True
        )
        with torch.no_grad():
            taught.append(teacher(((pixels - mean) / std).to(teacher.dtype)).last_hidden_state[:, 1:].half())
        shown.append(frames)
    found = torch.stack(shown), torch.stack(taught)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(found, path)
    return found


def cosines(tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Between neighbours in space, and in time, of (C, T, h, w, d) tokens; flat."""
    unit = F.normalize(tokens.float(), dim=-1)
    right = (unit[:, :, :, 1:] * unit[:, :, :, :-1]).sum(-1).flatten()
    down = (unit[:, :, 1:] * unit[:, :, :-1]).sum(-1).flatten()
    later = (unit[:, 1:] * unit[:, :-1]).sum(-1).flatten()
    return torch.cat([right, down]), later


class Heads(nn.Module):
    """What the tower's tokens are asked while it is trained: its rows are how words begin, see ``train``."""

    def __init__(self, width: int, teacher: int) -> None:
        super().__init__()
        self.kind = nn.Linear(width, len(KINDS) + 1)
        self.colour = nn.Linear(width, len(COLOURS) + 1)
        self.flash = nn.Linear(width, 2)
        self.place = nn.Linear(width, 9)
        self.look = nn.Linear(width, 48)
        self.teacher = nn.Linear(width, teacher)


def batch(number: int, *, backgrounds: int = 6, each: int = 8, side: int = 96) -> tuple[Tensor, dict[str, Tensor]]:
    """Training frames (N, H, W, 3), full of objects, and of each token what covers most of it."""
    frames, told = [], []
    for which in range(backgrounds):
        chance = random.Random(f"stgraph tower {number} {which}")
        knobs = Knobs(side=side, frames=8, noise=chance.choice((4, 10, 10, 20)), compression=chance.choice((3, 6, 12)))
        picture = background(f"tower {number} {which}", knobs)
        for _ in range(each):
            y, x = chance.randrange(2 * MARGIN), chance.randrange(2 * MARGIN)
            canvas = picture[y : y + side, x : x + side].copy()
            shares = np.zeros((9, side // 16, side // 16), np.int64)
            kinds, colours, shines = [], [], []
            for place in range(9):
                size = chance.randint(10, 30) if chance.random() < 0.3 else chance.randint(18, 30)
                kind, colour = chance.choice(KINDS), chance.choice(list(COLOURS))
                top, left = (side * n // 3 + chance.randint(-8, side // 3 - size + 8) for n in divmod(place, 3))
                opacity = 256 if chance.random() < 0.85 else chance.randint(60, 240)
                pose = Pose(top, left, opacity, 256 * (chance.random() < 0.05))
                sprite = painted(kind, colour, size)
                put(canvas, sprite, pose)
                shares[place] = share(sprite[1], pose, side)
                kinds.append(KINDS.index(kind))
                colours.append(list(COLOURS).index(colour))
                shines.append(pose.shine > 0)
            canvas = canvas * chance.randint(190, 290) >> 8
            owner = torch.from_numpy(np.where(shares.max(0) >= VISIBLE, shares.argmax(0), 9))
            frames.append(canvas)
            told.append(
                [
                    torch.tensor(values)[owner]
                    for values in ([*kinds, len(KINDS)], [*colours, len(COLOURS)], [*shines, False])
                ]
            )
        part = np.stack(frames[-each:]).astype(np.int32)
        add_noise(part, f"tower {number} {which}", knobs.noise)
        frames[-each:] = list(compressed(part, knobs.compression))
    shown = torch.from_numpy(np.stack(frames).clip(0, 255).astype(np.uint8))
    truth = [torch.stack([label[n] for label in told]) for n in range(3)]
    return shown, {"kind": truth[0], "colour": truth[1], "flash": truth[2].long()}


def main(arguments: list[str] | None = None) -> None:
    """Train, and save the model with the trained tower as ``runs/tower.pt``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--teacher", required=True, help="folder of DINOv2, as transformers saves it")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first batch")
    parser.add_argument("--start", type=Path, help="weights to continue from, of an earlier call")
    parser.add_argument("--out", type=Path, default=RUNS / "tower.pt")
    parser.add_argument("--taught", type=Path, default=RUNS / "teacher.pt")
    told = parser.parse_args(arguments)
    torch.set_num_threads(1)
    frames, taught = teach(told.teacher, told.taught)
    clips, steps = frames.shape[:2]
    taught = taught.unflatten(2, (8, 8))
    middle = taught.float().mean((0, 1, 2, 3))
    model = small.build(told.seed)
    if told.start:
        started = torch.load(told.start)
        model.load_state_dict(started["model"])
    torch.manual_seed(told.seed)
    heads = Heads(small.WIDTH, taught.shape[-1])
    if told.start and started["heads"]:
        heads.load_state_dict(started["heads"])
    tower = model.model.visual
    tower.config._attn_implementation = "eager"  # the faster one here
    parameters = [*tower.parameters(), *heads.parameters()]
    groups = [{"params": list(tower.parameters()), "scale": 1.0}, {"params": list(heads.parameters()), "scale": 3.0}]
    optimizer = torch.optim.AdamW(groups, lr=told.rate, weight_decay=0.02, betas=(0.9, 0.98))
    weight = torch.ones(len(KINDS) + 1)
    weight[-1] = 0.1
    colour_weight = torch.ones(len(COLOURS) + 1)
    colour_weight[-1] = 0.1
    begun, number = time.monotonic(), told.first
    seen: dict[str, float] = {}
    while (share := (time.monotonic() - begun) / (60 * told.minutes)) < 1:
        for group in optimizer.param_groups:
            group["lr"] = (
                group["scale"]
                * told.rate
                * min(1, (number - told.first + 1) / 50)
                * (0.02 + 0.98 * (0.5 + 0.5 * math.cos(math.pi * share)))
            )
        shown, truth = batch(number)
        which = [number % clips]
        with small.autocast():
            tokens, beside = encode(model, shown), encode(model, frames[which].flatten(0, 1)).unflatten(0, (1, steps))
            kinds, colours = heads.kind(tokens), heads.colour(tokens)
            shines, look, like = heads.flash(tokens), heads.look(tokens), heads.teacher(beside)
            places = heads.place(tokens)
        third = (torch.arange(tokens.shape[1]) * 2 + 1) * 3 // (2 * tokens.shape[1])
        cells = (3 * third[:, None] + third).expand(len(tokens), -1, -1)
        small_look = F.avg_pool2d(shown.permute(0, 3, 1, 2).float() / 127.5 - 1, 4)
        small_look = small_look.unflatten(2, (-1, 4)).unflatten(4, (-1, 4)).permute(0, 2, 4, 1, 3, 5).flatten(3)
        target = taught[which].float()
        losses = {
            "kind": F.cross_entropy(kinds.float().flatten(0, 2), truth["kind"].flatten(), weight),
            "colour": F.cross_entropy(colours.float().flatten(0, 2), truth["colour"].flatten(), colour_weight),
            "flash": F.cross_entropy(shines.float().flatten(0, 2), truth["flash"].flatten()),
            "place": F.cross_entropy(places.float().flatten(0, 2), cells.flatten()),
            "look": (look.float() - small_look).square().mean(),
            "teacher": 1 - F.cosine_similarity(like.float(), target - middle, dim=-1).mean(),
            "edges": sum((a - b).square().mean() for a, b in zip(cosines(beside), cosines(target), strict=True)),
            # Tokens keep the scale of the words' embeddings.
            "scale": (tokens.float().square().mean(-1) - 1).square().mean(),
        }
        factor = {
            "kind": 1,
            "colour": 0.5,
            "flash": 0.5,
            "place": 0.3,
            "look": 1,
            "teacher": 0.5,
            "edges": 4,
            "scale": 0.1,
        }
        loss = sum(factor[key] * value for key, value in losses.items())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        with torch.no_grad():
            there = truth["kind"] < len(KINDS)
            now = {key: float(value) for key, value in losses.items()}
            now["kind right"] = float((kinds.argmax(-1) == truth["kind"])[there].float().mean())
            now["colour right"] = float((colours.argmax(-1) == truth["colour"])[there].float().mean())
        seen = {key: 0.95 * seen.get(key, value) + 0.05 * value for key, value in now.items()}
        number += 1
        if number % 25 == 0:
            said = " ".join(f"{key} {value:.3f}" for key, value in seen.items())
            print(f"{number} {time.monotonic() - begun:.0f}s {said}", flush=True)
        if number % 100 == 0:
            torch.save({"model": model.state_dict(), "heads": heads.state_dict()}, told.out)
    torch.save({"model": model.state_dict(), "heads": heads.state_dict()}, told.out)


if __name__ == "__main__":
    main()
