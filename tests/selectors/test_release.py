"""The release preset against its literal reference, and where the release itself would fail."""

from __future__ import annotations

import dataclasses
import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stgraph import Signals, StgraphError, STSimDiff, Verdict, VideoTokens
from stgraph.app.config import resolve
from stgraph.budget import ceil_share
from stgraph.selectors import SELECTORS, direct
from stgraph.selectors.framefusion import FrameFusion
from stgraph.selectors.rounds import LayerBudget

from ..strategies import features, retentions
from .release_reference import first_stage
from .signals import random_signals


@st.composite
def with_newlines(draw: st.DrawFn) -> VideoTokens:
    """Videos whose last column is one vector, as LLaVA-Video lays them out, or is like all others."""
    frames, height, width = draw(st.integers(1, 5)), draw(st.integers(1, 4)), draw(st.integers(2, 5))
    x = features(
        frames,
        height,
        width,
        draw(st.sampled_from([2, 4, 16])),
        draw(st.integers(0, 10_000)),
        kinds=draw(st.integers(1, 4)),
        noise=draw(st.sampled_from([0.0, 0.15, 0.3, 0.6])),
    )
    newline = draw(st.booleans())
    if newline:
        x[:, :, -1] = torch.randn(x.shape[-1], generator=torch.Generator().manual_seed(7))
    return VideoTokens.from_grid(x, newline=newline)


@given(with_newlines(), st.one_of(st.sampled_from([0.1, 0.3, 0.5, 0.7]), st.floats(0.05, 0.95)))
@settings(max_examples=100)
def test_the_first_stage_equals_its_reference(tokens, retention):
    selector = STSimDiff(preset="release", retention=retention)
    ranking = selector.rank(tokens, Signals())
    left = (ranking.candidate > 0).nonzero()[:, 0].tolist()
    kept, events, clear = first_stage(list(tokens.features), [tuple(p) for p in tokens.coords.tolist()], retention)
    if not clear:
        return  # a cosine so near a threshold, or scores so near each other, that rounding may decide
    assert left == kept
    assert (ranking.candidate & 2).nonzero()[:, 0].tolist() == events
    budget = ceil_share(retention, len(tokens))
    assert len(left) >= budget
    attention = torch.rand(len(tokens), generator=torch.Generator().manual_seed(1))
    selection = selector(tokens, Signals(llm_attention=attention))
    top = sorted(sorted(left, key=lambda i: -float(attention[i]))[:budget])
    assert selection.indices.tolist() == top, "events are not protected"
    assert set(selection.indices.tolist()) <= set(left)
    assert selection.budget == (budget,)


def test_small_communities_vanish_and_lone_vertices_stay():
    a, b, c = torch.eye(3)
    row = torch.stack([a, a, b, c])  # a pair, and two on their own
    tokens = VideoTokens.from_grid(row.view(1, 1, 4, 3))
    assert (STSimDiff(preset="release").rank(tokens, Signals()).candidate > 0).tolist() == [False, False, True, True]
    assert (STSimDiff().rank(tokens, Signals()).candidate > 0).tolist() == [True, False, True, True]


def test_the_first_community_that_would_go_too_far_ends_it():
    row = torch.eye(3)[[0, 0, 0, 1, 1, 1, 2, 2]]
    left = STSimDiff(preset="release").rank(VideoTokens.from_grid(row.view(1, 1, 8, 3)), Signals()).candidate > 0
    assert left.nonzero()[:, 0].tolist() == [3, 4, 5, 6, 7], "three may go, and three more not; two more are not asked"
    frames = torch.eye(4)[[0, 0, 0, 2, 1, 1, 1, 2]].view(2, 1, 4, 4)
    frames[1, 0, 3] = torch.tensor([0.0, 0.0, 0.9, 0.4])  # a pair less alike than the two rows of three
    ranking = STSimDiff(preset="release").rank(VideoTokens.from_grid(frames), Signals())
    assert (ranking.candidate & 2).nonzero()[:, 0].tolist() == [4, 5, 6], "the second community would give up nothing"
    assert (ranking.candidate > 0).nonzero()[:, 0].tolist() == [3, 4, 5, 6, 7], "and ends it all the same"


