"""A small evaluator for tests: random tokens, and questions that are answered right where their tokens are kept."""

from __future__ import annotations

import os
import signal
import time
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from experiments.sweep.evaluator import clip_name
from stgraph import Selection, Selector, VideoTokens
from stgraph.errors import StgraphError
from stgraph.signals import Signals

KINDS = ("where", "when", "order")
FRAMES, SIDE, QUESTIONS = 6, 4, 6


class Answers(NamedTuple):
    kinds: tuple[str, ...]
    correct: tuple[bool, ...]
    probability: tuple[float, ...]
    selection: Selection | None
    seconds: dict[str, float]
    flops: float


class Clip:
    """Random tokens, of which each question needs one."""

    def __init__(self, name: str, sleep: float) -> None:
        self.name, self._sleep = name, sleep
        seed = zlib.crc32(name.encode())
        generator = torch.Generator().manual_seed(seed)
        self.tokens = VideoTokens.from_grid(torch.randn(FRAMES, SIDE, SIDE, 8, generator=generator))
        self.signals = Signals()
        self.needed = torch.randperm(len(self.tokens), generator=generator)[:QUESTIONS]
        mask = torch.zeros(len(self.tokens), dtype=torch.bool)
        mask[self.needed] = True
        self.events: Mapping[str, Tensor] = {"needed": mask}

    def answer(self, selector: Selector | None, *, trim: Any = None, layer: int | None = None) -> Answers:
        time.sleep(self._sleep)
        kinds = tuple(KINDS[number % len(KINDS)] for number in range(QUESTIONS))
        selection = None if selector is None else selector(self.tokens, self.signals)
        kept = torch.ones(len(self.tokens), dtype=torch.bool)
        if selection is not None:
            kept = torch.zeros_like(kept)
            kept[selection.indices] = True
        correct = tuple(kept[self.needed].tolist())
        return Answers(
            kinds, correct, tuple(0.9 if right else 0.1 for right in correct), selection, {"prefill": 0.001}, 2e9
        )


class Evaluator:
    """``model`` is a folder; files in it change how it behaves: ``sleep`` (seconds a cell), ``bad`` (a clip that cannot
    be opened), ``fatal`` (a clip that kills its worker, as often as the file has letters).
    """

    def __init__(self, model: str) -> None:
        self._folder = Path(model)
        if not self._folder.is_dir():
            raise StgraphError(f"there is no model {model}")
        self.identity = {"model": self._folder.name, "benchmark": "stand-in 1"}

    def clips(self, split: str, count: int | None = None, **knobs: Any) -> list[str]:
        return [clip_name(split, number, knobs) for number in range(30 if count is None else count)]

    def open(self, clip: str) -> Clip:
        if self._says("bad") == clip:
            raise StgraphError(f"clip {clip} cannot be rendered")
        deaths = self._folder / "fatal"
        if self._says("fatal").startswith(f"{clip} "):
            left = self._says("fatal")[:-1]
            deaths.write_text(left if left != f"{clip} " else "")
            os.kill(os.getpid(), signal.SIGKILL)
        return Clip(clip, float(self._says("sleep") or 0))

    def _says(self, name: str) -> str:
        path = self._folder / name
        return path.read_text() if path.exists() else ""


def load(model: str) -> Evaluator:
    return Evaluator(model)
