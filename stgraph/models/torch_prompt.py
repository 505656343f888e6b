"""The inputs of families of transformers, made with torch alone.

transformers reads no video without torchvision. For the families of :data:`OWN` the same inputs are made here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import StgraphError
from ..video import Video
from .adapter import adapter_of
from .chat import written
from .conversation import Prompt, Seen, Times, Turn, messages
from .prompt_files import read_auto

_CLIP = {"image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711]}
_HALF = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
_COMMON = {"do_resize": True, "do_rescale": True, "do_normalize": True, "rescale_factor": 1 / 255, "resample": 3}
_MODES = {0: "nearest-exact", 2: "bilinear", 3: "bicubic"}
"""Pillow's number of a filter -> torch's name."""


class Own(NamedTuple):
    """How a family is given videos.

    Attributes:
        defaults: settings that its folders may leave out.
        inputs: from frames (T, 3, H, W) uint8, their times and the settings to the model's inputs.
        expand: what stands for the video in the prompt, from the placeholder, the number of video tokens, the times and
            the settings.
    """

    defaults: dict[str, Any]
    inputs: Callable[[Tensor, Times, Mapping[str, Any]], dict[str, Any]]
    expand: Callable[[str, int, Times, Mapping[str, Any]], str]


class TorchPrompt(Prompt):
    """The same inputs without torchvision."""

    def __init__(
        self, tokenizer: Any, model: nn.Module, own: Own, settings: Mapping[str, Any], folder: str = ""
    ) -> None:
        self.tokenizer = tokenizer
        self._folder = folder
        self.own = own
        self.settings = _understood(settings, own.defaults)
        _check_patches(self.settings, model)
        self._model = model
        self._adapter = adapter_of(model)

    def __call__(self, video: Video, question: str) -> dict[str, Any]:
        """Pixels, and the ids of the conversation with one placeholder for each video token."""
        return self.ask(self.see(video), [(question, None)])

    def see(self, video: Video) -> Seen:
        """The pixels."""
        return Seen(video, self.own.inputs(video.frames, Times.of(video), self.settings))

    def ask(
        self, seen: Seen, turns: Sequence[Turn], *, system: str | None = None, images: Sequence[Any] = ()
    ) -> dict[str, Any]:
        """The same for a conversation, with one placeholder for each token of an image too."""
        times, inputs = Times.of(seen.video), seen.inputs
        count = self._adapter.layouts(self._model, inputs)[0].size
        video_id = self._adapter.video_token(self._model)
        token = self.tokenizer.convert_ids_to_tokens(video_id)
        text = written(self.tokenizer, messages(turns, system, len(images)))
        if token is None or text.count(token) != 1:
            raise StgraphError(
                f"the conversation must hold the placeholder {token!r} of its one video exactly once; leave it out of "
                "the question, and give a model whose chat template knows videos"
            )
        pictures, image_id = self._pictures(images) if images else ({}, None)
        if image_id is not None:
            text = self._place(text, image_id, pictures["image_grid_thw"])
        text = text.replace(token, self.own.expand(token, count, times, self.settings))
        made = dict(self.tokenizer([text], return_tensors="pt", return_token_type_ids=False))
        if "video_grid_thw" in inputs:
            kinds = 2 * (made["input_ids"] == video_id).int()
            made["mm_token_type_ids"] = kinds if image_id is None else kinds + (made["input_ids"] == image_id).int()
        return made | inputs | pictures

    def _pictures(self, images: Sequence[Any]) -> tuple[dict[str, Any], int]:
        """What the model is given of pictures, and the id of their placeholder.

        Raises:
            StgraphError: the family is not one whose pictures come with a grid.
        """
        from transformers import AutoImageProcessor

        config = cast(Any, self._model).config
        if not config.model_type.startswith("qwen"):
            raise StgraphError(
                f"images beside a video are prepared with torchvision for models of type {config.model_type!r}, which "
                "is not installed; install the build for this torch, leave the images out, or use a Qwen-VL"
            )
        processor = read_auto(AutoImageProcessor, self._folder)
        return dict(processor(images=list(images), return_tensors="pt")), cast(int, config.image_token_id)

    def _place(self, text: str, image_id: int, grids: Tensor) -> str:
        """Each placeholder of a picture as often as it has tokens."""
        token = self.tokenizer.convert_ids_to_tokens(image_id)
        if text.count(token) != len(grids):
            raise StgraphError(
                f"the conversation must hold the placeholder {token!r} of its {len(grids)} images once for each; leave "
                "it out of the question, and give a model whose chat template knows images"
            )
        joined = cast(Any, self._model).config.vision_config.spatial_merge_size ** 2
        before, *after = text.split(token)
        counts = (grids.prod(1) // joined).tolist()
        return before + "".join(token * count + part for count, part in zip(counts, after, strict=True))


def _understood(settings: Mapping[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """The settings of a folder over the defaults, with sizes as they are written today.

    Raises:
        StgraphError: sizes that mean nothing here, or frames that are not to be resized.
    """
    whole = defaults | {key: value for key, value in settings.items() if value is not None}
    size, crop = whole["size"], whole.get("crop_size")
    if isinstance(size, int):
        size = {"shortest_edge": size}
    if isinstance(crop, int):
        whole["crop_size"] = {"height": crop, "width": crop}
    older = {"shortest_edge": whole.get("min_pixels"), "longest_edge": whole.get("max_pixels")}
    size = size | {edge: pixels for edge, pixels in older.items() if pixels is not None}
    if not defaults["size"].keys() <= size.keys() and (
        "longest_edge" in defaults["size"] or "shortest_edge" not in size
    ):
        raise StgraphError(
            f"the size of the processor files must hold {' and '.join(defaults['size'])}, got {size}; correct the "
            "files, or install torchvision"
        )
    if not whole["do_resize"]:
        raise StgraphError("the processor files turn resizing off (do_resize), which needs torchvision; install it")
    return whole | {"size": size}


def _repeated(token: str, count: int, times: Times, settings: Mapping[str, Any]) -> str:
    return token * count


def _timed(token: str, count: int, times: Times, settings: Mapping[str, Any]) -> str:
    """Qwen3-VL: each group of frames behind its time."""
    seconds = times.pairs(settings["temporal_patch_size"])
    group = f"<|vision_start|>{token * (count // len(seconds))}<|vision_end|>"
    return "".join(f"<{second:.1f} seconds>{group}" for second in seconds)


def _pictures(frames: Tensor, times: Times, settings: Mapping[str, Any]) -> dict[str, Any]:
    """LLaVA: every frame of one size, (1, T, 3, h, w)."""
    size, crop = settings["size"], settings.get("crop_size")
    if "height" in size:
        target = size["height"], size["width"]
    else:
        height, width = frames.shape[2:]
        short, long = size["shortest_edge"], int(size["shortest_edge"] * max(height, width) / min(height, width))
        target = (short, long) if height <= width else (long, short)
    pixels = _resized(frames, target, settings)
    if settings.get("do_center_crop") and crop is not None:
        pixels = _cropped(pixels, crop["height"], crop["width"])
    return {"pixel_values_videos": _normalised(pixels, settings)[None]}


def _cropped(pixels: Tensor, height: int, width: int) -> Tensor:
    """The middle, with black around it where there is too little."""
    lack_y, lack_x = max(0, height - pixels.shape[2]), max(0, width - pixels.shape[3])
    pixels = F.pad(pixels, (lack_x // 2, (lack_x + 1) // 2, lack_y // 2, (lack_y + 1) // 2))
    top, left = (pixels.shape[2] - height) // 2, (pixels.shape[3] - width) // 2
    return pixels[:, :, top : top + height, left : left + width]


Fit = Callable[[Tensor, int, int, Mapping[str, Any]], tuple[int, int]]
"""From frames, the pixels of a token's side, the frames that are joined and the settings to the frames' new sides."""


def _patches(
    frames: Tensor, times: Times, settings: Mapping[str, Any], *, fit: Fit, clocked: bool = False
) -> dict[str, Any]:
    """Qwen-VL: all patches of two frames each in one sequence, the m × m that become one token together.

    ``clocked`` models place frames by their distance in seconds.
    """
    patch, merge, pair = (settings[key] for key in ("patch_size", "merge_size", "temporal_patch_size"))
    height, width = fit(frames, patch * merge, pair, settings)
    pixels = _normalised(_resized(frames, (height, width), settings), settings)
    pixels = torch.cat([pixels, pixels[-1:].expand(-len(pixels) % pair, -1, -1, -1)])
    t, h, w = len(pixels) // pair, height // patch, width // patch
    pixels = pixels.view(t, pair, 3, h // merge, merge, patch, w // merge, merge, patch)
    pixels = pixels.permute(0, 3, 6, 4, 7, 2, 1, 5, 8).reshape(t * h * w, -1)
    inputs = {"pixel_values_videos": pixels, "video_grid_thw": torch.tensor([[t, h, w]])}
    if clocked:
        inputs["second_per_grid_ts"] = torch.tensor([pair / times.fps])
    return inputs


def _check_patches(settings: Mapping[str, Any], model: nn.Module) -> None:
    """Raise where the processor files, or the defaults where there are none, cut other patches than the model takes."""
    vision = getattr(cast(Any, model).config, "vision_config", None)
    for name, theirs in (
        ("patch_size", "patch_size"),
        ("merge_size", "spatial_merge_size"),
        ("temporal_patch_size", "temporal_patch_size"),
    ):
        wanted = getattr(vision, theirs, None)
        if name in settings and isinstance(wanted, int) and settings[name] != wanted:
            raise StgraphError(
                f"the vision tower takes {theirs}={wanted}, and frames would be prepared with {name}={settings[name]}; "
                "copy preprocessor_config.json and video_preprocessor_config.json from where the weights were published"
            )


def _fit_frame(frames: Tensor, factor: int, pair: int, settings: Mapping[str, Any]) -> tuple[int, int]:
    """Qwen2-VL and Qwen2.5-VL: the pixels of one frame lie between the bounds."""
    low, high = settings["size"]["shortest_edge"], settings["size"]["longest_edge"]
    if settings.get("cap_pixels_per_frame"):
        share = int(settings.get("max_video_tokens", 128000) * factor * factor * 0.9) * pair // len(frames)
        high = max(min(high, share), int(low * 1.05))
    height, width = frames.shape[2:]
    return _fitted(height, width, 1, 1, factor, low, high)


def _fit_video(frames: Tensor, factor: int, pair: int, settings: Mapping[str, Any]) -> tuple[int, int]:
    """Qwen3-VL: the pixels of the whole video lie between the bounds."""
    low, high = settings["size"]["shortest_edge"], settings["size"]["longest_edge"]
    count = len(frames)
    if count < pair:
        raise StgraphError(
            f"the model joins {pair} frames into one step, and the video has {count}; sample more frames"
        )
    if settings.get("cap_pixels_per_frame"):
        share = min(settings.get("max_video_tokens", 768) * factor * factor, high // count)
        high = max(share, int(low * 1.05)) * count
    height, width = frames.shape[2:]
    if min(height, width) < factor:
        scale = max(factor / height, factor / width)
        height, width = int(height * scale), int(width * scale)
    return _fitted(height, width, count, round(count / pair) * pair, factor, low, high)


def _fitted(height: int, width: int, count: int, rounded: int, factor: int, low: int, high: int) -> tuple[int, int]:
    """Sides that are multiples of ``factor``, with the aspect ratio of the frame and ``count`` frames within bounds."""
    if max(height, width) > 200 * min(height, width):
        raise StgraphError(
            f"the sides of a frame may differ by a factor of 200 at most, got {height}×{width}; crop the video"
        )
    h, w = round(height / factor) * factor, round(width / factor) * factor
    if rounded * h * w > high:
        scale = math.sqrt(count * height * width / high)
        h, w = (max(factor, math.floor(side / scale / factor) * factor) for side in (height, width))
    elif rounded * h * w < low:
        scale = math.sqrt(low / (count * height * width))
        h, w = (math.ceil(side * scale / factor) * factor for side in (height, width))
    return h, w


def _resized(frames: Tensor, size: tuple[int, int], settings: Mapping[str, Any]) -> Tensor:
    """(T, 3, h, w) uint8."""
    if tuple(frames.shape[2:]) == size:
        return frames
    mode = _MODES.get(settings["resample"])
    if mode is None:
        raise StgraphError(
            f"the processor files set the resize filter {settings['resample']}, which needs torchvision; install it"
        )
    smooth = mode != "nearest-exact"
    return F.interpolate(frames, size, mode=mode, antialias=smooth, align_corners=False if smooth else None)


def _normalised(pixels: Tensor, settings: Mapping[str, Any]) -> Tensor:
    """(scale · pixel − mean) / std, float32."""
    scale = settings["rescale_factor"] if settings["do_rescale"] else 1.0
    if not settings["do_normalize"]:
        return pixels.float() * scale
    mean, std = (torch.tensor(settings[key]).view(-1, 1, 1) / scale for key in ("image_mean", "image_std"))
    return pixels.float().sub_(mean).div_(std)


def _qwen(patch: int, constants: dict[str, Any]) -> dict[str, Any]:
    size = {"shortest_edge": 128 * (2 * patch) ** 2, "longest_edge": 768 * (2 * patch) ** 2}
    return _COMMON | constants | {"size": size, "patch_size": patch, "merge_size": 2, "temporal_patch_size": 2}


_QWEN2, _QWEN3 = _qwen(14, _CLIP), Own(_qwen(16, _HALF), partial(_patches, fit=_fit_video), _timed)
_SQUARE = {"size": {"height": 384, "width": 384}}
_MIDDLE = {
    "size": {"shortest_edge": 224},
    "crop_size": {"height": 224, "width": 224},
    "do_center_crop": True,
}

OWN = {
    "qwen2_vl": Own(_QWEN2, partial(_patches, fit=_fit_frame), _repeated),
    "qwen2_5_vl": Own(_QWEN2, partial(_patches, fit=_fit_frame, clocked=True), _repeated),
    "qwen3_vl": _QWEN3,
    "qwen3_vl_moe": _QWEN3,
    "qwen3_5": _QWEN3,
    "llava_onevision": Own(_COMMON | _CLIP | _SQUARE, _pictures, _repeated),
    "llava_next_video": Own(_COMMON | _CLIP | _MIDDLE, _pictures, _repeated),
    "video_llava": Own(_COMMON | _CLIP | _MIDDLE, _pictures, _repeated),
}
"""``model_type`` -> how its videos are prepared here."""
