"""Experiments scored by a whole video LLM: a tiny one, on questions in a file."""

from __future__ import annotations

import json

import pytest

from experiments import ablation, answers
from experiments.clips import Source, load
from stgraph import StgraphError, STSimDiff, VideoQA
from stgraph.app.config import resolve
from stgraph.selectors import SELECTORS

from ..clips import write_clip
from ..models.folders import tiny_folder

OPTIONS = ["a cat", "a dog", "a bird"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_folder(tmp_path_factory.mktemp("model"), "qwen2_5_vl")


@pytest.fixture
def named(folder, tmp_path, monkeypatch):
    """A clip, and questions about it that the environment names with the model."""
    clip = write_clip(tmp_path / "street.mp4", 30)
    rows = [
        {"video": "elsewhere/street.mp4", "question": "Who stops?", "options": OPTIONS, "answer": "a dog"},
        {"video": "street.mp4", "question": "Who runs?", "options": OPTIONS, "answer": "C"},
        {"video": "other.mp4", "question": "Who?", "options": OPTIONS, "answer": "A"},
    ]
    (tmp_path / "questions.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    monkeypatch.setenv(answers.MODEL, str(folder))
    monkeypatch.setenv(answers.QUESTIONS, str(tmp_path / "questions.jsonl"))
    return clip


def test_figures_are_those_of_the_choices(named, folder):
    clip = load(Source("street", path=str(named)), resolve(["video.frames=8"]))
    selector = STSimDiff(retention=0.3)
    figures = answers.accuracy(clip, selector)
    qa = VideoQA.from_pretrained(folder, selector)
    choices = [qa.choose(clip.video, question, OPTIONS) for question in ("Who stops?", "Who runs?")]
    assert figures["accuracy"] == sum(c.index == right for c, right in zip(choices, (1, 2), strict=True)) / 2
    assert figures["confidence"] == pytest.approx((choices[0].probabilities[1] + choices[1].probabilities[2]) / 2)
    assert figures["prefill"] > 0


def test_an_ablation_by_a_model(named, tmp_path):
    output = tmp_path / "out"
    ablation.run([
        "study=paper", "rendered=[]", f"videos=[{named}]", "retention=0.3", "video.frames=8", "jobs=1",
        "score=experiments.answers:accuracy", "shown=[accuracy,confidence]", f"output={output}",
    ])  # fmt: skip
    results = json.loads((output / "results.json").read_text("utf-8"))["results"]
    assert results
    assert all(row["figures"]["accuracy"] in (0, 0.5, 1) for row in results), "of two questions"
    assert len({row["figures"]["confidence"] for row in results}) > 1, "rows keep different tokens"


def test_what_is_missing_is_said(named, tmp_path, monkeypatch):
    clip = load(Source("street", path=str(named)), resolve(["video.frames=4"]))
    with pytest.raises(StgraphError, match="no question about nowhere; name only clips"):
        answers.accuracy(clip._replace(name="nowhere"), SELECTORS.build("random"))
    for line in ("{", '{"video": "a"}', json.dumps({"video": "a", "question": "?", "options": ["x"], "answer": "B"})):
        path = tmp_path / f"{len(line)}.jsonl"
        path.write_text(line)
        monkeypatch.setenv(answers.QUESTIONS, str(path))
        with pytest.raises(StgraphError, match=r"line 1 of .* is no question"):
            answers.accuracy(clip, SELECTORS.build("random"))
    monkeypatch.setenv(answers.QUESTIONS, str(tmp_path / "none.jsonl"))
    with pytest.raises(StgraphError, match="cannot be read"):
        answers.accuracy(clip, SELECTORS.build("random"))
    monkeypatch.delenv(answers.QUESTIONS)
    with pytest.raises(StgraphError, match="name it in the environment: STGRAPH_QUESTIONS="):
        answers.accuracy(clip, SELECTORS.build("random"))
