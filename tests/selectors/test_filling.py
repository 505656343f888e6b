"""The budget is filled as by sorting all tokens."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stgraph import kernels
from stgraph.kernels import first_of


@pytest.fixture(autouse=True, params=["reference", "fused"])
def _kernels(request):
    with kernels.using(request.param):
        yield


@given(
    st.lists(
        st.tuples(st.sampled_from([0.0, -0.0, 0.5, -1.5, 2.0, torch.inf, -torch.inf]), st.integers(0, 3)), min_size=1
    ),
    st.data(),
    st.sampled_from([torch.float64, torch.float32, torch.float16, torch.bfloat16]),
)
@settings(max_examples=500)
def test_first_of_is_what_stable_sorts_give(tokens, data, dtype):
    importance = torch.tensor([value for value, _ in tokens], dtype=dtype)
    tier = torch.tensor([tier for _, tier in tokens])
    budget = data.draw(st.integers(0, len(tokens)))
    order = torch.sort(importance, stable=True, descending=True).indices
    order = order[torch.sort(tier[order], stable=True, descending=True).indices]
    best, cut = first_of(importance, tier, budget)
    assert best.nonzero()[:, 0].tolist() == sorted(order[:budget].tolist())
    assert cut == importance[order[max(budget, 1) - 1]]


@pytest.mark.parametrize("n", [10, 10_000])
def test_random_tokens(n):
    g = torch.Generator().manual_seed(n)
    importance, tier = torch.rand(n, generator=g), torch.randint(0, 3, (n,), generator=g)
    expected = torch.argsort(importance.double() + tier, descending=True)[: n // 3]
    assert first_of(importance, tier, n // 3)[0].nonzero()[:, 0].tolist() == expected.sort().values.tolist()
