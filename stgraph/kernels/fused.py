"""The fused CPU kernels: what :mod:`.reference` computes, by compiled C in as few reads of the features as it takes.

Work is shared among as many threads as torch uses. Every number is made by one of them from its own rows alone, so the
result does not depend on how many there are.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

from .library import library
from .reference import edge_ends

DTYPES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}
"""Feature dtypes by their number in C."""

PAPER_OFFSETS = ((0, 0, 1), (0, 1, 0), (1, 0, 0))
"""Right, below, next frame: the edges that are found in one pass over a grid."""

# With less to read, a thread is not worth its start.
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
        *((name, ctypes.c_int64) for name in ("dtype", "dim", "frames", "height", "width")),
        *((name, ctypes.c_int64) for name in ("frame_stride", "row_stride", "column_stride")),
    )


def norms(features: Tensor, rows: Tensor) -> Tensor:
    """As :func:`.reference.norms`."""
    features = features.resolve_neg()  # a view that only notes a minus sign is no memory to read
    return _norms(features, _places(features, rows))


def lattice_cosine(x: Tensor, offsets: Sequence[tuple[int, int, int]]) -> tuple[Tensor, list[Tensor]]:
    """As :func:`.reference.lattice_cosine`; the paper's edges in one pass, any others pair by pair."""
    x = x.resolve_neg()
    if tuple(offsets) == PAPER_OFFSETS and x.stride(3) == 1:
        return _paper_lattice(x)
    frame, row, column = (torch.arange(size) * stride for size, stride in zip(x.shape[:3], x.stride()[:3], strict=True))
    place = (frame[:, None, None] + row[:, None] + column).flatten()
    norm = _norms(x, place)
    vertices = torch.arange(len(place)).view(x.shape[:3])
    ends = [edge_ends(vertices, offset) for offset in offsets]
    cosines = [_cosines(x, norm, place, left.flatten(), right.flatten()).view(left.shape) for left, right in ends]
    return norm.view(x.shape[:3]), cosines


def edge_cosine(features: Tensor, norm: Tensor, rows: Tensor, edge_index: Tensor) -> Tensor:
    """As :func:`.reference.edge_cosine`."""
    features = features.resolve_neg()
    _check_range("edge_index", edge_index, len(rows))
    return _cosines(features, norm, _places(features, rows), edge_index[0], edge_index[1])


def community_centrality(features: Tensor, norm: Tensor, rows: Tensor, labels: Tensor, sizes: Tensor) -> Tensor:
    """As :func:`.reference.community_centrality`. Extra memory: one sum of unit vectors per thread, and one for every
    512 members of larger communities.

    Raises:
        MemoryError: there is no room for them.
    """
    features = features.resolve_neg()
    _check_range("labels", labels, len(sizes))
    if not torch.equal(torch.bincount(labels, minlength=len(sizes)), sizes):
        raise IndexError("sizes must hold the number of members of each community of labels")
    centrality = torch.empty(len(labels), dtype=torch.float32)
    view = _rows(features, _places(features, rows), norm.contiguous())
    labels, sizes = labels.contiguous(), sizes.contiguous()
    counts = len(sizes), len(labels)
    threads = _threads(len(labels), features)
    pointers = labels.data_ptr(), sizes.data_ptr()
    if library().centrality(view.pointer, *pointers, *counts, centrality.data_ptr(), threads):
        raise MemoryError("there is no memory for the sums of the communities")
    return centrality


def components(num_nodes: int, edge_index: Tensor) -> Tensor:
    """Connected components, numbered by their first vertex: (V,) int64. Linear but for an inverse Ackermann factor.

    Args:
        num_nodes: V.
        edge_index: (2, E) int64.
    """
    _check_range("edge_index", edge_index, num_nodes)
    labels = torch.empty(num_nodes, dtype=torch.int64)
    left, right = (end.contiguous() for end in edge_index)
    library().components(left.data_ptr(), right.data_ptr(), len(left), num_nodes, labels.data_ptr())
    return labels


def _paper_lattice(x: Tensor) -> tuple[Tensor, list[Tensor]]:
    frames, height, width, dim = x.shape
    grid = _Lattice(
        features=x,
        dtype=DTYPES[x.dtype],
        dim=dim,
        frames=frames,
        height=height,
        width=width,
        frame_stride=x.stride(0),
        row_stride=x.stride(1),
        column_stride=x.stride(2),
    )
    norm = torch.empty((frames, height, width), dtype=torch.float64)
    dots = torch.empty((3, frames, height, width), dtype=torch.float64)
    shapes = (frames, height, width - 1), (frames, height - 1, width), (frames - 1, height, width)
    cosines = [torch.empty([max(size, 0) for size in shape], dtype=torch.float32) for shape in shapes]
    pointers = [tensor.data_ptr() for tensor in (norm, dots, *cosines)]
    library().lattice_cosines(grid.pointer, *pointers, _threads(norm.numel(), x))
    return norm, cosines


def _norms(features: Tensor, offset: Tensor) -> Tensor:
    view = _rows(features, offset, offset)
    out = torch.empty(len(offset), dtype=torch.float64)
    library().row_norms(view.pointer, out.data_ptr(), len(out), _threads(len(out), features))
    return out


def _cosines(features: Tensor, norm: Tensor, offset: Tensor, left: Tensor, right: Tensor) -> Tensor:
    view = _rows(features, offset, norm.contiguous())
    left, right = left.contiguous(), right.contiguous()
    out = torch.empty(len(left), dtype=torch.float32)
    pointers = [tensor.data_ptr() for tensor in (left, right, out)]
    library().pair_cosines(view.pointer, *pointers, len(out), _threads(len(out), features))
    return out


def _rows(features: Tensor, offset: Tensor, norm: Tensor) -> _Rows:
    numbers = {"dtype": DTYPES[features.dtype], "dim": features.shape[-1], "step": features.stride(-1)}
    return _Rows(features=features, **numbers, offset=offset, norm=norm)


def _places(features: Tensor, rows: Tensor) -> Tensor:
    """The first element of each row. What is read by address must be inside."""
    _check_range("rows", rows, len(features))
    return rows * features.stride(0)


def _check_range(name: str, index: Tensor, size: int) -> None:
    if index.numel():
        low, high = (int(bound) for bound in torch.aminmax(index))
        if low < 0 or high >= size:
            raise IndexError(f"{name} must be from 0 to {size - 1}, got {low} to {high}")


def _threads(rows: int, features: Tensor) -> int:
    """How many threads ``rows`` rows of the features are worth, at most as many as torch uses."""
    size = rows * features.shape[-1] * features.element_size()
    return max(1, min(torch.get_num_threads(), size // _BYTES_PER_THREAD))
