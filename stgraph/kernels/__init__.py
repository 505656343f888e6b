"""Kernels: the only place that knows about speed. Tensors in, tensors out; of stgraph only the errors are imported.

Every kernel gives the same result on any thread count and for any way of batching, because each number is summed in an
order that depends on its own token, edge or community alone. Sums are float32 or wider whatever the dtype of the
features, and similarities are rounded to :data:`GRID` so that values equal in exact arithmetic are equal as numbers.

There are three sets with the same functions: plain torch (:mod:`.reference`) for any device, compiled C
(:mod:`.fused`) for the CPU, and Triton programs (:mod:`.gpu`), which serve on GPUs wherever they can be had.
:func:`use`, :func:`using` and the environment variable ``STGRAPH_KERNELS`` force one of them; :func:`active` says which
serves. Their
weights differ by one step of :data:`GRID` at most, where rounding straddles it. The fused ones give the same bits on
every processor.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from .dispatch import active, direct_kernels, kernels_for, kernels_on, use, using
from .indices import places, stable_argsort, take
from .reference import GRID, TIE_TOLERANCE, edge_ends, round_to, snap, snap_cosine


def norms(features: Tensor, rows: Tensor) -> Tensor:
    """Euclidean norms of ``features[rows]``: (n,) float64, NaN or Inf where a feature is.

    Args:
        features: (N, d) float32, float16 or bfloat16.
        rows: (n,) int64.
    """
    found: Tensor = kernels_for(features).norms(features, rows)
    return found


def lattice_cosine(x: Tensor, offsets: Sequence[tuple[int, int, int]]) -> tuple[Tensor, list[Tensor]]:
    """Norms and edge cosines of a dense grid.

    Args:
        x: (T, H, W, d) float32, float16 or bfloat16, any strides.
        offsets: (dt, dy, dx) from the earlier end of each edge to the later one; dt ≥ 0, and dy ≥ 0 where dt = 0.

    Returns:
        (T, H, W) float64 norms; for every offset the (T − dt, H − |dy|, W − |dx|) float32 cosines of its edges in
        raster order of their earlier end, 0 where an end is a zero vector.
    """
    found: tuple[Tensor, list[Tensor]] = kernels_for(x).lattice_cosine(x, offsets)
    return found


def edge_cosine(features: Tensor, norm: Tensor, rows: Tensor, edge_index: Tensor) -> Tensor:
    """Cosine of every edge of an arbitrary graph: (E,) float32, 0 where an end is a zero vector.

    Args:
        features: (N, d) float32, float16 or bfloat16.
        norm: (V,) float64 norms of the vertices.
        rows: (V,) int64, the row of ``features`` that each vertex stands for.
        edge_index: (2, E) int64 vertices.
    """
    found: Tensor = kernels_for(features).edge_cosine(features, norm, rows, edge_index)
    return found


def community_centrality(features: Tensor, norm: Tensor, rows: Tensor, labels: Tensor, sizes: Tensor) -> Tensor:
    """Mean cosine of every vertex to the other members of its community: (V,) float32, 0 for a community of one.

    With unit vectors u, Σ_{b≠a} cos(a, b) = u_a · Σ_b u_b − u_a · u_a, so the n×n matrix of a community is never built:
    exact in O(V·d).

    Args:
        features: (N, d) float32, float16 or bfloat16.
        norm: (V,) float64 norms of the vertices.
        rows: (V,) int64, the row of ``features`` that each vertex stands for.
        labels: (V,) int64 community of each vertex, 0 to m − 1.
        sizes: (m,) int64 members of each community.
    """
    found: Tensor = kernels_for(features).community_centrality(features, norm, rows, labels, sizes)
    return found


def community_ranks(labels: Tensor, sizes: Tensor, centrality: Tensor) -> Tensor:
    """Place of every vertex in its community by centrality, 0 = most central: (V,) int64.

    Centralities are compared in steps of :data:`TIE_TOLERANCE`; ties go to the smaller index.

    Args:
        labels: (V,) int64 community of each vertex, 0 to m − 1.
        sizes: (m,) int64 members of each community.
        centrality: (V,) float32 in [−1, 1].
    """
    found: Tensor = kernels_on(labels.device).community_ranks(labels, sizes, centrality)
    return found


def first_of(importance: Tensor, tier: Tensor, budget: int) -> tuple[Tensor, Tensor]:
    """Which ``budget`` of n items come first: by tier, then by importance, the larger first, then by index.

    Args:
        importance: (n,) float, n ≥ 1, no NaN.
        tier: (n,) uint8 or int64 from 0 to 255.
        budget: how many, 0 to n.

    Returns:
        (n,) bool mask, and the importance of the last of them, or of the very first item where the budget is 0.

    Raises:
        IndexError: a budget that is not from 0 to n, or no items.
    """
    if not 0 <= budget <= len(tier) or not len(tier) or importance.shape != tier.shape:
        raise IndexError(f"the first {budget} of {tuple(tier.shape)} items by {tuple(importance.shape)} scores")
    found: tuple[Tensor, Tensor] = kernels_on(tier.device).first_of(importance, tier, budget)
    return found


__all__ = [
    "GRID",
    "TIE_TOLERANCE",
    "active",
    "community_centrality",
    "community_ranks",
    "direct_kernels",
    "edge_cosine",
    "edge_ends",
    "first_of",
    "lattice_cosine",
    "norms",
    "places",
    "round_to",
    "snap",
    "snap_cosine",
    "stable_argsort",
    "take",
    "use",
    "using",
]
