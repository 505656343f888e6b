"""Communities are numbered by their first vertex."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from stgraph.community.base import by_first_appearance


@given(st.lists(st.integers(-2, 6), max_size=12))
def test_by_first_appearance(labels):
    known: dict[int, int] = {}
    expected = [known.setdefault(label, len(known)) for label in labels]
    found = by_first_appearance(torch.tensor(labels, dtype=torch.int64))
    assert found.tolist() == expected
    assert by_first_appearance(found).tolist() == expected
