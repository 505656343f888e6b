"""Merge tree: the communities of every similarity threshold at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..budget import ceil_shares
from ..errors import StgraphError, check_number
from ..kernels import GRID, active, stable_argsort, take
from .spatiotemporal import SpatioTemporalGraph

if TYPE_CHECKING:
    from numpy.typing import NDArray

IntArray = np.ndarray[tuple[int, ...], np.dtype[np.int64]]

Thresholds = float | Sequence[float] | Tensor
"""One similarity threshold or many."""


@dataclass(frozen=True, eq=False)
class Sweep:
    """The components of a graph at K thresholds, in numbers.

    Attributes:
        thresholds: (K,) float64 τ_sim.
        communities: (K,) int64 how many communities there are.
        singletons: (K,) int64 how many of them have one vertex.
        largest: (K,) int64 size of the largest.
        largest_share: (K,) float64 the same as a share of all vertices, 0 without vertices.
        mean_size: (K,) float64 size of the community of an average vertex, Σ|c|² / V, 0 without vertices.
    """

    thresholds: Tensor
    communities: Tensor
    singletons: Tensor
    largest: Tensor
    largest_share: Tensor
    mean_size: Tensor


@dataclass(frozen=True, eq=False)
class Persistence:
    """The P communities that exist at any threshold, the longest-lived first.

    A community exists for all τ with death < τ ≤ birth. Of equally long-lived ones the earlier born comes first, then
    the one with the smaller first vertex.

    Attributes:
        birth: (P,) float64 highest threshold at which these very vertices are a community.
        death: (P,) float64 threshold at which they are joined with others; −∞ where they never are.
        size: (P,) int64 number of vertices.
        first: (P,) int64 smallest vertex: ``components(birth) == components(birth)[first]`` are its members.
    """

    birth: Tensor
    death: Tensor
    size: Tensor
    first: Tensor

    @property
    def lifetime(self) -> Tensor:
        """(P,) float64 birth − death."""
        return self.birth - self.death


@dataclass(frozen=True, eq=False)
class MergeTree:
    """The connected components of "edges ≥ τ" for every τ, from one maximum spanning forest of F < V edges.

    Going down from the highest weight, each edge of the forest merges two communities; a threshold is a place in that
    order. Equally heavy edges merge in the order of the graph's edges, but no threshold falls between them. Weights and
    thresholds are compared on the grid of :data:`stgraph.kernels.GRID`, exactly as by ``graph.prune``.

    Several videos are one block-diagonal forest; numbers are totals over all of them. For those of one video take the
    merge tree of ``graph.video(i)``.

    Source: single-linkage clustering by a maximum spanning tree (Gower and Ross, 1969).

    Attributes:
        edges: (2, F) int64 vertices of the forest's edges in the order in which they merge, heaviest first.
        weight: (F,) float64 their weights, descending, rounded down to the grid.
        first: (2, F) int64 smallest vertex of the two communities that an edge merges, the smaller one above.
        part: (2, F) int64 number of vertices of these two.
        leaves: (V,) int64 vertices in an order in which every community of every threshold is one run that starts with
            its smallest vertex.
        joined: (V,) int64 number of the merge that joins a leaf to the one before it in that order, F where none does.
    """

    edges: Tensor
    weight: Tensor
    first: Tensor
    part: Tensor
    leaves: Tensor
    joined: Tensor

    def __repr__(self) -> str:
        return f"MergeTree({self.num_nodes} vertices, {self.num_merges} merges)"

    @property
    def num_nodes(self) -> int:
        """Number of vertices V."""
        return len(self.leaves)

    @property
    def num_merges(self) -> int:
        """Number of merges F; V − F communities are left when all are done."""
        return len(self.weight)

    # -- communities ----------------------------------------------------------------------------------------------

    def components(self, threshold: float) -> Tensor:
        """(V,) int64 communities of ``graph.prune(threshold)``, numbered by their first vertex."""
        check_number("threshold", threshold)
        return self.communities_after(int(self._merges(threshold)))

    def communities_after(self, merges: int) -> Tensor:
        """(V,) int64 communities after the first ``merges`` merges, numbered by their first vertex."""
        check_number("merges", merges, at_least=0, at_most=self.num_merges, integer=True)
        leaves = self.leaves.numpy()
        starts = np.flatnonzero(self.joined.numpy() >= merges)
        smallest = leaves[starts]
        is_smallest = np.zeros(len(leaves), dtype=bool)
        is_smallest[smallest] = True
        number = np.cumsum(is_smallest)[smallest] - 1
        labels = np.empty_like(leaves)
        labels[leaves] = np.repeat(number, np.diff(starts, append=len(leaves)))
        return torch.from_numpy(labels)

    def sizes(self, threshold: float) -> Tensor:
        """(m,) int64 number of vertices of each community at a threshold."""
        return torch.bincount(self.components(threshold))

    # -- all thresholds in one pass -------------------------------------------------------------------------------

    def num_communities(self, thresholds: Thresholds) -> Tensor:
        """Number of communities at each threshold: int64 of the shape of ``thresholds``."""
        return self.num_nodes - self._merges(thresholds)

    def num_representatives(self, thresholds: Thresholds, retention: float) -> Tensor:
        """How many representatives ST-SimDiff takes: Σ ⌈|c|·retention⌉ over the communities c at each threshold.

        Never less than ⌈V·retention⌉, and never less at a higher threshold, because ⌈a⌉ + ⌈b⌉ ≥ ⌈a + b⌉.

        Returns:
            int64 of the shape of ``thresholds``.
        """
        return self._representatives(retention)[self._merges(thresholds)]

    def sweep(self, thresholds: Sequence[float] | Tensor) -> Sweep:
        """What the communities look like at each of K thresholds: one pass over the tree, whatever K."""
        values = _as_tensor(thresholds).flatten()
        merges = self._merges(values)
        nodes = max(self.num_nodes, 1)
        size = self.part.sum(0)
        singletons = _totals(self.num_nodes, -(self.part == 1).sum(0))[merges]
        squares = _totals(self.num_nodes, 2 * self.part.prod(0))[merges]  # (a + b)² − a² − b²
        largest = torch.cat([size.new_tensor([min(self.num_nodes, 1)]), size]).cummax(0).values[merges]
        return Sweep(values, self.num_nodes - merges, singletons, largest, largest / nodes, squares / nodes)

    # -- thresholds for a target ----------------------------------------------------------------------------------

    def threshold_for(self, num_communities: int) -> float:
        """The highest τ ≤ 1 with at most ``num_communities`` communities.

        Fewer than wanted come out where edges of equal weight merge at once; more, where even all edges together leave
        more parts, and then this is the highest τ with as few as there can be.
        """
        check_number("num_communities", num_communities, at_least=1, integer=True)
        return self._threshold_after(self.num_nodes - num_communities)

    def threshold_for_kept(self, budget: int, retention: float) -> float:
        """The highest τ ≤ 1 at which there are at most ``budget`` representatives (:meth:`num_representatives`).

        Their number falls as τ falls, in steps, so it is not always met exactly; where even all edges together leave
        more, this is the highest τ with as few as there can be.
        """
        check_number("budget", budget, at_least=0, integer=True)
        counts = self._representatives(retention)
        return self._threshold_after(int((counts > max(budget, int(counts[-1]))).sum()))

    def _threshold_after(self, merges: int) -> float:
        """The highest threshold at which at least ``merges`` merges, or all that there are, are done."""
        if not self.num_merges or merges <= int(self._merges(1.0)):
            return 1.0
        return float(self.weight[min(merges, self.num_merges) - 1])

    # -- the tree itself ------------------------------------------------------------------------------------------

    def persistence(self, smallest: int = 2) -> Persistence:
        """How long each community of at least ``smallest`` vertices lives as τ falls.

        A single vertex is born at τ = 1. What merges at one weight merges at once, and no such step is a community.
        """
        check_number("smallest", smallest, at_least=1, integer=True)
        nodes = self.num_nodes
        birth = torch.cat([torch.ones(nodes, dtype=torch.float64), self.weight])
        death = torch.full_like(birth, -math.inf)
        death[self._children] = self.weight.expand(2, -1)
        size = torch.cat([torch.ones(nodes, dtype=torch.int64), self.part.sum(0)])
        first = torch.cat([torch.arange(nodes), self.first[0]])
        lives = ((birth > death) & (size >= smallest)).nonzero()[:, 0].numpy()
        order = np.lexsort((first[lives], -birth[lives], -(birth - death)[lives]))
        index = torch.from_numpy(lives[order])
        return Persistence(birth[index], death[index], size[index], first[index])

    def to_linkage(self) -> NDArray[np.float64]:
        """(V − 1, 4) linkage matrix for :mod:`scipy.cluster.hierarchy`, with 1 − weight as the distance.

        Parts that no edge joins are joined last, at distance 2 (that of opposite vectors).

        Raises:
            StgraphError: a weight above 1, which has no distance.
        """
        if self.num_merges and float(self.weight[0]) > 1:
            raise StgraphError(
                f"a linkage matrix needs weights of at most 1, got {float(self.weight[0]):g}; rescale the edge weights"
            )
        nodes, done = self.num_nodes, self.num_merges
        children = self._children.sort(0).values
        size = self.part.sum(0, keepdim=True)
        rows = torch.cat([children.double(), (1 - self.weight)[None], size.double()]).T.tolist()
        inner = torch.zeros(nodes + done, dtype=torch.bool)
        inner[children] = True
        roots = (~inner).nonzero()[:, 0].tolist()
        sizes = [1.0] * nodes + [row[3] for row in rows]
        joined, *others = roots or [0]
        total = sizes[joined] if roots else 0.0
        for number, root in enumerate(others):
            total += sizes[root]
            rows.append([float(min(joined, root)), float(max(joined, root)), 2.0, total])
            joined = nodes + done + number
        return np.array(rows, dtype=np.float64).reshape(-1, 4)

    # -- places in the order --------------------------------------------------------------------------------------

    @cached_property
    def _children(self) -> Tensor:
        """(2, F) int64 what the two parts of a merge are: vertex v is v, the community made by merge k is V + k."""
        count = self.num_merges
        if not count:
            return self.first
        key = self.first * count + torch.arange(count)  # by smallest vertex, then by merge
        made = torch.sort(key[0]).values
        before = torch.searchsorted(made, key) - 1
        latest = made[before.clamp(min=0)]
        return torch.where((before >= 0) & (latest // count == self.first), self.num_nodes + latest % count, self.first)

    @cached_property
    def _steps(self) -> Tensor:
        """(F,) int64 negated weights in steps of the grid, ascending."""
        return -(self.weight / GRID).round().long()

    def _merges(self, thresholds: Thresholds) -> Tensor:
        """How many merges are done at each threshold: int64 of the shape of ``thresholds``."""
        wanted = -(_as_tensor(thresholds) / GRID).round().long()
        return torch.searchsorted(self._steps, wanted, right=True)

    def _representatives(self, retention: float) -> Tensor:
        """(F + 1,) int64 representatives after 0, 1, … F merges."""
        check_number("retention", retention, above=0, at_most=1)
        older, younger = ceil_shares(retention, self.part)
        return _totals(self.num_nodes, ceil_shares(retention, self.part.sum(0)) - older - younger)


def merge_tree(graph: SpatioTemporalGraph) -> MergeTree:
    """The merge tree of a graph of any number of videos, on the CPU, in O(E log E)."""
    steps = (graph.edge_weight.cpu().double() / GRID).floor()
    order = stable_argsort(-steps.long())
    edges = take(graph.edge_index.cpu(), order)
    if active() == "fused":
        from ..kernels import fused

        edge, *merged = fused.merge_forest(graph.num_nodes, edges)
    else:
        edge, *merged = merge_forest(graph.num_nodes, edges)
    return MergeTree(take(edges, edge), take(steps, take(order, edge)) * GRID, *merged)


def merge_forest(num_nodes: int, edge_index: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The spanning forest of F edges that uses the earliest edges, and what it merges.

    Args:
        num_nodes: V.
        edge_index: (2, E) int64, in the order in which they are to merge.

    Returns:
        (F,) int64 places of its edges, ascending; and ``first``, ``part``, ``leaves`` and ``joined`` of the
        :class:`MergeTree`.
    """
    left, right = edge_index.numpy()
    forest = _spanning_forest(left, right, num_nodes)
    merged = _merge(left[forest].tolist(), right[forest].tolist(), num_nodes)
    edge, first, part, leaves, joined = map(torch.from_numpy, (forest, *merged))
    return edge, first, part, leaves, joined


