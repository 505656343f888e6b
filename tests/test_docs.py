"""The code of README and docs: Python blocks run in order in a folder with one clip, commands and their words exist.

Blocks that need published weights are not run: their names are looked up instead.
"""

from __future__ import annotations

import ast
import importlib
import re
import shlex
from pathlib import Path

import pytest

from stgraph.app.cli import app
from stgraph.app.config import resolve_all
from stgraph.app.overrides import sweep
from stgraph.sample import render_sample

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
WEIGHTS = (
    "load_model(",
    "from_pretrained(",
    "attach(model",
    "VideoQA",
    "hf:",
    "google/",
    '"hf"',
    "vllm",
    "class Glm4v",
    "notebook",
)


def blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text("utf-8"), re.S | re.M)


def needs_weights(block: str) -> bool:
    return any(word in block for word in WEIGHTS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("docs")
    for name in ("clip", "street"):
        render_sample(made / f"{name}.mp4", size=(120, 216), fps=8)
    return made


def test_the_pages_hold_code() -> None:
    assert sum(len(blocks(page, "python")) for page in PAGES) > 15
    assert sum(len(blocks(page, "sh")) for page in PAGES) > 15


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=lambda page: page.stem)
def test_python_blocks_run_in_order(page: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    names: dict[str, object] = {"__name__": "__main__"}
    for block in blocks(page, "python"):
        code = compile(block, f"{page.name}: a block", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        if not needs_weights(block):
            exec(code, names)
            continue
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("stgraph"):
                module = importlib.import_module(str(node.module))
                assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []


@pytest.mark.parametrize(
    "page", [page for page in PAGES if "stgraph " in page.read_text("utf-8")], ids=lambda p: p.stem
)
def test_commands_and_their_words_exist(page: Path) -> None:
    commands = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    for block in blocks(page, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] != ["stgraph"]:
                continue
            assert words[1] in commands | {"--help", "--version"}, line
            settings = [word for word in words[2:] if re.match(r"^[a-z_][\w.]*=", word)]
            if words[1] in ("compress", "compare", "stream", "batch") and not needs_weights(line):
                assert resolve_all(sweep(settings)), line


STANDS_FOR = ("None", "none", "package", "my_package", "cugraph", "[")
"""Beginnings of values that are not from stgraph: Python, a sweep, an optional package, code of the reader."""


def test_settings_within_the_text_exist() -> None:
    read = 0
    for page in PAGES:
        text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.S | re.M)
        for span in re.findall(r"`(selector=[^`\n]+|(?:community|difference|importance)[=.][^`\n]+)`", text):
            words = span.split()
            if all(re.fullmatch(r"[\w.]+=[^=\s…]+", word) for word in words) and not any(
                word.partition("=")[2].startswith(STANDS_FOR) for word in words
            ):
                assert resolve_all(sweep(words)), f"{page.name}: {span}"
                read += 1
    assert read > 15
