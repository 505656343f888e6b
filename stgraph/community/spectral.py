"""Spectral clustering inside every connected component."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import csr_array
from torch import Tensor

from ..errors import StgraphError, check_number
from ..graph import SpatioTemporalGraph
from .base import CommunityDetector, check_seed
from .edge_list import edge_list

_DENSE = 400
"""Vertices up to which a dense eigendecomposition is the faster one."""


@dataclass(frozen=True)
class Spectral(CommunityDetector):
    """Spectral clustering (Ng, Jordan and Weiss, 2001), component by component.

    The vertices of a component are embedded by the smallest eigenvectors of its normalised Laplacian I − D^−½ A D^−½,
    and grouped by the pivoted QR factorisation of that embedding (Damle, Minden and Ying, 2019), which takes the
    place of k-means: it needs no restarts and no randomness. Communities never span components. Deterministic under
    the seed, which starts the eigensolver. Negative weights are refused, zero weights count as no edge.

    The price is the eigensolver: it needs ever more rounds as components grow, so components above ``max_vertices`` are
    refused with the estimate.

    Attributes:
        clusters: ``"eigengap"`` splits each component where its Laplacian's spectrum has the widest gap; a number is
            shared among the components by their size, at least one each.
        max_clusters: communities of one component at most, for the eigengap.
        max_vertices: size of the largest component that is taken on.
        seed: of the eigensolver's first vector.
    """

    clusters: int | Literal["eigengap"] = "eigengap"
    max_clusters: int = 16
    max_vertices: int = 20_000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.clusters != "eigengap":
            check_number("clusters", self.clusters, at_least=1, integer=True)
        check_number("max_clusters", self.max_clusters, at_least=1, integer=True)
        check_number("max_vertices", self.max_vertices, at_least=1, integer=True)
        check_seed(self.seed)

    def detect(self, graph: SpatioTemporalGraph) -> Tensor:
        """(V,) community of each vertex."""
        from scipy.sparse.csgraph import connected_components

        adjacency = edge_list(graph, "spectral").matrix()
        count, component = connected_components(adjacency, directed=False)
        sizes = np.bincount(component, minlength=count)
        members = np.split(np.argsort(component, kind="stable"), np.cumsum(sizes))[:count]
        wanted = np.full(count, self.max_clusters)
        if self.clusters != "eigengap":
            wanted = np.maximum(np.rint(self.clusters * sizes / max(graph.num_nodes, 1)).astype(int), 1)
        wanted = np.minimum(wanted, sizes)
        self._refuse(sizes, wanted)
        labels = np.zeros(graph.num_nodes, dtype=np.int64)
        used = 0
        for rows, most in zip(members, wanted.tolist(), strict=True):
            if most > 1 and len(rows) > 2:
                labels[rows] = used + self._split(adjacency[rows][:, rows], most)
            else:
                labels[rows] = used
            used += most
        return torch.from_numpy(labels)

    def _refuse(self, sizes: npt.NDArray[np.int64], wanted: npt.NDArray[np.int64]) -> None:
        if sizes.max(initial=0) > self.max_vertices:
            n, k = int(sizes.max()), int(wanted[sizes.argmax()])
            # ARPACK holds 2k + 1 vectors and copies k; its rounds grow with the size (measured on token lattices).
            memory, seconds = 8 * n * (3 * k + 1) / 2**20, 2.5 * (n / 12_000) ** 1.7 * (k / 16)
            raise StgraphError(
                f"spectral would need about {memory:.0f} MiB and {seconds:.0f} s for a component of {n} vertices, more "
                f"than its max_vertices of {self.max_vertices}; raise it, prune further or use leiden"
            )

    def _split(self, adjacency: csr_array, most: int) -> npt.NDArray[np.int64]:
        """(n,) cluster of each vertex of a connected graph, 0 to ``most`` − 1."""
        values, vectors = self._spectrum(adjacency, min(most + 1, adjacency.shape[0]))
        if self.clusters == "eigengap":
            most = int(np.diff(values)[:most].argmax()) + 1
        return _group(vectors[:, :most])

    def _spectrum(self, adjacency: csr_array, count: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """The ``count`` smallest eigenvalues of the normalised Laplacian L, ascending, and their vectors (n, count)."""
        from scipy.linalg import eigh
        from scipy.sparse import diags_array, eye_array
        from scipy.sparse.linalg import eigsh

        n = adjacency.shape[0]
        scale = diags_array(1 / np.sqrt(adjacency.sum(1)))
        opposite = (
            eye_array(n) + scale @ adjacency @ scale
        )  # ARPACK finds the largest eigenvalues faster, so 2I − L is used in place of L
        if n <= max(_DENSE, 2 * count):
            values, vectors = eigh(opposite.toarray(), subset_by_index=(n - count, n - 1))
        else:
            start = np.random.default_rng(self.seed).uniform(0.5, 1.5, n)
            values, vectors = eigsh(opposite, k=count, which="LA", v0=start, tol=1e-5)
            vectors = vectors[:, np.argsort(values)]
            values = np.sort(values)
        return 2 - values[::-1], vectors[:, ::-1]


def _group(embedding: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """(n,) cluster of each row of an (n, k) orthonormal embedding, by pivoted QR.

    The pivots are k rows that point in directions as different as possible, one of each cluster; a rotation turns
    them onto the axes, and every row belongs to the axis that it is nearest to.
    """
    from scipy.linalg import qr, svd

    k = embedding.shape[1]
    pivots = qr(embedding.T, mode="r", pivoting=True)[1][:k]
    left, _, right = svd(embedding[pivots].T)
    labels: npt.NDArray[np.int64] = np.abs(embedding @ left @ right).argmax(1)
    return labels
