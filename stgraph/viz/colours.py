"""Colours: one palette for pictures, charts and the report, told apart by colour-blind readers too."""

from __future__ import annotations

from functools import cache

import numpy as np

from ..selectors.selection import Verdict

VERDICT_COLOURS: dict[Verdict, str] = {
    Verdict.REPRESENTATIVE: "#56B4E9",
    Verdict.EVENT: "#D55E00",
    Verdict.BOTH: "#CC79A7",
    Verdict.FILLED: "#009E73",
    Verdict.SEPARATOR: "#0072B2",
    Verdict.TRIMMED: "#F0E442",
    Verdict.DROPPED: "#7F8790",
}
"""Colour of every verdict (palette of Okabe and Ito, 2008), in the order in which legends show them."""

EVENT_COLOUR = VERDICT_COLOURS[Verdict.EVENT]
"""Events, and nothing else: no community, edge or scale has this orange."""

SPATIAL_COLOUR = "#3D3F9E"
"""Spatial edges."""

TEMPORAL_COLOUR = "#2A9D8A"
"""Temporal edges."""

EDGE_COLOURS = {"spatial": SPATIAL_COLOUR, "temporal": TEMPORAL_COLOUR}
"""Colour of each kind of edge: dark indigo and light teal differ in lightness too."""

COMPARISON_COLOURS = {"both": "#8A93A0", "first": "#1F6FD6", "second": "#E0C000", "neither": "#C9CED6"}
"""Two selections compared: tokens kept by both, only by the first, only by the second, by neither."""

ALONE_COLOUR = "#8A9099"
"""Grey of communities of one token."""

_NUM_COMMUNITY_COLOURS = 233

_GOLDEN = (5**0.5 - 1) / 2

_EVENT_HUES = (25.0, 90.0)
"""Degrees of hue in OKLCH that communities leave to events."""

_HEAT_STOPS = ("#0B1026", "#1B3A6B", "#1F6F8B", "#2BA88F", "#8FD46A", "#F4F7B0")


def rgb(colour: str) -> tuple[int, int, int]:
    """Red, green and blue, 0 to 255, of ``"#RRGGBB"``."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def hexadecimal(colour: np.ndarray) -> str:
    """``"#RRGGBB"`` of (3,) uint8."""
    return "#" + "".join(f"{int(channel):02X}" for channel in colour)


@cache
def community_palette() -> np.ndarray:
    """(233, 3) uint8 colours; community c has colour c mod 233. None is near the orange of events.

    Communities are numbered by their first token, so neighbours have near numbers: hues follow the golden ratio, which
    keeps near numbers far apart, and a cycle of five lightnesses parts those 8, 13 or 21 apart, whose hues are close.
    """
    number = np.arange(_NUM_COMMUNITY_COLOURS)
    low, high = _EVENT_HUES
    hue = np.radians(high + (360 - (high - low)) * (number * _GOLDEN % 1))
    lightness = np.array([0.56, 0.86, 0.79, 0.71, 0.63])[number % 5]
    chroma = np.array([0.15, 0.10, 0.13, 0.15, 0.15])[number % 5]
    palette = _oklch_to_srgb(lightness, chroma, hue)
    palette.flags.writeable = False
    return palette


def community_colours(community: np.ndarray, alone: np.ndarray) -> np.ndarray:
    """Colours of communities, the same number in the same colour in every frame and picture.

    Args:
        community: (...) int community numbers, ≥ 0.
        alone: (...) bool, True for communities of one token, which are grey.

    Returns:
        (..., 3) uint8.
    """
    colours = community_palette()[community % _NUM_COMMUNITY_COLOURS]
    return np.where(alone[..., None], np.array(rgb(ALONE_COLOUR), dtype=np.uint8), colours)


def heat_colours(level: np.ndarray) -> np.ndarray:
    """Colours from dark blue over green to pale yellow, evenly brighter with ``level``.

    None is near the orange of events.

    Args:
        level: (...) float, clipped to [0, 1].

    Returns:
        (..., 3) uint8.
    """
    stops = np.array([rgb(stop) for stop in _HEAT_STOPS])
    places = np.linspace(0, 1, len(stops))
    channels = [np.interp(level, places, stops[:, channel]) for channel in range(3)]
    return np.stack(channels, -1).round().astype(np.uint8)


def _oklch_to_srgb(lightness: np.ndarray, chroma: np.ndarray, hue: np.ndarray) -> np.ndarray:
    """(n, 3) uint8 sRGB of colours in the perceptual space OKLCH (Ottosson, 2020), hue in radians."""
    a, b = chroma * np.cos(hue), chroma * np.sin(hue)
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    linear = np.stack(
        [
            4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
            -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
            -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
        ],
        -1,
    ).clip(0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return (encoded * 255).round().astype(np.uint8)
