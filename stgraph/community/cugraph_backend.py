"""Community detection on NVIDIA GPUs by pylibcugraph, the thin layer over the C library: CUDA tensors in and out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..errors import StgraphError
from ..graph import SpatioTemporalGraph
from ..optional import require
from .edge_list import refuse_negative

_LEVELS = 100
"""Aggregation levels at most; cuGraph stops by itself long before."""


def components(graph: SpatioTemporalGraph) -> Tensor:
    """(V,) weakly connected component of each vertex."""

    def run(library: Any, handle: Any, device_graph: Any) -> tuple[Any, Any]:
        vertices, labels = library.weakly_connected_components(handle, device_graph, None, None, None, None, False)
        return vertices, labels

    return _detect(graph, "components", run)


def louvain(graph: SpatioTemporalGraph, resolution: float) -> Tensor:
    """(V,) Louvain community of each vertex. cuGraph's Louvain takes no seed and may differ from run to run."""
    refuse_negative(int((graph.edge_weight < 0).sum()), "louvain")

    def run(library: Any, handle: Any, device_graph: Any) -> tuple[Any, Any]:
        vertices, labels, _ = library.louvain(handle, device_graph, _LEVELS, 1e-7, resolution, False)
        return vertices, labels

    return _detect(graph, "louvain", run)


def leiden(graph: SpatioTemporalGraph, resolution: float, seed: int) -> Tensor:
    """(V,) Leiden community of each vertex. Seeded, but sums in parallel: runs may differ where gains are equal."""
    refuse_negative(int((graph.edge_weight < 0).sum()), "leiden")

    def run(library: Any, handle: Any, device_graph: Any) -> tuple[Any, Any]:
        vertices, labels, _ = library.leiden(handle, seed, device_graph, _LEVELS, resolution, 1.0, False)
        return vertices, labels

    return _detect(graph, "leiden", run)


def _detect(graph: SpatioTemporalGraph, method: str, run: Callable[[Any, Any, Any], tuple[Any, Any]]) -> Tensor:
    needed_by = f"{method} with backend='cugraph'"
    library = require("pylibcugraph", extra="cugraph", needed_by=needed_by)
    cupy = require("cupy", extra="cugraph", needed_by=needed_by)
    # On a machine without a GPU both imports and the handle still succeed. Only the device count shows it.
    try:
        devices = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError:
        devices = 0
    if not devices:
        raise StgraphError(f"{needed_by} needs an NVIDIA GPU and this machine has none; use another backend")

    home = graph.token.device
    labels = torch.arange(graph.num_nodes, device=home)  # a vertex that cuGraph does not return has no edge
    keep = graph.edge_index[0] != graph.edge_index[1]
    if method != "components":
        keep &= graph.edge_weight != 0
    if not bool(keep.any()):
        return labels
    pairs, weight = graph.edge_index[:, keep].to("cuda"), graph.edge_weight[keep].to("cuda")
    both = torch.cat([pairs, pairs.flip(0)], 1)  # cuGraph stores an undirected edge in both directions
    handle = library.ResourceHandle()
    device_graph = library.SGGraph(
        handle,
        library.GraphProperties(is_symmetric=True, is_multigraph=False),
        cupy.asarray(both[0]),  # CUDA tensors are not copied
        cupy.asarray(both[1]),
        weight_array=cupy.asarray(weight.repeat(2)),
        store_transposed=False,
        renumber=True,
        do_expensive_check=False,
    )
    vertices, found = run(library, handle, device_graph)
    vertices, found = (torch.as_tensor(array, device="cuda").to(home, torch.int64) for array in (vertices, found))
    # cuGraph leaves out vertices without an edge; they keep their own numbers. Communities are numbered above these.
    return labels.index_copy(0, vertices, found + graph.num_nodes)
