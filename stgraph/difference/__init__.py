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
        "robust_z": "stgraph.difference.robust_z:RobustZ",
        "noise": "stgraph.difference.noise:Noise",
        "frame_relative": "stgraph.difference.frame_relative:FrameRelative",
        "drift": "stgraph.difference.drift:Drift",
        "multiscale": "stgraph.difference.multiscale:Multiscale",
        "running_mean": "stgraph.difference.running_mean:RunningMean",
        "second_difference": "stgraph.difference.second_difference:SecondDifference",
        "spatial": "stgraph.difference.spatial:Spatial",
        "motion": "stgraph.difference.motion:Motion",
        "evs": "stgraph.difference.evs:EVS",
    },
)

__all__ = ["DIFFERENCES", "Difference", "DifferenceDetector", "Event", "Percentile", "Threshold"]
