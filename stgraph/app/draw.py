"""Pictures of finished runs: what ``stgraph draw`` does."""

from __future__ import annotations

from pathlib import Path

from ..errors import StgraphError, check_choice

EXPLORER = "explorer"
"""The kind that is a page; all others are figures."""

SUFFIXES = (".png", ".svg", ".pdf", ".jpg")
"""File types of figures."""


def kinds() -> list[str]:
    """Everything that can be drawn of a run."""
    from ..viz.scene import KINDS

    return [EXPLORER, *KINDS]


def draw(folder: str | Path, kind: str = EXPLORER, output: str | Path | None = None) -> Path:
    """Draw one picture of a finished run, from its folder alone.

    Args:
        folder: of a compress run.
        kind: ``"explorer"`` or a name of :data:`stgraph.viz.KINDS`.
        output: the file to write; inside the folder, named after the kind, when not given.

    Returns:
        The file that was written.

    Raises:
        StgraphError: no such kind, a folder without a run, a file that cannot be written or of an unknown type.
    """
    from ..viz.saved import load_scene

    check_choice("kind", kind, kinds())
    path = Path(output) if output is not None else Path(folder) / f"{kind}{'.html' if kind == EXPLORER else '.png'}"
    allowed = (".html",) if kind == EXPLORER else SUFFIXES
    if path.suffix.lower() not in allowed:
        raise StgraphError(
            f"a picture of kind {kind!r} needs a name that ends in {' or '.join(allowed)}, got {path.name!r}"
        )
    scene = load_scene(folder)
    if kind == EXPLORER:
        return scene.explore().save(path)
    figure = scene.draw(kind)
    try:
        figure.savefig(path, dpi=160, bbox_inches="tight")
    except OSError as error:
        reason = error.strerror or error
        raise StgraphError(f"{path} cannot be written ({reason}); check the folder and the free space") from None
    return path
