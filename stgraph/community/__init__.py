"""Community detectors: graph → :class:`Partition`. One file each; add a line to the table to register another."""

from ..registry import Registry
from .base import CommunityDetector
from .components import ConnectedComponents
from .partition import Partition

COMMUNITIES: Registry[CommunityDetector] = Registry(
    "community",
    "stgraph.community.base:CommunityDetector",
    {
        "components": "stgraph.community.components:ConnectedComponents",
    },
)

__all__ = ["COMMUNITIES", "CommunityDetector", "ConnectedComponents", "Partition"]
