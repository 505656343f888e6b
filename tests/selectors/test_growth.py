"""No quadratic growth, by counting: twice the tokens are at most twice the work, whatever the machine is doing."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.tokens import clip, frames_of, similar_share
from stgraph import STSimDiff, VideoTokens, kernels, stream
from stgraph.community import COMMUNITIES
from stgraph.difference import DIFFERENCES
from stgraph.importance import IMPORTANCES

from ..memory import peak_growth


class Count(TorchDispatchMode):
    """Counts the torch operations of a block and the elements that they make or change; views are free."""

    def __enter__(self):
        self.operations = self.elements = 0
        return super().__enter__()

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        self.operations += 1
        aliases = [returned.alias_info for returned in operation._schema.returns]
        if not any(aliases):
            self.elements += _largest(result)
        elif any(alias.is_write for alias in aliases if alias):  # what is written into a part is the size of the rest
            self.elements += _largest([args[1:], kwargs]) or _largest(result)
        return result


def _largest(values):
    return max((leaf.numel() for leaf in tree_leaves(values) if isinstance(leaf, torch.Tensor)), default=0)


def work(selector, frames, share=0.6):
    tokens = VideoTokens.from_grid(clip(frames, 16, share))
    with kernels.using("reference"), Count() as counted:  # the fused ones are no torch operations
        selector(tokens)
    return counted


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_the_selection_is_linear(share):
    once, twice = work(STSimDiff(), 24, share), work(STSimDiff(), 48, share)
    assert once.elements > 24 * 196 * 16  # counted at all
    assert twice.elements <= 2.1 * once.elements
    assert twice.operations <= 2.1 * once.operations


@pytest.mark.parametrize("name", [*DIFFERENCES])
def test_difference_detectors_are_linear(name):
    selector = STSimDiff(difference=DIFFERENCES.build(name))
    once, twice = work(selector, 40), work(selector, 80)  # beyond the longest memory of a detector
    assert twice.elements <= 2.1 * once.elements


@pytest.mark.parametrize("name", [name for name in IMPORTANCES if not name.endswith("attention")])
def test_importances_are_linear(name):
    selector = STSimDiff(importance=IMPORTANCES.build(name))
    assert work(selector, 40).elements <= 2.1 * work(selector, 20).elements


@pytest.mark.parametrize("name", ["components", "sqrt_split"])
def test_community_detectors_of_our_own_are_linear(name):
    selector = STSimDiff(community=COMMUNITIES.build(name))
    assert work(selector, 80).elements <= 2.1 * work(selector, 40).elements


def test_memory_grows_with_the_tokens_and_not_faster():
    def extra(frames):
        return peak_growth(
            f"""
import torch
from stgraph import STSimDiff, VideoTokens
torch.set_num_threads(1)
STSimDiff()(VideoTokens.from_grid(torch.randn(2, 14, 14, 8)))
tokens = VideoTokens.from_grid(torch.ones({frames}, 14, 14, 8))
""",
            "STSimDiff()(tokens)",
        )[0]

    small = extra(600)
    assert small > 600 * 196  # some bytes for each token
    assert extra(4800) <= 24 * small  # eight times, give or take what was free before; quadratic growth: sixty-four


def test_a_stream_does_the_same_work_for_every_window():
    def elements(frames):
        x = [frame for frame, _ in zip(frames_of(16, 0.6), range(frames), strict=False)]
        with kernels.using("reference"), Count() as counted:
            for _ in stream(x, window=16):
                pass
        return counted.elements

    assert elements(128) <= 2.1 * elements(64)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 1.0])
def test_benchmark_tokens_are_as_redundant_as_asked_for(share):
    x = clip(60, 256, share)
    assert similar_share(x) == pytest.approx(share, abs=0.06)
    assert torch.equal(x, clip(60, 256, share))
    with_newline = clip(60, 256, share, newline=True)
    assert with_newline.shape == (60, 14, 15, 256)
    newlines = with_newline[:, :, 14].reshape(-1, 256)
    assert torch.equal(newlines, newlines[:1].expand_as(newlines))
