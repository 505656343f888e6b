"""Which settings of generation are heeded: an answer is that of the original code, which generates from embeddings."""

from __future__ import annotations

import pytest
import torch

from stgraph import StgraphError, STSimDiff, VideoQA, read_video

from ..clips import write_clip
from ..models.folders import tiny_folder

FRAMES, NEW = 6, 24


@pytest.fixture(scope="module", params=["llava_video", "qwen2_5_vl", "llava_onevision"])
def qa(request, tmp_path_factory):
    folder = tiny_folder(tmp_path_factory.mktemp(request.param), request.param)
    return VideoQA.from_pretrained(folder, None, sampling={"frames": FRAMES}, max_new_tokens=NEW)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", 30)


@torch.no_grad()
def from_embeddings(qa, clip, question, **options):
    """What the model generates from the embeddings of the prompt, which have no ids."""
    inputs = qa.prompt(read_video(clip, frames=FRAMES), question)
    seen = {}

    def look(module, args, kwargs):
        seen.setdefault("inputs_embeds", kwargs["inputs_embeds"])
        seen.setdefault("position_ids", kwargs["position_ids"])

    decoder = qa.engine.adapter.language_model(qa.model)
    handle = decoder.register_forward_pre_hook(look, with_kwargs=True)
    qa.model.generate(**inputs, max_new_tokens=1, do_sample=False)
    handle.remove()
    out = qa.model.generate(
        inputs_embeds=seen["inputs_embeds"],
        attention_mask=inputs["attention_mask"],
        position_ids=seen["position_ids"],
        max_new_tokens=NEW,
        do_sample=False,
        **options,
    )
    return qa.prompt.words(out[0])


@pytest.mark.parametrize(
    "options",
    [{"repetition_penalty": 1.6}, {"no_repeat_ngram_size": 2}, {"repetition_penalty": 0.8, "min_new_tokens": 9}],
)
@pytest.mark.filterwarnings("ignore:Passing")
def test_only_new_tokens_count_as_repeated(qa, clip, options):
    question = "Which?\nA. the one\nB. the other\nC. none\nAnswer with the option's letter."
    expected = from_embeddings(qa, clip, question, **options)
    answer = qa(clip, question, **options)
    assert answer.text == expected
    with qa.video(clip) as session:
        session.ask("What?")
        assert session.ask(question, **options).text == expected
    counted = qa.model.generate(**qa.prompt(answer.video, question), max_new_tokens=NEW, do_sample=False, **options)
    plain = qa(clip, question).text
    assert expected != plain or qa.prompt.words(counted[0, answer.report.prompt :]) != plain, "the setting matters"


@pytest.mark.filterwarnings("ignore:Passing")
def test_a_penalty_of_the_folder_is_heeded_alike(qa, clip, monkeypatch):
    plain = qa(clip, "What?").text
    expected = from_embeddings(qa, clip, "What?", repetition_penalty=1.9)
    monkeypatch.setattr(qa.model.generation_config, "repetition_penalty", 1.9)
    assert qa(clip, "What?").text == expected
    assert qa(clip, "What?", repetition_penalty=1.0).text == plain
    selecting = VideoQA(qa.model, qa.prompt, STSimDiff(retention=0.5), sampling=qa.sampling, max_new_tokens=NEW)
    assert selecting(clip, "What?").text != selecting(clip, "What?", repetition_penalty=1.0).text


def test_processors_of_the_caller_come_too(qa, clip):
    seen = []
    answer = qa(clip, "What?", repetition_penalty=1.5, logits_processor=[lambda ids, s: seen.append(ids.shape) or s])
    assert len(seen) == answer.report.generated


def test_what_samples_needs_no_word_when_nothing_is_sampled(qa, clip, monkeypatch):
    plain = qa(clip, "What?").text
    for name, value in {"temperature": 0.3, "top_p": 0.2, "top_k": 3}.items():
        monkeypatch.setattr(qa.model.generation_config, name, value)
    assert qa(clip, "What?").text == plain


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens must be a whole number ≥ 1"),
        ({"repetition_penalty": -1.0}, "repetition_penalty must be a number > 0"),
        ({"no_repeat_ngram_size": 1.5}, "no_repeat_ngram_size must be a whole number ≥ 0"),
        ({"num_return_sequences": 2, "do_sample": True}, "num_return_sequences must be 1: a question has one answer"),
        ({"temprature": 0.5}, "'temprature' is no argument of generate; did you mean 'temperature'"),
        ({"no_such": 3}, "'no_such' is no argument of generate"),
    ],
)
def test_numbers_out_of_range(qa, clip, options, sentence):
    with pytest.raises(StgraphError, match=sentence):
        qa(clip, "What?", **options)
