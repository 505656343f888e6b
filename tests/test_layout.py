"""Imports point one way: a folder uses only folders before it, and no files import each other in a circle."""

from __future__ import annotations

import pytest

from benchmarks.layout import DRAWING, FRONT, ROOT, folder, read
from stgraph.late_binding import ABOVE, above

#: A folder or file of the package may import those before it, and itself.
ORDER = [
    *("errors", "late_binding", "optional", "compat", "budget", "registry", "kernels", "tokens", "signals"),
    *("video", "sample", "encoders", "graph", "community", "difference", "importance"),
    *("selectors", "models", "viz", "app", "integrations"),
]

#: (importing module, imported module) -> why it is right. All are types in signatures: nothing is loaded.
AGAINST_THE_ORDER = {
    ("stgraph.selectors.base", "stgraph.models.adapter"): "`Selector.attach` takes an adapter",
    ("stgraph.selectors.base", "stgraph.models.attachment"): "`Selector.attach` returns an attachment",
    ("stgraph.selectors.selection", "stgraph.viz.explorer"): "`Selection.show` returns the explorer",
    ("stgraph.graph.exports", "stgraph.selectors.selection"): "`to_graphml` takes a selection, for its columns",
    ("stgraph.graph.spatiotemporal", "stgraph.selectors.selection"): "the same, as a method of the graph",
}

#: The same inside a folder.
INSIDE_A_FOLDER = {
    ("stgraph.selectors.stored", "stgraph.selectors.selection"): "`Selection.save` and `load` call it",
    ("stgraph.selectors.why", "stgraph.selectors.selection"): "`Selection.why` calls it",
    ("stgraph.graph.exports", "stgraph.graph.spatiotemporal"): "`graph.to_pyg()` and others call functions of exports",
}

LAYOUT = read()


def test_every_folder_has_its_place():
    assert {folder(name) for name in LAYOUT.lines if name not in FRONT} == set(ORDER)


def test_folders_import_only_those_before_them():
    against = {
        (source, target)
        for source, target in LAYOUT.imports
        if not {source, target} & FRONT and ORDER.index(folder(source)) < ORDER.index(folder(target))
    }
    assert against == set(AGAINST_THE_ORDER)
    assert against <= LAYOUT.types


def test_no_files_import_each_other_in_a_circle():
    assert LAYOUT.circles(besides={*AGAINST_THE_ORDER, *INSIDE_A_FOLDER}) == []
    assert set(INSIDE_A_FOLDER) <= LAYOUT.types


@pytest.mark.parametrize("name", ABOVE)
def test_what_is_bound_late_is_there_and_used(name):
    assert callable(above(name))
    used = [file for file in (ROOT / "stgraph").rglob("*.py") if f'above("{name}")' in file.read_text("utf-8")]
    assert used


def test_the_drawing_in_the_readme_is_that_of_the_code():
    drawing = DRAWING.search((ROOT / "README.md").read_text("utf-8"))
    assert drawing is not None
    assert drawing.group() == LAYOUT.drawing(besides=set(AGAINST_THE_ORDER)), "python -m benchmarks.layout --write"
