"""What the peers share: each sees one video at a time, as its visual tokens in raster order.

A method returns a :class:`Choice`; that each video is selected alone makes a batch equal to its videos by construction.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ..budget import ceil_share
from ..errors import StgraphError, check_choice
from ..kernels import TIE_TOLERANCE, edge_cosine, norms, snap
from ..signals import Signals
from ..tokens import VideoTokens, check_finite
from .base import Ranking, Selector

AttentionSource = Literal["encoder_attention", "llm_attention", "features"]
"""Where a method's attention comes from; ``"features"`` is :func:`feature_attention`, a substitute without a model."""

KeySource = Literal["encoder_keys", "features"]
"""Where a method's keys come from; ``"features"`` takes the tokens' own features instead."""

ATTENTION_SOURCES = ("encoder_attention", "llm_attention", "features")
KEY_SOURCES = ("encoder_keys", "features")

TEMPERATURE = 0.1
"""Of the softmax in :func:`feature_attention`."""


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
    """

    features: Tensor
    norm: Tensor
    coords: Tensor
    signals: Signals
    retention: float
    method: str

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
        chosen: (n,) bool, exactly the tokens to keep; None where they are the first by score.
        target: (n,) int64, the kept token that a dropped one is merged into, −1 for all others; None without merging.
        weight: (n,) float32 factors of the merge, see :class:`Selection`; None without merging.
        note: a sentence for the user, or nothing.
    """

    score: Tensor
    chosen: Tensor | None = None
    target: Tensor | None = None
    weight: Tensor | None = None
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class VideoSelector(Selector):
    """A method that selects from one video at a time; subclasses implement :meth:`choose`."""

    @abstractmethod
    def choose(self, clip: Clip) -> Choice:
        """Choose from a video that has at least one visual token."""

    def rank(self, tokens: VideoTokens, signals: Signals) -> Ranking:
        """The choices of all videos, joined."""
        start = time.perf_counter()
        n, device = len(tokens), tokens.device
        score = torch.zeros(n, dtype=torch.float64, device=device)
        chosen = torch.zeros(n, dtype=torch.bool, device=device)
        target = torch.full((n,), -1, dtype=torch.int64, device=device)
        weight = torch.zeros(n, dtype=torch.float32, device=device)
        merges, notes = False, []
        for video, rows, clip in self._clips(tokens, signals):
            choice = self.choose(clip)
            score[rows] = choice.score.double()
            keep = first(choice.score, clip.budget) if choice.chosen is None else choice.chosen
            chosen[rows] = keep
            weight[rows] = keep.float() if choice.weight is None else choice.weight
            if choice.target is not None:
                merges = True
                target[rows] = torch.where(choice.target >= 0, rows[choice.target.clamp(min=0)], -1)
            if choice.note:
                notes.append(choice.note if tokens.num_videos == 1 else f"video {video}: {choice.note}")
        return Ranking(
            importance=score,
            protected=chosen,
            seconds={"ranking": time.perf_counter() - start},
            notes=tuple(notes),
            merge_target=target if merges else None,
            merge_weight=weight if merges else None,
        )

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
            yield video, rows, Clip(x, norm[inside], tokens.coords[rows], signals.take(rows), self.retention, method)


@dataclass(frozen=True, kw_only=True)
class EncoderSelector(VideoSelector):
    """A method that reads the vision encoder: which tokens it attends to, and by which keys they are compared.

    Attributes:
        signal: whose attention: the encoder's as published, the LLM's, or the substitute ``"features"``.
        keys: the encoder's keys as published, or ``"features"``. None takes the features where ``signal="features"``
            asks for that substitute, otherwise the keys.
    """

    signal: AttentionSource = "encoder_attention"
    keys: KeySource | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("signal", self.signal, ATTENTION_SOURCES)
        if self.keys is not None:
            check_choice("keys", self.keys, KEY_SOURCES)

    def read(self, clip: Clip) -> tuple[Tensor, Tensor]:
        """(n,) float64 attention and (n, d_k) float32 unit keys."""
        source = self.keys or ("features" if self.signal == "features" else "encoder_keys")
        return clip.attention(self.signal), unit_rows(clip.keys(source))


# -- vectors ----------------------------------------------------------------------------------------------------------


def unit_rows(x: Tensor, length: Tensor | None = None) -> Tensor:
    """(n, d) float32 unit vectors of the rows of any magnitude, whose lengths may be known; zero rows stay zero."""
    length = norms(x, torch.arange(len(x), device=x.device)) if length is None else length
    scale = torch.where(length > 0, 1 / length, 0.0)
    unit = x.float() * scale.float()[:, None]
    extreme = (scale > 0) & ((scale < 1e-12) | (scale > 1e12))
    if bool(extreme.any()):
        unit[extreme] = (x[extreme].double() * scale[extreme, None]).float()
    return unit


