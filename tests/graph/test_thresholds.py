"""Automatic similarity thresholds: known answers, targets met, and the words of the configuration."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stgraph import Signals, StgraphError, STSimDiff, VideoTokens, build_graph
from stgraph.budget import ceil_share
from stgraph.graph.merge_tree import merge_tree
from stgraph.graph.spatiotemporal import snap_threshold
from stgraph.graph.thresholds import (
    SIMILARITY_THRESHOLDS,
    Fixed,
    Otsu,
    Representatives,
    Valley,
    WantedCommunities,
    describe,
    prune_by_video,
)
from stgraph.registry import registry
from stgraph.selectors import SELECTORS

from ..strategies import features, retentions, videos

AUTOMATIC = sorted(set(SIMILARITY_THRESHOLDS) - {"fixed"})


def graph_of(weights):
    """A path of vertices with these edge weights."""
    weights = torch.as_tensor(weights, dtype=torch.float32)
    graph = build_graph(VideoTokens.from_grid(torch.ones(1, 1, len(weights) + 1, 1)))
    return dataclasses.replace(graph, edge_weight=weights)


def two_scenes(noise):
    """A checkerboard of two contents, 4 × 4 patches a square: edges are about 1 / (1 + noise²) within, 0 between."""
    g = torch.Generator().manual_seed(0)
    content = torch.randn(2, 128, generator=g)
    which = (torch.arange(12)[:, None] // 4 + torch.arange(12) // 4) % 2
    x = content[which].expand(6, -1, -1, -1) + noise * torch.randn(6, 12, 12, 128, generator=g)
    square = (torch.arange(12)[:, None] // 4 * 3 + torch.arange(12) // 4).expand(6, -1, -1).flatten()
    return VideoTokens.from_grid(x), square.tolist()


@pytest.mark.parametrize("noise", [0.2, 0.5, 0.8])
@pytest.mark.parametrize("name", ["otsu", "valley"])
def test_the_threshold_follows_the_noise(noise, name):
    """A fixed 0.8 finds the contents only under little noise; a threshold from the data finds them in all."""
    tokens, square = two_scenes(noise)
    found = STSimDiff(similarity_threshold=name)(tokens).community.tolist()
    assert len(set(found)) == len(set(zip(found, square, strict=True))) == 9
    fixed = STSimDiff()(tokens).community.tolist()
    assert (len(set(fixed)) == 9) == (noise < 0.4)


def test_otsu_maximises_the_variance_between_classes():
    weights = np.round(np.random.default_rng(0).beta(2, 1, 200), 2)
    chosen = Otsu().choose(graph_of(weights), 0.3)
    assert chosen.by == "otsu"

    def between(cut):
        high = weights >= cut
        return high.mean() * (1 - high.mean()) * (weights[high].mean() - weights[~high].mean()) ** 2

    cuts = np.unique(weights)[1:]
    assert between(chosen.threshold) == pytest.approx(max(between(cut) for cut in cuts))


@given(st.lists(st.floats(-1, 1, width=32), min_size=2, max_size=30))
def test_otsu_splits_whatever_can_be_split(weights):
    graph = build_graph(VideoTokens.from_grid(torch.ones(1, 1, len(weights) + 1, 1)))
    graph = dataclasses.replace(graph, edge_weight=torch.tensor([snap_threshold(w) for w in weights]))
    chosen = Otsu().choose(graph, 0.3)
    kept = graph.prune(chosen.threshold).num_edges
    if len(graph.edge_weight.unique()) > 1:
        assert 0 < kept < graph.num_edges
    else:
        assert chosen == (0.8, "fixed, as all edges weigh the same")


def test_valley_lies_between_two_modes_of_unequal_size():
    rng = np.random.default_rng(0)
    for share in (0.5, 0.2, 0.1):
        low, high = rng.normal(0.2, 0.08, round(20_000 * share)), rng.normal(0.9, 0.03, round(20_000 * (1 - share)))
        chosen = Valley().choose(graph_of(np.concatenate([low, high]).clip(-1, 1)), 0.3)
        assert chosen.by == "valley"
        assert 0.4 < chosen.threshold < 0.82


def test_valley_sees_a_mode_of_identical_tokens():
    weights = np.concatenate([np.random.default_rng(0).normal(0.3, 0.1, 5000), np.ones(3000)])
    chosen = Valley().choose(graph_of(weights.clip(-1, 1)), 0.3)
    assert chosen.by == "valley"
    assert 0.6 < chosen.threshold < 1


@pytest.mark.parametrize("seed", range(5))
def test_valley_falls_back_to_otsu_and_says_so(seed):
    graph = graph_of(np.random.default_rng(seed).normal(0.5, 0.1, 5000).clip(-1, 1))
    chosen = Valley().choose(graph, 0.3)
    assert chosen.threshold == Otsu().choose(graph, 0.3).threshold
    assert chosen.by == "otsu, as valley found one mode only"


@given(videos(dtypes=False), st.integers(1, 40))
def test_wanted_communities(tokens, count):
    graph = build_graph(tokens)
    tree = merge_tree(graph)
    threshold = WantedCommunities(count=count).choose(graph, 0.3).threshold
    fewest = int(tree.num_communities(-1.0))
    assert int(tree.num_communities(threshold)) <= max(count, fewest)
    by_share = WantedCommunities(share=0.25).choose(graph, 0.3)
    assert by_share.threshold == tree.threshold_for(max(1, ceil_share(0.25, len(graph.token))))


@given(videos(dtypes=False), retentions, st.sampled_from([0.0, 0.25, 1.0]))
def test_representatives_fill_the_budget(tokens, retention, excess):
    ranking = STSimDiff(retention=retention, similarity_threshold=Representatives(excess=excess)).rank(
        tokens, Signals()
    )
    graph = build_graph(tokens)
    budget = ceil_share(retention, graph.num_nodes)
    fewest = int(merge_tree(graph).num_representatives(-1.0, retention))
    representatives = int((ranking.candidate & 1).sum())
    assert budget <= representatives <= max(int(budget * (1 + excess)), fewest)


@given(videos(dtypes=False), st.sampled_from(sorted(SIMILARITY_THRESHOLDS)))
def test_every_method_on_any_video(tokens, name):
    graph = build_graph(tokens)
    (chosen,) = SIMILARITY_THRESHOLDS.build(name)(graph, 0.3)
    assert -1 <= chosen.threshold <= 1
    written = float(str(chosen).split(" ")[0])
    assert snap_threshold(written) == snap_threshold(chosen.threshold), "the note names the threshold exactly"
    pruned, again = prune_by_video(graph, [chosen]), graph.prune(written)
    assert torch.equal(pruned.edge_index, again.edge_index)
    selection = STSimDiff(similarity_threshold=name)(tokens)
    assert torch.equal(selection.community, STSimDiff(similarity_threshold=written)(tokens).community)
    assert any(describe([chosen]) in note for note in selection.notes) == (name != "fixed")


@pytest.mark.parametrize("name", AUTOMATIC)
def test_a_batch_is_chosen_for_video_by_video(name):
    parts = [VideoTokens.from_grid(features(4, 5, 6, 16, seed=s, noise=0.2 + 0.2 * s)) for s in range(3)]
    selector = STSimDiff(similarity_threshold=name)
    batch = selector(VideoTokens.cat(parts))
    chosen = [selector.similarity_threshold(build_graph(part), 0.3)[0] for part in parts]
    assert len({c.threshold for c in chosen}) > 1
    assert batch.notes[-1] == "similarity thresholds by video: " + ", ".join(map(str, chosen))
    for number, part in enumerate(parts):
        assert batch.video(number).digest == selector(part).digest


def test_only_edges_that_communities_follow_count():
    tokens = VideoTokens.from_grid(features(4, 5, 6, 16, seed=0))
    notes = {
        kind: STSimDiff(similarity_threshold="otsu", similarity_edges=kind)(tokens).notes[-1]
        for kind in ("both", "spatial", "temporal")
    }
    assert len(set(notes.values())) == 3


def test_a_number_is_the_fixed_threshold():
    table = registry("similarity_threshold")
    assert table.build(0.7) == table.build({"name": "fixed", "threshold": 0.7}) == Fixed(0.7)
    assert table.build("fixed") == Fixed(0.8)
    assert table.build(1) == Fixed(1.0)
    assert table.config(Fixed(0.7)) == 0.7
    assert table.default_config("fixed") == {"name": "fixed", "threshold": 0.8}
    for name in AUTOMATIC:
        method = table.build(name)
        assert table.build(table.config(method)) == method
        assert table.default_config(name) == table.config(method)
        assert table.config(method)["name"] == name


def test_words_of_the_configuration_and_arguments_are_the_same():
    for words in (0.7, "otsu", {"name": "communities", "count": 12}):
        selector = SELECTORS.build({"name": "simdiff", "similarity_threshold": words})
        assert STSimDiff(similarity_threshold=words) == selector
        assert SELECTORS.build(SELECTORS.config(selector)) == selector
    assert SELECTORS.config(STSimDiff())["similarity_threshold"] == 0.8
    assert STSimDiff() == STSimDiff(similarity_threshold=0.8)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (1.5, "similarity_threshold must be a number ≥ -1 and ≤ 1, got 1.5"),
        (float("nan"), "similarity_threshold must be a number"),
        (True, "similarity_threshold must be a name, a mapping or a SimilarityThreshold, got True"),
        (None, "similarity_threshold must be a name"),
        ("otso", "there is no similarity_threshold called 'otso'; did you mean 'otsu'"),
        ({"name": "otsu", "bins": 3}, "similarity_threshold 'otsu' has no parameter 'bins'"),
        ({"name": "valley", "bins": 3}, "valley bins must be a whole number ≥ 8"),
        ({"name": "valley", "smoothing": 0}, "valley smoothing must be a number > 0"),
        ({"name": "valley", "prominence": 1}, "valley prominence must be a number > 0 and < 1"),
        ({"name": "communities", "count": 0}, "communities count must be a whole number ≥ 1"),
        ({"name": "communities", "share": 0}, "communities share must be a number > 0 and ≤ 1"),
        ({"name": "representatives", "excess": -1}, "representatives excess must be a number ≥ 0"),
    ],
)
def test_bad_words(words, message):
    with pytest.raises(StgraphError, match=message.replace("(", r"\(")):
        STSimDiff(similarity_threshold=words)


def test_the_budget_of_representatives_is_exact():
    """⌊100 · (1 + 0.15)⌋ is 115; in floating point it is 114."""
    graph = build_graph(VideoTokens.from_grid(torch.randn(1, 20, 25, 4)))
    chosen = Representatives(excess=0.15).choose(graph, 0.2)
    assert chosen.by == "representatives, at most 115"
