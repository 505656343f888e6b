"""Imports point one way: a folder uses only folders before it. The drawing in README.md is that of the code."""

from __future__ import annotations

from benchmarks.layout import DRAWING, FRONT, ROOT, folder, read

#: A folder or file of the package may import those before it, and itself.
ORDER = [
    *("errors", "optional", "compat", "budget", "registry", "kernels", "tokens", "signals"),
    *("video", "sample", "encoders", "graph", "community", "difference", "importance"),
    *("selectors", "models", "viz", "app", "integrations"),
]

#: (importing module, imported module) -> why it is right.
AGAINST_THE_ORDER = {
    ("stgraph.selectors.base", "stgraph.models"): "`selector.attach(model)` is how users attach any method",
    ("stgraph.selectors.base", "stgraph.models.adapter"): "a type in the signature of `Selector.attach`",
    ("stgraph.selectors.base", "stgraph.models.attachment"): "the type that `Selector.attach` returns",
    ("stgraph.selectors.selection", "stgraph.viz.explorer"): "`selection.show(video)` is how users look at a selection",
    ("stgraph.selectors.selection", "stgraph.viz.scene"): "`selection.draw(kind)`, the same",
    ("stgraph.graph.exports", "stgraph.selectors.selection"): "what a selection says of the vertices that are exported",
    ("stgraph.graph.exports", "stgraph.viz.colours"): "exported communities have the colours of all pictures",
    ("stgraph.graph.spatiotemporal", "stgraph.selectors.selection"): "a type in the signature of `to_graphml`",
    **{
        (value, "stgraph.viz.cards"): "a value shows itself in a notebook"
        for value in (
            "stgraph.tokens",
            "stgraph.graph.spatiotemporal",
            "stgraph.community.partition",
            "stgraph.difference.base",
            "stgraph.selectors.selection",
        )
    },
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


def test_the_drawing_in_the_readme_is_that_of_the_code():
    drawing = DRAWING.search((ROOT / "README.md").read_text("utf-8"))
    assert drawing is not None
    assert drawing.group() == LAYOUT.drawing(besides=set(AGAINST_THE_ORDER)), "python -m benchmarks.layout --write"
