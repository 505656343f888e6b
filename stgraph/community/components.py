"""Connected components: the paper's default community detector."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Literal

import torch
from torch import Tensor

from .. import kernels
from ..errors import check_choice
from ..graph import SpatioTemporalGraph
from ..graph.lattice import LatticeEdges
from .base import CommunityDetector


@dataclass(frozen=True)
class ConnectedComponents(CommunityDetector):
    """Vertices that are joined by any path of edges form one community (paper, design 2).

    Linear in the number of edges, exact, without a seed, the same on every backend. Weights play no part, so run it
    on a graph pruned at τ_sim.

    Attributes:
        backend: ``"scipy"`` (CPU), ``"torch"`` (where the graph is), ``"cugraph"`` (NVIDIA GPU), or ``"auto"``: the
            fused kernels where they serve, else scipy for a graph on the CPU and torch elsewhere.
    """

    backend: Literal["auto", "scipy", "torch", "cugraph"] = "auto"

    def __post_init__(self) -> None:
        check_choice("backend", self.backend, ("auto", "scipy", "torch", "cugraph"))

    def on_lattice(self) -> Callable[[ModuleType, LatticeEdges, float], tuple[Tensor, Tensor]] | None:
        """:meth:`detect` on whole lattices: kernels, edges and τ_sim become (B·T·H·W,) labels and their sizes.

        None where another backend than the kernels is asked for.
        """
        if self.backend != "auto":
            return None

        def labelled(kernel: ModuleType, edges: LatticeEdges, threshold: float) -> tuple[Tensor, Tensor]:
            weights = [weight.flatten(0, 1) for weight in edges]
            found: tuple[Tensor, Tensor] = kernel.lattice_components(*weights, threshold, edges.before.shape[1])
            return found

        return labelled

    def detect(self, graph: SpatioTemporalGraph) -> Tensor:
        """(V,) component of each vertex."""
        backend: str = self.backend
        if backend == "auto":
            if graph.token.device.type != "cpu":
                backend = "torch"
            else:
                backend = "fused" if kernels.active() == "fused" else "scipy"
        if backend == "fused":
            from ..kernels import fused

            return fused.components(graph.num_nodes, graph.edge_index)
        if backend == "cugraph":
            from . import cugraph_backend

            return cugraph_backend.components(graph)
        if backend == "torch":
            return torch_components(graph.num_nodes, graph.edge_index)
        from scipy.sparse.csgraph import connected_components

        _, labels = connected_components(graph.to_scipy(), directed=False)
        return torch.from_numpy(labels).long()


def torch_components(num_nodes: int, edge_index: Tensor) -> Tensor:
    """Smallest vertex of the component of every vertex: (V,) int64, on the device of the edges.

    Every tree of a forest hangs itself under the smallest tree that it has an edge to, and all paths are shortened to
    one step (pointer jumping), until no edge leaves its tree: a handful of rounds whatever the size.

    Args:
        num_nodes: V.
        edge_index: (2, E) int64.
    """
    root = torch.arange(num_nodes, device=edge_index.device)
    while edge_index.shape[1]:
        ends = root[edge_index]
        edge_index = edge_index[:, ends[0] != ends[1]]
        ends = root[edge_index]
        root.scatter_reduce_(0, ends.amax(0), ends.amin(0), "amin")
        while not torch.equal(above := root[root], root):
            root = above
    return root
