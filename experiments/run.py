"""Work over many clips in processes, with progress; the command line that the experiments share."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any, Literal, TypeVar

import torch

from stgraph import kernels
from stgraph.errors import StgraphError

T = TypeVar("T")
R = TypeVar("R")

POLL_SECONDS = 0.2


def over(work: Callable[[T], Iterable[R]], items: Sequence[T], *, jobs: int, total: int) -> list[list[R]]:
    """``[list(work(item)) for item in items]``, in ``jobs`` processes of one thread each.

    What comes out does not depend on ``jobs``. After an error or Ctrl-C every process ends with its current result.

    Args:
        work: yields results one by one; for more than one job it must be importable, and so must what it is given.
        items: what to work on.
        jobs: processes; with 1 the work is done in this one.
        total: how many results there will be, for the progress bar.
    """
    with _progress(total) as show:
        if jobs == 1:
            with _one_thread():
                return [[_shown(result, show) for result in work(item)] for item in items]
        context = get_context("spawn")  # a forked copy of a process with threads may hang
        done, stop = context.Value("q", 0), context.Event()
        with ProcessPoolExecutor(jobs, context, _begin, (done, stop, kernels.active())) as pool:
            try:
                with _interrupt_deferred():  # a worker that is still starting would die of Ctrl-C with a traceback
                    futures = [pool.submit(_collect, work, item) for item in items]
                finished, pending = wait(futures, POLL_SECONDS, FIRST_EXCEPTION)
                while pending and not any(future.exception() for future in finished):
                    show(done.value)
                    finished, pending = wait(futures, POLL_SECONDS, FIRST_EXCEPTION)
                show(done.value)
                # When one has failed, the others may still be at work: the finished ones first.
                return [future.result() for future in sorted(futures, key=lambda future: future not in finished)]
            except BrokenProcessPool as error:
                raise StgraphError(
                    "a worker process was killed, most likely for lack of memory; try jobs=1 or fewer tokens"
                ) from error
            finally:
                stop.set()
                pool.shutdown(cancel_futures=True)


_done: Any = None
_stop: Any = None


def _begin(done: Any, stop: Any, kernel: Literal["fused", "reference", "triton"]) -> None:
    """Prepare a worker: one thread, the parent's kernels, the shared count, and Ctrl-C left to the parent."""
    global _done, _stop
    _done, _stop = done, stop
    kernels.use(kernel)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)


def _collect(work: Callable[[T], Iterable[R]], item: T) -> list[R]:
    results = []
    for result in work(item):
        if _stop.is_set():
            break
        results.append(result)
        with _done.get_lock():
            _done.value += 1
    return results


@contextmanager
def _interrupt_deferred() -> Iterator[None]:
    """Ctrl-C waits until the end of the block; processes started in it are deaf to it, where the system knows that."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int | None], None]]:
    """A bar on stderr that is set to a count, or advanced by one; nothing where stderr is no terminal."""
    from rich.console import Console
    from rich.progress import Progress, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (*Progress.get_default_columns(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("measuring", total=total)

        def show(count: int | None) -> None:
            bar.update(task, completed=count) if count is not None else bar.advance(task)

        yield show


def _shown(result: R, show: Callable[[int | None], None]) -> R:
    show(None)
    return result


def main(experiment: Callable[[Sequence[str]], str], doc: str | None) -> None:
    """The command line of an experiment; bad input ends with one sentence and exit code 2.

    Args:
        experiment: runs with the words of the command line and returns what to print.
        doc: the help text.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", metavar="name=value", help="settings of the experiment and of stgraph")
    parser.add_argument("-m", "--multirun", action="store_true", help="as in Hydra; several values work without it too")
    words = parser.parse_intermixed_args().words
    try:
        print(experiment(words))
    except StgraphError as error:
        # The shared sentences about folders name the options of the stgraph command; here these are words.
        text = str(error).replace("another --output", "another output=FOLDER").replace("--overwrite", "overwrite=true")
        print(f"error: {text}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted; nothing was written", file=sys.stderr)
        sys.exit(130)
