"""The peers against their literal references, and what merging and signals promise."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from stgraph import Signals, StgraphError, VideoTokens
from stgraph.selectors import SELECTORS, Ranking, Selector
from stgraph.selectors import divprune as divprune_module
from stgraph.selectors import llava_scissor as scissor_module
from stgraph.selectors.divprune import farthest_first
from stgraph.selectors.llava_scissor import similar_components
from stgraph.selectors.parts import first, shares, unit_rows
from stgraph.selectors.similarity import Directions
from stgraph.selectors.vidcom2 import apportion

from ..strategies import features
from .golden import agreement
from .signals import random_signals

OWN = ("simdiff", "importance", "sim_spatial", "sim_temporal", "sim", "diff", "random", "uniform")
PEERS = tuple(name for name in SELECTORS if name not in OWN)
ATTENTION = ("fastv", "fastervlm", "visionzip", "prumerge", "prumerge_plus", "framefusion", "fastvid", "flashvid")
ATTENTION += ("holitom", "pyramiddrop", "sparsevlm")
KEYS = ("visionzip", "prumerge", "prumerge_plus", "dart")
MEANS = ("framefusion", "fastvid", "llava_scissor", "flashvid_trees", "segment_peaks")
MEANS += ("holitom", "prunevid", "pooled_frames", "fewer_pooled_frames")
"""Methods by which kept tokens become weighted means."""
DENSITY = ("fastvid", "flashvid", "holitom", "prunevid", "sparsevlm")
MERGING = (*MEANS, "visionzip", "prumerge", "prumerge_plus")


# -- merging ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MERGING)
def test_merging_touches_floating_point_features_only(name):
    tokens = VideoTokens.from_grid(features(4, 4, 4, 16, seed=3), newline=True)
    selection = SELECTORS.build({"name": name, "retention": 0.4})(tokens, random_signals(tokens))
    merged = selection.merge_target >= 0
    assert bool(merged.any())
    assert not bool(selection.mask[merged].any())
    assert bool(selection.mask[selection.merge_target[merged]].all())
    assert torch.equal(selection.apply(tokens.coords), tokens.coords[selection.indices])
    assert torch.equal(selection.apply(tokens.features, merge=False), tokens.features[selection.indices])
    assert not torch.equal(selection.apply(tokens.features), tokens.features[selection.indices])
    alone = ~torch.isin(selection.indices, selection.sums().into)
    assert torch.equal(selection.apply(tokens.features)[alone], tokens.features[selection.indices[alone]])
    if name != "framefusion":  # to which a newline token is a token like any other
        assert bool(alone[tokens.separator[selection.indices]].all())
    half = tokens.features.half()
    assert selection.apply(half).dtype == torch.float16
    assert torch.allclose(selection.apply(half).float(), selection.apply(half.float()), rtol=2e-3, atol=1e-3)


@pytest.mark.parametrize("name", MEANS)
def test_means_keep_what_is_constant(name):
    tokens = VideoTokens.from_grid(features(4, 4, 4, 16, seed=3))
    selection = SELECTORS.build({"name": name, "retention": 0.4})(tokens, random_signals(tokens))
    assert torch.allclose(selection.apply(torch.full((len(tokens), 2, 3), 7.0)), torch.tensor(7.0))


def test_why_names_where_a_token_went():
    x = torch.zeros(2, 1, 2, 2)
    x[:, 0, 0, 0], x[:, 0, 1, 1] = 1, 1
    tokens = VideoTokens.from_grid(x)
    selection = SELECTORS.build({"name": "flashvid_trees", "retention": 0.5})(tokens)
    assert selection.merge_target.tolist() == [-1, -1, 0, 1]
    assert "it was merged into token 0 with weight 0.5" in selection.why(2)
    assert "it takes in 1 other token," in selection.why(1)


def test_gradients_flow_through_a_merge():
    x = features(2, 3, 4, 8, seed=6).requires_grad_()
    tokens = VideoTokens.from_grid(x)
    selection = SELECTORS.build({"name": "flashvid_trees", "retention": 0.3})(tokens)
    selection.apply(tokens.features).sum().backward()
    flow = x.grad.flatten(0, 2)[:, 0]
    assert torch.allclose(flow, selection.merge_weight)


def test_the_digest_tells_merges_apart():
    tokens = VideoTokens.from_grid(features(3, 4, 4, 16, seed=3))
    selection = SELECTORS.build({"name": "flashvid_trees", "retention": 0.3})(tokens)
    other = dataclasses.replace(selection, merge_weight=selection.merge_weight * 2)
    plain = dataclasses.replace(selection, merge_target=None, merge_weight=None)
    assert len({selection.digest, other.digest, plain.digest}) == 3


def test_a_plug_in_that_merges_into_nothing_is_named():
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Broken(Selector):
        def rank(self, tokens, signals):
            n = len(tokens)
            return Ranking(torch.arange(n).double(), merge_target=torch.zeros(n).long(), merge_weight=torch.ones(n))

    with pytest.raises(StgraphError, match="selector Broken must merge dropped tokens into kept ones only"):
        Broken()(VideoTokens.from_grid(torch.randn(2, 2, 2, 3)))


# -- signals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted({*ATTENTION, *KEYS}))
def test_a_method_without_its_signal_says_so(name):
    tokens = VideoTokens.from_grid(torch.randn(2, 3, 4, 8))
    with pytest.raises(StgraphError, match=f"selector '{name}' needs the signal (encoder|llm)_.*=features asks"):
        SELECTORS.build(name)(tokens)


@pytest.mark.parametrize("name", sorted({*ATTENTION, *KEYS}))
def test_features_stand_in_when_asked_for_by_name(name):
    tokens = VideoTokens.from_grid(features(3, 4, 4, 16, seed=1))
    asked = {"signal": "features"} if name in ATTENTION else {}
    asked |= {"keys": "features"} if name in KEYS else {}
    selector = SELECTORS.build({"name": name, **asked})
    assert len(selector(tokens)) == 15
    # ... and then the signals that are there play no part.
    assert selector(tokens, random_signals(tokens)).digest == selector(tokens).digest


@pytest.mark.parametrize("name", sorted({*ATTENTION} & {*KEYS}))
def test_keys_follow_the_attention_unless_named(name):
    tokens = VideoTokens.from_grid(features(3, 7, 7, 16, seed=1))
    signals = random_signals(tokens)

    def digest(**asked: str) -> str:
        return SELECTORS.build({"name": name, **asked})(tokens, signals).digest

    assert digest(signal="features") == digest(signal="features", keys="features")
    assert digest() == digest(keys="encoder_keys") != digest(keys="features")
    assert digest(signal="features", keys="encoder_keys") != digest(signal="features")


@pytest.mark.parametrize("name", ATTENTION)
def test_the_named_attention_is_used(name):
    tokens = VideoTokens.from_grid(features(3, 4, 4, 16, seed=1))
    signals = random_signals(tokens)
    swapped = Signals(signals.llm_attention, signals.encoder_keys, signals.encoder_attention)
    for source, other in (("encoder_attention", "llm_attention"), ("llm_attention", "encoder_attention")):
        a = SELECTORS.build({"name": name, "signal": source})(tokens, signals)
        b = SELECTORS.build({"name": name, "signal": other})(tokens, swapped)
        assert a.digest == b.digest


@pytest.mark.parametrize(
    "spec",
    [
        {"name": "fastv", "signal": "loudness"},
        {"name": "visionzip", "contextual": 1.5},
        {"name": "visionzip", "keys": "llm_attention"},
        {"name": "prumerge", "neighbours": 0},
        {"name": "framefusion", "similarity_threshold": 2.0},
        {"name": "dart", "image_pivots": 0},
        {"name": "fastvid", "segment_threshold": -2.0},
        {"name": "fastvid", "least_segments": 0},
        {"name": "segment_peaks", "longest_segment": 0},
        {"name": "segment_peaks", "nearest": 0},
        {"name": "evs", "count": "all"},
        {"name": "flashvid", "similarity_threshold": 1.1},
        {"name": "forestprune", "nearness": -1.0},
        {"name": "llava_scissor", "similarity_threshold": float("nan")},
    ],
    ids=lambda spec: "-".join(map(str, spec.values())),
)
def test_bad_parameters_are_named(spec):
    with pytest.raises(StgraphError, match=f"{list(spec)[1]} must be"):
        SELECTORS.build(spec)


@pytest.mark.parametrize("name", PEERS)
def test_non_finite_features_name_video_and_frame(name):
    x = torch.randn(2, 3, 2, 2, 8)
    x[1, 2, 0, 1, 5] = float("inf")
    tokens = VideoTokens.from_grid(x)
    with pytest.raises(StgraphError, match="video 1, frame 2 hold NaN or Inf"):
        SELECTORS.build(name)(tokens, random_signals(tokens))


# -- what is special to a method --------------------------------------------------------------------------------------


def test_prumerge_says_what_its_adaptive_share_would_keep():
    tokens = VideoTokens.from_grid(features(1, 5, 5, 8, seed=0))
    attention = torch.linspace(0, 1, 25)
    attention[[3, 20]] = 9
    keys = torch.randn(25, 4, generator=torch.Generator().manual_seed(0))
    selection = SELECTORS.build("prumerge")(tokens, Signals(attention, keys))
    assert selection.notes[0].startswith("the budget keeps 8 of 25 tokens; by attention outliers alone")
    assert selection.notes[0].endswith("2 would have been kept (retention=0.08)")
    as_published = SELECTORS.build({"name": "prumerge", "retention": 0.08})(tokens, Signals(attention, keys))
    assert as_published.indices.tolist() == [3, 20]


def test_ablation_rows_are_simdiff_without_a_part():
    tokens = VideoTokens.from_grid(features(5, 5, 5, 16, seed=2))
    signals = random_signals(tokens)
    for name, changed in {
        "sim": {"difference": "none"},
        "sim_spatial": {"difference": "none", "similarity_edges": "spatial"},
        "sim_temporal": {"difference": "none", "similarity_edges": "temporal"},
    }.items():
        parts = {k: {"name": v} if k == "difference" else v for k, v in changed.items()}
        spelled = SELECTORS.build({"name": "simdiff", **parts})
        assert SELECTORS.build(name)(tokens, signals).digest == spelled(tokens, signals).digest
    top = set(first(signals.llm_attention, 38).nonzero()[:, 0].tolist())
    assert set(SELECTORS.build("importance")(tokens, signals).indices.tolist()) == top
    whole = SELECTORS.build("simdiff")(tokens, signals)
    event = SELECTORS.build("diff")(tokens)
    assert torch.equal(event.candidate & 2, whole.candidate & 2)
    assert float(event.difference[event.mask].min()) >= float(event.difference[~event.mask].max())


def test_shares_add_up():
    counts = [3, 1, 10, 7]
    for retention in (0.01, 0.1, 1 / 3, 0.5, 0.99, 1.0):
        parts = shares(retention, counts)
        assert sum(parts) == -(-round(retention * 21 * 10**9) // 10**9)
        assert all(int(retention * n) <= part <= int(retention * n) + 1 for part, n in zip(parts, counts, strict=True))


def test_apportion_respects_capacity_and_total():
    assert apportion([5.5, 0.2, 0.3], [3, 2, 2], 6) == [3, 1, 2]
    assert apportion([1.0, 2.0, 3.0], [9, 9, 9], 3) == [0, 1, 2]
    assert apportion([0.0, 0.0], [4, 4], 8) == [4, 4]


@pytest.mark.parametrize("block", [1, 2, 7, 256])
def test_farthest_first_does_not_depend_on_its_blocks(block, monkeypatch):
    monkeypatch.setattr(divprune_module, "BLOCK", block)
    vectors = Directions(features(4, 5, 5, 16, seed=8).flatten(0, 2))
    order = farthest_first(vectors, 60).tolist()
    monkeypatch.setattr(divprune_module, "BLOCK", 10_000)
    assert order == farthest_first(vectors, 60).tolist()
    assert len(set(order)) == 60


@pytest.mark.parametrize("block", [1, 500, 1 << 22])
def test_similar_components_do_not_depend_on_blocks(block, monkeypatch):
    monkeypatch.setattr(scissor_module, "BLOCK", block)
    unit = unit_rows(features(3, 6, 6, 8, seed=5, noise=0.4).flatten(0, 2))
    import scipy.sparse.csgraph

    _, label = scipy.sparse.csgraph.connected_components((unit @ unit.T > 0.85).numpy(), directed=False)
    smallest = {int(k): int((torch.from_numpy(label) == k).nonzero()[0]) for k in set(label.tolist())}
    found, degree = similar_components(unit, 0.85)
    assert found.tolist() == [smallest[int(k)] for k in label]
    alike = unit.double() @ unit.double().T > 0.85
    assert degree.tolist() == (alike | torch.eye(len(unit), dtype=torch.bool)).sum(1).tolist()


@pytest.mark.parametrize("scale", [2.0**-100, 2.0**100])
@pytest.mark.parametrize("name", PEERS)
def test_magnitudes_do_not_matter(name, scale):
    x = features(3, 4, 4, 16, seed=5)
    plain, scaled = VideoTokens.from_grid(x), VideoTokens.from_grid(x * scale)
    selector = SELECTORS.build(name)
    a, b = (selector(tokens, random_signals(plain)) for tokens in (plain, scaled))
    if name in DENSITY:  # is an exponential of raw distances in theirs
        assert len(a) == len(b)
        assert bool(b.apply(scaled.features).isfinite().all())
    else:
        assert torch.equal(a.indices, b.indices)


# -- as published -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", agreement.METHODS)
def test_agrees_with_the_authors_code(method):
    for case in agreement.cases(method):
        assert agreement.difference(case) == "", f"{method} {case.name}"


@pytest.mark.parametrize("retention", [0.1, 0.3, 0.5])
@pytest.mark.parametrize("name", ["divprune", "evs", "forestprune", "framefusion", "fastv"])
def test_an_exact_count_changes_no_more_than_it_must(name, retention):
    tokens, signals = agreement.video("a0").tokens()
    exact, published = (
        SELECTORS.build({"name": name, "retention": retention, "count": count})(tokens, signals)
        for count in ("exact", "published")
    )
    different = int((exact.mask ^ published.mask).sum())
    if name == "framefusion" and abs(len(exact) - len(published)) > 1:
        return  # the published mean over the layers is another budget
    assert different == abs(len(exact) - len(published))


def test_attention_decides_where_nothing_else_does():
    tokens, signals = agreement.video("a0").tokens()
    llm, encoder = signals.llm_attention.tolist(), signals.encoder_attention.tolist()
    top = sorted(range(288), key=lambda i: -llm[i])[:87]
    assert SELECTORS.build("fastv")(tokens, signals).indices.tolist() == sorted(top)
    frames = [sorted(range(36 * t, 36 * t + 36), key=lambda i: -encoder[i])[:9] for t in range(8)]
    found = SELECTORS.build({"name": "fastervlm", "retention": 0.25})(tokens, signals)
    assert found.indices.tolist() == sorted(i for frame in frames for i in frame)


# -- plain downsampling, and methods one after the other --------------------------------------------------------------


def test_fewer_frames_are_whole_and_evenly_spaced():
    tokens = VideoTokens.from_grid(features(8, 3, 4, 16, seed=1))
    found = SELECTORS.build({"name": "fewer_frames", "retention": 0.25})(tokens)
    assert torch.bincount(found.indices // 12, minlength=8).tolist() == [0, 0, 12, 0, 0, 0, 12, 0]
    more = SELECTORS.build({"name": "fewer_frames", "retention": 0.3})(tokens)
    assert torch.bincount(more.indices // 12, minlength=8).sort(descending=True).values.tolist()[:4] == [12, 12, 5, 0]


def test_pooled_frames_are_averages_of_a_smaller_grid():
    x = features(3, 4, 6, 16, seed=2)
    selection = SELECTORS.build({"name": "pooled_frames", "retention": 0.25})(VideoTokens.from_grid(x))
    pooled = torch.nn.functional.adaptive_avg_pool2d(x.permute(0, 3, 1, 2), (2, 3)).permute(0, 2, 3, 1)
    rows = selection.apply(x.flatten(0, 2))
    torch.testing.assert_close(rows.sort(0).values, pooled.flatten(0, 2).sort(0).values)


def test_both_pools_some_frames():
    tokens = VideoTokens.from_grid(features(16, 4, 4, 16, seed=2))
    selection = SELECTORS.build({"name": "fewer_pooled_frames", "retention": 0.25})(tokens)
    counts = torch.bincount(selection.indices // 16, minlength=16)
    assert counts[counts > 0].tolist() == [8] * 8
    taken = torch.bincount(selection.merge_target[selection.merge_target >= 0] // 16, minlength=16)
    assert taken[counts > 0].tolist() == [8] * 8


@pytest.mark.parametrize("first_name", ["flashvid_trees", "fastvid", "evs", "pooled_frames"])
@pytest.mark.parametrize("second_name", ["divprune", "visionzip", "segment_peaks", "llava_scissor"])
def test_a_sequence_is_one_method_after_the_other(first_name, second_name):
    tokens, signals = agreement.video("a0").tokens()
    spec = {"name": "sequence", "first": first_name, "second": second_name, "first_retention": 0.5, "retention": 0.2}
    both = SELECTORS.build(spec)(tokens, signals)
    assert len(both) == 58
    one = SELECTORS.build({"name": first_name, "retention": 0.5})(tokens, signals)
    left = dataclasses.replace(tokens.take(one.indices), features=one.apply(tokens.features))
    two = SELECTORS.build({"name": second_name, "retention": 57.5 / len(one)})(left, signals.take(one.indices))
    assert both.indices.tolist() == one.indices[two.indices].tolist()
    torch.testing.assert_close(both.apply(tokens.features), two.apply(left.features), atol=1e-5, rtol=1e-5)


def test_a_question_changes_what_is_kept():
    tokens, signals = agreement.video("b0").tokens()
    text = signals.question[0]
    other = text._replace(states=-text.states.flip(0))
    for name in ("cdpruner", "dart"):
        selector = SELECTORS.build({"name": name, "retention": 0.2})
        assert selector.reads_question
        a, b = selector(tokens, signals), selector(tokens, dataclasses.replace(signals, question=(other,)))
        assert a.digest != b.digest


def test_the_differential_drop_follows_its_threshold():
    tokens, _ = agreement.video("b0").tokens()
    x = torch.nn.functional.normalize(tokens.features.double().view(16, 49, -1), dim=-1)
    expected = torch.cat([torch.ones(1, 49, dtype=torch.bool), (x[1:] * x[:-1]).sum(-1) <= 0.5]).flatten()
    assert torch.equal(SELECTORS.build({"name": "dtd", "count": "published"})(tokens).mask, expected)


@pytest.mark.parametrize("name", ["llava_scissor", "sttm", "prunevid", "holitom", "dycoke", "prumerge_plus"])
@pytest.mark.parametrize("retention", [0.05, 0.35, 0.8])
def test_thresholds_are_found_that_fit_the_budget(name, retention):
    tokens, signals = agreement.video("c0").tokens()
    assert len(SELECTORS.build({"name": name, "retention": retention})(tokens, signals)) == round(960 * retention)