def test_spared_events_leave_more_to_give_up():
    frames = torch.eye(3)[:, None, None].expand(3, 1, 3, 3).clone()
    frames[0, 0, :, 1] = torch.tensor([0.0, 0.1, 0.2])  # less alike than the frames after it, which are all events
    left = STSimDiff(preset="release", retention=0.5).rank(VideoTokens.from_grid(frames), Signals()).candidate > 0
    assert left.nonzero()[:, 0].tolist() == [1, 3, 4, 5, 6, 7, 8]


def test_spatial_edges_must_exceed_the_threshold():
    x = torch.tensor([[1.0, 0.0], [0.8, 0.6]])
    for shape, joined in (((1, 1, 2, 2), False), ((2, 1, 1, 2), True)):
        community = STSimDiff(preset="release").rank(VideoTokens.from_grid(x.view(shape)), Signals()).community
        assert (community[0] == community[1]) == joined


def test_newline_tokens_are_vertices():
    tokens = VideoTokens.from_grid(features(3, 4, 5, 8, seed=2), newline=True)
    selection = STSimDiff(preset="release", retention=0.4)(tokens)
    assert selection.budget == (ceil_share(0.4, 60),)
    assert len(selection) == 24
    assert bool((selection.community >= 0).all())
    assert selection.counts["separator"] == 0
    for separators in ("keep", "drop"):
        with pytest.raises(StgraphError, match='preset="release" takes newline tokens as vertices'):
            STSimDiff(preset="release", separators=separators)


@pytest.mark.parametrize(
    "grid",
    [
        torch.ones(40, 6, 7, 4),  # one community: the release recurses as deep as it is large
        torch.eye(60).view(3, 4, 5, 60),  # no edge at all
        torch.zeros(2, 3, 4, 5),
        torch.randn(1, 1, 1, 4),
    ],
    ids=["static", "orthogonal", "zero", "one"],
)
@pytest.mark.parametrize("retention", [1e-6, 0.3, 1.0])
def test_what_the_release_fails_on(grid, retention):
    tokens = VideoTokens.from_grid(grid)
    selection = STSimDiff(preset="release", retention=retention)(tokens)
    assert len(selection) == ceil_share(retention, len(tokens)) == selection.budget[0]


@given(st.lists(with_newlines(), min_size=2, max_size=3), retentions)
@settings(max_examples=40)
def test_batch_equals_one_by_one(parts, retention):
    parts = [p for p in parts if p.features.shape[1] == parts[0].features.shape[1]]
    selector = STSimDiff(preset="release", retention=retention)
    joined = VideoTokens.cat(parts)
    batch = selector(joined, random_signals(joined))
    for number, part in enumerate(parts):
        assert batch.video(number).digest == selector(part, random_signals(part)).digest


def test_any_community_detector_fits():
    tokens = VideoTokens.from_grid(features(5, 5, 5, 16, seed=6, noise=0.2))
    for community in ("leiden", "label_propagation", "sqrt_split"):
        selector = SELECTORS.build({"name": "simdiff", "preset": "release", "community": community})
        assert len(selector(tokens)) == ceil_share(0.3, len(tokens))


def test_every_token_can_be_explained():
    tokens = VideoTokens.from_grid(features(3, 4, 5, 8, seed=6), newline=True)
    selection = STSimDiff(preset="release")(tokens)
    for token in range(len(tokens)):
        assert ("was kept" in selection.why(token)) == bool(selection.mask[token])
    assert bool(selection.candidate[selection.verdict == Verdict.TRIMMED].all())


