"""The fused CPU kernels: what :mod:`.reference` computes, by compiled C in as few reads of the features as it takes.

Work is handed out in small ranges to as many threads as torch uses. Every number is made by one of them from its own
rows alone, so the result does not depend on how many there are.
"""

from __future__ import annotations

import ctypes
import itertools
import threading
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .library import library
from .reference import edge_ends

DTYPES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}
"""Feature dtypes by their number in C."""

PAPER_OFFSETS = ((0, 0, 1), (0, 1, 0), (1, 0, 0))
"""Right, below, next frame: the edges that are found in one pass over a grid."""

# Communities with more members are shared among threads, in pieces of that many whatever the threads.
_LONGEST = 512

# Ranges of work per thread: enough that none waits long for the last.
_RANGES = 8


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
        *((name, ctypes.c_int64) for name in ("dtype", "dim", "step", "frames", "height", "width")),
        *((name, ctypes.c_int64) for name in ("frame_stride", "row_stride", "column_stride")),
    )


class _Dots(_Structure):
    _fields_ = tuple((name, ctypes.c_void_p) for name in ("squared", "left", "above", "before"))


def norms(features: Tensor, rows: Tensor) -> Tensor:
    """As :func:`.reference.norms`."""
    features = features.resolve_neg()  # a view that only notes a minus sign is no memory to read
    return _norms(features, _places(features, rows))


