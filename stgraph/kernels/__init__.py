"""Kernels: the only place that knows about speed. Tensors in, tensors out; nothing of stgraph is imported here.

Every kernel gives the same result on any thread count and for any way of batching, because each number is summed in an
order that depends on its own token, edge or community alone. Sums are float32 or wider whatever the dtype of the
features, and similarities are rounded to :data:`GRID` so that values equal in exact arithmetic are equal as numbers.
"""

from .reference import (
    GRID,
    TIE_TOLERANCE,
    community_centrality,
    edge_cosine,
    edge_ends,
    lattice_cosine,
    norms,
    snap,
)

__all__ = [
    "GRID",
    "TIE_TOLERANCE",
    "community_centrality",
    "edge_cosine",
    "edge_ends",
    "lattice_cosine",
    "norms",
    "snap",
]
