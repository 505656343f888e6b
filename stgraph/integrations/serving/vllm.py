"""The selector inside vLLM: ``STGRAPH_VLLM="selector=simdiff" vllm serve MODEL --video-pruning-rate 0.7``.

vLLM finds :func:`register` by the entry point ``vllm.general_plugins`` and calls it in each of its processes. Where
this module could not be imported, vLLM would continue with a method of its own. So it imports nothing, and
everything that may be wrong is found in :func:`register`, whose errors stop the server.
"""

from __future__ import annotations

import os

VARIABLE = "STGRAPH_VLLM"
"""Overrides as on the command line, or the path of a YAML file. Unset or empty: nothing is changed in vLLM."""


def register() -> None:
    """Put the selector that ``STGRAPH_VLLM`` describes in the place of vLLM's pruning.

    Raises:
        StgraphError: the variable, or this vLLM, is not one that can be served; the server does not start.
    """
    if os.environ.get(VARIABLE, "").strip():
        from .vllm_hooks import install

        install(VARIABLE)
