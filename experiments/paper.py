"""The paper's benchmarks with its models, through lmms-eval; and its figures beside what was measured.

  python -m experiments.paper              print every command, to be run where GPU, weights and videos are
  python -m experiments.paper --dry-run    check all but weights and data: methods, settings, tasks
  python -m experiments.paper --table      the figures that the results hold, with the paper's as a column

A command that has results is left out of the list, so the list is what is still to be run.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from stgraph.app.compare import Cell, markdown
from stgraph.app.config import resolve
from stgraph.errors import StgraphError, nearest

from .settings import compose

PLACES = ("trim", "layer", "protocol", "max_frames", "max_new_tokens", "time_instruction", "pool_mode")
"""``model_args`` that are no words of the command line."""


class Run(NamedTuple):
    """One command.

    Attributes:
        model: its name in the paper.
        method: its name in the table.
        retention: share of tokens kept; 1 for all.
        task: its name in the paper.
        arguments: ``model_args`` of lmms-eval.
        name: of the task in lmms-eval.
        metric: where its figure stands in the results.
        output: folder of the results.
    """

    model: str
    method: str
    retention: float
    task: str
    arguments: tuple[str, ...]
    name: str
    metric: str
    output: Path

    @property
    def command(self) -> str:
        """As it is typed."""
        words = ["lmms-eval", "eval", "--model", "stgraph", "--model_args", ",".join(self.arguments)]
        words += ["--tasks", self.name, "--output_path", str(self.output), "--log_samples"]
        return shlex.join(words)

    @property
    def measured(self) -> float | None:
        """The figure in percent, where the latest results hold it."""
        for path in sorted(self.output.rglob("*results.json"), reverse=True):
            try:
                found = json.loads(path.read_text("utf-8"))["results"][self.name]
            except (OSError, ValueError, KeyError, TypeError):
                continue
            for key, value in found.items():
                if key.partition(",")[0] == self.metric and isinstance(value, (int, float)):
                    return 100 * value if value <= 1 else float(value)
        return None


def main(arguments: Sequence[str] | None = None) -> int:
    """Print commands, check them, or print the table; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.paper",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("words", nargs="*", metavar="name=value", help="settings of conf/paper.yaml")
    parser.add_argument("--dry-run", action="store_true", help="check all but weights and data")
    parser.add_argument("--table", action="store_true", help="what was measured, and the paper's figures")
    given = parser.parse_intermixed_args(arguments)
    try:
        own = compose("paper", given.words)
        listed = list(runs(own))
        if given.dry_run:
            for line in check(listed):
                print(line)
        elif given.table:
            print(table(listed, own["figures"]))
        else:
            for run in listed:
                if run.measured is None:
                    print(run.command)
    except StgraphError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def runs(own: Mapping[str, Any]) -> Iterator[Run]:
    """Every command: models × tasks × methods × retentions, all tokens first."""
    for model, folder in own["models"].items():
        rows = [("all tokens", 1.0, ["selector=none"])]
        rows += [(name, float(r), words) for r in own["retentions"] for name, words in own["methods"].items()]
        for task, about in own["tasks"].items():
            for method, retention, words in rows:
                kept = [] if retention == 1 else [f"retention={retention}"]
                place = f"{model} {task} {method} {retention}".lower().replace(",", "").replace(" ", "-")
                given = (f"pretrained={folder}", *own["common"], *words, *kept)
                output = Path(str(own["output"])) / place
                yield Run(model, method, retention, task, given, about["task"], about["metric"], output)


def check(listed: Sequence[Run]) -> Iterator[str]:
    """Check commands without weights and data, and say what was checked.

    Raises:
        StgraphError: a word that means nothing, a method that cannot be built, or a task that lmms-eval does not know.
    """
    for arguments in dict.fromkeys(run.arguments for run in listed):
        words = [word for word in arguments if word.partition("=")[0] not in (*PLACES, "pretrained")]
        names = [word.partition("=")[0] for word in arguments]
        if "pretrained" not in names or any("," in word for word in arguments):
            raise StgraphError(f"model_args need pretrained= and no commas inside a value, got {','.join(arguments)}")
        if "selector=none" not in words:
            resolve(words).selector()
    yield f"{len(listed)} commands; every method and setting can be built"
    tasks = {run.name for run in listed}
    if find_spec("lmms_eval") is None:
        yield "lmms-eval is not installed here, so its tasks were not looked up; see docs/evaluation.md"
        return
    from lmms_eval.tasks import TaskManager

    known = TaskManager().all_tasks
    for name in sorted(tasks):
        if name not in known:
            raise StgraphError(f"lmms-eval has no task {name!r}{nearest(name, known)}")
    from stgraph.integrations.lmms_eval import manifest

    manifest()
    yield f"lmms-eval knows the tasks {', '.join(sorted(tasks))} and the model stgraph"


def table(listed: Sequence[Run], figures: Mapping[str, Any]) -> str:
    """What was measured in Markdown, the paper's figure beside each, and their difference in points."""
    tasks = list(dict.fromkeys(run.task for run in listed))
    rows: dict[tuple[str, float, str], dict[str, Run]] = {}
    for run in listed:
        rows.setdefault((run.model, run.retention, run.method), {})[run.task] = run
    heads = ["model", "tokens", "method", *(f"{task}{what}" for task in tasks for what in ("", ", paper", ", points"))]
    cells: list[list[Cell]] = []
    for (model, retention, method), by_task in rows.items():
        row: list[Cell] = [model, f"{retention:.0%}", method]
        for task in tasks:
            here = by_task[task].measured
            there = figures.get(model, {}).get(retention, {}).get(method, {}).get(task)
            gap = None if here is None or there is None else f"{here - there:+.1f}".replace("-", "−")
            row += [None if here is None else f"{here:.1f}", None if there is None else f"{there:.1f}", gap]
        cells.append(row)
    return markdown(heads, cells)


if __name__ == "__main__":
    sys.exit(main())
