"""The fused CPU kernels: what :mod:`.reference` computes, by compiled C in as few reads of the features as it takes.

Work is shared among as many threads as torch uses. Every number is made by one of them from its own rows alone, so the
result does not depend on how many there are. C reads and writes by address: everything that is given to it goes through
:func:`_address`, which checks it first.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

from .library import library, may_share
from .reference import TIE_TOLERANCE, edge_ends

DTYPES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}
"""Feature dtypes by their number in C."""

PAPER_OFFSETS = ((0, 0, 1), (0, 1, 0), (1, 0, 0))
"""Right, below, next frame: the edges that are found in one pass over a grid."""

# With less to read, starting a thread takes longer than it saves.
_BYTES_PER_THREAD = 1 << 20


class _Structure(ctypes.Structure):
    def __init__(self, **values: int | Tensor) -> None:
        super().__init__(**{k: v.data_ptr() if isinstance(v, Tensor) else v for k, v in values.items()})
        self._kept = values  # the memory lives as long as what points to it

    @property
    def pointer(self) -> int:
        return ctypes.addressof(self)


class _Rows(_Structure):
    _fields_ = (
        ("features", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in ("dtype", "dim", "step")),
        *((name, ctypes.c_void_p) for name in ("offset", "norm")),
    )


class _Lattice(_Structure):
    _fields_ = (
        ("features", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in ("dtype", "dim", "frames", "height", "width", "period")),
        *((name, ctypes.c_int64) for name in ("frame_stride", "row_stride", "column_stride")),
    )


def norms(features: Tensor, rows: Tensor) -> Tensor:
    """As :func:`.reference.norms`."""
    features = features.resolve_neg()  # a lazy negative view has no memory of its own that C could read
    return _norms(features, _places(features, rows))


def lattice_cosine(x: Tensor, offsets: Sequence[tuple[int, int, int]]) -> tuple[Tensor, list[Tensor]]:
    """As :func:`.reference.lattice_cosine`; the paper's edges in one pass, any others pair by pair."""
    x = x.resolve_neg()
    found: dict[tuple[int, int, int], Tensor] = {}
    if x.stride(3) == 1 and not set(PAPER_OFFSETS).isdisjoint(offsets):
        norm, *cosines = lattice(x, len(x))
        found = {offset: edge_ends(c, offset)[1] for c, offset in zip(cosines, PAPER_OFFSETS, strict=True)}
    else:
        norm = _norms(x, _grid_places(x)).view(x.shape[:3])
    others = [offset for offset in offsets if offset not in found]
    if others:
        place = _grid_places(x)
        vertices = torch.arange(len(place)).view(x.shape[:3])
        for offset in others:
            left, right = edge_ends(vertices, offset)
            pairs = left.flatten(), right.flatten()
            found[offset] = _cosines(x, norm.flatten(), place, *pairs).view(left.shape)
    return norm, [found[offset] for offset in offsets]


