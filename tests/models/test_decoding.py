"""A pruned prompt with guessed tokens, sampling and other attention implementations; and models that do not fit."""

from __future__ import annotations

import sys
import warnings
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import Qwen2Config, Qwen2ForCausalLM
from transformers import modeling_flash_attention_utils as flash_utils
from transformers.generation.candidate_generator import PromptLookupCandidateGenerator

from stgraph import StgraphError, STSimDiff

from .test_attachment import RETENTION, ROWS, TRIM_LAYER, greedy, hidden_columns, model_of, trims
from .zoo import CACHE, FAMILIES, cache_of, masked_run

GUESSING = [name for name in FAMILIES if name != "qwen3_5"]
"""transformers calls Qwen3.5 stateful and refuses to guess for it."""

LONG = {"tokens": 10, "repetition_penalty": 1.3}
"""Answers that say different things."""

TRIMS = ("before", "inside")

LOOKUP = {"prompt_lookup_num_tokens": 3, "max_matching_ngram_size": 1}


@cache
def assistant_of(family: str) -> Any:
    """The same family with slightly other weights."""
    model = FAMILIES[family].build("sdpa")
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(1)
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.02)
    return model


def passes(model: Any) -> tuple[list[int], Any]:
    """How many tokens each forward pass is given, noted from now on."""
    seen: list[int] = []
    text = model.get_submodule("model")
    handle = text.register_forward_pre_hook(lambda m, a, k: seen.append(k["input_ids"].shape[1]), with_kwargs=True)
    return seen, handle


def prompt(family: str) -> dict[str, Tensor]:
    """Two videos and a text that ends as it began, for a guess what comes next."""
    inputs = FAMILIES[family].inputs([[4, 4]])
    inputs["input_ids"][0, -1] = inputs["input_ids"][0, 0]
    return inputs


@pytest.mark.parametrize(
    ("family", "way"),
    [(family, "lookup") for family in GUESSING]
    + [(family, way) for family in ("llava_onevision", "qwen2_5_vl", "qwen3_vl") for way in ("assistant", "mixed")],
)
@trims
def test_guessed_tokens_change_nothing(family, trim, way, monkeypatch):
    model, inputs = model_of(family), prompt(family)
    options = {"assistant_model": assistant_of(family)} if way == "assistant" else LOOKUP
    with STSimDiff(retention=RETENTION).attach(model, trim=trim) as attached:
        plain, selected = greedy(model, inputs, **LONG), attached.selection
        if way == "mixed":

            def guess(generator: Any, ids: Tensor, **kwargs: Any) -> tuple[Tensor, None]:
                """Two right tokens and two wrong ones."""
                following = plain.sequences[:, ids.shape[1] :][:, :4].clone()
                following[:, 2:] = 40
                return torch.cat([ids, following], 1), None

            monkeypatch.setattr(PromptLookupCandidateGenerator, "get_candidates", guess)
        seen, handle = passes(model)
        fast = greedy(model, inputs, **LONG, **options)
        handle.remove()
    assert torch.equal(fast.sequences, plain.sequences)
    assert attached.selection.digest == selected.digest
    torch.testing.assert_close(torch.stack(fast.logits), torch.stack(plain.logits), atol=1e-4, rtol=0)
    lengths = [[layer.keys.shape[2] for layer in cache_of(out).layers] for out in (fast, plain)]
    assert lengths[0] == lengths[1]
    assert seen[0] > inputs["input_ids"].shape[1], "the first pass holds guesses"
    assert sum(seen) - inputs["input_ids"].shape[1] > len(fast.logits) - 1, "some guesses are wrong"
    assert way != "mixed" or len(seen) <= 4, "some are right"


@pytest.mark.parametrize("family", ["llava_onevision", "qwen2_5_vl"])
@trims
def test_guessed_tokens_change_nothing_in_a_later_turn(family, trim):
    model, inputs = model_of(family), prompt(family)
    answers = []
    for options in ({}, LOOKUP):
        with STSimDiff(retention=RETENTION).attach(model, trim=trim):
            first = greedy(model, inputs, **LONG, **options)
            more = torch.cat([first.sequences, torch.tensor([[20, 21, 7]])], 1)
            following = {"input_ids": more, "attention_mask": torch.ones_like(more)}
            seen, handle = passes(model)
            answers.append(greedy(model, following, **LONG, **options, **{CACHE: cache_of(first)}))
            handle.remove()
    assert seen[0] > 4, "the first pass holds guesses"
    assert torch.equal(answers[0].sequences, answers[1].sequences)
    torch.testing.assert_close(torch.stack(answers[0].logits), torch.stack(answers[1].logits), atol=1e-4, rtol=0)


