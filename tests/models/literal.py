"""Rounds inside a video LLM as slow loops over a full-length run, in which nothing is ever cut out.

Tokens that are dropped are masked from the next layer on, merged ones are averaged where they stand. Written from the
descriptions of FrameFusion and of the release of ST-SimDiff; of the package, only the places of tokens are used.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from stgraph.models.adapter import adapter_of

from ..reference import decimal
from ..selectors.release_reference import cos, fine, first_stage, top
from .zoo import LAYERS, Reference, language_model, masked_run


@dataclass
class Video:
    """One video: the columns of its tokens in its row, their places, and which are still there."""

    row: int
    columns: list[int]
    place: list[tuple[int, ...]]
    separator: list[bool]
    retention: float
    budget: str
    done: bool = False
    alive: list[int] = field(init=False)
    target: dict[int, int] = field(default_factory=dict)
    shares: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.alive = [i for i in range(len(self.columns)) if not self.separator[i]]
        self.count = len(self.alive)

    def allowed(self, number: int) -> int:
        """How many may stay in round ``number``, by the published formula of the shares dropped so far."""
        if self.budget == "tokens":
            return math.ceil(decimal(self.retention) * self.count)
        n = max(number - 1, 0)
        self.shares += [0.0] * (n - len(self.shares))
        left, spent = 1.0, 0.0
        for layer, share in enumerate(self.shares):
            left *= 1 - share
            spent += left if layer < n else 0
        need = 1 - (LAYERS * self.retention - spent) / ((LAYERS - n) * left)
        return min(len(self.alive), max(1, round(len(self.alive) * (1 - need))))

    def drop(self, number: int, gone: list[int]) -> None:
        n = max(number - 1, 0)
        self.shares += [0.0] * (n - len(self.shares))
        share = len(gone) / len(self.alive)
        if len(self.shares) > n:  # two rounds before one layer has seen what is left
            self.shares[n] = 1 - (1 - self.shares[n]) * (1 - share)
        else:
            self.shares.append(share)
        self.alive = [i for i in self.alive if i not in gone]


@dataclass
class FrameFusionVideo(Video):
    """FrameFusion on one video."""

    threshold: float = 0.6
    merging: bool = True
    rounds: list[tuple[str, int]] = field(default_factory=list)

    def visit(self, number: int, last: bool, hidden: Tensor, attention: Tensor | None) -> None:
        """One round: ``hidden`` (S, d) of the row is changed in place."""
        if self.done:
            return
        allowed = self.allowed(number)
        need = len(self.alive) - allowed
        if need <= 0:
            self.done = True
            return
        if self.merging:
            before, like = {}, {}
            for i in self.alive:
                earlier = [j for j in self.alive if self.place[j][1:] == self.place[i][1:] and j < i]
                if earlier:
                    before[i] = earlier[-1]
                    like[i] = fine(cos(hidden[self.columns[i]], hidden[self.columns[earlier[-1]]]))
            flagged = [i for i in like if like[i] >= self.threshold]
            if len(flagged) >= need or not last:
                if len(flagged) >= need:
                    flagged, self.done = top(flagged, like.__getitem__, need), True
                elif len(flagged) / len(self.alive) < 0.1:
                    self.merging = False
                runs: dict[int, list[int]] = {i: [i] for i in self.alive if i not in flagged}
                for i in flagged:
                    head = i
                    while head in flagged:
                        head = before[head]
                    runs[head].append(i)
                    self.target[i] = head
                for head, members in runs.items():
                    if len(members) > 1:
                        mean = sum(hidden[self.columns[i]].double() for i in members) / len(members)
                        hidden[self.columns[head]] = mean.to(hidden.dtype)
                self.drop(number, flagged)
                self.rounds.append(("merge", len(flagged)))
                return
        assert attention is not None
        chosen = top(self.alive, lambda i: float(attention[self.columns[i]]), allowed)
        self.drop(number, [i for i in self.alive if i not in chosen])
        self.done = True
        self.rounds.append(("prune", need))

    def head(self, i: int) -> int:
        """Where a token is in the end, −1 where it is lost."""
        while i in self.target:
            i = self.target[i]
        return i if i in self.alive else -1


@dataclass
class ReleaseVideo(Video):
    """The release of ST-SimDiff on one video: newline tokens are vertices."""

    def __post_init__(self) -> None:
        self.separator = [False] * len(self.columns)
        super().__post_init__()

    def visit(self, number: int, last: bool, hidden: Tensor, attention: Tensor | None) -> None:
        if number == 0:
            kept = first_stage([hidden[c] for c in self.columns], self.place, self.retention).kept
        else:
            assert attention is not None
            kept = top(self.alive, lambda i: float(attention[self.columns[i]]), self.allowed(number))
        self.drop(number, [i for i in self.alive if i not in kept])


@dataclass
class StaircaseVideo(Video):
    """Down to the budget in even steps, by attention."""

    budget: str = "tokens"

    def visit(self, number: int, last: bool, hidden: Tensor, attention: Tensor | None) -> None:
        if attention is not None:
            share = 1 - (1 - self.retention) * number / 3
            count = math.ceil(decimal(share) * self.count)
            kept = top(self.alive, lambda i: float(attention[self.columns[i]]), count)
            self.drop(number, [i for i in self.alive if i not in kept])
        self.done = last


@dataclass
class PyramidDropVideo(Video):
    """Three times the same proportion goes, by attention."""

    budget: str = "tokens"
    published: bool = False

    def visit(self, number: int, last: bool, hidden: Tensor, attention: Tensor | None) -> None:
        if attention is None:
            return
        count = math.ceil(self.count * self.retention ** (number / 3))
        if last:
            count = math.ceil(decimal(self.retention) * self.count)
        if self.published:
            count = math.ceil(self.count / 2**number) if not last else max(1, round(self.count / 8))
        kept = top(self.alive, lambda i: float(attention[self.columns[i]]), max(1, count))
        self.drop(number, [i for i in self.alive if i not in kept])
        self.done = last


@dataclass
class SparseVLMVideo(Video):
    """Text tokens that the video is like rate it, three times; a part of what goes comes back as clusters."""

    budget: str = "tokens"
    published: bool = False
    numbers: tuple[int, int, int] = (300, 200, 110)
    all_columns = True
    text: list[int] = field(default_factory=list)
    raters: list[int] = field(default_factory=list)
    sizes: list[list[int]] = field(default_factory=list)
    lost: set[int] = field(default_factory=set)

    def visit(self, number: int, last: bool, hidden: Tensor, attention: Tensor | None) -> None:
        if attention is None:
            v = torch.stack([hidden[self.columns[i]] for i in self.alive]).double()
            t = torch.stack([hidden[c] for c in self.text]).double() if self.text else v[:0]
            if self.text:
                like = [sum(float(row[j]) for row in (v @ t.T).softmax(1)) / len(v) for j in range(len(t))]
                self.raters = [c for c, x in zip(self.text, like, strict=True) if x > sum(like) / len(like)]
            return
        raters = self.raters or [attention.shape[0] - 1]
        score = {i: sum(float(attention[r][self.columns[i]]) for r in raters) / len(raters) for i in self.alive}
        stage = number - 1
        kept_of_576 = self.numbers[stage]
        least = math.ceil(decimal(self.retention) * self.count)
        power = math.log(kept_of_576 / 576) / math.log(110 / 576)
        budget = least if last else max(least, round(self.count * self.retention**power))
        if self.published:
            budget = max(1, round(self.count * kept_of_576 / 576))
        budget = min(budget, len(self.alive))
        m = len(self.alive) - budget
        pool, clusters = min(int(0.3 * m) + 1, m), 0
        if pool:
            clusters = min(int(pool / 10) + 1, pool)
        best = top(self.alive, score.__getitem__, len(self.alive))
        best.sort(key=lambda i: -score[i])
        stay = budget if self.published else budget - clusters
        if not clusters or stay < 1:
            stay, pool, clusters = budget, 0, 0
        recycled = sorted(best[stay : stay + pool])
        groups = density_peaks({i: hidden[self.columns[i]].double() for i in recycled}, clusters)
        new = {}
        for head, members in groups.items():
            new[head] = sum(hidden[self.columns[i]].double() for i in members) / (len(members) + 1e-6)
            self.target |= {i: head for i in members if i != head}
        for head, row in new.items():
            hidden[self.columns[head]] = row.to(hidden.dtype)
        self.sizes.append(sorted(map(len, groups.values())))
        self.drop(number, [i for i in self.alive if i not in best[:stay] and i not in groups])
        self.done = last

    def head(self, i: int) -> int:
        while i in self.target:
            i = self.target[i]
        return i if i in self.alive else -1


def density_peaks(x: dict[int, Tensor], count: int) -> dict[int, list[int]]:
    """Clusters of rows by density peaks: their centres with their members."""
    if not count:
        return {}
    far = {(i, j): float((x[i] - x[j]).square().sum() / len(x[i])) ** 0.5 for i in x for j in x}
    dense = {i: math.exp(-sum(sorted(far[i, j] ** 2 for j in x)[:count]) / min(count, len(x))) for i in x}
    gap = {i: min((far[i, j] for j in x if dense[j] > dense[i]), default=max(far.values())) for i in x}
    centres = sorted(x, key=lambda i: (-gap[i] * dense[i], i))[:count]
    groups: dict[int, list[int]] = {centre: [centre] for centre in centres}
    for i in x:
        if i not in groups:
            groups[min(centres, key=lambda c: far[i, c])].append(i)
    return groups


@dataclass
class SequenceVideo(Video):
    """What ``entry`` keeps enters; then the most attended stay."""

    budget: str = "tokens"
    entry: Any = None

    def visit(self, number: int, last: bool, hidden: Tensor, attention: Tensor | None) -> None:
        if attention is None:
            rows = torch.stack([hidden[self.columns[i]] for i in self.alive])
            kept, rows, self.target = self.entry(self, rows)
            for i, row in zip(kept, rows, strict=True):
                hidden[self.columns[i]] = row
        else:
            count = math.ceil(decimal(self.retention) * self.count)
            kept = top(self.alive, lambda i: float(attention[self.columns[i]]), count)
            self.done = True
        self.drop(number, [i for i in self.alive if i not in kept])

    def head(self, i: int) -> int:
        i = self.target.get(i, i)
        return i if i in self.alive else -1


class LiteralRun:
    """The videos of a call, visited round by round."""

    def __init__(self, model: Any, inputs: dict[str, Tensor], kind: type[Video], rounds: list[int], **options: Any):
        adapter = adapter_of(model)
        layouts = adapter.layouts(model, inputs)
        rows, columns = adapter.placeholders(model, inputs).nonzero(as_tuple=True)
        self.videos: list[Any] = []
        start = 0
        for layout in layouts:
            part = slice(start, start := start + layout.size)
            tokens = layout.tokens(torch.zeros(layout.size, 1))
            places = [tuple(p) for p in tokens.coords.tolist()]
            height, width = tokens.grids[0][1:]
            # To FrameFusion the newline tokens of rows are a column like any other.
            patch = [kind is FrameFusionVideo and y in range(height) and x == width for _, y, x in places]
            outside = [s and not p for s, p in zip(tokens.separator.tolist(), patch, strict=True)]
            video = kind(int(rows[start - 1]), columns[part].tolist(), places, outside, **options)
            if isinstance(video, SparseVLMVideo):
                placeholder = adapter.placeholders(model, inputs)[video.row]
                video.text = [c for c in range(video.columns[-1] + 1, len(placeholder)) if not placeholder[c]]
            self.videos.append(video)
        self.model, self.inputs = model, inputs
        self.rounds = rounds
        self.gone = torch.zeros_like(inputs["input_ids"], dtype=torch.bool)
        self.per_layer: list[list[int]] = []

    def visit(self, number: int, hidden: Tensor, attention: Tensor | None) -> None:
        if number in self.rounds:
            for video in self.videos:
                seen = None if attention is None else attention[video.row]
                if seen is not None and not getattr(video, "all_columns", False):
                    seen = seen[-1]  # the last prompt token's
                video.visit(number, number == self.rounds[-1], hidden[video.row], seen)

    def hide(self, separators: bool) -> None:
        """Mask what has been dropped from here on."""
        for video in self.videos:
            for i, column in enumerate(video.columns):
                if i not in video.alive and (separators or not video.separator[i]):
                    self.gone[video.row, column] = True

    @contextmanager
    def at_work(self, separators: Tensor) -> Iterator[None]:
        """``separators`` (B, S) are hidden once all videos are done."""
        layers = language_model(self.model).layers
        prompt = self.gone.shape[1]

        def forward(index: int) -> Any:
            layer = layers[index]

            def run(hidden_states: Tensor, attention_mask: Tensor, **kwargs: Any) -> Tensor:
                hidden = hidden_states.clone()
                if index == 0:
                    self.visit(0, hidden, None)
                self.hide(separators=False)
                if all(video.done for video in self.videos):
                    self.gone |= separators
                self.per_layer.append([len(video.alive) for video in self.videos])
                gone = torch.nn.functional.pad(self.gone, (0, hidden.shape[1] - prompt))[:, None, None]
                mask = attention_mask.masked_fill(gone, torch.finfo(torch.float32).min)
                out, weights = layer.self_attn(
                    hidden_states=layer.input_layernorm(hidden), attention_mask=mask, **kwargs
                )
                hidden = hidden + getattr(layer, "post_self_attn_layernorm", torch.nn.Identity())(out)
                if index + 1 < LAYERS:
                    self.visit(index + 1, hidden, weights[:, :, :prompt].mean(1))
                out = layer.mlp(layer.post_attention_layernorm(hidden))
                out = out[0] if isinstance(out, tuple) else out
                return hidden + getattr(layer, "post_mlp_layernorm", torch.nn.Identity())(out)

            return run

        for index, layer in enumerate(layers):
            layer.forward = forward(index)
        try:
            yield
        finally:
            for layer in layers:
                del layer.forward

    def __call__(self, sequences: Tensor, separators: Tensor, **options: Any) -> Reference:
        """Run the whole of ``sequences`` with nothing but the literal rounds."""
        with self.at_work(separators):
            return masked_run(self.model, self.inputs, sequences, [torch.zeros_like(self.gone)] * LAYERS, **options)
