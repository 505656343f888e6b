"""What the peers share: each sees one video at a time, as its visual tokens in raster order.

A method returns a :class:`Choice`; that each video is selected alone makes a batch equal to its videos by construction.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from .. import kernels
from ..budget import ceil_share
from ..errors import StgraphError, check_choice
from ..kernels import norms
from ..signals import Question, Signals
from ..tokens import VideoTokens, check_finite
from .base import Ranking, Selector
from .parts import feature_attention, shares, unit_rows
from .selection import Blend
from .similarity import pair_cosines

AttentionSource = Literal["encoder_attention", "llm_attention", "features"]
"""Where a method's attention comes from; ``"features"`` is :func:`feature_attention`, a substitute without a model."""

CountRule = Literal["exact", "published"]
"""How many tokens stay: exactly ⌈r·n⌉, or as many as the authors' code keeps."""

KeySource = Literal["encoder_keys", "features"]
"""Where a method's keys come from; ``"features"`` takes the tokens' own features instead."""

ATTENTION_SOURCES = ("encoder_attention", "llm_attention", "features")
KEY_SOURCES = ("encoder_keys", "features")
COUNT_RULES = ("exact", "published")


@dataclass(frozen=True, eq=False)
class Clip:
    """The n visual tokens of one video, in raster order.

    Attributes:
        features: (n, d) in the dtype of the tokens.
        norm: (n,) float64 length of each.
        coords: (n, 3) int64 (frame, row, column).
        signals: of these tokens.
        retention: r.
        method: name of the method, for messages.
        question: the text behind the video, where it is known.
    """

    features: Tensor
    norm: Tensor
    coords: Tensor
    signals: Signals
    retention: float
    method: str
    question: Question | None = None

    def __len__(self) -> int:
        return len(self.coords)

    @property
    def budget(self) -> int:
        """⌈r·n⌉, the tokens to keep."""
        return ceil_share(self.retention, len(self))

    @cached_property
    def frames(self) -> list[slice]:
        """Rows of every frame that has tokens."""
        ends = torch.cumsum(self.coords[:, 0].unique_consecutive(return_counts=True)[1], 0).tolist()
        return [slice(start, stop) for start, stop in zip([0, *ends], ends, strict=False)]

    @property
    def sizes(self) -> list[int]:
        """Tokens of every frame that has any."""
        return [frame.stop - frame.start for frame in self.frames]

    @cached_property
    def unit(self) -> Tensor:
        """(n, d) float32 unit vectors; zero vectors stay zero."""
        return unit_rows(self.features, self.norm)

    def attention(self, source: AttentionSource) -> Tensor:
        """(n,) float64 attention that each token receives."""
        if source == "features":
            return torch.cat([feature_attention(self.unit[frame]) for frame in self.frames]).double()
        return self._signal(source, "signal").double()

    def frame_means(self) -> Tensor:
        """(T, d) float64 mean of the features of every frame that has tokens."""
        return torch.stack([self.features[frame].double().mean(0) for frame in self.frames])

    def frame_counts(self, exact: bool) -> list[int]:
        """Tokens that each frame keeps where all keep the same share: exactly ⌈r·n⌉ in all, or ⌈r·n⌉ of each frame."""
        if exact:
            return shares(self.retention, self.sizes)
        return [ceil_share(self.retention, size) for size in self.sizes]

    def by_position(self) -> Tensor:
        """(T, P) int64 the token of every frame that has tokens at each position that any has, −1 where it has none."""
        _, position = self.place().unique(return_inverse=True)
        table = torch.full((len(self.frames), int(position.max()) + 1), -1, dtype=torch.int64, device=position.device)
        for number, frame in enumerate(self.frames):
            table[number, position[frame]] = torch.arange(frame.start, frame.stop, device=position.device)
        return table

    def likeness(self, table: Tensor, before: int, now: int) -> Tensor:
        """(n,) float64 cosine of each token of one frame with the same position of another, −2 where it has none.

        Args:
            table: see :meth:`by_position`.
            before: number of the other frame.
            now: number of the frame.
        """
        here = table[now][table[now] >= 0]
        there = table[before][table[now] >= 0]
        cosine = torch.full((len(here),), -2.0, dtype=torch.float64, device=here.device)
        both = there >= 0
        cosine[both] = pair_cosines(self.features[here[both]], self.features[there[both]])
        return cosine

    def stillness(self, table: Tensor) -> Tensor:
        """(T − 1, P) float64 cosine of each position with that of the next frame, −2 where one of them has no token."""
        still = torch.full((len(table) - 1, table.shape[1]), -2.0, dtype=torch.float64, device=table.device)
        for number in range(1, len(table)):
            there = table[number] >= 0
            still[number - 1, there] = self.likeness(table, number - 1, number)
        return still

    def place(self) -> Tensor:
        """(n,) int64 position of each token in its frame, the same number for the same row and column."""
        return self.coords[:, 1] * (int(self.coords[:, 2].max()) + 1) + self.coords[:, 2]

    def keys(self, source: KeySource) -> Tensor:
        """(n, d_k) keys, in their own length."""
        return self.features if source == "features" else self._signal(source, "keys")

    def _signal(self, source: str, parameter: str) -> Tensor:
        try:
            return self.signals.require(source, self.method)
        except StgraphError as error:
            raise StgraphError(
                f"{error}; selector.{parameter}=features asks for a substitute from the features alone"
            ) from None


