"""How the fused kernels are compiled, shipped and loaded, and what happens where they cannot be had."""

from __future__ import annotations

import json
import os
import platform
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from stgraph import StgraphError, STSimDiff, VideoTokens, kernels
from stgraph.kernels import build, library
from stgraph.kernels.build import LIBRARY, RECORD, BuildError
from stgraph.kernels.library import UnavailableError

PACKAGE = Path(build.__file__).parents[1]

SELECT = """
import torch
from stgraph import STSimDiff, VideoTokens, kernels
x = torch.randn(6, 5, 5, 32, generator=torch.Generator().manual_seed(0))
first, second = (STSimDiff()(VideoTokens.from_grid(x)) for _ in range(2))
assert torch.equal(first.centrality, second.centrality)
print(kernels.active(), first.digest)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A copy of the library and its record, which is what is loaded."""
    sources = build.sources()
    for name in (LIBRARY, RECORD):
        shutil.copy(build.FOLDER / name, tmp_path)
    monkeypatch.setattr(build, "FOLDER", tmp_path)
    monkeypatch.setattr(build, "sources", lambda: sources)
    for cached in (library.library, library._loaded):
        cached.cache_clear()
    yield tmp_path
    for cached in (library.library, library._loaded):
        cached.cache_clear()


@pytest.fixture
def small(tmp_path, monkeypatch):
    """Sources that are compiled in no time."""
    (tmp_path / "c").mkdir()
    shutil.copy(build.FOLDER / "c" / "levels.c", tmp_path / "c")
    (tmp_path / "c" / "small.c").write_text(
        "#define JOIN(level) small_##level\n#define AT(level) JOIN(level)\nint AT(LEVEL)(void) { return 1; }\n", "utf-8"
    )
    monkeypatch.setattr(build, "FOLDER", tmp_path)
    return tmp_path


@pytest.fixture
def installed(tmp_path):
    """The package as it is installed without a compiler, in a folder of its own."""
    shutil.copytree(PACKAGE, tmp_path / "stgraph", ignore=shutil.ignore_patterns(LIBRARY, RECORD, "__pycache__"))
    return tmp_path


def run(code: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if k not in ("CC", "STGRAPH_KERNELS")}
    kept |= {"PYTHONPATH": str(folder), **environment}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=kept, cwd=folder, check=False
    )


def digest(kernel: str) -> str:
    x = torch.randn(6, 5, 5, 32, generator=torch.Generator().manual_seed(0))
    with kernels.using(kernel):
        return STSimDiff()(VideoTokens.from_grid(x)).digest


def test_without_compiled_kernels_one_warning_says_why_and_nothing_is_compiled(installed):
    """Nor is a library looked for outside the package, where somebody else may have put it."""
    home = installed / "home"
    for place in (home / "stgraph", home / ".cache" / "stgraph"):
        place.mkdir(parents=True)
        for name in (LIBRARY, "fused-0123456789abcdef.so"):
            (place / name).write_bytes(b"planted")
    out = run(SELECT, installed, XDG_CACHE_HOME=str(home), HOME=str(home))
    assert out.stdout == f"reference {digest('reference')}\n"
    assert out.stderr.count("Warning") == 1
    assert "they were not compiled when stgraph was installed" in out.stderr
    assert "python -m stgraph.kernels.build" in out.stderr
    assert not [file for name in (LIBRARY, RECORD) for file in (installed / "stgraph").rglob(name)]


def test_the_first_process_has_the_kernels_of_all_later_ones(installed):
    for name in (LIBRARY, RECORD):
        shutil.copy(PACKAGE / "kernels" / name, installed / "stgraph" / "kernels")
    first = run(SELECT, installed)
    assert (first.stdout, first.stderr) == (f"fused {digest('fused')}\n", "")


def test_a_truncated_library_is_one_sentence(folder):
    file = folder / LIBRARY
    file.write_bytes(file.read_bytes()[:9000])
    with pytest.raises(UnavailableError, match=r"is damaged; run python -m stgraph.kernels.build"):
        library.library()
    with pytest.raises(StgraphError, match=r"fused kernels cannot be used: .* is damaged"):
        kernels.use("fused")


@pytest.mark.parametrize("record", ["", "[]", "{}", "not JSON", '{"sources": 1, "bytes": 2, "levels": []}'])
def test_a_damaged_record_is_one_sentence(folder, record):
    (folder / RECORD).write_text(record, "utf-8")
    with pytest.raises(UnavailableError, match=r"run python -m stgraph.kernels.build"):
        library.library()


