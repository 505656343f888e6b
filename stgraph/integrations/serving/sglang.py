"""The selector inside SGLang: ``STGRAPH_SGLANG="selector=simdiff" python -m sglang.launch_server ...``.

Written against the contract of SGLang's plugin hook, and tested against that contract only: **no SGLang was run**. Its
pruning has vLLM's two functions. It logs errors of plugins and continues with a method of its own, so look for the line
that says what serves.
"""

from __future__ import annotations

import logging
import os
from typing import Any

VARIABLE = "STGRAPH_SGLANG"
"""Overrides as on the command line, or the path of a YAML file. Unset or empty: nothing is changed in SGLang."""

TARGET = "sglang.srt.multimodal.evs.evs_core"
"""The module of SGLang that holds the two functions."""


def register() -> None:
    """Ask SGLang to put the selector that ``STGRAPH_SGLANG`` describes in the place of its pruning.

    Raises:
        StgraphError: the variable is not one that can be served. SGLang logs it and continues with its own method.
    """
    if not os.environ.get(VARIABLE, "").strip():
        return
    from sglang.srt.plugins.hook_registry import HookRegistry, HookType

    from .settings import Settings

    settings = Settings.from_environment(VARIABLE)
    count, mask = replacements(settings)
    HookRegistry.register(f"{TARGET}.compute_retained_tokens_count", count, HookType.REPLACE)
    HookRegistry.register(f"{TARGET}.compute_retention_mask", mask, HookType.REPLACE)
    log = logging.getLogger("stgraph.serving")
    log.warning(
        "stgraph chooses the video tokens: %s (%s)", settings.selector.configuration, settings.selector.fingerprint
    )


def replacements(settings: Any) -> tuple[Any, Any]:
    """Both functions, with SGLang's signatures."""
    from .dump import Dump

    selector = settings.selector

    def compute_retained_tokens_count(tokens_per_frame: int, num_frames: int, q: float) -> int:
        return int(selector.count(int(tokens_per_frame) * int(num_frames), q))

    def compute_retention_mask(video_embeds: Any, video_size_thw: Any, spatial_merge_size: int, q: float) -> Any:
        frames, height, width = (int(size) for size in video_size_thw)
        grid = (frames, height // spatial_merge_size, width // spatial_merge_size)
        dump = Dump(settings.dump, selector, q) if settings.dump else None
        return selector.mask(video_embeds.detach(), grid, q, record=dump)

    return compute_retained_tokens_count, compute_retention_mask