def _spanning_forest(left: IntArray, right: IntArray, num_nodes: int) -> IntArray:
    """Places of the edges of the spanning forest that uses the earliest edges, ascending."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import minimum_spanning_tree

    if not len(left):
        return np.empty(0, dtype=np.int64)
    # All costs differ, so that there is one best forest, and none is 0, which scipy takes for no edge.
    cost = np.arange(1, len(left) + 1, dtype=np.float64)
    costs = coo_array((cost, (left, right)), shape=(num_nodes, num_nodes))
    costs.has_canonical_format = True  # leaves parallel edges apart, which it would add up
    tree = minimum_spanning_tree(costs.tocsr(), overwrite=True)
    return np.sort(tree.data).astype(np.int64) - 1


def _merge(left: list[int], right: list[int], num_nodes: int) -> tuple[IntArray, IntArray, IntArray, IntArray]:
    """Union-find along the edges of a forest; what :class:`MergeTree` says of merges and leaves."""
    above = list(range(num_nodes))  # another vertex of the same community; the smallest one stands above itself
    last = list(range(num_nodes))  # for a smallest vertex: the last leaf of its community
    after = [-1] * num_nodes  # the next leaf
    older, younger, ends = [], [], []
    for a, b in zip(left, right, strict=True):
        while above[a] != a:
            above[a] = a = above[above[a]]
        while above[b] != b:
            above[b] = b = above[above[b]]
        if a > b:
            a, b = b, a
        above[b] = a
        after[last[a]] = b
        last[a] = end = last[b]
        older.append(a)
        younger.append(b)
        ends.append(end)
    first = np.array([older, younger], dtype=np.int64)
    joined = np.full(num_nodes, len(ends), dtype=np.int64)
    joined[first[1]] = np.arange(len(ends))
    leaves = []
    for vertex in np.flatnonzero(joined == len(ends)).tolist():
        while vertex >= 0:
            leaves.append(vertex)
            vertex = after[vertex]
    order = np.array(leaves, dtype=np.int64)
    place = np.empty_like(order)
    place[order] = np.arange(num_nodes)
    begin, middle = place[first]
    stop = place[np.array(ends, dtype=np.int64)] + 1
    return first, np.stack([middle - begin, stop - middle]), order, joined[order]


def _totals(start: int, change: Tensor) -> Tensor:
    """(F + 1,) ``start`` and what it has become after each change."""
    return torch.cat([change.new_tensor([start]), start + torch.cumsum(change, 0)])


def _as_tensor(thresholds: Thresholds) -> Tensor:
    values = torch.as_tensor(thresholds, dtype=torch.float64).cpu()
    if not bool(values.isfinite().all()):
        raise StgraphError("thresholds must be finite numbers")
    return values
