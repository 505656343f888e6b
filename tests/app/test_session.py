"""Sessions: what is asked in one is what is asked singly, and the video is worked on once."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import pytest
import torch
from PIL import Image

from stgraph import StgraphError, STSimDiff, Video, VideoQA, read_video

from ..clips import write_clip
from ..models.folders import tiny_folder

FRAMES = 8
QUESTIONS = ["What happens?", "Why is that so, do you think?", "Who?"]


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", 30)


@pytest.fixture(scope="module", params=["qwen2_5_vl", "llava_onevision", "llava_video"])
def whole(request, tmp_path_factory):
    folder = tiny_folder(tmp_path_factory.mktemp(request.param), request.param)
    return VideoQA.from_pretrained(folder, None, sampling={"frames": FRAMES}, max_new_tokens=6)


@pytest.fixture(scope="module")
def qwen(tmp_path_factory):
    folder = tiny_folder(tmp_path_factory.mktemp("qwen"), "qwen2_5_vl")
    return VideoQA.from_pretrained(folder, None, sampling={"frames": FRAMES}, max_new_tokens=6)


def answering(whole, selector, **settings):
    return VideoQA(whole.model, whole.prompt, selector, sampling=whole.sampling, max_new_tokens=6, **settings)


class Counter:
    """How often something was called."""

    def __init__(self):
        self.calls = 0

    def __call__(self, *_):
        self.calls += 1


@dataclass(frozen=True, kw_only=True)
class Counting(STSimDiff):
    """Says when it selects."""

    count: Counter

    def __call__(self, tokens, signals=None):
        self.count()
        return super().__call__(tokens, signals)


def tower_calls(qa, counter):
    return qa.engine.adapter.vision_attention(qa.model).register_forward_hook(counter)


@pytest.mark.parametrize("trim", [None, "before", "inside"])
def test_answers_are_those_of_single_questions(whole, clip, trim):
    selected, encoded = Counter(), Counter()
    selector = None if trim is None else Counting(retention=0.3, count=selected)
    qa = answering(whole, selector, trim=trim)
    single = [qa(clip, question) for question in QUESTIONS]
    choice = qa.choose(clip, QUESTIONS[0], ["a", "b", "c"])
    selected.calls = 0
    handle = tower_calls(qa, encoded)
    with qa.video(clip) as session:
        asked = [session.ask(question) for question in QUESTIONS]
        together = session.ask_all(QUESTIONS)
        again = session.choose(QUESTIONS[0], ["a", "b", "c"])
    handle.remove()
    assert encoded.calls == 1
    assert selected.calls == (1 if trim == "before" else 0), "inside, it has rounds"
    for alone, one, of_all in zip(single, asked, together, strict=True):
        assert alone.text == one.text == of_all.text
        assert alone.question == one.question == of_all.question
        assert alone.report.prompt == one.report.prompt
        assert alone.report.kept == one.report.kept
        if trim is not None:
            assert alone.selection.digest == one.selection.digest == of_all.selection.digest
    assert again.probabilities == pytest.approx(choice.probabilities, abs=1e-5)
    assert again.letter == "ABC"[choice.index]
    if trim != "inside":
        assert session.seconds["prefill"] > 0
        assert all(answer.report.seconds["encoder"] == 0 for answer in asked)
        once = session.seconds["encoder"] + session.seconds["prefill"] + session.seconds["selection"]
        assert once > 0


def test_logits_in_a_session_are_those_of_the_whole_prompt(whole, clip):
    qa = answering(whole, STSimDiff(retention=0.3))
    seen = read_video(clip, frames=FRAMES)
    kept = {"output_logits": True, "return_dict_in_generate": True, "max_new_tokens": 4, "do_sample": False}
    with qa.video(seen) as session:
        session.ask(QUESTIONS[0])  # from here on there is a common beginning
        for question in QUESTIONS:
            inputs = qa.prompt(seen, question)
            plain = qa.model.generate(**inputs, **kept)  # attached for as long as the session lasts
            mine = []
            session.ask(
                question, logits_processor=[lambda ids, scores, mine=mine: mine.append(scores.clone()) or scores]
            )
            del mine[4:]
            suppressed = qa.model.generation_config.suppress_tokens or []
            for own, logits in zip(mine, plain.logits, strict=False):
                told = [i for i in range(own.shape[1]) if i not in suppressed]
                torch.testing.assert_close(own[:, told], logits[:, told], atol=1e-4, rtol=0)


def test_a_conversation(whole, clip):
    qa = answering(whole, STSimDiff(retention=0.3))
    with qa.video(clip) as session:
        first = session.ask(QUESTIONS[0])
        second = session.ask("And then?", history=[first])
        third = session.ask("Why?", history=[first, (second.question, second.text)])
    assert second.text == qa(clip, "And then?", history=[first]).text
    assert second.report.prompt > first.report.prompt
    assert third.report.prompt > second.report.prompt
    ids = qa.prompt.ask(qa.prompt.see(first.video), [(QUESTIONS[0], "It ends."), ("And then?", None)])["input_ids"][0]
    said = qa.prompt.tokenizer.decode(ids)
    assert said.index(QUESTIONS[0]) < said.index("It ends.") < said.index("And then?")
    with qa.video(clip) as session, pytest.raises(StgraphError, match="pairs of a question and its answer"):
        session.ask("And then?", history=["What?"])


def test_a_system_prompt(whole, clip):
    system = "Answer in one word."
    qa = answering(whole, STSimDiff(retention=0.3), system=system)
    other = answering(whole, STSimDiff(retention=0.3))
    assert qa(clip, "Who?").report.prompt != other(clip, "Who?").report.prompt
    seen = qa.prompt.see(read_video(clip, frames=FRAMES))
    said = qa.prompt.tokenizer.decode(qa.prompt.ask(seen, [("Who?", None)], system=system)["input_ids"][0])
    assert said.count("<|im_start|>system") == 1
    assert system in said
    with other.video(clip, system=system) as session:
        asked = session.ask("Who?").text
    assert asked == qa(clip, "Who?").text == other(clip, "Who?", system=system).text


def test_text_comes_piece_by_piece(whole, clip):
    qa = answering(whole, STSimDiff(retention=0.3))
    pieces: list[str] = []
    answer = qa(clip, QUESTIONS[0], on_text=pieces.append, max_new_tokens=20)
    assert "".join(pieces) == answer.text == qa(clip, QUESTIONS[0], max_new_tokens=20).text
    assert len(pieces) > 1
    with qa.video(clip) as session:
        again: list[str] = []
        session.ask(QUESTIONS[0])
        session.ask(QUESTIONS[0], on_text=again.append, max_new_tokens=20)
    assert "".join(again) == answer.text
    with pytest.raises(StgraphError, match="num_beams > 1"):
        qa(clip, QUESTIONS[0], on_text=pieces.append, num_beams=2)


def test_ways_to_generate_that_start_anew(whole, clip):
    """Beams and prompt lookup do not go on from the shared cache, and are the same in a session."""
    qa = answering(whole, STSimDiff(retention=0.3))
    with qa.video(clip) as session:
        session.ask(QUESTIONS[0])
        for options in ({"num_beams": 2}, {"prompt_lookup_num_tokens": 2}, {"use_cache": False}):
            assert session.ask(QUESTIONS[1], **options).text == qa(clip, QUESTIONS[1], **options).text


@pytest.mark.parametrize("trim", [None, "before", "inside"])
def test_threads_share_one(whole, clip, trim):
    qa = answering(whole, None if trim is None else STSimDiff(retention=0.3), trim=trim)
    other = read_video(clip, frames=6, start=0.2)
    qa(clip, QUESTIONS[0])
    before = set(vars(qa.model)), set(vars(qa.model.base_model))
    jobs = [(clip, QUESTIONS[0]), (other, QUESTIONS[1]), (clip, QUESTIONS[2]), (other, QUESTIONS[0])]
    expected = [qa(video, question) for video, question in jobs]
    found: dict[tuple[int, int], object] = {}

    def work(number):
        for turn in range(len(jobs)):
            job = (number + turn) % len(jobs)
            found[number, turn] = (job, qa(*jobs[job]))

    def talk():
        for turn in range(4):
            found[9, turn] = (turn % 2 * 2, session.ask(QUESTIONS[turn % 2 * 2]))

    with qa.video(clip) as session:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
        threads += [threading.Thread(target=talk)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(found) == 16
    for job, answer in found.values():
        assert answer.text == expected[job].text
        assert answer.report.kept == expected[job].report.kept
        assert answer.report.frames == expected[job].report.frames
        if trim is not None:
            assert answer.selection.digest == expected[job].selection.digest
    assert (set(vars(qa.model)), set(vars(qa.model.base_model))) == before


def test_several_videos_in_one_batch(whole, clip):
    qa = answering(whole, STSimDiff(retention=0.3))
    videos = [clip, read_video(clip, frames=FRAMES, start=0.3), clip]
    expected = [qa(video, question) for video, question in zip(videos, QUESTIONS, strict=True)]
    found = qa.ask_all(videos, QUESTIONS)
    for alone, one in zip(expected, found, strict=True):
        assert alone.text == one.text
        assert alone.selection.digest == one.selection.digest
        assert alone.report.prompt_kept == one.report.prompt_kept
    uneven = [clip, read_video(clip, frames=6)]
    found = qa.ask_all(uneven, QUESTIONS[:2])
    assert [one.text for one in found] == [qa(v, q).text for v, q in zip(uneven, QUESTIONS, strict=False)]
    with pytest.raises(StgraphError, match="one question for each of 2 videos, got 1"):
        qa.ask_all(videos[:2], ["What?"])


def test_nothing_is_left_on_the_model(whole, clip):
    qa = answering(whole, STSimDiff(retention=0.3))

    def state():
        hooks = [(name, len(m._forward_hooks), len(m._forward_pre_hooks)) for name, m in qa.model.named_modules()]
        return hooks, set(vars(qa.model)), set(vars(qa.model.base_model))

    qa(clip, QUESTIONS[0])
    before = state()
    with qa.video(clip) as session:
        session.ask(QUESTIONS[0])
        assert state() != before
    assert state() == before
    with pytest.raises(ZeroDivisionError), qa.video(clip) as session:
        session.ask(QUESTIONS[0], on_text=lambda _: 1 / 0)
    assert state() == before
    with pytest.raises(StgraphError, match="ask inside its with block"):
        session.ask(QUESTIONS[0])


def test_a_method_that_reads_the_question_selects_for_each(qwen, clip):
    @dataclass(frozen=True, kw_only=True)
    class Reading(Counting):
        @property
        def reads_question(self):
            return True

    count = Counter()
    qa = answering(qwen, Reading(retention=0.3, count=count), trim="before")
    with qa.video(clip) as session:
        answers = [session.ask(question) for question in QUESTIONS]
    assert count.calls == 3
    assert [answer.text for answer in answers] == [qa(clip, question).text for question in QUESTIONS]


def test_images_beside_a_video(qwen, clip, tmp_path):
    qa = answering(qwen, STSimDiff(retention=0.3))
    picture = Image.effect_noise((40, 24), 90).convert("RGB")
    picture.save(tmp_path / "picture.png")
    alone = qa(clip, "Is it there?", images=[picture])
    seen = read_video(clip, frames=FRAMES)
    inputs = qa.prompt.ask(qa.prompt.see(seen), [("Is it there?", None)], images=[picture])
    assert int((inputs["mm_token_type_ids"] == 1).sum()) == int(inputs["image_grid_thw"].prod()) // 4
    with qa.selector.attach(qa.model), torch.no_grad():
        out = qa.model.generate(**inputs, max_new_tokens=6, do_sample=False)
    assert alone.text == qa.prompt.words(out[0, inputs["input_ids"].shape[1] :])
    with qa.video(clip) as session:
        plain = session.ask("Is it there?")
        again = session.ask("Is it there?", images=[tmp_path / "picture.png"])
    assert again.text == alone.text
    assert again.selection.digest == alone.selection.digest == plain.selection.digest
    assert again.report.prompt > plain.report.prompt
    with pytest.raises(StgraphError, match="images must be pictures or paths of picture files"):
        qa(clip, "Is it there?", images=["nowhere.png"])


def test_images_where_the_family_has_no_place_for_them(whole, clip):
    if whole.model.config.model_type.startswith("qwen"):
        return
    with pytest.raises(StgraphError, match="leave the images out"):
        whole(clip, "Is it there?", images=[Image.new("RGB", (8, 8))])


# -- bad input --------------------------------------------------------------------------------------------------------


def test_what_is_no_video(qwen, clip, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "picture.png")
    with pytest.raises(StgraphError, match=r"picture.png is a picture, and a video is expected"):
        qwen(tmp_path / "picture.png", "What?")
    with pytest.raises(StgraphError, match="got a list of 2; ask about one video at a time"):
        qwen([clip, clip], "What?")
    with pytest.raises(StgraphError, match="a video must be the path of a file or a Video, got Image"):
        qwen(Image.new("RGB", (8, 8)), "What?")


def test_what_is_no_question(qwen, clip):
    with pytest.raises(StgraphError, match="a question is one text, got 2 of them"):
        qwen(clip, ["What?", "Who?"])
    with qwen.video(clip) as session:
        with pytest.raises(StgraphError, match="a question is one text, got 2 of them"):
            session.ask(["What?", "Who?"])
        with pytest.raises(StgraphError, match="ask_all takes a list of questions"):
            session.ask_all("What?")
        with pytest.raises(StgraphError, match="2 to 26 options to choose from, got a single text"):
            session.choose("Which?", "AB")


def test_a_video_longer_than_the_context(whole, clip, monkeypatch):
    """How many tokens it has and how many frames fit is said before the model runs."""
    qa = answering(whole, STSimDiff(retention=0.3))
    config = qa.model.config.get_text_config()
    report = qa(clip, QUESTIONS[0]).report
    monkeypatch.setattr(qa.model, "forward", None)
    monkeypatch.setattr(config, "max_position_embeddings", report.prompt - 4)
    fits = 0
    if not whole.model.config.model_type.startswith("qwen"):  # whose videos take fewer places than tokens
        with pytest.raises(StgraphError, match=rf"has {report.prompt} tokens \({report.tokens} of them") as e:
            qa(clip, QUESTIONS[0])
        fits = int(str(e.value).split("at most ")[1].split()[0])
        assert 0 < fits < FRAMES
    monkeypatch.setattr(config, "max_position_embeddings", 10)
    with pytest.raises(StgraphError, match="longer than the model's context of 10 tokens"):
        qa(clip, QUESTIONS[0])
    with qa.video(clip) as session, pytest.raises(StgraphError, match="the model's context of 10 tokens"):
        session.ask(QUESTIONS[0])
    monkeypatch.undo()
    if fits:
        monkeypatch.setattr(config, "max_position_embeddings", report.prompt - 4)
        assert qa(read_video(clip, frames=fits), QUESTIONS[0]).report.frames == fits


def test_frames_that_a_model_cannot_take(tmp_path, clip):
    from stgraph.models.nvila import NvilaConfig

    folder = tiny_folder(tmp_path / "nvila", "nvila")
    qa = VideoQA.from_pretrained(folder, max_new_tokens=2)
    assert isinstance(qa.model.config, NvilaConfig)
    qa.model.config.pool_size = [4, 1, 1]
    with pytest.raises(StgraphError, match="give it a multiple of 4 frames"):
        qa(Video(torch.zeros(6, 3, 16, 16, dtype=torch.uint8), torch.arange(6.0).double()), "What?")
