"""docs/peers.md is what its command writes, and the command goes on where it was stopped."""

from __future__ import annotations

import json
import sys

import pytest

from benchmarks.peers import __main__ as command
from benchmarks.peers import measure
from benchmarks.peers.facts import FACTS, FLOORS
from benchmarks.peers.page import PAGE, written
from stgraph.selectors import SELECTORS
from stgraph.selectors.fastv import FastV
from stgraph.selectors.per_video import AttentionSelector, EncoderSelector

from .golden.agreement import METHODS, cases


def test_the_page_is_what_the_kept_figures_say():
    text = PAGE.read_text("utf-8")
    assert written(text, measure.load()) == text, "run: python -m benchmarks.peers --only page --write"


def test_every_method_has_its_row():
    outcomes = measure.load()
    assert set(FACTS) == set(SELECTORS) >= set(outcomes["times"]["rows"])
    assert outcomes["times"]["tokens"] == 12544
    assert outcomes["times"]["dim"] == 3584
    assert set(outcomes["clips"]) == {"bikes.mp4", "bigbuckbunny.mp4", "sample.mp4"}
    for name, clip in outcomes["clips"].items():
        assert clip["frames"] == 64
        assert set(SELECTORS) >= set(clip["rows"]) > set(FLOORS)
        if name != "sample.mp4":
            assert set(clip["rows"]) == set(SELECTORS)
            assert all({"0.1", "0.3", "0.5"} < set(row) for row in clip["rows"].values())


def test_agreement_on_the_page_is_of_all_golden_outputs():
    golden = measure.load()["golden"]
    assert {method: row["cases"] for method, row in golden.items()} == {m: len(cases(m)) for m in METHODS}
    assert all(row["equal"] == row["cases"] for row in golden.values())
    assert set(METHODS) == {facts.golden for facts in FACTS.values()} - {None}


@pytest.mark.parametrize("name", list(FACTS))
def test_what_a_method_needs_and_merges_is_what_its_class_says(name):
    kind, facts = SELECTORS.get(name), FACTS[name]
    assert facts.merges == getattr(kind, "merging", False)
    assert ("encoder attention" in facts.needs) == issubclass(kind, AttentionSelector)
    if name != "dart":  # reads keys without attention
        assert ("keys" in facts.needs) == issubclass(kind, EncoderSelector)
    assert ("LLM" in facts.needs) == (issubclass(kind, FastV) or name == "framefusion")


def test_a_run_goes_on_where_it_was_stopped(tmp_path, monkeypatch, capsys):
    file = tmp_path / "outcomes.json"
    asked = ["peers", "--only", "time", "--frames", "2", "--dim", "8", "--rounds", "1", "--outcomes", str(file)]
    asked += ["--clock", "wall", "--selectors", "evs", "random"]
    monkeypatch.setattr(sys, "argv", [*asked, "--minutes", "0"])
    command.main()
    first = json.loads(file.read_text())["times"]["rows"]
    assert list(first) == ["evs"]
    assert "run this again to continue" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", asked)
    command.main()
    both = json.loads(file.read_text())["times"]["rows"]
    assert list(both) == ["evs", "random"]
    assert both["evs"] == first["evs"]
    command.main()
    assert json.loads(file.read_text())["times"]["rows"] == both
    out = capsys.readouterr().out
    assert "| `evs` | EVS" in out
