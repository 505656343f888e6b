"""The rows of the paper's ablation, each by one word."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..community.partition import Partition
from ..difference.base import DifferenceDetector
from ..difference.none import NoDifference
from ..graph import SpatioTemporalGraph, build_graph
from ..graph.edges import SpatialBuilder, TemporalBuilder
from ..importance.base import Evidence, Importance
from ..registry import group_field, registry
from ..signals import Signals
from ..tokens import VideoTokens
from .base import Ranking, Selector, place_of
from .simdiff import STSimDiff


@dataclass(frozen=True, kw_only=True)
class ImportanceOnly(Selector):
    """The ablation's baseline: the ⌈r·N⌉ most important tokens of each video, with neither similarity nor difference.

    Departures: where no attention is given, ``importance="auto"`` ranks by its substitute, which does read the graph.

    Attributes:
        importance: what tokens are ranked by, every token being a candidate and a community of its own.
    """

    importance: Importance = group_field("importance", "auto")

    @property
    def natural_trim(self) -> Literal["before", "inside"]:
        """Before the model; inside it where ``importance`` is the model's own attention."""
        return place_of(self.importance.signal)

    def rank(self, tokens: VideoTokens, signals: Signals) -> Ranking:
        """The importance."""
        graph = build_graph(tokens, separators_as_vertices=self.separators == "vertex")
        alone = torch.arange(graph.num_nodes, device=tokens.device)
        none = torch.zeros(graph.num_nodes, dtype=torch.float32, device=tokens.device)
        importance = self.importance.resolve(signals)
        score = importance(
            Evidence(graph, Partition(alone), none, NoDifference()(graph), alone >= 0, torch.zeros_like(alone), signals)
        )
        name = registry("importance").name_of(importance)
        return Ranking(_per_token(score, graph, tokens), notes=(f"tokens are ranked by {name}",))


@dataclass(frozen=True, kw_only=True)
class Similarity(STSimDiff):
    """+ Sim (both): ST-SimDiff without the event path."""

    difference: DifferenceDetector = group_field("difference", "none")


@dataclass(frozen=True, kw_only=True)
class SpatialSimilarity(Similarity):
    """+ Sim (spatial): representatives of communities inside frames, no event path."""

    similarity_edges: Literal["both", "spatial", "temporal"] = "spatial"


@dataclass(frozen=True, kw_only=True)
class TemporalSimilarity(Similarity):
    """+ Sim (temporal): representatives of communities along time, no event path."""

    similarity_edges: Literal["both", "spatial", "temporal"] = "temporal"


@dataclass(frozen=True, kw_only=True)
class DifferenceOnly(Selector):
    """The event path alone: the tokens that differ most from their past.

    Not a row of the paper, but the question that its rows leave. Event tokens come first, and within and beyond them
    the larger difference, ties to the smaller index.

    Attributes:
        spatial: what joins tokens inside a frame, for detectors that look there.
        temporal: what joins tokens between frames.
        difference: the difference detector.
    """

    spatial: SpatialBuilder = group_field("spatial", "grid")
    temporal: TemporalBuilder = group_field("temporal", "aligned")
    difference: DifferenceDetector = group_field("difference", "threshold")

    def rank(self, tokens: VideoTokens, signals: Signals) -> Ranking:
        """The difference, with events as candidates."""
        graph = build_graph(tokens, (self.spatial, self.temporal), separators_as_vertices=self.separators == "vertex")
        found = self.difference(graph)
        score = _per_token(found.score, graph, tokens)
        event = _per_token(found.marked, graph, tokens)
        return Ranking(score, candidate=2 * event.to(torch.uint8), difference=score)


def _per_token(values: Tensor, graph: SpatioTemporalGraph, tokens: VideoTokens) -> Tensor:
    return values.new_zeros(len(tokens)).index_copy_(0, graph.token, values)
