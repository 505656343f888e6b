"""Events: marked tokens joined in space and time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from ..errors import StgraphError, check_number
from ..graph import SpatioTemporalGraph


@dataclass(frozen=True)
class Event:
    """Something that happens: a set of marked tokens that touch in space and time (26-neighbourhood).

    Attributes:
        video: number of the video.
        first_frame: frame of the first marked token.
        last_frame: frame of the last one.
        box: (row, column, row, column), upper-left token and, exclusive, lower-right one, over all its frames.
        size: number of tokens.
        mass: sum of their difference scores.
        peak_frame: frame with the largest sum of scores.
        vertices: their vertices, ascending.
    """

    video: int
    first_frame: int
    last_frame: int
    box: tuple[int, int, int, int]
    size: int
    mass: float
    peak_frame: int
    vertices: tuple[int, ...]


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
    from scipy.ndimage import find_objects, label

    events = []
    for video in range(graph.num_videos):
        inside = ((graph.batch == video) & marked).nonzero()[:, 0].cpu().numpy()
        if not len(inside):
            continue
        coords = graph.coords.cpu().numpy()[inside]
        scores = score.cpu().numpy()[inside].astype(np.float64)
        low = coords.min(0)
        volume = np.zeros(coords.max(0) - low + 1, dtype=bool)
        volume[tuple((coords - low).T)] = True
        labels, _ = label(volume, np.ones((3, 3, 3)))
        number = labels[tuple((coords - low).T)]
        order = np.argsort(number, kind="stable")
        groups = np.split(order, np.flatnonzero(np.diff(number[order])) + 1)
        for members, box in zip(groups, find_objects(labels), strict=True):
            if len(members) < min_size:
                continue
            frames, rows, columns = (
                (part.start + int(o), part.stop + int(o)) for part, o in zip(box, low, strict=True)
            )
            mass = np.bincount(coords[members, 0] - frames[0], weights=scores[members])
            events.append(
                Event(
                    video=video,
                    first_frame=frames[0],
                    last_frame=frames[1] - 1,
                    box=(rows[0], columns[0], rows[1], columns[1]),
                    size=len(members),
                    mass=float(mass.sum()),
                    peak_frame=frames[0] + int(mass.argmax()),
                    vertices=tuple(inside[members].tolist()),
                )
            )
    return sorted(events, key=lambda event: (event.video, event.first_frame, event.vertices))
