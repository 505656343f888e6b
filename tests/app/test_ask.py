"""``stgraph ask`` on a real file, with a tiny random video LLM in a folder."""

from __future__ import annotations

import json

import pytest

from stgraph import Selection, VideoQA
from stgraph.app.config import load_config, resolve
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
    fails(*ask, "encoder=descriptor", "--model", model, sentence="the tokens are the video LLM's own")
    fails(*ask, "--model", model, "--trim", "outside", sentence="trim must be one of before, inside")
    fails(*ask, "--model", model, "--trim", "inside", "--layer", 99, sentence="layer must be a whole number")
    fails(*ask, "--model", model, "--device", "tpu", sentence="device must be one of auto, cpu, cuda")
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
    fails(*ask, empty, sentence="'bert', which is no video LLM")
    fails(*ask, tmp_path / "nowhere", sentence="give a folder")
    fails(*ask, "some/model-of-the-hub", sentence="give a folder")  # the tests are offline
