"""The small video LLM: transformers' own, asked by the project's own means."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import pytest
import torch

from experiments.benchmark import model as small
from experiments.benchmark.answering import Reader
from experiments.benchmark.painting import Clip, paint
from experiments.benchmark.questions import Question, ask
from experiments.benchmark.script import Knobs, write_script
from experiments.benchmark.sequence import END, encode_text, logits, pack, use_packed_attention
from experiments.benchmark.tower import encode, patches
from stgraph import Selector, StgraphError, STSimDiff, VideoQA
from stgraph.models.flops import Decoder
from stgraph.selectors.uniform import UniformSelector

KNOBS = Knobs(frames=8, side=96)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    small.save(small.build(layers=2), path, dtype=torch.float32)
    return path


@pytest.fixture(scope="module")
def reader(folder: Path) -> Reader:
    return Reader.from_pretrained(folder)


@pytest.fixture(scope="module")
def asked() -> tuple[Clip, list[Question]]:
    clip = paint(write_script("model", KNOBS))
    return clip, ask(clip)


def test_it_is_a_class_of_transformers(reader: Reader) -> None:
    assert type(reader.model).__module__ == "transformers.models.qwen3_vl.modeling_qwen3_vl"


def test_every_word_is_one_token() -> None:
    made = small.tokenizer()
    for token, number in small.vocabulary().items():
        assert made.encode(token) == [number]
    assert made.decode(made.encode("where is the top-left star 3.5")) == "where is the top-left star 3.5"
    assert made.encode("Where") == made.encode("where")


def test_patches_are_those_of_the_processor(reader: Reader, asked: tuple[Clip, list[Question]]) -> None:
    made = reader.qa.prompt(asked[0].video, "where is the star")
    pixels, grid = patches(torch.from_numpy(asked[0].frames))
    torch.testing.assert_close(pixels, made["pixel_values_videos"])
    assert grid.tolist() == made["video_grid_thw"].tolist() == [[8, 12, 12]]


@torch.no_grad()
def test_many_questions_in_one_sequence_are_answered_as_alone(
    reader: Reader, asked: tuple[Clip, list[Question]]
) -> None:
    clip, questions = asked
    tokens = encode(reader.model, torch.from_numpy(clip.frames))[None].repeat(2, 1, 1, 1, 1)
    packed = pack(reader.model, tokens, KNOBS.fps, [questions[:3], questions[3:9]])
    together, behind = logits(reader.model, packed)
    alone, ending = [], []
    for question in questions[:9]:
        inputs = reader.qa.prompt(clip.video, question.text)
        assert inputs["input_ids"][0, -len(encode_text(question)) :].tolist() == encode_text(question)
        alone.append(reader.model(**inputs).logits[0, -1])
        inputs = reader.qa.prompt(clip.video, question.text)
        answer = torch.tensor([[small.vocabulary()[question.word]]])
        inputs["input_ids"] = torch.cat([inputs["input_ids"], answer], 1)
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        inputs["mm_token_type_ids"] = torch.cat([inputs["mm_token_type_ids"], torch.zeros_like(answer).int()], 1)
        ending.append(reader.model(**inputs).logits[0, -1])
    torch.testing.assert_close(together, torch.stack(alone), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(behind, torch.stack(ending), atol=1e-5, rtol=1e-4)
    model = copy.deepcopy(reader.model)
    use_packed_attention(model)
    torch.testing.assert_close(logits(model, packed)[0], together, atol=1e-5, rtol=1e-4)
    assert packed.answers.tolist() == [small.vocabulary()[question.word] for question in questions[:9]]
    assert small.vocabulary()["<|im_end|>"] == END


SELECTORS = [None, STSimDiff(retention=0.2), "fastv", "visionzip", "fastvid", "framefusion", "random"]


@pytest.mark.parametrize("selector", SELECTORS, ids=str)
def test_answers_are_those_of_video_qa(
    reader: Reader, asked: tuple[Clip, list[Question]], selector: Selector | str | None
) -> None:
    from stgraph.selectors import SELECTORS as REGISTERED

    clip, questions = asked
    if isinstance(selector, str):
        selector = REGISTERED.get(selector)(retention=0.2)
    outcomes = reader.answer(clip, questions, selector)
    qa = dataclasses.replace(reader.qa, selector=selector, max_new_tokens=1)
    for question, outcome in zip(questions[:4], outcomes, strict=False):
        found = qa(clip.video, question.text, output_logits=True, return_dict_in_generate=True)
        assert outcome.kept == found.report.kept
    inputs = reader.qa.prompt(clip.video, questions[0].text)
    where = None if selector is None else selector.attach(reader.model)
    with torch.no_grad():
        if where is None:
            row = reader.model(**inputs).logits[0, -1]
        else:
            with where:
                row = reader.model(**inputs).logits[0, -1]
    ids = [small.vocabulary()[option] for option in questions[0].options]
    expected = row[ids].float().softmax(0)
    torch.testing.assert_close(torch.tensor(outcomes[0].probabilities), expected, atol=1e-5, rtol=1e-4)


def test_the_model_is_left_as_it_was(reader: Reader, asked: tuple[Clip, list[Question]]) -> None:
    reader.answer(*asked, STSimDiff(retention=0.2))
    assert "get_video_features" not in vars(reader.model.model)
    assert "generate" not in vars(reader.model)


def test_clips_one_after_the_other(reader: Reader, asked: tuple[Clip, list[Question]]) -> None:
    other = paint(write_script("another", KNOBS))
    first = reader.answer(*asked)
    reader.answer(other, ask(other)[:2])
    assert reader.answer(*asked) == first
    assert reader.answer(other, []) == []


def test_what_selectors_get_is_handed_out(reader: Reader, asked: tuple[Clip, list[Question]]) -> None:
    clip, questions = asked
    tokens, signals = reader.tokens(clip)
    expected = encode(reader.model, torch.from_numpy(clip.frames)).detach()
    torch.testing.assert_close(tokens.features, expected.flatten(0, 2), atol=1e-5, rtol=1e-4)
    assert tuple(tokens.grids[0]) == (8, 6, 6)
    assert signals.encoder_attention is not None
    selector = STSimDiff(retention=0.2)
    reader.answer(clip, questions, selector)
    assert reader.selection is not None
    assert reader.selection.indices.tolist() == selector(tokens, signals).indices.tolist()
    assert reader.seconds["selection"] > 0
    assert reader.seconds["prefill"] > 0
    reader.answer(clip, questions)
    assert reader.selection is None
    assert reader.seconds["selection"] == 0


def test_flops_follow_from_the_tokens_of_each_layer(reader: Reader, asked: tuple[Clip, list[Question]]) -> None:
    decoder = Decoder.of(reader.model.config.get_text_config())
    clip, questions = asked
    reader.answer(clip, questions)
    frames = len(clip.frames)
    whole = 3 * frames + 36 * frames  # time, start and end of each frame, and its tokens
    assert reader.flops == decoder.prefill([whole] * decoder.layers)
    reader.answer(clip, questions, UniformSelector(retention=0.25))
    assert reader.flops == decoder.prefill([3 * frames + 9 * frames] * decoder.layers)
    reader.answer(clip, questions, UniformSelector(retention=0.25), trim="inside", layer=1)
    inside = reader.flops
    assert decoder.prefill([12 * frames] * decoder.layers) < inside < decoder.prefill([whole + 9] * decoder.layers)


def test_the_digest_is_that_of_the_weights(reader: Reader, folder: Path, tmp_path: Path) -> None:
    assert Reader.from_pretrained(folder).digest == reader.digest
    small.save(small.build(1, layers=2), tmp_path, dtype=torch.float32)
    assert Reader.from_pretrained(tmp_path).digest != reader.digest


def test_unknown_words_are_told(reader: Reader, asked: tuple[Clip, list[Question]]) -> None:
    clip, questions = asked
    with pytest.raises(StgraphError, match="does not know all words of 'who won'"):
        reader.answer(clip, [questions[0]._replace(text="who won")])
    with pytest.raises(StgraphError, match="does not know all words of 'zebra'"):
        reader.answer(clip, [questions[0]._replace(options=("star", "zebra"))])


def test_the_folder_survives_a_question_in_words(folder: Path, asked: tuple[Clip, list[Question]]) -> None:
    qa = VideoQA.from_pretrained(folder, STSimDiff(retention=0.5), max_new_tokens=2)
    assert qa(asked[0].video, "what flashed").report.kept == 144
