"""Metrics against their definitions."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from stgraph import Signals, StgraphError, STSimDiff, VideoTokens
from stgraph.selectors import SELECTORS
from stgraph.selectors import metrics as module
from stgraph.selectors.metrics import columns, evaluate
from stgraph.tokens import Grid

from ..selectors.signals import random_signals
from ..strategies import features, retentions, videos

MERGING = ("visionzip", "prumerge", "prumerge_plus", "framefusion", "fastvid", "flashvid", "llava_scissor")


@given(videos(), retentions)
def test_equals_the_definition(tokens, retention):
    selection = STSimDiff(retention=retention)(tokens)
    assume((selection.mask & ~tokens.separator).any())  # else nothing can be measured
    visual = (~tokens.separator).nonzero()[:, 0]
    kept = [i for i in visual.tolist() if selection.mask[i]]
    x = tokens.features.double()
    unit = torch.nn.functional.normalize(x, dim=-1)
    zero = x.norm(dim=1) == 0
    best = []
    for i in visual.tolist():
        same = i in kept or (bool(zero[i]) and bool(zero[kept].any()))
        best.append(1.0 if same else max(float(unit[i] @ unit[j]) for j in kept))
    quality = evaluate(tokens, selection)
    dropped = [b for i, b in zip(visual.tolist(), best, strict=True) if i not in kept]
    if dropped:
        assert quality.coverage_dropped == pytest.approx(sum(dropped) / len(dropped), abs=1e-5)
    else:
        assert quality.coverage_dropped is None
    assert quality.coverage == pytest.approx(sum(best) / len(best), abs=1e-5)
    counts = torch.bincount(tokens.coords[kept, 0], minlength=tokens.grids[0].frames)
    assert quality.frames_covered == pytest.approx(float((counts > 0).double().mean()))
    share = [c / len(kept) for c in counts.tolist() if c]
    reachable = min(len(counts), len(kept))
    entropy = -sum(p * math.log(p) for p in share) / math.log(reachable) if reachable > 1 else 1.0
    assert quality.frame_spread == pytest.approx(entropy)
    assert quality.event_recall is None


@given(videos(), retentions, st.sampled_from(MERGING))
@settings(max_examples=60)
def test_merged_features_are_what_covers(tokens, retention, name):
    selection = SELECTORS.build({"name": name, "retention": retention})(tokens, random_signals(tokens))
    assume((selection.mask & ~tokens.separator).any())  # else nothing can be measured
    quality = evaluate(tokens, selection)
    visual = (~tokens.separator).nonzero()[:, 0].tolist()
    x = tokens.features.double()
    unit = torch.nn.functional.normalize(x, dim=-1)
    given = {}
    for kept, row in zip(selection.indices.tolist(), selection.apply(tokens.features), strict=True):
        if not tokens.separator[kept]:
            same = torch.equal(row, tokens.features[kept])
            given[kept] = (torch.nn.functional.normalize(row.double(), dim=-1), same)
    some_zero = any(not bool(direction.any()) for direction, _ in given.values())
    best = [
        1.0
        if (i in given and given[i][1]) or (some_zero and not bool(x[i].any()))
        else max(float(unit[i] @ direction) for direction, _ in given.values())
        for i in visual
    ]
    assert quality.coverage == pytest.approx(sum(best) / len(best), abs=2e-5)
    lost = sum(float(x[i] @ x[i]) * (1 - max(0.0, b) ** 2) for i, b in zip(visual, best, strict=True))
    total = sum(float(x[i] @ x[i]) for i in visual)
    assert quality.reconstruction_error == pytest.approx(lost / total if total else 0.0, abs=5e-5)
    plain = evaluate(tokens, dataclasses.replace(selection, merge_target=None, merge_weight=None))
    assert (quality.coverage_unmerged, quality.reconstruction_error_unmerged) == (
        plain.coverage,
        plain.reconstruction_error,
    )
    assert plain.coverage_unmerged is None
    assert plain.reconstruction_error_unmerged is None


def test_a_merge_by_hand():
    """Two tokens at right angles, merged: the mean lies at 45° to both, and covers each with cos 45°."""
    tokens = VideoTokens.from_grid(torch.eye(2).view(1, 1, 2, 2))
    whole = STSimDiff(retention=1)(tokens)
    selection = dataclasses.replace(
        whole,
        indices=torch.tensor([0]),
        merge_target=torch.tensor([-1, 0]),
        merge_weight=torch.tensor([0.5, 0.5]),
    )
    quality = evaluate(tokens, selection)
    assert quality.coverage == pytest.approx(0.5**0.5)
    assert quality.reconstruction_error == pytest.approx(0.5)
    assert quality.coverage_unmerged == pytest.approx(0.5)
    assert quality.reconstruction_error_unmerged == pytest.approx(0.5)
    longer = dataclasses.replace(selection, merge_weight=torch.tensor([7.0, 7.0]))
    assert evaluate(tokens, longer).coverage == pytest.approx(quality.coverage), "only directions count"


def test_columns_of_merging_only_where_a_row_merges():
    tokens = VideoTokens.from_grid(features(3, 4, 5, 16, seed=0))
    rows = [evaluate(tokens, SELECTORS.build(name)(tokens)) for name in ("uniform", "flashvid_trees")]
    assert "coverage unmerged" not in [column.title for column in columns(rows[:1])]
    found = {column.title: column.values for column in columns(rows)}
    assert found["coverage unmerged"] == [None, rows[1].coverage_unmerged]
    assert found["error unmerged"] == [None, rows[1].reconstruction_error_unmerged]


def test_keeping_everything_loses_nothing():
    tokens = VideoTokens.from_grid(features(3, 4, 5, 16, seed=0))
    quality = evaluate(tokens, STSimDiff(retention=1)(tokens), torch.ones(len(tokens), dtype=torch.bool))
    assert quality.coverage == 1
    assert quality.reconstruction_error == 0
    assert quality.event_recall == 1
    assert quality.frame_spread == pytest.approx(1)


def test_a_video_of_separators_alone_cannot_be_measured():
    coords, separator = torch.tensor([[0, -1, 0]]), torch.tensor([True])
    tokens = VideoTokens(torch.ones(1, 1), coords, torch.tensor([0]), separator, (Grid(1, 1, 1),))
    with pytest.raises(StgraphError, match="video 0 keeps no token, so nothing can be measured"):
        evaluate(tokens, STSimDiff(retention=0.1)(tokens))


def test_a_clip_of_zeros_is_covered_and_loses_nothing():
    """A zero vector is the same as another one: nothing is divided by its length, and no figure is NaN."""
    tokens = VideoTokens.from_grid(torch.zeros(3, 4, 5, 16))
    quality = evaluate(tokens, STSimDiff(retention=0.2)(tokens))
    assert (quality.coverage, quality.coverage_dropped, quality.reconstruction_error) == (1, 1, 0)
    assert all(math.isfinite(value) for value in quality.as_dict().values() if isinstance(value, float))


def test_coverage_of_dropped_tokens_alone_is_compared_across_retentions():
    """Among tokens of which each is at right angles to all others, no kept one stands for a dropped one.

    Kept tokens count as 1, so coverage is the retention itself; without them it is the same at every retention.
    """
    tokens = VideoTokens.from_grid(torch.eye(60).view(3, 4, 5, 60))
    found = [evaluate(tokens, STSimDiff(retention=share)(tokens)) for share in (0.1, 0.5, 0.9)]
    assert [quality.coverage for quality in found] == pytest.approx([0.1, 0.5, 0.9])
    assert [quality.coverage_dropped for quality in found] == pytest.approx([0, 0, 0])


def test_reconstruction_by_hand():
    x = torch.tensor([[2.0, 0.0], [1.0, 0.1], [0.0, 3.0]]).view(1, 1, 3, 2)
    tokens = VideoTokens.from_grid(x)
    whole = STSimDiff(retention=1)(tokens)
    selection = dataclasses.replace(whole, indices=torch.tensor([0, 2]))
    error = 0.1**2 / (4 + 1.01 + 9)
    assert evaluate(tokens, selection).reconstruction_error == pytest.approx(error, abs=1e-6)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
@pytest.mark.parametrize("name", ["simdiff", "flashvid_trees"])
def test_magnitudes_do_not_matter(name, scale):
    x = features(3, 4, 4, 16, seed=5)
    plain, scaled = VideoTokens.from_grid(x), VideoTokens.from_grid(x * scale)
    expected, found = (evaluate(t, SELECTORS.build(name)(plain)) for t in (plain, scaled))
    assert found.coverage == pytest.approx(expected.coverage, abs=1e-6)
    assert found.reconstruction_error == pytest.approx(expected.reconstruction_error, abs=1e-6)


def test_event_recall():
    tokens = VideoTokens.from_grid(features(4, 4, 4, 8, seed=1))
    selection = SELECTORS.build({"name": "uniform", "retention": 0.5})(tokens)
    events = torch.zeros(len(tokens), dtype=torch.bool)
    assert evaluate(tokens, selection, events).event_recall is None
    events[:10] = True
    assert evaluate(tokens, selection, events).event_recall == pytest.approx(float(selection.mask[:10].double().mean()))


@pytest.mark.parametrize("name", ["simdiff", "flashvid_trees"])
def test_blocks_change_nothing(monkeypatch, name):
    tokens = VideoTokens.from_grid(features(4, 5, 5, 8, seed=2))
    selection = SELECTORS.build(name)(tokens)
    whole = evaluate(tokens, selection)
    monkeypatch.setattr(module, "_BLOCK", 64)
    again = evaluate(tokens, selection)
    assert again.coverage == pytest.approx(whole.coverage)
    assert again.reconstruction_error == pytest.approx(whole.reconstruction_error)
    assert again.coverage_unmerged == (whole.coverage_unmerged and pytest.approx(whole.coverage_unmerged))


@pytest.mark.parametrize("name", ["simdiff", "flashvid_trees"])
def test_batch_is_the_mean_of_its_videos(name):
    parts = [VideoTokens.from_grid(features(3, 4, 4, 8, seed=s)) for s in (0, 1)]
    both = VideoTokens.cat(parts)
    selector = SELECTORS.build(name)
    alone = [evaluate(p, selector(p)) for p in parts]
    together = evaluate(both, selector(both))
    assert together.coverage == pytest.approx(sum(q.coverage for q in alone) / 2)
    if name == "flashvid_trees":
        assert together.coverage_unmerged == pytest.approx(sum(q.coverage_unmerged for q in alone) / 2)


def test_refusals():
    tokens = VideoTokens.from_grid(features(2, 3, 3, 8, seed=0))
    selection = STSimDiff()(tokens)
    with pytest.raises(StgraphError, match="made from 18 tokens, got 9"):
        evaluate(tokens.take(torch.arange(9)), selection)
    with pytest.raises(StgraphError, match="events must be bool"):
        evaluate(tokens, selection, torch.zeros(3, dtype=torch.bool))
    with pytest.raises(StgraphError, match="keeps no token"):
        evaluate(tokens, dataclasses.replace(selection, indices=torch.empty(0, dtype=torch.int64)))


@pytest.mark.parametrize("merging", [False, True])
def test_a_sample_comes_with_its_standard_error(merging):
    """Over many random videos the sampled figures miss the exact ones by their standard error, not more, not less."""
    misses = []
    for seed in range(40):
        g = torch.Generator().manual_seed(seed)
        tokens = VideoTokens.from_grid(torch.randn(6, 8, 8, 12, generator=g, dtype=torch.float32))
        name = "prumerge" if merging else "uniform"
        selection = SELECTORS.build({"name": name, "retention": 0.2})(tokens, random_signals(tokens))
        exact, sampled = evaluate(tokens, selection), evaluate(tokens, selection, sample=60)
        assert exact.coverage_standard_error is None
        misses.append(
            [
                (sampled.coverage - exact.coverage) / sampled.coverage_standard_error,
                (sampled.reconstruction_error - exact.reconstruction_error) / sampled.reconstruction_standard_error,
            ]
        )
        assert (sampled.frame_spread, sampled.frames_covered) == (exact.frame_spread, exact.frames_covered)
        assert sampled == evaluate(tokens, selection, sample=60)
        assert evaluate(tokens, selection, sample=10**6) == exact
    size = torch.tensor(misses, dtype=torch.float64).square().mean(0).sqrt()
    assert bool(((size > 0.6) & (size < 1.5)).all()), size


def test_a_sample_must_be_a_number():
    tokens = VideoTokens.from_grid(torch.randn(2, 3, 3, 4, dtype=torch.float32))
    selection = SELECTORS.build({"name": "uniform", "retention": 0.5})(tokens, Signals())
    for sample in (0, 1, 2.5, True, -3):
        with pytest.raises(StgraphError, match="sample must be"):
            evaluate(tokens, selection, sample=sample)
