"""HuggingFace: the vision tower of a transformers model, alone or inside a video LLM, as an encoder."""

from __future__ import annotations

import importlib
import math
import textwrap
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from .. import compat
from ..errors import StgraphError, check_choice, check_number
from ..optional import install_hint, quiet_transformers
from ..signals import Signals
from ..tokens import VideoTokens
from ..video import Video
from .attention import AttentionWatch, blocks_of, received, resized
from .base import LARGEST, Encoded, Encoder

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

FREE_SIZE = 448
"""Side in pixels of the square whose area a frame fills, for towers that take any size and name none themselves."""


@dataclass(frozen=True)
class HuggingFace(Encoder):
    """Tokens are the patches of each frame in a transformers vision tower; [CLS] and register tokens are left out.

    Every frame is encoded on its own, so there is one grid of tokens per frame, at the frame's own timestamp. Towers
    that join two frames into one token (Qwen-VL) are given each frame twice, which is how they read a still image.

    A frame is resized without cropping, with the filter, mean and deviation of the model's preprocessor configuration
    (of its family where the folder has none): to a square where the tower needs one, keeping its aspect ratio where the
    tower takes any size.

    Attributes:
        model: a folder, or a model id of the Hugging Face Hub. Only safetensors weights are read, only those of the
            vision tower, and no code that comes with the model is ever run.
        layer: the block whose output becomes the features, before any final norm, counted as in transformers'
            ``hidden_states``: 1 … L from the front, −1 … −L from the back. None takes ``vision_feature_layer`` of a
            LLaVA or InternVL model, the last block of other video LLMs' towers, and the last but one of a tower alone.
        size: side in pixels of the resized frame (of the square with its area, where the aspect ratio is kept). None
            takes the tower's own, or 448 where it has none.
        pool: factor by which both sides of the token grid shrink, bilinearly and rounded up; LLaVA-Video pools by 2.
        attention: also return the signals, read from the attention of the same block: ``encoder_attention``, what each
            patch receives, head mean, from [CLS] where there is one and else from the mean query of its frame; and
            ``encoder_keys``, the head mean of the keys as they meet the queries (rotated, where the tower rotates).
        batch_size: frames that go through the tower together; changes memory and speed, not the tokens.
        dtype: of the weights and the features; signals are float32.
        device: ``"auto"`` is CUDA where there is one. Tokens and signals stay on the device.

    Raises:
        StgraphError: transformers is missing, the model cannot be read or has no supported vision tower, ``layer`` or
            ``size`` does not fit it, CUDA is asked for and absent, or features are not finite.
    """

    model: str = "google/siglip-so400m-patch14-384"
    layer: int | None = None
    size: int | None = None
    pool: int = 1
    attention: bool = True
    batch_size: int = 8
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    device: Literal["auto", "cpu", "cuda"] = "auto"

    def __post_init__(self) -> None:
        if not self.model:
            raise StgraphError(
                "encoder.model is empty; name a folder or a model id, such as hf:google/siglip-base-patch16-224"
            )
        if self.layer is not None:
            check_number("encoder.layer", self.layer, integer=True)
        if self.size is not None:
            check_number("encoder.size", self.size, at_least=1, integer=True)
        check_number("encoder.pool", self.pool, at_least=1, integer=True)
        check_number("encoder.batch_size", self.batch_size, at_least=1, integer=True)
        check_choice("encoder.dtype", self.dtype, DTYPES)
        check_choice("encoder.device", self.device, ("auto", "cpu", "cuda"))

    @property
    def largest(self) -> int:
        """Pixels of a frame's shorter side that the tower may make use of."""
        return max(LARGEST, self.size or 0)

    def identity(self) -> object | None:
        """The files of the model with their sizes and times, and the device; None where they are not here."""
        folder = Path(self.model)
        if not folder.is_dir():
            from huggingface_hub import try_to_load_from_cache

            # the folder is named by the revision of the model
            config = try_to_load_from_cache(self.model, "config.json")
            if not isinstance(config, str):
                return None
            folder = Path(config).parent
        states = sorted((path.name, path.stat()) for path in folder.iterdir() if path.is_file())
        files = [(name, state.st_size, state.st_mtime_ns, state.st_ctime_ns) for name, state in states]
        return [str(folder.resolve()), files, self.device, torch.cuda.is_available()]

    @torch.no_grad()
    def __call__(self, video: Video) -> Encoded:
        """Tokens of shape (T·h·w, d) for the T frames of ``video``, and the signals of the chosen block."""
        batches = []
        for start in range(0, len(video.frames), self.batch_size):
            frames = video.frames[start : start + self.batch_size]
            grids = self._tower.encode(frames, self.size, self.pool, attention=self.attention)
            finite = grids[0].isfinite().flatten(1).all(1)
            if not bool(finite.all()):
                frame = start + int((~finite).nonzero()[0])
                raise StgraphError(
                    f"the features of frame {frame} (at {float(video.timestamps[frame]):.2f} s) are not finite after "
                    f"encoding with {self.model!r} in {self.dtype}; try encoder.dtype=float32"
                )
            batches.append(grids)
        features, *signals = (torch.cat(grids) for grids in zip(*batches, strict=True))
        tokens = VideoTokens.from_grid(features, timestamps=(video.timestamps,))
        if not signals:
            return Encoded(tokens, Signals())
        attention, keys = signals
        return Encoded(tokens, Signals(encoder_attention=attention.flatten(), encoder_keys=keys.flatten(0, 2)))

    @cached_property
    def _tower(self) -> _Tower:
        # The tower is kept as long as the encoder: a folder of clips loads it once.
        if self.device == "cuda" and not torch.cuda.is_available():
            raise StgraphError("encoder.device=cuda, but torch sees no CUDA device; use encoder.device=cpu or auto")
        device = "cuda" if self.device != "cpu" and torch.cuda.is_available() else "cpu"
        return _load(self.model, self.layer, DTYPES[self.dtype], torch.device(device))


