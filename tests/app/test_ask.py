"""``stgraph ask`` on a real file, with a tiny random video LLM in a folder."""

from __future__ import annotations

import json
import sys

import pytest

from stgraph import Selection, VideoQA
from stgraph.app.config import resolve
from stgraph.app.config_file import load_config
from stgraph.sample import render_sample

from ..models.folders import tiny_folder
from .test_cli import fails, stgraph

QUESTION = "What happens?"


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return render_sample(tmp_path_factory.mktemp("clip") / "sample.mp4", size=(64, 96), fps=8).path


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_folder(tmp_path_factory.mktemp("models") / "qwen", "qwen2_5_vl")


def test_an_answer_with_its_report(clip, model, tmp_path):
    folder = tmp_path / "out"
    result = stgraph(
        "ask", clip, QUESTION, "retention=0.25", "selector=evs", "video.frames=12", "--model", model,
        "--max-new-tokens", 6, "--output", folder,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    record = json.loads((folder / "answer.json").read_text("utf-8"))
    report = record["report"]
    assert record["question"] == QUESTION
    assert record["model"] == str(model)
    assert report["trim"] == "before"
    assert report["kept"] == -(-report["tokens"] // 4)
    selection = Selection.load(folder)
    assert len(selection) == report["kept"]
    for word in (
        f"12 frames, {report['tokens']} tokens → {report['kept']} kept",
        "prefill",
        selection.digest,
        "report.html",
    ):
        assert word in result.stdout
    assert {"report.html", "frames.png", "overlay.mp4", "config.yaml"} <= {path.name for path in folder.iterdir()}

    config = resolve([], load_config(folder / "config.yaml"))
    again = VideoQA.from_pretrained(model, config.selector(), sampling=config.video, max_new_tokens=6)(clip, QUESTION)
    assert again.selection.digest == selection.digest
    assert again.text == record["answer"]

    fails("ask", clip, QUESTION, "--model", model, "-o", folder, sentence="already holds a run")


def test_only_the_answer(clip, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ("ask", clip, QUESTION, "video.frames=8", "--model", model, "--max-new-tokens", 5, "--trim", "inside")
    result = stgraph(*words, "--quiet")
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    assert all(letter.isprintable() or letter in "\n\t" for letter in result.stdout), "no escape codes of a model"
    assert stgraph(*words).stdout.startswith(result.stdout)
    assert list(tmp_path.iterdir()) == [], "nothing is written without --output"


def test_bad_input_is_one_sentence(clip, model, tmp_path):
    ask = ("ask", clip, QUESTION, "video.frames=4")
    fails("ask", clip, " ", "--model", model, sentence="the question is empty")
    fails(*ask, sentence="name its folder or model id with --model")
    fails("ask", tmp_path / "none.mp4", QUESTION, "--model", model, sentence="no such file")
    fails("ask", model / "config.json", QUESTION, "--model", model, sentence="not a video that FFmpeg can read")
    fails(*ask, "retentoin=0.3", "--model", model, sentence="did you mean 'retention'")
    fails(*ask, "encoder=descriptor", "--model", model, sentence="because the video LLM encodes the video itself")
    fails(*ask, "--model", model, "--trim", "outside", sentence="trim must be one of before, inside")
    fails(*ask, "--model", model, "--trim", "inside", "--layer", 99, sentence="layer must be a whole number")
    fails(*ask, "--model", model, "--device", "tpu", sentence="device must be auto or one of torch")
    fails(*ask, "--model", model, "--dtype", "int8", sentence="dtype must be one of auto, float32")
    fails(*ask, "--model", model, "--max-new-tokens", 0, sentence="max_new_tokens must be a whole number ≥ 1")


def test_bad_models_are_one_sentence(clip, model, tmp_path):
    ask = ("ask", clip, QUESTION, "--model")
    empty = tmp_path / "empty"
    empty.mkdir()
    fails(*ask, empty, sentence="config.json")
    (empty / "config.json").write_bytes((model / "config.json").read_bytes())
    fails(*ask, empty, sentence="safetensors")
    (empty / "config.json").write_text('{"model_type": "bert"}')
    fails(*ask, empty, sentence="'bert', which stgraph does not support")
    fails(*ask, tmp_path / "nowhere", sentence="give a folder")
    fails(*ask, "some/model-of-the-hub", sentence="give a folder")  # the tests are offline


def test_one_json_object(clip, model):
    words = ("ask", clip, QUESTION, "tokens=9", "video.frames=8", "--model", model, "--max-new-tokens", 4)
    result = stgraph(*words, "--json")
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    found = json.loads(result.stdout)
    assert result.stdout.count("\n") == 1
    assert found["question"] == QUESTION
    assert (found["frames"], found["kept"]) == (8, 9)
    assert found["prompt"] - found["tokens"] + 9 == found["prompt_kept"]
    assert set(found["seconds"]) == {"read", "prepare", "encoder", "selection", "prefill", "decode"}
    assert found["peak_memory"] > 2**20
    assert len(found["digest"]) == 16
    assert found["video"] == "sample.mp4"
    qa = VideoQA.from_pretrained(model, resolve(["tokens=9"]).selector(), sampling={"frames": 8}, max_new_tokens=4)
    answer = qa(clip, QUESTION)
    assert (found["answer"], found["digest"]) == (answer.text, answer.selection.digest)


def test_several_questions(clip, model, tmp_path):
    ask = ("ask", clip, "video.frames=8", "--model", model, "--max-new-tokens", 4)
    more = ("--question", QUESTION, "--question", "Who?")
    found = json.loads(stgraph(*ask, *more, "--json", "--output", tmp_path / "out").stdout)
    assert [one["question"] for one in found["answers"]] == [QUESTION, "Who?"]
    assert json.loads((tmp_path / "out" / "answer.json").read_text("utf-8"))["answers"] == found["answers"]
    assert len({one["digest"] for one in found["answers"]}) == 1
    printed = stgraph(*ask, *more).stdout
    texts = [
        "".join(letter if letter.isprintable() or letter in "\n\t" else "\ufffd" for letter in one["answer"])
        for one in found["answers"]
    ]
    assert printed.startswith(f"> {QUESTION}\n{texts[0]}\n> Who?\n{texts[1]}\n")
    first = stgraph("ask", clip, QUESTION, "video.frames=8", "--question", "Who?", *ask[3:], "--quiet").stdout
    assert printed.startswith(first)
    fails(*ask, *more, "--trim", "inside", "-o", tmp_path / "in", sentence="ask one question at a time")


def test_a_choice(clip, model):
    ask = ("ask", clip, "Which?", "video.frames=8", "--model", model, "--choose", "red", "--choose", "blue")
    found = json.loads(stgraph(*ask, "--json").stdout)
    assert found["answer"] == ["A. red", "B. blue"][found["index"]]
    assert found["letter"] == "AB"[found["index"]]
    assert sum(found["probabilities"]) == pytest.approx(1)
    printed = stgraph(*ask).stdout.splitlines()
    assert printed[0] == found["answer"]
    assert printed[1] == "  ".join(f"{x} {p:.1%}" for x, p in zip("AB", found["probabilities"], strict=True))
    fails(*ask[:-2], sentence="2 to 26 options to choose from, got 1")


def test_system_prompt_and_sampling(clip, model):
    ask = ("ask", clip, QUESTION, "video.frames=8", "--model", model, "--max-new-tokens", 12, "--json")
    plain, told = json.loads(stgraph(*ask).stdout), json.loads(stgraph(*ask, "--system", "Be brief.").stdout)
    assert told["prompt"] != plain["prompt"]
    drawn = [stgraph(*ask, "--temperature", 5, "--top-k", 50, "--seed", seed) for seed in (1, 1, 2)]
    texts = [json.loads(one.stdout)["answer"] for one in drawn]
    assert texts[0] == texts[1] != texts[2]
    punished = json.loads(stgraph(*ask, "--repetition-penalty", 1.8).stdout)
    qa = VideoQA.from_pretrained(model, sampling={"frames": 8}, max_new_tokens=12)
    assert punished["answer"] == qa(clip, QUESTION, repetition_penalty=1.8).text
    fails(
        *ask, "--top-p", 0.5, sentence="top_p only have an effect when tokens are sampled; add a --temperature above 0"
    )
    fails(*ask, "--temperature", -1, sentence="temperature must be a number ≥ 0")


def test_answers_come_piece_by_piece_on_a_terminal(clip, model, monkeypatch, capsys):
    from stgraph.app import asking
    from stgraph.app.commands.ask import _Printer, _safe

    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    printer = _Printer(shown=True, titled=False)
    assert printer.streams
    flushed = []
    monkeypatch.setattr(sys.stdout, "flush", lambda: flushed.append(1), raising=False)
    qa = VideoQA.from_pretrained(model, sampling={"frames": 8}, max_new_tokens=8)
    with qa.video(clip) as session:
        (answer,) = asking.ask_all(session, [QUESTION], [], {}, printer)
    printed = capsys.readouterr().out
    assert printed == _safe(answer.text) + "\n"
    assert len(flushed) > 1
