"""Where cells are measured: processes of this machine, or actors of a Ray cluster.

An engine is a number of slots. Each holds one :class:`Worker` at a time, takes one call at a time, and gives a future.
All bookkeeping is the sweep's; both engines get results only to it, so workers need no access to the results file.
"""

from __future__ import annotations

import os
import signal
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from typing import Any, cast

from stgraph.app.cluster import start_ray
from stgraph.errors import StgraphError, check_choice, check_number
from stgraph.optional import require

from .evaluator import Result, Worker


@dataclass(frozen=True)
class Resources:
    """What a sweep may use.

    Attributes:
        engine: ``"local"``: processes of this machine; ``"ray"``: a Ray cluster, that of ``address`` or a local one.
        workers: how many measure at the same time. 0 with ``engine="local"`` measures in this process, where a debugger
            can follow; a cell that kills its worker then kills the sweep.
        threads: of each worker.
        gpus: of each worker; a share such as 0.5 lets two workers use one. With ``engine=local`` every worker sees all
            GPUs.
        address: of a Ray cluster that runs, such as ``"auto"``; None starts one on this machine.
    """

    engine: str = "local"
    workers: int = 1
    threads: int = 1
    gpus: float = 0.0
    address: str | None = None

    def __post_init__(self) -> None:
        check_choice("engine", self.engine, ("local", "ray"))
        check_number("workers", self.workers, at_least=0 if self.engine == "local" else 1, integer=True)
        check_number("threads", self.threads, at_least=1, integer=True)
        check_number("gpus", self.gpus, at_least=0)
        if self.engine == "local" and self.address is not None:
            raise StgraphError("address names a Ray cluster; add engine=ray, or leave address out")


class WorkerDiedError(Exception):
    """A worker ended before its result was there; the text says how, as far as it is known."""


class Engine(ABC):
    """Slots for workers; use it as a context, which ends all workers."""

    def __init__(self, worker: tuple[str, str], resources: Resources) -> None:
        self.worker = (*worker, resources.threads)
        self.resources = resources

    @abstractmethod
    def submit(self, slot: int, settings: Mapping[str, Any], clip: str) -> Future[Result]:
        """Measure a cell in a slot, which must be free."""

    @abstractmethod
    def restart(self, slot: int) -> None:
        """Put a new worker in the place of one that died."""

    @abstractmethod
    def close(self) -> None:
        """End all workers at once, with what they are doing."""

    @abstractmethod
    def result(self, future: Future[Result]) -> Result:
        """The result of a finished future.

        Raises:
            WorkerDiedError: there is none, because the worker died.
            Exception: what :meth:`Worker.measure` raised.
        """

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Local(Engine):
    """One process for each slot, so that the death of one is not that of the others."""

    def __init__(self, worker: tuple[str, str], resources: Resources) -> None:
        super().__init__(worker, resources)
        self._pools = [self._pool() for _ in range(resources.workers)]

    def _pool(self) -> ProcessPoolExecutor:
        # A forked copy of a process with threads may hang, so processes are started afresh.
        return ProcessPoolExecutor(1, get_context("spawn"), _begin, self.worker)

    def submit(self, slot: int, settings: Mapping[str, Any], clip: str) -> Future[Result]:
        """See :meth:`Engine.submit`."""
        with _no_interrupts():  # a process that is still starting would die of Ctrl-C with a traceback
            return self._pools[slot].submit(_measure, settings, clip)

    def restart(self, slot: int) -> None:
        """See :meth:`Engine.restart`."""
        self._pools[slot].shutdown(wait=False, cancel_futures=True)
        self._pools[slot] = self._pool()

    def close(self) -> None:
        """See :meth:`Engine.close`."""
        for pool in self._pools:
            for process in list((pool._processes or {}).values()):
                process.terminate()
            pool.shutdown(wait=True, cancel_futures=True)

    def result(self, future: Future[Result]) -> Result:
        """See :meth:`Engine.result`."""
        try:
            return future.result()
        except BrokenProcessPool as error:
            raise WorkerDiedError("its process was killed, most likely for lack of memory") from error


class Here(Engine):
    """One slot, in this process."""

    def __init__(self, worker: tuple[str, str], resources: Resources) -> None:
        super().__init__(worker, resources)
        self._here = Worker(*self.worker)

    def submit(self, slot: int, settings: Mapping[str, Any], clip: str) -> Future[Result]:
        """See :meth:`Engine.submit`."""
        future: Future[Result] = Future()
        try:
            future.set_result(self._here.measure(settings, clip))
        except Exception as error:
            future.set_exception(error)
        return future

    def restart(self, slot: int) -> None:
        """Nothing: it dies with the sweep."""

    def close(self) -> None:
        """Nothing is left to end."""

    def result(self, future: Future[Result]) -> Result:
        """See :meth:`Engine.result`."""
        return future.result()


class Ray(Engine):
    """One actor for each slot."""

    def __init__(self, worker: tuple[str, str], resources: Resources) -> None:
        super().__init__(worker, resources)
        self._ray = require("ray", extra="ray", needed_by="engine=ray")
        self._own = start_ray(resources.address)
        self._actors = [self._actor() for _ in range(resources.workers)]

    def _actor(self) -> Any:
        remote = self._ray.remote(num_cpus=self.resources.threads, num_gpus=self.resources.gpus)(Worker)
        return remote.remote(*self.worker)

    def submit(self, slot: int, settings: Mapping[str, Any], clip: str) -> Future[Result]:
        """See :meth:`Engine.submit`."""
        future = self._actors[slot].measure.remote(settings, clip).future()
        return cast("Future[Result]", future)

    def restart(self, slot: int) -> None:
        """See :meth:`Engine.restart`."""
        self._actors[slot] = self._actor()

    def close(self) -> None:
        """See :meth:`Engine.close`."""
        for actor in self._actors:
            self._ray.kill(actor)
        if self._own:
            self._ray.shutdown()

    def result(self, future: Future[Result]) -> Result:
        """See :meth:`Engine.result`."""
        try:
            return future.result()
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause from None
        except self._ray.exceptions.RayError as error:
            raise WorkerDiedError(str(error).strip().splitlines()[0]) from error


def start(worker: tuple[str, str], resources: Resources) -> Engine:
    """The engine that resources name, with workers of an evaluator: (its function, the model's folder)."""
    if resources.engine == "ray":
        return Ray(worker, resources)
    return Local(worker, resources) if resources.workers else Here(worker, resources)


# -- in a local worker ------------------------------------------------------------------------------------------------

_worker: Worker | None = None


def _begin(function: str, model: str, threads: int) -> None:
    """Prepare a process: Ctrl-C is left to the sweep, and the end of the sweep is the end of the process."""
    global _worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()

    def watch() -> None:
        if parent is not None:
            wait([parent.sentinel])
        os._exit(1)  # the sweep was killed: nobody takes the result

    threading.Thread(target=watch, daemon=True).start()
    _worker = Worker(function, model, threads)


def _measure(settings: Mapping[str, Any], clip: str) -> Result:
    assert _worker is not None  # set before the first call
    return _worker.measure(settings, clip)


class _no_interrupts:  # noqa: N801 - used like a function
    """Ctrl-C waits until the end of the block; processes that are started in it ignore it, where the system can."""

    def __enter__(self) -> None:
        self._before = (
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}) if hasattr(signal, "pthread_sigmask") else None
        )

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, self._before)
