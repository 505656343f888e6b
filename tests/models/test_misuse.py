"""What people do to a model with a selector in it: it is right, or refused in a sentence."""

from __future__ import annotations

import copy
import pickle
import threading
from typing import Any

import pytest
import torch
from torch import nn
from transformers.generation.streamers import BaseStreamer

from stgraph import StgraphError, STSimDiff
from stgraph.models.internvl import InternVL

from .test_attachment import RETENTION, greedy, model_of, trims
from .zoo import CACHE, FAMILIES, VIDEO, cache_of

FAMILY = "qwen2_5_vl"


def fresh() -> Any:
    """A model that a test may spoil."""
    return FAMILIES[FAMILY].build("sdpa")


def film(*lengths: int, family: str = FAMILY) -> dict[str, Any]:
    return FAMILIES[family].inputs([lengths])


def answer(model: Any, trim: str = "before", **inputs: Any) -> list[int]:
    with STSimDiff(retention=RETENTION).attach(model, trim=trim):
        return greedy(model, inputs or film(4)).sequences[0].tolist()


# -- right ------------------------------------------------------------------------------------------------------------


@trims
def test_guidance_compares_with_a_prompt_of_its_own(trim):
    """Classifier-free guidance: the model alone on the text, the pruned one on the video."""
    family, scale = "llava_next_video", 1.5  # for Qwen models, transformers fails at it without a selector too
    model, inputs, text = model_of(family), film(4, family=family), film(family=family)
    same = torch.arange(20, 20 + inputs["input_ids"].shape[1])[None]  # another prompt, also where it is as long
    for other in (text["input_ids"], same):
        for cached in (True, False):
            with STSimDiff(retention=RETENTION).attach(model, trim=trim):
                guided = greedy(
                    model, inputs, guidance_scale=scale, negative_prompt_ids=other, use_cache=cached, output_scores=True
                )
                new = guided.sequences[:, inputs["input_ids"].shape[1] :]
                pruned = torch.stack(guided.logits, 1)[0].log_softmax(-1)
            alone = model(torch.cat([other, new[:, :-1]], 1)).logits[0, -len(pruned) :].log_softmax(-1)
            scores = torch.stack(guided.scores, 1)[0]
            expected = alone + scale * (pruned - alone)
            seen = scores.isfinite()
            torch.testing.assert_close(scores[seen], expected[seen], atol=1e-4, rtol=0)


@trims
def test_videos_and_texts_in_turn(trim):
    model = model_of(FAMILY)
    short, long, text = film(4), film(6), film()
    expected = [answer(model, trim, **short), answer(model, trim, **long), greedy(model, text).sequences[0].tolist()]
    with STSimDiff(retention=RETENTION).attach(model, trim=trim):
        got = [greedy(model, inputs).sequences[0].tolist() for inputs in (short, long, text, short)]
    assert got == [*expected, expected[0]]


class Wrapped(nn.Module):
    """A linear layer in another, as adapters and quantisation put it there."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Any) -> Any:
        return self.inner(x)


@trims
def test_layers_may_be_replaced(trim):
    model, expected = fresh(), answer(model_of(FAMILY), trim)
    for name, part in list(model.model.language_model.named_modules()):
        if isinstance(part, nn.Linear):
            parent, _, child = name.rpartition(".")
            setattr(model.model.language_model.get_submodule(parent), child, Wrapped(part))
    assert answer(model, trim) == expected


@trims
def test_the_model_may_be_converted_or_saved_inside_the_block(trim, tmp_path):
    model, inputs = fresh(), film(4)
    names = list(model.state_dict())
    with STSimDiff(retention=RETENTION).attach(model, trim=trim):
        before = greedy(model, inputs).sequences
        assert list(model.state_dict()) == names
        model.save_pretrained(tmp_path)
        model.bfloat16()
        half = inputs | {"pixel_values_videos": inputs["pixel_values_videos"].bfloat16()}
        assert greedy(model, half).sequences.shape == before.shape
    saved = type(model).from_pretrained(tmp_path)
    saved.generation_config = model.generation_config
    assert answer(saved, trim) == before[0].tolist()


class Outer(nn.Module):
    """A model within another, as PEFT and FSDP wrap it."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.base_model, self.config = model, model.config

    def generate(self, *args: Any, **kwargs: Any) -> Any:
        return self.base_model.generate(*args, **kwargs)


@trims
def test_a_wrapped_model_is_attached_to_inside(trim):
    model, inputs = model_of(FAMILY), film(4)
    outer = Outer(model)
    with pytest.raises(StgraphError, match=r"Outer lacks parts .* attach to the model itself"):
        STSimDiff().attach(outer, trim=trim)
    with STSimDiff(retention=RETENTION).attach(outer.base_model, trim=trim):
        assert greedy(outer, inputs).sequences[0].tolist() == answer(fresh(), trim)


# -- refused ----------------------------------------------------------------------------------------------------------


