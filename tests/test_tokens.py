"""VideoTokens: layouts, order and refusals."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stgraph import Grid, StgraphError, STSimDiff, VideoTokens

from .strategies import videos


def test_layouts_place_separators_where_the_models_do():
    rows = VideoTokens.from_sequence(torch.arange(12.0)[:, None], (2, 2, 2), separator_layout="row")
    assert rows.separator.tolist() == [False, False, True] * 4
    frames = VideoTokens.from_sequence(torch.arange(10.0)[:, None], (2, 2, 2), separator_layout="frame")
    assert frames.separator.nonzero()[:, 0].tolist() == [4, 9]
    trailing = VideoTokens.from_sequence(torch.arange(9.0)[:, None], (2, 2, 2), separator_layout="trailing")
    assert trailing.separator.nonzero()[:, 0].tolist() == [8]
    for tokens in (rows, frames, trailing):
        assert tokens.lattice(0) is not None
        assert tokens.coords[~tokens.separator].tolist() == [
            [t, y, x] for t in range(2) for y in range(2) for x in range(2)
        ]


@given(videos())
def test_lattice_shows_the_visual_tokens_in_place(tokens):
    lattice = tokens.lattice(0)
    visual = tokens.features[~tokens.separator]
    if lattice is not None:
        assert tuple(lattice.shape[:3]) == tokens.grids[0]
        assert torch.equal(lattice.reshape(len(visual), -1), visual)
        assert lattice.untyped_storage().data_ptr() == tokens.features.untyped_storage().data_ptr()


def test_batch_of_different_sizes():
    parts = [torch.randn(2, 3, 4, 5), torch.randn(1, 2, 2, 5)]
    tokens = VideoTokens.from_grid(parts, timestamps=[torch.tensor([0.0, 1.0]), torch.tensor([0.5])])
    assert tokens.grids == (Grid(2, 3, 4), Grid(1, 2, 2))
    assert tokens.offsets == [0, 24, 28]
    for index, part in enumerate(parts):
        one = tokens.video(index)
        assert torch.equal(one.features, part.flatten(0, 2))
        assert one.batch.unique().tolist() == [0]
    assert tokens.video(1).timestamps[0].tolist() == [0.5]
    assert "28 tokens × 5 float32" in repr(tokens)


def test_mask_leaves_tokens_out():
    x, mask = torch.randn(2, 2, 2, 3), torch.tensor([[[1, 0], [1, 1]], [[0, 0], [1, 0]]]).bool()
    assert VideoTokens.from_grid(x, mask=mask).coords.tolist() == mask.nonzero().tolist()


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (
            lambda: VideoTokens.from_sequence(torch.randn(11, 4), (2, 2, 3)),
            "2 × 2 × 3 tokens needs 12 rows of features, got (11, 4)",
        ),
        (
            lambda: VideoTokens.from_sequence(torch.randn(12, 4), (2, 2, 3), separator_layout="row"),
            "and 4 separators needs 16 rows",
        ),
        (
            lambda: VideoTokens.from_sequence(torch.randn(12, 4), (2, 2, 3), separator_layout="rows"),
            "did you mean 'row'",
        ),
        (lambda: VideoTokens.from_grid(torch.randn(3, 4, 5)), "grid must be (T, H, W, d)"),
        (lambda: VideoTokens.from_grid([]), "grid must be"),
        (lambda: VideoTokens.from_grid(torch.randn(0, 4, 5, 3)), "empty grid"),
        (lambda: VideoTokens.from_grid(torch.randn(2, 4, 1, 3), newline=True), "empty grid"),
        (lambda: VideoTokens.from_grid(torch.randn(1, 2, 2, 0)), "features must be (N, d) with d ≥ 1"),
        (lambda: VideoTokens.from_grid(torch.randn(1, 2, 2, 3).double()), "float64; convert with .float()"),
        (
            lambda: VideoTokens.from_grid(torch.randn(1, 2, 2, 3), mask=torch.ones(1, 2, 3).bool()),
            "mask of video 0 must be",
        ),
        (
            lambda: VideoTokens.from_grid(torch.randn(2, 1, 2, 2, 3), mask=torch.ones(1, 2, 2).bool()),
            "mask covers 1 videos",
        ),
        (lambda: VideoTokens.from_grid(torch.randn(2, 2, 2, 3), timestamps=torch.zeros(3)), "one time in seconds"),
        (lambda: VideoTokens.cat([]), "at least one part"),
        (
            lambda: VideoTokens.cat([VideoTokens.from_grid(torch.randn(1, 1, 1, d)) for d in (2, 3)]),
            "must share the feature size",
        ),
    ],
)
def test_refusals(make, sentence):
    with pytest.raises(StgraphError) as error:
        make()
    assert sentence in str(error.value)


def place(coords, batch=None, grids=((2, 2, 2),), separator=None):
    n = len(coords)
    return VideoTokens(
        torch.randn(n, 3),
        torch.tensor(coords).view(n, 3),
        torch.tensor(batch or [0] * n),
        torch.tensor(separator or [False] * n),
        tuple(Grid(*g) for g in grids),
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (dict(coords=[[0, 0, 1], [0, 0, 0]]), "token 1 is not after token 0"),
        (dict(coords=[[0, 0, 0], [0, 0, 0]]), "without repeats"),
        (dict(coords=[[0, 0, 2]]), "token 0 of video 0 is at (0, 0, 2), outside its grid (2, 2, 2)"),
        (dict(coords=[[0, -1, 0]]), "outside its grid"),
        (dict(coords=[[0, 0, 0]], batch=[1]), "video numbers from 0 to 0"),
        (dict(coords=[[0, 0, 0], [0, 0, 0]], batch=[1, 0], grids=((2, 2, 2),) * 2), "grouped by video"),
        (dict(coords=[[0, 0, 0]], grids=((0, 2, 2),)), "at least 1"),
        (dict(coords=[[0, 0, 0]], grids=()), "at least one video"),
    ],
)
def test_tokens_out_of_place(arguments, sentence):
    with pytest.raises(StgraphError) as error:
        place(**arguments)
    assert sentence in str(error.value)


def test_wrong_companions():
    good = VideoTokens.from_grid(torch.randn(1, 2, 2, 3))
    with pytest.raises(StgraphError, match="coords must be"):
        VideoTokens(good.features, good.coords[:2], good.batch, good.separator, good.grids)
    with pytest.raises(StgraphError, match="separator must be"):
        VideoTokens(good.features, good.coords, good.batch, good.separator.long(), good.grids)


@given(st.lists(videos(dtypes=False), min_size=2, max_size=4))
def test_any_layouts_of_separators_make_one_batch(parts):
    dim = min(part.features.shape[1] for part in parts)
    parts = [part.with_features(part.features[:, :dim]) for part in parts]
    batch = VideoTokens.cat(parts)
    again = VideoTokens(batch.features, batch.coords, batch.batch, batch.separator, batch.grids)  # checked as a whole
    for index, part in enumerate(parts):
        assert torch.equal(again.video(index).coords, part.coords)
        assert torch.equal(again.video(index).separator, part.separator)


@pytest.mark.parametrize("place", [(0, 4, 0), (0, -2, 0), (0, 0, 5), (0, 1, -1), (2, 0, 0), (-1, 0, 0), (0, 50, 1)])
def test_separators_outside_the_border_are_refused(place):
    coords = torch.tensor([[0, 0, 0], [1, 2, 3]])
    coords = torch.cat([coords, torch.tensor([place])])
    order = torch.tensor(sorted(range(3), key=lambda i: coords[i].tolist()))
    separator = (order == 2) | torch.zeros(3, dtype=torch.bool)
    with pytest.raises(StgraphError, match="outside its grid"):
        VideoTokens(torch.ones(3, 2), coords[order], torch.zeros(3, dtype=torch.int64), separator, (Grid(2, 3, 4),))


@pytest.mark.parametrize(
    "index",
    [torch.tensor([1, 0]), torch.tensor([0, 0]), torch.tensor([0, 9]), torch.tensor([-1]), torch.ones(8).bool()],
)
def test_take_needs_ascending_numbers_of_tokens(index):
    with pytest.raises(StgraphError, match="take needs"):
        VideoTokens.from_grid(torch.ones(2, 2, 2, 3)).take(index)


def test_what_is_derived_is_not_checked_again(monkeypatch):
    """What is public checks once: a whole selection from a grid looks at the order of its tokens never."""
    checks = []
    monkeypatch.setattr(VideoTokens, "_check_order", lambda self: checks.append(len(self)))
    tokens = VideoTokens.from_grid(torch.randn(3, 4, 4, 8), newline=True, timestamps=torch.arange(3.0))
    batch = VideoTokens.cat([tokens, tokens])
    STSimDiff()(batch.video(1).take(torch.arange(5)).with_features(torch.randn(5, 8)))
    assert checks == []
    VideoTokens(tokens.features, tokens.coords, tokens.batch, tokens.separator, tokens.grids)
    assert checks == [len(tokens)]


def test_other_features_must_fit():
    tokens = VideoTokens.from_grid(torch.ones(2, 2, 2, 3))
    with pytest.raises(StgraphError, match="a row for each of 8 tokens"):
        tokens.with_features(torch.ones(7, 3))
    with pytest.raises(StgraphError, match="float32, float16 or bfloat16"):
        tokens.with_features(torch.ones(8, 3).long())
    with pytest.raises(StgraphError, match="one time in seconds"):
        VideoTokens.from_grid(torch.ones(2, 2, 2, 3), timestamps=torch.ones(3))
