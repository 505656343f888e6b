"""Metrics against their definitions."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from hypothesis import given

from stgraph import StgraphError, STSimDiff, VideoTokens
from stgraph import metrics as module
from stgraph.metrics import evaluate
from stgraph.selectors import SELECTORS

from .strategies import features, retentions, videos


@given(videos(), retentions)
def test_equals_the_definition(tokens, retention):
    selection = STSimDiff(retention=retention)(tokens)
    visual = (~tokens.separator).nonzero()[:, 0]
    kept = [i for i in visual.tolist() if selection.mask[i]]
    x = tokens.features.double()
    unit = torch.nn.functional.normalize(x, dim=-1)
    best = []
    for i in visual.tolist():
        best.append(1.0 if i in kept else max(float(unit[i] @ unit[j]) for j in kept))
    quality = evaluate(tokens, selection)
    assert quality.coverage == pytest.approx(sum(best) / len(best), abs=1e-5)
    counts = torch.bincount(tokens.coords[kept, 0], minlength=tokens.grids[0].frames)
    assert quality.frames_covered == pytest.approx(float((counts > 0).double().mean()))
    share = [c / len(kept) for c in counts.tolist() if c]
    reachable = min(len(counts), len(kept))
    entropy = -sum(p * math.log(p) for p in share) / math.log(reachable) if reachable > 1 else 1.0
    assert quality.frame_spread == pytest.approx(entropy)
    assert quality.event_recall is None


def test_keeping_everything_loses_nothing():
    tokens = VideoTokens.from_grid(features(3, 4, 5, 16, seed=0))
    quality = evaluate(tokens, STSimDiff(retention=1)(tokens), torch.ones(len(tokens), dtype=torch.bool))
    assert quality.coverage == 1
    assert quality.reconstruction_error == 0
    assert quality.event_recall == 1
    assert quality.frame_spread == pytest.approx(1)


def test_reconstruction_by_hand():
    x = torch.tensor([[2.0, 0.0], [1.0, 0.1], [0.0, 3.0]]).view(1, 1, 3, 2)
    tokens = VideoTokens.from_grid(x)
    whole = STSimDiff(retention=1)(tokens)
    selection = dataclasses.replace(whole, indices=torch.tensor([0, 2]))
    error = 0.1**2 / (4 + 1.01 + 9)
    assert evaluate(tokens, selection).reconstruction_error == pytest.approx(error, abs=1e-6)


def test_event_recall():
    tokens = VideoTokens.from_grid(features(4, 4, 4, 8, seed=1))
    selection = SELECTORS.build({"name": "uniform", "retention": 0.5})(tokens)
    events = torch.zeros(len(tokens), dtype=torch.bool)
    assert evaluate(tokens, selection, events).event_recall is None
    events[:10] = True
    assert evaluate(tokens, selection, events).event_recall == pytest.approx(float(selection.mask[:10].double().mean()))


def test_blocks_change_nothing(monkeypatch):
    tokens = VideoTokens.from_grid(features(4, 5, 5, 8, seed=2))
    selection = STSimDiff()(tokens)
    whole = evaluate(tokens, selection)
    monkeypatch.setattr(module, "_BLOCK", 64)
    again = evaluate(tokens, selection)
    assert again.coverage == pytest.approx(whole.coverage)
    assert again.reconstruction_error == pytest.approx(whole.reconstruction_error)


def test_batch_is_the_mean_of_its_videos():
    parts = [VideoTokens.from_grid(features(3, 4, 4, 8, seed=s)) for s in (0, 1)]
    both = VideoTokens.cat(parts)
    selector = STSimDiff()
    alone = [evaluate(p, selector(p)).coverage for p in parts]
    assert evaluate(both, selector(both)).coverage == pytest.approx(sum(alone) / 2)


def test_refusals():
    tokens = VideoTokens.from_grid(features(2, 3, 3, 8, seed=0))
    selection = STSimDiff()(tokens)
    with pytest.raises(StgraphError, match="not of these 9"):
        evaluate(tokens.take(torch.arange(9)), selection)
    with pytest.raises(StgraphError, match="events must be bool"):
        evaluate(tokens, selection, torch.zeros(3, dtype=torch.bool))
    with pytest.raises(StgraphError, match="keeps no token"):
        evaluate(tokens, dataclasses.replace(selection, indices=torch.empty(0, dtype=torch.int64)))
