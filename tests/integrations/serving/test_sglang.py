"""The contract of SGLang's plugin hook, as far as it can be held without SGLang: names, kinds, signatures, results."""

from __future__ import annotations

import enum
import inspect
import sys
from types import ModuleType

import pytest
import torch

from stgraph.integrations.serving import sglang

COUNT, MASK = (f"{sglang.TARGET}.{name}" for name in ("compute_retained_tokens_count", "compute_retention_mask"))


class HookType(enum.Enum):
    REPLACE = "replace"


@pytest.fixture
def hooks(monkeypatch):
    """A registry with the call of SGLang 0.5.23: ``HookRegistry.register(target, hook, hook_type)``."""
    registered = {}

    class HookRegistry:
        @classmethod
        def register(cls, target, hook, hook_type):
            assert hook_type is HookType.REPLACE
            registered[target] = hook

    module = ModuleType("sglang.srt.plugins.hook_registry")
    module.HookRegistry, module.HookType = HookRegistry, HookType
    for name in ("sglang", "sglang.srt", "sglang.srt.plugins"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return registered


def test_both_functions_are_replaced(hooks, monkeypatch, tmp_path):
    monkeypatch.setenv("STGRAPH_SGLANG", "selector=simdiff")
    monkeypatch.setenv("STGRAPH_SGLANG_DUMP", str(tmp_path))
    sglang.register()
    assert set(hooks) == {COUNT, MASK}
    assert list(inspect.signature(hooks[COUNT]).parameters) == ["tokens_per_frame", "num_frames", "q"]
    assert list(inspect.signature(hooks[MASK]).parameters) == [
        "video_embeds",
        "video_size_thw",
        "spatial_merge_size",
        "q",
    ]
    assert hooks[COUNT](20, 3, q=0.7) == 18
    features = torch.randn(60, 8, generator=torch.Generator().manual_seed(0))
    mask = hooks[MASK](features, torch.tensor([3, 8, 10]), spatial_merge_size=2, q=0.7)
    assert mask.shape == (60,)
    assert int(mask.sum()) == 18
    assert len(list(tmp_path.iterdir())) == 1


def test_without_the_variable_nothing_is_registered(hooks, monkeypatch):
    monkeypatch.delenv("STGRAPH_SGLANG", raising=False)
    sglang.register()
    assert not hooks
