"""Events: marked tokens joined in space and time, parted at shot boundaries."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..community.components import torch_components
from ..errors import StgraphError, check_number
from ..graph import SpatioTemporalGraph

EventKind = Literal["local", "cut", "transition"]
"""A change in a part of the picture, or a shot boundary: a cut (one frame) or a transition (several in a row)."""


@dataclass(frozen=True)
class Event:
    """Something that happens: marked tokens that touch in space and time (26-neighbourhood).

    A frame in which more than half of the tokens are marked is busy. Busy frames in a row are one event of their own,
    whether their tokens touch or not, and no other event passes through them: so a shot boundary parts what happens
    before it from what happens after it.

    Attributes:
        video: number of the video.
        first_frame: frame of the first marked token.
        last_frame: frame of the last one.
        box: (row, column, row, column), upper-left token and, exclusive, lower-right one, over all its frames.
        size: number of tokens.
        mass: sum of their difference scores.
        peak_frame: frame with the largest sum of scores.
        vertices: their vertices, ascending.
        kind: ``"cut"`` for one busy frame, ``"transition"`` for several in a row, ``"local"`` for all others.
    """

    video: int
    first_frame: int
    last_frame: int
    box: tuple[int, int, int, int]
    size: int
    mass: float
    peak_frame: int
    vertices: tuple[int, ...]
    kind: EventKind = "local"


def group_events(graph: SpatioTemporalGraph, score: Tensor, marked: Tensor, min_size: int = 1) -> list[Event]:
    """Events of all videos, by video and first frame.

    Args:
        graph: gives the coordinates.
        score: (V,) difference scores.
        marked: (V,) bool event tokens.
        min_size: events of fewer tokens are left out, ≥ 1.

    Raises:
        StgraphError: scores or marks that are not one per vertex, or ``min_size`` out of range.
    """
    check_number("min_size", min_size, at_least=1, integer=True)
    if not score.shape == marked.shape == (graph.num_nodes,):
        raise StgraphError(
            f"events need one score and one mark for each of {graph.num_nodes} vertices, got {tuple(score.shape)} and "
            f"{tuple(marked.shape)}; give the graph that the difference was computed on"
        )
    events = []
    coords, batch = graph.coords.cpu().numpy(), graph.batch.cpu().numpy()
    scores, marks = score.cpu().numpy().astype(np.float64), marked.cpu().numpy()
    for video in range(graph.num_videos):
        rows = np.flatnonzero(batch == video)
        vertices = rows[marks[rows]]
        if not len(vertices):
            continue
        where = coords[vertices]
        many, all_of_them = (
            np.bincount(frame, minlength=coords[rows, 0].max() + 1) for frame in (where[:, 0], coords[rows, 0])
        )
        busy = 2 * many > all_of_them
        number = _numbers(where, busy)
        order = np.argsort(number, kind="stable")
        for members in np.split(order, np.flatnonzero(np.diff(number[order])) + 1):
            if len(members) < min_size:
                continue
            low, high = where[members].min(0).tolist(), where[members].max(0).tolist()
            mass = np.bincount(where[members, 0] - low[0], weights=scores[vertices[members]])
            kind: EventKind = "local" if not busy[low[0]] else "cut" if low[0] == high[0] else "transition"
            events.append(
                Event(
                    video=video,
                    first_frame=low[0],
                    last_frame=high[0],
                    box=(low[1], low[2], high[1] + 1, high[2] + 1),
                    size=len(members),
                    mass=float(mass.sum()),
                    peak_frame=low[0] + int(mass.argmax()),
                    vertices=tuple(vertices[members].tolist()),
                    kind=kind,
                )
            )
    return sorted(events, key=lambda event: (event.video, event.first_frame, event.vertices))


def _numbers(coords: NDArray[np.int64], busy: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The event of each marked token of one video, by the number of its first token.

    Args:
        coords: (K, 3) of the marked tokens, in raster order.
        busy: (T,) frames in which most tokens are marked.
    """
    stretch = np.cumsum(np.diff(busy, prepend=busy[:1]))[coords[:, 0]]  # frames in a row: all busy, or none
    inside = coords - coords.min(0) + 1
    place = np.full(inside.max(0) + 2, -1)  # with a rim, so that every place has 26 neighbours
    place[tuple(inside.T)] = np.arange(len(coords))
    follower = np.arange(1, len(coords))
    of_busy = follower[busy[coords[follower, 0]] & (stretch[follower] == stretch[follower - 1])]
    pairs = [np.stack([of_busy - 1, of_busy])]
    halves = itertools.islice(itertools.product((-1, 0, 1), repeat=3), 14, None)  # one of each two that are opposite
    for step in halves:
        there = place[tuple((inside + step).T)]
        here = np.flatnonzero((there >= 0) & (stretch == stretch[there]))
        pairs.append(np.stack([here, there[here]]))
    return torch_components(len(coords), torch.from_numpy(np.concatenate(pairs, 1))).numpy()
