"""Community detectors: graph → :class:`Partition`. One file each; add a line to the table to register another."""

from ..registry import Registry
from .base import CommunityDetector
from .components import ConnectedComponents
from .partition import Agreement, Partition

COMMUNITIES: Registry[CommunityDetector] = Registry(
    "community",
    "stgraph.community.base:CommunityDetector",
    {
        "components": "stgraph.community.components:ConnectedComponents",
        "louvain": "stgraph.community.louvain:Louvain",
        "leiden": "stgraph.community.leiden:Leiden",
        "multiplex": "stgraph.community.multiplex:MultiplexLeiden",
        "label_propagation": "stgraph.community.label_propagation:LabelPropagation",
        "infomap": "stgraph.community.infomap:Infomap",
        "greedy": "stgraph.community.greedy:GreedyModularity",
        "spectral": "stgraph.community.spectral:Spectral",
        "sqrt_split": "stgraph.community.sqrt_split:SqrtSplit",
        "agglomerative": "stgraph.community.agglomerative:Agglomerative",
        "composed": "stgraph.community.composed:Composed",
    },
)

__all__ = ["COMMUNITIES", "Agreement", "CommunityDetector", "ConnectedComponents", "Partition"]
