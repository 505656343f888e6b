"""The paper's selection straight from the grid is that of the general way, to the bit."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stgraph import Signals, StgraphError, STSimDiff, VideoTokens, kernels
from stgraph.community.components import ConnectedComponents
from stgraph.difference.threshold import Threshold
from stgraph.graph.edges import SpatialEdges, TemporalEdges
from stgraph.graph.lattice import on_lattice
from stgraph.graph.thresholds import ChosenThreshold, Fixed
from stgraph.importance.attention import LanguageModelAttention
from stgraph.importance.graph import Novelty
from stgraph.registry import registry

from ..strategies import features, retentions, videos

FIELDS = ("indices", "verdict", "community", "centrality", "difference", "importance", "margin", "candidate")


@pytest.fixture(autouse=True)
def _fused():
    with kernels.using("fused"):
        yield


def check_both_ways(selector: STSimDiff, tokens: VideoTokens, signals: Signals | None = None) -> None:
    signals = signals or Signals()
    rank = selector._prepare_directly(tokens)
    assert rank is not None
    found = selector.settle(tokens, rank(signals))
    wanted = selector.settle(tokens, selector._rank(tokens, selector.analyse(tokens), signals))
    for name in FIELDS:
        assert torch.equal(getattr(found, name), getattr(wanted, name)), name
    assert found.notes == wanted.notes
    assert found.seconds.keys() == wanted.seconds.keys()


@given(
    st.lists(videos(holes=False, separators=False, dtypes=False), min_size=1, max_size=3),
    st.sampled_from(["proportional", "keep", "drop", "vertex"]),
    st.booleans(),
    retentions,
    st.booleans(),
)
@settings(max_examples=150)
def test_small_videos(parts, separators, newline, retention, attention):
    dim = min(part.features.shape[1] for part in parts)
    grids = [part.lattice(0)[..., :dim] for part in parts]
    if newline:
        grids = [torch.cat([grid, grid[:1, :1, :1].expand(*grid.shape[:2], 1, dim)], 2) for grid in grids]
    tokens = VideoTokens.from_grid(grids, newline=newline)
    selector = STSimDiff(retention=retention, separators=separators, protect_events=attention)
    signals = Signals(llm_attention=torch.rand(len(tokens))) if attention else None
    check_both_ways(selector, tokens, signals)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("threshold", [0.5, 0.8, 0.95])
def test_large_communities(dtype, threshold):
    x = features(24, 9, 11, 96, seed=2, kinds=1, noise=0.3).to(dtype)
    tokens = VideoTokens.from_grid([x, x[:3]])
    check_both_ways(STSimDiff(similarity_threshold=threshold, difference=Threshold(0.9)), tokens)


def test_what_is_not_the_papers_goes_the_general_way():
    tokens = VideoTokens.from_grid(features(3, 4, 5, 8, seed=0))
    for changed in (
        {"community": "louvain"},
        {"community": {"name": "components", "backend": "scipy"}},
        {"spatial": "none"},
        {"temporal": {"name": "aligned", "stride": 2}},
        {"similarity_edges": "spatial"},
        {"similarity_threshold": "otsu"},
        {"difference": "percentile"},
        {"importance": "norm"},
        {"preset": "release"},
    ):
        assert STSimDiff(**changed)._prepare_directly(tokens) is None, changed
    assert STSimDiff()._prepare_directly(tokens.take(torch.arange(1, 60))) is None
    assert STSimDiff()._prepare_directly(VideoTokens.from_grid(features(3, 4, 5, 16, seed=0)[..., ::2])) is None
    with kernels.using("reference"):
        assert STSimDiff()._prepare_directly(tokens) is None
    assert STSimDiff()._prepare_directly(tokens) is not None


def test_a_subclass_has_its_own_analysis():
    class Own(STSimDiff):
        def analyse(self, tokens):
            raise ArithmeticError

    with pytest.raises(ArithmeticError):
        Own()(VideoTokens.from_grid(features(3, 4, 5, 8, seed=0)))


def test_what_is_not_finite_is_named():
    x = torch.ones(3, 2, 2, 4)
    x[2, 1, 0, 3] = torch.nan
    with pytest.raises(StgraphError, match="video 1, frame 2 hold NaN"):
        STSimDiff()(VideoTokens.from_grid([x[:2], x]))


KNOWN = [
    (group, name)
    for group in ("spatial", "temporal", "similarity_threshold", "community", "difference", "importance")
    for name in registry(group)
    if STSimDiff(**{group: name})._prepare_directly(VideoTokens.from_grid(torch.ones(2, 2, 2, 4))) is not None
]
"""Every registered part that takes the short way, found by asking it."""


def test_which_parts_know_lattices():
    """Written down once more, so that a part that stops to know them is seen: its users would wait longer."""
    assert [
        ("spatial", "grid"),
        ("temporal", "aligned"),
        ("similarity_threshold", "fixed"),
        ("community", "components"),
        ("difference", "threshold"),
        *(("importance", name) for name in ("auto", "llm_attention", "encoder_attention", "novelty")),
    ] == KNOWN


@pytest.mark.parametrize(("group", "name"), KNOWN)
@given(tokens=videos(holes=False, separators=False), retention=retentions, seed=st.integers(0, 99))
@settings(max_examples=25)
def test_both_tellings_of_a_part_agree(group, name, tokens, retention, seed):
    attention = torch.rand(len(tokens), generator=torch.Generator().manual_seed(seed))
    signals = Signals(llm_attention=attention, encoder_attention=attention.flip(0))
    check_both_ways(STSimDiff(**{group: name}, retention=retention), tokens, signals)


@pytest.mark.parametrize(
    ("part", "method", "changed"),
    [
        (Novelty, "__call__", lambda self, evidence: -evidence.graph.norm),
        (Threshold, "threshold_for", lambda self, score, graph: 0.0),
        (ConnectedComponents, "detect", lambda self, graph: torch.arange(graph.num_nodes)),
        (Fixed, "choose", lambda self, graph, retention: ChosenThreshold(0.99, "changed")),
        (SpatialEdges, "offsets", ((0, 1, 0), (0, 0, 1), (0, 1, 1))),
        (TemporalEdges, "offsets", ((2, 0, 0),)),
        (LanguageModelAttention, "__call__", lambda self, evidence: -evidence.graph.norm),
    ],
)
def test_a_part_that_changes_without_its_twin_is_seen(part, method, changed, monkeypatch):
    """The check of the test above fails, or the part goes the general way."""
    tokens = VideoTokens.from_grid(features(6, 6, 6, 8, seed=1))
    signals = Signals(llm_attention=torch.rand(len(tokens))) if part is LanguageModelAttention else Signals()
    check_both_ways(STSimDiff(retention=0.2), tokens, signals)
    monkeypatch.setattr(part, method, changed)
    if STSimDiff(retention=0.2)._prepare_directly(tokens) is not None:
        with pytest.raises(AssertionError):
            check_both_ways(STSimDiff(retention=0.2), tokens, signals)


@pytest.mark.parametrize("base", [Threshold, ConnectedComponents, Novelty, Fixed])
def test_what_a_part_inherits_is_not_its_own(base):
    """A class derived from a part that knows lattices may do anything else: it goes the general way."""
    derived = dataclasses.dataclass(frozen=True)(type("Derived", (base,), {}))
    assert on_lattice(base()) is not None
    assert on_lattice(derived()) is None
