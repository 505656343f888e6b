"""How the pictures of README and site are stored, and which of them came out unlike the stored ones."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

TOLERANCE = 0.5
"""Mean difference of pixels, in grey levels, from which a picture counts as changed.

Both are compared as JPEG, so the same picture differs by 0. Other versions of a font or of matplotlib differ a little.
"""

changed: list[str] = []
"""Names of the pictures that were not what was stored."""


def save(picture: Image.Image, path: Path) -> None:
    """Store a picture as JPEG, unless the same one is stored already."""
    buffer = BytesIO()
    picture.convert("RGB").save(buffer, "JPEG", quality=80, optimize=True)
    if path.is_file():
        old, new = (Image.open(file).convert("RGB") for file in (path, buffer))
        if old.size == new.size:
            apart = np.abs(np.asarray(old, np.int16) - np.asarray(new, np.int16))
            if apart.mean() < TOLERANCE:
                return
    changed.append(path.name)
    path.write_bytes(buffer.getvalue())


def figure_picture(figure: Any, dpi: int) -> Image.Image:
    """A figure of matplotlib as a picture."""
    buffer = BytesIO()
    figure.savefig(buffer, dpi=dpi, bbox_inches="tight", pad_inches=0.06)
    return Image.open(buffer).convert("RGB")
