"""Numbers that charts and the report draw: per frame, per community and per edge weight."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..difference.base import Difference
from ..errors import StgraphError
from ..graph import SpatioTemporalGraph
from ..graph.edges import TEMPORAL
from ..selectors.selection import Selection, Verdict
from ..tokens import Grid


def token_grid(values: Tensor, coords: Tensor, grid: Grid, fill: float) -> np.ndarray:
    """Per-token values of one video as (T, H, W), ``fill`` where the grid has no token; separators are left out.

    Args:
        values: (N,) any dtype, which the result keeps.
        coords: (N, 3) int64 (frame, row, column).
        grid: of the video.
        fill: value of missing positions.
    """
    t, y, x = coords.cpu().numpy().T
    inside = (y >= 0) & (y < grid.height) & (x < grid.width)
    flat = values.detach().cpu().numpy()
    out = np.full(tuple(grid), fill, dtype=flat.dtype)
    out[t[inside], y[inside], x[inside]] = flat[inside]
    return out


def one_video(selection: Selection, grid: Grid) -> None:
    """Raise :class:`StgraphError` unless ``selection`` is of one video whose tokens lie in ``grid``."""
    if len(selection.budget) != 1:
        many = len(selection.budget)
        raise StgraphError(f"a picture shows one video, but the selection holds {many}; use selection.video(i)")
    highest = selection.coords.amax(0).tolist() if len(selection.coords) else [0, 0, 0]
    if highest[0] >= grid.frames or highest[1] > grid.height or highest[2] > grid.width:
        raise StgraphError(
            f"the selection has a token at frame, row, column {tuple(highest)}, outside the grid {tuple(grid)}; "
            "give the grid of the tokens that were selected from"
        )


def verdicts_per_frame(selection: Selection, frames: int) -> np.ndarray:
    """(T, 7) int64 number of tokens of each :class:`Verdict` in each frame, separators in the frame they follow."""
    code = selection.coords[:, 0] * len(Verdict) + selection.verdict.long()
    return torch.bincount(code, minlength=frames * len(Verdict)).view(frames, len(Verdict)).cpu().numpy()


class FrameDifference(NamedTuple):
    """Difference scores frame by frame: (T,) each, 0 for frames without vertices."""

    mean: np.ndarray
    high: np.ndarray
    marked: np.ndarray


HIGH_QUANTILE = 0.95
"""What "high" means where charts show the upper end of a frame's difference scores."""


def difference_per_frame(difference: Difference, graph: SpatioTemporalGraph, frames: int) -> FrameDifference:
    """Mean and 95th percentile of the scores, and number of marked tokens, in each frame of one video."""
    frame = graph.coords[:, 0].cpu().numpy()
    order = np.argsort(frame, kind="stable")
    scores = np.split(difference.score.cpu().numpy()[order], np.searchsorted(frame[order], np.arange(1, frames)))
    mean = np.array([part.mean() if len(part) else 0.0 for part in scores])
    high = np.array([np.quantile(part, HIGH_QUANTILE) if len(part) else 0.0 for part in scores])
    return FrameDifference(mean, high, np.bincount(frame[difference.marked.cpu().numpy()], minlength=frames))


class WeightHistogram(NamedTuple):
    """Edge weights in bins: (b + 1,) edges of the bins, (b,) spatial and (b,) temporal counts."""

    edges: np.ndarray
    spatial: np.ndarray
    temporal: np.ndarray


def weight_histogram(graph: SpatioTemporalGraph, bins: int = 50) -> WeightHistogram:
    """Histogram of the edge weights, from their smallest (or 0, if that is smaller) to 1."""
    weight = graph.edge_weight.detach().cpu().numpy().clip(-1, 1)
    temporal = (graph.edge_kind == TEMPORAL).cpu().numpy()
    edges = np.linspace(min(0.0, float(weight.min(initial=0))), 1, bins + 1)
    return WeightHistogram(edges, np.histogram(weight[~temporal], edges)[0], np.histogram(weight[temporal], edges)[0])


def telling_frames(changes: np.ndarray, count: int) -> list[int]:
    """Numbers of the ``count`` most telling frames, ascending: half evenly spread, half those with the most changes.

    Args:
        changes: (T,) how much happens in each frame; ties go to the earlier one.
        count: at least 1; all frames when there are no more.
    """
    total = len(changes)
    if count >= total:
        return list(range(total))
    chosen = set(np.linspace(0, total - 1, max(1, count - count // 2)).round().astype(int).tolist())
    busiest = np.argsort(-changes, kind="stable").tolist()
    chosen.update([frame for frame in busiest if frame not in chosen and changes[frame] > 0][: count - len(chosen)])
    if len(chosen) < count:  # too little happens: spread the rest evenly over the frames that are left
        left = [frame for frame in range(total) if frame not in chosen]
        chosen.update(left[i] for i in np.linspace(0, len(left) - 1, count - len(chosen)).round().astype(int))
    return sorted(chosen)
