"""stgraph as a model of lmms-eval, which finds it by an entry point: ``lmms-eval eval --model stgraph ...``.

Nothing of lmms-eval is imported before it asks.
"""

from __future__ import annotations

from typing import Any


def manifest() -> Any:
    """What the entry point hands to lmms-eval: its ``ModelManifest`` of the model called ``stgraph``."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest("stgraph", chat_class_path="stgraph.integrations.lmms_eval.model.Stgraph")
