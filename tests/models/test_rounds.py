"""Methods that prune in rounds inside tiny video LLMs, against literal loops over full-length runs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from stgraph import Selection, StgraphError, STSimDiff
from stgraph.budget import ceil_share
from stgraph.models.adapter import adapter_of
from stgraph.selectors import direct
from stgraph.selectors.base import Ranking, Selector
from stgraph.selectors.fastv import FastV
from stgraph.selectors.framefusion import FrameFusion
from stgraph.selectors.rounds import Step

from ..covering import parametrized
from .literal import FrameFusionVideo, LiteralRun, ReleaseVideo, StaircaseVideo
from .test_attachment import TRIM_LAYER, greedy, hidden_columns, state, two_turns
from .zoo import FAMILIES, LAYERS, VIDEO, cache_of, masked_run

RETENTION = 0.4
ROWS = ([4], [4, 4], [])

families = pytest.mark.parametrize("family", list(FAMILIES))


@cache
def model_of(family: str, attention: str = "sdpa") -> Any:
    return FAMILIES[family].build(attention)


def literal(family: str, inputs: dict[str, Tensor], selector: Selector) -> LiteralRun:
    options: dict[str, Any] = {"retention": selector.retention}
    if isinstance(selector, FrameFusion):
        options |= {"threshold": selector.similarity_threshold, "budget": selector.budget}
        kind, wanted = FrameFusionVideo, [0, 1, 2, 3]
    else:
        options |= {"budget": selector.budget or "mean_over_layers"}
        kind, wanted = ReleaseVideo, [0, 2]
    return LiteralRun(model_of(family, "eager"), inputs, kind, wanted, **options)


def dropped_separators(inputs: dict[str, Tensor], selection: Selection, run: LiteralRun) -> Tensor:
    places = inputs["input_ids"] == VIDEO
    separator = torch.tensor([s for video in run.videos for s in video.separator])
    gone = torch.zeros_like(places)
    gone[places] = separator & ~selection.mask
    return gone


def check(run: LiteralRun, attached: Any) -> None:
    """What the method says it did is what the literal run did."""
    selection, start = attached.selection, 0
    visual_layers = []
    for number, video in enumerate(run.videos):
        stay = set(video.alive) | {i for i, s in enumerate(video.separator) if s}
        kept = [i for i in range(len(video.columns)) if selection.mask[start + i]]
        assert [i for i in kept if not video.separator[i]] == video.alive
        assert set(kept) <= stay
        assert len(video.alive) == selection.budget[number]
        if selection.merges:
            one = torch.ones(len(selection.verdict), 1)
            torch.testing.assert_close(selection.apply(one), torch.ones(len(selection), 1))  # a mean of means
            for i in range(len(video.columns)):
                target, there = int(selection.merge_target[start + i]), video.separator[i] or i in video.alive
                assert target == (-1 if there or video.head(i) < 0 else start + video.head(i))
        start += len(video.columns)
        visual_layers.append(tuple(layer[number] for layer in run.per_layer))
    assert attached.tokens_per_layer == tuple(visual_layers)


ALL_WAYS = {
    "framefusion": FrameFusion(retention=RETENTION, similarity_threshold=0.9),
    "framefusion, mean": FrameFusion(retention=RETENTION, similarity_threshold=0.93, budget="mean_over_layers"),
    "release": STSimDiff(retention=RETENTION, preset="release"),
}
ONE_WAY = {
    "merged at once": FrameFusion(retention=RETENTION),
    "hardly merged": FrameFusion(retention=0.2, similarity_threshold=0.99),
    "release, tokens": STSimDiff(retention=0.3, preset="release", budget="tokens"),
}
CASES = [
    *((name, attention, "batch") for name in ALL_WAYS for attention in ("sdpa", "eager")),
    *((name, "sdpa", way) for name in ALL_WAYS for way in ("no cache", "one")),
    *((name, "sdpa", "batch") for name in ONE_WAY),
    ("framefusion", "eager", "no cache"),
    ("release", "eager", "no cache"),
]
some = parametrized("family, name", list(FAMILIES), list(ALL_WAYS), strength=1)


def reference(family: str, selector: Selector, inputs: dict[str, Tensor], attached: Any, sequences: Tensor, **options):
    """Logits of the literal run, which did what the attachment says."""
    run = literal(family, inputs, selector)
    found = run(sequences, dropped_separators(inputs, attached.selection, run), **options)
    check(run, attached)
    return found.logits


@parametrized("family, name, attention, way", list(FAMILIES), CASES, strength=1, times=3)
def test_every_step_equals_the_literal_run(family, name, attention, way):
    inputs = FAMILIES[family].inputs(ROWS[:1] if way == "one" else ROWS)
    selector, model = (ALL_WAYS | ONE_WAY)[name], model_of(family, attention)
    with selector.attach(model) as attached:
        out = greedy(model, inputs, 3, use_cache=way != "no cache")
    expected = reference(family, selector, inputs, attached, out.sequences)
    torch.testing.assert_close(torch.stack(out.logits, 1), expected, atol=1e-4, rtol=0)
    if way == "one":
        separators = len(attached.selection) - attached.selection.budget[0]
        text = int((inputs["input_ids"] != VIDEO).sum())
        lengths = [layer.keys.shape[2] for layer in cache_of(out).layers]
        counts = attached.tokens_per_layer[0]
        assert lengths[-1] == counts[-1] + separators + text + 2
        assert [a - b for a, b in pairwise(lengths)] >= [a - b for a, b in pairwise(counts)]


@some
def test_beams(family, name):
    model, inputs, selector = model_of(family), FAMILIES[family].inputs(ROWS), ALL_WAYS[name]
    with selector.attach(model) as attached:
        out = greedy(model, inputs, 3, num_beams=3, output_scores=True)
    expected = reference(family, selector, inputs, attached, out.sequences)
    chosen = out.sequences[:, inputs["input_ids"].shape[1] :, None]
    score = expected.log_softmax(-1).gather(2, chosen)[..., 0].sum(1) / chosen.shape[1]
    torch.testing.assert_close(out.sequences_scores, score, atol=1e-4, rtol=0)


@some
def test_a_second_turn_goes_on_from_the_pruned_cache(family, name):
    model, inputs, selector = model_of(family), FAMILIES[family].inputs(ROWS), ALL_WAYS[name]
    with selector.attach(model) as attached:
        second, positions = two_turns(model, inputs)
    expected = reference(family, selector, inputs, attached, second.sequences, positions=positions)
    torch.testing.assert_close(torch.stack(second.logits, 1), expected[:, -3:], atol=1e-4, rtol=0)


@parametrized("family, attention", list(FAMILIES), ("sdpa", "eager"), strength=1)
def test_at_full_retention_nothing_changes(family, attention):
    model, inputs = model_of(family, attention), FAMILIES[family].inputs(ROWS)
    plain = greedy(model, inputs, 2)
    for selector in (FrameFusion(retention=1.0), STSimDiff(retention=1.0, preset="release"), FastV(retention=1.0)):
        with selector.attach(model) as attached:
            wrapped = greedy(model, inputs, 2)
        assert torch.equal(torch.stack(plain.logits), torch.stack(wrapped.logits))
        assert bool(attached.selection.mask.all())
        assert all(len(set(counts)) == 1 for counts in attached.tokens_per_layer)


def test_rounds_of_every_kind_are_seen_above():
    kinds = set()
    for family in ("llava_onevision", "qwen2_5_vl"):
        inputs = FAMILIES[family].inputs(ROWS)
        for selector in (ALL_WAYS | ONE_WAY).values():
            if isinstance(selector, FrameFusion):
                run = literal(family, inputs, selector)
                run(torch.nn.functional.pad(inputs["input_ids"], (0, 1)), torch.zeros_like(run.gone))
                kinds |= {tuple(kind for kind, _ in video.rounds) for video in run.videos}
    assert {("merge",), ("merge", "prune"), ("merge", "merge")} <= kinds | {k[:2] for k in kinds}, kinds


@parametrized("family, trim", list(FAMILIES), (None, "inside"), strength=1)
def test_fastv_is_what_its_paper_says(family, trim):
    """All tokens in layers 0 and 1, then those that the last prompt token attends to most in layer 1."""
    model, inputs = model_of(family), FAMILIES[family].inputs(ROWS)
    with FastV(retention=RETENTION).attach(model, trim=trim) as attached:
        out = greedy(model, inputs, 2)
    layer, selection = TRIM_LAYER, attached.selection
    hidden = hidden_columns(inputs, selection, "inside", layer)
    hidden[:layer] = [torch.zeros_like(hidden[0])] * layer
    run = masked_run(model_of(family, "eager"), inputs, out.sequences, hidden)
    torch.testing.assert_close(torch.stack(out.logits, 1), run.logits, atol=1e-4, rtol=0)
    prompt = inputs["input_ids"].shape[1]
    received = run.attention[layer - 1][:, :, prompt - 1, :prompt].mean(1)[inputs["input_ids"] == VIDEO]
    layouts = adapter_of(model).layouts(model, inputs)
    separator = torch.cat([layout.tokens(torch.zeros(layout.size, 1)).separator for layout in layouts])
    for video, budget in enumerate(selection.budget):
        own = ((selection.batch == video) & ~separator).nonzero()[:, 0]
        top = own[received[own].topk(budget).indices].sort().values
        assert own[selection.mask[own]].tolist() == top.tolist()
        assert budget == ceil_share(RETENTION, len(own))
        assert attached.tokens_per_layer[video] == (len(own),) * layer + (budget,) * (LAYERS - layer)


@parametrized("family, name", list(FAMILIES), ("framefusion, mean", "release"), strength=1)
def test_the_mean_over_layers_is_met(family, name):
    model, inputs, retention = model_of(family), FAMILIES[family].inputs(ROWS), 0.5
    with replace(ALL_WAYS[name], retention=retention).attach(model) as attached:
        greedy(model, inputs, 1)
    videos = literal(family, inputs, attached.selector).videos
    notes = [note for note in attached.selection.notes if "on the mean" in note]
    for number, (counts, video) in enumerate(zip(attached.tokens_per_layer, videos, strict=True)):
        behind = [*counts[1:], counts[-1]]  # a layer counts with what is left behind its attention
        mean, last = sum(behind) / LAYERS / video.count, counts[-1] / video.count
        assert notes[number] == (
            f"video {number}: {mean:.1%} of the visual tokens on the mean over {LAYERS} layers, "
            f"{last:.1%} behind the last round"
        )
        excess = (mean - retention) * video.count
        assert abs(excess) <= 0.5 or (excess > 0 and counts[-1] == 1)


@pytest.mark.parametrize("accident", [False, True])
def test_no_trace_is_left(accident, monkeypatch):
    family = "qwen2_5_vl"
    model, inputs = FAMILIES[family].build("sdpa"), FAMILIES[family].inputs(ROWS)
    plain, before = greedy(model, inputs), state(model)
    with FrameFusion(retention=RETENTION, similarity_threshold=0.9).attach(model) as attached:
        greedy(model, inputs)
        if accident:
            with monkeypatch.context() as patch:
                patch.setattr(model.model.language_model.layers[2].mlp, "forward", lambda x: 1 / 0)
                with pytest.raises(ZeroDivisionError):
                    greedy(model, inputs)
            again = attached.selection
            greedy(model, inputs)
            assert attached.selection.digest == again.digest
    assert state(model) == before
    assert torch.equal(torch.stack(greedy(model, inputs).logits), torch.stack(plain.logits))


def test_a_video_without_budget_left_keeps_a_token():
    """At so small a share, what the first layers see is more than all layers may cost."""
    family = "qwen2_5_vl"
    model, inputs = model_of(family), FAMILIES[family].inputs(ROWS)
    with STSimDiff(retention=0.01, preset="release").attach(model) as attached:
        out = greedy(model, inputs, 2)
    assert attached.selection.budget == (1, 1, 1)
    expected = reference(family, attached.selector, inputs, attached, out.sequences)
    torch.testing.assert_close(torch.stack(out.logits, 1), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["simdiff", "release"])
def test_the_graph_is_built_once(name, monkeypatch):
    family, calls = "qwen2_5_vl", []
    model, inputs = model_of(family), FAMILIES[family].inputs(ROWS)
    for owner, stage in ((STSimDiff, "analyse"), (direct, "find")):
        work = getattr(owner, stage)
        monkeypatch.setattr(owner, stage, lambda *given, work=work: calls.append(given) or work(*given))
    selector = ALL_WAYS["release"] if name == "release" else STSimDiff(retention=RETENTION)
    with selector.attach(model, trim="inside"):
        greedy(model, inputs)
    assert len(calls) == (1 if name == "release" else len(ROWS)), "for all videos, or for each"


@dataclass(frozen=True, kw_only=True)
class Halving(Selector):
    """Keeps the first tokens of every video, adds the last one, halved, to the first, and doubles the second."""

    def rank(self, tokens, signals):
        target = torch.full((len(tokens),), -1)
        weight = torch.ones(len(tokens))
        for video in range(tokens.num_videos):
            first, second, *_, last = (tokens.batch == video).nonzero()[:, 0].tolist()
            target[last], weight[last], weight[second] = first, 0.5, 2
        return Ranking(-torch.arange(len(tokens)).float(), merge_target=target, merge_weight=weight)


@pytest.mark.parametrize("use_cache", [True, False])
def test_any_merge_can_be_made_inside(use_cache):
    family, layer = "qwen2_5_vl", 2
    model, inputs = model_of(family), FAMILIES[family].inputs(ROWS)
    with Halving(retention=RETENTION).attach(model, trim="inside") as attached:
        out = greedy(model, inputs, 3, use_cache=use_cache)
    rows, columns = (inputs["input_ids"] == VIDEO).nonzero(as_tuple=True)
    target, weight = attached.selection.merge_target, attached.selection.merge_weight

    def merge(module: Any, args: tuple[Tensor]) -> None:
        for token in (target >= 0).nonzero()[:, 0].tolist():
            args[0][rows[token], columns[target[token]]] += args[0][rows[token], columns[token]] / 2
        for token in (weight == 2).nonzero()[:, 0].tolist():
            args[0][rows[token], columns[token]] *= 2

    gone = torch.zeros_like(inputs["input_ids"], dtype=torch.bool)
    gone[rows, columns] = ~attached.selection.mask
    hidden = [torch.zeros_like(gone)] * layer + [gone] * (LAYERS - layer)
    norm = model.model.language_model.layers[layer - 1].post_attention_layernorm
    handle = norm.register_forward_pre_hook(merge)
    expected = masked_run(model, inputs, out.sequences, hidden)
    handle.remove()
    torch.testing.assert_close(torch.stack(out.logits, 1), expected.logits, atol=1e-4, rtol=0)


@dataclass(frozen=True, kw_only=True)
class Endless(FastV):
    """Never comes to its selection, or asks for attention where there is none."""

    early: bool = False

    def rounds(self, entry, layer):
        view = entry
        while True:
            if self.early:
                view.attention()
            view = yield Step(torch.ones_like(view.index, dtype=torch.bool))


@dataclass(frozen=True, kw_only=True)
class Repentant(FastV):
    """Selects what it has dropped."""

    def rounds(self, entry, layer):
        view = yield Step(~entry.tokens.coords[:, 0].bool(), layer=layer)
        selection = self(entry.tokens, entry.signals.with_llm_attention(torch.arange(len(entry.tokens)).float()))
        yield Step(selection.mask[view.index], selection=selection)


def test_what_is_gone_cannot_be_selected():
    family = "qwen2_5_vl"
    model, inputs = model_of(family), FAMILIES[family].inputs(ROWS[:1])
    message = "selector Repentant selects 10 tokens, but its rounds kept 0"
    with Repentant(retention=0.4).attach(model), pytest.raises(StgraphError, match=message):
        greedy(model, inputs)


@families
def test_the_method_of_the_documentation_is_exact(family):
    text = (Path(__file__).parents[2] / "docs" / "models.md").read_text("utf-8")
    example = next(block for block in text.split("```python\n") if "class Staircase" in block).split("```")[0]
    model, inputs = model_of(family), FAMILIES[family].inputs(ROWS)
    outcome: dict[str, Any] = {"model": model, "inputs": inputs | {"max_new_tokens": 1}, "__name__": __name__}
    exec(example, outcome)
    assert all(len(counts) == LAYERS for counts in outcome["attached"].tokens_per_layer)
    with outcome["Staircase"](retention=RETENTION).attach(model, trim="inside") as attached:
        out = greedy(model, inputs, 3)
    run = LiteralRun(model_of(family, "eager"), inputs, StaircaseVideo, [0, 1, 2, 3], retention=RETENTION)
    expected = run(out.sequences, dropped_separators(inputs, attached.selection, run))
    check(run, attached)
    torch.testing.assert_close(torch.stack(out.logits, 1), expected.logits, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("early", "message"),
    [
        (False, "selector Endless must finish with a selection in its last round"),
        (True, "there is no attention before the first layer"),
    ],
)
def test_a_plug_in_that_breaks_the_contract_is_named(early, message):
    family = "qwen2_5_vl"
    model, inputs = model_of(family), FAMILIES[family].inputs(ROWS)
    with Endless(early=early).attach(model) as attached, pytest.raises(StgraphError, match=message):
        greedy(model, inputs)
    assert attached.selection is None


def test_gradients_flow_through_a_merge():
    family = "qwen2_5_vl"
    model, inputs = FAMILIES[family].build("sdpa"), FAMILIES[family].inputs(ROWS[:1])
    positions = model._prepare_position_ids_for_generation(inputs["input_ids"], dict(inputs))
    with FrameFusion(retention=RETENTION, similarity_threshold=0.9).attach(model) as attached:
        model(**inputs, position_ids=positions).logits[:, -1].sum().backward()
    assert bool((attached.selection.merge_target >= 0).any())
    assert bool(model.model.language_model.layers[0].mlp.up_proj.weight.grad.abs().sum() > 0)


def test_layers_that_cannot_be_read_are_refused(monkeypatch):
    model = FAMILIES["qwen2_5_vl"].build("sdpa")
    monkeypatch.delattr(model.model.language_model.layers[1], "post_attention_layernorm")
    with pytest.raises(StgraphError, match='has no post_attention_layernorm; use trim="before"'):
        FrameFusion().attach(model)
    with pytest.raises(StgraphError, match="layer must be a whole number ≥ 1 and ≤ 3, got 4"):
        FrameFusion().attach(model_of("qwen2_5_vl"), layer=4)


def test_the_last_round_can_be_set():
    family = "qwen2_5_vl"
    model, inputs = model_of(family), FAMILIES[family].inputs(ROWS)
    selector = FrameFusion(retention=0.1, similarity_threshold=0.9)
    counts = {}
    for layer in (1, 3):
        with selector.attach(model, layer=layer) as attached:
            greedy(model, inputs, 1)
        counts[layer] = attached.tokens_per_layer
    budgets = attached.selection.budget
    assert [count[1:] for count in counts[1]] == [(budget,) * 3 for budget in budgets]
    assert [count[0] for count in counts[1]] == [count[0] for count in counts[3]]
    assert any(count[1] > budget for count, budget in zip(counts[3], budgets, strict=True))


@pytest.mark.parametrize("name", ["framefusion", "release"])
def test_half_precision(name):
    model, inputs = FAMILIES["qwen3_vl"].build("sdpa").bfloat16(), FAMILIES["qwen3_vl"].inputs(ROWS)
    with ALL_WAYS[name].attach(model) as attached:
        out = greedy(model, inputs)
    assert cache_of(out).layers[-1].keys.dtype == torch.bfloat16
    assert [counts[-1] for counts in attached.tokens_per_layer] == list(attached.selection.budget)


def test_guessed_tokens_behind_the_prompt_change_nothing():
    """Prompt lookup passes guesses together with the prompt; its last token asks, not the last guess."""
    family = "qwen2_5_vl"
    model, inputs = model_of(family), FAMILIES[family].inputs(ROWS[:1])
    ids = inputs["input_ids"]
    inputs["input_ids"] = torch.cat([ids, ids[:, -3:-1]], 1)  # what came after these two before is guessed
    for name in ("attention_mask", "mm_token_type_ids"):
        inputs[name] = torch.nn.functional.pad(inputs[name], (0, 2), value=int(name == "attention_mask"))
    for selector in ALL_WAYS.values():
        with selector.attach(model) as attached:
            plain = greedy(model, inputs, 6)
            digest, layers = attached.selection.digest, attached.tokens_per_layer
            guessed = greedy(model, inputs, 6, prompt_lookup_num_tokens=2)
        assert torch.equal(plain.sequences, guessed.sequences)
        assert (attached.selection.digest, attached.tokens_per_layer) == (digest, layers)
