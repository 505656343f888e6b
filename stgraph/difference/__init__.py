"""Difference detectors: graph → :class:`Difference`. One file each; add a line to the table to register another."""

from ..registry import Registry
from .base import Difference, DifferenceDetector
from .events import Event
from .percentile import Percentile
from .threshold import Threshold

DIFFERENCES: Registry[DifferenceDetector] = Registry(
    "difference",
    "stgraph.difference.base:DifferenceDetector",
    {
        "threshold": "stgraph.difference.threshold:Threshold",
        "none": "stgraph.difference.none:NoDifference",
        "percentile": "stgraph.difference.percentile:Percentile",
    },
)

__all__ = ["DIFFERENCES", "Difference", "DifferenceDetector", "Event", "Percentile", "Threshold"]
