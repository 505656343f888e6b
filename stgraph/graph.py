"""SpatioTemporalGraph: tokens as vertices, neighbourhood in space and time as edges, cosine similarity as weight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from . import kernels
from .edges import SPATIAL, TEMPORAL, EdgeBuilder, Offset, SpatialEdges, TemporalEdges
from .errors import StgraphError, check_number
from .tokens import VideoTokens

if TYPE_CHECKING:
    from scipy.sparse import csr_array


@dataclass(frozen=True, eq=False)
class SpatioTemporalGraph:
    """The sparse spatiotemporal graph of one or many videos (paper, design 1), in PyTorch Geometric's layout.

    V vertices, E < 3V edges by default. Vertices keep the order of their tokens; edges of different videos never mix and
    are grouped by video.

    Attributes:
        edge_index: (2, E) int64 vertices, the earlier, upper or left one first.
        edge_weight: (E,) float32 cosine similarity, 0 where an end is a zero vector.
        edge_kind: (E,) uint8, :data:`~stgraph.edges.SPATIAL` or :data:`~stgraph.edges.TEMPORAL`.
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
            f"SpatioTemporalGraph({self.num_nodes} vertices, {spatial} spatial + {self.num_edges - spatial} temporal edges, "
            f"{self.num_videos} video{'s' if self.num_videos != 1 else ''})"
        )

    def take_edges(self, mask: Tensor) -> SpatioTemporalGraph:
        """The same vertices with only the edges where ``mask`` (E,) bool is True."""
        return replace(
            self,
            edge_index=self.edge_index[:, mask],
            edge_weight=self.edge_weight[mask],
            edge_kind=self.edge_kind[mask],
        )

    def prune(self, similarity_threshold: float) -> SpatioTemporalGraph:
        """G′ of the paper: edges with a weight strictly below τ_sim are dropped, equal ones stay."""
        check_number("similarity_threshold", similarity_threshold, at_least=-1, at_most=1)
        return self.take_edges(self.edge_weight >= on_grid(similarity_threshold))

    def video(self, index: int) -> SpatioTemporalGraph:
        """The graph of one video of the batch."""
        if self.num_videos == 1 and index == 0:
            return self
        first, last = torch.searchsorted(self.batch, torch.tensor([index, index + 1], device=self.batch.device)).tolist()
        edges = torch.searchsorted(
            self.batch[self.edge_index[0]], torch.tensor([index, index + 1], device=self.batch.device)
        ).tolist()
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
        shift = torch.tensor(offset, device=self.coords.device)
        size = self.coords.max(0).values + 1 + shift.abs()  # room for the shift, so that no key wraps into another row
        scale = torch.stack([size[1:].prod(), size[2], torch.ones_like(size[2])])
        key = (self.coords * scale).sum(1) + self.batch * size.prod()  # ascending, as vertices are in raster order
        wanted = key + (shift * scale).sum()
        place = torch.searchsorted(key, wanted).clamp_(max=self.num_nodes - 1)
        inside = ((self.coords + shift) >= 0).all(1) & (key[place] == wanted)
        first = inside.nonzero()[:, 0]
        return torch.stack([first, place[first]])

    def similarity(self, pairs: Tensor) -> Tensor:
        """Cosine similarity of any (2, P) int64 pairs of vertices: (P,) float32."""
        return kernels.edge_cosine(self.features, self.norm, self.token, pairs)

    def centrality(self, labels: Tensor, sizes: Tensor) -> Tensor:
        """Mean similarity S_c of every vertex to the others of its community: (V,) float32, 0 for a community of one.

        Args:
            labels: (V,) int64 communities.
            sizes: (m,) int64 their sizes.
        """
        return kernels.community_centrality(self.features, self.norm, self.token, labels, sizes)

    def to_scipy(self) -> csr_array:
        """Upper-triangular (V, V) CSR matrix of the edge weights, each edge once; explicit zeros are kept."""
        from scipy.sparse import coo_array

        rows, columns = self.edge_index.cpu().numpy()
        weight = self.edge_weight.cpu().numpy()
        return coo_array((weight, (rows, columns)), shape=(self.num_nodes, self.num_nodes)).tocsr()


def on_grid(threshold: float) -> float:
    """A threshold rounded as the edge weights are, so that "equal" means equal."""
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
        separators_as_vertices: newline tokens take part as vertices one column right of (or one row below) the grid, as in
            the authors' release; by default they are left out.

    Raises:
        StgraphError: features that are NaN or Inf, naming the video and the frame.
    """
    if tokens.features.requires_grad:
        tokens = replace(tokens, features=tokens.features.detach())
    builders = [(builder.kind, offset) for builder in edges for offset in builder.offsets]
    offsets = [offset for _, offset in builders]
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
        if lattice is not None:
            ids = torch.arange(rows.start, rows.stop, device=tokens.device).view(lattice.shape[:3])
            lattice_norm, cosines = kernels.lattice_cosine(lattice, offsets)
            norm[rows] = lattice_norm.flatten()
        else:
            margin = int(separators_as_vertices)
            ids = torch.full((grid.frames, grid.height + margin, grid.width + margin), -1, device=tokens.device)
            ids[tuple(coords[rows].T)] = torch.arange(rows.start, rows.stop, device=tokens.device)
            norm[rows] = kernels.norms(tokens.features, token[rows])
        for number, (kind, offset) in enumerate(builders):
            index = torch.stack([end.flatten() for end in kernels.edge_ends(ids, offset)])
            if lattice is None:
                index = index[:, (index >= 0).all(0)]
                weight = kernels.edge_cosine(tokens.features, norm, token, index)
            else:
                weight = cosines[number].flatten()
            indices.append(index)
            weights.append(weight)
            kinds.append(torch.full(weight.shape, kind, dtype=torch.uint8, device=tokens.device))
    _check_finite(norm, coords, batch)
    empty = torch.empty((2, 0), dtype=torch.int64, device=tokens.device)
    return SpatioTemporalGraph(
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


def _check_finite(norm: Tensor, coords: Tensor, batch: Tensor) -> None:
    bad = (~norm.isfinite()).nonzero()[:, 0]
    if len(bad):
        first = int(bad[0])
        raise StgraphError(
            f"features of video {int(batch[first])}, frame {int(coords[first, 0])} hold NaN or Inf "
            f"({len(bad)} token{'s' if len(bad) > 1 else ''} in all); mend the encoder's output before selecting"
        )


__all__ = ["SPATIAL", "TEMPORAL", "SpatioTemporalGraph", "build_graph", "on_grid"]
