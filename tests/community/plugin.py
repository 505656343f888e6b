"""Detectors as a user may write them outside stgraph."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stgraph import SpatioTemporalGraph
from stgraph.community import CommunityDetector


@dataclass(frozen=True)
class Chessboard(CommunityDetector):
    """The colours of a chessboard, numbered oddly."""

    shift: int = 0

    def detect(self, graph: SpatioTemporalGraph) -> Tensor:
        return 7 - 5 * ((graph.coords.sum(1) + self.shift) % 2).int()


@dataclass(frozen=True)
class TooFew(CommunityDetector):
    def detect(self, graph: SpatioTemporalGraph) -> Tensor:
        return torch.zeros(graph.num_nodes - 1, dtype=torch.int64)


@dataclass(frozen=True)
class Fractions(CommunityDetector):
    def detect(self, graph: SpatioTemporalGraph) -> Tensor:
        return torch.zeros(graph.num_nodes)


@dataclass(frozen=True)
class NoTensor(CommunityDetector):
    def detect(self, graph: SpatioTemporalGraph) -> Tensor:
        return [0] * graph.num_nodes  # type: ignore[return-value]
