"""Edge lists: a graph as the community libraries want it, without a loop over its edges."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array, csr_array

from ..errors import StgraphError
from ..graph import SpatioTemporalGraph


class EdgeList(NamedTuple):
    """The edges of a simple graph, each once.

    Attributes:
        num_nodes: number of vertices V, isolated ones included.
        pairs: (E, 2) int64 vertices, the smaller one first, ascending.
        weight: (E,) float64, never 0.
    """

    num_nodes: int
    pairs: npt.NDArray[np.int64]
    weight: npt.NDArray[np.float64]

    def matrix(self) -> csr_array:
        """Symmetric (V, V) CSR adjacency matrix."""
        rows, columns = self.pairs.T
        upper = coo_array((self.weight, (rows, columns)), shape=(self.num_nodes, self.num_nodes)).tocsr()
        return csr_array(upper + upper.T)


def edge_list(graph: SpatioTemporalGraph, method: str, *, negative: bool = False) -> EdgeList:
    """The edges of ``graph`` for a library that wants a simple weighted graph on the CPU.

    The rule for weights that a cosine may have: an edge of weight 0 says that its ends have nothing in common and is
    left out; parallel edges count as one of their summed weight; a loop says nothing about grouping and is left out;
    negative weights are refused unless the method's quality is defined for them.

    Args:
        graph: the graph of one video.
        method: the detector's name, for the error.
        negative: whether edges of negative weight are passed on.

    Raises:
        StgraphError: there are negative weights and ``negative`` is False.
    """
    first, second = graph.edge_index.cpu().numpy()
    weight = graph.edge_weight.cpu().numpy().astype(np.float64)
    if not negative:
        refuse_negative(int((weight < 0).sum()), method)
    key = np.minimum(first, second) * graph.num_nodes + np.maximum(first, second)
    key, inverse = np.unique(key, return_inverse=True)
    total = np.bincount(inverse, weights=weight, minlength=len(key)).astype(np.float64)
    pairs = np.stack(np.divmod(key, max(graph.num_nodes, 1)), 1)
    keep = (total != 0) & (pairs[:, 0] != pairs[:, 1])
    return EdgeList(graph.num_nodes, np.ascontiguousarray(pairs[keep]), total[keep])


def refuse_negative(count: int, method: str) -> None:
    """Raise :class:`~stgraph.errors.StgraphError` when there are any of ``count`` edges of negative weight."""
    if count:
        raise StgraphError(
            f"{method} needs edge weights ≥ 0, but this graph has {count} edges of negative weight; "
            "prune it first at a similarity_threshold ≥ 0"
        )
