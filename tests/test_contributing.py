"""The methods in CONTRIBUTING.md run as they are printed, with the commands beside them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from stgraph import Signals, VideoTokens, build_graph
from stgraph.app.config import resolve
from stgraph.budget import ceil_share

TEXT = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text("utf-8")
FENCES = r"```python\n# (\w+)\.py\n(.*?)```\n\n```sh\nstgraph compress clip.mp4 (.*?)\n```"
FENCES = r"```python\n# (\w+)\.py\n(.*?)```\n\n```sh\nstgraph compress clip.mp4 (.*?)\n```"
EXAMPLES = re.findall(FENCES, TEXT, re.DOTALL)

GRIDS = [(1, 5, 4), (3, 4, 4), (6, 3, 7)]


def test_there_is_an_example_of_each_kind():
    assert [words.split("=")[0] for _, _, words in EXAMPLES] == ["community", "difference", "selector"]


@pytest.mark.parametrize(("module", "code", "words"), EXAMPLES, ids=[words for *_, words in EXAMPLES])
def test_an_example_selects_exactly_its_budget(module, code, words, tmp_path, monkeypatch):
    (tmp_path / f"{module}.py").write_text(code, "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    generator = torch.Generator().manual_seed(0)
    clips = [VideoTokens.from_grid(torch.randn(*grid, 8, generator=generator)) for grid in GRIDS]
    selector = resolve(words.split()).selector()
    selection = selector(VideoTokens.cat(clips), Signals())
    assert selection.budget == tuple(ceil_share(0.3, len(clip)) for clip in clips)
    together = selection.indices.tolist()
    alone, first = [], 0
    for clip in clips:
        alone += [first + index for index in selector(clip).indices.tolist()]
        first += len(clip)
    assert together == alone, "a batch gives what each video alone gives"


def test_the_file_is_found_in_the_working_folder(tmp_path):
    module, code, words = EXAMPLES[0]
    (tmp_path / f"{module}.py").write_text(code, "utf-8")
    command = [sys.executable, "-m", "stgraph", "compress", "none.mp4", *words.split()]
    out = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert out.returncode == 2
    assert "no such file: none.mp4" in " ".join(out.stderr.split()), "the method was found: only the clip is missing"


def test_the_detector_leaves_vertices_without_edges_alone(tmp_path, monkeypatch):
    module, code, words = EXAMPLES[0]
    (tmp_path / f"{module}.py").write_text(code, "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    graph = build_graph(VideoTokens.from_grid(torch.randn(2, 3, 4, 8))).prune(1.0)
    assert graph.num_edges == 0
    detector = resolve(words.split()).selector().community
    assert detector(graph).num_communities == graph.num_nodes
