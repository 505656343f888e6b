"""ST-SimDiff against brute force, and the paper's properties on random videos."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stgraph import Signals, StgraphError, STSimDiff, Verdict, VideoTokens, build_graph
from stgraph.budget import ceil_share
from stgraph.community import COMMUNITIES
from stgraph.difference import DIFFERENCES
from stgraph.importance import IMPORTANCES
from stgraph.selectors import SELECTORS

from ..reference import TOLERANCE, reference
from ..strategies import features, retentions, videos

CANDIDATE = (Verdict.REPRESENTATIVE, Verdict.EVENT, Verdict.BOTH, Verdict.TRIMMED)


def is_borderline(weights, *thresholds):
    return any(abs(w - t) < 2e-6 and w != t for w in weights for t in thresholds)


@given(videos(), retentions)
@settings(max_examples=300)
def test_equals_brute_force(tokens, retention):
    expected = reference(tokens)
    if is_borderline(expected.edges.values(), 0.8, 0.2):
        return  # float64 and float32 may rightly disagree on such an edge
    graph = build_graph(tokens)
    index = graph.token[graph.edge_index]
    edges = {(a, b): w for a, b, w in zip(*index.tolist(), graph.edge_weight.tolist(), strict=True)}
    assert edges.keys() == expected.edges.keys()
    for edge, weight in edges.items():
        assert weight == pytest.approx(expected.edges[edge], abs=2e-6)
    kinds = {tuple(e) for e in index[:, graph.edge_kind == 1].T.tolist()}
    assert kinds == expected.temporal

    selection = STSimDiff(retention=retention)(tokens)
    labels = selection.community.tolist()
    found: dict[int, list[int]] = {}
    for i in expected.vertices:
        found.setdefault(labels[i], []).append(i)
    assert list(found.values()) == expected.communities
    assert list(found) == sorted(found), "communities are numbered by their first token"
    for i, value in expected.centrality.items():
        assert float(selection.centrality[i]) == pytest.approx(value, abs=1e-5)

    ranking = STSimDiff(retention=retention).rank(tokens, Signals())
    events = {i for i in range(len(tokens)) if ranking.candidate[i] & 2}
    assert events == expected.events
    for community in expected.communities:
        quota = expected.quota(community, retention)
        chosen = [i for i in community if ranking.candidate[i] & 1]
        assert len(chosen) == quota
        cut = sorted((expected.centrality[i] for i in community), reverse=True)[quota - 1]
        for i in community:
            if expected.centrality[i] > cut + TOLERANCE:
                assert i in chosen
            if expected.centrality[i] < cut - TOLERANCE:
                assert i not in chosen
        if all(abs(expected.centrality[i] - cut) < 1e-9 for i in community):  # a tie goes to the smaller index
            assert chosen == community[:quota]


@given(videos(), retentions, st.booleans())
def test_budget_is_exact_and_communities_are_represented(tokens, retention, protect):
    selector = STSimDiff(retention=retention, protect_events=protect)
    ranking = selector.rank(tokens, Signals())
    selection = selector(tokens)
    visual = ~tokens.separator
    n, s = int(visual.sum()), tokens.num_separators
    kept = selection.mask
    assert int((kept & visual).sum()) == ceil_share(retention, n) == selection.budget[0]
    assert int((kept & tokens.separator).sum()) == ceil_share(retention, s)
    representative = (ranking.candidate & 1).bool()
    assert int(representative.sum()) >= ceil_share(retention, n), "T_rep never falls below the budget"
    for community in ranking.community[visual].unique():
        assert bool(representative[ranking.community == community].any())
    assert all(Verdict(int(v)) in CANDIDATE for v in selection.verdict[kept & visual]), "only candidates are kept"
    assert torch.equal(selection.indices, kept.nonzero()[:, 0])


@given(videos(), retentions)
def test_protected_events_are_trimmed_last(tokens, retention):
    selection = STSimDiff(retention=retention, protect_events=True)(tokens)
    candidate = STSimDiff(retention=retention).rank(tokens, Signals()).candidate
    event = (candidate & 2).bool()
    if int(event.sum()) <= selection.budget[0]:
        assert bool(selection.mask[event].all())
    else:
        assert bool(event[selection.mask & ~tokens.separator].all())


@given(st.lists(videos(dtypes=False), min_size=2, max_size=3), retentions, st.sampled_from(sorted(DIFFERENCES)))
@settings(max_examples=60)
def test_batch_equals_its_videos_in_any_order(parts, retention, difference):
    dim = parts[0].features.shape[1]
    parts = [p for p in parts if p.features.shape[1] == dim]
    selector = STSimDiff(retention=retention, difference=DIFFERENCES.build(difference))
    alone = [selector(p) for p in parts]
    for order in (range(len(parts)), range(len(parts) - 1, -1, -1)):
        batch = selector(VideoTokens.cat([parts[i] for i in order]))
        for number, i in enumerate(order):
            part = batch.video(number)
            assert part.digest == alone[i].digest
            for name in ("indices", "community", "centrality", "difference", "importance", "margin"):
                assert torch.equal(getattr(part, name), getattr(alone[i], name)), name


@given(videos())
def test_retention_one_keeps_all(tokens):
    assert STSimDiff(retention=1.0)(tokens).indices.tolist() == list(range(len(tokens)))


@given(videos(), st.sampled_from(["spatial", "temporal"]))
def test_ablation_graphs_join_along_one_axis_only(tokens, kind):
    selection = STSimDiff(similarity_edges=kind)(tokens)
    for community in selection.community[selection.community >= 0].unique():
        frames, rows, columns = tokens.coords[selection.community == community].T
        if kind == "spatial":
            assert len(frames.unique()) == 1
        else:
            assert len(rows.unique()) == len(columns.unique()) == 1


def test_thread_count_changes_nothing():
    tokens = VideoTokens.from_grid(features(12, 9, 11, 700, seed=3))
    results = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results.append(STSimDiff()(tokens))
    finally:
        torch.set_num_threads(before)
    for name in ("indices", "centrality", "difference", "importance"):
        assert torch.equal(getattr(results[0], name), getattr(results[1], name)), name


def test_threshold_is_strict_on_both_sides():
    """cos exactly at τ_sim stays an edge; cos exactly at τ_diff is no event."""
    a, b = torch.tensor([1.0, 0.0]), torch.tensor([0.8, 0.6])
    x = torch.stack([a, b]).view(2, 1, 1, 2)
    tokens = VideoTokens.from_grid(x)
    ranking = STSimDiff(difference=DIFFERENCES.build({"name": "threshold", "threshold": 0.8})).rank(tokens, Signals())
    assert ranking.community.tolist() == [0, 0]
    assert not bool((ranking.candidate & 2).any())
    lower = STSimDiff(similarity_threshold=0.81, difference=DIFFERENCES.build({"name": "threshold", "threshold": 0.81}))
    ranking = lower.rank(tokens, Signals())
    assert ranking.community.tolist() == [0, 1]
    assert ranking.candidate.tolist() == [1, 3]


def test_identical_tokens_are_one_community_at_threshold_one():
    tokens = VideoTokens.from_grid(torch.randn(1, 1, 1, 61).expand(3, 4, 4, 61) * 0.37)
    selection = STSimDiff(similarity_threshold=1.0, retention=0.25)(tokens)
    assert selection.community.unique().tolist() == [0]
    assert selection.counts["representative"] == 12


@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1e15, 1e30])
def test_extreme_magnitudes_do_not_matter(scale):
    x = features(3, 4, 4, 16, seed=5)
    plain, scaled = STSimDiff()(VideoTokens.from_grid(x)), STSimDiff()(VideoTokens.from_grid(x * scale))
    assert torch.allclose(plain.centrality, scaled.centrality, atol=2e-6)
    assert torch.equal(plain.community, scaled.community)


def test_importance_by_attention_is_used_when_given():
    tokens = VideoTokens.from_grid(torch.randn(4, 5, 5, 64, generator=torch.Generator().manual_seed(0)))
    attention = torch.rand(len(tokens), generator=torch.Generator().manual_seed(1))
    selection = STSimDiff(retention=0.2)(tokens, Signals(llm_attention=attention))
    assert "llm_attention" in selection.notes[0]
    top = attention.topk(20).indices  # unrelated random tokens: each is a community of its own, so all are candidates
    assert set(selection.indices.tolist()) == set(top.tolist())
    encoder = STSimDiff(retention=0.2)(tokens, Signals(encoder_attention=attention))
    assert torch.equal(encoder.indices, selection.indices)
    assert "encoder_attention" in encoder.notes[0]


def test_missing_signal_is_one_sentence():
    tokens = VideoTokens.from_grid(torch.randn(2, 2, 2, 4))
    with pytest.raises(StgraphError, match="needs the signal llm_attention"):
        STSimDiff(importance=IMPORTANCES.build("llm_attention"))(tokens)


@pytest.mark.parametrize("retention", [0, -0.1, 1.1, float("nan"), float("inf"), "0.3", True, None])
def test_bad_retention(retention):
    with pytest.raises(StgraphError, match="retention must be a number > 0 and ≤ 1"):
        STSimDiff(retention=retention)


@pytest.mark.parametrize(
    ("field", "value"), [("similarity_threshold", 1.5), ("similarity_edges", "diagonal"), ("separators", "maybe")]
)
def test_bad_parameters(field, value):
    with pytest.raises(StgraphError, match=field):
        dataclasses.replace(STSimDiff(), **{field: value})


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_non_finite_features_name_video_and_frame(bad):
    x = torch.randn(2, 3, 2, 2, 8)
    x[1, 2, 0, 1, 5] = bad
    with pytest.raises(StgraphError, match="video 1, frame 2 hold NaN or Inf"):
        STSimDiff()(VideoTokens.from_grid(x))


def test_methods_are_taken_by_name_too():
    by_name = STSimDiff(community={"name": "sqrt_split", "detector": "louvain"}, importance="norm")
    assert by_name == SELECTORS.build(SELECTORS.config(by_name))
    assert type(by_name.community.detector) is COMMUNITIES.get("louvain")
    with pytest.raises(StgraphError, match="there is no community called 'liden'; did you mean 'leiden'"):
        STSimDiff(community="liden")
    with pytest.raises(StgraphError, match="difference must be a name, a mapping or a DifferenceDetector"):
        STSimDiff(difference=0.2)
    with pytest.raises(StgraphError, match="there is no importance called 'novlty'"):
        IMPORTANCES.get("auto")(substitute="novlty")
    with pytest.raises(StgraphError, match="there is no community called 'liden'"):
        COMMUNITIES.get("composed")(second="liden")
