"""Selections of a server can be asked why, like those of a run."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from stgraph.app.cli import app
from stgraph.integrations.serving.contract import ServingSelector
from stgraph.integrations.serving.dump import Dump
from stgraph.selectors import Selection

GRID = (3, 4, 5)


@pytest.fixture
def dumped(tmp_path):
    selector = ServingSelector.from_overrides([])
    features = torch.randn(60, 8, generator=torch.Generator().manual_seed(0)).bfloat16()
    mask = selector.mask(features, GRID, 0.7, record=Dump(tmp_path, selector, 0.7))
    (folder,) = tmp_path.iterdir()
    return tmp_path, folder, features, mask


def test_a_dump_is_a_selection_with_its_features(dumped):
    _, folder, features, mask = dumped
    assert Selection.load(folder).indices.tolist() == mask.nonzero()[:, 0].tolist()
    assert torch.equal(load_file(folder / "features.safetensors")["features"], features)
    record = json.loads((folder / "selection.json").read_text())
    assert record["grids"] == [list(GRID)]
    assert record["served"]["pruning_rate"] == 0.7
    assert record["served"]["selector"]["importance"]["name"] == "novelty"


def test_explain_and_draw_read_it(dumped):
    _, folder, _, mask = dumped
    explained = CliRunner().invoke(app, ["explain", str(folder), "--token", "7"])
    assert explained.exit_code == 0
    assert f"(frame 0, row 1, column 2) was {'kept' if mask[7] else 'dropped'}" in explained.output
    page = folder.parent / "page.html"
    drawn = CliRunner().invoke(app, ["draw", str(folder), "--kind", "explorer", "--to", str(page)])
    assert drawn.exit_code == 0, drawn.output
    assert page.stat().st_size > 10_000


def test_the_report_of_a_request_is_that_of_its_selection(dumped):
    _, folder, _, mask = dumped
    drawn = CliRunner().invoke(app, ["draw", str(folder), "--kind", "report"])
    assert drawn.exit_code == 0, drawn.output
    page = (folder / "report.html").read_text()
    assert "The frames are not known" in page
    assert Selection.load(folder).digest in page
    assert f"3 frames. Of 60 tokens (4 × 5 a frame) {int(mask.sum())} stay" in page


def test_a_report_needs_the_features(dumped):
    _, folder, *_ = dumped
    (folder / "features.safetensors").unlink()
    drawn = CliRunner().invoke(app, ["draw", str(folder), "--kind", "report"])
    assert drawn.exit_code != 0
    assert "holds no features" in str(drawn.exception)


def test_the_same_video_is_written_once_and_a_full_disk_costs_no_answer(dumped, caplog):
    folder, _, features, mask = dumped
    selector = ServingSelector.from_overrides([], strict=True)
    assert torch.equal(selector.mask(features, GRID, 0.7, record=Dump(folder, selector, 0.7)), mask)
    assert len(list(folder.iterdir())) == 1
    nowhere = folder / "file"
    nowhere.write_text("in the way")
    assert torch.equal(selector.mask(features, GRID, 0.7, record=Dump(nowhere, selector, 0.7)), mask)
    assert "could not be written" in caplog.text