class Choice(NamedTuple):
    """What a method says of the n tokens of one video.

    Attributes:
        score: (n,) float, larger is kept first.
        chosen: (n,) bool, the tokens to keep; None where they are the first by score.
        target: (n,) int64, the kept token that a dropped one is merged into, −1 for all others; None without merging.
        weight: (n,) float32 factors of the merge, see :class:`Selection`; None without merging.
        blend: what kept tokens become, in the place of ``target`` and ``weight``, see :class:`Blend`.
        note: a sentence for the user, or nothing.
    """

    score: Tensor
    chosen: Tensor | None = None
    target: Tensor | None = None
    weight: Tensor | None = None
    blend: Blend | None = None
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class VideoSelector(Selector):
    """A method that selects from one video at a time; subclasses implement :meth:`choose`.

    Attributes:
        count: ``"exact"``: ⌈r·N⌉ tokens of each video stay. ``"published"``: as many as the authors' code keeps at
            this retention, or by its thresholds where it knows no retention.
    """

    count: CountRule = "exact"

    merging: ClassVar[bool] = False
    """Whether the method merges tokens."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("count", self.count, COUNT_RULES)

    @property
    def exact(self) -> bool:
        """Whether exactly the budget is to be kept."""
        return self.count == "exact"

    @abstractmethod
    def choose(self, clip: Clip) -> Choice:
        """Choose from a video that has at least one visual token.

        Where the count is exact, what is chosen beyond the budget loses those of the lowest score, and what is missing
        comes from those of the highest; their rows stay as they were chosen.
        """

    def rank(self, tokens: VideoTokens, signals: Signals) -> Ranking:
        """The choices of all videos, joined."""
        start = time.perf_counter()
        n, device = len(tokens), tokens.device
        score = torch.zeros(n, dtype=torch.float64, device=device)
        chosen = torch.zeros(n, dtype=torch.bool, device=device)
        budgets = [0] * tokens.num_videos
        blends: list[Blend] = []
        notes: list[str] = []
        for video, rows, clip in self._clips(tokens, signals):
            if self.exact and clip.budget == len(clip):
                choice = Choice(torch.zeros(len(clip), dtype=torch.float64, device=device))
            else:
                choice = self.choose(clip)
            score[rows] = choice.score.double()
            tier = torch.zeros(len(clip), dtype=torch.uint8, device=device)
            if choice.chosen is not None:
                tier += choice.chosen.to(torch.uint8)
            budgets[video] = clip.budget if self.exact or choice.chosen is None else int(choice.chosen.sum())
            keep, _ = kernels.first_of(score[rows], tier, budgets[video])
            chosen[rows] = keep
            if choice.blend is not None:
                stays = keep[choice.blend.into]
                into, source, weight = (part[stays] for part in choice.blend)
                blends.append(Blend(rows[into], rows[source], weight))
            if choice.note:
                notes.append(choice.note if tokens.num_videos == 1 else f"video {video}: {choice.note}")
        ranking = Ranking(
            importance=score,
            protected=chosen,
            seconds={"ranking": time.perf_counter() - start},
            notes=tuple(notes),
            budget=None if self.exact else budgets,
        )
        if not self.merging:
            return ranking
        return replace(ranking, **_merged(Blend.cat([Blend.empty(device), *blends]).changes(), chosen))

    def _clips(self, tokens: VideoTokens, signals: Signals) -> Iterator[tuple[int, Tensor, Clip]]:
        """Number, rows and visual tokens of every video that has some."""
        from . import SELECTORS

        method = f"selector {SELECTORS.name_of(self)!r}"
        features = tokens.features.detach()
        visual = self.visual(tokens)
        places = visual.nonzero()[:, 0]
        norm = norms(features, places)
        check_finite(norm, tokens.coords[places], tokens.batch[places])
        for video in range(tokens.num_videos):
            inside = tokens.batch[places] == video
            rows = places[inside]
            if not len(rows):
                continue
            begin, end = int(rows[0]), int(rows[-1]) + 1
            x = features[begin:end] if end - begin == len(rows) else features[rows]  # a view where that is possible
            question = None if signals.question is None else signals.question[video]
            own = Clip(x, norm[inside], tokens.coords[rows], signals.take(rows), self.retention, method, question)
            yield video, rows, own


def _merged(blend: Blend, keep: Tensor) -> dict[str, Any]:
    """The fields of a :class:`Ranking` that say who went into whom."""
    target, weight = blend.main_targets(keep)
    sources = blend.source
    once = len(sources.unique()) == len(sources) and bool((~keep[sources] | (blend.into == sources)).all())
    return {"merge_target": target, "merge_weight": weight, "blend": None if once else blend}


@dataclass(frozen=True, kw_only=True)
class AttentionSelector(VideoSelector):
    """A method that reads which tokens the vision encoder attends to.

    Attributes:
        signal: whose attention: the encoder's as published, the LLM's, or the substitute ``"features"``.
    """

    signal: AttentionSource = "encoder_attention"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("signal", self.signal, ATTENTION_SOURCES)


@dataclass(frozen=True, kw_only=True)
class EncoderSelector(AttentionSelector):
    """A method that also reads by which keys the encoder compares tokens.

    Attributes:
        keys: the encoder's keys as published, or ``"features"``. None takes the features where ``signal="features"``
            asks for that substitute, otherwise the keys.
    """

    keys: KeySource | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.keys is not None:
            check_choice("keys", self.keys, KEY_SOURCES)

    def read(self, clip: Clip) -> tuple[Tensor, Tensor]:
        """(n,) float64 attention and (n, d_k) float32 unit keys."""
        source = self.keys or ("features" if self.signal == "features" else "encoder_keys")
        return clip.attention(self.signal), unit_rows(clip.keys(source))


# -- matches in time --------------------------------------------------------------------------------------------------


def predecessors(clip: Clip, *, adjacent: bool) -> tuple[Tensor, Tensor]:
    """The token before each at the same position.

    Args:
        clip: the video.
        adjacent: it must be in the frame just before; otherwise it may be any number of frames ago.

    Returns:
        (n,) int64 that token, −1 where there is none, and (n,) float64 its cosine, −2 where there is none.
    """
    place, frame = clip.place(), clip.coords[:, 0]
    order = torch.sort(place, stable=True).indices
    same = place[order[1:]] == place[order[:-1]]
    if adjacent:
        same &= frame[order[1:]] == frame[order[:-1]] + 1
    match = torch.full_like(place, -1)
    match[order[1:][same]] = order[:-1][same]
    cosine = torch.full((len(clip),), -2.0, dtype=torch.float64, device=place.device)
    for rows in clip.frames:
        own = (match[rows] >= 0).nonzero()[:, 0] + rows.start
        cosine[own] = pair_cosines(clip.features[own], clip.features[match[own]])
    return match, cosine
