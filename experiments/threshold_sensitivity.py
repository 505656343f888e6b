"""How much the two fixed thresholds matter: every pair of a grid, and the thresholds that a video chooses itself.

  python -m experiments.threshold_sensitivity
  python -m experiments.threshold_sensitivity videos=[a.mp4,b.mp4] retention=0.1,0.2,0.3 jobs=4
  python -m experiments.threshold_sensitivity difference=drift difference_thresholds=[0.1,0.2,0.3]

docs/experiments.md says what is measured.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from stgraph.app.compare import markdown
from stgraph.app.config import Config
from stgraph.budget import ceil_shares
from stgraph.community import COMMUNITIES, Partition
from stgraph.community.components import ConnectedComponents
from stgraph.difference import Difference, DifferenceDetector
from stgraph.errors import StgraphError
from stgraph.graph.merge_tree import merge_tree
from stgraph.kernels import community_ranks
from stgraph.registry import registry
from stgraph.selectors.simdiff import Analysis, STSimDiff
from stgraph.tokens import VideoTokens

from .clips import Clip, Source, load
from .run import main, over
from .score import Figures, mean
from .settings import Settings, load_score, read
from .write import cell, folder_text, title, write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PAPER = (0.8, 0.2)
"""τ_sim and τ_diff of the paper."""

CHOSEN = "chosen"
"""The figure that holds the threshold which a video chose for itself."""

TITLES = {"candidates": "candidates / budget"}
"""Of figures that need more words than their name."""

OWN_COLOURS = ("#cc79a7", "#0072b2")
MARKERS = ("^vDs", "oP*X")
"""Of methods that choose τ_sim, and of those that choose τ_diff."""


@dataclass(frozen=True, kw_only=True)
class Analysed(STSimDiff):
    """ST-SimDiff of tokens whose analysis is known: only the trimming is left to do."""

    found: Analysis | None = field(default=None, repr=False)

    def analyse(self, tokens: VideoTokens) -> Analysis:
        """The known analysis."""
        return self.found or super().analyse(tokens)


@dataclass(frozen=True)
class Point:
    """What one pair of thresholds gave, or one method that chooses a threshold.

    Attributes:
        words: those that tell its run from the others, such as the retention.
        similarity_threshold: τ_sim, or the name of the method.
        difference_threshold: τ_diff, or the name of the method.
        figures: means over the clips.
        by_clip: figures of every clip.
    """

    words: dict[str, str]
    similarity_threshold: float | str
    difference_threshold: float | str
    figures: Figures
    by_clip: dict[str, Figures]


def run(words: Sequence[str]) -> str:
    """Run the experiment with the words of the command line, write the results and return their text."""
    settings = read("threshold_sensitivity", words)
    points = measure(settings)
    shown = settings.own["shown"]
    text = summary(points, shown)
    results = [
        {**point.words, "tau_sim": point.similarity_threshold, "tau_diff": point.difference_threshold}
        | {"figures": point.figures, "by_clip": point.by_clip}
        for point in points
    ]
    write(settings, results, text, {"threshold_sensitivity": figure(points, shown)})
    return folder_text(settings.output, text)


def measure(settings: Settings) -> list[Point]:
    """All pairs of thresholds and all automatic ones of every run, on every clip."""
    grid, automatic = settings.own, settings.own["automatic"]
    for words, config in settings.runs:
        check(config, grid["similarity_thresholds"], grid["difference_thresholds"], title(words))
    pairs: list[tuple[float | str, float | str]] = [
        *itertools.product(grid["similarity_thresholds"], grid["difference_thresholds"]),
        *((name, PAPER[1]) for name in automatic["similarity_threshold"]),
        *((PAPER[0], name) for name in automatic["difference"]),
    ]
    asked = [(words, *pair) for words, _ in settings.runs for pair in pairs]
    work = partial(on_clip, [config for _, config in settings.runs], pairs, settings.score)
    measured = over(work, settings.sources, jobs=settings.jobs, total=len(asked) * len(settings.sources))
    names = [source.name for source in settings.sources]
    return [
        Point(*point, mean(figures), dict(zip(names, figures, strict=True)))
        for point, figures in zip(asked, zip(*measured, strict=True), strict=True)
    ]


def check(config: Config, similarity: Sequence[float], difference: Sequence[float], run: str) -> None:
    """Raise :class:`StgraphError` unless the thresholds can be swept with this configuration."""
    selector = config.selector()
    where = f" ({run})" if run else ""
    if not isinstance(selector, STSimDiff):
        raise StgraphError(f"thresholds are those of selector=simdiff; leave the other selector out{where}")
    if config.data["similarity_threshold"] != PAPER[0]:
        raise StgraphError(
            f"this study varies similarity_threshold; give similarity_thresholds=[0.7,0.8] instead{where}"
        )
    if not hasattr(selector.difference, "threshold"):
        name = config.data["difference"]["name"]
        raise StgraphError(
            f"difference {name!r} has no threshold to be varied; choose one that has, such as drift{where}"
        )
    for name, values in (("similarity_thresholds", similarity), ("difference_thresholds", difference)):
        if not isinstance(values, list) or not values:
            raise StgraphError(f"{name} must be a list of numbers, got {values!r}")
    for value in similarity:
        replace(selector, similarity_threshold=value)
    for value in difference:
        _at(selector.difference, value)


def on_clip(
    configs: Sequence[Config], pairs: Sequence[tuple[float | str, float | str]], score: str, source: Source
) -> Iterator[Figures]:
    """Score every pair of thresholds of every run on one clip, which is encoded once."""
    clip, scored = load(source, configs[0]), load_score(score)
    for config in configs:
        selector = config.selector()
        assert isinstance(selector, STSimDiff)  # as :func:`check` made sure of
        for ready, chosen in sweep(clip, selector, pairs):
            yield scored(clip, ready) | ({} if chosen is None else {CHOSEN: chosen})


def sweep(
    clip: Clip, selector: STSimDiff, pairs: Sequence[tuple[float | str, float | str]]
) -> Iterator[tuple[Analysed, float | None]]:
    """``selector`` at every pair (τ_sim, τ_diff), each a number or a method, and the number that the method chose.

    The graph is built once, the components of every τ_sim come from one spanning forest, and the difference of every
    token is scored once. Detectors other than components are run once for each τ_sim. Pairs with the same τ_sim should
    follow one another.
    """
    known = {entry.name: getattr(selector, entry.name) for entry in fields(STSimDiff)}
    everything = replace(selector, similarity_threshold=-1.0, community=ConnectedComponents())  # no edge is pruned
    whole = everything.analyse(clip.tokens)
    forest = merge_tree(whole.similar) if isinstance(selector.community, ConnectedComponents) else None
    found, at = whole, None
    for similarity, difference in pairs:
        threshold, chosen = similarity, None
        if isinstance(similarity, str):
            method = registry("similarity_threshold").build(similarity)
            threshold = chosen = method(whole.similar, selector.retention)[0].threshold
        if threshold != at:
            similar = whole.similar.prune(float(threshold))
            if forest is not None:
                labels = forest.components(float(threshold))
                partition = Partition(labels, COMMUNITIES.config(selector.community))
            else:
                partition = selector.community(similar)
            centrality = whole.graph.centrality(partition.labels, partition.sizes)
            rank = community_ranks(partition.labels, partition.sizes, centrality)
            kept = rank < ceil_shares(selector.retention, partition.sizes)[partition.labels]
            found = replace(
                whole, similar=similar, partition=partition, centrality=centrality, rank=rank, representative=kept
            )
            at = threshold
        if isinstance(difference, str):
            events = registry("difference").build(difference)(whole.graph)
            chosen = 1 - events.threshold[0]
        else:
            events = marked(whole, _at(selector.difference, difference))
        analysis = replace(found, difference=events)
        yield Analysed(**known | {"similarity_threshold": threshold, "found": analysis}), chosen


def marked(found: Analysis, detector: DifferenceDetector) -> Difference:
    """The events at another threshold of the detector whose scores are known."""
    score = found.difference.score
    threshold = detector.threshold_for(score, found.graph)
    return Difference(score, detector.mark(score, threshold, found.graph), (threshold,))


def _at(detector: DifferenceDetector, threshold: float) -> DifferenceDetector:
    return replace(detector, threshold=threshold)  # type: ignore[call-arg]


def summary(points: Sequence[Point], shown: Sequence[str]) -> str:
    """The paper's pair, the best pairs and the automatic thresholds in Markdown, for each run."""
    names = [name for name in (*shown, "communities") if any(name in point.figures for point in points)]
    parts = []
    for words, group in _by_run(points):
        fixed = [point for point in group if not _automatic(point)]
        listed = [("the paper's", point) for point in fixed if _pair(point) == PAPER]
        for name in names:
            if name not in ("candidates", "communities"):
                listed.append((f"best {name}", max(fixed, key=lambda point: point.figures[name])))
        listed += [(str(_automatic(point)), point) for point in group if _automatic(point)]
        rows = [
            [heading, *_thresholds(point), *(cell(list(point.by_clip.values()), name) for name in names)]
            for heading, point in listed
        ]
        table = markdown(["thresholds", "τ_sim", "τ_diff", *(TITLES.get(name, name) for name in names)], rows)
        parts.append((f"## {words}\n\n" if words else "") + table)
    return "\n".join(parts)