def test_a_library_older_than_its_sources_is_not_loaded(folder):
    record = json.loads((folder / RECORD).read_text("utf-8"))
    (folder / RECORD).write_text(json.dumps(record | {"sources": "0" * 64}), "utf-8")
    with pytest.raises(UnavailableError, match=r"is older than its sources"):
        library.library()


def test_a_library_that_is_none_is_one_sentence(folder):
    size = (folder / LIBRARY).stat().st_size
    (folder / LIBRARY).write_bytes(b"no library" * size)
    with pytest.raises(UnavailableError, match=r"cannot be loaded"):
        library.library()


@pytest.mark.parametrize(
    ("compiler", "reason"),
    [
        ("no-such-compiler", "there is no C compiler"),
        ("false", "failed: exit code 1"),
        ("gcc '", "CC must hold a command"),
    ],
)
def test_compilers_that_do_not_serve(small, compiler, reason, monkeypatch):
    monkeypatch.setenv("CC", compiler)
    with pytest.raises(BuildError, match=reason):
        build.build()
    assert [path.name for path in small.iterdir()] == ["c"]


@pytest.mark.parametrize("compiler", [" ", "", "cc -O1"])
def test_compilers_that_serve(small, compiler, monkeypatch):
    monkeypatch.setenv("CC", compiler)
    assert build.build()["levels"][0] == "baseline"
    assert sorted(path.name for path in small.iterdir()) == ["c", RECORD, LIBRARY]


def test_an_old_compiler_loses_no_more_than_what_it_does_not_know(small, monkeypatch):
    """One without AVX-512 and without OpenMP."""
    old = small / "old-cc"
    refuse = 'case $word in *avx512*|-fopenmp) echo "error: $word" >&2; exit 1;; esac'
    old.write_text(f'#!/bin/sh\nfor word in "$@"; do {refuse}; done\nexec cc "$@"\n', "utf-8")
    old.chmod(old.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("CC", str(old))
    record = build.build()
    assert record["levels"] == list(build.LEVELS[:2] if platform.machine() == "x86_64" else build.LEVELS[:1])
    assert record["threads"] is False


def test_a_source_that_does_not_compile_says_the_compilers_first_error(small):
    (small / "c" / "wrong.c").write_text("int wrong(void) { return missing; }\n", "utf-8")
    with pytest.raises(BuildError, match=r"failed: .*missing"):
        build.build()
    assert [path.name for path in small.iterdir()] == ["c"]


def test_a_killed_compile_leaves_nothing_in_the_package(small):
    """What is not done lies in the folder for temporary files; the package gets whole files only."""
    slow = small / "slow-cc"
    slow.write_text('#!/bin/sh\ntouch "$(dirname "$0")/begun"\nexec sleep 60\n', "utf-8")
    slow.chmod(slow.stat().st_mode | stat.S_IXUSR)
    shutil.copy(str(build.__file__), small)
    command = [sys.executable, "-I", "-S", str(small / "build.py")]
    environment = {**os.environ, "CC": str(slow), "TMPDIR": str(small)}
    process = subprocess.Popen(command, env=environment, start_new_session=True)
    while not (small / "begun").exists():
        assert process.poll() is None
    os.killpg(process.pid, 9)
    process.wait()
    assert not (small / LIBRARY).exists()
    assert not (small / RECORD).exists()


def test_a_folder_that_cannot_be_written_is_one_sentence(small):
    (small / LIBRARY).mkdir()
    with pytest.raises(BuildError, match=r"cannot be written to"):
        build.build()


def test_building_needs_nothing_but_the_standard_library(small):
    """The build hook runs where neither torch nor stgraph is installed."""
    shutil.copy(str(build.__file__), small)
    command = [sys.executable, "-I", "-S", str(small / "build.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{LIBRARY}: baseline" in done.stdout


def test_threads_are_those_of_torch_and_a_forked_process_goes_on_alone():
    """A second OpenMP runtime would have threads of its own, which wait for the same cores. In a forked process the
    threads are gone, and who waits for them waits for ever.
    """
    code = """
import os, torch
from stgraph import kernels
torch.set_num_threads(2)
x, rows = torch.randn(4000, 1024), torch.arange(4000)
(x @ x.T).sum()  # torch has its threads now
before = len(os.listdir('/proc/self/task'))
kernels.use("fused")
expected = kernels.norms(x, rows)
print(len(os.listdir('/proc/self/task')) - before)
child = os.fork()
if not child:
    os._exit(0 if torch.equal(kernels.norms(x, rows), expected) else 3)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert library.library().threads
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout == "0\n0\n"
