"""Which kernels serve, and what happens where the fused ones cannot be had."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from stgraph import StgraphError, STSimDiff, VideoTokens, kernels
from stgraph.app import doctor
from stgraph.kernels import library
from stgraph.kernels.library import UnavailableError, build

SELECT = """
import torch
from stgraph import STSimDiff, VideoTokens, kernels
x = torch.randn(6, 5, 5, 32, generator=torch.Generator().manual_seed(0))
first, second = (STSimDiff()(VideoTokens.from_grid(x)) for _ in range(2))
assert torch.equal(first.centrality, second.centrality)
print(kernels.active())
"""


def run(code: str, cache: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if k != "CC"}
    environment = {**kept, "STGRAPH_KERNELS": "auto", "XDG_CACHE_HOME": str(cache), **environment}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)


def test_first_process_compiles_for_the_next(tmp_path):
    first, second = run(SELECT, tmp_path), run(SELECT, tmp_path)
    assert (first.stdout, first.stderr) == ("reference\n", "")
    assert [file.suffix for file in (tmp_path / "stgraph").iterdir()] == [".so"]
    assert (second.stdout, second.stderr) == ("fused\n", "")


@pytest.mark.parametrize("trouble", ["no compiler", "broken compiler", "no folder"])
def test_without_fused_kernels_one_warning_says_why(trouble, tmp_path):
    environment, cache = {}, tmp_path
    if trouble == "no compiler":
        environment, reason = {"CC": "no-such-compiler"}, "there is no C compiler"
    elif trouble == "broken compiler":
        environment, reason = {"CC": "false"}, "failed: exit code 1"
    else:
        cache, reason = tmp_path / "file", "cannot be kept in"
        cache.write_text("not a folder")
    out = run(SELECT, cache, **environment)
    assert out.stdout == "reference\n"
    assert out.stderr.count("Warning") == 1
    assert reason in out.stderr


def test_importing_compiles_nothing(tmp_path):
    assert run("import stgraph.app.cli, stgraph.selectors.simdiff", tmp_path).returncode == 0
    assert list(tmp_path.iterdir()) == []


def test_waiting_for_the_compiler(tmp_path):
    now = "from stgraph import kernels; kernels.compile_now()"
    out = run(now + SELECT, tmp_path, STGRAPH_KERNELS="")
    assert (out.stdout, out.stderr) == ("fused\n", "")
    assert run(now + SELECT, tmp_path / "empty", STGRAPH_KERNELS="reference").stdout == "reference\n"
    assert not (tmp_path / "empty").exists()
    missing = run(now + SELECT, tmp_path / "empty", CC="no-such-compiler")
    assert missing.stdout == "reference\n"
    assert missing.stderr.count("Warning") == 1


def test_the_first_run_of_the_command_line_waits(tmp_path):
    words = "['stgraph', 'methods', 'community']", "['stgraph', 'compress', 'none.mp4', '--quiet']"
    run(f"import sys; sys.argv = {words[0]}; from stgraph.app.cli import main; main()", tmp_path)
    assert list(tmp_path.iterdir()) == []
    run(f"import sys; sys.argv = {words[1]}; from stgraph.app.cli import main; main()", tmp_path)
    assert [file.suffix for file in (tmp_path / "stgraph").iterdir()] == [".so"]


def test_environment_forces(tmp_path):
    silent = run(SELECT, tmp_path, STGRAPH_KERNELS="reference", CC="no-such-compiler")
    assert (silent.stdout, silent.stderr) == ("reference\n", "")
    forced = run(SELECT, tmp_path, STGRAPH_KERNELS="fused")
    assert (forced.stdout, forced.stderr) == ("fused\n", "")
    wrong = run(SELECT, tmp_path, STGRAPH_KERNELS="fast")
    assert "STGRAPH_KERNELS must be one of auto, fused, reference, triton, got 'fast'" in wrong.stderr


def test_use_forces_until_its_block_ends():
    with kernels.use("reference"):
        assert kernels.active() == "reference"
        with kernels.use("fused"):
            assert kernels.active() == "fused"
            assert kernels.active("cpu", torch.bfloat16) == "fused"
            with pytest.raises(StgraphError, match="fused kernels take float32, float16 and bfloat16 on a CPU"):
                kernels.active("meta")
        assert kernels.active() == "reference"

    with kernels.use("auto"):
        assert kernels.active("meta") == kernels.active(dtype=torch.float64) == "reference"
    with pytest.raises(StgraphError, match="did you mean 'fused'"):
        kernels.use("fussed")


@pytest.fixture
def unloaded(monkeypatch, tmp_path):
    """No library loaded, and an empty cache folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    library.library.cache_clear()
    yield
    library.library.cache_clear()


