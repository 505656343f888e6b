"""Compile the fused CPU kernels: run when stgraph is installed, or by ``python -m stgraph.kernels.build``.

Plain C becomes one shared library beside this file. It holds every kernel once for each level of vector instructions;
which level serves is decided when it is loaded. Only the standard library is used here, because the build hook of the
package (``hatch_build.py``) runs this file where nothing else is installed.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent

LIBRARY = "libstgraph.so"
"""The shared library."""

RECORD = "libstgraph.json"
"""What it was made of: the digest of the sources, its size in bytes, levels, compiler, and whether it has threads."""

LEVELS = ("baseline", "avx2", "avx512")
"""Levels of vector instructions, the lowest first; processors other than x86-64 have the first alone."""

# Long known to compilers, where the names of whole levels (x86-64-v4) are not. F16C comes with every AVX2.
_OPTIONS = {
    "baseline": (),
    "avx2": ("-mavx2", "-mf16c"),
    "avx512": ("-mavx2", "-mf16c", "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl"),
}

# Products are never fused with sums, and sums never put in another order: all levels give the same bits.
_FLAGS = ("-std=gnu11", "-O2", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-fPIC", "-w")


class BuildError(Exception):
    """The library cannot be made; the text says why."""


def sources() -> list[Path]:
    """The C files and their headers."""
    return sorted((FOLDER / "c").glob("*.[ch]"))


def digest() -> str:
    """Of the sources and of this file, which says how they are compiled."""
    state = hashlib.sha256()
    for source in (*sources(), Path(__file__)):
        state.update(source.name.encode() + b"\0" + source.read_bytes())
    return state.hexdigest()


def build() -> dict[str, Any]:
    """Compile, and put the library and its record into :data:`FOLDER` atomically; returns the record.

    The compiler is what the variable ``CC`` names, else cc, gcc or clang. A level that it does not know is left out,
    and threads are where it has no OpenMP.

    Raises:
        BuildError: no compiler, one that fails, or a folder that cannot be written.
    """
    compiler = _compiler()
    try:
        with tempfile.TemporaryDirectory(prefix="stgraph-kernels-") as scratch:
            made, levels, threads = _compile(compiler, Path(scratch))
            record = {
                "sources": digest(),
                "bytes": made.stat().st_size,
                "levels": levels,
                "threads": threads,
                "compiler": _version(compiler),
            }
            text = Path(scratch) / RECORD
            text.write_text(json.dumps(record, indent=2) + "\n", "utf-8")
            for file in (made, text):  # The record is written last: it shows that the library is complete.
                _put(file, FOLDER / file.name)
    except OSError as error:
        raise BuildError(f"the fused kernels cannot be written to {FOLDER}: {error.strerror or error}") from error
    return record


def _compile(compiler: list[str], scratch: Path) -> tuple[Path, list[str], bool]:
    """The library, its levels, and whether it has threads."""
    common = FOLDER / "c" / "levels.c"
    kernels = [str(source.resolve()) for source in sources() if source.suffix == ".c" and source != common]
    threads = True
    try:
        _run([*compiler, *_FLAGS, "-fopenmp", "-shared", str(common.resolve()), "-o", "probe.so"], scratch)
    except BuildError:
        threads = False
    flags = [*_FLAGS, *(["-fopenmp"] if threads else [])]
    objects: list[str] = []
    levels: list[str] = []
    for level in LEVELS if platform.machine().lower() in ("x86_64", "amd64") else LEVELS[:1]:
        (scratch / level).mkdir()
        try:
            _run([*compiler, *flags, f"-DLEVEL={level}", *_OPTIONS[level], "-c", *kernels], scratch / level)
        except BuildError:
            if level == LEVELS[0]:
                raise
            continue
        levels.append(level)
        objects += [str(made) for made in sorted((scratch / level).glob("*.o"))]
    made = scratch / LIBRARY
    _run([*compiler, *flags, "-shared", str(common.resolve()), *objects, "-o", str(made), "-lm"], scratch)
    return made, levels, threads


def _compiler() -> list[str]:
    """The C compiler as a command: what ``CC`` names, else cc, gcc or clang."""
    try:
        named = shlex.split(os.environ.get("CC", ""))
    except ValueError as error:
        raise BuildError(
            f"the environment variable CC must hold a command, got {os.environ['CC']!r} ({error}); correct or unset it"
        ) from error
    for candidate in [named] if named else [["cc"], ["gcc"], ["clang"]]:
        if found := shutil.which(candidate[0]):
            return [found, *candidate[1:]]
    raise BuildError("there is no C compiler (the one that CC names, or cc, gcc, clang); install one")


def _run(command: list[str], folder: Path) -> str:
    try:
        done = subprocess.run(
            command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=True
        )
    except subprocess.CalledProcessError as error:
        said = [line for line in error.stderr.splitlines() if "error" in line] or [f"exit code {error.returncode}"]
        raise BuildError(f"the C compiler {shlex.quote(command[0])} failed: {said[0].strip()}") from error
    except OSError as error:
        raise BuildError(f"the C compiler {shlex.quote(command[0])} cannot be run: {error.strerror}") from error
    return done.stdout


def _version(compiler: list[str]) -> str:
    try:
        return _run([*compiler, "--version"], FOLDER).splitlines()[0]
    except (BuildError, IndexError):
        return shlex.join(compiler)


def _put(file: Path, target: Path) -> None:
    """Copy a file atomically: another process sees the whole file or none."""
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        shutil.copyfile(file, beside)
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)


if __name__ == "__main__":
    try:
        record = build()
    except BuildError as error:
        sys.exit(f"{error}")
    print(f"{FOLDER / LIBRARY}: {', '.join(record['levels'])}; {'threads' if record['threads'] else 'one thread'}")