# -- families ---------------------------------------------------------------------------------------------------------


class _Fed(NamedTuple):
    """Pixels as a tower takes them."""

    inputs: dict[str, Tensor | bool]
    order: Tensor | None = None
    """(h·w,) raster position of each patch in the tower's own sequence, None where that is raster order."""


def _images(pixels: Tensor, config: Any) -> _Fed:
    return _Fed({"pixel_values": pixels})


def _resizable_images(pixels: Tensor, config: Any) -> _Fed:
    """Towers with one learned position per patch resample those only when told to."""
    resized = pixels.shape[-1] != _side(config.image_size)
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


class _Family(NamedTuple):
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

_FAMILIES = {
    "clip_vision_model": _Family("CLIPVisionModel", _resizable_images, -2, *_CLIP),
    "siglip_vision_model": _Family("SiglipVisionModel", _resizable_images, -2, *_HALF),
    "siglip2_vision_model": _Family("Siglip2VisionModel", _flat_patches, -2, *_HALF, _BILINEAR),
    "vit": _Family("ViTModel", _resizable_images, -2, *_HALF, _BILINEAR),
    "dinov2": _Family("Dinov2Model", _images, -2, *_IMAGENET),
    "dinov2_with_registers": _Family("Dinov2WithRegistersModel", _images, -2, *_IMAGENET),
    "dinov3_vit": _Family("DINOv3ViTModel", _images, -2, *_IMAGENET, _BILINEAR),
    "internvl_vision": _Family("InternVLVisionModel", _images, -1, *_IMAGENET),
    "idefics3_vision": _Family("Idefics3VisionTransformer", _images, -1, *_HALF, _LANCZOS),
    "smolvlm_vision": _Family("SmolVLMVisionTransformer", _images, -1, *_HALF, _LANCZOS),
    "video_llama_3_vision": _Family("VideoLlama3VisionModel", _packed_patches, -1, *_HALF),
    "qwen2_vl_vision": _Family("Qwen2VisionTransformerPretrainedModel", _merged_patches, -1, *_CLIP),
    "qwen2_5_vl_vision": _Family("Qwen2_5_VisionTransformerPretrainedModel", _windowed_patches, -1, *_CLIP),
    "qwen3_vl_vision": _Family("Qwen3VLVisionModel", _merged_patches, -1, *_HALF),
    "qwen3_vl_moe_vision": _Family("Qwen3VLMoeVisionModel", _merged_patches, -1, *_HALF),
    "qwen3_5_vision": _Family("Qwen3_5VisionModel", _merged_patches, -1, *_HALF),
}
"""transformers' ``model_type`` of a vision tower -> its family."""


