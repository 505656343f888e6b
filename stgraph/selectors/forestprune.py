"""ForestPrune: half of each frame in trees through time, kept from the roots down."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from ..errors import check_number
from .parts import shares
from .per_video import Choice, Clip, VideoSelector
from .similarity import cosines, fine, fine_digits, unit64

TEMPERATURE = 0.03
"""Of the softmax over the similarities of a frame."""

WALK = 5
"""Steps of the walk that ranks the tokens of a frame."""

CUT = -5000.0
"""Logit of tokens of a frame that are not similar."""


@dataclass(frozen=True, kw_only=True)
class ForestPrune(VideoSelector):
    """ForestPrune (2026, github.com/luminousllsa/ForestPrune): half of each frame, as a forest kept from its roots.

    Followed: in each frame the tokens that a walk of 5 steps over its similarities reaches most, weighted by their
    length, are kept, half of them. A token then joins the tree of the most similar token of any earlier frame within a
    bounded distance, if their cosine reaches τ, below the tree's last token; so trees are chains of frames. Kept are
    the tokens of least depth, of equal depth those of the earlier frame. Where even the roots are too many, of the
    two most similar the later one joins the other, again and again, until they are as many as the budget.

    Departures: places are those of the real grid, where theirs takes it to be square. Which tokens of one depth in one
    frame stay, and which of two roots of a frame is the earlier, is the order of ``torch.topk`` on a CPU, as in
    theirs where that runs on one. ``count="published"``: K = round(N′·r / 0.5) for N′ tokens left of the halving.
    ``count="exact"``: K = ⌈r·N⌉, and above r = 0.5 so much more than half of each frame is kept in the first stage.

    Attributes:
        halving: share of each frame that the first stage keeps, in (0, 1].
        similarity: cosine of tokens of a frame below which they are not linked, in [−1, 1].
        similarity_threshold: τ, in [−1, 1].
        nearness: τ_spatial: a token joins none farther than 1 − this in rows or columns, in shares of the picture, in
            [0, 1].
    """

    halving: float = 0.5
    similarity: float = 0.5
    similarity_threshold: float = 0.9
    nearness: float = 0.8

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("halving", self.halving, above=0, at_most=1)
        check_number("similarity", self.similarity, at_least=-1, at_most=1)
        check_number("similarity_threshold", self.similarity_threshold, at_least=-1, at_most=1)
        check_number("nearness", self.nearness, at_least=0, at_most=1)

    def choose(self, clip: Clip) -> Choice:
        """−(depth + frame / 1000), below −N what goes before that."""
        left, score = [], torch.empty(len(clip), dtype=torch.float64, device=clip.coords.device)
        least = shares(clip.retention, clip.sizes) if self.exact else [0] * len(clip.frames)
        for frame, wanted in zip(clip.frames, least, strict=True):
            score[frame] = self._reach(clip.features[frame])
            count = max(round(self.halving * (frame.stop - frame.start)), wanted)
            left.append(_in_topk_order(score[frame], count) + frame.start)
        total = sum(map(len, left))
        count = clip.budget if self.exact else min(total, round(total * clip.retention / self.halving))
        key = self.forest(clip, left, count)
        token = torch.cat(left)
        chosen = torch.zeros(len(clip), dtype=torch.bool, device=token.device)
        chosen[token[_in_topk_order(-key[token].to(torch.float32), count)]] = True
        return Choice(torch.where(torch.isinf(key), -2.0 * len(clip) - 1000, -key), chosen)

    def _reach(self, x: Tensor) -> Tensor:
        """(n,) float64, how much of the walk from all tokens of a frame ends at each."""
        similar = cosines(x, x).clamp(max=1)
        logits = torch.where(similar < self.similarity, 0.0, similar) / TEMPERATURE
        step = torch.where(logits.abs() < 1e-6, CUT, logits).softmax(1)
        walk = torch.linalg.matrix_power(step, WALK)
        length = torch.linalg.vector_norm(x.double(), dim=1)
        length = length / length.amax().clamp(min=torch.finfo(torch.float64).tiny)
        return fine_digits((length @ walk) / (step > 0).sum(1))

    def forest(self, clip: Clip, left: list[Tensor], count: int) -> Tensor:
        """(n,) float64 depth + frame / 1000 of every token that is left, infinite for all others.

        Args:
            clip: the video.
            left: the tokens of each frame that the first stage keeps, in the order in which they are gone through.
            count: the number of tokens to keep, which the roots must not exceed.
        """
        token = torch.cat(left)
        unit = unit64(clip.features[token])
        where = self._places(clip)[token]
        reach = torch.tensor(1 - self.nearness, dtype=torch.float32, device=where.device)
        depth = torch.zeros(len(token), dtype=torch.int64, device=token.device)
        tree = torch.arange(len(token), device=token.device)  # the root of each
        tail, tail_depth = tree.clone(), depth.clone()
        ends = torch.tensor([len(own) for own in left]).cumsum(0).tolist()
        for begin, end in pairwise(ends):
            if begin in (0, end):
                continue
            apart = (where[begin:end, None] - where[None, :begin]).abs().amax(-1)
            similar = fine(unit[begin:end] @ unit[:begin].T)
            similar[(apart > reach) | (similar < self.similarity_threshold)] = -torch.inf
            best = similar.amax(1)
            # Of equally similar tokens the nearest counts, then the older tree.
            equal = (similar == best[:, None]) & torch.isfinite(best)[:, None]
            near = apart.masked_fill(~equal, torch.inf)
            equal &= near == near.amin(1, keepdim=True)
            older = torch.where(equal, tree[None, :begin], len(token)).amin(1)
            joined = (older < len(token)).nonzero()[:, 0]
            own, to = joined + begin, older[joined]
            tree[own] = to
            depth[own] = tail_depth[to] + 1
            tail[to], tail_depth[to] = own, depth[own]  # all have the same depth, so any of them may be the tail
        roots = (depth == 0).nonzero()[:, 0]
        key = torch.full((len(clip),), torch.inf, dtype=torch.float64, device=token.device)
        if len(roots) > count:
            kept = roots[_without_the_most_similar(fine(unit[roots] @ unit[roots].T), count)]
            key[token[kept]] = clip.coords[token[kept], 0].double() / 1000
            return key
        key[token] = depth.double() + clip.coords[token, 0].double() / 1000
        return key

    def _places(self, clip: Clip) -> Tensor:
        """(n, 2) float32 row and column of every token, from 0 to 1."""
        size = clip.coords[:, 1:].amax(0).clamp(min=1).to(torch.float32)
        return clip.coords[:, 1:].to(torch.float32) / size


def _in_topk_order(score: Tensor, count: int) -> Tensor:
    """(count,) int64, the largest scores in the order in which ``torch.topk`` leaves them on a CPU without sorting."""
    return score.cpu().topk(count, sorted=False).indices.to(score.device)


def _without_the_most_similar(similar: Tensor, count: int) -> Tensor:
    """(m,) bool, ``count`` of m roots: again and again the later one of the two most similar goes."""
    similar = similar.tril(-1) + torch.full_like(similar, -torch.inf).triu()
    alive = torch.ones(len(similar), dtype=torch.bool, device=similar.device)
    best, partner = similar.max(1)  # of each the most similar earlier one
    for _ in range(len(similar) - count):
        later = int(best.argmax())
        alive[later] = False
        best[later] = -torch.inf
        similar[:, later] = -torch.inf
        orphans = (alive & (partner == later)).nonzero()[:, 0]
        best[orphans], partner[orphans] = similar[orphans].max(1)
    return alive
