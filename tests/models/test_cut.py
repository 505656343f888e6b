"""Cut against plain lists."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stgraph.models.cut import Cut


@st.composite
def keeps(draw):
    rows, length = draw(st.integers(1, 4)), draw(st.integers(1, 9))
    row = st.lists(st.booleans(), min_size=length, max_size=length).filter(any)
    return draw(st.lists(row, min_size=rows, max_size=rows))


@given(keep=keeps(), appended=st.integers(0, 3), shared=st.booleans())
def test_columns_that_stay(keep, appended, shared):
    cut = Cut.of(torch.tensor(keep))
    rows, length = len(keep), len(keep[0])
    lists = [[i for i, stays in enumerate(row) if stays] for row in keep]
    width = max(map(len, lists))
    assert (cut.length, cut.width) == (length, width)
    expected = [[row[0]] * (width - len(row)) + row + list(range(length, length + appended)) for row in lists]
    counted = torch.arange(length + appended)[None]
    assert cut.take(counted if shared else counted.expand(rows, -1)).tolist() == expected
    planes = torch.stack([counted, counted + 100]).expand(2, 1 if shared else rows, -1)
    assert cut.take(planes, 2)[1].tolist() == [[i + 100 for i in row] for row in expected]
    deep = counted[..., None].expand(1 if shared else rows, -1, 5)
    assert torch.equal(cut.take(deep), torch.tensor(expected)[..., None].expand(-1, -1, 5))
    mask = torch.ones(rows, length + appended)
    padding = [[0] * (width - len(row)) + [1] * (len(row) + appended) for row in lists]
    assert cut.mask(mask).tolist() == padding


@given(keep=keeps(), appended=st.integers(0, 3))
def test_columns_are_found_and_put_back(keep, appended):
    cut = Cut.of(torch.tensor(keep))
    rows, length = len(keep), len(keep[0])
    x = torch.arange(1, 1 + rows * (length + appended)).view(rows, -1, 1).float()
    back = cut.put(cut.take(x))
    stays = torch.tensor([row + [True] * appended for row in keep])
    assert torch.equal(back, x * stays[..., None])
    places = cut.places()
    assert torch.equal(places >= 0, torch.tensor(keep))
    for row, column in (places >= 0).nonzero().tolist():
        assert int(cut.columns[row, places[row, column]]) == column


@given(data=st.data(), first=keeps(), appended=st.integers(0, 2))
@settings(max_examples=40)
def test_two_cuts_are_one(data, first, appended):
    one = Cut.of(torch.tensor(first))
    valid = one.valid.tolist()
    second = [[v and data.draw(st.booleans()) for v in row[:-1]] + [True] for row in valid]  # the last one always stays
    two = Cut.of(torch.tensor(second))
    both = two.after(one)
    x = torch.rand(len(first), len(first[0]) + appended)
    assert torch.equal(both.take(x), two.take(one.take(x)))
    mask = torch.ones_like(x)
    assert torch.equal(both.mask(mask), two.mask(one.mask(mask)))
