"""What every detector that runs on igraph shares: the graph, and randomness that belongs to the call."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..optional import require
from .edge_list import EdgeList

_LOCK = threading.Lock()


def igraph_graph(edges: EdgeList, method: str) -> Any:
    """The ``igraph.Graph`` of an edge list; weights go to each call, as ``edges.weight.tolist()``."""
    igraph = require("igraph", extra="graph", needed_by=method)
    return igraph.Graph(n=edges.num_nodes, edges=edges.pairs.data)  # a buffer is read without Python objects


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """igraph draws from a generator of its own inside the block, whatever else in the process is random.

    igraph has one generator for the whole process, by default Python's ``random`` module: calls from several threads
    wait for each other here, and the default is put back at the end (igraph cannot tell what was set before).
    """
    import igraph

    with _LOCK:
        igraph.set_random_number_generator(random.Random(seed))
        try:
            yield
        finally:
            igraph.set_random_number_generator(random)
