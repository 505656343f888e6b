"""What an attachment remembers: of a batch of prompts, of a forward pass, and of one call of ``generate``."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .adapter import VideoLayout
from .cut import Cut
from .rounds import Merge, Pruning, Stage
from .tower import AttentionInput


class Place(NamedTuple):
    """One video in the prompt: its row, and the columns of its N tokens."""

    row: int
    columns: Tensor
    layout: VideoLayout


@dataclass(eq=False)
class Plan:
    """What is cut out of one batch of prompts, for as long as they are continued.

    ``ids`` (B, S) are those of the prompts in the rows of the model: each prompt is there ``copies`` times, for its
    beams; ``places`` are in the first.
    ``merge`` and then ``cut`` are made before the language model, ``merges`` and ``stages``, by layer, in the columns
    that ``cut`` left, inside it; ``pruning`` is the method, for as long as it has rounds to come; ``notes`` say how the
    videos were found.
    """

    places: list[Place]
    ids: Tensor
    copies: int
    cut: Cut | None = None
    merge: Merge | None = None
    stages: list[Stage] = field(default_factory=list)
    merges: dict[int, Merge] = field(default_factory=dict)
    pruning: Pruning | None = None
    notes: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """Sequences."""
        return self.ids.shape[0]

    @property
    def length(self) -> int:
        """Columns of the prompts."""
        return self.ids.shape[1]

    def text(self) -> list[tuple[int, Tensor]]:
        """Row of each video, and the columns behind it there that hold no token of a video."""
        free = torch.ones(self.ids.shape, dtype=torch.bool)
        for place in self.places:
            free[place.row, place.columns.cpu()] = False
        found = []
        for place in self.places:
            last = int(place.columns[-1]) + 1
            found.append((place.row, free[place.row, last:].nonzero()[:, 0] + last))
        return found

    def begins(self, ids: Tensor | None) -> bool:
        """Whether these sequences continue from the prompts."""
        return ids is not None and torch.equal(ids[:, : self.length], self.ids)

    def stage(self, layer: int) -> Stage | None:
        """What stays in a layer; None where all that entered the language model does."""
        return next((stage for stage in reversed(self.stages) if stage.layer <= layer), None)

    @property
    def width(self) -> int:
        """Columns that are left of the prompt."""
        cut = self.stages[-1].total if self.stages else self.cut
        return self.length if cut is None else cut.width

    def repeated(self, copies: int) -> Plan:
        """The plan of a cache that holds ``copies`` of each row, to continue from."""
        return Plan(
            self.places,
            self.ids.repeat_interleave(copies, 0),
            self.copies,
            None if self.cut is None else self.cut.repeated(copies),
            stages=[Stage(s.layer, s.step.repeated(copies), s.total.repeated(copies)) for s in self.stages],
        )

    def cached(self, cache: Any) -> int:
        """Columns that a cache stands for, dropped ones included."""
        seen = int(cache.get_seq_length())
        return seen if self.cut is None else seen + self.length - self.cut.width


@dataclass(eq=False)
class Call:
    """One forward pass.

    Attributes:
        plan: what it leaves out; None where it has no video.
        fresh: the plan is yet to be made.
        whole: it starts with the prompt, which is to be cut; otherwise the prompt is in the cache.
        mask: (B, columns of the first layers) attention mask.
        query: of all columns of the prompt, in the layer behind whose attention a round is due.
        keys: of all columns of the prompt there.
        rotation: cosines and sines of the positions there.
        stage_mask: what the layers of the stage at work get as their mask.
    """

    plan: Plan | None
    fresh: bool = False
    whole: bool = True
    mask: Tensor = field(init=False)
    query: Tensor = field(init=False)
    keys: Tensor = field(init=False)
    rotation: tuple[Tensor, Tensor] = field(init=False)
    stage_mask: Tensor | None = None

    @property
    def due(self) -> int | None:
        """The round to come in this pass."""
        pruning = self.plan.pruning if self.fresh and self.plan is not None else None
        return None if pruning is None else pruning.due


@dataclass(eq=False)
class Run:
    """One ``generate``.

    Attributes:
        places: the videos that it was given.
        rows: of its input, before it multiplies them for beams.
        length: columns of its input; its first forward pass may hold guessed tokens behind them.
        new: columns that its first forward pass adds to a pruned cache; None where it has none.
        plan: that it follows.
        notes: how the videos were found.
        guided: there may be forward passes over prompts of their own, such as the negative one of guidance.
    """

    places: list[Place]
    rows: int
    length: int
    new: int | None = None
    plan: Plan | None = None
    guided: bool = False
    notes: tuple[str, ...] = ()


class Here(threading.local):
    """What the current thread is in the middle of."""

    run: Run | None = None
    call: Call | None = None
    tower: AttentionInput | None = None
    found: Any = None
