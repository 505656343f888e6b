"""Results of sweeps for other tools.

  python -m experiments.export outputs/sweep.sqlite --csv tables/
  python -m experiments.export outputs/sweep.sqlite --parquet tables/
  python -m experiments.export outputs/sweep.sqlite --mlflow sqlite:///mlflow.db --experiment ablation
  python -m experiments.export outputs/sweep.sqlite --outcomes experiments/outcomes.safetensors

CSV and Parquet are three tables: ``configurations`` (every setting a column), ``cells`` (a configuration on a clip,
with its figures) and ``answers`` (one question each). MLflow gets a run for each configuration. The compact file of
outcomes holds a bit for each question, and every table, interval and figure of the studies can be made from it.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stgraph.errors import StgraphError
from stgraph.optional import require

from .outcomes import Outcomes, read
from .statistics import accuracy

Row = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """Export a results file; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.export",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("results", help="results file of a sweep, or a compact file of outcomes")
    parser.add_argument("--csv", metavar="FOLDER", help="three tables as CSV")
    parser.add_argument("--parquet", metavar="FOLDER", help="three tables as Parquet")
    parser.add_argument("--mlflow", metavar="URI", help="tracking URI of MLflow")
    parser.add_argument("--experiment", default="stgraph", help="name of the experiment in MLflow")
    parser.add_argument("--outcomes", metavar="FILE", help="the compact file")
    given = parser.parse_args(arguments)
    try:
        if not (given.csv or given.parquet or given.mlflow or given.outcomes):
            raise StgraphError("no export was named; add --csv, --parquet, --mlflow or --outcomes")
        outcomes = read(given.results)
        if given.csv:
            to_csv(outcomes, given.csv)
        if given.parquet:
            to_parquet(outcomes, given.parquet)
        if given.outcomes:
            outcomes.save(given.outcomes)
        if given.mlflow:
            to_mlflow(outcomes, given.mlflow, given.experiment)
    except StgraphError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    questions = int((~np.isnan(outcomes.correct)).sum())
    print(f"{len(outcomes.configurations)} configurations, {len(outcomes.clips)} clips, {questions} answers")
    return 0


def tables(outcomes: Outcomes) -> dict[str, Iterator[Row]]:
    """The rows of the three tables by name."""

    def configurations() -> Iterator[Row]:
        for name, content in outcomes.configurations.items():
            yield {"configuration": name, **flat(content)}

    def cells() -> Iterator[Row]:
        for number, name in enumerate(outcomes.configurations):
            for place, clip in enumerate(outcomes.clips):
                figures = {key: float(values[number, place]) for key, values in outcomes.figures.items()}
                answers = outcomes.correct[number, outcomes.clip == place]
                if len(answers) and not np.isnan(answers).any():
                    known = {key: None if np.isnan(value) else value for key, value in figures.items()}
                    yield {"configuration": name, "clip": clip, "correct": int(answers.sum()), **known}

    def answers() -> Iterator[Row]:
        number_in_clip = np.arange(len(outcomes.clip)) - np.searchsorted(outcomes.clip, outcomes.clip)
        for number, name in enumerate(outcomes.configurations):
            for question in np.flatnonzero(~np.isnan(outcomes.correct[number])).tolist():
                yield {
                    "configuration": name,
                    "clip": outcomes.clips[outcomes.clip[question]],
                    "question": int(number_in_clip[question]),
                    "kind": str(outcomes.kind[question]),
                    "correct": bool(outcomes.correct[number, question]),
                }

    return {"configurations": configurations(), "cells": cells(), "answers": answers()}


def flat(content: Mapping[str, Any], prefix: str = "") -> Row:
    """Nested settings as columns: ``selector.community.name``."""
    row: Row = {}
    for key, value in content.items():
        if isinstance(value, Mapping):
            row |= flat(value, f"{prefix}{key}.")
        else:
            row[f"{prefix}{key}"] = value if isinstance(value, (str, int, float, type(None))) else str(value)
    return row


def to_csv(outcomes: Outcomes, folder: str | Path) -> None:
    """Write the three tables as CSV.

    Raises:
        StgraphError: the folder cannot be written to.
    """
    for name, rows in tables(outcomes).items():
        listed = list(rows)
        columns = dict.fromkeys(column for row in listed for column in row)
        path = _made(folder) / f"{name}.csv"
        try:
            with path.open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, list(columns))
                writer.writeheader()
                writer.writerows(listed)
        except OSError as error:
            raise StgraphError(f"{path} cannot be written: {error.strerror or error}") from error


def to_parquet(outcomes: Outcomes, folder: str | Path) -> None:
    """Write the three tables as Parquet.

    Raises:
        StgraphError: pyarrow is not installed, or the folder cannot be written to.
    """
    arrow = require("pyarrow", extra="experiments", needed_by="Parquet")
    parquet = require("pyarrow.parquet", extra="experiments", needed_by="Parquet")
    for name, rows in tables(outcomes).items():
        listed = list(rows)
        columns = dict.fromkeys(column for row in listed for column in row)
        table = arrow.table({column: _column([row.get(column) for row in listed]) for column in columns})
        path = _made(folder) / f"{name}.parquet"
        try:
            parquet.write_table(table, path)
        except OSError as error:
            raise StgraphError(f"{path} cannot be written: {error.strerror or error}") from error


def to_mlflow(outcomes: Outcomes, uri: str, experiment: str) -> None:
    """Log a run for each configuration: settings as parameters, accuracy and mean figures as metrics.

    Raises:
        StgraphError: MLflow is not installed, or the server does not answer.
    """
    require("mlflow", extra="mlflow", needed_by="an export to MLflow")
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param
    from mlflow.exceptions import MlflowException

    try:
        client = MlflowClient(tracking_uri=uri)
        found = client.get_experiment_by_name(experiment)
        place = client.create_experiment(experiment) if found is None else found.experiment_id
        for number, (name, content) in enumerate(outcomes.configurations.items()):
            run = client.create_run(place, run_name=name, tags={"benchmark": outcomes.benchmark}).info.run_id
            metrics = [Metric(key, value, 0, 0) for key, value in _metrics(outcomes, number).items()]
            params = [Param(key, str(value)) for key, value in flat(content).items()]
            client.log_batch(run, metrics, params)
            client.set_terminated(run)
    except (MlflowException, OSError) as error:
        raise StgraphError(f"MLflow at {uri} does not take the runs: {str(error).splitlines()[0]}") from error


def _metrics(outcomes: Outcomes, number: int) -> dict[str, float]:
    asked = outcomes.asked([number])
    found = accuracy(outcomes.correct[number, asked], outcomes.clip[asked])
    metrics = {"accuracy": found.estimate, "accuracy_low": found.low, "accuracy_high": found.high}
    for kind in outcomes.kinds:
        chosen = asked & (outcomes.kind == kind)
        if chosen.any():
            metrics[f"accuracy_{kind}"] = float(outcomes.correct[number, chosen].mean())
    for name, values in outcomes.figures.items():
        if not np.isnan(values[number]).all():
            metrics[name.replace(" ", "_")] = float(np.nanmean(values[number]))
    return metrics


def _column(values: list[Any]) -> list[Any]:
    """A column of one type: text where it holds text and numbers."""
    mixed = len({type(value) for value in values if value is not None} - {int, float}) > 0
    numbers = any(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)
    return [None if value is None else str(value) for value in values] if mixed and numbers else values


def _made(folder: str | Path) -> Path:
    path = Path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StgraphError(f"folder {folder} cannot be made: {error.strerror or error}") from error
    return path


if __name__ == "__main__":
    sys.exit(main())
