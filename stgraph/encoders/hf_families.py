"""What differs between the vision towers of transformers: how each is fed, and the constants of its pixels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor

from .. import compat


class _Fed(NamedTuple):
    """Pixels as a tower takes them."""

    inputs: dict[str, Tensor | bool]
    order: Tensor | None = None
    """(h·w,) raster position of each patch in the tower's own sequence, None where that is raster order."""


def _images(pixels: Tensor, config: Any) -> _Fed:
    return _Fed({"pixel_values": pixels})


def _resizable_images(pixels: Tensor, config: Any) -> _Fed:
    """Towers with one learned position per patch resample those only when told to."""
    resized = pixels.shape[-1] != side_of(config.image_size)
    return _Fed({"pixel_values": pixels} | ({"interpolate_pos_encoding": True} if resized else {}))


def _flat_patches(pixels: Tensor, config: Any) -> _Fed:
    """SigLIP 2: flattened patches, channel last, with the shape of each image."""
    patches = _patches(pixels, config.patch_size).permute(0, 1, 2, 4, 5, 3)  # (B, h, w, p, p, 3)
    frames, height, width = patches.shape[:3]
    return _Fed(
        {
            "pixel_values": patches.reshape(frames, height * width, -1),
            "pixel_attention_mask": torch.ones(frames, height * width, dtype=torch.int64, device=pixels.device),
            "spatial_shapes": torch.tensor([[height, width]] * frames, device=pixels.device),
        }
    )


def _packed_patches(pixels: Tensor, config: Any) -> _Fed:
    """VideoLLaMA 3: the patches of all frames in one sequence, with the grid of each frame."""
    patches = _patches(pixels, config.patch_size)  # (B, h, w, 3, p, p)
    frames, height, width = patches.shape[:3]
    return _Fed(
        {
            "pixel_values": patches.reshape(frames * height * width, -1),
            "grid_thw": torch.tensor([[1, height, width]] * frames, device=pixels.device),
            "merge_sizes": torch.ones(frames, dtype=torch.int64, device=pixels.device),
        }
    )


def _merged_patches(pixels: Tensor, config: Any) -> _Fed:
    """Qwen-VL: packed too, but the m × m patches that become one token of the LLM lie together."""
    patches = _patches(pixels, config.patch_size)
    frames, height, width = patches.shape[:3]
    order = _merge_order(height, width, config.spatial_merge_size).to(pixels.device)
    patches = patches.flatten(1, 2)[:, order]  # (B, h·w, 3, p, p)
    patches = patches.unsqueeze(3).expand(-1, -1, -1, config.temporal_patch_size, -1, -1)
    return _Fed(
        {
            "hidden_states": patches.reshape(frames * height * width, -1),
            "grid_thw": torch.tensor([[1, height, width]] * frames, device=pixels.device),
        },
        order,
    )


def _windowed_patches(pixels: Tensor, config: Any) -> _Fed:
    """Qwen2.5-VL: merged patches, which the tower itself then sorts by attention window."""
    fed = _merged_patches(pixels, config)
    merge = config.spatial_merge_size
    height, width = (side // config.patch_size for side in pixels.shape[2:])
    windows = compat.window_order((height, width), config)
    order = _merge_order(height, width, merge).view(-1, merge * merge)[windows].flatten()
    return _Fed(fed.inputs, order.to(pixels.device))


def _merge_order(height: int, width: int, merge: int) -> Tensor:
    """(h·w,) raster positions, the m × m neighbours of each merged token together."""
    order = torch.arange(height * width).view(height // merge, merge, width // merge, merge)
    return order.transpose(1, 2).flatten()


class Family(NamedTuple):
    """What differs between towers: its class, how it is fed, the default layer, and the constants of its pixels."""

    tower: str
    feed: Callable[[Tensor, Any], _Fed]
    layer: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    resample: Image.Resampling = Image.Resampling.BICUBIC

    @property
    def any_size(self) -> bool:
        """Whether frames keep their aspect ratio."""
        return self.feed not in (_images, _resizable_images)


_CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
_BILINEAR = Image.Resampling.BILINEAR
_LANCZOS = Image.Resampling.LANCZOS

FAMILIES = {
    "clip_vision_model": Family("CLIPVisionModel", _resizable_images, -2, *_CLIP),
    "siglip_vision_model": Family("SiglipVisionModel", _resizable_images, -2, *_HALF),
    "siglip2_vision_model": Family("Siglip2VisionModel", _flat_patches, -2, *_HALF, _BILINEAR),
    "vit": Family("ViTModel", _resizable_images, -2, *_HALF, _BILINEAR),
    "dinov2": Family("Dinov2Model", _images, -2, *_IMAGENET),
    "dinov2_with_registers": Family("Dinov2WithRegistersModel", _images, -2, *_IMAGENET),
    "dinov3_vit": Family("DINOv3ViTModel", _images, -2, *_IMAGENET, _BILINEAR),
    "internvl_vision": Family("InternVLVisionModel", _images, -1, *_IMAGENET),
    "idefics3_vision": Family("Idefics3VisionTransformer", _images, -1, *_HALF, _LANCZOS),
    "smolvlm_vision": Family("SmolVLMVisionTransformer", _images, -1, *_HALF, _LANCZOS),
    "video_llama_3_vision": Family("VideoLlama3VisionModel", _packed_patches, -1, *_HALF),
    "qwen2_vl_vision": Family("Qwen2VisionTransformerPretrainedModel", _merged_patches, -1, *_CLIP),
    "qwen2_5_vl_vision": Family("Qwen2_5_VisionTransformerPretrainedModel", _windowed_patches, -1, *_CLIP),
    "qwen3_vl_vision": Family("Qwen3VLVisionModel", _merged_patches, -1, *_HALF),
    "qwen3_vl_moe_vision": Family("Qwen3VLMoeVisionModel", _merged_patches, -1, *_HALF),
    "qwen3_5_vision": Family("Qwen3_5VisionModel", _merged_patches, -1, *_HALF),
}
"""transformers' ``model_type`` of a vision tower -> its family."""


def _patches(pixels: Tensor, patch: int) -> Tensor:
    """(B, 3, H, W) -> (B, h, w, 3, p, p)."""
    return pixels.unfold(2, patch, patch).unfold(3, patch, patch).permute(0, 2, 3, 1, 4, 5)


def side_of(value: Any) -> int:
    """A side in pixels, of a number or of a (height, width) pair."""
    return int(value if isinstance(value, int) else value[0])
