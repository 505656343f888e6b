"""Late binding: the few functions of a higher folder that a lower one calls, found by name when they are called.

Imports point one way: a folder imports only folders below it (``tests/test_layout.py``). Some methods are worth more
than that rule: a selection draws itself, a selector attaches itself to a model. This table lists all of them.
"""

from __future__ import annotations

import importlib
from typing import Any

ABOVE = {
    "tokens_card": "stgraph.viz.cards:tokens_card",
    "graph_card": "stgraph.viz.cards:graph_card",
    "partition_card": "stgraph.viz.cards:partition_card",
    "difference_card": "stgraph.viz.cards:difference_card",
    "selection_card": "stgraph.viz.cards:selection_card",
    "selection_columns": "stgraph.viz.columns:selection_columns",
    "explore": "stgraph.viz.explorer:explore",
    "scene": "stgraph.viz.scene:scene",
    "attachment": "stgraph.models:Attachment",
}
"""Name -> ``"module:attribute"``: the cards of values in a notebook, columns of an exported graph, the explorer, the
pictures, and the hooks on a model."""


def above(name: str) -> Any:
    """The function or class that ``name`` stands for in :data:`ABOVE`."""
    module, _, attribute = ABOVE[name].partition(":")
    return getattr(importlib.import_module(module), attribute)
