"""Questions about videos, answered by tiny random video LLMs: the words are noise, the way to them is real."""

from __future__ import annotations

import json
import time
from contextlib import nullcontext
from dataclasses import dataclass

import pytest
import torch

from stgraph import StgraphError, STSimDiff, VideoQA, read_video
from stgraph.app.ask import STAGES, save_answer, selector_settings
from stgraph.app.config import resolve
from stgraph.budget import ceil_share
from stgraph.models.adapter import adapter_of
from stgraph.registry import registry
from stgraph.tokens import Grid

from ..clips import write_clip
from ..models.folders import tiny_folder

QUESTION = "What happens?"
FRAMES = 8


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", 30)


@pytest.fixture(scope="module", params=["qwen2_5_vl", "llava_onevision", "llava_video"])
def folder(request, tmp_path_factory):
    return tiny_folder(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def whole(folder, clip):
    """Without a selector, and past its first answer, at which transformers puts hooks of its own into some models."""
    qa = VideoQA.from_pretrained(folder, None, sampling={"frames": FRAMES}, max_new_tokens=5)
    qa(clip, QUESTION)
    return qa


def answering(whole, selector, **settings):
    return VideoQA(whole.model, whole.prompt, selector, sampling=whole.sampling, max_new_tokens=5, **settings)


def hooks(model):
    return [
        (name, kind, list(getattr(module, kind).values()))
        for name, module in model.named_modules()
        for kind in ("_forward_hooks", "_forward_pre_hooks", "_forward_hooks_always_called")
    ]


def generated(qa, clip):
    """The words of ``generate`` alone, with and without the selector."""
    inputs = qa.prompt(read_video(clip, frames=FRAMES), QUESTION)
    with qa.selector.attach(qa.model, trim=qa.trim) if qa.selector else nullcontext(), torch.no_grad():
        out = qa.model.generate(**inputs, max_new_tokens=5, do_sample=False)
    return qa.prompt.words(out[0, inputs["input_ids"].shape[1] :])


@pytest.mark.parametrize("trim", ["before", "inside"])
def test_the_answer_is_that_of_the_model_with_the_selector(whole, clip, trim):
    qa = answering(whole, STSimDiff(retention=0.3), trim=trim)
    before = hooks(qa.model), dict(vars(qa.model))
    start = time.perf_counter()
    answer = qa(clip, QUESTION)
    spent = time.perf_counter() - start
    assert (hooks(qa.model), dict(vars(qa.model))) == before
    assert answer.text == generated(qa, clip)
    report, selection = answer.report, answer.selection
    separators = int((qa(clip, QUESTION, keep_tokens=True).tokens.separator).sum())
    assert report.tokens == len(selection.verdict)
    assert report.kept == ceil_share(0.3, report.tokens - separators) + ceil_share(0.3, separators)
    assert report.frames == FRAMES
    assert report.generated <= 5
    assert report.prompt > report.tokens
    assert list(report.seconds) == list(STAGES)
    assert min(report.seconds.values()) > 0
    assert 0.2 * spent < sum(report.seconds.values()) <= spent
    assert report.peak_memory > 2**20
    assert (report.device, report.dtype) == ("cpu", "float32")


def test_without_a_selector_the_model_sees_everything(whole, clip):
    answer = whole(clip, QUESTION)
    assert answer.selection is None
    assert answer.report.kept == answer.report.tokens
    assert answer.text == generated(whole, clip)
    assert answer.text == answering(whole, STSimDiff(retention=1.0))(clip, QUESTION).text


def test_frames_that_were_read_already(whole, clip):
    qa = answering(whole, STSimDiff(retention=0.3))
    video = read_video(clip, frames=FRAMES)
    assert qa(video, QUESTION).selection.digest == qa(clip, QUESTION).selection.digest


def test_tokens_are_those_that_the_selection_was_made_of(whole, clip):
    # By novelty, which needs the tokens alone; else the vision tower's attention would have its say.
    qa = answering(whole, registry("selector").build({"name": "simdiff", "retention": 0.4, "importance": "novelty"}))
    answer = qa(clip, QUESTION, keep_tokens=True)
    assert qa.selector(answer.tokens).digest == answer.selection.digest
    assert qa(clip, QUESTION).tokens is None


def test_an_adapter_can_be_given(whole, clip):
    class Turned(type(adapter_of(whole.model))):
        """Takes time for height."""

        def layouts(self, model, inputs):
            layouts = super().layouts(model, inputs)
            return [one._replace(grid=Grid(one.grid[1], one.grid[0], one.grid[2]), patches=None) for one in layouts]

    selector = registry("selector").build({"name": "simdiff", "retention": 0.4, "importance": "novelty"})
    usual, turned = (
        answering(whole, selector, adapter=adapter)(clip, QUESTION, keep_tokens=True) for adapter in (None, Turned())
    )
    (frames, height, width), (grid,) = usual.tokens.grids[0], turned.tokens.grids
    assert grid == (height, frames, width) != usual.tokens.grids[0]
    assert selector(turned.tokens).digest == turned.selection.digest != usual.selection.digest


def test_generation_options_are_passed_on(whole, clip):
    qa = answering(whole, STSimDiff(retention=0.5))
    assert qa(clip, QUESTION, max_new_tokens=2).report.generated <= 2
    torch.manual_seed(0)
    sampled = {qa(clip, QUESTION, do_sample=True, temperature=3.0).text for _ in range(4)}
    assert len(sampled) > 1


@dataclass(frozen=True)
class Failing(STSimDiff):
    """Fails at the model's side of the fence."""

    def __call__(self, tokens, signals=None):
        raise RuntimeError("inside the selector")


def test_no_trace_after_an_exception(whole, clip):
    qa = answering(whole, Failing(retention=0.3))
    before = hooks(qa.model), dict(vars(qa.model))
    with pytest.raises(RuntimeError, match="inside the selector"):
        qa(clip, QUESTION)
    assert (hooks(qa.model), dict(vars(qa.model))) == before
    assert answering(whole, None)(clip, QUESTION).text == generated(whole, clip)


def test_stages_are_charged_for_what_they_do(whole, clip):
    """A selector that takes its time makes the selection longer, and not what comes before and after."""

    @dataclass(frozen=True)
    class Slow(STSimDiff):
        def __call__(self, tokens, signals=None):
            time.sleep(0.3)
            return super().__call__(tokens, signals)

    seconds = answering(whole, Slow(retention=0.3))(clip, QUESTION).report.seconds
    assert seconds["selection"] > 0.3
    assert max(seconds["encoder"], seconds["prefill"]) < seconds["selection"]


def test_everything_is_saved_or_nothing(whole, clip, tmp_path):
    config = selector_settings(resolve(["retention=0.4", f"video.frames={FRAMES}"]))
    qa = answering(whole, config.selector())
    answer = qa(clip, QUESTION, keep_tokens=True)
    save_answer(answer, QUESTION, tmp_path / "run", config, model="tiny")
    record = json.loads((tmp_path / "run" / "answer.json").read_text("utf-8"))
    assert record["question"] == QUESTION
    assert record["answer"] == answer.text
    assert record["model"] == "tiny"
    assert record["report"]["kept"] == answer.report.kept
    assert json.loads((tmp_path / "run" / "selection.json").read_text("utf-8"))["digest"] == answer.selection.digest
    steps = answer.tokens.grids[0].frames
    assert len(read_video(tmp_path / "run" / "overlay.mp4", stride=1)) == steps
    assert ("the model joins frames" in (tmp_path / "run" / "report.html").read_text("utf-8")) == (steps != FRAMES)
    with pytest.raises(StgraphError, match="ask with a selector and keep_tokens=True"):
        save_answer(qa(clip, QUESTION), QUESTION, tmp_path / "other", config)
    with pytest.raises(StgraphError, match="already holds a run"):
        save_answer(answer, QUESTION, tmp_path / "run", config)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_choice_is_the_likeliest_letter(whole, clip):
    qa = answering(whole, STSimDiff(retention=0.3))
    choice = qa.choose(clip, QUESTION, ["a cat", "a dog", "a bird"])
    asked = (
        f"{QUESTION}\nA. a cat\nB. a dog\nC. a bird\nAnswer with the option's letter from the given choices directly."
    )
    inputs = qa.prompt(read_video(clip, frames=FRAMES), asked)
    with qa.selector.attach(qa.model), torch.no_grad():
        logits = qa.model(**inputs).logits[0, -1]
    letters = [whole.prompt.tokenizer.convert_tokens_to_ids(letter) for letter in "ABC"]
    expected = logits[letters].softmax(0)
    assert choice.probabilities == pytest.approx(expected.tolist(), abs=1e-5)
    assert choice.index == int(expected.argmax())
    assert choice.report.generated == 1
    assert choice.selection.digest == qa(clip, asked).selection.digest
    with pytest.raises(StgraphError, match="the option 'red' is given twice"):
        whole.choose(clip, QUESTION, ["red", "blue", "red"])
    with pytest.raises(StgraphError, match="2 to 26 options to choose from, got 1"):
        qa.choose(clip, QUESTION, ["a cat"])
    with pytest.raises(StgraphError, match="the question is empty"):
        qa.choose(clip, "", ["a cat", "a dog"])


# -- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("question", ["", " \n"])
def test_no_question(whole, clip, question):
    with pytest.raises(StgraphError, match="the question is empty"):
        whole(clip, question)


def test_no_video(whole, tmp_path):
    with pytest.raises(StgraphError, match="no such file"):
        whole(tmp_path / "none.mp4", QUESTION)


def test_settings_out_of_range(whole):
    with pytest.raises(StgraphError, match="max_new_tokens must be a whole number ≥ 1"):
        VideoQA(whole.model, whole.prompt, max_new_tokens=0)
    with pytest.raises(StgraphError, match="trim must be one of before, inside"):
        VideoQA(whole.model, whole.prompt, trim="outside")
    with pytest.raises(StgraphError, match="layer must be"):
        VideoQA(whole.model, whole.prompt, trim="inside", layer=99)
    with pytest.raises(StgraphError, match=r"a setting of sampling must be one of frames, .* did you mean 'frames'"):
        VideoQA(whole.model, whole.prompt, sampling={"framez": 4})
    with pytest.raises(StgraphError, match="only be attached to a transformers model that generates"):
        VideoQA(torch.nn.Linear(2, 2), whole.prompt)


def test_device_and_dtype(folder):
    with pytest.raises(StgraphError, match="dtype must be one of auto, float32"):
        VideoQA.from_pretrained(folder, dtype="int8")
    with pytest.raises(StgraphError, match="device must be auto or one of torch"):
        VideoQA.from_pretrained(folder, device="tpu")
    half = VideoQA.from_pretrained(folder, dtype="bfloat16", device="cpu")
    assert half.model.dtype == torch.bfloat16
    assert half.selector == STSimDiff(retention=0.3)


def test_half_precision_answers(folder, clip):
    qa = VideoQA.from_pretrained(folder, dtype="bfloat16", device="cpu", sampling={"frames": 4}, max_new_tokens=3)
    assert qa(clip, QUESTION).report.dtype == "bfloat16"


def test_the_encoder_is_no_setting():
    with pytest.raises(StgraphError, match="because the video LLM encodes the video itself"):
        selector_settings(resolve(["encoder=descriptor"]), ["encoder=descriptor"])
    assert "encoder" not in selector_settings(resolve()).data
