"""Importance from the graph alone: substitutes for attention where no model is attached."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..graph.lattice import LatticeEdges
from ..kernels import places, snap, take
from .base import Evidence, Importance


@dataclass(frozen=True)
class Centrality(Importance):
    """The most central tokens of their communities: S_c. Favours what is redundant."""

    def __call__(self, evidence: Evidence) -> Tensor:
        """(V,) centrality."""
        return snap(evidence.centrality)


@dataclass(frozen=True)
class Change(Importance):
    """The tokens that differ most from their past: the difference score."""

    def __call__(self, evidence: Evidence) -> Tensor:
        """(V,) difference scores."""
        return snap(evidence.difference.score)


@dataclass(frozen=True)
class Distinctness(Importance):
    """The tokens least similar to the mean of their video: 1 − cos to it (in the spirit of VidCom2)."""

    def __call__(self, evidence: Evidence) -> Tensor:
        """(V,) 1 − cosine to the mean unit vector of the video, frame by frame."""
        graph = evidence.graph
        scores = []
        for index in range(graph.num_videos):
            video = graph.video(index)
            one = torch.zeros_like(video.token)
            scores.append(1 - video.centrality(one, torch.tensor([video.num_nodes], device=one.device)))
        return snap(torch.cat(scores))


@dataclass(frozen=True)
class Apportionment(Importance):
    """D'Hondt's method, with communities as parties: the k-th most central token of a community of n counts n / k.

    D'Hondt's highest averages: every community is represented in proportion to its size, the larger first, and a
    community gets a second token only when its half outweighs every unrepresented one.
    """

    def __call__(self, evidence: Evidence) -> Tensor:
        """(V,) n / k, at most the number of vertices."""
        size = evidence.partition.sizes[evidence.partition.labels]
        return size.double() / (evidence.rank + 1)


@dataclass(frozen=True)
class Novelty(Importance):
    """Novelty of candidates: 1 − the largest similarity to a neighbouring candidate that came before.

    "Before" is left, above, or in the previous frame, along the edges of the graph. Of a run of similar candidates the
    first stays and its repetitions go; a candidate with none before it counts 2, as if opposite.
    """

    def on_lattice(self) -> Callable[[LatticeEdges, Tensor], Tensor]:
        """:meth:`__call__` on whole lattices: from their edges and (B, T, H, W) bool candidates."""
        return _novelty_on_lattice

    def __call__(self, evidence: Evidence) -> Tensor:
        """(V,) 1 − largest weight of an edge from an earlier candidate, in [0, 2], rounded as all that is ranked."""
        graph = evidence.graph
        earlier, later = graph.edge_index
        both = places(take(evidence.is_candidate, earlier) & take(evidence.is_candidate, later))
        closest = graph.edge_weight.new_full((graph.num_nodes,), -1.0)
        return snap(1 - closest.scatter_reduce(0, take(later, both), take(graph.edge_weight, both), "amax"))


def _novelty_on_lattice(edges: LatticeEdges, is_candidate: Tensor) -> Tensor:
    closest = torch.full_like(edges.left, -1)
    for weight, axis in ((edges.left, 3), (edges.above, 2), (edges.before, 1)):
        size = is_candidate.shape[axis] - 1
        both = is_candidate.narrow(axis, 0, size) & is_candidate.narrow(axis, 1, size)
        place = closest.narrow(axis, 1, size)
        place.copy_(torch.maximum(place, torch.where(both, weight.narrow(axis, 1, size), -1)))
    return snap(1 - closest)


@dataclass(frozen=True)
class Norm(Importance):
    """The tokens with the largest feature norm."""

    def __call__(self, evidence: Evidence) -> Tensor:
        """(V,) Euclidean norm, rounded in proportion to itself, for unit vectors are never all of length 1."""
        mantissa, exponent = torch.frexp(evidence.graph.norm.double())
        return torch.ldexp(snap(mantissa), exponent)


@dataclass(frozen=True)
class RandomImportance(Importance):
    """A fixed pseudo-random order: the baseline that every substitute must beat.

    Attributes:
        seed: of the generator.
    """

    seed: int = 0

    def __call__(self, evidence: Evidence) -> Tensor:
        """(V,) uniform numbers, the same for a video alone and in a batch."""
        counts = torch.bincount(evidence.graph.batch, minlength=evidence.graph.num_videos)
        return torch.cat([uniform_numbers(n, self.seed) for n in counts.tolist()]).to(evidence.graph.token.device)


def uniform_numbers(count: int, seed: int) -> Tensor:
    """``count`` float64 numbers in [0, 1) from a generator of their own."""
    return torch.rand(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


__all__ = [
    "Apportionment",
    "Centrality",
    "Change",
    "Distinctness",
    "Norm",
    "Novelty",
    "RandomImportance",
    "uniform_numbers",
]