def test_guessed_tokens_without_a_video():
    family = "qwen2_5_vl"
    model, inputs = model_of(family), FAMILIES[family].inputs([[]])
    inputs = {key: inputs[key] for key in ("input_ids", "attention_mask")}
    plain = greedy(model, inputs, **LONG, **LOOKUP)
    with STSimDiff(retention=RETENTION).attach(model):
        wrapped = greedy(model, inputs, **LONG, **LOOKUP)
    assert torch.equal(torch.stack(plain.logits), torch.stack(wrapped.logits))


@pytest.mark.parametrize(
    ("option", "value"),
    [("assistant_early_exit", 2), ("prefill_chunk_size", 8), ("use_mtp", True), ("speculation_type", "dflash")],
)
def test_ways_that_cannot_work_are_refused_with_the_reason(option, value):
    model, inputs = model_of("qwen2_5_vl"), prompt("qwen2_5_vl")
    with (
        STSimDiff().attach(model),
        pytest.raises(StgraphError, match=f"{option} cannot be used with a pruned prompt: .*; leave it out"),
    ):
        model.generate(**inputs, max_new_tokens=2, **{option: value})


def test_an_assistant_cannot_be_attached_to():
    family = "qwen2_5_vl"
    model, assistant = model_of(family), assistant_of(family)
    with STSimDiff().attach(assistant), pytest.raises(StgraphError, match="attach to the model that it assists"):
        greedy(model, prompt(family), assistant_model=assistant)


def test_sampling_draws_from_the_logits_of_the_masked_run():
    family = "qwen2_5_vl"
    model, inputs = model_of(family), prompt(family)
    with STSimDiff(retention=RETENTION).attach(model) as attached:
        torch.manual_seed(5)
        out = greedy(model, inputs, 8, do_sample=True, top_k=0, temperature=0.7)
    hidden = hidden_columns(inputs, attached.selection, "before", 0)
    logits = masked_run(model, inputs, out.sequences, hidden).logits[0]
    logits[:, model.generation_config.suppress_tokens] = -torch.inf
    torch.manual_seed(5)
    drawn = [int(torch.multinomial((step / 0.7).softmax(-1), 1)) for step in logits]
    assert drawn == out.sequences[0, -8:].tolist()
    assert len(set(drawn)) > 2


@pytest.mark.parametrize("family", ["llava_onevision", "internvl"])
def test_a_video_that_fits_the_budget_stays_whole(family):
    model, inputs = model_of(family), FAMILIES[family].inputs([[2]])
    plain = greedy(model, inputs)
    for trim in TRIMS:
        with STSimDiff(retention=0.99).attach(model, trim=trim) as attached:
            out = greedy(model, inputs)
        assert attached.selection.budget == (8,)
        assert torch.equal(torch.stack(out.logits), torch.stack(plain.logits))
        with STSimDiff(retention=1e-9).attach(model, trim=trim) as attached:
            greedy(model, inputs)
        assert attached.selection.budget == (1,)


def test_a_model_that_is_no_video_llm():
    config = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    text = Qwen2ForCausalLM(Qwen2Config(**config, num_key_value_heads=1, vocab_size=8))
    with pytest.raises(
        StgraphError, match="there is no adapter for models of type 'qwen2'; there are adapters for internvl, "
    ):
        STSimDiff().attach(text)


def test_transformers_that_are_too_old(monkeypatch):
    monkeypatch.setattr(sys.modules["transformers"], "__version__", "4.57.1")
    with pytest.raises(StgraphError, match=r"needs transformers 5\.23 or later, but this is 4\.57\.1; install"):
        STSimDiff().attach(model_of("llava_onevision"))


# -- other attention ---------------------------------------------------------------------------------------------------


def flash(q: Tensor, k: Tensor, v: Tensor, *, causal: bool = False, softmax_scale: float | None = None) -> Tensor:
    """The arithmetic of a flash kernel: (B, S, heads, d), the last query aligned with the last key."""
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    mask = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool).tril(k.shape[2] - q.shape[2]) if causal else None
    attention = torch.nn.functional.scaled_dot_product_attention
    return attention(q, k, v, attn_mask=mask, scale=softmax_scale, enable_gqa=True).transpose(1, 2)


