"""SpatioTemporalGraph: tokens as vertices, neighbourhood in space and time as edges, cosine similarity as weight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .. import kernels
from ..errors import StgraphError, check_number
from ..late_binding import above
from ..tokens import VideoTokens, check_finite, raster_keys
from .edges import SPATIAL, TEMPORAL, Cosines, EdgeBuilder, Offset, SpatialEdges, TemporalEdges, first_of_each

if TYPE_CHECKING:
    from scipy.sparse import csr_array

    from ..selectors.selection import Selection


@dataclass(frozen=True, eq=False)
class SpatioTemporalGraph:
    """The sparse spatiotemporal graph of one or many videos (paper, design 1), in PyTorch Geometric's layout.

    V vertices, E < 3V edges by default. Vertices keep the order of their tokens; edges join vertices of one video, each
    pair at most once, and are grouped by video.

    Attributes:
        edge_index: (2, E) int64 vertices, the earlier, upper or left one first.
        edge_weight: (E,) float32 cosine similarity, 0 where an end is a zero vector.
        edge_kind: (E,) uint8, :data:`~stgraph.graph.edges.SPATIAL` or :data:`~stgraph.graph.edges.TEMPORAL`.
        coords: (V, 3) int64 (frame, row, column).
        batch: (V,) int64 video of each vertex, non-decreasing.
        num_videos: how many videos, some of which may have no vertex.
        features: (N, d) features of the tokens, shared with the :class:`~stgraph.tokens.VideoTokens`.
        token: (V,) int64 token of each vertex: 0 to N − 1 unless separators were left out.
        norm: (V,) float64 Euclidean norm of each vertex's features.
    """

    edge_index: Tensor
    edge_weight: Tensor
    edge_kind: Tensor
    coords: Tensor
    batch: Tensor
    num_videos: int
    features: Tensor
    token: Tensor
    norm: Tensor

    @property
    def num_nodes(self) -> int:
        """Number of vertices V."""
        return len(self.token)

    @property
    def num_edges(self) -> int:
        """Number of edges E."""
        return self.edge_index.shape[1]

    def __repr__(self) -> str:
        spatial = int((self.edge_kind == SPATIAL).sum())
        return (
            f"SpatioTemporalGraph({self.num_nodes} vertices, {spatial} spatial + {self.num_edges - spatial} temporal "
            f"edges, {self.num_videos} video{'s' if self.num_videos != 1 else ''})"
        )

    def _repr_html_(self) -> str:
        return str(above("graph_card")(self))

    def take_edges(self, mask: Tensor) -> SpatioTemporalGraph:
        """The same vertices with only the edges where ``mask`` (E,) bool is True."""
        places = kernels.places(mask)
        return replace(
            self,
            edge_index=kernels.take(self.edge_index, places),
            edge_weight=kernels.take(self.edge_weight, places),
            edge_kind=kernels.take(self.edge_kind, places),
        )

    def prune(self, similarity_threshold: float) -> SpatioTemporalGraph:
        """G′ of the paper: edges with a weight strictly below τ_sim are dropped, equal ones stay."""
        check_number("similarity_threshold", similarity_threshold, at_least=-1, at_most=1)
        return self.take_edges(self.edge_weight >= snap_threshold(similarity_threshold))

    def video(self, index: int) -> SpatioTemporalGraph:
        """The graph of one video of the batch."""
        if self.num_videos == 1 and index == 0:
            return self
        bounds = torch.tensor([index, index + 1], device=self.batch.device)
        first, last = torch.searchsorted(self.batch, bounds).tolist()
        edges = torch.searchsorted(self.batch[self.edge_index[0]], bounds).tolist()
        rows, columns = slice(first, last), slice(*edges)
        return replace(
            self,
            edge_index=self.edge_index[:, columns] - first,
            edge_weight=self.edge_weight[columns],
            edge_kind=self.edge_kind[columns],
            coords=self.coords[rows],
            batch=self.batch[rows] - index,
            num_videos=1,
            token=self.token[rows],
            norm=self.norm[rows],
        )

    def pairs(self, offset: Offset) -> Tensor:
        """All vertex pairs that lie (frames, rows, columns) apart, whether joined by an edge or not.

        Args:
            offset: from the first vertex of each pair to the second; frames ≥ 0.

        Returns:
            (2, P) int64 vertices, ascending in the first.
        """
        if not self.num_nodes:
            return self.edge_index.new_empty((2, 0))
        key, wanted = raster_keys(self.coords, self.batch, offset)
        place = torch.searchsorted(key, wanted).clamp_(max=self.num_nodes - 1)
        first = (key[place] == wanted).nonzero()[:, 0]
        return torch.stack([first, place[first]])

    def similarity(self, pairs: Tensor) -> Tensor:
        """Cosine similarity of any (2, P) int64 pairs of vertices: (P,) float32."""
        self._require_features("similarity")
        return kernels.edge_cosine(self.features, self.norm, self.token, pairs)

    def centrality(self, labels: Tensor, sizes: Tensor) -> Tensor:
        """Mean similarity S_c of every vertex to the others of its community: (V,) float32, 0 for a community of one.

        Args:
            labels: (V,) int64 communities.
            sizes: (m,) int64 their sizes.
        """
        self._require_features("centrality")
        return kernels.community_centrality(self.features, self.norm, self.token, labels, sizes)

    def take_features(self) -> Tensor:
        """(V, d) features of the vertices: the very tensor of the tokens where every token is a vertex, else a copy."""
        return self.features if len(self.features) == self.num_nodes else self.features[self.token]

    # -- exchange with other libraries, see exports ---------------------------------------------------------

    def to_scipy(self, *, symmetric: bool = False) -> csr_array:
        """(V, V) CSR matrix of the edge weights, upper-triangular or symmetric; explicit zeros are kept."""
        from . import exports

        return exports.to_scipy(self, symmetric=symmetric)

    def to_pyg(self) -> Any:
        """A :class:`torch_geometric.data.Data` that shares all tensors of this graph."""
        from . import exports

        return exports.to_pyg(self)

    @staticmethod
    def from_pyg(data: Any) -> SpatioTemporalGraph:
        """Any undirected weighted :class:`torch_geometric.data.Data` as a graph to analyse."""
        from . import exports

        return SpatioTemporalGraph(**exports.from_pyg(data))

    def to_networkx(self, selection: Selection | None = None) -> Any:
        """An undirected :class:`networkx.Graph` with positions, kinds and weights, and what a selection says."""
        from . import exports

        return exports.to_networkx(self, selection)

    def to_igraph(self) -> Any:
        """An undirected :class:`igraph.Graph` with positions, kinds and weights."""
        from . import exports

        return exports.to_igraph(self)

    def to_cugraph(self, handle: Any = None) -> Any:
        """A symmetric :class:`pylibcugraph.SGGraph` on the GPU."""
        from . import exports

        return exports.to_cugraph(self, handle)

    def to_graphml(self, path: str | Path, selection: Selection | None = None) -> None:
        """Write a GraphML file, as Gephi, Cytoscape and yEd read it.

        With a selection of its tokens, Gephi opens it to a picture: places, colours, communities, verdicts, events.
        """
        from . import exports

        exports.to_graphml(self, path, selection)

    def _require_features(self, needed_by: str) -> None:
        if not self.features.shape[1]:
            raise StgraphError(
                f"{needed_by} needs features, but this graph was imported without them; set data.x before the import"
            )


def snap_threshold(threshold: float) -> float:
    """A threshold in the steps of the edge weights, see :func:`stgraph.kernels.snap_cosine`."""
    return round(threshold / kernels.GRID) * kernels.GRID


def build_graph(
    tokens: VideoTokens,
    edges: Sequence[EdgeBuilder] = (SpatialEdges(), TemporalEdges()),
    *,
    separators_as_vertices: bool = False,
) -> SpatioTemporalGraph:
    """The spatiotemporal graph of ``tokens``: linear in their number, one pass over the features of a dense grid.

    Args:
        tokens: one or many videos.
        edges: what is joined; the paper's E_S ∪ E_T by default.
        separators_as_vertices: separators take part as vertices one column right of the grid (or one row below or
            above), as in the authors' release; by default they are left out.

    Raises:
        StgraphError: features that are NaN or Inf, naming the video and the frame.
    """
    if tokens.features.requires_grad:
        tokens = tokens.with_features(tokens.features.detach())
    joined = [(builder.kind, offset) for builder in edges for offset in builder.offsets]
    offsets = [offset for _, offset in joined]
    token = torch.arange(len(tokens), device=tokens.device)
    if not separators_as_vertices and bool(tokens.separator.any()):
        token = token[~tokens.separator]
    coords, batch = tokens.coords[token], tokens.batch[token]
    starts = torch.searchsorted(batch, torch.arange(tokens.num_videos + 1, device=tokens.device)).tolist()
    indices, weights, kinds = [], [], []
    norm = torch.empty(len(token), dtype=torch.float64, device=tokens.device)
    for video, grid in enumerate(tokens.grids):
        rows = slice(starts[video], starts[video + 1])
        lattice = tokens.lattice(video, with_separators=separators_as_vertices)
        cosines: Cosines
        if lattice is not None:
            vertices = torch.arange(rows.start, rows.stop, device=tokens.device).view(lattice.shape[:3])
            lattice_norm, weights_at = kernels.lattice_cosine(lattice, offsets)
            norm[rows] = lattice_norm.flatten()
            cosines = partial(_lattice_cosines, lattice)
        else:
            margin = int(separators_as_vertices)
            above = int(bool((coords[rows, 1] < 0).any()))
            size = (grid.frames, above + grid.height + margin, grid.width + margin)
            vertices = torch.full(size, -1, device=tokens.device)
            frame, row, column = coords[rows].T
            vertices[frame, row + above, column] = torch.arange(rows.start, rows.stop, device=tokens.device)
            norm[rows] = kernels.norms(tokens.features, token[rows])
            cosines = partial(_sparse_cosines, tokens.features, norm, token, vertices)
            weights_at = cosines(offsets)
        found = [
            (kind, torch.stack([end.flatten() for end in kernels.edge_ends(vertices, offset)]), weight.flatten())
            for (kind, offset), weight in zip(joined, weights_at, strict=True)
        ]
        found += [(b.kind, *match) for b in edges if (match := b.match(vertices, cosines)) is not None]
        for kind, index, weight in found:
            if lattice is None:
                present = weight > -torch.inf
                index, weight = index[:, present], weight[present]
            indices.append(index)
            weights.append(weight)
            kinds.append(torch.full(weight.shape, kind, dtype=torch.uint8, device=tokens.device))
    check_finite(norm, coords, batch)
    empty = torch.empty((2, 0), dtype=torch.int64, device=tokens.device)
    graph = SpatioTemporalGraph(
        edge_index=torch.cat([empty, *indices], 1),
        edge_weight=torch.cat([norm.new_empty(0, dtype=torch.float32), *weights]),
        edge_kind=torch.cat([token.new_empty(0, dtype=torch.uint8), *kinds]),
        coords=coords,
        batch=batch,
        num_videos=tokens.num_videos,
        features=tokens.features,
        token=token,
        norm=norm,
    )
    overlap = len({builder.kind for builder in edges}) < len(edges)  # only then may two of them find the same pair
    return graph.take_edges(first_of_each(graph.edge_index, graph.num_nodes)) if overlap else graph


def _lattice_cosines(lattice: Tensor, offsets: Sequence[Offset]) -> list[Tensor]:
    return kernels.lattice_cosine(lattice, offsets)[1]


def _sparse_cosines(
    features: Tensor, norm: Tensor, token: Tensor, vertices: Tensor, offsets: Sequence[Offset]
) -> list[Tensor]:
    """What :func:`_lattice_cosines` gives, −∞ where an end is missing."""
    found = []
    for offset in offsets:
        ends = torch.stack(kernels.edge_ends(vertices, offset))
        present = (ends >= 0).all(0)
        cosine = torch.full(present.shape, -torch.inf, dtype=torch.float32, device=vertices.device)
        cosine[present] = kernels.edge_cosine(features, norm, token, ends[:, present])
        found.append(cosine)
    return found


__all__ = ["SPATIAL", "TEMPORAL", "SpatioTemporalGraph", "build_graph", "snap_threshold"]
