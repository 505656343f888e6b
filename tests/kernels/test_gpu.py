"""The Triton programs against the reference kernels: on a GPU where there is one, else by Triton's interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import ClassVar

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from stgraph import Signals, StgraphError, STSimDiff, VideoTokens, kernels
from stgraph.community import COMMUNITIES
from stgraph.difference.threshold import Threshold
from stgraph.importance import IMPORTANCES
from stgraph.kernels import gpu, reference
from stgraph.selectors.device import select_on_device

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

# The interpreter computes with numpy, which speaks up where a GPU does not.
pytestmark = [
    pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning"),
]

OFFSETS = ((0, 0, 1), (0, 1, 0), (1, 0, 0), (1, -1, 1), (2, 0, 0))


def features(seed, shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def whole_numbers(shape, seed, dtype=torch.float32):
    """Features whose dot products are exact in float32, so that every kernel gives the same bits."""
    g = torch.Generator().manual_seed(seed)
    return (torch.randint(-2, 4, shape, generator=g) + 1).to(dtype).to(DEVICE)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_edges(dtype):
    x = features(0, (3, 4, 5, 70)).to(dtype)
    x[1, 2, 3] = 0
    norm, cosines = gpu.lattice_cosine(x.to(DEVICE), OFFSETS)
    expected_norm, expected = reference.lattice_cosine(x, OFFSETS)
    assert torch.allclose(norm.cpu(), expected_norm, rtol=1e-6)
    for found, wanted in zip(cosines, expected, strict=True):
        assert found.shape == wanted.shape
        assert (found.cpu() - wanted).abs().max() <= kernels.GRID


@pytest.mark.parametrize("view", ["newline", "transposed", "expanded", "every other feature"])
def test_edges_of_views(view):
    x = features(1, (3, 4, 5, 24)).to(DEVICE)
    x = {
        "newline": x[:, :, :4],
        "transposed": x.transpose(1, 2),
        "expanded": x[:1].expand(3, 4, 5, 24),
        "every other feature": x[..., ::2],
    }[view]
    norm, cosines = gpu.lattice_cosine(x, OFFSETS[:4])
    expected_norm, expected = reference.lattice_cosine(x, OFFSETS[:4])
    assert torch.allclose(norm, expected_norm, rtol=1e-6)
    assert all((a - b).abs().max() <= kernels.GRID for a, b in zip(cosines, expected, strict=True))


def test_extreme_magnitudes_and_what_is_not_finite():
    x = features(2, (3, 2, 3, 8))
    x[0, 0] *= 1e30
    x[1] *= 1e-25
    norm, cosines = gpu.lattice_cosine(x.to(DEVICE), OFFSETS)
    expected_norm, expected = reference.lattice_cosine(x, OFFSETS)
    assert torch.allclose(norm.cpu(), expected_norm, rtol=1e-6)
    assert all((a.cpu() - b).abs().max() <= kernels.GRID for a, b in zip(cosines, expected, strict=True))
    rows = torch.arange(18)
    labels = torch.tensor([0, 1, 2]).repeat_interleave(6)
    arguments = (rows, labels, torch.tensor([6, 6, 6]))
    found = gpu.community_centrality(*(v.to(DEVICE) for v in (x.view(18, 8), expected_norm.flatten(), *arguments)))
    wanted = reference.community_centrality(x.view(18, 8), expected_norm.flatten(), *arguments)
    assert torch.allclose(found.cpu(), wanted, atol=1e-6)
    for value in (float("nan"), float("inf")):
        x[2, 1, 1, 3] = value
        assert (~gpu.lattice_cosine(x.to(DEVICE), OFFSETS)[0].isfinite()).nonzero().tolist() == [[2, 1, 1]]
        assert not select_on_device(x.to(DEVICE)).finite


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_norms_and_pairs(dtype):
    x = features(3, (40, 33)).to(dtype)
    rows = torch.randperm(40, generator=torch.Generator().manual_seed(0))[:31]
    norm = reference.norms(x, rows)
    assert torch.allclose(gpu.norms(x.to(DEVICE), rows.to(DEVICE)).cpu(), norm, rtol=1e-6)
    pairs = torch.randint(0, 31, (2, 100), generator=torch.Generator().manual_seed(1))
    found = gpu.edge_cosine(*(v.to(DEVICE) for v in (x, norm, rows, pairs))).cpu()
    assert (found - reference.edge_cosine(x, norm, rows, pairs)).abs().max() <= kernels.GRID


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_centrality_of_communities_of_every_size(dtype):
    sizes = torch.tensor([200, 65, 64, 40, 17, 16, 9, 3, 2, 2, 2, 1, 1, 129, 1])
    labels = torch.arange(len(sizes)).repeat_interleave(sizes)
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))]
    x = (features(4, (len(labels), 37)) + 0.5).to(dtype)
    rows = torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))
    norm = reference.norms(x, rows)
    spare = torch.cat([sizes, torch.zeros(5, dtype=torch.int64)])  # the whole selection knows no better bound
    found = gpu.community_centrality(*(v.to(DEVICE) for v in (x, norm, rows, labels, spare))).cpu()
    wanted = reference.community_centrality(x, norm, rows, labels, sizes)
    assert torch.allclose(found, wanted, atol=1e-6)
    for pair in (8, 9, 10):
        assert len(found[labels == pair].unique()) == 1


def test_nothing_to_do():
    x = torch.zeros(0, 8, device=DEVICE)
    none = torch.zeros(0, dtype=torch.int64, device=DEVICE)
    assert gpu.norms(x, none).shape == (0,)
    assert gpu.edge_cosine(x, none.double(), none, none.view(2, 0)).shape == (0,)
    assert gpu.community_centrality(x, none.double(), none, none, none).shape == (0,)


@settings(max_examples=8)
@given(
    st.tuples(*[st.integers(1, n) for n in (2, 4, 5, 6, 40)]),
    st.integers(1, 100),
    st.sampled_from([0.5, 0.8, 0.95]),
    st.integers(0, 10**6),
)
def test_the_whole_selection_is_that_of_simdiff(shape, percent, threshold, seed):
    x = whole_numbers(shape, seed)
    retention = percent / 100
    found = select_on_device(x, retention, similarity_threshold=threshold, difference_threshold=0.5)
    selector = STSimDiff(retention=retention, similarity_threshold=threshold, difference=Threshold(0.5))
    with kernels.using("reference"):
        wanted = selector(VideoTokens.from_grid(x))
    n = shape[1] * shape[2] * shape[3]
    starts = n * torch.arange(shape[0], device=DEVICE)[:, None]
    assert torch.equal((found.indices + starts).flatten(), wanted.indices)
    for name in ("verdict", "candidate", "community", "difference", "importance"):
        assert torch.equal(getattr(found, name).flatten(), getattr(wanted, name)), name
    assert torch.allclose(found.centrality.flatten(), wanted.centrality, atol=1e-6)
    assert found.finite


def test_attention_trims_and_newlines_are_left_out():
    x = whole_numbers((3, 4, 6, 16), 0)[:, :, :5]
    attention = features(5, (60,)).to(DEVICE)
    found = select_on_device(x, 0.2, attention=attention)
    copied = select_on_device(x.contiguous(), 0.2, attention=attention)
    for one, other in zip(found, copied, strict=True):
        assert torch.equal(one, other)
    candidates = found.candidate[0].nonzero()[:, 0]
    best = candidates[torch.sort(attention[candidates], descending=True).indices[:12]]
    assert torch.equal(found.indices[0], best.sort().values)


@settings(max_examples=6)
@given(st.lists(st.tuples(*[st.integers(1, n) for n in (4, 4, 5)]), min_size=1, max_size=3), st.booleans(), st.data())
def test_simdiff_is_prepared_on_the_device(sizes, newline, data):
    """Videos of any sizes, newline tokens or none; the result is that of the general way."""
    videos = [whole_numbers((t, h, w + newline, 12), seed) for seed, (t, h, w) in enumerate(sizes)]
    tokens = VideoTokens.from_grid(videos, newline=newline)
    selector = STSimDiff(
        retention=data.draw(st.sampled_from([0.1, 0.3, 0.5, 1.0])),
        separators=data.draw(st.sampled_from(["proportional", "vertex", "keep"])),
        similarity_threshold=0.9,
        difference=Threshold(0.5),
        protect_events=data.draw(st.booleans()),
    )
    attention = features(7, (len(tokens),)).to(DEVICE) if data.draw(st.booleans()) else None
    signals = Signals(llm_attention=attention)
    with kernels.using("triton"):
        found = selector(tokens, signals)
        assert selector._prepare_directly(tokens) is not None
    with kernels.using("reference"):
        wanted = selector(tokens, signals)
    assert found.digest == wanted.digest
    assert found.notes == wanted.notes
    assert torch.equal(found.community, wanted.community)
    assert torch.allclose(found.centrality, wanted.centrality, atol=1e-6)


def test_other_parts_and_holes_are_left_to_the_general_way():
    tokens = VideoTokens.from_grid(whole_numbers((2, 3, 3, 4), 0))
    assert STSimDiff(community=COMMUNITIES.build("louvain"))._prepare_directly(tokens) is None
    assert STSimDiff(importance=IMPORTANCES.build("norm"))._prepare_directly(tokens) is None
    assert STSimDiff(similarity_threshold="otsu")._prepare_directly(tokens) is None
    assert STSimDiff(preset="release")._prepare_directly(tokens) is None
    assert STSimDiff()._prepare_directly(tokens.take(torch.arange(1, 18, device=DEVICE))) is None
    tokens.features[7, 2] = torch.nan
    with pytest.raises(StgraphError, match="video 0, frame 0 hold NaN"):
        STSimDiff()._prepare_directly(tokens)


def test_a_share_with_many_digits_is_exact():
    x = whole_numbers((2, 3, 5, 4), 1)
    share = 0.12345678901234567
    wanted = STSimDiff(retention=share)(VideoTokens.from_grid(x))
    assert torch.equal(select_on_device(x, share).indices[0], wanted.indices)


def test_the_general_way_on_the_gpu_kernels():
    tokens = VideoTokens.from_grid(whole_numbers((3, 4, 5, 12), 3))
    selector = STSimDiff(community=COMMUNITIES.build("label_propagation"), similarity_threshold=0.9)
    with kernels.using("triton"):
        assert kernels.active(DEVICE) == "triton"
        found = selector(tokens)
    with kernels.using("reference"):
        assert found.digest == selector(tokens).digest


class NothingReadBack(TorchDispatchMode):
    """Fails where an operator has a result whose size or value the host must wait for."""

    WAITING: ClassVar = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "bincount", "index.Tensor bool")

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = str(func)
        masked = name.startswith("aten.index.") and any(i is not None and i.dtype == torch.bool for i in args[1])
        assert not masked, name
        assert not any(waiting in name for waiting in self.WAITING), name
        return func(*args, **(kwargs or {}))


def test_nothing_is_read_back_from_the_device(monkeypatch):
    x = whole_numbers((2, 3, 4, 5, 8), 2)
    # As it is on a GPU; on the CPU numpy sorts, and asks how large the keys are.
    monkeypatch.setattr(reference, "stable_argsort", lambda key: torch.sort(key, stable=True).indices)
    with NothingReadBack():
        select_on_device(x)
    with pytest.raises(AssertionError, match="_local_scalar_dense"), NothingReadBack():
        bool((x > 0).any())


@pytest.mark.gpu
def test_capture_in_a_cuda_graph():
    x = features(6, (8, 14, 14, 256)).cuda().bfloat16()
    expected = select_on_device(x)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = select_on_device(x)
    graph.replay()
    for one, other in zip(captured, expected, strict=True):
        assert torch.equal(one, other)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_what_is_kept_on_a_gpu_is_what_is_kept_on_the_cpu(dtype):
    for seed in range(50):
        x = whole_numbers((4, 7, 9, 64), seed, dtype)
        with kernels.using("reference"):
            wanted = STSimDiff()(VideoTokens.from_grid(x.cpu()))
        assert torch.equal(select_on_device(x).indices[0].cpu(), wanted.indices)


LAUNCHED = ("lattice_dots", "lattice_cosines", "row_norms", "pair_cosines", "unite", "flatten", "small_communities")
LAUNCHED += ("large_sums", "large_totals", "large_scores")


@pytest.mark.parametrize(
    "names",
    [("lattice_cosines", "unite", "small_communities"), pytest.param(LAUNCHED, marks=pytest.mark.slow)],
    ids=["some", "all"],
)
def test_programs_compile_for_gpus_that_are_not_here(names, tmp_path):
    code = """
