"""Figures of studies: one for each way of looking at them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .catalogue import FLOORS, FULL, PAPER
from .measure import Line, Measured

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#7f7f7f")
MARKERS = "osD^vPX*<>ph"
HIGHLIGHT, FLOOR = "#d55e00", "#8a8a8a"


def draw(measured: Measured) -> Figure:
    """The figure that shows a study best; curves need more than one retention."""
    view = measured.study.view
    if view == "curves" and len(measured.retentions) < 2:
        view = "ranking"
    drawn = {"rows": _rows, "ranking": _ranking, "thresholds": _thresholds, "kinds": _kinds, "curves": _curves}
    return {**drawn, "lengths": _lengths}[view](measured)


def _figure(width: float, height: float, columns: int = 1, rows: int = 1, **options: Any) -> tuple[Figure, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def _ranking(measured: Measured) -> Figure:
    """As rows, the best first."""
    return _rows(measured, best_first=True)


def _rows(measured: Measured, *, best_first: bool = False) -> Figure:
    """A dot with its interval for each row and retention; the rows in the order of the study, or the best first."""
    names = measured.rows
    if best_first:
        names = sorted(names, key=lambda name: -(line.accuracy.estimate if (line := measured.line(name)) else 0))
    figure, axes = _figure(8.2, 1.5 + (0.34 if len(names) < 20 else 0.24) * len(names))
    panel = axes[0, 0]
    retentions = measured.retentions
    for number, retention in enumerate(retentions):
        offset = (number - (len(retentions) - 1) / 2) * 0.22
        for place, name in enumerate(names):
            line = measured.line(name, retention)
            if line is not None:
                marked = best_first and len(retentions) == 1 and (name == PAPER or name in FLOORS)
                colour = (HIGHLIGHT if name == PAPER else FLOOR) if marked else COLOURS[number]
                _whisker(panel, line, place + offset, colour)
        panel.plot([], [], "o", color=COLOURS[number], label=f"{retention:.0%} of the tokens")
    _full(panel, measured, vertical=True)
    panel.set_yticks(range(len(names)), names)
    panel.set_ylim(len(names) - 0.4, -0.6)
    panel.set_xlabel("right answers, %, with 95 % intervals over clips")
    _plain(panel, "x")
    _title(figure, measured)
    figure.legend(*panel.get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    return figure


def _curves(measured: Measured) -> Figure:
    """Accuracy along retention, a line for each method; the band is the interval of the paper's default."""
    figure, axes = _figure(9.6, max(5.6, 0.21 * len(measured.rows) + 1.2))
    panel = axes[0, 0]
    last = {name: measured.line(name, measured.retentions[0]) for name in measured.rows}
    order = sorted(measured.rows, key=lambda name: -(line.accuracy.estimate if (line := last[name]) else 0))
    peers = [name for name in order if name != PAPER and name not in FLOORS]
    for name in order:
        lines = [line for retention in measured.retentions if (line := measured.line(name, retention)) is not None]
        x = [line.retention * 100 for line in lines]
        y = [line.accuracy.estimate * 100 for line in lines]
        if name == PAPER:
            low, high = ([getattr(line.accuracy, end) * 100 for line in lines] for end in ("low", "high"))
            panel.fill_between(x, low, high, color=HIGHLIGHT, alpha=0.15, linewidth=0)
            panel.plot(x, y, "o-", color=HIGHLIGHT, linewidth=2.6, zorder=4, label=name)
        elif name in FLOORS:
            style = "--" if name == next(iter(FLOORS)) else "-."
            panel.plot(x, y, style, color=FLOOR, linewidth=1.8, zorder=3, label=name)
        else:
            number = peers.index(name)
            colour = COLOURS[(number % 7 + 2) % 8] if number < 7 else "#9fb8c9"
            marker = MARKERS[number % len(MARKERS)]
            panel.plot(x, y, f"{marker}-", color=colour, linewidth=1.1, markersize=4.5, label=name)
    _full(panel, measured, vertical=False)
    panel.set_xscale("log")
    clips = [measured.asked(retention, measured.conditions[0])[1] for retention in measured.retentions]
    notes = [f"\n{count} clips" if len(set(clips)) > 1 else "" for count in clips]
    marks = [f"{r:.0%}{note}" for r, note in zip(measured.retentions, notes, strict=True)]
    panel.set_xticks([r * 100 for r in measured.retentions], marks)
    panel.minorticks_off()
    panel.set_xlabel("tokens kept")
    panel.set_ylabel("right answers, %")
    _plain(panel, "y")
    _title(figure, measured)
    heading = f"best at {measured.retentions[0]:.0%} first"
    figure.legend(
        *panel.get_legend_handles_labels(), loc="outside right upper", frameon=False, fontsize=8.5, title=heading
    )
    return figure