def figure(points: Sequence[Point], shown: Sequence[str]) -> Figure:
    """Heat maps over the grid, a row for each run, and the number of communities along τ_sim.

    The paper's pair is outlined. Thresholds that clips choose for themselves stand in the margins: τ_sim above a map,
    τ_diff right of it, the mean over the clips and their range.
    """
    from matplotlib.figure import Figure

    runs = _by_run(points)
    panels = [name for name in shown if any(name in point.figures for point in points)]
    drawing = Figure(figsize=(3.7 * len(panels) + 2.9, 3.6 * len(runs) + 0.6), layout="constrained")
    ratios = [*([3.7] * len(panels)), 2.9]
    axes = drawing.subplots(len(runs), len(ratios), squeeze=False, width_ratios=ratios)
    for row, (words, group) in zip(axes, runs, strict=True):
        for panel, name in zip(row, panels, strict=False):
            _heat(panel, group, name, f"{TITLES.get(name, name)}{', ' if words else ''}{words}")
        _communities(row[-1], group)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    drawing.legend(handles, labels, loc="outside lower left", ncols=len(labels), frameon=False, fontsize=9)
    return drawing


def _heat(axes: Axes, points: Sequence[Point], name: str, heading: str) -> None:
    from matplotlib.patches import Rectangle

    fixed = {_pair(point): point.figures[name] for point in points if not _automatic(point)}
    across, up = (sorted({pair[axis] for pair in fixed}) for axis in (0, 1))
    values = np.array([[fixed[x, y] for x in across] for y in up])
    axes.imshow(values, origin="lower", aspect="auto", cmap="viridis")
    middle = (values.min() + values.max()) / 2
    for (row, column), value in np.ndenumerate(values):
        ink = "black" if value > middle else "white"
        axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=6.5, color=ink)
    if PAPER in fixed:
        corner = across.index(PAPER[0]) - 0.5, up.index(PAPER[1]) - 0.5
        axes.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor="#d55e00", linewidth=2.2, label="paper", zorder=4))
    width, height = (_own_thresholds(axes, points, axis, values) for axis, values in ((1, up), (0, across)))
    axes.set_xlim(-0.5, len(across) - 0.5 + width)
    axes.set_ylim(-0.5, len(up) - 0.5 + height)
    axes.set_xticks(range(len(across)), [f"{value:g}" for value in across], fontsize=7.5)
    axes.set_yticks(range(len(up)), [f"{value:g}" for value in up], fontsize=8)
    axes.set_xlabel("τ_sim")
    axes.set_ylabel("τ_diff")
    axes.set_title(heading, fontsize=10, loc="left")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _own_thresholds(axes: Axes, points: Sequence[Point], axis: int, grid: Sequence[float]) -> float:
    """Draw the thresholds that clips chose: the mean as a marker, the range as a line, in a margin of the heat map.

    Args:
        axes: of the heat map.
        points: of one run.
        axis: 0 for τ_sim, above the map; 1 for τ_diff, right of it.
        grid: ascending values along that axis.

    Returns:
        The width of the margin in cells.
    """
    chosen = [point for point in points if isinstance(_pair(point)[axis], str)]
    edge = len({_pair(point)[1 - axis] for point in points if not _automatic(point)}) - 0.5
    for number, point in enumerate(chosen):
        values = [figures[CHOSEN] for figures in point.by_clip.values()]
        along = np.interp([min(values), point.figures[CHOSEN], max(values)], grid, range(len(grid)))
        across = np.full(3, edge + 0.5 * (number + 0.8))
        x, y = (along, across) if axis == 0 else (across, along)
        colour = OWN_COLOURS[axis]
        axes.plot(x[[0, 2]], y[[0, 2]], color=colour, linewidth=1.2, alpha=0.6)
        axes.plot(x[1], y[1], MARKERS[axis][number % 4], color=colour, markersize=6, label=_automatic(point), ls="none")
    return 0.5 * (len(chosen) + 0.8) if chosen else 0.0


