"""The figure of a comparison: a panel for each metric, a row for each value of a setting."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..viz.text import figure_text
from .compare_layout import PANELS, are_numbers, layout_of, panels_of
from .compare_results import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_MARKERS = "oDs^vPX*"


def figure(results: Sequence[Result], title: str) -> Figure:
    """A dot chart with a panel for each metric and a row for each value of the setting that is told by words.

    The other settings are colours. A single number among them, such as the retention, runs from light to dark along a
    line in each row. Rows are in the order of their coverage, the best first, unless they are numbers themselves.
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    axis, rows, kinds, dots = layout_of(results)
    ordered = are_numbers(kinds)
    panels = panels_of(results)
    drawing = Figure(figsize=(11, 1.5 + 0.3 * len(rows)), layout="constrained")
    every = drawing.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    shades = colormaps["YlGnBu"]
    for axes, panel in zip(every, panels, strict=True):
        axes.set_axisbelow(True)
        for row in range(len(rows)) if ordered else ():
            line = [panel.values[number] for number in dots[row].values()]
            axes.plot(line, [row] * len(line), color="#b8bec6", linewidth=1.6, zorder=1)
        for number, kind in enumerate(kinds):
            there = [(panel.values[here[kind]], row) for row, here in enumerate(dots) if kind in here]
            places = [(value, row) for value, row in there if value is not None]
            step = 0 if ordered else number
            marker = _MARKERS[step // len(_COLOURS) % len(_MARKERS)]
            colour = shades(0.35 + 0.6 * number / max(1, len(kinds) - 1)) if ordered else _COLOURS[step % len(_COLOURS)]
            x, y = zip(*places, strict=True) if places else ((), ())
            axes.plot(x, y, marker, color=colour, markersize=7, alpha=0.9, label=kind if axes is every[0] else None)
        if panel.better == "lower":
            values = [value for value in panel.values if value is not None]
            _logarithmic(axes, values, down_to_zero=panel.title in PANELS and min(values) < 1e-3)
        arrow = {"higher": " →", "lower": " ←", None: ""}[panel.better]
        axes.set_title(panel.title + arrow, fontsize=10, loc="left")
        axes.set_yticks(range(len(rows)), rows)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8.5)
    every[0].set_ylim(len(rows) - 0.5, -0.5)
    shown = figure_text(title)
    drawing.suptitle(shown.text, x=0.01, ha="left", fontsize=11, fontfamily=shown.family)
    if len(kinds) > 1:
        name = ", ".join(key for key in results[0].words if key != axis)
        columns_of_legend = min(len(kinds), 5)
        drawing.legend(
            loc="outside lower center", ncols=columns_of_legend, frameon=False, fontsize=9, title=name, title_fontsize=9
        )
    return drawing


def _logarithmic(axes: Axes, values: Sequence[float], *, down_to_zero: bool) -> None:
    """A logarithmic x axis with few plain numbers on it; one that goes down to zero is linear below 0.001."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, SymmetricalLogLocator

    if down_to_zero:
        axes.set_xscale("symlog", linthresh=1e-3)
        axes.set_xlim(-2e-4, 1.3 * max(*values, 1e-3))
        axes.xaxis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=1e-3))
    else:
        axes.set_xscale("log")
        wide = max(values) > 30 * min(values)
        axes.xaxis.set_major_locator(LogLocator(subs=(1,) if wide else (1, 3)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