import sys
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from stgraph.kernels import programs

POINTERS = {"x": "*bf16", "parent": "*i32", "root": "*i32", "size": "*i32"}
POINTERS |= dict.fromkeys(("squared", "norm"), "*fp64")
POINTERS |= dict.fromkeys(("weight", "out", "partial", "total", "above", "before"), "*fp32")
POINTERS |= dict.fromkeys(("offset", "order", "starts", "sizes", "labels", "right"), "*i64")
TILES = {"WIDTH": 16, "DIM": 64, "ROWS": 16, "LEAST": 3, "MOST": 16, "CHUNK": 64, "BLOCK": 256, "step": 1}
for name in sys.argv[1:]:
    program = getattr(programs, name)
    types = POINTERS | {"left": "*i64" if name == "pair_cosines" else "*fp32", "threshold": "fp32"}
    fixed = {(place,): TILES[n] for place, n in enumerate(program.arg_names) if n in TILES}
    signature = {n: "constexpr" if n in TILES else types.get(n, "i32") for n in program.arg_names}
    made = triton.compile(ASTSource(program, signature, fixed), target=GPUTarget("cuda", 90, 32))
    assert len(made.asm["cubin"]) > 1000, name
"""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment |= {"TRITON_CACHE_DIR": str(tmp_path), "TRITON_DEFAULT_FP_FUSION": "1"}
    subprocess.run([sys.executable, "-c", code, *names], env=environment, check=True)


@pytest.mark.parametrize(
    ("x", "arguments", "message"),
    [
        (torch.zeros(4, 4), {}, r"\(T, H, W, d\).*got \(4, 4\)"),
        (torch.zeros(0, 2, 2, 4), {}, "no size of 0"),
        (torch.zeros(2, 2, 2, 4, dtype=torch.float64), {}, "float64"),
        (torch.zeros(2, 2, 2, 4), {"retention": 0}, "retention"),
        (torch.zeros(2, 2, 2, 4), {"attention": torch.zeros(7)}, r"1 × 8 tokens, got \(7,\)"),
    ],
)
def test_bad_input(x, arguments, message):
    with pytest.raises(StgraphError, match=message):
        select_on_device(x.to(DEVICE), **arguments)
