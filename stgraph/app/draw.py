"""Pictures of finished runs: what ``stgraph draw`` does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import StgraphError, check_choice

if TYPE_CHECKING:
    from ..viz.scene import Scene

FEATURES = "features.safetensors"
"""The file of a folder that holds the features of all tokens; a server writes it."""

EXPLORER, REPORT = "explorer", "report"
"""The kinds that are pages; all others are figures."""

SUFFIXES = (".png", ".svg", ".pdf", ".jpg")
"""File types of figures."""


def kinds() -> list[str]:
    """Everything that can be drawn of a run."""
    from ..viz.scene import KINDS

    return [EXPLORER, REPORT, *KINDS]


def draw(folder: str | Path, kind: str = EXPLORER, output: str | Path | None = None) -> Path:
    """Draw one picture of a finished run, from its folder alone.

    Args:
        folder: of a compress run.
        kind: ``"explorer"``, ``"report"`` or a name of :data:`stgraph.viz.KINDS`.
        output: the file to write; inside the folder, named after the kind, when not given.

    Returns:
        The file that was written.

    Raises:
        StgraphError: no such kind, a folder without a run, a file that cannot be written or of an unknown type.
    """
    from ..viz.saved import load_scene

    check_choice("kind", kind, kinds())
    page = kind in (EXPLORER, REPORT)
    path = Path(output) if output is not None else Path(folder) / f"{kind}{'.html' if page else '.png'}"
    allowed = (".html",) if page else SUFFIXES
    if path.suffix.lower() not in allowed:
        raise StgraphError(
            f"a picture of kind {kind!r} needs a name that ends in {' or '.join(allowed)}, got {path.name!r}"
        )
    scene = load_scene(folder)
    if kind == EXPLORER:
        return scene.explore().save(path)
    if kind == REPORT:
        return _report(Path(folder), scene, path)
    figure = scene.draw(kind)
    try:
        figure.savefig(path, dpi=160, bbox_inches="tight")
    except OSError as error:
        reason = error.strerror or error
        raise StgraphError(f"{path} cannot be written ({reason}); check the folder and the free space") from None
    return path


def _report(folder: Path, scene: Scene, path: Path) -> Path:
    """The report of a selection that was saved with its features, as a server does."""
    from safetensors.torch import load_file

    from ..tokens import VideoTokens
    from ..viz.report import write_report

    if not (folder / FEATURES).exists():
        raise StgraphError(
            f"{folder} holds no features ({FEATURES}), which a report needs; a compress run has its own, report.html"
        )
    features = load_file(folder / FEATURES)["features"]
    known = bool((scene.selection.community >= 0).any())
    write_report(
        path,
        video=scene.video,
        tokens=VideoTokens.from_grid(features.unflatten(0, tuple(scene.grid))),
        selection=scene.selection,
        graph=scene.graph,
        partition=scene.partition if known else None,
        difference=scene.difference,
        events=scene.events,
    )
    return path