def lattice_cosine(x: Tensor, offsets: Sequence[tuple[int, int, int]]) -> tuple[Tensor, list[Tensor]]:
    """As :func:`.reference.lattice_cosine`; the paper's edges in one pass, any others pair by pair."""
    x = x.resolve_neg()
    if tuple(offsets) == PAPER_OFFSETS:
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
    """
    vertices, c, features = len(labels), library(), features.resolve_neg()
    _check_range("labels", labels, len(sizes))
    if not torch.equal(torch.bincount(labels, minlength=len(sizes)), sizes):
        raise IndexError("sizes must hold the number of members of each community of labels")
    centrality = torch.empty(vertices, dtype=torch.float32)
    labels = labels.contiguous()
    view = _rows(features, _places(features, rows), norm.contiguous())
    ends = torch.cumsum(sizes, 0).sub_(sizes)
    order = torch.empty_like(labels)
    c.group_members(labels.data_ptr(), vertices, ends.data_ptr(), order.data_ptr())
    room = (features.shape[1] + 7) // 8 * 8  # whole lanes

    def whole(start: int, stop: int) -> None:
        total = torch.empty(room, dtype=torch.float64)
        pointers = [tensor.data_ptr() for tensor in (order, ends)]
        c.community_scores(view.pointer, *pointers, _LONGEST, total.data_ptr(), centrality.data_ptr(), start, stop)

    # Ranges of communities with about as many members each.
    shares = torch.arange(1, _RANGES * torch.get_num_threads() + 1) * vertices // (_RANGES * torch.get_num_threads())
    _share(whole, [0, *(torch.searchsorted(ends, shares) + 1).clamp_(max=len(ends)).unique().tolist()])

    pieces = [
        (community, begin, min(begin + _LONGEST, end), size)
        for community, (size, end) in enumerate(_pairs(sizes, ends, sizes > _LONGEST))
        for begin in range(end - size, end, _LONGEST)
    ]
    totals = torch.zeros((len(pieces), room), dtype=torch.float64)

    def add(start: int, stop: int) -> None:
        for piece in range(start, stop):
            _, begin, end, _ = pieces[piece]
            c.member_sum(view.pointer, order[begin:].data_ptr(), end - begin, totals[piece].data_ptr())

    def score(start: int, stop: int) -> None:
        # Backwards: what was summed last is still in cache.
        for community, begin, end, size in pieces[len(pieces) - stop : len(pieces) - start][::-1]:
            members, total = order[begin:].data_ptr(), totals[first[community]].data_ptr()
            c.member_scores(view.pointer, members, end - begin, total, size, centrality.data_ptr())

    _share(add, list(range(len(pieces) + 1)))
    first: dict[int, int] = {}
    for piece, (community, *_) in enumerate(pieces):
        if first.setdefault(community, piece) != piece:
            totals[first[community]] += totals[piece]
    _share(score, list(range(len(pieces) + 1)))
    return centrality


def _pairs(sizes: Tensor, ends: Tensor, mask: Tensor) -> list[tuple[int, int]]:
    return list(zip(sizes[mask].tolist(), ends[mask].tolist(), strict=True))


def _paper_lattice(x: Tensor) -> tuple[Tensor, list[Tensor]]:
    frames, height, width, _ = x.shape
    c = library()
    grid = _Lattice(
        **_features(x),
        frames=frames,
        height=height,
        width=width,
        frame_stride=x.stride(0),
        row_stride=x.stride(1),
        column_stride=x.stride(2),
    )
    norm, *others = (torch.empty((frames, height, width), dtype=torch.float64) for _ in range(4))
    dots = _Dots(squared=norm, left=others[0], above=others[1], before=others[2])
    units = (frames + 1) // 2 * height
    _share(lambda start, stop: c.lattice_dots(grid.pointer, dots.pointer, start, stop), _even(units))
    shapes = [(frames, height, width - 1), (frames, height - 1, width), (frames - 1, height, width)]
    cosines = [torch.empty([max(size, 0) for size in shape], dtype=torch.float32) for shape in shapes]
    c.lattice_cosines(grid.pointer, dots.pointer, *(cosine.data_ptr() for cosine in cosines))
    return norm, cosines


def _norms(features: Tensor, offset: Tensor) -> Tensor:
    c = library()
    view = _rows(features, offset, offset)
    out = torch.empty(len(offset), dtype=torch.float64)
    _share(lambda start, stop: c.row_norms(view.pointer, out.data_ptr(), start, stop), _even(len(offset)))
    return out


def _cosines(features: Tensor, norm: Tensor, offset: Tensor, left: Tensor, right: Tensor) -> Tensor:
    c = library()
    view = _rows(features, offset, norm.contiguous())
    ends = left.contiguous(), right.contiguous()
    out = torch.empty(len(left), dtype=torch.float32)

    def work(start: int, stop: int) -> None:
        c.pair_cosines(view.pointer, ends[0].data_ptr(), ends[1].data_ptr(), out.data_ptr(), start, stop)

    _share(work, _even(len(left)))
    return out


def _rows(features: Tensor, offset: Tensor, norm: Tensor) -> _Rows:
    return _Rows(**_features(features), offset=offset, norm=norm)


def _features(x: Tensor) -> dict[str, int | Tensor]:
    return {"features": x, "dtype": DTYPES[x.dtype], "dim": x.shape[-1], "step": x.stride(-1)}


def _places(features: Tensor, rows: Tensor) -> Tensor:
    """The first element of each row. What is read by address must be inside."""
    _check_range("rows", rows, len(features))
    return rows * features.stride(0)


def _check_range(name: str, index: Tensor, size: int) -> None:
    if index.numel():
        low, high = (int(bound) for bound in torch.aminmax(index))
        if low < 0 or high >= size:
            raise IndexError(f"{name} must be from 0 to {size - 1}, got {low} to {high}")


def _even(units: int) -> list[int]:
    """Bounds of equal ranges of units."""
    ranges = min(units, _RANGES * torch.get_num_threads())
    return [units * i // ranges for i in range(ranges + 1)] if units else [0]


def _share(work: Callable[[int, int], None], bounds: list[int]) -> None:
    """Call ``work`` on every range between two bounds, on as many threads as torch uses, each taking the next one."""
    ranges = iter(list(itertools.pairwise(bounds)))  # taking from it is atomic
    errors: list[BaseException] = []

    def run() -> None:
        try:
            for start, stop in ranges:
                work(start, stop)
        except BaseException as error:  # from any thread, to be raised in this one
            errors.append(error)

    # Fresh threads cost microseconds, and unlike a pool they survive a fork.
    helpers = [threading.Thread(target=run) for _ in range(min(torch.get_num_threads(), len(bounds) - 1) - 1)]
    for helper in helpers:
        helper.start()
    run()
    for helper in helpers:
        helper.join()
    if errors:
        raise errors[0]