def _patches(pixels: Tensor, patch: int) -> Tensor:
    """(B, 3, H, W) -> (B, h, w, 3, p, p)."""
    return pixels.unfold(2, patch, patch).unfold(3, patch, patch).permute(0, 2, 3, 1, 4, 5)


def _side(value: Any) -> int:
    return int(value if isinstance(value, int) else value[0])


# -- the tower --------------------------------------------------------------------------------------------------------


class _Preparation(NamedTuple):
    """How 8-bit pixels are made ready: resized with a filter of Pillow, then (scale · pixel − mean) / std."""

    resample: Image.Resampling
    scale: float
    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, settings: dict[str, Any], family: _Family) -> _Preparation:
        """From a preprocessor configuration; ``family`` gives what it does not say."""

        def channels(name: str, default: tuple[float, float, float]) -> Tensor:
            return torch.tensor(settings.get(name, default), dtype=torch.float32).view(-1, 1, 1).expand(3, 1, 1)

        normalise = settings.get("do_normalize", True)
        return cls(
            Image.Resampling(settings.get("resample", family.resample)),
            float(settings.get("rescale_factor", 1 / 255)) if settings.get("do_rescale", True) else 1.0,
            channels("image_mean", family.mean) if normalise else torch.zeros(3, 1, 1, dtype=torch.float32),
            channels("image_std", family.std) if normalise else torch.ones(3, 1, 1, dtype=torch.float32),
        )


@dataclass(frozen=True, eq=False)
class _Tower:
    """A loaded tower, cut off after ``block``, and how its frames are prepared."""

    module: nn.Module
    block: nn.Module
    config: Any
    family: _Family
    preparation: _Preparation

    def encode(self, frames: Tensor, size: int | None, pool: int, *, attention: bool) -> tuple[Tensor, ...]:
        """Features of (B, 3, H, W) uint8 frames, (B, h, w, d); with ``attention``, then attention and keys too."""
        parameter = next(self.module.parameters())
        pixels = self.pixels(frames, size).to(parameter.device, parameter.dtype)
        inputs, order = self.family.feed(pixels, self.config)
        patch = _side(self.config.patch_size)
        height, width = pixels.shape[2] // patch, pixels.shape[3] // patch
        with _Recorder(self.block, height * width, attention=attention) as record:
            self.module(**inputs)

        def grid(rows: Tensor) -> Tensor:
            # [CLS] and register tokens come first in the sequence of a tower.
            rows = rows.reshape(len(frames), -1, rows.shape[-1])[:, -height * width :]
            rows = rows if order is None else rows[:, order.argsort()]
            rows = rows.reshape(len(frames), height, width, -1)
            return resized(rows, math.ceil(height / pool), math.ceil(width / pool))

        recorded = (
            [record.output, torch.cat(record.attention), torch.cat(record.keys)] if attention else [record.output]
        )
        return tuple(grid(rows) for rows in recorded)

    def pixels(self, frames: Tensor, size: int | None) -> Tensor:
        """(B, 3, H, W) uint8 frames resized, rescaled and normalised: (B, 3, H', W') float32."""
        height, width = self.frame_size(frames.shape[2], frames.shape[3], size)
        pictures = [Image.fromarray(np.ascontiguousarray(frame.permute(1, 2, 0).cpu().numpy())) for frame in frames]
        resized = np.stack([np.asarray(p.resize((width, height), self.preparation.resample)) for p in pictures])
        pixels = torch.from_numpy(resized).permute(0, 3, 1, 2) * self.preparation.scale
        return (pixels - self.preparation.mean) / self.preparation.std

    def frame_size(self, height: int, width: int, size: int | None) -> tuple[int, int]:
        """Height and width in pixels to which a frame is resized."""
        patch = _side(self.config.patch_size)
        own = getattr(self.config, "image_size", None)
        if own is None and hasattr(self.config, "num_patches"):
            own = math.isqrt(self.config.num_patches) * patch
        side = size or _side(own or FREE_SIZE)
        unit = patch * getattr(self.config, "spatial_merge_size", 1)
        if side < unit:
            raise StgraphError(f"encoder.size must be at least {unit}, the side of one patch of the tower, got {size}")
        if not self.family.any_size:
            return side, side
        scale = side / math.sqrt(height * width)
        return max(1, round(height * scale / unit)) * unit, max(1, round(width * scale / unit)) * unit


