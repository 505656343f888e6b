"""The contract that every registered selector keeps."""

from __future__ import annotations

import dataclasses
import json
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stgraph import Signals, StgraphError, STSimDiff, VideoTokens, kernels
from stgraph.budget import ceil_share, ceil_shares, floor_share, share_of
from stgraph.selectors import SELECTORS, Selection, Verdict
from stgraph.selectors.base import Ranking, Selector
from stgraph.selectors.selection import KEPT

from ..strategies import features, retentions, videos
from .signals import random_signals

names = pytest.mark.parametrize("name", list(SELECTORS))


@names
@given(tokens=videos(), retention=retentions, separators=st.sampled_from(["proportional", "keep", "drop", "vertex"]))
@settings(max_examples=40)
def test_budget_is_exact(name, tokens, retention, separators):
    selection = SELECTORS.build({"name": name, "retention": retention, "separators": separators})
    selection = selection(tokens, random_signals(tokens))
    n, s = len(tokens), tokens.num_separators
    expected = {
        "proportional": ceil_share(retention, n - s) + ceil_share(retention, s),
        "keep": ceil_share(retention, n - s) + s,
        "drop": ceil_share(retention, n - s),
        "vertex": ceil_share(retention, n),
    }[separators]
    assert len(selection) == expected
    kept = torch.zeros(n, dtype=torch.bool)
    for verdict in KEPT:
        kept |= selection.verdict == verdict
    assert torch.equal(kept, selection.mask), "the verdicts agree with the indices"
    assert sum(selection.counts.values()) == n


@names
@given(
    parts=st.lists(videos(dtypes=False), min_size=2, max_size=3),
    retention=retentions,
    dtype=st.sampled_from([torch.float32, torch.float16, torch.bfloat16]),
)
@settings(max_examples=30)
def test_batch_equals_one_by_one(name, parts, retention, dtype):
    parts = [p for p in parts if p.features.shape[1] == parts[0].features.shape[1]]
    parts = [dataclasses.replace(p, features=p.features.to(dtype)) for p in parts]
    selector = SELECTORS.build({"name": name, "retention": retention})
    joined = VideoTokens.cat(parts)
    batch = selector(joined, random_signals(joined))
    for number, part in enumerate(parts):
        alone = selector(part, random_signals(part))
        assert batch.video(number).digest == alone.digest
        assert torch.equal(batch.video(number).apply(part.features), alone.apply(part.features))


@names
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    "grid",
    [
        torch.randn(1, 1, 1, 4),
        torch.ones(3, 3, 3, 4),
        torch.zeros(3, 3, 3, 4),
        torch.eye(27).view(3, 3, 3, 27),
        features(3, 4, 5, 16, seed=9),
    ],
    ids=["one", "equal", "zero", "orthogonal", "mixed"],
)
def test_extremes_are_deterministic_and_leave_the_input_alone(name, grid, dtype):
    tokens = VideoTokens.from_grid(grid.to(dtype))
    before = tokens.features.clone()
    selector = SELECTORS.build({"name": name, "retention": 0.3})
    signals = random_signals(tokens)
    first, second = selector(tokens, signals), selector(tokens, signals)
    assert first.digest == second.digest
    assert len(first) == ceil_share(0.3, len(tokens))
    assert torch.equal(tokens.features, before)
    assert torch.equal(first.apply(tokens.features), second.apply(tokens.features))
    whole = SELECTORS.build({"name": name, "retention": 1.0})(tokens, signals)
    assert whole.indices.tolist() == list(range(len(tokens)))
    assert torch.equal(whole.apply(tokens.features), tokens.features)


@names
@pytest.mark.parametrize("seed", range(3))
def test_all_kernels_keep_the_same(name, seed):
    """Of features that are small whole numbers, dot products are exact whatever the order of their sums."""
    tokens = VideoTokens.from_grid((4 * features(4, 6, 6, 64, seed=seed, noise=0.2)).round(), newline=True)
    selector = SELECTORS.build({"name": name, "retention": 0.3})
    found = {}
    for kind in ("reference", "fused"):
        with kernels.using(kind):
            found[kind] = selector(tokens, random_signals(tokens))
    assert found["fused"].digest == found["reference"].digest
    assert torch.equal(found["fused"].community, found["reference"].community)


