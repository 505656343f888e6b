"""What a question about a video may name: a device, a way to make weights smaller, a file; each checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ..errors import StgraphError, check_choice
from ..optional import require

QUANTIZED = ("int8", "int4")
"""Short names of what bitsandbytes makes of the weights while it loads them."""

PICTURES = frozenset({"image2", "png_pipe", "jpeg_pipe", "webp_pipe", "bmp_pipe", "tiff_pipe", "ppm_pipe"})
"""FFmpeg's names of formats that hold one picture."""


def device_named(name: str, *, spread: bool) -> torch.device:
    """The torch device with this name.

    Raises:
        StgraphError: torch knows no such device or sees none here, or a map of devices is given too.
    """
    if spread and name != "auto":
        raise StgraphError(f"device={name} and device_map both say where the model is loaded; leave device out")
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise StgraphError(f"device must be auto or one of torch such as cpu, cuda or cuda:1, got {name!r}") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise StgraphError(
            f"device is {name}, but torch sees {torch.cuda.device_count() or 'no'} CUDA devices; use cpu or auto"
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise StgraphError("device is mps, but torch sees none; use cpu or auto")
    return device


def quantization_named(wanted: Any, place: torch.device) -> Any:
    """The configuration of transformers behind a short name.

    Raises:
        StgraphError: there is no such name, or bitsandbytes and the GPU that it loads onto are not there.
    """
    if not isinstance(wanted, str):
        return wanted
    check_choice("quantization_config", wanted, QUANTIZED)
    if place.type != "cuda":
        raise StgraphError(
            f"{wanted} needs a CUDA device, because bitsandbytes loads it, but the device is {place}; leave it out"
        )
    require("bitsandbytes", extra="models", needed_by=f"quantization_config={wanted}")
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(load_in_8bit=True) if wanted == "int8" else BitsAndBytesConfig(load_in_4bit=True)


def check_video(video: Any) -> str | Path:
    """``video``, where it is a file that may be a video.

    Raises:
        StgraphError: it is a picture, several files, or no file at all.
    """
    if not isinstance(video, (str, Path)):
        got = f"a list of {len(video)}" if isinstance(video, (list, tuple)) else type(video).__name__
        raise StgraphError(
            f"a video must be the path of a file or a Video, got {got}; ask about one video at a time, make a video of "
            "frames with Video(frames, timestamps), and give pictures as images=[...]"
        )
    if Path(video).is_file() and format_of(Path(video)) in PICTURES:
        raise StgraphError(f"{video} is a picture, and a video is expected; give pictures beside one, as images=[...]")
    return video


def format_of(path: Path) -> str:
    """FFmpeg's name of a file's format; empty where it finds none."""
    import av

    try:
        with av.open(f"file:{path}") as container:
            return container.format.name
    except (av.FFmpegError, ValueError):
        return ""