def on_grid(threshold: float) -> float:
    """A threshold rounded as :func:`~stgraph.kernels.snap` rounds cosines, so that "equal" means equal."""
    return round(threshold / TIE_TOLERANCE) * TIE_TOLERANCE


def feature_attention(unit: Tensor) -> Tensor:
    """Mean attention that each token of a frame would receive, were the unit features its queries and keys.

    A substitute for encoder attention where no model is at hand; the softmax has temperature 0.1.

    Args:
        unit: (n, d) float32 unit vectors of one frame.

    Returns:
        (n,) float64, rounded so that equal tokens receive equal attention; sums to 1 up to that.
    """
    return snap((unit @ unit.T / TEMPERATURE).softmax(1).mean(0), 2.0**-24)


# -- budgets ----------------------------------------------------------------------------------------------------------


def shares(retention: float, counts: Sequence[int]) -> list[int]:
    """Split ⌈r·Σn⌉ evenly: part k gets ⌈r·(n_1 + … + n_k)⌉ less what came before, so ⌊r·n_k⌋ or ⌈r·n_k⌉."""
    given, seen, split = 0, 0, []
    for count in counts:
        seen += count
        split.append(ceil_share(retention, seen) - given)
        given += split[-1]
    return split


def first(score: Tensor, count: int) -> Tensor:
    """(n,) bool, the ``count`` largest scores, ties to the smaller index."""
    chosen = torch.zeros(len(score), dtype=torch.bool, device=score.device)
    chosen[torch.sort(score, stable=True, descending=True).indices[:count]] = True
    return chosen


# -- merging ----------------------------------------------------------------------------------------------------------


def mean_weights(chosen: Tensor, target: Tensor) -> Tensor:
    """(n,) float32 weights by which every kept token becomes the mean of itself and of what is merged into it."""
    index = torch.arange(len(chosen), device=chosen.device)
    head = torch.where(chosen, index, target)
    inside = head >= 0
    size = torch.bincount(head[inside], minlength=len(chosen))
    return torch.where(inside, 1 / size[head.clamp(min=0)].clamp(min=1), 0.0)


# -- matches in time --------------------------------------------------------------------------------------------------


def previous_matches(clip: Clip, radius: int | None) -> tuple[Tensor, Tensor]:
    """The most similar token of the previous frame for every token, ties to the smaller index.

    Args:
        clip: the video.
        radius: largest distance in rows and in columns; 0 looks at the same position, None at the whole frame.

    Returns:
        (n,) int64 that token, −1 where there is none, and (n,) float64 its cosine in steps of
        :data:`~stgraph.kernels.TIE_TOLERANCE`, −2 where there is none.
    """
    match = torch.full((len(clip),), -1, dtype=torch.int64, device=clip.coords.device)
    cosine = torch.full((len(clip),), -2.0, dtype=torch.float64, device=clip.coords.device)
    if radius == 0:  # one dot product for each token, and no unit vectors in memory
        later = torch.arange(len(clip), device=match.device)
        _, height, width = (clip.coords.amax(0) + 1).tolist()
        key = (clip.coords[:, 0] * height + clip.coords[:, 1]) * width + clip.coords[:, 2]
        place = torch.searchsorted(key, key - height * width)
        there = key[place] == key - height * width
        match[there] = place[there]
        edges = torch.stack([match[there], later[there]])
        cosine[there] = snap(edge_cosine(clip.features, clip.norm, later, edges)).clamp_(-1, 1)
        return match, cosine
    for before, now in zip(clip.frames, clip.frames[1:], strict=False):
        if int(clip.coords[now.start, 0]) != int(clip.coords[before.start, 0]) + 1:
            continue
        there, here = clip.coords[before, 1:], clip.coords[now, 1:]
        similarity = snap(clip.unit[now] @ clip.unit[before].T).clamp_(-1, 1)
        if radius is not None:
            similarity.masked_fill_((here[:, None] - there).abs().amax(-1) > radius, -2.0)
        best, place = similarity.max(1)
        cosine[now] = best
        match[now] = torch.where(best > -2, place + before.start, -1)
    return match, cosine


def roots(parent: Tensor) -> Tensor:
    """(n,) int64 root of every token of a forest; ``parent`` is −1 at roots and points to smaller indices."""
    index = torch.arange(len(parent), device=parent.device)
    root = torch.where(parent >= 0, parent, index)
    while not torch.equal(above := root[root], root):
        root = above
    return root
