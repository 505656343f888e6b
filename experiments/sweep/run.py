"""Running a plan: cells are claimed, measured, written, until none is left."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass

from stgraph.errors import StgraphError

from .cells import Plan
from .engines import Engine, Resources, WorkerDiedError, start
from .evaluator import Result
from .store import STALE_SECONDS, Claim, Counts, Store

POLL_SECONDS = 0.5
BEAT_SECONDS = STALE_SECONDS / 6


@dataclass(frozen=True)
class Progress:
    """How far a sweep is.

    Attributes:
        counts: cells of the plan in each state.
        before: cells that were done or had failed when the sweep began.
        seconds: since then.
    """

    counts: Counts
    before: int
    seconds: float

    @property
    def total(self) -> int:
        """Cells of the plan."""
        return sum(self.counts)

    @property
    def finished(self) -> int:
        """Cells that are done or have failed."""
        return self.counts.done + self.counts.failed

    @property
    def rate(self) -> float:
        """Cells a second since the sweep began, those of other sweeps on the same plan included."""
        return (self.finished - self.before) / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """At that rate; None while nothing is known."""
        return (self.total - self.finished) / self.rate if self.rate > 0 else None


def run(
    plan: Plan,
    store: Store,
    worker: tuple[str, str],
    resources: Resources | None = None,
    *,
    retry: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> Progress:
    """Measure all cells of a plan that are not finished.

    Cells that another sweep runs are waited for. After an error or Ctrl-C all finished cells are in the file, and the
    others wait for the next run.

    Args:
        plan: what to measure.
        store: where results go.
        worker: (function, model) of the evaluator, see :func:`experiments.sweep.evaluator.load`.
        resources: one local process if not given.
        retry: run failed cells again.
        progress: called about twice a second, and at the end.

    Raises:
        StgraphError: the plan is empty, the file cannot be written, or workers die before they begin.
    """
    if not len(plan):
        raise StgraphError("the grid is empty: it needs at least one configuration and one clip")
    name = store.add(plan)
    if retry:
        store.retry(name)
    store.beat()
    began, counts = time.monotonic(), store.counts(name)
    before = counts.done + counts.failed
    state = Progress(counts, before, 0.0)
    if counts.waiting + counts.running:
        with start(worker, resources or Resources()) as engine:
            state = _loop(name, store, engine, before, began, progress)
    if progress:
        progress(state)
    return state


def _loop(
    plan: str,
    store: Store,
    engine: Engine,
    before: int,
    began: float,
    progress: Callable[[Progress], None] | None,
) -> Progress:
    free = list(range(max(1, engine.resources.workers)))
    clips: dict[int, str] = {}  # the clip that each slot has open
    at_work: dict[Future[Result], tuple[int, Claim]] = {}
    beaten = shown = began
    while True:
        now = time.monotonic()
        if now - beaten >= BEAT_SECONDS:
            store.beat()
            beaten = now
        for slot in list(free):
            claim = store.claim(plan, clips.get(slot))
            if claim is None:
                break
            free.remove(slot)
            clips[slot] = claim.clip
            at_work[engine.submit(slot, claim.settings, claim.clip)] = slot, claim
        finished = wait(at_work, POLL_SECONDS, FIRST_COMPLETED).done if at_work else set()
        for future in finished:
            slot, claim = at_work.pop(future)
            free.append(slot)
            try:
                result = engine.result(future)
            except WorkerDiedError as death:
                store.died(claim, str(death))
                engine.restart(slot)
                clips.pop(slot, None)
            except Exception as error:  # whatever a method does to one cell, the others continue
                store.fail(claim, str(error) if isinstance(error, StgraphError) else f"{type(error).__name__}: {error}")
            else:
                store.finish(claim, result)
        if now - shown >= POLL_SECONDS or not at_work:
            shown = now
            state = Progress(store.counts(plan), before, time.monotonic() - began)
            if progress:
                progress(state)
            if not state.counts.waiting + state.counts.running:
                return state
            if not at_work and not state.counts.waiting:
                time.sleep(POLL_SECONDS)  # another sweep has the last cells
