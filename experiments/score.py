"""How good one selector is on one clip: the single place where a video LLM comes in instead."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from stgraph.selectors import Selector
from stgraph.selectors.metrics import evaluate

from .clips import Clip
from .statistics import Floats, Interval
from .statistics import interval as bootstrap

Figures = dict[str, float]
"""Figures by name. One that a clip does not have (the recall of an event that does not happen in it) is left out."""

Score = Callable[[Clip, Selector], Figures]
"""What ``score=module:function`` names."""

RECALL = "recall of "
"""Begins the name of the recall of one kind of event; their mean is the event recall."""

EVENT_RECALL = "event recall"


def without_model(clip: Clip, selector: Selector) -> Figures:
    """Figures that need no language model.

    Returns:
        ``coverage`` and ``reconstruction error`` as :class:`stgraph.selectors.metrics.Quality` defines them, the recall
        of each kind of known event, ``communities``, and ``candidates``: representatives and events before trimming, as
        a multiple of the budget.
    """
    selection = selector(clip.tokens, clip.signals)
    quality = evaluate(clip.tokens, selection, clip.events)
    figures = {"coverage": quality.coverage, "reconstruction error": quality.reconstruction_error}
    if bool((selection.candidate > 0).any()):
        figures["communities"] = float(selection.community.max() + 1)
        figures["candidates"] = int((selection.candidate > 0).sum()) / sum(selection.budget)
    return figures | {f"{RECALL}{kind}": share for kind, share in quality.recall_by_event.items()}


def interval(clips: Sequence[Figures], name: str) -> Interval | None:
    """A figure of :func:`mean` with its 95 % interval over the clips that have it; None where no clip does.

    Kinds of events that no drawn clip shows are left out of the mean of that draw.
    """
    kinds = [name]
    if name == EVENT_RECALL and not any(name in figures for figures in clips):
        kinds = list(dict.fromkeys(kind for figures in clips for kind in figures if kind.startswith(RECALL)))
    table = np.array([[figures.get(kind, np.nan) for kind in kinds] for figures in clips]).reshape(len(clips), -1)
    table = table[~np.isnan(table).all(1)] if len(kinds) else table[:0]
    if not len(table):
        return None
    known, values = ~np.isnan(table), np.nan_to_num(table)

    def statistic(index: NDArray[np.int64]) -> Floats:
        counts = known[index].sum(1)  # (R, kinds)
        means = values[index].sum(1) / np.maximum(counts, 1)
        found: Floats = (means * (counts > 0)).sum(1) / (counts > 0).sum(1)
        return found

    return bootstrap(len(table), statistic)


def mean(clips: Sequence[Figures]) -> Figures:
    """Each figure averaged over the clips that have it, and ``event recall``, the mean over the kinds of events."""
    names = dict.fromkeys(name for figures in clips for name in figures)
    means = {name: statistics.fmean(figures[name] for figures in clips if name in figures) for name in names}
    recalls = [value for name, value in means.items() if name.startswith(RECALL)]
    return means | ({EVENT_RECALL: statistics.fmean(recalls)} if recalls else {})
