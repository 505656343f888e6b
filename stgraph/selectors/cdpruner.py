"""CDPruner: the most diverse tokens of each frame, given the question."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .per_video import Choice, Clip, VideoSelector
from .similarity import cosines, fine_digits


@dataclass(frozen=True, kw_only=True)
class CDPruner(VideoSelector):
    """CDPruner (Zhang et al., NeurIPS 2025, arXiv 2506.10967): a determinantal point process of each frame.

    Followed: the relevance of a token is minus its mean cosine to the text, stretched from (almost) 0 to 1 over the
    frame. The kernel is relevance · cosine · relevance, and tokens are picked one after the other so that its
    determinant grows most (fast greedy MAP).

    Departures: relevance is taken between the tokens and the text states of the :class:`~stgraph.signals.Question`,
    where theirs has CLIP's two embeddings. Without a question, of which the notes tell, every token is as relevant.
    Theirs has a number of tokens in the place of a share: ``count="published"`` keeps ⌈r·n⌉ of the n tokens of each
    frame, ``count="exact"`` ⌊r·n⌋ or ⌈r·n⌉.
    """

    @property
    def reads_question(self) -> bool:
        """Every question selects anew."""
        return True

    def choose(self, clip: Clip) -> Choice:
        """The earlier picked in its frame, the larger the score."""
        score = torch.zeros(len(clip), dtype=torch.float64, device=clip.coords.device)
        for frame, count in zip(clip.frames, clip.frame_counts(self.exact), strict=True):
            x = clip.features[frame]
            relevance = torch.ones(len(x), dtype=torch.float64, device=x.device)
            if clip.question is not None:
                relevance = -cosines(x, clip.question.states.to(x)).mean(1)
                width = float(relevance.max() - relevance.min())
                relevance = (relevance - relevance.min() + 1e-6) / width if width else torch.ones_like(relevance)
            picks = _picks(relevance[:, None] * cosines(x, x) * relevance, count)
            rank = torch.arange(len(picks), 0, -1, device=x.device).double()
            score[frame.start + picks] = rank / (len(x) + 1)
        note = "" if clip.question is not None else "no question was given, so all tokens count as equally relevant"
        return Choice(score, score > 0, note=note)


def _picks(kernel: Tensor, count: int) -> Tensor:
    """(count,) int64, greedy picks that enlarge the determinant of an (n, n) kernel most."""
    gain = kernel.diagonal().clone()
    rows = torch.zeros(count, len(kernel), dtype=torch.float64, device=kernel.device)
    picks = []
    for number in range(count):
        pick = int(fine_digits(gain).argmax())
        picks.append(pick)
        size = max(float(gain[pick]), 1e-12) ** 0.5
        rows[number] = (kernel[pick] - rows[:number, pick] @ rows[:number]) / size
        gain = gain - rows[number].square()
        gain[picks] = -torch.inf
    return torch.tensor(picks, dtype=torch.int64, device=kernel.device)
