"""DART: drop what repeats a few pivots."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import check_choice, check_number
from .parts import first
from .per_video import KEY_SOURCES, Choice, Clip, KeySource, VideoSelector
from .similarity import cosines, fine_digits


@dataclass(frozen=True, kw_only=True)
class DART(VideoSelector):
    """DART (Wen et al., EMNLP 2025, arXiv 2502.11494): duplication, not importance, decides what stays.

    Followed: the visual tokens with the largest L1 norm of the key are pivots and stay; so are, as a measure only, the
    text tokens behind the video with the largest. One pivot after the other takes the same number of tokens, those of
    least cosine to it among what is left. The order of the pivots is that in which CPython goes through a set of
    their positions in the prompt. ``count="published"``: int(r·N / 8) for each of 8 pivots.

    Departures: as a plain selector it sees the tokens that enter the LLM and the keys of the vision encoder, where
    theirs sees states and keys of the LLM's layer 2. Without a :class:`~stgraph.signals.Question` there are no text
    pivots. ``count="exact"``: the last places go to the first pivots; where the budget is smaller than the number of
    image pivots, the first of these stay.

    Attributes:
        image_pivots: visual tokens.
        text_pivots: text tokens.
        keys: whose norm makes a pivot: the encoder's keys, or ``"features"``.
    """

    image_pivots: int = 4
    text_pivots: int = 4
    keys: KeySource = "encoder_keys"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("image_pivots", self.image_pivots, at_least=1, integer=True)
        check_number("text_pivots", self.text_pivots, at_least=0, integer=True)
        check_choice("keys", self.keys, KEY_SOURCES)

    @property
    def reads_question(self) -> bool:
        """Where it has text pivots, which are words of the question."""
        return self.text_pivots > 0

    def choose(self, clip: Clip) -> Choice:
        """1 − cosine to the pivot that took the token, 3 for pivots; of the others the largest 1 − cosine, less 3."""
        pivots = _largest(clip.keys(self.keys), self.image_pivots)
        if self.exact and clip.budget < len(pivots):
            pivots = pivots[: clip.budget]
        states = {place: clip.features[place] for place in pivots.tolist()}
        begin = 0
        if clip.question is not None and self.text_pivots:
            begin = clip.question.first
            keys = clip.question.states if self.keys == "features" else clip.question.keys
            keys = clip.question.states if keys is None else keys
            for place in _largest(keys, self.text_pivots).tolist():
                states[len(clip) + place] = clip.question.states[place].to(clip.features)
        order = _set_order([place + begin for place in states])
        left = torch.ones(len(clip), dtype=torch.bool, device=pivots.device)
        left[pivots] = False
        score = torch.full((len(clip),), -torch.inf, dtype=torch.float64, device=pivots.device)
        chosen = ~left
        for place, quota in zip(order, self._quotas(clip, len(pivots), len(order)), strict=True):
            unlike = 1 - cosines(clip.features, states[place - begin][None])[:, 0]
            score = torch.where(left, torch.maximum(score, unlike - 3), score)
            taken = first(unlike.masked_fill(~left, -torch.inf), min(quota, int(left.sum())))
            score[taken], chosen = unlike[taken], chosen | taken
            left &= ~taken
        score[pivots] = 3
        return Choice(score, chosen)

    def _quotas(self, clip: Clip, image_pivots: int, pivots: int) -> list[int]:
        """Tokens that each pivot takes."""
        if not self.exact:
            # Their product counts the dropped share.
            return [int(len(clip) * (1 - _dropped(clip.retention)) / pivots)] * pivots
        each, more = divmod(clip.budget - image_pivots, pivots)
        return [each + (number < more) for number in range(pivots)]


def _dropped(retention: float) -> float:
    """1 − r as a decimal number, which is what a user of the authors' code writes."""
    return float(f"{1 - retention:.12g}")


def _largest(keys: Tensor, count: int) -> Tensor:
    """(count,) int64, the rows with the largest L1 norm, the largest first."""
    length = fine_digits(keys.double().abs().sum(1))
    return torch.sort(length, stable=True, descending=True).indices[:count]


def _set_order(places: list[int]) -> list[int]:
    """The order in which CPython goes through the set of these whole numbers."""
    return list(set(places))
