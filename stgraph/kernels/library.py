"""The compiled library of the fused CPU kernels: where it lies, how it is made, how it is loaded.

It is made from a few files of plain C by the C compiler of this machine, once, and kept in the user's cache folder.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import torch

SOURCES = sorted(Path(__file__).with_name("c").glob("*.[ch]"))

_FLAGS = ("-std=gnu11", "-O2", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-w", "-fPIC", "-shared")

# By levels that every machine of that kind has, so that a cache folder may be shared between machines.
_LEVELS = {"AVX512": "-march=x86-64-v4", "AVX2": "-march=x86-64-v3"}

_KINDS = {"p": ctypes.c_void_p, "n": ctypes.c_int64, "d": ctypes.c_double}

# The arguments of the functions of the library: pointers, whole numbers, doubles. All return a whole number.
_SIGNATURES = {
    "use_runtime": "p",
    "lattice_groups": "p",
    "lattice_room": "p",
    "lattice_cosines": "pdppppppn",
    "row_norms": "ppnn",
    "pair_cosines": "ppppnn",
    "components": "ppnnp",
    "lattice_components": "pppnnnndpp",
    "merge_forest": "ppnnppppppp",
    "community_ranks": "pnpndp",
    "first_of": "ppnnpp",
    "centrality": "pppnnppnpn",
}


class UnavailableError(Exception):
    """The library cannot be had; the text says why."""


def folder() -> Path:
    """Where compiled libraries are kept: ``$XDG_CACHE_HOME/stgraph``, by default ``~/.cache/stgraph``."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stgraph"
    except RuntimeError as error:
        raise UnavailableError("there is no home folder to keep them in; set XDG_CACHE_HOME") from error


def path() -> Path:
    """The library for this source, these flags and this kind of processor, whether it exists or not."""
    texts = [source.read_text("utf-8") for source in SOURCES]
    recipe = (*texts, *_FLAGS, _level(), platform.machine(), platform.system())
    return folder() / f"fused-{hashlib.sha256('|'.join(recipe).encode()).hexdigest()[:16]}.so"


def is_made() -> bool:
    """Whether the library is there."""
    return path().exists()


def prepare() -> list[str]:
    """Make the cache folder, and find the C compiler: its command.

    Raises:
        UnavailableError: no compiler, or a cache folder that cannot be written.
    """
    try:
        folder().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder()):
            pass
    except OSError as error:
        raise UnavailableError(f"they cannot be kept in {folder()} ({error.strerror}); set XDG_CACHE_HOME") from error
    command = _compiler()
    if command is None:
        raise UnavailableError("there is no C compiler (the one that CC names, or cc, gcc, clang); install one")
    return command


def build(*, patient: bool = False) -> Path:
    """Compile the library unless it is there.

    Args:
        patient: leave the processor to others that want it.

    Raises:
        UnavailableError: as :func:`prepare`, or a compiler that fails.
    """
    target = path()
    if target.exists():
        return target
    command = prepare()
    if patient and (nice := shutil.which("nice")):
        command = [nice, "-n", "19", *command]
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        made = Path(scratch) / target.name
        sources = [str(source) for source in SOURCES if source.suffix == ".c"]
        arguments = [*_FLAGS, *filter(None, [_level()]), *sources, "-o", str(made), "-lm", "-pthread"]
        try:
            subprocess.run([*command, *arguments], check=True, stdin=subprocess.DEVNULL, capture_output=True, text=True)
            made.replace(target)  # whole or not at all, also for another process that looks for it
        except subprocess.CalledProcessError as error:
            said = [line for line in error.stderr.splitlines() if "error" in line] or [f"exit code {error.returncode}"]
            raise UnavailableError(f"the C compiler {shlex.join(command)} failed: {said[0].strip()}") from error
        except OSError as error:
            raise UnavailableError(f"they cannot be compiled with {shlex.join(command)}: {error}") from error
    return target


def _compiler() -> list[str] | None:
    """The C compiler as a command, or None: what ``CC`` names, else cc, gcc or clang."""
    named = shlex.split(os.environ.get("CC", ""))
    for candidate in [named] if named else [["cc"], ["gcc"], ["clang"]]:
        if found := shutil.which(candidate[0]):
            return [found, *candidate[1:]]
    return None


@cache
def library() -> ctypes.CDLL:
    """The compiled library, made first when it is not there. Its functions run without the interpreter's lock.

    Raises:
        UnavailableError: it cannot be made or loaded.
    """
    file = build()
    try:
        return _load(file)
    except (OSError, AttributeError):  # a damaged file: make it anew, once
        try:
            file.unlink()
            return _load(build())
        except (OSError, AttributeError) as error:
            raise UnavailableError(f"{file} cannot be loaded: {error}") from error


def _load(file: Path) -> ctypes.CDLL:
    loaded = ctypes.CDLL(str(file))
    for name, kinds in _SIGNATURES.items():
        function = getattr(loaded, name)
        function.argtypes = [_KINDS[kind] for kind in kinds]
        function.restype = ctypes.c_int64
    use_torch_threads(loaded)
    return loaded


def use_torch_threads(loaded: ctypes.CDLL) -> None:
    """Have the library do its work by the threads of torch's OpenMP runtime, which torch makes visible to all, where
    there is one.
    """
    runtime = getattr(ctypes.CDLL(None), "GOMP_parallel", None)
    loaded.use_runtime(ctypes.cast(runtime, ctypes.c_void_p) if runtime else None)


def _level() -> str:
    return _LEVELS.get(torch.backends.cpu.get_cpu_capability(), "")
