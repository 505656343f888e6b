"""Importing stgraph and asking for help load nothing heavy."""

from __future__ import annotations

import ast
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

import stgraph

UNNEEDED = {"torch_geometric", "transformers", "matplotlib", "networkx", "igraph", "leidenalg", "av"}
HEAVY = UNNEEDED | {"torch", "scipy", "hydra", "rich"}


def modules_after(code: str) -> set[str]:
    out = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"], capture_output=True, text=True, check=True
    )
    return set(out.stdout.split("\n")[-2].split())


def test_import_is_light():
    assert not modules_after("import stgraph") & HEAVY


def test_help_is_light():
    code = """
import contextlib, io, sys
sys.argv = ["stgraph", "--help"]
from stgraph.app.cli import main
with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
    main()
"""
    assert not modules_after(code) & (HEAVY - {"rich"})


def test_selecting_needs_no_optional_library():
    code = """
import torch
from stgraph import STSimDiff, VideoTokens
STSimDiff()(VideoTokens.from_grid(torch.randn(3, 4, 4, 8)))"""
    assert not modules_after(code) & UNNEEDED


def test_help_costs_little_more_than_the_cli_library():
    def seconds(*command: str) -> float:
        times = []
        for _ in range(5):
            start = time.perf_counter()
            subprocess.run([sys.executable, *command], capture_output=True, check=True)
            times.append(time.perf_counter() - start)
        return statistics.median(times)

    assert seconds("-m", "stgraph", "--help") < 10 * seconds("-c", "import typer; typer.Typer()")


def test_type_checkers_see_the_names_that_run():
    tree = ast.parse(Path(stgraph.__file__).read_text("utf-8"))
    seen = {
        alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.level == 1
        for alias in node.names
    }
    assert seen == stgraph._EXPORTS


def test_every_public_name_resolves():
    for name in stgraph.__all__:
        assert getattr(stgraph, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        _ = stgraph.Nonsense
    assert "STSimDiff" in dir(stgraph)
