"""The spatiotemporal graph of a video's tokens: edges, the graph, exports, merge tree, thresholds from the data."""

from .spatiotemporal import SpatioTemporalGraph, build_graph

__all__ = ["SpatioTemporalGraph", "build_graph"]