@pytest.mark.usefixtures("unloaded")
def test_forced_without_a_compiler_is_one_sentence(monkeypatch):
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(StgraphError, match=r"fused kernels cannot be used: there is no C compiler"):
        kernels.use("fused")
    row = next(check for check in doctor.checks() if check.name == "fused kernels")
    assert not row.usable
    assert "no C compiler" in row.state


@pytest.mark.usefixtures("unloaded")
def test_damaged_library_is_made_again():
    library.path().parent.mkdir(parents=True)
    library.path().write_bytes(b"not a library")
    with kernels.use("fused"):
        assert torch.equal(kernels.norms(torch.full((1, 4), 3.0), torch.zeros(1).long()), torch.tensor([6.0]).double())


@pytest.mark.usefixtures("unloaded")
def test_source_that_does_not_compile_says_the_compilers_first_error(monkeypatch, tmp_path):
    source = tmp_path / "wrong.c"
    source.write_text("int wrong(void) { return missing; }\n")
    monkeypatch.setattr(library, "SOURCES", [source])
    with pytest.raises(UnavailableError, match=r"failed: .*missing"):
        build()
    assert list(library.folder().iterdir()) == []


def test_selecting_in_many_threads_at_once():
    x = torch.randn(6, 5, 5, 64, generator=torch.Generator().manual_seed(0))
    with kernels.use("fused"):
        expected = STSimDiff()(VideoTokens.from_grid(x)).digest
        digests: list[str] = []
        workers = [
            threading.Thread(target=lambda: digests.append(STSimDiff()(VideoTokens.from_grid(x)).digest))
            for _ in range(8)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    assert digests == [expected] * 8


def test_triton_needs_a_gpu_or_its_interpreter(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with kernels.use("triton"), pytest.raises(StgraphError, match=r"Triton kernels take .* got torch\.float32 on cpu"):
        kernels.active("cpu")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    with kernels.use("triton"), pytest.raises(StgraphError, match=r"got torch.float64 on cpu"):
        kernels.active("cpu", torch.float64)


FORK = """
import os, torch
from stgraph import kernels
kernels.use("fused")
torch.set_num_threads(2)
x, rows = torch.randn(2000, 512, generator=torch.Generator().manual_seed(0)), torch.arange(2000)
expected = kernels.norms(x, rows)  # the threads of torch's runtime are there now; a child has none of them
child = os.fork()
if not child:
    os._exit(0 if torch.equal(kernels.norms(x, rows), expected) else 3)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_forked_process_has_threads_of_its_own():
    """Those of torch's OpenMP runtime are gone there, and who waits for them waits for ever."""
    done = subprocess.run([sys.executable, "-c", FORK], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == "0\n"


def test_helpers_that_come_late_are_done_without_for_a_while():
    """As where other work keeps the cores busy: the runtime is asked again after 8 jobs, then after 16, and so on."""
    x, rows = torch.randn(4096, 256), torch.arange(4096)
    work = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
    parallel = ctypes.CFUNCTYPE(None, work, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)
    asked, late = [], True

    def runtime(take, job, threads, flags):
        take(job)
        asked.append(threads)
        if late:
            time.sleep(0.05)

    fake = parallel(runtime)
    before = torch.get_num_threads()
    with kernels.use("fused"):
        expected = kernels.norms(x, rows)
        torch.set_num_threads(2)
        try:
            library.library().use_runtime(ctypes.cast(fake, ctypes.c_void_p))
            for jobs, times in ((1, 1), (8, 1), (1, 2), (16, 2), (1, 3)):
                for _ in range(jobs):
                    assert torch.equal(kernels.norms(x, rows), expected)
                assert len(asked) == times
            late = False
            for _ in range(32 + 5):
                kernels.norms(x, rows)
            assert len(asked) == 3 + 5, "nobody is late any more, so help is taken every time"
        finally:
            torch.set_num_threads(before)
            library.use_torch_threads(library.library())
    assert asked == [2] * 8
