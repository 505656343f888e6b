"""√N splitting: no community larger than a bound."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import csr_array
from torch import Tensor

from ..errors import check_number
from ..graph import SpatioTemporalGraph
from ..kernels import snap
from ..registry import build_groups, group_field
from .base import CommunityDetector


@dataclass(frozen=True)
class SqrtSplit(CommunityDetector):
    """Splits the communities of any detector that are larger than √N (the paper's heuristic, its rule left open).

    The rule: inside a community that is too large only the edges of its maximum spanning tree count, so that parts
    hang together by the strongest similarities (in steps of about 1.5e-5, ties to the first edge); of all ways to cut
    that tree into parts within the bound, one with the fewest parts is taken (Kundu and Misra, 1977: from the leaves
    up, a vertex that has gathered too much lets its heaviest branches go). Every part is connected and within the
    bound, and every part but one of a community has at least bound / (D − 1) vertices, D being the most edges of a
    vertex in the tree (6 on a lattice): as even as such a tree allows. A community that is too large and not connected
    comes apart into its components first. Deterministic.

    Attributes:
        detector: what finds the communities.
        bound: vertices that a part may have, or ``"sqrt"``: ⌊√N⌋ with N the vertices of the video.
    """

    detector: CommunityDetector = group_field("community", "components")
    bound: Literal["sqrt"] | int = "sqrt"

    def __post_init__(self) -> None:
        build_groups(self)
        if self.bound != "sqrt":
            check_number("bound", self.bound, at_least=1, integer=True)

    def detect(self, graph: SpatioTemporalGraph) -> Tensor:
        """(V,) part of each vertex."""
        partition = self.detector(graph)
        bound = math.isqrt(graph.num_nodes) if self.bound == "sqrt" else self.bound
        split = (partition.sizes > bound)[partition.labels].cpu()
        if not bool(split.any()):
            return partition.labels
        labels = partition.labels.cpu()
        first, second = graph.edge_index.cpu()
        inside = split[first] & (labels[first] == labels[second])
        order, parent = _spanning_forest(graph.take_edges(inside.to(graph.token.device)), split.numpy())
        parts = torch.from_numpy(_cut(order, parent, bound))
        return torch.where(split, graph.num_nodes + parts, labels)


def _spanning_forest(
    graph: SpatioTemporalGraph, vertices: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The maximum spanning forest of ``vertices``, each tree rooted at its first vertex.

    Returns:
        The vertices in an order in which each comes after its parent, and the (V,) parent of each, V for a root.
    """
    from scipy.sparse.csgraph import breadth_first_order, connected_components, minimum_spanning_tree

    n = graph.num_nodes
    # The solver minimises, reads 0 as "no edge" and breaks ties in any order. Ranks from 1 on have no 0 and no ties.
    strongest = torch.sort(snap(graph.edge_weight), stable=True, descending=True).indices.cpu().numpy()
    place = np.empty(len(strongest))
    place[strongest] = np.arange(1, len(strongest) + 1)
    tree = minimum_spanning_tree(csr_array((place, graph.edge_index.cpu().numpy()), (n, n))).tocoo()
    _, component = connected_components(tree, directed=False)
    roots = np.unique(component, return_index=True)[1]
    roots = roots[vertices[roots]]
    # One more vertex above all roots, so that a single traversal visits every tree.
    above = np.full(len(roots), n)
    ends = np.stack([np.concatenate([tree.row, above]), np.concatenate([tree.col, roots])])
    joined = csr_array((np.ones(ends.shape[1]), ends), (n + 1, n + 1))
    order, parent = breadth_first_order(joined, n, directed=False)
    return order[1:].astype(np.int64), parent.astype(np.int64)


def _cut(order: npt.NDArray[np.int64], parent: npt.NDArray[np.int64], bound: int) -> npt.NDArray[np.int64]:
    """(V,) top vertex of the part of each vertex: the trees cut into the fewest parts of at most ``bound`` vertices.

    Args:
        order: vertices, each after its parent.
        parent: (V + 1,) parent of each vertex, V for a root.
        bound: at least 1.
    """
    n = len(parent) - 1
    above = parent.tolist()
    branches: list[list[tuple[int, int]]] = [[] for _ in range(n + 1)]  # subtrees below each vertex: (vertices, root)
    top = list(range(n))
    is_top = [False] * n
    for vertex in reversed(order.tolist()):
        gathered = 1
        for size, child in sorted(branches[vertex]):
            if gathered + size > bound:  # all heavier branches exceed the bound too
                is_top[child] = True
            else:
                gathered += size
        branches[above[vertex]].append((gathered, vertex))
    for vertex in order.tolist():
        if not is_top[vertex] and above[vertex] != n:
            top[vertex] = top[above[vertex]]
    return np.array(top, dtype=np.int64)
