"""The GPU kernels: Triton programs behind the same functions as the other sets, and a selection that never waits.

Nothing here reads a value back from the device, so that launches run ahead of it. Where no GPU is, Triton's interpreter
runs the same programs on the CPU when ``TRITON_INTERPRET=1`` is set, as the tests do.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import torch
from torch import Tensor

from . import programs
from .reference import community_ranks as community_ranks
from .reference import edge_ends
from .reference import first_of as first_of

CHUNK = 64
"""Members that one program sums; larger communities are put together from several."""

_FEW = 16
"""Communities of up to so many members are read by programs with room for as many."""

_DIM = 128
"""Features in a tile."""

_ROWS = 16
"""Rows or pairs of rows in a tile."""

_BLOCK = 256
"""Vertices that one program joins."""

OFFSETS = ((0, 0, 1), (0, 1, 0), (1, 0, 0))
"""The neighbours of the paper's graph, whose products come with the norms."""


def norms(features: Tensor, rows: Tensor) -> Tensor:
    """Arguments and result are those of :func:`stgraph.kernels.norms`."""
    features = features.detach()
    return _norms(features, rows, features.stride(0), features.shape[1], features.stride(1))


def lattice_cosine(x: Tensor, offsets: Sequence[tuple[int, int, int]]) -> tuple[Tensor, list[Tensor]]:
    """Arguments and result are those of :func:`stgraph.kernels.lattice_cosine`."""
    x = x.detach()
    norm, left, above, before = lattice(x, x.shape[0])
    known = dict(zip(OFFSETS, (left, above, before), strict=True))
    axes = [torch.arange(n, device=x.device) * s for n, s in zip(x.shape[:3], x.stride(), strict=False)]
    offset = (axes[0][:, None, None] + axes[1][:, None] + axes[2]).flatten()
    vertices = torch.arange(len(offset), device=x.device).view(x.shape[:3])
    found = []
    for step in offsets:
        earlier, later = edge_ends(vertices, step)
        if step in known:
            found.append(edge_ends(known[step], step)[1])
        else:
            pairs = (earlier.flatten(), later.flatten())
            found.append(_pairs(x, offset, 1, norm.flatten(), *pairs, x.shape[3], x.stride(3)).view(earlier.shape))
    return norm, found


def edge_cosine(features: Tensor, norm: Tensor, rows: Tensor, edge_index: Tensor) -> Tensor:
    """Arguments and result are those of :func:`stgraph.kernels.edge_cosine`."""
    features = features.detach()
    size = (features.shape[1], features.stride(1))
    return _pairs(features, rows, features.stride(0), norm, edge_index[0], edge_index[1], *size)


