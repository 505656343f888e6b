"""The commands for the paper's benchmarks say what lmms-eval and stgraph understand."""

from __future__ import annotations

import json
import shlex
import sys

import pytest

from experiments.paper import check, main, runs
from experiments.settings import compose
from stgraph.errors import StgraphError


def test_every_model_task_method_and_retention_is_a_command(capsys, tmp_path):
    assert main([f"output={tmp_path}"]) == 0
    commands = [shlex.split(line) for line in capsys.readouterr().out.splitlines()]
    assert len(commands) == 2 * 3 * (1 + 2 * 7)
    assert {command[command.index("--tasks") + 1] for command in commands} == {
        "videomme",
        "longvideobench_val_v",
        "egoschema_subset",
    }
    arguments = [command[command.index("--model_args") + 1].split(",") for command in commands]
    assert all("protocol=release" in words for words in arguments)
    assert sum("selector=none" in words for words in arguments) == 6


def test_dry_run_builds_every_method(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "lmms_eval", None)
    monkeypatch.setattr("experiments.paper.find_spec", lambda name: None)
    assert main(["--dry-run"]) == 0
    assert "90 commands; every method and setting can be built" in capsys.readouterr().out
    assert main(["--dry-run", "+methods.mine=['selector=fastvv']"]) == 2
    assert "did you mean 'fastv'" in capsys.readouterr().err


def test_results_stand_beside_the_papers_figures(tmp_path, capsys):
    run = next(run for run in runs(compose("paper", [f"output={tmp_path}"])) if run.method.endswith("release"))
    folder = run.output / "model"
    folder.mkdir(parents=True)
    (folder / "20260101_results.json").write_text(json.dumps({"results": {run.name: {f"{run.metric},none": 62.0}}}))
    assert run.measured == 62
    assert main(["--table", f"output={tmp_path}"]) == 0
    printed = capsys.readouterr().out
    assert "| LLaVA-Video-7B | 30% | ST-SimDiff, release | 62.0 | 63.2 | −1.2 |" in printed
    assert "| LLaVA-Video-7B | 100% | all tokens | – | 63.3 | – | – | 58.2 |" in printed
    assert main([f"output={tmp_path}"]) == 0
    assert run.command not in capsys.readouterr().out  # what has results is not run again


def test_model_args_cannot_hold_commas():
    run = next(runs(compose("paper", [])))
    with pytest.raises(StgraphError, match="no commas inside a value"):
        list(check([run._replace(arguments=("pretrained=a,b",))]))