def _lengths(measured: Measured) -> Figure:
    """Accuracy along the number of kept tokens, a line for each length of the video."""
    rows = measured.rows
    figure, axes = _figure(3.6 * len(rows) + 1, 4.0, len(rows), sharey=True)
    for panel, name in zip(axes[0], rows, strict=True):
        for number, condition in enumerate(measured.conditions):
            lines = [line for r in measured.retentions if (line := measured.line(name, r, condition)) is not None]
            x = [line.retention * 100 for line in lines]
            panel.errorbar(
                x, *_errors(lines), fmt=f"{MARKERS[number]}-", color=COLOURS[number], capsize=2, markersize=5,
                linewidth=1.4, elinewidth=0.9, label=condition,
            )  # fmt: skip
            whole = measured.line(FULL, None, condition)
            if whole is not None:
                panel.axhline(whole.accuracy.estimate * 100, color=COLOURS[number], linestyle=":", linewidth=1.2)
        panel.set_xscale("log")
        panel.set_xticks([r * 100 for r in measured.retentions], [f"{r:.0%}" for r in measured.retentions])
        panel.minorticks_off()
        panel.set_title(name, loc="left", fontsize=10)
        panel.set_xlabel("tokens kept")
        _plain(panel, "y")
    axes[0, 0].set_ylabel("right answers, % (dotted: all tokens)")
    _title(figure, measured)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    return figure


def _kinds(measured: Measured) -> Figure:
    """A heat map of rows × types of questions for each retention: points above or below the base row."""
    kinds, names = measured.outcomes.kinds, measured.rows
    retentions = measured.retentions
    figure, axes = _figure(
        1.6 + 0.58 * len(kinds) * len(retentions), 1.9 + 0.3 * len(names), len(retentions), sharey=True
    )
    for panel, retention in zip(axes[0], retentions, strict=True):
        base = measured.line(measured.study.base, retention)
        values = np.full((len(names), len(kinds)), np.nan)
        for place, name in enumerate(names):
            line = measured.line(name, retention)
            for column, kind in enumerate(kinds):
                if line is not None and base is not None and kind in line.by_kind and kind in base.by_kind:
                    values[place, column] = 100 * (line.by_kind[kind] - base.by_kind[kind])
        _heat(panel, values, signed=True)
        panel.set_xticks(range(len(kinds)), kinds, rotation=55, ha="right")
        panel.set_yticks(range(len(names)), names)
        panel.set_title(f"{retention:.0%} of the tokens", loc="left", fontsize=10)
    _title(figure, measured, f"points above or below {measured.study.base}")
    return figure


def _thresholds(measured: Measured) -> Figure:
    """Heat maps over both thresholds: a row for each condition, a column for each retention."""
    cells = _grid(measured)
    sims, diffs = (sorted({pair[axis] for pair in cells.values()}) for axis in (0, 1))
    conditions, retentions = measured.conditions, measured.retentions
    figure, axes = _figure(1.0 + 3.0 * len(retentions), 0.9 + 2.5 * len(conditions), len(retentions), len(conditions))
    for row, condition in zip(axes, conditions, strict=True):
        for panel, retention in zip(row, retentions, strict=True):
            values = np.full((len(diffs), len(sims)), np.nan)
            for name, (sim, diff) in cells.items():
                line = measured.line(name, retention, condition)
                if line is not None:
                    values[diffs.index(diff), sims.index(sim)] = 100 * line.accuracy.estimate
            _heat(panel, values, signed=False)
            panel.invert_yaxis()
            if 0.8 in sims and 0.2 in diffs:
                from matplotlib.patches import Rectangle

                corner = sims.index(0.8) - 0.5, diffs.index(0.2) - 0.5
                panel.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor=HIGHLIGHT, linewidth=2.4))
            own = [line for line in measured.lines if line.condition == condition and line.retention == retention]
            own = [line for line in own if line.row not in cells and line.row != FULL]
            best = max(own, key=lambda line: line.accuracy.estimate, default=None)
            note = f"\nbest automatic: {best.row}, {100 * best.accuracy.estimate:.0f}" if best else ""
            panel.set_title(f"{condition}, {retention:.0%}{note}", loc="left", fontsize=9)
            panel.set_xticks(range(len(sims)), [f"{value:g}" for value in sims])
            panel.set_yticks(range(len(diffs)), [f"{value:g}" for value in diffs])
            panel.set_xlabel("τ_sim")
            panel.set_ylabel("τ_diff")
    _title(figure, measured, "right answers, %; the paper's pair is outlined")
    return figure


def _grid(measured: Measured) -> dict[str, tuple[float, float]]:
    """The thresholds of every row of the grid."""
    pairs = {PAPER: (0.8, 0.2)}
    for name in measured.rows:
        if name.startswith("τ_sim "):
            sim, _, diff = name.removeprefix("τ_sim ").partition(", τ_diff ")
            pairs[name] = float(sim), float(diff)
    return pairs


