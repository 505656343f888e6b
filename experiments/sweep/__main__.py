"""The command line of the sweeps."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from stgraph.app.compare import markdown
from stgraph.errors import StgraphError

from ..ending import ends_well
from ..outcomes import Outcomes, name_of
from ..statistics import accuracy, words
from .run import Progress, run
from .settings import Settings, read
from .store import Store

DOC = """Measure configurations × clips with a video LLM; run again to continue after an interruption.

  python -m experiments.sweep selector=none,simdiff,random retention=0.1,0.3
  python -m experiments.sweep community=components,leiden retention=0.1 clips=400 workers=2
  python -m experiments.sweep retention=0.1 trim=before,inside layer=1,2 engine=ray gpus=0.5 workers=8

docs/experiments.md says what there is to set."""

LINE_SECONDS = 30.0
"""Between two lines of progress where there is no terminal."""


@ends_well
def main(arguments: Sequence[str] | None = None) -> int:
    """Run a sweep; returns the exit code: 0 done, 1 some cells failed, 2 bad input, 130 interrupted."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.sweep", description=DOC, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("words", nargs="*", metavar="name=value", help="settings of the sweep and of stgraph")
    parser.add_argument("-m", "--multirun", action="store_true", help="as in Hydra; several values work without it too")
    parser.add_argument("--yes", action="store_true", help="run a grid of any size")
    given = parser.parse_intermixed_args(arguments)
    settings = read(given.words)
    check_size(len(settings.plan), settings.limit, yes=given.yes)
    with Store(settings.results) as store:
        state = sweep(settings, store)
        print(summary(settings, store, state))
        return 1 if state.counts.failed else 0


def check_size(cells: int, limit: int, *, yes: bool) -> None:
    """Raise :class:`StgraphError` where a grid has more cells than ``limit`` and ``--yes`` was not given."""
    if cells > limit and not yes:
        raise StgraphError(f"the grid has {cells} cells, more than limit={limit}; add --yes to run it anyway")


def sweep(settings: Settings, store: Store) -> Progress:
    """Run a sweep with progress on stderr."""
    with shown() as progress:
        return run(settings.plan, store, settings.worker, settings.resources, retry=settings.retry, progress=progress)


@contextmanager
def shown() -> Iterator[Callable[[Progress], None]]:
    """Live progress on stderr: a bar on a terminal, else a line now and then."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    last = [time.monotonic()]

    def line(state: Progress) -> None:
        if time.monotonic() - last[0] >= LINE_SECONDS:
            last[0] = time.monotonic()
            print(text(state), file=sys.stderr, flush=True)

    if not console.is_terminal:
        yield line
        return
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[text]}"))
    with Bar(*columns, console=console) as bar:
        task = bar.add_task("", text="")
        yield lambda state: bar.update(task, total=state.total, completed=state.finished, text=text(state))


def text(state: Progress) -> str:
    """Progress in words: ``"120 of 400 cells, 2 failed, 3.1 a second, 1 min 30 s left"``."""
    parts = [f"{state.finished} of {state.total} cells"]
    if state.counts.failed:
        parts.append(f"{state.counts.failed} failed")
    if state.seconds_left is not None:
        parts += [f"{state.rate:.2f} a second", f"{duration(state.seconds_left)} left"]
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """``"1 h 05 min"``, ``"3 min 20 s"`` or ``"12 s"``."""
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02} min"
    return f"{whole // 60} min {whole % 60:02} s" if whole >= 60 else f"{whole} s"


def summary(settings: Settings, store: Store, state: Progress) -> str:
    """The accuracy of every configuration in Markdown, and what failed."""
    parts = []
    if state.counts.done:
        outcomes = Outcomes.of(store, settings.plan.identity.get("benchmark", ""))
        names = list(outcomes.configurations)
        rows: list[list[str | int | float | None]] = []
        for name, each in zip(settings.names, settings.plan.settings, strict=True):
            key = name_of(each, settings.plan.identity)
            if key in names:
                row = names.index(key)
                asked = outcomes.asked([row], settings.plan.clips)
                found = accuracy(outcomes.correct[row, asked], outcomes.clip[asked]) if asked.any() else None
                rows.append([name, int(asked.sum()), words(found) if found else None])
        parts.append(markdown(["configuration", "questions", "accuracy, % [95 %]"], rows))
    for name, clip, error in store.failures(store.add(settings.plan))[:5]:
        label = next(
            (
                label
                for label, each in zip(settings.names, settings.plan.settings, strict=True)
                if name_of(each, settings.plan.identity) == name
            ),
            name,
        )
        parts.append(f"failed: {label} on {clip}: {error}")
    if state.counts.failed:
        parts.append(f"{state.counts.failed} cells failed; add retry=true to run them again")
    return "\n".join([*parts, f"results in {settings.results}"])


if __name__ == "__main__":
    sys.exit(main())
