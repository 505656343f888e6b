"""Style of the documentation: no sentence over 40 words, and no words that need two readings."""

from __future__ import annotations

import ast

import pytest

from benchmarks.style import ROOT, findings, pages


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_pages_read_well(page):
    assert findings(page.read_text("utf-8"), page.relative_to(ROOT).as_posix()) == []


FOLDERS = ("stgraph", "experiments", "benchmarks")


def nodes():
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                yield f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}", node


def test_docstrings_read_well():
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    texts = [(place, ast.get_docstring(node) or "") for place, node in nodes() if isinstance(node, kinds)]
    assert [finding for place, text in texts for finding in findings(text, place)] == []
    assert len(texts) > 1000


def test_error_messages_read_well():
    """The text of every error that is raised, without the values in it."""
    texts = [
        (place, [part.value for part in ast.walk(node.exc) if isinstance(part, ast.Constant)])
        for place, node in nodes()
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)
    ]
    joined = [(place, " X ".join(part for part in parts if isinstance(part, str))) for place, parts in texts]
    assert [finding for place, text in joined for finding in findings(text, place)] == []
    assert len(joined) > 400


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("Both write a folder, whole or not at all.", "nothing is written"),
        ("The kernel wants float32.", "do not want"),
        (" ".join(["word"] * 41) + ".", "41 words"),
    ],
)
def test_what_needs_two_readings_is_found(text, why):
    (finding,) = findings(text, "page.md")
    assert why in finding.why


@pytest.mark.parametrize(
    "text",
    [
        "```sh\necho all the same\n```",
        "| a table | " + " ".join(["word"] * 60) + " |",
        "See [a page](all%20the%20same.md) and `all the same`.",
        f"{' '.join(['word'] * 30)}; {' '.join(['word'] * 30)}.",
    ],
)
def test_code_tables_and_links_are_not_judged(text):
    assert findings(text, "page.md") == []
