"""Gates: what is withheld is withheld, and a forest finds what gives answers away."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments.benchmark import gates
from experiments.benchmark import model as small
from experiments.benchmark.answering import Reader
from experiments.benchmark.gates import GIVEN, Chosen, forest, outcomes, shuffled
from experiments.benchmark.painting import paint, unpainted
from experiments.benchmark.questions import Question, ask
from experiments.benchmark.script import Knobs, write_script
from stgraph import StgraphError, VideoTokens

KNOBS = Knobs(frames=8, side=96)


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    path = tmp_path_factory.mktemp("model")
    small.save(small.build(layers=2), path, dtype=torch.float32)
    return Reader.from_pretrained(path)


def test_chosen_tokens_are_kept_and_no_others() -> None:
    tokens = VideoTokens.from_grid(torch.randn(3, 4, 5, 8))
    for count in (1, 7, 59, 60):
        mask = np.zeros(60, bool)
        mask[np.random.default_rng(count).choice(60, count, replace=False)] = True
        kept = Chosen.of(mask.reshape(3, 4, 5))(tokens).indices
        assert kept.tolist() == np.flatnonzero(mask).tolist()


def test_no_shuffled_frame_is_where_it_was() -> None:
    clip = paint(write_script("shuffle", KNOBS))
    other = shuffled(clip)
    assert not any((a == b).all() for a, b in zip(clip.frames, other.frames, strict=True))
    assert sorted(frame.tobytes() for frame in clip.frames) == sorted(frame.tobytes() for frame in other.frames)


def test_each_gate_shows_what_it_says(reader: Reader) -> None:
    clip = paint(write_script("gates", KNOBS))
    questions = ask(clip)
    for given, kept in (("full", 288), ("question", 0), ("frame", 36), ("shuffled", 288)):
        assert {one.kept for one in outcomes(reader, clip, questions, given)} == {kept}
    found = outcomes(reader, clip, questions, "oracle")
    assert [one.kept for one in found] == [int(one.evidence.sum()) for one in questions]
    assert "forest" in GIVEN
    with pytest.raises(StgraphError, match="no gate 'sound'"):
        outcomes(reader, clip, questions, "sound")


def test_the_forest_is_at_chance_and_finds_a_planted_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gates, "TRAINED", 100)
    asked = [ask(unpainted(write_script(f"validation {number}", Knobs()))) for number in range(40)]
    right = [value for each in forest(asked) for value in each]
    chance = np.mean([1 / len(one.options) for each in asked for one in each])
    assert abs(np.mean(right) - chance) < 0.07

    def hinted(clip: object, each: int = 1) -> list[Question]:
        """Which option is right is the first letter of the alphabet that both share: always the first."""
        chosen = random.Random(repr(clip)[:80])
        return [
            Question("where", "where is the star", ("bottom", "left", "right", "top"), 0, np.ones((1, 1, 1), bool))
        ] * (1 + chosen.randrange(2))

    monkeypatch.setattr(gates, "ask", hinted)
    assert all(value for each in forest([hinted(number) for number in range(5)]) for value in each)


def test_the_table_is_printed_and_saved(
    reader: Reader, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    small.save(reader.model, tmp_path / "model", dtype=torch.float32)
    monkeypatch.setattr(gates, "load_clip", lambda split, number: _tiny(number))
    out = tmp_path / "gates.jsonl"
    told = ["--checkpoint", str(tmp_path / "model"), "--clips", "2", "--given", "full", "question", "--out", str(out)]
    gates.main(told)
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].split() == ["type", "asked", "chance", "full", "question"]
    assert shown[-1].split()[0] == "all"
    assert len(out.read_text().splitlines()) == 2


def _tiny(number: int) -> tuple[object, list[Question]]:
    clip = paint(write_script(f"table {number}", KNOBS))
    return clip, ask(clip)[:5]
