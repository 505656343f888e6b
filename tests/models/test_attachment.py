"""A selector inside tiny video LLMs, against full-length runs in which the dropped columns are masked."""

from __future__ import annotations

import re
import sys
import threading
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import DynamicCache, StaticCache, __version__, masking_utils
from transformers.generation.streamers import BaseStreamer

from stgraph import Selection, StgraphError, STSimDiff
from stgraph.budget import ceil_share
from stgraph.models import MODELS
from stgraph.selectors.base import Ranking, Selector
from stgraph.selectors.uniform import UniformSelector
from stgraph.signals import Signals

from ..covering import parametrized
from .zoo import CACHE, END, FAMILIES, IMAGE, LAYERS, PATCH, START, VIDEO, cache_of, language_model, masked_run

RETENTION = 0.4
ROWS = ([4], [4, 4], [])
"""A row with one video, one with two, and one without."""
TRIM_LAYER = 2
"""FastV's K."""

TRIMS, BOTH = ("before", "inside"), ("sdpa", "eager")
families = pytest.mark.parametrize("family", list(FAMILIES))
trims = pytest.mark.parametrize("trim", TRIMS)
everything = parametrized("family, attention, trim", list(FAMILIES), BOTH, TRIMS)


@cache
def model_of(family: str, attention: str = "sdpa") -> Any:
    return FAMILIES[family].build(attention)


def greedy(model: Any, inputs: dict[str, Tensor], tokens: int = 4, **options: Any) -> Any:
    settings = {"do_sample": False, "return_dict_in_generate": True, "output_logits": True}
    return model.generate(**inputs, max_new_tokens=tokens, **(settings | options))


def hidden_columns(inputs: dict[str, Tensor], selection: Selection, trim: str, layer: int) -> list[Tensor]:
    """What a masked run must not see in each layer: what was dropped, and before ``layer`` what is no candidate."""
    places = inputs["input_ids"] == VIDEO

    def hide(kept: Tensor) -> Tensor:
        gone = torch.zeros_like(places)
        gone[places] = ~kept
        return gone

    last = hide(selection.mask)
    if trim == "before":
        return [last] * LAYERS
    separator = (selection.candidate == 0) & (selection.community < 0)
    return [hide((selection.candidate > 0) | separator)] * layer + [last] * (LAYERS - layer)


@parametrized("family, attention, trim, way", list(FAMILIES), BOTH, TRIMS, ("one", "batch", "no cache"))
def test_every_step_equals_the_masked_run(family, attention, trim, way):
    model = model_of(family, attention)
    inputs = FAMILIES[family].inputs(ROWS[:1] if way == "one" else ROWS)
    with STSimDiff(retention=RETENTION).attach(model, trim=trim) as attached:
        out = greedy(model, inputs, use_cache=way != "no cache")
    selection = attached.selection
    hidden = hidden_columns(inputs, selection, trim, TRIM_LAYER)
    reference = masked_run(model, inputs, out.sequences, hidden)
    torch.testing.assert_close(torch.stack(out.logits, 1), reference.logits, atol=1e-4, rtol=0)
    assert torch.equal(out.sequences[:, : inputs["input_ids"].shape[1]], inputs["input_ids"])
    for video in range(len(selection.budget)):
        rows = (selection.batch == video) & (selection.community >= 0)
        assert int((selection.mask & rows).sum()) == ceil_share(RETENTION, int(rows.sum())) == selection.budget[video]
    if way != "no cache":
        lengths = [layer.keys.shape[2] for layer in cache_of(out).layers]
        padding = inputs["attention_mask"] == 0
        expected = [int((~(gone | padding)).sum(1).max()) + 3 for gone in hidden]
        assert lengths == expected
    if trim == "inside":
        assert bool(hidden[0].any()), "candidates are a part of the tokens"
        assert int(hidden[-1].sum()) > int(hidden[0].sum()), "there is something to trim"


