"""Similarity thresholds: a fixed τ_sim, or one that each video chooses for itself.

A plain number stands for the fixed one wherever a method is asked for: ``similarity_threshold=0.7`` and
``similarity_threshold=otsu`` are both configurations, and both arguments of
:class:`~stgraph.selectors.simdiff.STSimDiff`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from ..budget import ceil_share, floor_share
from ..errors import check_number
from ..kernels import GRID
from ..registry import Registry
from .merge_tree import merge_tree
from .spatiotemporal import SpatioTemporalGraph, snap_threshold

PAPER_THRESHOLD = 0.8
"""τ_sim of the paper; what automatic methods fall back to where there is nothing to choose between."""


class ChosenThreshold(NamedTuple):
    """The τ_sim of one video, and by what it was chosen."""

    threshold: float
    by: str

    def __str__(self) -> str:
        return f"{self.threshold:.7g} ({self.by})"  # seven digits name one multiple of the weights' grid


@dataclass(frozen=True)
class SimilarityThreshold(ABC):
    """How τ_sim is chosen; fields are its parameters.

    A method implements :meth:`choose` for the graph of one video; a batch is chosen for video by video.
    """

    def __call__(self, graph: SpatioTemporalGraph, retention: float) -> tuple[ChosenThreshold, ...]:
        """τ_sim of every video of ``graph``.

        Args:
            graph: the edges that communities will follow, not yet pruned.
            retention: share of the tokens that will be kept, in (0, 1].
        """
        return tuple(self.choose(graph.video(index), retention) for index in range(graph.num_videos))

    @abstractmethod
    def choose(self, graph: SpatioTemporalGraph, retention: float) -> ChosenThreshold:
        """τ_sim of a graph of one video, in [−1, 1]."""


@dataclass(frozen=True)
class Fixed(SimilarityThreshold):
    """The same τ_sim for every video (paper, design 2).

    Attributes:
        threshold: τ_sim in [−1, 1]; the paper's 0.8.
    """

    threshold: float = PAPER_THRESHOLD

    def __post_init__(self) -> None:
        check_number("similarity_threshold", self.threshold, at_least=-1, at_most=1)

    def on_lattice(self) -> Callable[[], float]:
        """The threshold, which is known before there is a graph."""
        return lambda: self.threshold

    def choose(self, graph: SpatioTemporalGraph, retention: float) -> ChosenThreshold:
        """The threshold as it is."""
        return ChosenThreshold(self.threshold, "fixed")


@dataclass(frozen=True)
class Otsu(SimilarityThreshold):
    """The threshold that best separates two classes of edges: the variance between them is largest (Otsu, 1979).

    Taken over the sorted weights themselves, so there are no bins to choose. It always splits, also where there is one
    kind only. The paper's 0.8 where all edges weigh the same.
    """

    def choose(self, graph: SpatioTemporalGraph, retention: float) -> ChosenThreshold:
        """The middle of the gap between the two classes of weights."""
        steps = (graph.edge_weight.cpu().double() / GRID).floor().long().sort().values.numpy()
        gaps = np.flatnonzero(np.diff(steps)) + 1  # how many edges lie below each possible threshold
        if not len(gaps):
            return ChosenThreshold(PAPER_THRESHOLD, "fixed, as all edges weigh the same")
        below, n = np.cumsum(steps)[gaps - 1].astype(np.float64), len(steps)
        between = (below - steps.sum() * (gaps / n)) ** 2 / (gaps.astype(np.float64) * (n - gaps))
        place = gaps[int(between.argmax())]
        return ChosenThreshold(float(-(-(int(steps[place - 1]) + int(steps[place])) // 2)) * GRID, "otsu")


@dataclass(frozen=True)
class Valley(SimilarityThreshold):
    """The lowest point between the two main modes of the edge-weight histogram (after Prewitt and Mendelsohn, 1966).

    The square roots of the counts, whose sampling noise is the same for large and small ones, are smoothed by a
    Gaussian. The modes are the two most prominent peaks. Where the second peak is too small, Otsu's threshold is used
    and the note says so.

    Attributes:
        bins: of the histogram between the smallest and the largest weight, ≥ 8.
        smoothing: standard deviation of the Gaussian in bins, > 0.
        prominence: how far the second mode must rise above the valley, as a share of the highest peak (square roots
            both), in (0, 1).
    """

    bins: int = 128
    smoothing: float = 2.0
    prominence: float = 0.1

    def __post_init__(self) -> None:
        check_number("valley bins", self.bins, at_least=8, integer=True)
        check_number("valley smoothing", self.smoothing, above=0)
        check_number("valley prominence", self.prominence, above=0, below=1)

    def choose(self, graph: SpatioTemporalGraph, retention: float) -> ChosenThreshold:
        """The middle of the lowest bin, or of the run of equally low bins, between the two modes."""
        from scipy.ndimage import gaussian_filter1d
        from scipy.signal import find_peaks

        weights = graph.edge_weight.cpu().double().numpy()
        if len(weights) and weights.min() < weights.max():
            counts, edges = np.histogram(weights, bins=self.bins)
            height = gaussian_filter1d(np.sqrt(counts), self.smoothing, mode="constant")
            padded = np.pad(height, 1)  # a mode may lie at the very end, such as identical tokens at 1
            peaks, found = find_peaks(padded, prominence=self.prominence * height.max())
            if len(peaks) > 1:
                first, second = sorted(peaks[np.argsort(-found["prominences"], kind="stable")[:2]] - 1)
                between = height[first : second + 1]
                lowest = first + np.flatnonzero(between <= between.min() + 1e-9)
                centres = (edges[:-1] + edges[1:]) / 2
                return ChosenThreshold(snap_threshold(float(centres[lowest].mean())), "valley")
        threshold, by = Otsu().choose(graph, retention)
        return ChosenThreshold(threshold, f"{by}, as valley found one mode only" if by == "otsu" else by)


@dataclass(frozen=True)
class WantedCommunities(SimilarityThreshold):
    """The highest τ_sim with no more connected components than wanted, from the merge tree.

    Edges of equal weight merge at once, so fewer may come out; more, where even all edges together leave more parts.

    Attributes:
        count: wanted number of components in each video, ≥ 1; None to take ``share`` instead.
        share: wanted number as a share of the video's vertices, rounded up, in (0, 1].
    """

    count: int | None = None
    share: float = 0.05

    def __post_init__(self) -> None:
        if self.count is not None:
            check_number("communities count", self.count, at_least=1, integer=True)
        check_number("communities share", self.share, above=0, at_most=1)

    def choose(self, graph: SpatioTemporalGraph, retention: float) -> ChosenThreshold:
        """τ of the merge tree for that many communities."""
        count = self.count if self.count is not None else max(1, ceil_share(self.share, graph.num_nodes))
        return ChosenThreshold(max(-1.0, merge_tree(graph).threshold_for(count)), f"communities, at most {count}")


@dataclass(frozen=True)
class Representatives(SimilarityThreshold):
    """The highest τ_sim whose representatives exceed the budget by no more than wanted, from the merge tree.

    Each component c has ⌈|c|·r⌉ representatives, at least one. So together they are never fewer than the budget ⌈r·V⌉,
    and more of them the finer the components; what exceeds the budget is trimmed by importance. This finds the finest
    components for which a given share is trimmed at most. Events, which come on top, are not counted.

    Attributes:
        excess: representatives beyond the budget, as a share of it, ≥ 0. With 0 there is nothing to trim, which often
            leaves one component only.
    """

    excess: float = 0.25

    def __post_init__(self) -> None:
        check_number("representatives excess", self.excess, at_least=0)

    def choose(self, graph: SpatioTemporalGraph, retention: float) -> ChosenThreshold:
        """τ of the merge tree for that many representatives."""
        budget = ceil_share(retention, graph.num_nodes)
        budget += floor_share(self.excess, budget)
        threshold = max(-1.0, merge_tree(graph).threshold_for_kept(budget, retention))
        return ChosenThreshold(threshold, f"representatives, at most {budget}")


def prune_by_video(graph: SpatioTemporalGraph, thresholds: Sequence[ChosenThreshold]) -> SpatioTemporalGraph:
    """G′ with a τ_sim for every video: edges strictly below that of their video are dropped."""
    values = [snap_threshold(chosen.threshold) for chosen in thresholds]
    if len(set(values)) == 1:
        return graph.take_edges(graph.edge_weight >= values[0])
    lowest = torch.tensor(values, dtype=torch.float64, device=graph.batch.device)
    return graph.take_edges(graph.edge_weight >= lowest[graph.batch[graph.edge_index[0]]])


def describe(thresholds: Sequence[ChosenThreshold]) -> str:
    """The thresholds of all videos in one sentence, each to the digits that name it exactly."""
    by_video = ", ".join(str(chosen) for chosen in thresholds)
    return f"similarity threshold {by_video}" if len(thresholds) == 1 else f"similarity thresholds by video: {by_video}"


class _Thresholds(Registry[SimilarityThreshold]):
    """A registry in which a plain number stands for the fixed threshold."""

    def build(self, spec: str | float | Mapping[str, Any] | SimilarityThreshold) -> SimilarityThreshold:
        """A method from a number, or from what every registry takes."""
        number = isinstance(spec, (int, float)) and not isinstance(spec, bool)
        return super().build({"name": "fixed", "threshold": spec} if number else spec)  # type: ignore[arg-type]

    def config(self, method: SimilarityThreshold) -> Any:
        """A plain number for the fixed threshold, a mapping for all others."""
        return method.threshold if isinstance(method, Fixed) else super().config(method)

    def default_config(self, name: str) -> dict[str, Any]:
        """Parameters of the method called ``name`` at their defaults, those of ``fixed`` too."""
        return super().config(self.build(name)) | {"name": name}


SIMILARITY_THRESHOLDS: Registry[SimilarityThreshold] = _Thresholds(
    "similarity_threshold",
    "stgraph.graph.thresholds:SimilarityThreshold",
    {
        "fixed": "stgraph.graph.thresholds:Fixed",
        "otsu": "stgraph.graph.thresholds:Otsu",
        "valley": "stgraph.graph.thresholds:Valley",
        "communities": "stgraph.graph.thresholds:WantedCommunities",
        "representatives": "stgraph.graph.thresholds:Representatives",
    },
)
