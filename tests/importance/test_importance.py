"""Importance against its definitions, and the contract of every registered one."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given

from stgraph import Signals, STSimDiff, VideoTokens
from stgraph.importance import IMPORTANCES, Evidence
from stgraph.kernels import TIE_TOLERANCE

from ..strategies import features, videos


def evidence(tokens: VideoTokens, signals: Signals | None = None) -> Evidence:
    found = STSimDiff().analyse(tokens)
    candidate = found.representative | found.difference.marked
    return Evidence(
        found.graph,
        found.partition,
        found.centrality,
        found.difference,
        candidate,
        found.rank,
        signals or Signals(),
    )


def signals_for(tokens: VideoTokens) -> Signals:
    numbers = torch.rand(len(tokens), generator=torch.Generator().manual_seed(5))
    return Signals(encoder_attention=numbers, llm_attention=1 - numbers)


@pytest.mark.parametrize("name", list(IMPORTANCES))
@given(tokens=videos())
def test_contract(name, tokens):
    known = evidence(tokens, signals_for(tokens))
    importance = IMPORTANCES.build(name)
    score = importance(known)
    assert score.shape == (known.graph.num_nodes,)
    assert bool(score.isfinite().all())
    assert torch.equal(score, importance(known))
    assert IMPORTANCES.build(IMPORTANCES.config(importance)) == importance


@given(videos(dtypes=False))
def test_novelty_is_the_distance_to_the_closest_earlier_candidate(tokens):
    known = evidence(tokens)
    score = IMPORTANCES.build("novelty")(known)
    graph = known.graph
    for v in range(graph.num_nodes):
        before = [
            w
            for a, b, w in zip(*graph.edge_index.tolist(), graph.edge_weight.tolist(), strict=True)
            if b == v and known.is_candidate[a] and known.is_candidate[b]
        ]
        assert float(score[v]) == pytest.approx(1 - max(before, default=-1.0), abs=TIE_TOLERANCE / 2)


@given(videos(dtypes=False))
def test_apportionment_is_seats_by_highest_averages(tokens):
    known = evidence(tokens)
    score = IMPORTANCES.build("apportionment")(known)
    for v in range(known.graph.num_nodes):
        size = int((known.partition.labels == known.partition.labels[v]).sum())
        assert float(score[v]) == pytest.approx(size / (int(known.rank[v]) + 1))


@given(videos(dtypes=False, separators=False, holes=False))
def test_distinctness_is_far_from_the_rest(tokens):
    score = IMPORTANCES.build("distinctness")(evidence(tokens))
    unit = torch.nn.functional.normalize(tokens.features.double(), dim=-1)
    n = len(tokens)
    cosine = unit @ unit.T
    for v in range(n):
        others = (float(cosine[v].sum()) - float(cosine[v, v])) / max(n - 1, 1)
        assert float(score[v]) == pytest.approx(1 - others, abs=3e-5)


def test_auto_takes_the_best_signal_at_hand():
    tokens = VideoTokens.from_grid(features(3, 4, 4, 8, seed=0))
    both = signals_for(tokens)
    auto = IMPORTANCES.build("auto")
    assert torch.equal(auto(evidence(tokens, both)), both.llm_attention)
    encoder = Signals(encoder_attention=both.encoder_attention)
    assert torch.equal(auto(evidence(tokens, encoder)), both.encoder_attention)
    assert torch.equal(auto(evidence(tokens)), IMPORTANCES.build("novelty")(evidence(tokens)))


def test_random_is_the_same_alone_and_in_a_batch():
    parts = [VideoTokens.from_grid(features(2, 3, 3, 8, seed=s)) for s in (0, 1)]
    random = IMPORTANCES.build({"name": "random", "seed": 3})
    alone = [random(evidence(part)) for part in parts]
    assert torch.equal(random(evidence(VideoTokens.cat(parts))), torch.cat(alone))


def test_rounding_does_not_rank_vectors_of_one_length():
    x = torch.nn.functional.normalize(torch.randn(3, 4, 4, 200, generator=torch.Generator().manual_seed(0)), dim=-1)
    x[1, 2, 3] *= 1.001
    score = IMPORTANCES.build("norm")(evidence(VideoTokens.from_grid(x * 37)))
    assert len(score.unique()) == 2
    assert int(score.argmax()) == 16 + 11
