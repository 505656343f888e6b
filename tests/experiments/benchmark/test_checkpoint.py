"""The checkpoint that ships: small, whole, and it answers."""

from __future__ import annotations

import dataclasses
import json
import shutil
from itertools import pairwise
from pathlib import Path

import pytest

from experiments.benchmark.answering import CHECKPOINT, Reader
from experiments.benchmark.curve import draw, join, read
from experiments.benchmark.splits import load_clip
from stgraph import StgraphError, STSimDiff

TRAINING = CHECKPOINT.parent / "training"


@pytest.fixture(scope="module")
def reader() -> Reader:
    return Reader.from_pretrained(CHECKPOINT)


def test_it_is_small_and_whole() -> None:
    assert sum(path.stat().st_size for path in CHECKPOINT.glob("*.safetensors")) < 20e6
    names = {path.name for path in CHECKPOINT.iterdir()}
    assert {"config.json", "tokenizer.json", "video_preprocessor_config.json", "preprocessor_config.json"} <= names


def test_it_answers_far_above_chance(reader: Reader) -> None:
    right, chance = [], []
    for number in range(5):
        clip, questions = load_clip("validation", number)
        right += [one.correct for one in reader.answer(clip, questions)]
        chance += [1 / len(one.options) for one in questions]
    assert sum(right) / len(right) > sum(chance) / len(chance) + 0.4


def test_it_answers_in_words(reader: Reader) -> None:
    clip, questions = load_clip("quick", 0)
    question = questions[0]
    qa = dataclasses.replace(reader.qa, selector=STSimDiff(retention=0.5), max_new_tokens=4)
    assert len(qa(clip.video, question.text).text.split()) == 1


def test_a_checkpoint_that_does_not_fit_its_config_is_told(tmp_path: Path) -> None:
    shutil.copytree(CHECKPOINT, tmp_path / "other")
    path = tmp_path / "other" / "config.json"
    config = json.loads(path.read_text())
    config["text_config"]["hidden_size"] = 160
    path.write_text(json.dumps(config))
    with pytest.raises(StgraphError, match="has other shapes for"):
        Reader.from_pretrained(tmp_path / "other")


def test_its_training_can_be_looked_at(tmp_path: Path) -> None:
    lines = join([read(log) for log in sorted(TRAINING.glob("log-*.jsonl"))])
    assert lines[-1]["step"] > 2000
    assert all(a["step"] < b["step"] for a, b in pairwise(lines))
    draw(lines, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").stat().st_size > 10_000


def test_runs_count_on_where_they_begin_anew() -> None:
    def run(*lines: tuple[float, float]) -> list[dict[str, float]]:
        return [{"step": step, "seconds": seconds} for step, seconds in lines]

    joined = join([run((20, 5), (40, 9)), run((20, 6), (40, 11)), run((60, 3), (80, 7))])
    assert [(line["step"], line["seconds"]) for line in joined] == [
        (20, 5), (40, 9), (60, 15), (80, 20), (100, 23), (120, 27)
    ]  # fmt: skip


def test_what_was_trained_again_after_a_stop_counts_once(tmp_path: Path) -> None:
    steps = [20, 40, 60, 40, 60, 80]
    lines = [{"step": step, "rate": number, "frames": 8, "seconds": step} for number, step in enumerate(steps)]
    text = "".join(json.dumps(line) + "\n" for line in lines) + json.dumps({"step": 60, "validation": {}}) + "\n"
    (tmp_path / "log.jsonl").write_text(text)
    found = read(tmp_path / "log.jsonl")
    assert [line["rate"] for line in found] == [0, 3, 4, 5]
