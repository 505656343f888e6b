"""Partition: which tokens belong together."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Partition:
    """A community for every vertex of a graph.

    Attributes:
        labels: (V,) int64 communities 0 to m − 1, numbered by their first vertex; none spans two videos.
        method: name and parameters of the detector that made it.
        seconds: time that took.
    """

    labels: Tensor
    method: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    @cached_property
    def sizes(self) -> Tensor:
        """(m,) int64 number of members of each community."""
        return torch.bincount(self.labels)

    @property
    def num_communities(self) -> int:
        """Number of communities m."""
        return len(self.sizes)

    def __repr__(self) -> str:
        largest = int(self.sizes.max()) if self.num_communities else 0
        return f"Partition({self.num_communities} communities of {len(self.labels)} vertices, largest {largest}, {self.method})"
