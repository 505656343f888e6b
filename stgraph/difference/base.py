"""DifferenceDetector and Difference: where a video changes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..errors import StgraphError
from ..graph import SpatioTemporalGraph
from ..graph.edges import TEMPORAL
from ..kernels import places, take
from ..late_binding import above
from .events import Event, group_events


@dataclass(frozen=True, eq=False)
class Difference:
    """How much every token differs from what its detector compares it with, and which ones are events.

    Attributes:
        score: (V,) float32 ≥ 0, larger = differs more; 0 for tokens that have nothing to be compared with.
        marked: (V,) bool, the event tokens T_event: score above the threshold of their video.
        threshold: one score per video above which a token is marked.
        method: name and parameters of the detector that made it.
    """

    score: Tensor
    marked: Tensor
    threshold: tuple[float, ...]
    method: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Difference({int(self.marked.sum())} of {len(self.marked)} tokens marked, {self.method})"

    def _repr_html_(self) -> str:
        return str(above("difference_card")(self))

    def events(self, graph: SpatioTemporalGraph, min_size: int = 1) -> list[Event]:
        """The marked tokens joined in space and time into events, in order of their first frame.

        Args:
            graph: the graph that the detector was called with.
            min_size: events of fewer tokens are left out, ≥ 1.

        Raises:
            StgraphError: another number of vertices, or ``min_size`` out of range.
        """
        return group_events(graph, self.score, self.marked, min_size)


@dataclass(frozen=True)
class DifferenceDetector(ABC):
    """A difference detector; fields are its parameters, calling it does the work.

    A method implements :meth:`score` and :meth:`threshold_for` for the graph of one video. This class runs them video
    by video and marks the tokens whose score is strictly above the threshold. A zero vector is similar to nothing: its
    difference from anything, itself included, is 1.
    """

    def __call__(self, graph: SpatioTemporalGraph) -> Difference:
        """The differences along ``graph``, which is not changed.

        Raises:
            StgraphError: the method returned scores that are not one finite number ≥ 0 per vertex, or a threshold that
                is no number ≥ 0.
        """
        scores, marks, thresholds = [], [], []
        for index in range(graph.num_videos):
            video = graph.video(index)
            score = self.score(video)
            if score.shape != (video.num_nodes,) or not bool((score.isfinite() & (score >= 0)).all()):
                raise StgraphError(
                    f"difference detector {type(self).__name__} must return one finite score ≥ 0 for each of "
                    f"{video.num_nodes} vertices, got shape {tuple(score.shape)}, of which "
                    f"{int((~(score.isfinite() & (score >= 0))).sum())} are negative, NaN or Inf"
                )
            score = score.float()
            threshold = self.threshold_for(score, video)
            if not threshold >= 0:
                raise StgraphError(
                    f"difference detector {type(self).__name__} must return a threshold ≥ 0, got {threshold!r}"
                )
            scores.append(score)
            marks.append(self.mark(score, threshold, video))
            thresholds.append(threshold)
        from . import DIFFERENCES

        return Difference(torch.cat(scores), torch.cat(marks), tuple(thresholds), DIFFERENCES.config(self))

    def score(self, graph: SpatioTemporalGraph) -> Tensor:
        """(V,) float32 ≥ 0, the difference of every vertex; by default 1 − w of its temporal edge."""
        return temporal_difference(graph)

    @abstractmethod
    def threshold_for(self, score: Tensor, graph: SpatioTemporalGraph) -> float:
        """The score above which a vertex of this video is marked, ≥ 0."""

    def mark(self, score: Tensor, threshold: float, graph: SpatioTemporalGraph) -> Tensor:
        """(V,) bool event tokens: those strictly above the threshold, unless a method must cut through a tie."""
        return score.double() > threshold  # a threshold between two float32 numbers stays between them


def temporal_difference(graph: SpatioTemporalGraph) -> Tensor:
    """1 − w of the temporal edge that ends in each vertex: (V,) float32, the largest of several, 0 where none ends."""
    temporal = places(graph.edge_kind == TEMPORAL)
    later, drop = take(graph.edge_index[1], temporal), 1 - take(graph.edge_weight, temporal)
    return graph.edge_weight.new_zeros(graph.num_nodes).scatter_reduce(0, later, drop, "amax")


def has_past(graph: SpatioTemporalGraph) -> Tensor:
    """(V,) bool, True for vertices in which a temporal edge ends."""
    past = torch.zeros(graph.num_nodes, dtype=torch.bool, device=graph.token.device)
    past[graph.edge_index[1, graph.edge_kind == TEMPORAL]] = True
    return past


def lagged_difference(graph: SpatioTemporalGraph, frames: int) -> tuple[Tensor, Tensor, Tensor]:
    """How much every token differs from the one at the same position some frames before, joined by an edge or not.

    Returns:
        (P,) int64 earlier vertices, (P,) int64 later vertices, and (P,) float32 their 1 − cosine. A vertex without a
        token at its position that many frames before is no later vertex; no vertex is one twice.
    """
    pairs = graph.pairs((frames, 0, 0))
    return pairs[0], pairs[1], 1 - graph.similarity(pairs)
