"""A server may rely on exact counts by decimal arithmetic, on masks that have them, and on refusals at start."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from fractions import Fraction
from math import ceil

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stgraph import StgraphError, STSimDiff, VideoTokens
from stgraph.integrations.serving.contract import ServingSelector, kept_share
from stgraph.selectors import SELECTORS, Ranking, Selector
from stgraph.signals import Signals

SERVING = ["simdiff", "evs", "vidcom2", "divprune", "uniform", "random", "importance", "sim", "diff"]
GRID = (4, 5, 6)


def video(seed: int = 0, grid: tuple[int, int, int] = GRID) -> torch.Tensor:
    return torch.randn(grid[0] * grid[1] * grid[2], 16, generator=torch.Generator().manual_seed(seed))


def serve(*overrides: str, strict: bool = True) -> ServingSelector:
    return ServingSelector.from_overrides(overrides, strict=strict)


def test_the_share_is_that_of_the_decimal():
    assert kept_share(0.7) == 0.3
    assert serve().count(10, 0.7) == 3, "binary arithmetic gives 4"


@given(st.decimals(0, "0.999", places=3), st.integers(1, 5000))
def test_counts_are_the_ceiling(rate, count):
    assert serve().count(count, float(rate)) == max(1, ceil((1 - Fraction(rate)) * count))


@pytest.mark.parametrize("rate", [-0.1, 1.0, float("nan"), True, "0.5"])
def test_rates_out_of_range(rate):
    with pytest.raises(StgraphError, match="pruning rate must be a number ≥ 0 and < 1"):
        kept_share(rate)


@pytest.mark.parametrize("name", SERVING)
@pytest.mark.parametrize("rate", [0.0, 0.31, 0.7, 0.99])
def test_a_mask_is_the_selection_with_exactly_its_count(name, rate):
    serving = serve(f"selector={name}")
    features = video()
    mask = serving.mask(features, GRID, rate)
    assert mask.dtype == torch.bool
    assert int(mask.sum()) == serving.count(len(features), rate)
    alone = SELECTORS.build({**SELECTORS.config(serving.selector), "retention": kept_share(rate)})
    selection = alone(VideoTokens.from_grid(features.view(*GRID, -1)))
    assert mask.nonzero()[:, 0].tolist() == selection.indices.tolist()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_any_dtype(dtype):
    assert int(serve().mask(video().to(dtype), GRID, 0.7).sum()) == 36


def test_importance_is_pinned():
    """Servers have no attention: what is printed is what serves."""
    assert serve().configuration["importance"]["name"] == "novelty"
    assert serve("importance=change").configuration["importance"]["name"] == "change"


def test_a_video_that_fails_keeps_evenly_spaced_tokens(caplog):
    features = video()
    features[3, 2] = float("nan")
    with caplog.at_level(logging.ERROR, "stgraph.serving"):
        mask = serve(strict=False).mask(features, GRID, 0.7)
    assert int(mask.sum()) == 36
    assert mask.nonzero()[:, 0].tolist() == [(2 * k + 1) * 120 // 72 for k in range(36)]
    assert "NaN" in caplog.text
    assert "120 tokens keeps 36 evenly spaced ones" in caplog.text
    with pytest.raises(StgraphError, match="NaN"):
        serve().mask(features, GRID, 0.7)


@dataclass(frozen=True, kw_only=True)
class Faulty(Selector):
    """Raises on long videos only, so that it passes the trial at start."""

    def rank(self, tokens: VideoTokens, signals: Signals) -> Ranking:
        if len(tokens) > 100:
            raise RuntimeError("out of ideas")
        return Ranking(importance=torch.zeros(len(tokens), dtype=torch.float32))


def test_no_error_reaches_the_server(caplog):
    mask = ServingSelector(Faulty()).mask(video(), GRID, 0.5)
    assert int(mask.sum()) == 60
    assert "out of ideas" in caplog.text


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["selector=fastervlm"], "'fastervlm' cannot serve: .* needs the signal encoder_attention"),
        (["selector=fastv"], "'fastv' cannot serve: .* needs the signal llm_attention"),
        (["selector=llava_scissor"], "'llava_scissor' merges tokens"),
        (["selector=simdif"], "did you mean 'simdiff'"),
        (["community.resolutoin=1", "community=leiden"], "no parameter 'resolutoin'"),
        (["retention=0.3"], "retention=0.3 cannot be set here"),
        (["tokens=100"], "tokens=100 cannot be set here"),
        (["video.fps=1"], "video.fps=1 cannot be set here"),
        (["encoder=hf"], "encoder=hf cannot be set here"),
    ],
)
def test_what_cannot_serve_is_refused_at_start(overrides, sentence):
    with pytest.raises(StgraphError, match=sentence):
        serve(*overrides)


def test_features_that_do_not_fit_the_grid():
    with pytest.raises(StgraphError, match=r"\(t·h·w, d\) for the grid \(4, 5, 7\)"):
        serve().mask(video(), (4, 5, 7), 0.5)


def test_fingerprints_tell_configurations_apart():
    prints = [serve(*words).fingerprint for words in ([], ["community=leiden"], ["selector=evs"], ["difference=drift"])]
    assert len(set(prints)) == 4
    assert prints[0] == serve().fingerprint == ServingSelector(STSimDiff(retention=0.9)).fingerprint