@families
def test_trimming_reads_the_attention_that_the_layer_computes(family):
    inputs = FAMILIES[family].inputs(ROWS)
    layer = TRIM_LAYER
    with STSimDiff(retention=RETENTION).attach(model_of(family), trim="inside") as attached:
        out = greedy(model_of(family), inputs, 1)
    selection = attached.selection
    hidden = hidden_columns(inputs, selection, "inside", layer)
    seen = masked_run(model_of(family, "eager"), inputs, out.sequences, hidden).attention[layer - 1]
    prompt = inputs["input_ids"].shape[1]
    received = seen[:, :, prompt - 1, :prompt].mean(1)[inputs["input_ids"] == VIDEO]
    graph = selection.community >= 0
    candidates = graph & (selection.candidate > 0)
    torch.testing.assert_close(selection.importance[candidates], received[candidates], atol=1e-6, rtol=1e-4)
    assert selection.notes[0] == "candidates are trimmed by llm_attention"
    for video in range(len(selection.budget)):
        there = candidates & (selection.batch == video)
        kept = received[there & selection.mask]
        torch.testing.assert_close(kept.sort().values, received[there].topk(len(kept)).values.sort().values)


@families
def test_the_models_own_attention_as_importance_trims_inside(family):
    model, inputs = model_of(family), FAMILIES[family].inputs(ROWS)
    kept = []
    for words, place in ({"importance": "llm_attention"}, None), ({}, "inside"):
        with STSimDiff(retention=RETENTION, **words).attach(model, trim=place) as attached:
            greedy(model, inputs, 1)
        assert attached.trim == "inside"
        kept.append(attached.selection.indices)
    assert torch.equal(*kept)


@everything
def test_beams(family, attention, trim):
    model, inputs = model_of(family, attention), FAMILIES[family].inputs(ROWS)
    with STSimDiff(retention=RETENTION).attach(model, trim=trim) as attached:
        out = greedy(model, inputs, num_beams=3, output_scores=True)
    hidden = hidden_columns(inputs, attached.selection, trim, TRIM_LAYER)
    reference = masked_run(model, inputs, out.sequences, hidden)
    chosen = out.sequences[:, inputs["input_ids"].shape[1] :, None]
    score = reference.logits.log_softmax(-1).gather(2, chosen)[..., 0].sum(1) / chosen.shape[1]
    torch.testing.assert_close(out.sequences_scores, score, atol=1e-4, rtol=0)


def two_turns(model: Any, inputs: dict[str, Any]) -> tuple[Any, torch.Tensor]:
    """What ``generate`` returns for a question after an answer, and the positions of all that the model has run."""
    first = greedy(model, inputs)
    cache = cache_of(first)
    ids = torch.cat([first.sequences, torch.tensor([[11, 12, 13]] * 3)], 1)
    mask = torch.cat([inputs["attention_mask"], torch.ones(3, ids.shape[1] - inputs["input_ids"].shape[1])], 1)
    turn = {"input_ids": ids, "attention_mask": mask.long()}
    known = ids.shape[1] - 4  # the last token of the answer was never run
    positions = model._prepare_position_ids_for_generation(inputs["input_ids"], dict(inputs))
    positions = torch.cat([positions, positions[..., -1:] + torch.arange(1, 4)], -1)
    assert positions.shape[-1] == known
    later = model._prepare_position_ids_for_generation(ids, turn | {CACHE: cache})[..., known:]
    later = later.expand(*positions.shape[:-1], -1)
    second = greedy(model, turn, 3, **{CACHE: cache})
    return second, torch.cat([positions, later], -1)


@everything
def test_a_second_turn_goes_on_from_the_pruned_cache(family, attention, trim):
    model, inputs = model_of(family, attention), FAMILIES[family].inputs(ROWS)
    with STSimDiff(retention=RETENTION).attach(model, trim=trim) as attached:
        second, positions = two_turns(model, inputs)
    hidden = hidden_columns(inputs, attached.selection, trim, TRIM_LAYER)
    reference = masked_run(model, inputs, second.sequences, hidden, positions=positions)
    torch.testing.assert_close(torch.stack(second.logits, 1), reference.logits[:, -3:], atol=1e-4, rtol=0)


@everything
def test_at_full_retention_nothing_changes(family, attention, trim):
    model, inputs = model_of(family, attention), FAMILIES[family].inputs(ROWS)
    plain = greedy(model, inputs)
    with STSimDiff(retention=1.0).attach(model, trim=trim) as attached:
        wrapped = greedy(model, inputs)
    assert torch.equal(torch.stack(plain.logits), torch.stack(wrapped.logits))
    assert torch.equal(plain.sequences, wrapped.sequences)
    assert bool(attached.selection.mask.all())