def test_a_conversation_that_began_in_another_block():
    model, inputs = model_of(FAMILY), film(4)
    attached = STSimDiff(retention=RETENTION).attach(model)
    with attached:
        out = greedy(model, inputs)
    more = {"input_ids": torch.cat([out.sequences, torch.tensor([[9, 10]])], 1), CACHE: cache_of(out)}
    with STSimDiff(retention=RETENTION).attach(model), pytest.raises(StgraphError, match="pruned in another with bl"):
        greedy(model, more)
    with attached:
        assert greedy(model, more).sequences.shape[1] == more["input_ids"].shape[1] + 4


class Waiting(BaseStreamer):
    """Holds ``generate`` up behind the prompt, until it may go on."""

    def __init__(self) -> None:
        self.began, self.go_on = threading.Event(), threading.Event()

    def put(self, value: Any) -> None:
        self.began.set()
        self.go_on.wait(20)

    def end(self) -> None:
        pass


@pytest.mark.parametrize("accident", [None, KeyError("of the user's")])
def test_a_thread_that_outlives_the_block(accident):
    model, streamer, told = model_of(FAMILY), Waiting(), []

    def run() -> None:
        try:
            model.generate(**film(4), max_new_tokens=1, do_sample=False, streamer=streamer)
        except StgraphError as error:
            told.append(str(error))

    def leave(thread: threading.Thread) -> None:
        with STSimDiff().attach(model):
            thread.start()
            streamer.began.wait(20)
            if accident is not None:
                raise accident

    thread = threading.Thread(target=run)
    with pytest.raises(StgraphError if accident is None else KeyError):
        leave(thread)
    streamer.go_on.set()
    thread.join()
    assert len(told) == 1
    assert told[0].startswith("the with block ended while generate was running in another thread")


@pytest.mark.parametrize("copied", [copy.deepcopy, pickle.dumps])
def test_an_attached_model_is_not_copied(copied):
    model = fresh()
    with STSimDiff().attach(model), pytest.raises(StgraphError, match="copied or pickled while a selector is attached"):
        copied(model)
    copied(model)


def compiled_whole(model: Any) -> Any:
    return torch.compile(model, backend="eager")


def compiled_in_place(model: Any) -> Any:
    model.compile(backend="eager")
    return model


def compiled_forward(model: Any) -> Any:
    model.forward = torch.compile(model.forward, backend="eager")
    return model


def compiled_part(model: Any) -> Any:
    model.model.visual.compile(backend="eager")
    return model


@pytest.mark.parametrize(
    ("compiled", "part"),
    [
        (compiled_whole, "the model"),
        (compiled_in_place, "the model"),
        (compiled_forward, "the model"),
        (compiled_part, "model.visual"),
    ],
)
def test_compiled_models(compiled, part):
    with pytest.raises(StgraphError, match=f"^{part} is compiled by torch"):
        STSimDiff().attach(compiled(fresh()))


def test_what_torch_must_not_compile_is_not_compiled():
    model = fresh()
    model.lm_head.forward = torch.compiler.disable(model.lm_head.forward)
    assert answer(model) == answer(model_of(FAMILY))


@pytest.mark.parametrize(
    ("family", "changes", "message"),
    [
        (FAMILY, {"input_ids": lambda x: x[0]}, r"input_ids must be \(batch, length\), got \(32,\)"),
        (FAMILY, {"pixel_values_videos": lambda x: x[:-1]}, r"must be \(96, values of a patch\).* got \(95, 96\)"),
        (FAMILY, {"pixel_values_videos": lambda x: x[None]}, r"must be \(96, values of a patch\).* got \(1, 96, 96\)"),
        (FAMILY, {"video_grid_thw": lambda x: x * 2}, r"must be \(768, values of a patch\)"),
        ("video_llama_3", {"video_merge_sizes": lambda x: None}, "one number for each of the 1 videos .* got None"),
        ("video_llama_3", {"video_merge_sizes": lambda x: x.repeat(2)}, r"of the 1 videos .* got \[2, 2\]"),
        ("internvl", {"pixel_values": lambda x: x[0]}, r"must be \(images, channels, height, width\)"),
        ("llava_next_video", {"pixel_values_videos": lambda x: x[0]}, r"must be \(videos, frames, channels"),
    ],
)
def test_inputs_that_do_not_fit_each_other(family, changes, message):
    model, inputs = model_of(family), film(4, family=family)
    inputs |= {name: change(inputs[name]) for name, change in changes.items()}
    with STSimDiff().attach(model), pytest.raises(StgraphError, match=message):
        greedy(model, inputs)


@pytest.mark.parametrize(
    ("adapter", "message"),
    [
        (InternVL, "adapter must be one such as InternVL"),
        ("internvl", "adapter must be one such as InternVL.*, got 'internvl'"),
        (InternVL(), "lacks parts of the model that InternVL is for"),
    ],
)
def test_adapters_that_do_not_fit(adapter, message):
    with pytest.raises(StgraphError, match=message):
        STSimDiff().attach(model_of(FAMILY), adapter=adapter)