class _Recorder(AttentionWatch):
    """While entered, notes the output of one block and the attention inside it.

    The two hooks go when it is left, also by an exception.
    """

    def __init__(self, block: nn.Module, patches: int, *, attention: bool) -> None:
        super().__init__()
        self.output = torch.empty(0)
        self.attention: list[Tensor] = []
        self.keys: list[Tensor] = []
        self._block, self._patches, self._wanted, self._inside = block, patches, attention, False

    def __enter__(self) -> _Recorder:
        self._hooks = [
            self._block.register_forward_pre_hook(self._enter),
            self._block.register_forward_hook(self._leave),
        ]
        return cast(_Recorder, super().__enter__())  # type: ignore[no-untyped-call]

    def __exit__(self, *exception: object) -> None:
        for hook in self._hooks:
            hook.remove()
        super().__exit__(*exception)  # type: ignore[no-untyped-call]

    def _enter(self, block: nn.Module, inputs: object) -> None:
        self._inside = self._wanted

    def _leave(self, block: nn.Module, inputs: object, output: Any) -> None:
        self._inside, self.output = False, output[0] if isinstance(output, tuple) else output

    def meet(self, query: Tensor, key: Tensor, scale: float) -> None:
        """Note the attention, where it is the block's."""
        if self._inside:
            self.attention.append(received(query, key, scale, self._patches).reshape(-1, 1))
            self.keys.append(key.float().mean(1).flatten(0, 1))


# -- loading ----------------------------------------------------------------------------------------------------------

_TOWER_PREFIX = r"^(?:model\.)?(?:vision_tower|video_tower|vision_model|visual)\."
"""Where checkpoints of whole models, old and new, keep the weights of their tower."""


