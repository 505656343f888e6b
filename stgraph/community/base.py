"""CommunityDetector: the contract of everything that groups similar tokens."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import StgraphError, check_number
from ..graph import SpatioTemporalGraph
from .partition import Partition


@dataclass(frozen=True)
class CommunityDetector(ABC):
    """A community detector; fields are its parameters, calling it does the work.

    A method implements :meth:`detect` for the graph of one video. This class runs it video by video, so that a batch
    gives what its videos give one by one, checks the labels, and numbers communities by their first vertex.
    """

    def __call__(self, graph: SpatioTemporalGraph) -> Partition:
        """The communities of ``graph``, which is not changed.

        Raises:
            StgraphError: the method returned labels that are not one whole number per vertex.
        """
        start = time.perf_counter()
        parts: list[Tensor] = []
        offset = 0
        for index in range(graph.num_videos):
            video = graph.video(index)
            labels = self._checked(self.detect(video), video)
            parts.append(labels + offset)
            offset += int(labels.max()) + 1 if len(labels) else 0
        labels = torch.cat(parts) if parts else graph.token.new_empty(0)
        from . import COMMUNITIES

        return Partition(labels, COMMUNITIES.config(self), time.perf_counter() - start)

    @abstractmethod
    def detect(self, graph: SpatioTemporalGraph) -> Tensor:
        """(V,) whole numbers, equal for vertices of one community; any numbers will do."""

    def _checked(self, labels: Tensor, graph: SpatioTemporalGraph) -> Tensor:
        name = type(self).__name__
        if not isinstance(labels, Tensor) or labels.shape != (graph.num_nodes,) or labels.dtype.is_floating_point:
            shape = tuple(labels.shape) if isinstance(labels, Tensor) else type(labels).__name__
            raise StgraphError(
                f"community detector {name} must return one whole-number label for each of {graph.num_nodes} vertices, "
                f"got {shape}"
            )
        return by_first_appearance(labels.to(graph.token.device, torch.int64))


def by_first_appearance(labels: Tensor) -> Tensor:
    """Labels renumbered 0, 1, ... in the order in which they first appear."""
    if not len(labels):
        return labels
    highest = torch.cummax(labels, 0).values
    if int(labels[0]) == 0 and int(labels.min()) == 0 and not bool((highest.diff() > 1).any()):
        return labels  # numbered by first appearance already
    unique, inverse = torch.unique(labels, return_inverse=True)
    positions = torch.arange(len(labels), device=labels.device)
    first = torch.full((len(unique),), len(labels), device=labels.device).scatter_reduce(0, inverse, positions, "amin")
    return torch.argsort(torch.argsort(first))[inverse]


def check_seed(seed: int) -> None:
    """Raise :class:`StgraphError` unless ``seed`` is a whole number that every library takes."""
    check_number("seed", seed, at_least=0, at_most=2**32 - 1, integer=True)