def state(model: Any) -> dict[str, Any]:
    """Everything that an attachment might leave behind, of every module."""
    found = {}
    for name, module in model.named_modules():
        for key, value in vars(module).items():
            if key in ("_parameters", "_buffers"):
                value = {k: (id(v), v._version) for k, v in value.items() if v is not None}
            elif isinstance(value, Tensor):
                value = value.tolist()
            elif isinstance(value, dict):
                value = dict(value)
            found[name, key] = value if isinstance(value, (int, float, str, list, dict, type(None))) else id(value)
        found[name, "class"] = type(module)
    return found


@parametrized("family, trim, accident", list(FAMILIES), TRIMS, (None, "in the block", "in the model"))
def test_no_trace_is_left(family, trim, accident, monkeypatch):
    model, inputs = FAMILIES[family].build("sdpa"), FAMILIES[family].inputs(ROWS)  # one that nothing was attached to
    plain = greedy(model, inputs)
    before = state(model)

    def fail(*args: Any) -> None:
        raise ZeroDivisionError

    def use() -> None:
        with STSimDiff(retention=RETENTION).attach(model, trim=trim):
            greedy(model, inputs)
            if accident == "in the block":
                raise ZeroDivisionError
            if accident == "in the model":
                with monkeypatch.context() as patch:
                    patch.setattr(language_model(model).norm, "forward", fail)
                    greedy(model, inputs)

    if accident is None:
        use()
    else:
        with pytest.raises(ZeroDivisionError):
            use()
    assert state(model) == before
    assert torch.equal(torch.stack(greedy(model, inputs).logits), torch.stack(plain.logits))
    with STSimDiff().attach(model, trim=trim):  # and it can be attached to again
        pass


@families
def test_a_prompt_without_a_video_is_left_alone(family):
    model, inputs = model_of(family), FAMILIES[family].inputs([[]])
    inputs = {key: value for key, value in inputs.items() if key in ("input_ids", "attention_mask")}
    plain = greedy(model, inputs)
    with STSimDiff(retention=RETENTION).attach(model, trim="inside") as attached:
        wrapped = greedy(model, inputs)
    assert torch.equal(torch.stack(plain.logits), torch.stack(wrapped.logits))
    assert attached.selection is None


@families
def test_a_plain_call_and_its_continuation(family):
    model, inputs = model_of(family), FAMILIES[family].inputs(ROWS)
    positions = model._prepare_position_ids_for_generation(inputs["input_ids"], dict(inputs))
    with STSimDiff(retention=RETENTION).attach(model) as attached, torch.no_grad():
        out = model(**inputs, position_ids=positions, use_cache=True)
        mask = torch.cat([inputs["attention_mask"], torch.ones(3, 1, dtype=torch.int64)], 1)
        following = {"input_ids": torch.tensor([[20]] * 3), CACHE: cache_of(out)}
        with pytest.raises(StgraphError, match="pass position_ids"):
            model(**following, attention_mask=mask)
        again = model(**following, attention_mask=mask, position_ids=positions[..., -1:] + 1)
    sequences = torch.cat([inputs["input_ids"], torch.tensor([[20, 7]] * 3)], 1)
    reference = masked_run(model, inputs, sequences, hidden_columns(inputs, attached.selection, "before", 0))
    logits = torch.stack([out.logits[:, -1], again.logits[:, -1]], 1)
    torch.testing.assert_close(logits, reference.logits, atol=1e-4, rtol=0)
    assert out.logits.shape[1] < inputs["input_ids"].shape[1]


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl"])
@trims
def test_an_image_beside_the_video_stays_whole(family, trim):
    model, inputs = model_of(family), FAMILIES[family].inputs(ROWS[:2])
    images = torch.tensor([[START, IMAGE, IMAGE, IMAGE, IMAGE, END]] * 2)
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    end = ids.shape[1] - 1  # behind the videos
    inputs["input_ids"] = torch.cat([ids[:, :end], images, ids[:, end:]], 1)
    inputs["attention_mask"] = torch.cat([mask, torch.ones_like(images)], 1)
    inputs["mm_token_type_ids"] = (inputs["input_ids"] == IMAGE).int() + 2 * (inputs["input_ids"] == VIDEO).int()
    inputs["image_grid_thw"] = torch.tensor([[1, 4, 4]] * 2)
    inputs["pixel_values"] = torch.randn(32, 6 * PATCH * PATCH, generator=torch.Generator().manual_seed(5))
    with STSimDiff(retention=RETENTION).attach(model, trim=trim) as attached:
        out = greedy(model, inputs)
    hidden = hidden_columns(inputs, attached.selection, trim, TRIM_LAYER)
    reference = masked_run(model, inputs, out.sequences, hidden)
    torch.testing.assert_close(torch.stack(out.logits, 1), reference.logits, atol=1e-4, rtol=0)