def _communities(axes: Axes, points: Sequence[Point]) -> None:
    counts = {
        _pair(point)[0]: point.figures["communities"]
        for point in points
        if not _automatic(point) and "communities" in point.figures
    }
    axes.plot(range(len(counts)), list(counts.values()), "o-", color="#0072b2", markersize=4)
    axes.set_yscale("log")
    axes.set_xticks(range(len(counts)), [f"{value:g}" for value in counts], fontsize=8, rotation=60)
    axes.set_xlabel("τ_sim")
    axes.set_title("communities in a clip", fontsize=10, loc="left")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _by_run(points: Sequence[Point]) -> list[tuple[str, list[Point]]]:
    groups: dict[str, list[Point]] = {}
    for point in points:
        groups.setdefault(title(point.words), []).append(point)
    return list(groups.items())


def _pair(point: Point) -> tuple[Any, Any]:
    return point.similarity_threshold, point.difference_threshold


def _automatic(point: Point) -> str | None:
    """The name of the method that chose a threshold, None for a pair of the grid."""
    return next((value for value in _pair(point) if isinstance(value, str)), None)


def _thresholds(point: Point) -> tuple[float, float]:
    """τ_sim and τ_diff in numbers, a chosen one as its mean over the clips."""
    sim, diff = (point.figures[CHOSEN] if isinstance(value, str) else value for value in _pair(point))
    return float(sim), float(diff)


if __name__ == "__main__":
    main(run, __doc__)
