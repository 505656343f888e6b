"""LLaVA-Scissor: connected components of similar tokens, in each frame and then over all frames."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import log
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from ..community.components import torch_components
from ..errors import check_number
from .parts import first
from .per_video import Choice, Clip, VideoSelector
from .selection import Blend
from .similarity import BLOCK, Directions, cosines

BOUNDS = 8
"""Thresholds at which the first stage runs alone."""

STEPS = 6
"""Thresholds at which both stages run for an exact count."""

CLOSE = 0.01
"""Share of the count that such a threshold may miss it by."""


@dataclass(frozen=True, kw_only=True)
class LLaVAScissor(VideoSelector):
    """LLaVA-Scissor (Sun et al., 2025, arXiv 2506.21862): semantic connected components, per frame and then over all.

    Followed: tokens of a frame with cos > τ are joined, anywhere in it, and each component becomes the mean of its
    tokens. These means, of all frames, are joined by the same rule, and each component becomes the plain mean c of its
    members. Then each of the N tokens goes to the c of greatest cosine, and c becomes (c + their sum) / (their number +
    1). τ alone decides how many rows there are: ``count="published"``.

    Departures: a row stands at a token, where theirs has no place: that with the most neighbours in the component of
    its frame with the most neighbours, which gives the same order. Components are exact, also of more than 3,233
    nodes, of which theirs looks at the edges of a random part. ``count="exact"``: τ is the best of at most 7
    that are interpolated; then the components of the fewest tokens are left out before tokens choose their row, or the
    tokens least like their row stay beside it as they are.

    Attributes:
        similarity_threshold: τ in [−1, 1], for ``count="published"``; 0.9 in their README, 0.95 in their code.
    """

    similarity_threshold: float = 0.9

    merging: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("similarity_threshold", self.similarity_threshold, at_least=-1, at_most=1)

    def choose(self, clip: Clip) -> Choice:
        """Number of tokens of each row; for the others 1 − cosine to their row."""
        similarity = [cosines(clip.features[frame], clip.features[frame]) for frame in clip.frames]
        rows = _fitting(clip, similarity) if self.exact else _rows(clip, similarity, self.similarity_threshold)
        stay = torch.arange(len(rows.place), device=rows.place.device)
        if self.exact and len(stay) > clip.budget:
            stay = first(rows.size, clip.budget).nonzero()[:, 0]
        mean, place = rows.mean[stay], rows.place[stay]
        to, cosine = nearest(clip.features, mean)
        taken = torch.bincount(to, minlength=len(stay))
        share = 1.0 / (taken + 1).double()
        # A row is the mean of its component and of the tokens that chose it.
        number = torch.full((len(rows.place),), -1, dtype=torch.int64, device=to.device)
        number[stay] = torch.arange(len(stay), device=to.device)
        component = number[rows.component]
        inside = (component >= 0).nonzero()[:, 0]
        moved = (taken > 0)[component[inside]] | (rows.size[rows.component[inside]] > 1)
        inside = inside[moved]
        own = Blend(place[component[inside]], inside, (rows.part[inside] * share[component[inside]]).float())
        every = torch.arange(len(clip), device=to.device)
        chosen = torch.zeros(len(clip), dtype=torch.bool, device=to.device)
        chosen[place] = True
        score = 1 - cosine
        score[place] = taken.double()
        return Choice(score, chosen, blend=Blend.cat([own, Blend(place[to], every, share[to].float())]))


class _Rows(NamedTuple):
    """The components of a video, in their order.

    Attributes:
        mean: (M, d) float64 mean of each.
        place: (M,) int64 token at which each stands.
        size: (M,) int64 tokens of each.
        component: (n,) int64 the component of each token.
        part: (n,) float64 the share of each token in the mean of its component.
    """

    mean: Tensor
    place: Tensor
    size: Tensor
    component: Tensor
    part: Tensor


def _fitting(clip: Clip, similarity: list[Tensor]) -> _Rows:
    """The components at the threshold whose number is nearest to the budget, found by interpolation."""
    low, high = -1.0, 1.0
    for _ in range(BOUNDS):  # the second stage only joins, so what the first leaves is a bound, and costs little
        middle = (low + high) / 2
        if sum(len(head) for _, head in _in_frames(similarity, middle)) <= clip.budget:
            low = middle
        else:
            high = middle
    best, high = _rows(clip, similarity, low), 1.0  # above which nothing is joined
    few, many = log(len(best.place) / clip.budget), log(len(clip) / clip.budget)
    side = 0.0
    for _ in range(STEPS):
        if abs(len(best.place) - clip.budget) <= CLOSE * clip.budget or few >= 0:
            break
        # Numbers grow about exponentially.
        threshold = low + (high - low) * few / (few - many)
        rows = _rows(clip, similarity, threshold)
        gap = log(len(rows.place) / clip.budget)
        if abs(len(rows.place) - clip.budget) < abs(len(best.place) - clip.budget):
            best = rows
        # An end that stays twice counts half, so that both ends move (the Illinois rule).
        if gap < 0:
            low, few, many = threshold, gap, many / (2 if side < 0 else 1)
        else:
            high, many, few = threshold, gap, few / (2 if side > 0 else 1)
        side = gap
    return best


def _in_frames(similarity: list[Tensor], threshold: float) -> Iterator[tuple[Tensor, Tensor]]:
    """The components of each frame at a threshold, see :func:`_ordered`, given the similarities inside it."""
    for similar in similarity:
        joined = similar > threshold
        joined.fill_diagonal_(True)
        yield _ordered(torch_components(len(joined), joined.nonzero().T), joined.sum(1))


def _rows(clip: Clip, similarity: list[Tensor], threshold: float) -> _Rows:
    """Both stages at one threshold, given the similarities inside each frame."""
    device = clip.coords.device
    label = torch.empty(len(clip), dtype=torch.int64, device=device)
    places, count = [], 0
    for frame, (own, head) in zip(clip.frames, _in_frames(similarity, threshold), strict=True):
        label[frame] = own + count
        places.append(head + frame.start)
        count += len(head)
    place = torch.cat(places)
    size = torch.bincount(label, minlength=count)
    mean = torch.zeros(count, clip.features.shape[1], dtype=torch.float64, device=device)
    for frame in clip.frames:
        mean.index_add_(0, label[frame], clip.features[frame].double())
    mean /= size[:, None]
    group, head = _ordered(*similar_components(mean, threshold))
    members = torch.bincount(group, minlength=len(head))
    centre = torch.zeros(len(head), mean.shape[1], dtype=torch.float64, device=device)
    centre.index_add_(0, group, mean).div_(members[:, None])
    component = group[label]
    part = 1 / (size[label] * members[component]).double()
    return _Rows(centre, place[head], torch.bincount(component, minlength=len(head)), component, part)


def _ordered(label: Tensor, degree: Tensor) -> tuple[Tensor, Tensor]:
    """Components in rising order of their node with the most neighbours, of equal ones the first.

    Args:
        label: (p,) int64 any number for each component.
        degree: (p,) int64 neighbours of each node.

    Returns:
        (p,) int64 number of each node's component, and (m,) int64 that node of each, rising.
    """
    order = torch.sort(degree, stable=True, descending=True).indices
    order = order[torch.sort(label[order], stable=True).indices]
    begins = torch.ones_like(order, dtype=torch.bool)
    begins[1:] = label[order][1:] != label[order][:-1]
    head = order[begins]
    _, dense = label.unique(return_inverse=True)
    rank = torch.empty_like(head)
    rank[torch.sort(head).indices] = torch.arange(len(head), device=head.device)
    return rank[dense], head.sort().values


def similar_components(x: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """Components of vectors (p, d) that are joined where cos > threshold: (p,) int64 smallest member of that of each,
    and (p,) int64 how many are joined with each, itself included.

    Blocks of rows are joined with all that came before, so that memory stays linear.
    """
    vectors = Directions(x)
    label = torch.arange(len(vectors), device=x.device)
    degree = torch.ones_like(label)
    step = max(1, BLOCK // len(vectors))
    for start in range(0, len(vectors), step):
        stop = min(start + step, len(vectors))
        rough = vectors.rough(slice(start, stop), vectors, slice(0, stop))
        own = rough[:, start:]
        own.masked_fill_(torch.ones_like(own, dtype=torch.bool).triu_(), -torch.inf)  # each pair once
        later, earlier = (likely := rough > threshold - vectors.error).nonzero().T
        unsure = (rough[likely] <= threshold + vectors.error).nonzero()[:, 0]
        joined = torch.ones_like(later, dtype=torch.bool)
        joined[unsure] = vectors.pairs(later[unsure] + start, vectors, earlier[unsure]) > threshold
        later, earlier = later[joined] + start, earlier[joined]
        degree += torch.bincount(later, minlength=len(degree)) + torch.bincount(earlier, minlength=len(degree))
        label = torch_components(len(vectors), torch.stack([label[earlier], later]))[label]
    return label, degree


def nearest(x: Tensor, centre: Tensor) -> tuple[Tensor, Tensor]:
    """The row of ``centre`` (m, d) of greatest cosine to each row of ``x`` (n, d), of equal ones the first.

    Returns:
        (n,) int64 that row, and (n,) float64 its cosine.
    """
    centres, found = Directions(centre), []
    for part in x.split(max(1, BLOCK // len(centre))):
        vectors = Directions(part)
        rough = vectors.rough(slice(None), centres, slice(None))
        row, column = (rough >= rough.amax(1, keepdim=True) - 2 * vectors.error).nonzero().T
        cosine = vectors.pairs(row, centres, column)
        best = torch.full((len(part),), -2.0, dtype=torch.float64, device=x.device).scatter_reduce(
            0, row, cosine, "amax"
        )
        first_best = torch.full_like(best, len(centre), dtype=torch.int64)
        equal = cosine == best[row]
        found.append((first_best.scatter_reduce(0, row[equal], column[equal], "amin"), best))
    return torch.cat([row for row, _ in found]), torch.cat([cosine for _, cosine in found])