def flash_ragged(q: Tensor, k: Tensor, v: Tensor, *, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, **options):
    """The same of sequences that lie one behind the other: (tokens, heads, d)."""
    assert max_seqlen_q == cu_seqlens_q.diff().max()
    assert max_seqlen_k == cu_seqlens_k.diff().max()
    parts = zip(
        *(x.split(n.diff().tolist()) for x, n in ((q, cu_seqlens_q), (k, cu_seqlens_k), (v, cu_seqlens_k))), strict=True
    )
    return torch.cat([flash(*(x[None] for x in part), **options)[0] for part in parts])


@pytest.fixture
def other_attention(monkeypatch, request) -> Any:
    """Flash attention as transformers calls it (masks, unpadding, packing), with kernels that run here; or flex."""
    if request.param == "flash_attention_2":
        functions = (flash, flash_ragged, None, flash_utils._pad_input, flash_utils._unpad_input)
        options = (flash_utils._lazy_define_process_function(flash_ragged), dict)
        monkeypatch.setattr(flash_utils, "lazy_import_flash_attention", lambda *a, **k: (functions, options))
        yield request.param
        return
    with torch.compiler.set_stance("force_eager"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that flex attention is slow when it is not compiled
        yield request.param


@pytest.mark.parametrize(
    ("other_attention", "family", "trim"),
    [("flash_attention_2", name, trim) for name in ("llava_onevision", "qwen2_5_vl", "qwen3_vl") for trim in TRIMS]
    + [("flex_attention", "llava_next_video", trim) for trim in TRIMS],
    indirect=["other_attention"],
)
def test_pruning_is_exact_with_other_attention(family, trim, other_attention):
    model = FAMILIES[family].build("sdpa")
    model.config._attn_implementation = other_attention
    inputs = FAMILIES[family].inputs(ROWS)
    alone = FAMILIES[family].inputs(ROWS[:1])
    with STSimDiff(retention=RETENTION).attach(model, trim=trim) as attached:
        batch, selections = greedy(model, inputs), [attached.selection]
        single = greedy(model, alone)  # no padding, positions with gaps and no mask: might be taken for packed
        selections.append(attached.selection)
        uncached = greedy(model, alone, use_cache=False)
        guessed = greedy(model, alone, **LOOKUP)
        more = torch.cat([single.sequences, torch.tensor([[20, 21, 22]])], 1)
        following = {"input_ids": more, "attention_mask": torch.ones_like(more)}
        later = greedy(model, following, **{CACHE: cache_of(single)})
    for given, out, selection in ((inputs, batch, selections[0]), (alone, single, selections[1])):
        hidden = hidden_columns(given, selection, trim, TRIM_LAYER)
        reference = masked_run(model_of(family), given, out.sequences, hidden)
        torch.testing.assert_close(torch.stack(out.logits, 1), reference.logits, atol=1e-4, rtol=0)
    for out in (uncached, guessed):
        torch.testing.assert_close(torch.stack(out.logits), torch.stack(single.logits), atol=1e-4, rtol=0)
    with STSimDiff(retention=RETENTION).attach(model_of(family), trim=trim):
        first = greedy(model_of(family), alone)
        expected = greedy(model_of(family), following, **{CACHE: cache_of(first)})
    torch.testing.assert_close(torch.stack(later.logits), torch.stack(expected.logits), atol=1e-4, rtol=0)


@pytest.mark.gpu
@trims
def test_pruning_is_exact_with_flash_attention_on_a_gpu(trim):
    family = "qwen2_5_vl"
    model = FAMILIES[family].build("sdpa").to("cuda", torch.bfloat16)
    slow = FAMILIES[family].build("sdpa").to("cuda", torch.bfloat16)
    model.set_attn_implementation("flash_attention_2")
    inputs = {name: value.to("cuda") for name, value in FAMILIES[family].inputs(ROWS).items()}
    answers = []
    for each in (model, slow):
        with STSimDiff(retention=RETENTION).attach(each, trim=trim) as attached:
            answers.append((greedy(each, inputs, 1), attached.selection))
    (fast, chosen), (plain, expected) = answers
    assert torch.equal(chosen.indices, expected.indices)
    torch.testing.assert_close(fast.logits[0], plain.logits[0], atol=0.05, rtol=0.05)
