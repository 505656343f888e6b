"""The paper's selection straight from the grid is that of the general way, to the bit."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stgraph import Signals, StgraphError, STSimDiff, VideoTokens, kernels
from stgraph.difference.threshold import Threshold
from stgraph.selectors.direct import prepare_directly

from ..strategies import features, retentions, videos

FIELDS = ("indices", "verdict", "community", "centrality", "difference", "importance", "margin", "candidate")


@pytest.fixture(autouse=True)
def _fused():
    with kernels.use("fused"):
        yield


def check_both_ways(selector: STSimDiff, tokens: VideoTokens, signals: Signals | None = None) -> None:
    signals = signals or Signals()
    rank = prepare_directly(selector, tokens)
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
        assert prepare_directly(STSimDiff(**changed), tokens) is None, changed
    assert prepare_directly(STSimDiff(), tokens.take(torch.arange(1, 60))) is None
    assert prepare_directly(STSimDiff(), VideoTokens.from_grid(features(3, 4, 5, 16, seed=0)[..., ::2])) is None
    with kernels.use("reference"):
        assert prepare_directly(STSimDiff(), tokens) is None
    assert prepare_directly(STSimDiff(), tokens) is not None


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
