"""How good one selector is on one clip: the single place where a video LLM comes in instead."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

from stgraph.selectors import Selector
from stgraph.selectors.metrics import evaluate

from .clips import Clip

Figures = dict[str, float]
"""Figures by name. One that a clip does not have (the recall of an event that does not happen in it) is left out."""

Score = Callable[[Clip, Selector], Figures]
"""What ``score=module:function`` names."""

RECALL = "recall of "
"""Begins the name of the recall of one kind of event; their mean is the event recall."""


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


def mean(clips: Sequence[Figures]) -> Figures:
    """Each figure averaged over the clips that have it, and ``event recall``, the mean over the kinds of events."""
    names = dict.fromkeys(name for figures in clips for name in figures)
    means = {name: statistics.fmean(figures[name] for figures in clips if name in figures) for name in names}
    recalls = [value for name, value in means.items() if name.startswith(RECALL)]
    return means | ({"event recall": statistics.fmean(recalls)} if recalls else {})
