"""Exports hold what the results file holds."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from experiments.export import main
from experiments.outcomes import read
from experiments.sweep.__main__ import main as sweep


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sweep")
    (folder / "model").mkdir()
    words = ["evaluator=tests.experiments.stand_in:load", f"model={folder / 'model'}", "workers=0", "clips=3"]
    assert sweep([*words, "selector=none,random,simdiff", f"results={folder / 'r.sqlite'}"]) == 0
    return folder / "r.sqlite"


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_csv_and_parquet_hold_every_answer(results, tmp_path, capsys):
    import pyarrow.parquet

    assert main([str(results), "--csv", str(tmp_path / "csv"), "--parquet", str(tmp_path / "parquet")]) == 0
    assert capsys.readouterr().out == "3 configurations, 3 clips, 54 answers\n"
    outcomes = read(results)
    answers = rows(tmp_path / "csv" / "answers.csv")
    assert len(answers) == 54
    assert sum(row["correct"] == "True" for row in answers) == outcomes.correct.sum()
    assert {row["kind"] for row in answers} == {"where", "when", "order"}
    cells = rows(tmp_path / "csv" / "cells.csv")
    assert sum(int(row["correct"]) for row in cells) == outcomes.correct.sum()
    configurations = rows(tmp_path / "csv" / "configurations.csv")
    by_selector = {row["selector.name"]: row for row in configurations}
    assert by_selector.keys() == {"", "random", "simdiff"}
    assert by_selector["simdiff"]["selector.community.name"] == "components"
    for name in ("answers", "cells", "configurations"):
        table = pyarrow.parquet.read_table(tmp_path / "parquet" / f"{name}.parquet").to_pylist()
        assert len(table) == len(rows(tmp_path / "csv" / f"{name}.csv"))
        assert [row["configuration"] for row in table] == [
            row["configuration"] for row in rows(tmp_path / "csv" / f"{name}.csv")
        ]


@pytest.mark.ray
def test_mlflow_gets_a_run_for_each_configuration(results, tmp_path, monkeypatch):
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    uri = (tmp_path / "runs").as_uri()
    assert main([str(results), "--mlflow", uri, "--experiment", "mine"]) == 0
    client = MlflowClient(tracking_uri=uri)
    runs = client.search_runs([client.get_experiment_by_name("mine").experiment_id])
    assert {run.data.params.get("selector.name") for run in runs} == {None, "random", "simdiff"}
    full = next(run for run in runs if "selector.name" not in run.data.params)
    assert full.data.metrics["accuracy"] == 1


def test_bad_exports_are_one_sentence(results, tmp_path, capsys):
    assert main([str(results)]) == 2
    assert "no export was named" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert main([str(results), "--csv", str(tmp_path / "file")]) == 2
    assert "cannot be made" in capsys.readouterr().err
    assert main([str(tmp_path / "none.sqlite"), "--csv", str(tmp_path / "c")]) == 2
    assert "there is no file" in capsys.readouterr().err
