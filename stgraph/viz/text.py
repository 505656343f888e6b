"""Text of figures that comes from users: file names, names of methods."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from ..errors import readable


class FigureText(NamedTuple):
    """Text that matplotlib draws as it is.

    Attributes:
        text: without formulas; characters that no font of this machine has are written as their escapes.
        family: fonts in which it is drawn, the usual one first.
    """

    text: str
    family: list[str]


def figure_text(text: str) -> FigureText:
    """``text`` for a title or a label: ``$`` starts no formula, and every character has a glyph.

    DejaVu Sans, matplotlib's own font, has no Chinese, Japanese, Korean or emoji. An installed font that has them is
    used for these; where there is none, they are written as escapes such as ``\\u4e2d``.
    """
    text = "".join(letter if letter == "\n" else readable(letter) for letter in text)
    missing = {ord(letter) for letter in text} - _glyphs_of_default() - {ord("\n")}
    families = ["DejaVu Sans"]
    for family, glyphs in _installed() if missing else ():
        if found := missing & glyphs:
            families.append(family)
            missing -= found
        if not missing:
            break
    shown = "".join(letter.encode("unicode_escape").decode() if ord(letter) in missing else letter for letter in text)
    return FigureText(shown.replace("$", r"\$"), families)


@cache
def _glyphs_of_default() -> frozenset[int]:
    from matplotlib.font_manager import findfont
    from matplotlib.ft2font import FT2Font

    return frozenset(FT2Font(findfont("DejaVu Sans")).get_charmap())


@cache
def _installed() -> tuple[tuple[str, frozenset[int]], ...]:
    """Every family of fonts on this machine with the characters that its regular face has, sorted by name."""
    from matplotlib.font_manager import fontManager
    from matplotlib.ft2font import FT2Font

    families: dict[str, frozenset[int]] = {}
    for entry in sorted(fontManager.ttflist, key=lambda entry: (entry.name, entry.weight != 400, entry.style)):
        if entry.name not in families:
            try:
                families[entry.name] = frozenset(FT2Font(entry.fname).get_charmap())
            except (OSError, RuntimeError):  # a font that was removed, or that only has bitmaps
                families[entry.name] = frozenset()
    return tuple(families.items())
