"""Leiden: Louvain with a refinement that keeps every community connected."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from ..errors import StgraphError, check_choice, check_number
from ..graph import SpatioTemporalGraph
from ..optional import require
from .base import CommunityDetector, check_seed
from .edge_list import edge_list
from .igraph_backend import igraph_graph, seeded

RESOLUTION = {"modularity": 1.0, "cpm": 0.05}
"""Where none is given. A cosine is at most 1, so at resolution 1 the Potts model would leave every token alone."""


@dataclass(frozen=True)
class Leiden(CommunityDetector):
    """Leiden (Traag, Waltman and van Eck, 2019): the paper's second alternative to components.

    Like Louvain, but communities are refined before they become vertices, so that each stays connected. Deterministic
    under the seed with igraph and leidenalg; cuGraph's sums in parallel and promises no repeatability. Zero weights
    count as no edge. Negative weights are refused for modularity and taken as repulsion by the constant Potts model.

    Attributes:
        objective: ``"modularity"``, or ``"cpm"``, the constant Potts model: Σ_c (weight inside − γ · pairs inside),
            which has no resolution limit, so the communities of a long video are those of its parts.
        resolution: γ > 0; larger gives more and smaller communities. None: 1 for modularity, 0.05 for the Potts model.
        max_size: vertices that a community may have, or None for no limit; needs the backend leidenalg.
        iterations: passes over the graph; −1 continues until nothing changes.
        backend: ``"igraph"`` (fastest on a CPU), ``"leidenalg"``, ``"cugraph"`` (NVIDIA GPU; modularity only, and its
            own number of iterations).
        seed: of the order in which vertices are visited and of the refinement.
    """

    objective: Literal["modularity", "cpm"] = "modularity"
    resolution: float | None = None
    max_size: int | None = None
    iterations: int = 2
    backend: Literal["igraph", "leidenalg", "cugraph"] = "igraph"
    seed: int = 0

    def __post_init__(self) -> None:
        check_choice("objective", self.objective, ("modularity", "cpm"))
        check_leiden(self.resolution, self.max_size, self.iterations)
        check_choice("backend", self.backend, ("igraph", "leidenalg", "cugraph"))
        check_seed(self.seed)
        if self.max_size is not None and self.backend != "leidenalg":
            raise StgraphError(
                f"max_size needs backend='leidenalg', got backend={self.backend!r}; leave one of them out"
            )
        if self.objective == "cpm" and self.backend == "cugraph":
            raise StgraphError(
                "backend 'cugraph' has only objective='modularity'; use 'igraph' or 'leidenalg' for 'cpm'"
            )

    def detect(self, graph: SpatioTemporalGraph) -> Tensor:
        """(V,) community of each vertex."""
        resolution = RESOLUTION[self.objective] if self.resolution is None else self.resolution
        if self.backend == "cugraph":
            from . import cugraph_backend

            return cugraph_backend.leiden(graph, resolution, self.seed)
        edges = edge_list(graph, "leiden with objective='modularity'", negative=self.objective == "cpm")
        ig = igraph_graph(edges, "leiden")
        weight = edges.weight.tolist()
        if self.backend == "igraph":
            objective = {"modularity": "modularity", "cpm": "CPM"}[self.objective]
            with seeded(self.seed):
                found = ig.community_leiden(objective, weight, resolution, n_iterations=self.iterations)
        else:
            leidenalg = require("leidenalg", extra="graph", needed_by="leiden with backend='leidenalg'")
            found = quality(leidenalg, self.objective)(ig, weights=weight, resolution_parameter=resolution)
            optimiser(leidenalg, self.max_size, self.seed).optimise_partition(found, n_iterations=self.iterations)
        return torch.tensor(found.membership, dtype=torch.int64)


def quality(leidenalg: Any, objective: str) -> Any:
    """leidenalg's class of an objective."""
    return {"modularity": leidenalg.RBConfigurationVertexPartition, "cpm": leidenalg.CPMVertexPartition}[objective]


def optimiser(leidenalg: Any, max_size: int | None, seed: int) -> Any:
    """leidenalg's optimiser, seeded, in which a maximum size is a bound."""
    result = leidenalg.Optimiser()
    result.set_rng_seed(seed)
    if max_size is not None:
        result.max_comm_size = max_size
        # From version 0.12 on max_size is a soft limit. A penalty above any gain in quality makes it a hard one.
        result.community_constraint_enforcement = 1e9
    return result


def check_leiden(resolution: float | None, max_size: int | None, iterations: int) -> None:
    """Raise :class:`~stgraph.errors.StgraphError` for a parameter out of its range."""
    if resolution is not None:
        check_number("resolution", resolution, above=0)
    if max_size is not None:
        check_number("max_size", max_size, at_least=1, integer=True)
    check_number("iterations", iterations, at_least=-1, integer=True)
    if iterations == 0:
        raise StgraphError("iterations must be at least 1, or -1 to continue until nothing changes, got 0")