@names
def test_saved_and_loaded(name, tmp_path):
    tokens = VideoTokens.from_grid(features(3, 4, 5, 16, seed=4), newline=True)
    selection = SELECTORS.build(name)(tokens, random_signals(tokens))
    selection.save(tmp_path)
    loaded = Selection.load(tmp_path)
    assert loaded.digest == selection.digest
    for field in dataclasses.fields(selection):
        a, b = getattr(selection, field.name), getattr(loaded, field.name)
        assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b, field.name


@names
def test_every_token_can_be_explained(name):
    tokens = VideoTokens.from_grid(features(2, 3, 4, 8, seed=6), newline=True)
    selection = SELECTORS.build(name)(tokens, random_signals(tokens))
    for token in range(len(tokens)):
        sentence = selection.why(token)
        kept = bool(selection.mask[token])
        assert sentence.startswith(f"Token {token} (frame ")
        assert ("was kept" in sentence) == kept
        assert sentence.endswith(".")
        assert "nan" not in sentence


def test_the_reason_names_the_place_in_the_community():
    tokens = VideoTokens.from_grid(features(4, 5, 5, 16, seed=6, noise=0.2))
    selection = SELECTORS.build({"name": "simdiff", "retention": 0.4})(tokens)
    for token in range(len(tokens)):
        found = re.search(r"of which the (\d+) most central represent it, and it is number (\d+)", selection.why(token))
        if found is None:
            assert int((selection.community == selection.community[token]).sum()) == 1
        else:
            stay, place = map(int, found.groups())
            assert (place <= stay) == bool(selection.candidate[token] & 1)


def test_separators_of_the_fullest_rows_stay():
    tokens = VideoTokens.from_grid(torch.randn(1, 4, 6, 3), newline=True)

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Fixed(Selector):
        def rank(self, tokens, signals):
            # rows keep 0, 5, 1 and 4 of the ten tokens of the budget
            wanted = torch.zeros(4, 6)
            for row, count in enumerate((0, 5, 1, 4)):
                wanted[row, :count] = 1
            return Ranking(importance=wanted.flatten())

    selection = Fixed(retention=0.5)(tokens)
    stay = (selection.verdict == Verdict.SEPARATOR).nonzero()[:, 0].tolist()
    assert stay == [11, 23]


def test_a_plug_in_that_ranks_badly_is_named():
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Broken(Selector):
        def rank(self, tokens, signals):
            return Ranking(importance=torch.full((len(tokens),), float("nan")))

    with pytest.raises(StgraphError, match="selector Broken must rank each of 8 tokens"):
        Broken()(VideoTokens.from_grid(torch.randn(2, 2, 2, 3)))


def test_apply_and_invert():
    tokens = VideoTokens.from_grid(features(2, 3, 4, 8, seed=6))
    selection = SELECTORS.build("simdiff")(tokens)
    kept = selection.apply(tokens.features)
    assert torch.equal(kept, tokens.features[selection.indices])
    back = selection.invert(kept, fill=-1)
    assert torch.equal(back[selection.mask], kept)
    assert bool((back[~selection.mask] == -1).all())
    with pytest.raises(StgraphError, match="one row for each of 24 tokens"):
        selection.apply(torch.zeros(3))
    with pytest.raises(StgraphError, match="one row for each of 8 kept tokens"):
        selection.invert(torch.zeros(3))


def test_gradients_flow_through_apply():
    x = features(2, 3, 4, 8, seed=6).requires_grad_()
    tokens = VideoTokens.from_grid(x)
    selection = SELECTORS.build("simdiff")(tokens)
    selection.apply(tokens.features).sum().backward()
    assert int((x.grad.flatten(0, 2).sum(1) > 0).sum()) == len(selection)


@pytest.mark.parametrize("token", [-1, 24, 1.0, True, "3"])
def test_no_such_token(token):
    selection = SELECTORS.build("uniform")(VideoTokens.from_grid(torch.randn(2, 3, 4, 8)))
    with pytest.raises(StgraphError, match="token must be a whole number from 0 to 23"):
        selection.why(token)


def test_damaged_files(tmp_path):
    with pytest.raises(StgraphError, match="holds no selection"):
        Selection.load(tmp_path)
    selection = SELECTORS.build("uniform")(VideoTokens.from_grid(torch.randn(2, 3, 4, 8)))
    selection.save(tmp_path)
    record = (tmp_path / "selection.json").read_text()
    (tmp_path / "selection.json").write_text(record.replace(selection.digest, "0" * 16))
    with pytest.raises(StgraphError, match=r"was changed after it was written|does not match its digest"):
        Selection.load(tmp_path)
    (tmp_path / "selection.json").write_text("{")
    with pytest.raises(StgraphError, match="damaged"):
        Selection.load(tmp_path)


