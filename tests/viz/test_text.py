"""Text of figures: every character is drawn, and nothing is taken for a formula."""

from __future__ import annotations

import os
import warnings

import pytest
from matplotlib.figure import Figure

from stgraph.viz import text as module
from stgraph.viz.text import figure_text

TEXTS = [
    "plain",
    "$x$ and $",
    r"a\$b",
    "\u4e2d\u6587\u5b57",
    "\U0001f600 emoji",
    "a_b^c{d}",
    os.fsdecode(b"caf\xe9"),
    "line\nbreak",
    "tab\there",
    "\u0000",
    "$\\frac{1}{",
    "\u0645\u0631\u062d\u0628\u0627",
    "\ud83d",
]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("fonts", ["those here", "none"])
def test_every_text_is_drawn_without_a_warning(text, fonts, monkeypatch, tmp_path):
    if fonts == "none":
        monkeypatch.setattr(module, "_installed", tuple)
    shown = figure_text(text)
    figure = Figure()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.suptitle(shown.text, fontfamily=shown.family)
        figure.savefig(tmp_path / "x.png", dpi=30)


def test_what_no_font_has_is_written_as_its_escape(monkeypatch):
    monkeypatch.setattr(module, "_installed", tuple)
    assert figure_text("\u4e2da$b").text == r"\u4e2da\$b"
    assert figure_text("caf\u00e9").text == "caf\u00e9"


def test_a_font_that_has_it_is_used(monkeypatch):
    monkeypatch.setattr(module, "_installed", lambda: (("A", frozenset()), ("B", frozenset({0x4E2D}))))
    shown = figure_text("\u4e2d\u6587")
    assert shown.family == ["DejaVu Sans", "B"]
    assert shown.text == "\u4e2d\\u6587"
