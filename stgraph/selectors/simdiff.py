"""ST-SimDiff: similarity for what is redundant, difference for what happens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..budget import ceil_shares
from ..community.base import CommunityDetector
from ..community.partition import Partition
from ..difference.base import Difference, DifferenceDetector
from ..errors import StgraphError, check_choice
from ..graph import SpatioTemporalGraph, build_graph
from ..graph.edges import SPATIAL, TEMPORAL, SpatialBuilder, TemporalBuilder
from ..graph.thresholds import Fixed, SimilarityThreshold, describe, prune_by_video
from ..importance.base import Evidence, Importance
from ..kernels import community_ranks
from ..registry import group_field, registry
from ..signals import Signals
from ..tokens import VideoTokens
from .base import Clock, Ranking, Selector, place_of
from .direct import Parts, prepare_directly
from .release import fine_centrality, fine_ranks, representatives, strict_in_space
from .rounds import BUDGET_RULES, BudgetRule, LayerBudget


@dataclass(frozen=True, eq=False)
class Analysis:
    """What :class:`STSimDiff` found before it trims to the budget.

    Attributes:
        graph: the whole graph, V vertices.
        similar: the pruned graph G′ that communities are looked for in, on the same vertices.
        partition: its communities.
        centrality: (V,) float32 S_c in those communities.
        rank: (V,) int64 place of each vertex in its community by centrality, 0 = most central.
        representative: (V,) bool, T_rep; in the release, what its first stage leaves.
        difference: difference scores, and the event tokens T_event.
        seconds: time of each stage.
        notes: sentences for the user.
    """

    graph: SpatioTemporalGraph
    similar: SpatioTemporalGraph
    partition: Partition
    centrality: Tensor
    rank: Tensor
    representative: Tensor
    difference: Difference
    seconds: dict[str, float]
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class STSimDiff(Selector):
    """ST-SimDiff (ICLR 2026), the paper's algorithm to the letter.

    1. All tokens become one graph: spatial edges at Manhattan distance 1, temporal edges at the same position in
       adjacent frames, weighted by cosine similarity.
    2. Representatives: edges below τ_sim are pruned, communities found, and the ⌈|c|·r⌉ most central tokens of each
       community c kept.
    3. Events: tokens whose temporal similarity falls below τ_diff.
    4. The union of both is trimmed to ⌈r·N⌉ by importance.

    Departures: none in the default. Where no attention is given, ``importance="auto"`` trims by a substitute (the paper
    always has the LLM's attention).

    ``preset="release"`` is what the authors' code does instead, see docs/algorithm.md: newline tokens are vertices;
    spatial edges must exceed τ_sim; communities are thinned out to ⌊|c|·r⌋ from the most similar one on, until 1 − r of
    the tokens are gone. Attached to a model, what is left enters it and is trimmed at layer 2, to a mean of r over all
    layers. As a plain selector every layer has the same tokens, which makes that ⌈r·N⌉.

    Attributes:
        preset: ``"paper"`` or ``"release"``.
        spatial: what joins tokens inside a frame.
        temporal: what joins tokens between frames; ``motion`` follows what moves, for communities and events alike.
        similarity_threshold: τ_sim in [−1, 1]; edges strictly below it are pruned before communities are looked for. A
            number, or a method that chooses one for each video from the edges that communities follow; it says which.
        similarity_edges: which edges communities follow; ``"spatial"`` and ``"temporal"`` are rows of the paper's
            ablation.
        community: the community detector.
        difference: the difference detector, which always sees the whole graph; ``none`` leaves the event path out (the
            paper's ablation row "+ Sim").
        importance: what the union is trimmed by; with ``llm_attention``, a model is trimmed inside.
        protect_events: event tokens are trimmed only after all other candidates are gone. The paper does not protect
            them.
        budget: where tokens are dropped inside a model, ``"tokens"``: ⌈r·N⌉ are left in the end;
            ``"mean_over_layers"``: the mean over its layers is r·N, counted as published, see :class:`LayerBudget`.
            None is the preset's: ``"tokens"`` for the paper.
    """

    preset: Literal["paper", "release"] = "paper"
    spatial: SpatialBuilder = group_field("spatial", "grid")
    temporal: TemporalBuilder = group_field("temporal", "aligned")
    similarity_threshold: SimilarityThreshold | float | str = group_field("similarity_threshold", "fixed")
    similarity_edges: Literal["both", "spatial", "temporal"] = "both"
    community: CommunityDetector = group_field("community", "components")
    difference: DifferenceDetector = group_field("difference", "threshold")
    importance: Importance = group_field("importance", "auto")
    protect_events: bool = False
    budget: BudgetRule | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("preset", self.preset, ("paper", "release"))
        if self.budget is not None:
            check_choice("budget", self.budget, BUDGET_RULES)
        if self.preset == "release":
            if self.separators not in ("proportional", "vertex"):
                raise StgraphError(
                    'preset="release" takes newline tokens as vertices, got separators='
                    f"{self.separators!r}; leave it out"
                )
            object.__setattr__(self, "separators", "vertex")
        check_choice("similarity_edges", self.similarity_edges, ("both", "spatial", "temporal"))

    def analyse(self, tokens: VideoTokens) -> Analysis:
        """The graph of the tokens, its communities and its differences (paper, designs 1 to 3).

        Raises:
            StgraphError: a number of ``tokens`` that is another share of each video.
        """
        if self.tokens is not None:
            return self.by_share(tokens).analyse(tokens)
        clock = Clock()
        method: SimilarityThreshold = registry("similarity_threshold").build(self.similarity_threshold)
        graph = build_graph(
            tokens,
            (self.spatial, self.temporal),
            separators_as_vertices=self.separators == "vertex",
        )
        clock.lap("graph")
        similar = graph
        if self.similarity_edges != "both":
            similar = graph.take_edges(graph.edge_kind == (SPATIAL if self.similarity_edges == "spatial" else TEMPORAL))
        thresholds = method(similar, self.retention)
        similar = prune_by_video(similar, thresholds)
        if self.preset == "release":
            similar = strict_in_space(similar, thresholds)
        partition = self.community(similar)
        clock.lap("community")
        centrality = graph.centrality(partition.labels, partition.sizes)
        rank = community_ranks(partition.labels, partition.sizes, centrality)
        clock.lap("centrality")
        difference = self.difference(graph)
        clock.lap("difference")
        if self.preset == "release":
            finer = fine_centrality(tokens.features.detach(), graph.token, partition.labels, partition.sizes)
            rank = fine_ranks(partition.labels, finer)
            representative = representatives(similar, partition, finer, rank, difference.marked, self.retention)
        else:
            representative = rank < ceil_shares(self.retention, partition.sizes)[partition.labels]
        notes = () if isinstance(method, Fixed) else (describe(thresholds),)
        return Analysis(graph, similar, partition, centrality, rank, representative, difference, clock.seconds, notes)

    def rank(self, tokens: VideoTokens, signals: Signals) -> Ranking:
        """Candidates T_rep ∪ T_event with their importance (paper, design 4)."""
        return self.prepare(tokens)(signals)

    def prepare(self, tokens: VideoTokens) -> Callable[[Signals], Ranking]:
        """The candidates, whose importance alone may need signals."""
        rank = self._prepare_directly(tokens) if type(self) is STSimDiff else None
        if rank is not None:
            return rank
        found = self.analyse(tokens)
        return lambda signals: self._rank(tokens, found, signals)

    def _prepare_directly(self, tokens: VideoTokens) -> Callable[[Signals], Ranking] | None:
        if self.preset != "paper" or self.similarity_edges != "both":
            return None
        threshold: SimilarityThreshold = registry("similarity_threshold").build(self.similarity_threshold)
        parts = Parts(self.spatial, self.temporal, threshold, self.community, self.difference, self.importance)
        return prepare_directly(self, parts, tokens, protect_events=self.protect_events)

    @property
    def natural_trim(self) -> Literal["before", "inside"]:
        """Before the model, so that no layer computes dropped tokens; inside for the release and for LLM attention."""
        return "inside" if self.preset == "release" else place_of(self.importance.signal)

    def layer_budget(self, count: int, layers: int) -> LayerBudget:
        """By the rule that was chosen, or that of the preset."""
        rule = self.budget or ("mean_over_layers" if self.preset == "release" else "tokens")
        return LayerBudget(rule, self.share(count), count, layers)

    def _rank(self, tokens: VideoTokens, found: Analysis, signals: Signals) -> Ranking:
        graph, difference = found.graph, found.difference
        is_candidate = found.representative | difference.marked
        clock = Clock()
        importance = self.importance.resolve(signals)
        score = importance(
            Evidence(graph, found.partition, found.centrality, difference, is_candidate, found.rank, signals)
        )
        clock.lap("importance")

        def per_token(values: Tensor, fill: float) -> Tensor:
            return values.new_full((len(tokens),), fill).index_copy_(0, graph.token, values)

        event = per_token(difference.marked, False)
        return Ranking(
            importance=per_token(score, 0),
            candidate=per_token(found.representative, False).to(torch.uint8) + 2 * event.to(torch.uint8),
            protected=event if self.protect_events else None,
            community=per_token(found.partition.labels, -1),
            centrality=per_token(found.centrality, 0),
            difference=per_token(difference.score, 0),
            seconds=found.seconds | clock.seconds,
            notes=(f"candidates are trimmed by {registry('importance').name_of(importance)}", *found.notes),
        )
