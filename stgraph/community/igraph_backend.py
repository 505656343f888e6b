"""What every detector that runs on igraph shares: the graph, and randomness that belongs to the call."""

from __future__ import annotations

import gc
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
    """Within the block igraph uses a seeded generator of its own, independent of other random numbers in the process.

    Calls from several threads wait for each other here. At the end the generator that served before is put back:
    Python's ``random`` module (igraph's default) in the state that it was in, or a :class:`random.Random` a few numbers
    further on. A thread in which igraph has not drawn yet gets igraph's default.
    """
    import igraph

    with _LOCK:
        before = _generator(igraph)
        igraph.set_random_number_generator(random.Random(seed))
        try:
            yield
        finally:
            igraph.set_random_number_generator(before)


def _generator(igraph: Any) -> Any:
    """What igraph draws from in this thread, or its default where that cannot be found.

    igraph has no function that says so. But it can be made to draw, and the generator that it draws from changes its
    state. In a new thread igraph draws from a generator in C. Going back to that one would also take the Python
    generator away from all other threads, so the default serves there from then on.
    """
    if _is_drawn_from(igraph, random):
        return random
    # What was set is alive, or igraph could not draw from it. By type(), as some objects warn when asked for their
    # class.
    alive = [g for g in gc.get_objects() if issubclass(type(g), random.Random) and type(g) is not random.SystemRandom]
    return next((g for g in alive if _is_drawn_from(igraph, g)), random)


def _is_drawn_from(igraph: Any, generator: Any) -> bool:
    state = generator.getstate()
    igraph.Graph.GRG(1, 0.5)  # one vertex at a random place
    drawn: bool = generator.getstate() != state
    generator.setstate(state)
    return drawn