def test_half_precision():
    family = "qwen3_vl"
    model, inputs = FAMILIES[family].build("sdpa").bfloat16(), FAMILIES[family].inputs(ROWS)
    for trim in ("before", "inside"):
        with STSimDiff(retention=RETENTION).attach(model, trim=trim) as attached:
            out = greedy(model, inputs)
        assert cache_of(out).layers[-1].keys.dtype == torch.bfloat16
        assert len(attached.selection) == sum(attached.selection.budget)


def test_sampling_and_streaming_see_the_same_model():
    family = "llava_onevision"
    model, inputs = model_of(family), FAMILIES[family].inputs(ROWS[:1])

    class Collect(BaseStreamer):
        def __init__(self) -> None:
            self.tokens: list[int] = []

        def put(self, value: Tensor) -> None:
            self.tokens += value.flatten().tolist()

        def end(self) -> None:
            self.tokens.append(-1)

    streamer = Collect()
    with STSimDiff(retention=RETENTION).attach(model) as attached:
        torch.manual_seed(3)
        out = greedy(model, inputs, do_sample=True, streamer=streamer)
    reference = masked_run(model, inputs, out.sequences, hidden_columns(inputs, attached.selection, "before", 0))
    torch.testing.assert_close(torch.stack(out.logits, 1), reference.logits, atol=1e-4, rtol=0)
    assert streamer.tokens == [*out.sequences[0].tolist(), -1]


@dataclass(frozen=True, kw_only=True)
class Merging(Selector):
    """Keeps the first tokens and adds the last one, halved, to the first."""

    def rank(self, tokens, signals):
        order = torch.arange(len(tokens), 0, -1).float()
        target = torch.full((len(tokens),), -1)
        target[-1] = 0
        weight = torch.ones(len(tokens))
        weight[-1] = 0.5
        return Ranking(importance=order, merge_target=target, merge_weight=weight)


@pytest.mark.parametrize("use_cache", [True, False])
def test_merged_features_enter_the_model(use_cache):
    family = "qwen2_5_vl"
    model, inputs = model_of(family), FAMILIES[family].inputs(ROWS[:1])
    with Merging(retention=RETENTION).attach(model) as attached:
        out = greedy(model, inputs, use_cache=use_cache)
    hidden = hidden_columns(inputs, attached.selection, "before", 0)
    embeddings = masked_run(model, inputs, out.sequences, hidden).embeddings[:, : inputs["input_ids"].shape[1]].clone()
    columns = (inputs["input_ids"][0] == VIDEO).nonzero()[:, 0]
    embeddings[0, columns[0]] += embeddings[0, columns[-1]] / 2
    reference = masked_run(model, inputs, out.sequences, hidden, embeddings=embeddings)
    torch.testing.assert_close(torch.stack(out.logits, 1), reference.logits, atol=1e-4, rtol=0)


def test_a_method_without_candidates_is_trimmed_inside_from_all_tokens():
    family = "qwen2_5_vl"
    model, inputs = model_of(family), FAMILIES[family].inputs(ROWS[:1])
    with UniformSelector(retention=RETENTION).attach(model, trim="inside", layer=3) as attached:
        out = greedy(model, inputs)
    none = torch.zeros_like(inputs["input_ids"], dtype=torch.bool)
    last = hidden_columns(inputs, attached.selection, "before", 0)[0]
    reference = masked_run(model, inputs, out.sequences, [none, none, none, last])
    torch.testing.assert_close(torch.stack(out.logits, 1), reference.logits, atol=1e-4, rtol=0)


