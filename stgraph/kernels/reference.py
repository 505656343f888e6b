"""The plain torch kernels: frame by frame, in scratch memory that fits the cache, on any device."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .indices import places, stable_argsort, take

GRID = 2.0**-20
"""Cosine similarities are multiples of this (about 1e-6, the float32 rounding error of a long dot product)."""

TIE_TOLERANCE = 2.0**-16
"""Scores are ranked in steps of this (about 1.5e-5); within a step the smaller index comes first."""

SCRATCH = 1 << 20
"""Elements of float32 scratch per block: 4 MB."""

Take = Callable[[Tensor], Tensor]
"""From (n,) int64 rows to their (n, d) features."""

# float32 numbers that are added one by one: sums of more are cascades, so that a community of any size keeps its
# precision.
_LONGEST_SUM = 64

# Outside these squared norms a float32 dot product may overflow or vanish, and is taken in float64 instead.
_SAFE = (1e-24, 1e24)


def round_to(value: Tensor, step: float) -> Tensor:
    """``value`` rounded to multiples of ``step``, float64."""
    return (value.double() / step).round().mul(step)


def snap(score: Tensor) -> Tensor:
    """Scores in steps of :data:`TIE_TOLERANCE`, float64: so rounding errors do not decide which of two is larger."""
    return round_to(score, TIE_TOLERANCE)


def snap_cosine(cosine: Tensor) -> Tensor:
    """Cosines in steps of :data:`GRID`, float64: so rounding errors do not decide which reach a threshold."""
    return round_to(cosine, GRID)


def norms(features: Tensor, rows: Tensor) -> Tensor:
    """Euclidean norms of ``features[rows]``: (n,) float64, NaN or Inf where a feature is.

    Arguments and result are those of :func:`stgraph.kernels.norms`.
    """
    return _norms(_row_dots(features.__getitem__, rows, rows, torch.float32), features.__getitem__, rows)[0]


def lattice_cosine(x: Tensor, offsets: Sequence[tuple[int, int, int]]) -> tuple[Tensor, list[Tensor]]:
    """Norms and edge cosines of a dense grid, a few frames at a time while their predecessors are still in cache.

    Arguments and result are those of :func:`stgraph.kernels.lattice_cosine`.
    """
    frames, height, width, dim = x.shape
    squared = x.new_empty((frames, height, width), dtype=torch.float32)
    dots = [
        x.new_empty((max(frames - dt, 0), max(height - abs(dy), 0), max(width - abs(dx), 0)), dtype=torch.float32)
        for dt, dy, dx in offsets
    ]
    reach = max((dt for dt, _, _ in offsets), default=0)
    scratch = x.new_empty(max(SCRATCH, width * dim), dtype=torch.float32)
    step = max(1, SCRATCH // (height * width * dim))
    for start in range(0, frames, step):
        stop, first = min(start + step, frames), max(start - reach, 0)
        block = x[first:stop].float()  # a view when the features are float32 already
        _grid_dots(block[start - first :], block[start - first :], squared[start:stop], scratch)
        for (dt, dy, dx), out in zip(offsets, dots, strict=True):
            begin = max(start, dt)  # the first frame of the block that has a predecessor
            if begin < stop and out.numel():
                earlier, later = block[begin - dt - first : stop - dt - first], block[begin - first :]
                _grid_dots(_cut(earlier, -dy, -dx), _cut(later, dy, dx), out[begin - dt : stop - dt], scratch)
    rows = torch.arange(squared.numel(), device=x.device).view(squared.shape)
    norm, unsafe = _norms(squared, take := _lattice_rows(x), rows)
    cosines = []
    for (dt, dy, dx), dot in zip(offsets, dots, strict=True):
        ends = [edge_ends(grid, (dt, dy, dx)) for grid in (rows, norm, unsafe)]
        cosines.append(_cosine(dot, *ends[1], torch.logical_or(*ends[2]), take, *ends[0]))
    return norm, cosines


def edge_ends(grid: Tensor, offset: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    """Both ends of every edge of one offset in a (T, H, W) grid of values: two views of (T − dt, H − |dy|, W −
    |dx|).
    """
    dt, dy, dx = offset
    frames = grid.shape[0]
    return _cut(grid[: max(frames - dt, 0)], -dy, -dx), _cut(grid[min(dt, frames) :], dy, dx)


def edge_cosine(features: Tensor, norm: Tensor, rows: Tensor, edge_index: Tensor) -> Tensor:
    """Cosine of every edge of an arbitrary graph: (E,) float32, 0 where an end is a zero vector.

    Arguments and result are those of :func:`stgraph.kernels.edge_cosine`.
    """
    left, right = edge_index
    dot = _row_dots(features.__getitem__, rows[left], rows[right], torch.float32)
    unsafe = _unsafe(norm.square())
    suspect = unsafe[left] | unsafe[right]
    return _cosine(dot, norm[left], norm[right], suspect, features.__getitem__, rows[left], rows[right])


def community_centrality(features: Tensor, norm: Tensor, rows: Tensor, labels: Tensor, sizes: Tensor) -> Tensor:
    """Mean cosine of every vertex to the other members of its community: (V,) float32, 0 for a community of one.

    With unit vectors u, Σ_{b≠a} cos(a, b) = u_a · Σ_b u_b − u_a · u_a, so the n×n matrix of a community is never built:
    exact in O(V·d). Communities are taken one after the other while their rows are in cache.

    Arguments and result are those of :func:`stgraph.kernels.community_centrality`.
    """
    centrality = norm.new_zeros(len(labels), dtype=torch.float32)
    size = sizes[labels]
    order = torch.sort(labels, stable=True).indices
    pairs = order[size[order] == 2].view(-1, 2).T
    # Both members of a pair have the very same centrality, its cosine: one dot product, so that no rounding decides.
    centrality[pairs] = edge_cosine(features, norm, rows, pairs)
    order = order[size[order] > 2]
    inverse = torch.where(norm > 0, 1.0 / norm, 0.0)
    step = max(1, min(SCRATCH // features.shape[1], 1024))
    unit = features.new_empty((step, features.shape[1]), dtype=torch.float32)
    product = torch.empty_like(unit)
    for start, stop in _blocks(sizes[sizes > 2].tolist(), step):
        members = order[start:stop]
        local = torch.unique_consecutive(labels[members], return_inverse=True)[1]
        pieces = list(zip(members.split(step), local.split(step), strict=True))  # one, unless a community is long
        if int(local[-1]):
            total = features.new_zeros((int(local[-1]) + 1, features.shape[1]), dtype=torch.float32)
            total.index_add_(0, local, _unit(features, inverse, rows, members, unit))
        else:
            wide = features.new_zeros((1, features.shape[1]), dtype=torch.float64)
            for piece, _ in pieces:
                wide += _unit(features, inverse, rows, piece, unit).sum(0)
            total = wide.float()
        for piece, community in pieces:
            block = _unit(features, inverse, rows, piece, unit) if len(pieces) > 1 else unit[: len(piece)]
            torch.index_select(total, 0, community, out=product[: len(piece)])
            others = product[: len(piece)].mul_(block).sum(-1, dtype=torch.float64) - (norm[piece] > 0).double()
            centrality[piece] = (others / (size[piece] - 1)).clamp_(-1, 1).float()
    return centrality


def community_ranks(labels: Tensor, sizes: Tensor, centrality: Tensor) -> Tensor:
    """Place of every vertex in its community by centrality, 0 = most central; ties to the smaller index: (V,) int64.

    Arguments are those of :func:`stgraph.kernels.community_ranks`.
    """
    steps = (centrality.double() / TIE_TOLERANCE).round().long()  # at most 2¹⁶ to either side: one key for both
    order = stable_argsort(labels * 2**18 - steps)
    starts = torch.cumsum(sizes, 0) - sizes
    rank = torch.arange(len(labels), device=labels.device) - take(starts, take(labels, order))
    return torch.empty_like(labels).index_copy_(0, order, rank)


def first_of(importance: Tensor, tier: Tensor, budget: int) -> tuple[Tensor, Tensor]:
    """Which come first: linear in n, where a sort would put all in order.

    Arguments and result are those of :func:`stgraph.kernels.first_of`.
    """
    best = torch.zeros_like(tier, dtype=torch.bool)
    cut = importance[tier == tier.max()].max()
    for level in range(int(tier.max()), -1, -1):
        here = tier == level
        count = int(here.sum())
        kept = min(count, budget)
        if kept:
            cut = take(importance, places(here)).kthvalue(count - kept + 1).values
            larger = here & (importance > cut)
            equal = here & (importance == cut)
            best |= larger | (equal & (torch.cumsum(equal, 0) <= kept - int(larger.sum())))
            budget -= kept
    return best, cut


def _blocks(sizes: list[int], step: int) -> list[tuple[int, int]]:
    """Runs of sorted vertices: whole communities packed up to ``step`` vertices, or a large one alone."""
    blocks = []
    start = stop = 0
    for size in sizes:
        if stop > start and (size > _LONGEST_SUM or stop - start + size > step):
            blocks.append((start, stop))
            start = stop
        stop += size
        if size > _LONGEST_SUM:
            blocks.append((start, stop))
            start = stop
    if stop > start:
        blocks.append((start, stop))
    return blocks


def _unit(features: Tensor, inverse: Tensor, rows: Tensor, vertices: Tensor, out: Tensor) -> Tensor:
    """Unit vectors of some vertices, float32, in ``out``; zero vectors stay zero, extreme ones are scaled in
    float64.
    """
    out = out[: len(vertices)]
    if features.dtype == torch.float32:
        torch.index_select(features, 0, rows[vertices], out=out)
    else:
        out.copy_(features[rows[vertices]])
    scale = inverse[vertices]
    out *= scale.float()[:, None]
    extreme = (scale > 0) & ((scale < 1e-12) | (scale > 1e12))
    if bool(extreme.any()):
        out[extreme] = (features[rows[vertices[extreme]]].double() * scale[extreme, None]).float()
    return out


def _unsafe(squared: Tensor) -> Tensor:
    return ~((squared > _SAFE[0]) & (squared < _SAFE[1]))


def _norms(squared: Tensor, take: Take, rows: Tensor) -> tuple[Tensor, Tensor]:
    """float64 norms from float32 squares, and where they had to be taken again: zero, tiny, huge and non-finite
    rows.
    """
    unsafe = _unsafe(squared)
    norm = squared.double().sqrt()
    if bool(unsafe.any()):
        norm = norm.masked_scatter(unsafe, _row_dots(take, rows[unsafe], rows[unsafe], torch.float64).sqrt())
    return norm, unsafe


def _cosine(
    dot: Tensor, left_norm: Tensor, right_norm: Tensor, suspect: Tensor, take: Take, left: Tensor, right: Tensor
) -> Tensor:
    dot = dot.double()
    if bool(suspect.any()):
        dot = dot.masked_scatter(suspect, _row_dots(take, left[suspect], right[suspect], torch.float64))
    length = left_norm * right_norm
    return snap_cosine(torch.where(length > 0, dot / length, 0.0).clamp_(-1, 1)).float()


def _lattice_rows(x: Tensor) -> Take:
    area, width = x.shape[1] * x.shape[2], x.shape[2]
    return lambda row: x[row // area, row // width % x.shape[1], row % width]


def _row_dots(take: Take, left: Tensor, right: Tensor, dtype: torch.dtype) -> Tensor:
    """Dot products of row pairs, in ``dtype``, gathered block by block."""
    out = torch.empty(len(left), dtype=dtype, device=left.device)
    if len(left):
        step = max(1, SCRATCH // (2 * take(left[:1]).shape[1]))
        for a, b, o in zip(left.split(step), right.split(step), out.split(step), strict=True):
            torch.sum(take(a).to(dtype).mul_(take(b).to(dtype)), -1, out=o)
    return out


def _grid_dots(a: Tensor, b: Tensor, out: Tensor, scratch: Tensor) -> None:
    """Dot products of two (T, H, W, d) grids into ``out`` (T, H, W), as much at a time as fits the scratch."""
    if a.numel() > scratch.numel():
        half = len(a) // 2 or a.shape[1] // 2
        for part in (slice(0, half), slice(half, None)):
            rows = part if len(a) > 1 else (slice(None), part)
            _grid_dots(a[rows], b[rows], out[rows], scratch)
    else:
        product = scratch[: a.numel()].view(a.shape)
        torch.mul(a, b, out=product)
        torch.sum(product, -1, out=out)


def _cut(grid: Tensor, dy: int, dx: int) -> Tensor:
    """A (T, H, W, ...) grid without its first dy rows and dx columns, or without its last ones where they are
    negative.
    """
    for axis, shift in ((1, dy), (2, dx)):
        if shift:
            size = grid.shape[axis]
            grid = grid.narrow(axis, min(max(shift, 0), size), max(size - abs(shift), 0))
    return grid
