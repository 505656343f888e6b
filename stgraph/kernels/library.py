"""The compiled library of the fused CPU kernels, which :mod:`.build` makes when stgraph is installed."""

from __future__ import annotations

import ctypes
import json
import os
from collections.abc import Callable
from functools import cache
from typing import Any

from . import build

_KINDS = {"p": ctypes.c_void_p, "n": ctypes.c_int64, "d": ctypes.c_double}

# The arguments of the functions of the library: pointers, whole numbers, doubles. All return a whole number.
_SIGNATURES = {
    "lattice_cosines": "pppppn",
    "row_norms": "ppnn",
    "pair_cosines": "ppppnn",
    "components": "ppnnp",
    "lattice_components": "pppnnnndpp",
    "merge_forest": "ppnnppppppp",
    "community_ranks": "pnpndp",
    "first_of": "ppnnpp",
    "centrality": "pppnnpn",
}


class UnavailableError(Exception):
    """The library cannot be had; the text says why."""


class Library:
    """The kernels at one level of vector instructions. They run without the interpreter's lock.

    Attributes:
        level: one of :data:`.build.LEVELS`.
        threads: whether work can be shared among threads.
    """

    def __init__(self, loaded: ctypes.CDLL, level: str, threads: bool) -> None:
        self.level, self.threads = level, threads
        self._functions: dict[str, Callable[..., int]] = {}
        for name, kinds in _SIGNATURES.items():
            function = getattr(loaded, f"{name}_{level}")
            function.argtypes = [_KINDS[kind] for kind in kinds]
            function.restype = ctypes.c_int64
            self._functions[name] = function

    def __getattr__(self, name: str) -> Callable[..., int]:
        return self._functions[name]


def levels() -> list[str]:
    """The levels of vector instructions that were compiled and that this processor has, the lowest first.

    Raises:
        UnavailableError: the library is missing, damaged or older than its sources.
    """
    record, loaded = _loaded()
    return [name for name in record["levels"] if build.LEVELS.index(name) <= loaded.highest_level()]


@cache
def library(level: str | None = None) -> Library:
    """The kernels at a level; None for the highest that this processor has.

    Raises:
        UnavailableError: the library is missing, damaged or older than its sources, or has no such level.
    """
    record, loaded = _loaded()
    known = levels()
    if level is not None and level not in known:
        raise UnavailableError(f"this machine has no instruction set {level}; it has {', '.join(known)}")
    return Library(loaded, level or known[-1], record["threads"])


@cache
def _loaded() -> tuple[dict[str, Any], ctypes.CDLL]:
    again = "run python -m stgraph.kernels.build, or install stgraph again"
    file = build.FOLDER / build.LIBRARY
    try:
        record = json.loads(file.with_name(build.RECORD).read_text("utf-8"))
        size = file.stat().st_size
        if record["sources"] != build.digest():
            raise UnavailableError(f"{file} is older than its sources; {again}")
        if size < record["bytes"]:  # loading a damaged library would crash the process
            raise UnavailableError(f"{file} is damaged; {again}")
        return record, ctypes.CDLL(str(file))
    except FileNotFoundError as error:
        raise UnavailableError(
            f"they were not compiled when stgraph was installed; with a C compiler, {again}"
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UnavailableError(f"{file} cannot be loaded ({error}); {again}") from error


# OpenMP's threads do not survive a fork, so waiting for them in the child process would never end.
_process = os.getpid()


def may_share() -> bool:
    """Whether this process has the threads that work can be shared among: a forked one has lost them."""
    return os.getpid() == _process
