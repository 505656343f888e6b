"""Saved selections: what is read back is what was written, or it is refused."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from stgraph import Selection, StgraphError, STSimDiff, VideoTokens
from stgraph.selectors.stored import _LAYOUT, _checksum

TENSORS = [name for name in _LAYOUT if not name.startswith("merge")]


@pytest.fixture(scope="module")
def tokens() -> VideoTokens:
    g = torch.Generator().manual_seed(0)
    return VideoTokens.from_grid(torch.randn(6, 4, 5, 16, generator=g, dtype=torch.float32).cumsum(0))


@pytest.fixture
def saved(tokens, tmp_path):
    selection = STSimDiff(retention=0.3)(tokens)
    selection.save(tmp_path)
    return selection, tmp_path


def test_what_is_read_back_is_what_was_written(saved):
    selection, folder = saved
    again = Selection.load(folder)
    for name in TENSORS:
        assert torch.equal(getattr(again, name), getattr(selection, name))
    assert [again.why(i) for i in range(120)] == [selection.why(i) for i in range(120)]


def rewrite(folder, tensors=None, record=None, *, sealed=False):
    """Change the files of a selection; ``sealed``: as somebody would who knows how the checksum is made."""
    file, plain = folder / "selection.safetensors", folder / "selection.json"
    if tensors:
        save_file({**load_file(file), **tensors}, file)
    known = json.loads(plain.read_text())
    known |= record or {}
    if sealed:
        known["checksum"] = _checksum(file.read_bytes(), known)
    plain.write_text(json.dumps(known))


@pytest.mark.parametrize("name", TENSORS)
@pytest.mark.parametrize("change", ["first", "last", "all"])
def test_no_changed_value_is_explained(saved, name, change):
    selection, folder = saved
    value = getattr(selection, name).clone()
    part = {"first": value[:1], "last": value[-1:], "all": value}[change]
    part += 1
    rewrite(folder, {name: value})
    with pytest.raises(StgraphError, match="was changed after it was written"):
        Selection.load(folder)


ANY_NUMBER = {"negative": ("coords",), "huge": ("coords", "community")}
"""Tensors in which such a number may stand, beside those of floats."""

CHANGES = [
    (name, change)
    for change in ("short", "empty", "dtype", "shape", "not finite", "negative", "huge")
    for name in TENSORS
    if not (change in ANY_NUMBER and (_LAYOUT[name][1].is_floating_point or name in ANY_NUMBER[change]))
]


@pytest.mark.parametrize(("name", "change"), CHANGES)
def test_values_that_do_not_fit_are_refused_whatever_the_checksum_says(saved, name, change):
    selection, folder = saved
    value = getattr(selection, name).clone()
    floating = value.is_floating_point()
    if change == "short":
        value = value[:-1]
    elif change == "empty":
        value = value[:0]
    elif change == "dtype":
        value = value.double() if floating else value.int()
    elif change == "shape":
        value = value[None]
    elif change == "not finite":
        value = value.index_fill(0, torch.tensor([0]), float("nan")) if floating else value.float()
    elif change == "negative":
        value[0] = 255 if value.dtype == torch.uint8 else -5
    else:
        value[-1] = 77 if value.dtype == torch.uint8 else 10**9
    rewrite(folder, {name: value}, sealed=True)
    with pytest.raises(StgraphError, match=r"must be|contradict each other|does not match|damaged"):
        Selection.load(folder)


@pytest.mark.parametrize(
    "record",
    [
        {"budget": [1, 2]},
        {"budget": []},
        {"budget": ["a"]},
        {"budget": None},
        {"method": {"name": "other"}},
        {"method": None},
        {"notes": ["another"]},
        {"notes": None},
        {"counts": {}},
        {"digest": "0" * 16},
        {"checksum": None},
    ],
)
def test_no_changed_record_is_explained(saved, record):
    _, folder = saved
    rewrite(folder, record=record)
    with pytest.raises(StgraphError, match=r"was changed|does not match"):
        Selection.load(folder)


@pytest.mark.parametrize("text", ["", "{", "null", "[]", "3", '{"checksum": 1}', "[" * 3000, "\udce9"])
def test_a_record_that_is_none(saved, text):
    _, folder = saved
    (folder / "selection.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(StgraphError, match=r"damaged|changed"):
        Selection.load(folder)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.99])
def test_tensors_that_were_cut(saved, share):
    _, folder = saved
    file = folder / "selection.safetensors"
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    with pytest.raises(StgraphError, match="was changed after it was written"):
        Selection.load(folder)
    rewrite(folder, sealed=True)
    with pytest.raises(StgraphError, match="damaged"):
        Selection.load(folder)


@pytest.mark.parametrize("name", TENSORS)
def test_a_tensor_that_is_missing(saved, name):
    _, folder = saved
    tensors = load_file(folder / "selection.safetensors")
    del tensors[name]
    save_file(tensors, folder / "selection.safetensors")
    rewrite(folder, sealed=True)
    with pytest.raises(StgraphError, match="damaged"):
        Selection.load(folder)


def test_paths_that_hold_no_selection(tmp_path):
    (tmp_path / "file").write_text("x")
    for path in (tmp_path, tmp_path / "none", tmp_path / "file", tmp_path / ("x" * 300)):
        with pytest.raises(StgraphError, match=r"holds no selection|damaged"):
            Selection.load(path)