def test_embeddings_beside_the_ids():
    model, inputs = model_of(FAMILY), film(4)
    embeddings = model.get_input_embeddings()(inputs["input_ids"])
    with STSimDiff().attach(model), pytest.raises(StgraphError, match="are read from input_ids; pass these, not"):
        greedy(model, inputs | {"inputs_embeds": embeddings})
    assert int((inputs["input_ids"] == VIDEO).sum()) == 24


@pytest.mark.parametrize("family", ["qwen2_5_vl", "llava_onevision"])
def test_a_mask_that_is_not_one_number_a_token(family):
    model, inputs = model_of(family), film(4, family=family)
    length = inputs["input_ids"].shape[1]
    with (
        STSimDiff(retention=RETENTION).attach(model),
        pytest.raises(StgraphError, match=rf"attention_mask must be \(1, {length}\) as input_ids are, got \(1, 1, "),
    ):
        model(**inputs | {"attention_mask": torch.zeros(1, 1, length, length)})


# -- started, or not --------------------------------------------------------------------------------------------------


def test_what_is_attached_and_never_started_warns_once():
    model = fresh()
    attached = STSimDiff(retention=RETENTION).attach(model)
    plain = model_of(FAMILY)(**film(4)).logits
    with pytest.warns(UserWarning, match="attached to this model and never started, so the model sees all tokens"):
        logits = model(**film(4)).logits
    assert torch.equal(logits, plain)
    model(**film(4))  # once
    assert attached.selection is None
    assert "not at work: use it as 'with ...:', or call start()" in repr(attached)
    assert not model._forward_pre_hooks


def test_start_and_stop():
    model = fresh()
    attached = STSimDiff(retention=RETENTION).attach(model).start()
    assert repr(attached) == ("<STSimDiff on Qwen2_5_VLForConditionalGeneration, trim='before', at work>")
    inside = greedy(model, film(4)).sequences[0].tolist()
    with pytest.raises(StgraphError, match="attached to this model already; leave its with block first, or stop it"):
        attached.start()
    attached.stop()
    attached.stop()
    assert not model._forward_pre_hooks
    assert "generate" not in vars(model)
    assert inside == answer(model)
    assert greedy(model, film(4)).sequences.tolist() == greedy(model_of(FAMILY), film(4)).sequences.tolist()


def test_a_selection_is_that_of_the_thread_that_asks():
    model, lengths, found = model_of(FAMILY), (4, 6), {}
    barrier = threading.Barrier(2)
    with STSimDiff(retention=RETENTION).attach(model) as attached:

        def ask(length: int) -> None:
            greedy(model, film(length), 1)
            barrier.wait(30)
            found[length] = (len(attached.selection.mask), attached.tokens_per_layer)

        threads = [threading.Thread(target=ask, args=(length,)) for length in lengths]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        latest = len(attached.selection.mask)
    assert {length: n for length, (n, _) in found.items()} == {4: 24, 6: 36}
    assert latest in (24, 36)


def test_a_prompt_longer_than_the_model_was_made_for(monkeypatch):
    family = "llava_onevision"
    model, inputs = model_of(family), film(8, family=family)
    monkeypatch.setattr(model.config.text_config, "max_position_embeddings", 30)
    message = (
        r"the prompt has 41 positions \(33 of its tokens are the videos'\), more than the model's 30; "
        "sample fewer frames: 5 of the 8 time steps fit"
    )
    with STSimDiff(retention=RETENTION).attach(model), pytest.raises(StgraphError, match=message):
        greedy(model, inputs)
    with STSimDiff(retention=RETENTION).attach(model):
        greedy(model, film(5, family=family), 1)


# -- compiled inside the block ----------------------------------------------------------------------------------------


@pytest.mark.slow  # a minute each; the matrix compiles two families by default
@trims
@pytest.mark.parametrize("before", [False, True], ids=["compiled inside", "compiled before"])
def test_a_model_may_be_compiled_once_it_is_attached(trim, before):
    """Hooks are seen by no compiler; code that was compiled before there were hooks is compiled anew."""
    model, inputs = fresh(), film(4)
    full = model_of(FAMILY)(**inputs).logits
    with STSimDiff(retention=RETENTION).attach(model_of(FAMILY), trim=trim), torch.no_grad():
        expected = model_of(FAMILY)(**inputs).logits
    compiled = torch.compile(model, backend="eager")
    with torch.no_grad():
        if before:
            compiled(**inputs)
        with STSimDiff(retention=RETENTION).attach(model, trim=trim):
            assert torch.equal(compiled(**inputs).logits, expected)
            assert torch.equal(compiled.generate(**inputs, max_new_tokens=1)[0, -1], expected[0, -1].argmax())
        torch.testing.assert_close(compiled(**inputs).logits, full, atol=1e-5, rtol=0)
    torch.compiler.reset()
