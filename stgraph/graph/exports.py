"""Exchange with other graph libraries: PyTorch Geometric, networkx, igraph, scipy, cuGraph, GraphML.

Every export carries the same words. A vertex has ``video``, ``frame``, ``row`` and ``column``, an edge has ``weight``
(cosine similarity) and ``kind`` (spatial or temporal). For networkx and GraphML a vertex also has ``x`` and ``y``, with
the frames side by side, and, where a selection is given, its community, verdict and colour. Vertex i of the graph is
vertex i everywhere. Libraries are imported when asked for.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .. import kernels
from ..errors import StgraphError
from ..late_binding import above
from ..optional import require
from ..tokens import FEATURE_DTYPES, check_finite
from .edges import SPATIAL, TEMPORAL, first_of_each

if TYPE_CHECKING:
    from scipy.sparse import csr_array

    from ..selectors.selection import Selection
    from .spatiotemporal import SpatioTemporalGraph

KINDS = {SPATIAL: "spatial", TEMPORAL: "temporal"}
"""Names of the values of ``edge_kind``."""


def to_scipy(graph: SpatioTemporalGraph, *, symmetric: bool = False) -> csr_array:
    """(V, V) CSR matrix of the edge weights: upper-triangular, or with every edge in both directions.

    Explicit zeros are kept: an edge between dissimilar vertices is still an edge.
    """
    from scipy.sparse import coo_array

    pairs, weight = _both_directions(graph) if symmetric else (graph.edge_index, graph.edge_weight)
    ends, weights = pairs.cpu().numpy(), weight.cpu().numpy()
    return coo_array((weights, (ends[0], ends[1])), shape=(graph.num_nodes, graph.num_nodes)).tocsr()


def to_pyg(graph: SpatioTemporalGraph) -> Any:
    """A :class:`torch_geometric.data.Data` on the same tensors.

    ``x`` (V, d) features, ``edge_index`` (2, E), ``edge_weight`` (E,), ``edge_kind`` (E,), ``pos`` (V, 3) whole numbers
    (frame, row, column), ``batch`` (V,) and ``num_videos``. Nothing is copied, unless tokens that are no vertices
    (separators) have to be left out of the features. Every edge is there once, the earlier vertex first; networks that
    pass messages both ways want ``torch_geometric.transforms.ToUndirected()(data)``.

    Raises:
        StgraphError: torch_geometric is not installed.
    """
    data = require("torch_geometric", extra="graph", needed_by="to_pyg").data.Data(
        x=graph.take_features(),
        edge_index=graph.edge_index,
        edge_weight=graph.edge_weight,
        edge_kind=graph.edge_kind,
        pos=graph.coords,
        batch=graph.batch,
    )
    data.num_videos = graph.num_videos
    return data


def from_pyg(data: Any) -> dict[str, Any]:
    """The fields of a graph from :class:`torch_geometric.data.Data` or ``Batch``, whatever made it.

    Weights are ``edge_weight``, else ``weight`` (what ``torch_geometric.utils.from_networkx`` and ``from_scipy`` make),
    else an ``edge_attr`` of one column, else 1. Places are ``pos``, else the ``frame``, ``row`` and ``column`` of our
    own exports, else the vertices of a video are one row of one frame. Videos are ``batch``, else ``video``, else one.
    What else is missing has a default: ``edge_kind`` is
    temporal between frames and spatial within; without ``x`` there are no features, so that communities can be found
    but similarity and centrality cannot be computed.

    The result is undirected: every pair is kept once, the smaller vertex first, whether it came in one direction or in
    both. Edges are sorted by video and keep their order otherwise. Weights are rounded to :data:`stgraph.kernels.GRID`,
    as all weights are, so that thresholds compare exactly.

    Raises:
        StgraphError: self-loops, edges between videos, vertices out of order, two weights for one pair, values that are
            not finite, or shapes that do not fit.
    """
    index = _tensor(data, "edge_index")
    if index is None or index.ndim != 2 or index.shape[0] != 2 or index.dtype != torch.int64:
        raise StgraphError("from_pyg needs data.edge_index of shape (2, E) in int64")
    nodes, device = int(data.num_nodes or 0), index.device
    if index.numel() and not 0 <= int(index.min()) <= int(index.max()) < nodes:
        raise StgraphError(f"data.edge_index names vertices outside 0 to {nodes - 1}; set data.num_nodes")
    if bool((index[0] == index[1]).any()):
        raise StgraphError(
            "data.edge_index holds self-loops, which a similarity graph cannot have; "
            "drop them with torch_geometric.utils.remove_self_loops"
        )
    batch = _first(data, ("batch", "video"), (nodes,))
    batch = torch.zeros(nodes, dtype=torch.int64, device=device) if batch is None else batch.long()
    coords = _positions(data, batch)
    edge_index, edge_weight, edge_kind = _simple_edges(data, index.sort(0).values, coords, batch)
    features = _tensor(data, "x")
    if features is not None and features.ndim == 1 and _has_places(data):
        features = None  # in our own exports x and y are where a vertex is drawn
    if features is None:
        features = torch.empty(nodes, 0, dtype=torch.float32, device=device)
    if features.ndim != 2 or len(features) != nodes or not features.is_floating_point():
        got = f"{tuple(features.shape)} {features.dtype}"
        raise StgraphError(f"data.x must be ({nodes}, d) floating-point numbers, got {got}")
    features = features.detach() if features.dtype in FEATURE_DTYPES else features.detach().float()
    token = torch.arange(nodes, device=device)
    known = torch.as_tensor(getattr(data, "num_videos", 1)).sum()  # a Batch holds one number for each of its parts
    norm = torch.zeros(nodes, dtype=torch.float64, device=device)
    if features.shape[1]:
        norm = kernels.norms(features, token)
    check_finite(norm, coords, batch)
    return dict(
        edge_index=edge_index,
        edge_weight=edge_weight,
        edge_kind=edge_kind,
        coords=coords,
        batch=batch,
        num_videos=max(int(known), int(batch[-1]) + 1 if nodes else 1),
        features=features,
        token=token,
        norm=norm,
    )


def to_networkx(graph: SpatioTemporalGraph, selection: Selection | None = None) -> Any:
    """An undirected :class:`networkx.Graph`, whose vertices also have a place in a drawing, ``x`` and ``y``.

    With a selection of the graph's tokens, they also have what ``stgraph.viz.columns.selection_columns`` says of it.

    Raises:
        StgraphError: networkx is not installed, or the selection is of other tokens.
    """
    result = require("networkx", extra="graph", needed_by="to_networkx").Graph()
    names: dict[str, list[Any]] = _vertex_columns(graph) | drawing_places(graph)
    if selection is not None and graph.num_nodes:
        names |= above("selection_columns")(graph, selection)
    result.add_nodes_from(
        (vertex, dict(zip(names, values, strict=True)))
        for vertex, values in enumerate(zip(*names.values(), strict=True))
    )
    result.add_edges_from(
        (a, b, {"weight": weight, "kind": KINDS[kind]})
        for a, b, weight, kind in zip(
            *graph.edge_index.tolist(), graph.edge_weight.tolist(), graph.edge_kind.tolist(), strict=True
        )
    )
    return result


def to_igraph(graph: SpatioTemporalGraph) -> Any:
    """An undirected :class:`igraph.Graph`, edges in the same order.

    Raises:
        StgraphError: igraph is not installed.
    """
    return require("igraph", extra="graph", needed_by="to_igraph").Graph(
        n=graph.num_nodes,
        edges=graph.edge_index.T.tolist(),
        vertex_attrs=_vertex_columns(graph),
        edge_attrs={
            "weight": graph.edge_weight.tolist(),
            "kind": [KINDS[kind] for kind in graph.edge_kind.tolist()],
        },
    )


def to_cugraph(graph: SpatioTemporalGraph, handle: Any = None) -> Any:
    """A symmetric :class:`pylibcugraph.SGGraph`: both directions of every edge, isolated vertices too.

    Args:
        graph: on any device; what lies on the GPU is read there.
        handle: a :class:`pylibcugraph.ResourceHandle`, or None for a new one.

    Raises:
        StgraphError: pylibcugraph or cupy is not installed, or there is no GPU.
    """
    library = require("pylibcugraph", extra="cugraph", needed_by="to_cugraph")
    cupy = require("cupy", extra="cugraph", needed_by="to_cugraph")
    if not torch.cuda.is_available():  # importing both succeeds without a GPU
        raise StgraphError("to_cugraph needs an NVIDIA GPU and a CUDA build of torch; this machine lacks one of them")
    pairs, weight = _both_directions(graph)
    return library.SGGraph(
        library.ResourceHandle() if handle is None else handle,
        library.GraphProperties(is_symmetric=True, is_multigraph=False),
        cupy.asarray(pairs[0].cuda()),
        cupy.asarray(pairs[1].cuda()),
        weight_array=cupy.asarray(weight.cuda()),
        store_transposed=False,
        renumber=True,
        do_expensive_check=False,
        vertices_array=cupy.arange(graph.num_nodes, dtype="int64"),
    )


def to_graphml(graph: SpatioTemporalGraph, path: str | Path, selection: Selection | None = None) -> None:
    """Write a GraphML file; ``networkx.read_graphml(path, node_type=int)`` gives the
    vertices and edges of :func:`to_networkx` back.

    Raises:
        StgraphError: networkx is not installed, or the file cannot be written.
    """
    networkx = require("networkx", extra="graph", needed_by="to_graphml")
    try:
        networkx.write_graphml(to_networkx(graph, selection), path)
    except OSError as error:
        raise StgraphError(
            f"{path} cannot be written: {error.strerror}; check the folder and the free space"
        ) from error


def _both_directions(graph: SpatioTemporalGraph) -> tuple[Tensor, Tensor]:
    return torch.cat([graph.edge_index, graph.edge_index.flip(0)], 1), graph.edge_weight.repeat(2)


def _vertex_columns(graph: SpatioTemporalGraph) -> dict[str, list[int]]:
    frame, row, column = graph.coords.T.tolist()
    return {"video": graph.batch.tolist(), "frame": frame, "row": row, "column": column}


def drawing_places(graph: SpatioTemporalGraph) -> dict[str, list[float]]:
    """``x`` and ``y`` of each vertex for programs such as Gephi: frames side by side, videos one below the other."""
    if not graph.num_nodes:
        return {"x": [], "y": []}
    frame, row, column = graph.coords.T
    height, width = int(row.max()) + 1, int(column.max()) + 1
    return {
        "x": (frame * (width + 2) + column).double().tolist(),
        "y": (-(graph.batch * (height + 4) + row)).double().tolist(),
    }


def _tensor(data: Any, name: str, shape: tuple[int, ...] | None = None) -> Tensor | None:
    """An attribute of the data, None where it is missing."""
    value = getattr(data, name, None)
    if value is None:
        return None
    if not isinstance(value, Tensor) or (shape is not None and tuple(value.shape) != shape):
        got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise StgraphError(f"data.{name} must be a tensor{f' of shape {shape}' if shape else ''}, got {got}")
    return value


def _first(data: Any, names: tuple[str, ...], shape: tuple[int, ...] | None = None) -> Tensor | None:
    """The first of some attributes that the data has, or None; of the later ones only tensors are meant."""
    known = [name for name in names if name == names[0] or isinstance(getattr(data, name, None), Tensor)]
    found = (_tensor(data, name, shape) for name in known)
    return next((value for value in found if value is not None), None)


def _has_places(data: Any) -> bool:
    """Whether the data has the places of our own exports."""
    return all(isinstance(getattr(data, name, None), Tensor) for name in ("frame", "row", "column"))


def _positions(data: Any, batch: Tensor) -> Tensor:
    """(V, 3) int64 (frame, row, column), checked to be in raster order within each video."""
    if bool((batch[1:] < batch[:-1]).any()) or (len(batch) and int(batch[0]) < 0):
        raise StgraphError("data.batch must be ascending video numbers from 0; sort the vertices by video")
    position = _tensor(data, "pos")
    if position is None and _has_places(data):
        position = torch.stack([data.frame, data.row, data.column], 1)
    if position is None:
        coords = torch.zeros(len(batch), 3, dtype=torch.int64, device=batch.device)
        coords[:, 2] = torch.arange(len(batch), device=batch.device) - torch.searchsorted(batch, batch)
        return coords
    coords = position.long()
    lowest = coords.new_tensor([0, -1, 0])  # a frame's [CLS] is in row −1
    if tuple(position.shape) != (len(batch), 3) or bool((coords != position).any()) or bool((coords < lowest).any()):
        raise StgraphError(
            f"data.pos must be ({len(batch)}, 3) whole numbers (frame, row, column), got {tuple(position.shape)} "
            f"{position.dtype}; set data.pos = None to leave positions out"
        )
    key = torch.cat([batch[:, None], coords], 1)
    step = key[1:] - key[:-1]
    leading = step.gather(1, (step != 0).long().argmax(1, keepdim=True))  # the first column that changes
    if bool((leading <= 0).any()):
        raise StgraphError("data.pos must be in raster order (frame, row, column) within each video, without repeats")
    return coords


def _simple_edges(data: Any, index: Tensor, coords: Tensor, batch: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Every pair once, sorted by video: (2, E) vertices, (E,) float32 weights and (E,) uint8 kinds."""
    count = index.shape[1]
    weight = _first(data, ("edge_weight", "weight", "edge_attr"))
    if weight is None:
        weight = torch.ones(count, dtype=torch.float32, device=index.device)
    if weight.numel() != count or not bool(weight.isfinite().all()):
        raise StgraphError(
            f"the weights of data (edge_weight, weight or edge_attr) must be {count} finite numbers, one for each "
            f"edge, got {tuple(weight.shape)}; put the similarities into data.edge_weight"
        )
    weight = kernels.snap_cosine(weight.detach().reshape(-1)).float()
    if bool((batch[index[0]] != batch[index[1]]).any()):
        raise StgraphError(
            "data.edge_index joins vertices of different videos; remove these edges, or correct data.batch"
        )
    kind = _tensor(data, "edge_kind", (count,))
    if kind is None:
        kind = torch.where(coords[index[0], 0] == coords[index[1], 0], SPATIAL, TEMPORAL)
    elif bool(((kind != SPATIAL) & (kind != TEMPORAL)).any()):
        raise StgraphError(f"data.edge_kind must be {SPATIAL} (spatial) or {TEMPORAL} (temporal)")
    first = first_of_each(index, len(batch))
    kept = first.nonzero()[:, 0]
    key = index[0] * len(batch) + index[1]
    ordered, order = key[kept].sort()
    twin = kept[order[torch.searchsorted(ordered, key)]]
    differs = (weight != weight[twin]).nonzero()[:, 0]
    if len(differs):
        a, b = index[:, differs[0]].tolist()
        raise StgraphError(
            f"data.edge_index joins vertices {a} and {b} more than once, with different weights; "
            "make it undirected first with torch_geometric.utils.to_undirected(..., reduce='mean')"
        )
    kept = kept[torch.sort(batch[index[0, kept]], stable=True).indices]
    return index[:, kept], weight[kept], kind[kept].to(torch.uint8)
