"""Indices by numpy are what torch gives."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stgraph import kernels


@given(st.lists(st.integers(-(2**62), 2**62) | st.integers(-3, 3), max_size=40))
def test_argsort_is_stable(keys):
    key = torch.tensor(keys, dtype=torch.int64)
    assert torch.equal(kernels.stable_argsort(key), torch.sort(key, stable=True).indices)


@given(st.lists(st.booleans(), max_size=40))
def test_places_of_a_mask(mask):
    mask = torch.tensor(mask, dtype=torch.bool)
    assert torch.equal(kernels.places(mask), mask.nonzero()[:, 0])


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.bool, torch.uint8])
def test_take_along_the_last_axis(dtype):
    values = torch.randn(3, 10).to(dtype)
    for some in (values, values.T[:3], values[0], values[:, ::2]):
        index = torch.tensor([2, 0, 2])
        assert torch.equal(kernels.take(some, index), some[..., index])
    assert kernels.take(values, torch.empty(0, dtype=torch.int64)).shape == (3, 0)
    assert not kernels.take(torch.randn(3, requires_grad=True), torch.tensor([1])).requires_grad