def lattice(x: Tensor, period: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Norms, and the cosines of every token with its neighbours to the left, above and one frame before.

    Args:
        x: (T, H, W, d) frames of one video or of several that follow each other, features side by side.
        period: frames of each video.

    Returns:
        (T, H, W) float64 norms, and three times (T, H, W) float32 cosines, 0 where there is no neighbour.

    Raises:
        IndexError: features that do not lie side by side, or frames that are no whole number of videos.
        MemoryError: there is no room for three numbers per token.
    """
    shape = x.shape[:3]
    if x.ndim != 4 or x.stride(3) != 1 or (len(x) and (period < 1 or len(x) % period)):
        raise IndexError(f"lattice needs (T, H, W, d) whole videos of {period} frames, got {tuple(x.shape)}")
    grid = _Lattice(
        features=x,
        dtype=DTYPES[x.dtype],
        period=period,
        **dict(zip(("frames", "height", "width", "dim"), x.shape, strict=True)),
        **dict(zip(("frame_stride", "row_stride", "column_stride"), x.stride(), strict=False)),
    )
    norm = torch.empty(shape, dtype=torch.float64)
    cosines = [torch.empty(shape, dtype=torch.float32) for _ in PAPER_OFFSETS]
    pointers = [tensor.data_ptr() for tensor in (norm, *cosines)]
    if library().lattice_cosines(grid.pointer, *pointers, _threads(norm.numel(), x)):
        raise MemoryError("there is not enough memory for three numbers per token")
    return norm, cosines[0], cosines[1], cosines[2]


def edge_cosine(features: Tensor, norm: Tensor, rows: Tensor, edge_index: Tensor) -> Tensor:
    """As :func:`.reference.edge_cosine`."""
    features = features.resolve_neg()
    _check_range("edge_index", edge_index, len(rows))
    if edge_index.ndim != 2 or len(edge_index) != 2:
        raise IndexError(f"edge_index must be (2, E), got {tuple(edge_index.shape)}")
    return _cosines(features, norm, _places(features, rows), edge_index[0], edge_index[1])


def community_centrality(features: Tensor, norm: Tensor, rows: Tensor, labels: Tensor, sizes: Tensor) -> Tensor:
    """As :func:`.reference.community_centrality`. Extra memory: two sums of unit vectors per thread, and one for every
    512 members of larger communities.

    Raises:
        MemoryError: there is no room for them.
    """
    features = features.resolve_neg()
    _check_range("labels", labels, len(sizes))
    if not torch.equal(torch.bincount(labels, minlength=len(sizes)), sizes):
        raise IndexError("sizes must hold the number of members of each community of labels")
    count, threads = len(rows), _threads(len(labels), features)
    centrality = torch.empty(count, dtype=torch.float32)
    view = _rows(features, _places(features, rows), norm)
    labels, sizes = labels.contiguous(), sizes.contiguous()
    members = _address("labels", labels, torch.int64, count), _address("sizes", sizes, torch.int64, len(sizes))
    if library().centrality(view.pointer, *members, len(sizes), count, centrality.data_ptr(), threads):
        raise MemoryError("there is not enough memory for the sums of the communities")
    return centrality


def components(num_nodes: int, edge_index: Tensor) -> Tensor:
    """Connected components, numbered by their first vertex: (V,) int64. Linear but for an inverse Ackermann factor.

    Args:
        num_nodes: V.
        edge_index: (2, E) int64.
    """
    left, right = _ends(edge_index, num_nodes)
    labels = torch.empty(num_nodes, dtype=torch.int64)
    library().components(left.data_ptr(), right.data_ptr(), len(left), num_nodes, labels.data_ptr())
    return labels


def lattice_components(
    left: Tensor, above: Tensor, before: Tensor, threshold: float, period: int
) -> tuple[Tensor, Tensor]:
    """As :func:`.gpu.lattice_components`, with no more sizes than there are components."""
    frames, height, width = left.shape
    if frames and (period < 1 or frames % period):
        raise IndexError(f"{frames} frames cannot be divided into videos of {period} frames")
    labels, sizes = (torch.empty(left.numel(), dtype=torch.int64) for _ in range(2))
    weights = [weight.contiguous() for weight in (left, above, before)]
    pointers = [_address("weights", weight, torch.float32, left.numel()) for weight in weights]
    sizes_of = frames, period, height, width
    count = library().lattice_components(*pointers, *sizes_of, threshold, labels.data_ptr(), sizes.data_ptr())
    return labels, sizes[:count].clone()


def community_ranks(labels: Tensor, sizes: Tensor, centrality: Tensor) -> Tensor:
    """As :func:`.reference.community_ranks`, in linear time.

    Raises:
        MemoryError: there is no room for a few numbers per vertex.
    """
    _check_range("labels", labels, len(sizes))
    count = len(labels)
    rank = torch.empty(count, dtype=torch.int64)
    labels, centrality = labels.contiguous(), centrality.contiguous()
    known = _address("labels", labels, torch.int64, count), len(sizes)
    scores = _address("centrality", centrality, torch.float32, count), count
    if library().community_ranks(*known, *scores, TIE_TOLERANCE, rank.data_ptr()):
        raise MemoryError("there is not enough memory for the ranks of the vertices")
    return rank


def merge_forest(num_nodes: int, edge_index: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The spanning forest of the earliest edges, and what it merges: as :func:`stgraph.graph.merge_tree.merge_forest`.

    Raises:
        MemoryError: there is no room for a few numbers per vertex.
    """
    left, right = _ends(edge_index, num_nodes)
    most = max(min(len(left), num_nodes - 1), 0)
    edge, first, part = (torch.empty((rows, most), dtype=torch.int64) for rows in (1, 2, 2))
    leaves, joined = (torch.empty(num_nodes, dtype=torch.int64) for _ in range(2))
    made = [row.data_ptr() for row in (*edge, *first, *part, leaves, joined)]
    merges = library().merge_forest(left.data_ptr(), right.data_ptr(), len(left), num_nodes, *made)
    if merges < 0:
        raise MemoryError("there is not enough memory for the merge tree")
    return edge[0, :merges], first[:, :merges], part[:, :merges], leaves, joined


def first_of(importance: Tensor, tier: Tensor, budget: int) -> tuple[Tensor, Tensor]:
    """As :func:`.reference.first_of`.

    Raises:
        MemoryError: there is no room for a number per item.
    """
    count = len(tier)
    best, cut = torch.empty(count, dtype=torch.uint8), torch.empty((), dtype=torch.float64)
    scores, tiers = importance.to(torch.float64).contiguous(), tier.to(torch.uint8).contiguous()
    given = _address("importance", scores, torch.float64, count), _address("tier", tiers, torch.uint8, count)
    if library().first_of(*given, count, budget, best.data_ptr(), cut.data_ptr()):
        raise MemoryError("there is not enough memory for the importance of the tokens")
    return best.view(torch.bool), cut.to(importance.dtype)


def _norms(features: Tensor, offset: Tensor) -> Tensor:
    view = _rows(features, offset, offset)
    out = torch.empty(len(offset), dtype=torch.float64)
    library().row_norms(view.pointer, out.data_ptr(), len(out), _threads(len(out), features))
    return out


def _cosines(features: Tensor, norm: Tensor, offset: Tensor, left: Tensor, right: Tensor) -> Tensor:
    view = _rows(features, offset, norm)
    count = len(left)
    out = torch.empty(count, dtype=torch.float32)
    left, right = left.contiguous(), right.contiguous()
    ends = [_address("edge_index", end, torch.int64, count) for end in (left, right)]
    library().pair_cosines(view.pointer, *ends, out.data_ptr(), count, _threads(count, features))
    return out


def _rows(features: Tensor, offset: Tensor, norm: Tensor) -> _Rows:
    numbers = {"dtype": DTYPES[features.dtype], "dim": features.shape[-1], "step": features.stride(-1)}
    offset, known = offset.contiguous(), norm is not offset
    norm = norm.contiguous() if known else offset
    _address("rows", offset, torch.int64, len(offset))
    if known:
        _address("norm", norm, torch.float64, len(offset))
    return _Rows(features=features, **numbers, offset=offset, norm=norm)


def _grid_places(x: Tensor) -> Tensor:
    """The first element of each token of a (T, H, W, d) grid."""
    frame, row, column = (torch.arange(size) * stride for size, stride in zip(x.shape[:3], x.stride()[:3], strict=True))
    return (frame[:, None, None] + row[:, None] + column).flatten()


def _places(features: Tensor, rows: Tensor) -> Tensor:
    """The first element of each row. What is read by address must be inside."""
    _check_range("rows", rows, len(features))
    return rows * features.stride(0)


def _ends(edge_index: Tensor, num_nodes: int) -> tuple[Tensor, Tensor]:
    """Both ends of every edge, each side by side in memory."""
    _check_range("edge_index", edge_index, num_nodes)
    left, right = (end.contiguous() for end in edge_index)
    for end in (left, right):
        _address("edge_index", end, torch.int64, len(left))
    return left, right


def _address(name: str, values: Tensor, dtype: torch.dtype, count: int) -> int:
    """Address of contiguous ``values``. All arrays are passed to C through this function."""
    if values.dtype != dtype or values.numel() != count or not values.is_contiguous() or values.device.type != "cpu":
        raise IndexError(
            f"{name} must be {count} numbers {dtype} on the CPU, got {tuple(values.shape)} {values.dtype} on "
            f"{values.device}"
        )
    return values.data_ptr()


def _check_range(name: str, index: Tensor, size: int) -> None:
    if index.numel():
        low, high = (int(bound) for bound in torch.aminmax(index))
        if low < 0 or high >= size:
            raise IndexError(f"{name} must be from 0 to {size - 1}, got {low} to {high}")


def _threads(rows: int, features: Tensor) -> int:
    """How many threads ``rows`` rows of the features are worth, at most as many as torch uses."""
    if not may_share():
        return 1
    size = rows * features.shape[-1] * features.element_size()
    return max(1, min(torch.get_num_threads(), size // _BYTES_PER_THREAD))