def test_tokens_that_the_model_left_out_itself():
    family = "video_llama_3"
    model, inputs = model_of(family), FAMILIES[family].inputs([[4]])
    whole = int((inputs["input_ids"] == VIDEO).sum())
    present = torch.ones(whole, dtype=torch.bool)
    present[5:9] = False
    first = int((inputs["input_ids"][0] == VIDEO).nonzero()[0])
    keep = torch.ones(inputs["input_ids"].shape[1], dtype=torch.bool)
    keep[first + 5 : first + 9] = False
    inputs |= {key: inputs[key][:, keep] for key in ("input_ids", "attention_mask")}
    inputs["video_compression_mask"] = present
    with STSimDiff(retention=RETENTION).attach(model) as attached:
        out = greedy(model, inputs)
    selection = attached.selection
    assert selection.coords.tolist() == [[i // 6, i // 3 % 2, i % 3] for i in range(whole) if present[i]]
    reference = masked_run(model, inputs, out.sequences, hidden_columns(inputs, selection, "before", 0))
    torch.testing.assert_close(torch.stack(out.logits, 1), reference.logits, atol=1e-4, rtol=0)


def test_two_models_at_once_in_two_threads():
    names = ["llava_onevision", "qwen3_vl"]
    inputs = {name: FAMILIES[name].inputs(ROWS) for name in names}

    def alone(name: str) -> Any:
        with STSimDiff(retention=RETENTION).attach(model_of(name), trim="inside"):
            return torch.stack(greedy(model_of(name), inputs[name]).logits)

    expected = {name: alone(name) for name in names}
    found: dict[str, list[Tensor]] = {name: [] for name in names}
    with (
        STSimDiff(retention=RETENTION).attach(model_of(names[0]), trim="inside"),
        STSimDiff(retention=RETENTION).attach(model_of(names[1]), trim="inside"),
    ):

        def work(name: str) -> None:
            found[name] += [torch.stack(greedy(model_of(name), inputs[name]).logits) for _ in range(3)]

        threads = [threading.Thread(target=work, args=(name,)) for name in (*names, names[0])]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [len(found[name]) for name in names] == [6, 3]
    for name in names:
        for logits in found[name]:
            assert torch.equal(logits, expected[name])


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cache_implementation": "static"}, "cache_implementation is 'static'"),
        ({"prefill_chunk_size": 8}, "prefill_chunk_size cannot be used"),
        ({"given": "static"}, "needs an empty DynamicCache"),
        ({"given": "filled"}, "needs an empty DynamicCache"),
        ({"padding": "right"}, "padded on the left"),
        ({"missing": "video_grid_thw"}, "video_grid_thw is missing"),
        ({"missing": "placeholder"}, "the videos have 24 tokens, but input_ids hold 23 placeholders"),
    ],
)
def test_what_would_be_wrong_is_refused(options, message):
    model, inputs = model_of("qwen2_5_vl"), FAMILIES["qwen2_5_vl"].inputs(ROWS[:1])
    options = dict(options)
    if options.pop("padding", None):
        inputs["attention_mask"][:, -1] = 0
    missing, given = options.pop("missing", None), options.pop("given", None)
    if missing == "placeholder":
        inputs["input_ids"][0, (inputs["input_ids"][0] == VIDEO).nonzero()[0]] = 9
    elif missing:
        del inputs[missing]
    if given == "static":
        options[CACHE] = StaticCache(config=model.config.get_text_config(), max_cache_len=128)
    elif given == "filled":
        options[CACHE] = cache = DynamicCache()
        cache.update(torch.zeros(1, 2, 3, 8), torch.zeros(1, 2, 3, 8), 0)
    with STSimDiff().attach(model), pytest.raises(StgraphError, match=message):
        model.generate(**inputs, max_new_tokens=2, **options)


