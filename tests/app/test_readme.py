"""The lines of the README and of the docs work when they are typed in order in an empty folder."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import torch

from stgraph import write_video

from .test_cli import stgraph

ROOT = Path(__file__).parents[2]

#: Lines that need a model, a checkpoint or a site that is not here.
ELSEWHERE = re.compile(r"hf:|--model|^stgraph ask|^stgraph sample demo|\bFOLDER\b")


def lines(page: Path) -> list[list[str]]:
    """The words of every ``stgraph`` line in the shell blocks of a page."""
    blocks = re.findall(r"^```(?:sh|bash|console)\n(.*?)^```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    joined = "\n".join(blocks).replace("\\\n", " ").splitlines()
    typed = [line for line in joined if line.startswith("stgraph ") and not ELSEWHERE.search(line)]
    return [shlex.split(line, comments=True)[1:] for line in typed]


def make_inputs(folder: Path) -> None:
    """The clips that the lines name: small ones, of enough frames and tokens for ``--token 1234``."""
    g = torch.Generator().manual_seed(0)
    frames = torch.randint(0, 256, (8, 3, 64, 64), generator=g, dtype=torch.uint8)
    (folder / "clips").mkdir()
    (folder / "demo").mkdir()
    for name in ("clip.mp4", "day.mp4", "video.mp4", "bikes.mp4", "extra.mp4", "clips/a.mp4", "clips/b.mp4"):
        write_video(folder / name, frames, 4)
    assert stgraph("sample", folder / "demo" / "sample.mp4").returncode == 0


def run_all(page: Path, folder: Path) -> int:
    make_inputs(folder)
    typed = lines(page)
    for words in typed:
        done = stgraph(*words, cwd=folder)
        assert done.returncode == 0, (words, done.stderr)
    return len(typed)


@pytest.mark.slow
def test_readme(tmp_path):
    assert run_all(ROOT / "README.md", tmp_path) >= 4
    assert {"clip", "compare-clip"} <= {path.name for path in (tmp_path / "outputs").iterdir()}


@pytest.mark.slow
@pytest.mark.parametrize("page", ["algorithm", "compare", "graph", "streaming"])
def test_docs(tmp_path, page):
    assert run_all(ROOT / "docs" / f"{page}.md", tmp_path) >= 1


def test_every_line_is_understood():
    """Cheap, and always run: each line names a command, and settings that there are."""
    from stgraph.app.compare import combinations
    from stgraph.app.config import resolve

    count = 0
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        for command, *words in lines(page):
            settings = [word for word in words if re.match(r"[a-z_.]+=", word)]
            assert command in (
                "compress",
                "compare",
                "stream",
                "batch",
                "explain",
                "methods",
                "doctor",
                "sample",
                "draw",
            )
            combinations(settings) if command == "compare" else resolve(settings)
            count += 1
    assert count >= 15
