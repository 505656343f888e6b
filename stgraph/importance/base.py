"""Importance: which candidates stay when there are more of them than the budget allows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ..community.partition import Partition
from ..difference.base import Difference
from ..graph import SpatioTemporalGraph
from ..signals import Signals


@dataclass(frozen=True, eq=False)
class Evidence:
    """All that is known of the vertices of a graph when importance is asked for.

    Attributes:
        graph: the unpruned graph, V vertices.
        partition: their communities.
        centrality: (V,) float32 S_c.
        difference: their difference scores.
        is_candidate: (V,) bool, representatives and events: what is to be trimmed.
        rank: (V,) int64 place of each vertex in its community by centrality, 0 = most central.
        signals: attention and keys of the tokens, (N, ...); index them with ``graph.token``.
    """

    graph: SpatioTemporalGraph
    partition: Partition
    centrality: Tensor
    difference: Difference
    is_candidate: Tensor
    rank: Tensor
    signals: Signals


@dataclass(frozen=True)
class Importance(ABC):
    """A score by which candidates are trimmed to the budget; fields are its parameters.

    Attributes:
        signal: the signal that is this score as it stands; None for a score that is computed.
    """

    signal: ClassVar[str | None] = None

    @abstractmethod
    def __call__(self, evidence: Evidence) -> Tensor:
        """(V,) float scores, larger = kept longer; compared within one video only."""

    def resolve(self, signals: Signals) -> Importance:
        """The importance that is really used with these signals: itself, unless it chooses between others."""
        return self

    def choices(self) -> tuple[Importance, ...]:
        """All that :meth:`resolve` may choose between."""
        return (self,)
