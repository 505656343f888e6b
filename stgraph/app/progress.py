"""One bar on stderr over all stages of a command."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

Report = Callable[[str, float], object]
"""Called with the stage that runs, and the share of it that is done, from 0 to 1."""

COMPRESS = {"reading": 30, "encoding": 15, "selecting": 5, "measuring": 15, "drawing": 35}
COMPARE = {"reading": 20, "encoding": 10, "comparing": 60, "drawing": 10}
STREAM = {"streaming": 95, "drawing": 5}
BATCH = {"clips": 1}


def silent(stage: str, share: float) -> None:
    """Nothing is shown."""


@contextmanager
def stage_bar(stages: Mapping[str, int], *, shown: bool) -> Iterator[Report]:
    """A bar that runs from 0 to 100 % once, whatever the number of stages.

    Args:
        stages: name and weight of each stage, in order; weights are about the seconds that each takes.
        shown: False for no bar.

    Yields:
        What is to be called with the progress.
    """
    if not shown:
        yield silent
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn

    names = list(stages)
    width = max(map(len, names))
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(names[0].ljust(width), total=sum(stages.values()))

        def report(stage: str, share: float) -> None:
            before = sum(stages[name] for name in names[: names.index(stage)])
            bar.update(task, description=stage.ljust(width), completed=before + share * stages[stage])

        yield report