def community_centrality(features: Tensor, norm: Tensor, rows: Tensor, labels: Tensor, sizes: Tensor) -> Tensor:
    """Arguments and result are those of :func:`stgraph.kernels.community_centrality`; ``sizes`` may end in zeros."""
    features = features.detach()
    out = norm.new_zeros(len(labels), dtype=torch.float32)
    if not len(labels):
        return out
    count, dim, step = len(labels), features.shape[1], features.stride(1)
    order = torch.sort(labels, stable=True).indices
    starts = torch.cumsum(sizes, 0) - sizes
    chunks = -(-count // CHUNK)
    with _on(features):
        # Both members of a pair have the very same centrality, its cosine.
        of_two = sizes == 2
        left = torch.where(of_two, order[starts.clamp(max=count - 1)], -1)
        right = torch.where(of_two, order[(starts + 1).clamp(max=count - 1)], 0)
        cosine = _pairs(features, rows, features.stride(0), norm, left, right, dim, step)
        out += torch.where(of_two, cosine, 0.0)[labels]
        rows_of = (features, rows, features.stride(0), norm, order)
        for least, most in ((3, _FEW), (_FEW + 1, CHUNK)):
            programs.small_communities[(len(sizes),)](
                *rows_of, starts, sizes, out, dim, step, LEAST=least, MOST=most, DIM=_DIM
            )
        if count > CHUNK:
            blocks = -(-dim // _DIM)
            partial = out.new_empty((chunks, 2, dim))
            total = out.new_empty((chunks, dim))
            tile = {"CHUNK": CHUNK, "DIM": _DIM}
            programs.large_sums[(chunks, blocks)](*rows_of, labels, sizes, partial, count, dim, step, **tile)
            programs.large_totals[(chunks, blocks)](order, labels, starts, sizes, partial, total, count, dim, **tile)
            programs.large_scores[(chunks,)](
                *rows_of, labels, starts, sizes, total, out, count, dim, step, CHUNK=CHUNK, DIM=_DIM // 2
            )
    return out


def lattice(x: Tensor, period: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Norms, and the cosines of every token with its neighbours to the left, above and one frame before.

    Args:
        x: (T, H, W, d) frames of one video or of several that follow each other.
        period: frames of each video.

    Returns:
        (T, H, W) float64 norms, and three times (T, H, W) float32 cosines, 0 where there is no neighbour.
    """
    frames, height, width, dim = x.shape
    squared = x.new_empty((frames, height, width), dtype=torch.float64)
    norm = torch.empty_like(squared)
    cosines = [torch.empty_like(squared, dtype=torch.float32) for _ in OFFSETS]
    tile = min(_ROWS, 1 << (max(width, 1) - 1).bit_length())
    grid = (frames * height * -(-width // tile),)
    if grid[0]:
        sizes = (period, height, width, dim, *x.stride())
        with _on(x):
            programs.lattice_dots[grid](x, squared, *cosines, *sizes, WIDTH=tile, DIM=_DIM // 2)
            programs.lattice_cosines[grid](x, squared, norm, *cosines, *sizes, WIDTH=tile, DIM=_DIM // 4)
    return norm, cosines[0], cosines[1], cosines[2]


def lattice_components(
    left: Tensor, above: Tensor, before: Tensor, threshold: float, period: int
) -> tuple[Tensor, Tensor]:
    """Connected components of the grid's edges that weigh at least ``threshold``.

    Args:
        left: (T, H, W) float32 weight of every token's edge to the left, as :func:`lattice` gives it.
        above: of its edge upwards.
        before: of its edge one frame back.
        threshold: τ_sim, on the grid of the weights.
        period: frames of each video.

    Returns:
        (V,) int64 labels, numbered by first appearance, and (V,) int64 sizes, zero beyond the last community.
    """
    _, height, width = left.shape
    count = left.numel()
    vertex = torch.arange(count, dtype=torch.int32, device=left.device)
    parent, root, size = vertex.clone(), torch.empty_like(vertex), torch.zeros_like(vertex)
    grid = (-(-count // _BLOCK),)
    column, row = vertex % width, vertex // width % height
    frame = vertex // (width * height) % period
    if count:
        with _on(left):
            for weight, place, distance in ((left, column, 1), (above, row, width), (before, frame, width * height)):
                present = torch.where(place > 0, weight.flatten(), -2.0)
                programs.unite[grid](parent, present, threshold, count, distance, BLOCK=_BLOCK)
            programs.flatten[grid](parent, root, size, count, BLOCK=_BLOCK)
    number = torch.cumsum(root == vertex, 0) - 1
    labels = number[root]
    sizes = torch.zeros_like(number).scatter_add_(0, labels, torch.ones_like(labels))
    return labels, sizes


def _norms(x: Tensor, offset: Tensor, stride: int, dim: int, step: int) -> Tensor:
    out = torch.empty(len(offset), dtype=torch.float64, device=x.device)
    if len(offset):
        with _on(x):
            grid = (-(-len(offset) // _ROWS),)
            programs.row_norms[grid](x, offset, stride, out, len(offset), dim, step, ROWS=_ROWS, DIM=_DIM)
    return out


def _pairs(
    x: Tensor, offset: Tensor, stride: int, norm: Tensor, left: Tensor, right: Tensor, dim: int, step: int
) -> Tensor:
    out = torch.zeros(len(left), dtype=torch.float32, device=x.device)
    if len(left):
        with _on(x):
            grid = (-(-len(left) // _ROWS),)
            ends = (left.contiguous(), right.contiguous())
            size = (len(left), dim, step)
            programs.pair_cosines[grid](x, offset, stride, norm, *ends, out, *size, ROWS=_ROWS, DIM=_DIM)
    return out


def _on(x: Tensor) -> contextlib.AbstractContextManager[object]:
    """Triton launches on the current device, which need not be that of ``x``."""
    return torch.cuda.device(x.device) if x.is_cuda else contextlib.nullcontext()