def test_the_preset_is_a_setting():
    config = resolve(["selector.preset=release", "selector.budget=tokens", "retention=0.4"])
    selector = config.selector()
    assert isinstance(selector, STSimDiff)
    assert (selector.preset, selector.budget, selector.separators) == ("release", "tokens", "vertex")
    assert SELECTORS.build(SELECTORS.config(selector)) == selector
    for wrong, message in (
        ("preset=code", "preset must be one of paper, release"),
        ("budget=layers", "budget must be"),
    ):
        with pytest.raises(StgraphError, match=message):
            resolve([f"selector.{wrong}"])
    with pytest.raises(StgraphError, match="preset must be one of paper, release"):
        STSimDiff(preset="code")
    with pytest.raises(StgraphError, match="budget must be one of tokens, mean_over_layers"):
        STSimDiff(budget="layers")
    with pytest.raises(StgraphError, match="budget must be one of tokens, mean_over_layers"):
        FrameFusion(budget="layers")


# -- the budget over layers -------------------------------------------------------------------------------------------


@given(st.floats(0.05, 1.0), st.integers(2, 40), st.integers(1, 5000), st.data())
@settings(max_examples=200)
def test_the_mean_over_layers_is_what_was_asked_for(retention, layers, count, data):
    """One drop at the entry to a share p ≥ r, then one at a later layer, as in the release."""
    entered = data.draw(st.integers(ceil_share(retention, count), count))
    layer = data.draw(st.integers(1, layers - 1))
    budget = LayerBudget("mean_over_layers", retention, count, layers)
    assert budget.at(0, count) == max(1, round(Fraction(repr(retention)) * count))
    left = budget.at(layer, entered)
    full = layer - 1  # layers that count with all that entered
    exact = (layers * retention * count - full * entered) / (layers - full)
    if exact >= 1:
        mean = (full * entered + (layers - full) * left) / layers
        assert abs(mean - retention * count) <= 0.5 + 1e-6, "half a token"
        need = 1 - (layers * retention - full * entered / count) / ((layers - full) * entered / count)
        assert left == pytest.approx(entered * (1 - need), abs=0.5 + 1e-6), "the published formula"
    else:
        assert left == 1, "nothing is left to share out"


@pytest.mark.parametrize("entered", [0.3, 0.5, 1.0])
def test_the_release_ends_between_the_published_bounds(entered):
    budget = LayerBudget("mean_over_layers", 0.3, 10_000, 28)
    budget.at(0, 10_000)
    left = budget.at(2, round(entered * 10_000))
    assert math.floor(10_000 * (28 * 0.3 - 1) / 27) <= left <= 3000


def test_a_budget_in_tokens_does_not_look_back():
    budget = LayerBudget("tokens", 0.3, 10, 28)
    assert [budget.at(layer, 9) for layer in (0, 2, 5)] == [3, 3, 3]


def test_where_attached_methods_prune():
    assert STSimDiff().natural_trim == "before"
    assert STSimDiff(preset="release").natural_trim == "inside"
    for name in ("simdiff", "importance", "sim", "sim_spatial", "sim_temporal"):
        assert SELECTORS.build({"name": name, "importance": "llm_attention"}).natural_trim == "inside"
        assert SELECTORS.build({"name": name, "importance": "encoder_attention"}).natural_trim == "before"
    for name in ("fastv", "framefusion"):
        assert SELECTORS.build(name).natural_trim == "inside"
        assert SELECTORS.build({"name": name, "signal": "features"}).natural_trim == "before"


@pytest.mark.parametrize("community", ["components", "louvain"])
def test_analysis_is_done_once(community, monkeypatch):
    calls = []
    for owner, name in ((STSimDiff, "analyse"), (direct, "find")):  # what other parts need, and the paper's
        work = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *given, work=work: calls.append(given) or work(*given))
    tokens = VideoTokens.from_grid(features(3, 4, 5, 8, seed=6))
    selector = STSimDiff(community=community)
    rank = selector.prepare(tokens)
    signals = random_signals(tokens)
    for given_signals in (Signals(), signals):
        again, once = rank(given_signals), selector.rank(tokens, given_signals)
        for field in ("importance", "candidate", "community", "centrality", "difference"):
            assert torch.equal(getattr(again, field), getattr(once, field)), field
    assert len(calls) == 3
    assert dataclasses.replace(selector) == selector
