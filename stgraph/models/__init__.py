"""Adapters of video LLMs, one small file per family; add a line to the table to register another.

A name is the ``model_type`` of a transformers configuration. Everything but the adapter is common code: see
:mod:`stgraph.models.attachment`.
"""

from ..registry import Registry
from .adapter import Adapter, VideoLayout
from .attachment import Attachment
from .loading import load_model

MODELS: Registry[Adapter] = Registry(
    "model",
    "stgraph.models.adapter:Adapter",
    {
        "llava_onevision": "stgraph.models.llava:LlavaOnevision",
        "llava_next_video": "stgraph.models.llava:LlavaNextVideo",
        "internvl": "stgraph.models.internvl:InternVL",
        "qwen2_vl": "stgraph.models.qwen:QwenVL",
        "qwen2_5_vl": "stgraph.models.qwen:WindowedQwenVL",
        "qwen3_vl": "stgraph.models.qwen:Qwen3VL",
        "qwen3_vl_moe": "stgraph.models.qwen:Qwen3VL",
        "qwen3_5": "stgraph.models.qwen:QwenVL",
        "smolvlm": "stgraph.models.smolvlm:SmolVLM",
        "video_llama_3": "stgraph.models.video_llama:VideoLlama3",
        "video_llava": "stgraph.models.video_llava:VideoLlava",
        "llava_video": "stgraph.models.framewise:LlavaVideo",
        "nvila": "stgraph.models.framewise:Nvila",
    },
)

__all__ = ["MODELS", "Adapter", "Attachment", "VideoLayout", "load_model"]
