"""Style of the documentation: no sentence over 40 words, and no words that need two readings."""

from __future__ import annotations

import ast

import pytest

from benchmarks.style import ROOT, findings, pages


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_pages_read_well(page):
    assert findings(page.read_text("utf-8"), page.relative_to(ROOT).as_posix()) == []


def test_the_first_words_of_each_file_read_well():
    files = [path for folder in ("stgraph", "experiments") for path in sorted((ROOT / folder).rglob("*.py"))]
    texts = {path: ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "" for path in files}
    assert [finding for path, text in texts.items() for finding in findings(text, str(path.relative_to(ROOT)))] == []


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
