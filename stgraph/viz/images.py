"""Frames as images: scaled, for Pillow, and as JPEG."""

from __future__ import annotations

import base64
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from PIL.Image import Image


def scaled(frame: Tensor, width: int) -> Tensor:
    """The frame (3, H, W) uint8 at ``width`` pixels, its shape kept."""
    height = max(1, round(frame.shape[1] * width / frame.shape[2]))
    if (height, width) == tuple(frame.shape[1:]):
        return frame
    return F.interpolate(frame[None], (height, width), mode="bilinear", antialias=True)[0]


def image_of(frame: Tensor, width: int | None = None) -> Image:
    """The frame (3, H, W) uint8 for Pillow, scaled to at most ``width`` pixels."""
    from PIL import Image

    if width is not None:
        frame = scaled(frame, min(width, frame.shape[2]))
    # NumPy brings the channels to the end ten times faster than torch.
    return Image.fromarray(np.ascontiguousarray(frame.permute(1, 2, 0).cpu().numpy()))


def jpeg(image: Image, quality: int, *, optimize: bool = False) -> bytes:
    """The bytes of a JPEG file; ``optimize`` makes it a little smaller and takes twice as long."""
    buffer = BytesIO()
    image.save(buffer, "JPEG", quality=quality, optimize=optimize)
    return buffer.getvalue()


def data_uri(image: Image, quality: int = 60) -> str:
    """The image as a JPEG in a data address, for a page that needs no other file."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg(image, quality, optimize=True)).decode()