def _load(model: str, layer: int | None, dtype: torch.dtype, device: torch.device) -> _Tower:
    try:
        from transformers import AutoConfig
        from transformers.image_processing_base import ImageProcessingMixin
    except ImportError as error:
        raise StgraphError(
            f"encoder=hf needs transformers, which cannot be imported ({error}): {install_hint('models')}"
        ) from error
    source = _source(model)
    with quiet_transformers():
        expected = "name a folder with config.json and safetensors weights, or a model id of the Hugging Face Hub"
        with _reading(f"the model {model!r}", f"{expected} that is reachable or already downloaded"):
            whole = AutoConfig.from_pretrained(source, trust_remote_code=False)
        config = getattr(whole, "vision_config", whole)
        family = _FAMILIES.get(config.model_type)
        if family is None:
            raise StgraphError(
                f"{model!r} has no vision tower that encoder=hf can read (its type is {config.model_type!r}); "
                f"supported are {', '.join(_FAMILIES)}, alone or inside a larger model"
            )
        expected = "expected safetensors (pickled checkpoints are refused because loading one can run code)"
        with _reading(f"the vision tower of {model!r}", expected):
            modeling = importlib.import_module(type(config).__module__.replace(".configuration_", ".modeling_"))
            module, report = getattr(modeling, family.tower).from_pretrained(
                source,
                config=config,
                key_mapping={_TOWER_PREFIX: ""},
                use_safetensors=True,
                ignore_mismatched_sizes=True,  # reported below, by name
                dtype=dtype,
                attn_implementation="sdpa",
                output_loading_info=True,
            )
        with _reading(f"the preprocessor configuration of {model!r}", "correct the file, or remove it"):
            try:
                settings, _ = ImageProcessingMixin.get_image_processor_dict(source)
            except OSError as error:
                if isinstance(error.__context__, ValueError):  # there, but not JSON
                    raise
                settings = {}
            preparation = _Preparation.of(settings, family)
    absent = {*report["missing_keys"], *(name for name, *_ in report["mismatched_keys"])}
    layer = layer if layer is not None else getattr(whole, "vision_feature_layer", family.layer)
    _check_depth(module, report["unexpected_keys"], model)
    block = _cut(module, layer, absent, model)
    return _Tower(module.eval().to(device), block, config, family, preparation)


def _check_depth(module: nn.Module, unexpected: Iterable[str], model: str) -> None:
    """Raise :class:`StgraphError` where a checkpoint has more blocks than its configuration says."""
    prefix, blocks = blocks_of(module)
    more = sorted(name for name in unexpected if name.startswith(f"{prefix}.{len(blocks)}."))
    if more:
        raise StgraphError(
            f"config.json of {model!r} says {len(blocks)} blocks in the vision tower, but its weights have more "
            f"({more[0]}, ...); expected a checkpoint whose weights and config.json belong together"
        )


def _cut(module: nn.Module, layer: Any, absent: set[str], model: str) -> nn.Module:
    """The block that ``layer`` names, with all later ones removed; no weights up to it may be ``absent``."""
    prefix, blocks = blocks_of(module)
    total = len(blocks)
    if not isinstance(layer, int) or layer == 0 or not -total <= layer <= total:
        raise StgraphError(
            f"encoder.layer must be from 1 to {total}, or from -{total} to -1, for the {total} blocks of {model!r}, "
            f"got {layer}"
        )
    count = layer if layer > 0 else total + 1 + layer
    del blocks[count:]
    names = list(module.state_dict())
    last = max(index for index, name in enumerate(names) if name.startswith(f"{prefix}."))
    lost = [name for name in names[: last + 1] if name in absent]
    if lost:
        raise StgraphError(
            f"{model!r} holds no weights that fit {len(lost)} tensors of its vision tower ({lost[0]}, ...); "
            "expected a checkpoint whose weights and config.json belong together, as transformers saves it"
        )
    return blocks[count - 1]


def _source(model: str) -> str:
    """``model`` as transformers takes it, after telling a mistyped folder from a model id."""
    path = Path(model).expanduser()
    if path.is_dir():
        return str(path)
    if model.startswith(("/", ".", "~")) or model.count("/") > 1 or path.exists():
        raise StgraphError(
            f"there is no folder {model!r}; encoder=hf needs a folder saved by transformers or a model id"
        )
    return model


@contextmanager
def _reading(what: str, expected: str) -> Iterator[None]:
    """Failures of foreign files, which come as every kind of exception, told in one sentence."""
    try:
        yield
    except Exception as error:
        reason = textwrap.shorten(str(error) or type(error).__name__, 200, placeholder=" ...").rstrip(".")
        raise StgraphError(f"{what} cannot be read: {reason}; {expected}") from error