def test_calls_that_cannot_be_understood_are_refused():
    model, inputs = model_of("qwen2_5_vl"), FAMILIES["qwen2_5_vl"].inputs(ROWS[:1])
    ids = inputs["input_ids"]
    with STSimDiff(retention=RETENTION).attach(model):
        with pytest.raises(StgraphError, match="attached to this model already"), STSimDiff().attach(model):
            pass
        with pytest.raises(StgraphError, match="call the attached model itself"):
            model.model(**inputs)
        with pytest.raises(StgraphError, match="labels do not fit"):
            model(**inputs, labels=ids)
        with pytest.raises(StgraphError, match="pass these, not inputs_embeds"):
            model(inputs_embeds=model.get_input_embeddings()(ids), pixel_values_videos=inputs["pixel_values_videos"])
        out = greedy(model, inputs)
        cache = cache_of(out)
        with pytest.raises(StgraphError, match="input_ids hold no tokens beyond the"):
            greedy(model, {"input_ids": out.sequences[:, -1:]}, **{CACHE: cache})
        types = torch.zeros_like(out.sequences)
        more = inputs | {"input_ids": out.sequences, "attention_mask": types + 1, CACHE: cache}
        more["mm_token_type_ids"] = types
        with pytest.raises(StgraphError, match="either both or not at all"):
            greedy(model, {"input_ids": out.sequences, "mm_token_type_ids": types}, **{CACHE: cache})
        with pytest.raises(StgraphError, match="new videos cannot be added to the cache"):
            greedy(model, more)
        with pytest.raises(
            StgraphError, match="the pruned prompt has 1 sequences, but the call that continues it has 2"
        ):
            greedy(model, {"input_ids": out.sequences.repeat(2, 1)}, **{CACHE: cache})
        with pytest.raises(StgraphError, match="not as mm_encoder_outputs"):
            model(input_ids=ids, mm_encoder_outputs={"video": model.get_video_features})
        with pytest.raises(StgraphError, match="new videos cannot be added to the cache"):
            model(**more, position_ids=torch.zeros(3, 1, out.sequences.shape[1], dtype=torch.int64))


def test_models_that_do_not_fit_are_refused(monkeypatch):
    with pytest.raises(StgraphError, match="a transformers model that generates, got Linear"):
        STSimDiff().attach(torch.nn.Linear(2, 2))
    model = model_of("qwen3_vl")
    for options, message in (
        ({"trim": "after"}, "trim must be one of before, inside"),
        ({"trim": "inside", "layer": 4}, "layer must be a whole number ≥ 1 and ≤ 3, got 4"),
        ({"layer": 2}, 'layer only has an effect with trim="inside"'),
    ):
        with pytest.raises(StgraphError, match=message):
            STSimDiff().attach(model, **options)
    with monkeypatch.context() as patch:
        patch.delattr(sys.modules[type(model.model.language_model).__module__], "apply_rotary_pos_emb")
        with pytest.raises(StgraphError, match="queries and keys cannot be read in Qwen3VLTextDecoderLayer"):
            STSimDiff().attach(model, trim="inside")
    with monkeypatch.context() as patch:
        patch.setattr(masking_utils, "create_causal_mask", lambda config, inputs_embeds: None)
        with pytest.raises(StgraphError, match=f"the masks of transformers {__version__} do not fit layers"):
            STSimDiff().attach(model, trim="inside")
    text = model_of("llava_onevision").config.text_config
    monkeypatch.setattr(text, "layer_types", ["full_attention", "sliding_attention"] * 2)
    with pytest.raises(StgraphError, match="but this one has sliding_attention"):
        STSimDiff().attach(model_of("llava_onevision"))
    monkeypatch.undo()
    for kind in ("paged|flash_attention_2", "xla_attention"):
        monkeypatch.setattr(text, "_attn_implementation_internal", kind)
        with pytest.raises(
            StgraphError, match=f"not verified with the attention implementation {re.escape(repr(kind))}"
        ):
            STSimDiff().attach(model_of("llava_onevision"))
    monkeypatch.undo()
    monkeypatch.setattr(type(model.config), "model_type", "unheard_of")
    with pytest.raises(StgraphError, match="no adapter for models of type 'unheard_of'"):
        STSimDiff().attach(model)


def test_a_method_that_needs_a_signal_says_so():
    model, inputs = model_of("llava_onevision"), FAMILIES["llava_onevision"].inputs(ROWS[:1])
    with (
        _Needy().attach(model),
        pytest.raises(StgraphError, match=r"needs the signal llm_attention, .* with trim='inside'"),
    ):
        greedy(model, inputs)


@dataclass(frozen=True, kw_only=True)
class _Needy(Selector):
    def rank(self, tokens, signals: Signals):
        return Ranking(importance=signals.require("llm_attention", "needy"))


def test_every_adapter_is_tested():
    assert set(MODELS) == set(FAMILIES)