def test_shares_are_exact():
    assert ceil_share(0.1, 30) == 3  # in floats 0.1 * 30 is a little more
    assert ceil_share(0.3, 10) == 3
    assert ceil_share(1e-6, 5) == 1
    assert ceil_share(0.7, 0) == 0
    assert ceil_shares(0.1, torch.tensor([30, 1, 31])).tolist() == [3, 1, 4]


@pytest.mark.parametrize("name", ["encoder_attention", "llm_attention", "encoder_keys"])
def test_signals_must_fit(name):
    tokens = VideoTokens.from_grid(torch.randn(2, 3, 4, 8))
    with pytest.raises(StgraphError, match=f"signal {name} has shape"):
        SELECTORS.build("uniform")(tokens, Signals(**{name: torch.zeros(5)}))
    wrong = torch.full((24, 2) if name == "encoder_keys" else (24,), float("nan"))
    with pytest.raises(StgraphError, match=f"signal {name} holds NaN"):
        SELECTORS.build("uniform")(tokens, Signals(**{name: wrong}))


@dataclasses.dataclass(frozen=True, kw_only=True)
class OwnBudget(Selector):
    """A method that says itself how many it keeps."""

    counts: tuple[int, ...] = ()

    def rank(self, tokens, signals):
        return Ranking(importance=torch.arange(len(tokens)).double(), budget=self.counts)


def test_a_budget_of_its_own_is_checked():
    """More than there are was read from behind the end of memory once."""
    tokens = VideoTokens.from_grid([torch.randn(2, 2, 2, 4), torch.randn(1, 2, 2, 4)])
    assert len(OwnBudget(counts=(8, 0))(tokens)) == 8
    for counts in ((9, 0), (0, 5), (-1, 0), (1,), (1, 1, 1), (1.0, 1), ()):
        with pytest.raises(StgraphError, match="must keep a whole number of tokens of each video"):
            OwnBudget(counts=counts)(tokens)


@pytest.mark.parametrize("name", list(SELECTORS))
def test_no_gradient_reaches_a_selection(name):
    tokens = VideoTokens.from_grid(features(3, 4, 4, 8, seed=1).requires_grad_())
    signals = random_signals(tokens)
    for field in dataclasses.fields(signals):
        value = getattr(signals, field.name)
        if isinstance(value, torch.Tensor):
            object.__setattr__(signals, field.name, value.detach().clone().requires_grad_())
    selection = SELECTORS.build(name)(tokens, dataclasses.replace(signals))
    for field in dataclasses.fields(selection):
        assert not getattr(getattr(selection, field.name), "requires_grad", False), field.name
    assert selection.apply(tokens.features).requires_grad, "features keep theirs"


@pytest.mark.parametrize(
    "retention",
    [0.3, 1 - 0.7, np.float32(0.3), np.float64(0.3), np.float64(1) - 0.7, 0.1 + 0.2, np.float16(0.3), 3 / 10 + 1e-16],
)
def test_retention_is_the_decimal_number_that_is_meant(retention):
    tokens = VideoTokens.from_grid(torch.randn(1, 2, 5, 4))
    selection = SELECTORS.build({"name": "simdiff", "retention": retention})(tokens)
    assert len(selection) == 3
    assert json.dumps(selection.method)
    assert len(STSimDiff(retention=retention)(tokens)) == 3


@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 20))
def test_a_quotient_is_the_share_that_it_is_meant_to_be(numerator, more, times):
    """⌈(2/3) · 60⌉ is 40, however Python rounds 2/3."""
    denominator = numerator + more - 1
    for share in (numerator / denominator, 1 - (denominator - numerator) / denominator):
        assert ceil_share(share, denominator * times) == numerator * times
        assert floor_share(share, denominator * times) == numerator * times
        assert ceil_shares(share, torch.tensor([denominator * times])).tolist() == [numerator * times]


@given(st.integers(1, 400), st.integers(1, 400), st.integers(1, 400))
def test_shares_of_a_count_are_exact(tokens, more, part):
    count = tokens + more - 1
    share = share_of(tokens, count)
    assert ceil_share(share, count) == tokens
    part = min(part, count)
    assert ceil_share(share, part) == -(-tokens * part // count)