def scatter(points: Sequence[tuple[str, float, dict[str, float], float]], names: Sequence[str], title: str) -> Figure:
    """Accuracy against each metric that needs no language model, a colour for each retention.

    Args:
        points: (row, retention, metrics, accuracy in %).
        names: of the metrics.
        title: with the correlations.
    """
    figure, axes = _figure(3.6 * len(names), 3.9, len(names), sharey=True)
    retentions = sorted({retention for _, retention, *_ in points})
    for panel, name in zip(axes[0], names, strict=True):
        for number, retention in enumerate(retentions):
            chosen = [(metrics[name], right) for _, r, metrics, right in points if r == retention and name in metrics]
            if chosen:
                x, y = zip(*chosen, strict=True)
                panel.plot(
                    x, y, MARKERS[number], color=COLOURS[number], markersize=5, alpha=0.8, label=f"{retention:.0%}"
                )
        panel.set_xlabel(name)
        _plain(panel, "y")
    axes[0, 0].set_ylabel("right answers, %")
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold")
    handles = axes[0, 0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=6, frameon=False, title="tokens kept")
    return figure


def drops(kinds: Sequence[str], series: dict[str, list[tuple[float, float, float]]], title: str) -> Figure:
    """What each method loses of each type of question: bars with intervals, in points."""
    figure, axes = _figure(2.0 + 0.62 * len(kinds), 4.2)
    panel = axes[0, 0]
    width = 0.8 / len(series)
    for number, (name, values) in enumerate(series.items()):
        x = np.arange(len(kinds)) + (number - (len(series) - 1) / 2) * width
        middle, low, high = (np.array(column) for column in zip(*values, strict=True))
        error = np.stack([middle - low, high - middle])
        panel.bar(x, middle, width * 0.92, color=COLOURS[number], label=name)
        panel.errorbar(x, middle, error, fmt="none", ecolor="#333333", elinewidth=0.8)
    panel.axhline(0, color="#333333", linewidth=0.8)
    panel.set_xticks(range(len(kinds)), kinds, rotation=40, ha="right")
    panel.set_ylabel("points against all tokens")
    _plain(panel, "y")
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold")
    figure.legend(*panel.get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    return figure


# -- parts ------------------------------------------------------------------------------------------------------------


def _errors(lines: Sequence[Line]) -> tuple[list[float], Any]:
    middle = [100 * line.accuracy.estimate for line in lines]
    low = [100 * (line.accuracy.estimate - line.accuracy.low) for line in lines]
    high = [100 * (line.accuracy.high - line.accuracy.estimate) for line in lines]
    return middle, [low, high]


def _whisker(panel: Axes, line: Line, place: float, colour: str) -> None:
    found = line.accuracy
    panel.plot([100 * found.low, 100 * found.high], [place, place], "-", color=colour, linewidth=1.4, alpha=0.75)
    panel.plot(100 * found.estimate, place, "o", color=colour, markersize=5.5)


def _full(panel: Axes, measured: Measured, *, vertical: bool) -> None:
    whole = measured.line(FULL)
    if whole is None:
        return
    value = 100 * whole.accuracy.estimate
    style: Any = {"color": "#000000", "linestyle": ":", "linewidth": 1.4, "label": f"{FULL}, {value:.1f} %"}
    if vertical:
        panel.axvline(value, **style)
    else:
        panel.axhline(value, **style)


def _heat(panel: Axes, values: Any, *, signed: bool) -> None:
    """A heat map with its numbers; small differences stay pale, so that chance does not look like a finding."""
    known = values[~np.isnan(values)]
    if signed:
        middle, half = 0.0, max(5.0, float(np.abs(known).max())) if len(known) else 5.0
    else:
        middle = float((known.min() + known.max()) / 2) if len(known) else 50.0
        half = max(5.0, float(known.max() - known.min()) / 2) if len(known) else 5.0
    panel.imshow(values, cmap="RdBu" if signed else "viridis", vmin=middle - half, vmax=middle + half, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        if not np.isnan(value):
            place = (value - middle) / half
            ink = "white" if (abs(place) > 0.6 if signed else place < 0.2) else "black"
            text = f"{round(value):+d}".replace("-", "−").replace("+0", "0") if signed else f"{value:.0f}"
            panel.text(column, row, text, ha="center", va="center", fontsize=7.5, color=ink)
    panel.tick_params(length=0, labelsize=8.5)
    panel.spines[:].set_visible(False)


def _plain(panel: Axes, axis: Any) -> None:
    panel.grid(axis=axis, alpha=0.3)
    panel.tick_params(length=0, labelsize=9)
    panel.spines[["top", "right"]].set_visible(False)


def _title(figure: Figure, measured: Measured, more: str = "") -> None:
    text = measured.study.title + (f": {more}" if more else "")
    figure.suptitle(text, x=0.01, ha="left", fontweight="bold", fontsize=11.5)
