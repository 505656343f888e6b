"""Which kernels serve."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest
import torch

from stgraph import StgraphError, STSimDiff, VideoTokens, kernels
<<<<<<< HEAD
from stgraph.app import doctor
from stgraph.kernels import library
from stgraph.kernels.library import UnavailableError, build
=======
>>>>>>> 7b7d115 (Kernels are compiled when stgraph is installed, one library for all processors, with the same bits on each; groups and the thread pool go)

SELECT = """
import torch
from stgraph import STSimDiff, VideoTokens, kernels
x = torch.randn(6, 5, 5, 32, generator=torch.Generator().manual_seed(0))
first, second = (STSimDiff()(VideoTokens.from_grid(x)) for _ in range(2))
assert torch.equal(first.centrality, second.centrality)
print(kernels.active())
"""


def run(code: str, kernels: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "STGRAPH_KERNELS": kernels}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)


<<<<<<< HEAD
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
=======
def test_environment_forces():
    for name, serving in (("reference", "reference"), ("fused", "fused"), ("auto", "fused"), ("", "fused")):
        out = run(SELECT, name)
        assert (out.stdout, out.stderr) == (f"{serving}\n", "")
    assert "STGRAPH_KERNELS must be one of auto, fused, reference, triton, got 'fast'" in run(SELECT, "fast").stderr
>>>>>>> 7b7d115 (Kernels are compiled when stgraph is installed, one library for all processors, with the same bits on each; groups and the thread pool go)


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
