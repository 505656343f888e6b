"""Adapters of video LLMs, one small file per family; add a line to the table to register another.

A name is the ``model_type`` of a transformers configuration. Everything but the adapter is common code: see
:mod:`stgraph.models.attachment`.
"""

from ..registry import Registry
from .adapter import Adapter, VideoLayout
from .attachment import Attachment

MODELS: Registry[Adapter] = Registry(
    "model",
    "stgraph.models.adapter:Adapter",
    {
        "llava_onevision": "stgraph.models.llava:LlavaOnevision",
        "llava_next_video": "stgraph.models.llava:LlavaNextVideo",
        "qwen2_vl": "stgraph.models.qwen:QwenVL",
        "qwen2_5_vl": "stgraph.models.qwen:QwenVL",
        "qwen3_vl": "stgraph.models.qwen:Qwen3VL",
        "qwen3_vl_moe": "stgraph.models.qwen:Qwen3VL",
        "video_llama_3": "stgraph.models.video_llama:VideoLlama3",
    },
)

__all__ = ["MODELS", "Adapter", "Attachment", "VideoLayout"]
