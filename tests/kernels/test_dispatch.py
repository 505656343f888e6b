"""Which kernels serve."""

from __future__ import annotations

import threading

import pytest
import torch

from stgraph import StgraphError, STSimDiff, VideoTokens, kernels
from stgraph.kernels import dispatch


def test_environment_forces(monkeypatch):
    monkeypatch.setattr(dispatch, "_forced", None)
    for name, serving in (("reference", "reference"), ("fused", "fused"), ("auto", "fused"), ("", "fused")):
        monkeypatch.setenv("STGRAPH_KERNELS", name)
        assert kernels.active() == serving
    monkeypatch.setenv("STGRAPH_KERNELS", "fast")
    with pytest.raises(StgraphError, match="STGRAPH_KERNELS must be one of auto, fused, reference, triton, got 'fast'"):
        kernels.active()


def test_use_forces_until_its_block_ends():
    with kernels.using("reference"):
        assert kernels.active() == "reference"
        with kernels.using("fused"):
            assert kernels.active() == "fused"
            assert kernels.active("cpu", torch.bfloat16) == "fused"
            with pytest.raises(StgraphError, match="fused kernels take float32, float16 and bfloat16 on a CPU"):
                kernels.active("meta")
        assert kernels.active() == "reference"

    with kernels.using("auto"):
        assert kernels.active("meta") == kernels.active(dtype=torch.float64) == "reference"
    with pytest.raises(StgraphError, match="did you mean 'fused'"):
        kernels.use("fussed")


def test_selecting_in_many_threads_at_once():
    x = torch.randn(6, 5, 5, 64, generator=torch.Generator().manual_seed(0))
    with kernels.using("fused"):
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
    with kernels.using("triton"), pytest.raises(StgraphError, match=r"Triton kernels .* got torch\.float32 on cpu"):
        kernels.active("cpu")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    with kernels.using("triton"), pytest.raises(StgraphError, match=r"got torch.float64 on cpu"):
        kernels.active("cpu", torch.float64)
