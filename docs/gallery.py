"""One picture for each method, all on the sample clip: ``python docs/gallery.py [NAME...]``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from saving import figure_picture, save

from stgraph import Selection, StgraphError, Video, VideoTokens, build_graph, viz
from stgraph.community import COMMUNITIES
from stgraph.registry import GROUPS, registry

FOLDER = Path(__file__).parent / "images" / "gallery"
FRAMES = (6, 13, 22, 30, 39, 58)
"""Evening, the cut, the balloon, lightning, the boat, and the fade to night."""
NEED_MODEL = {"encoder": ("hf",), "importance": ("llm_attention", "encoder_attention")}
"""Methods that show nothing on this clip without a model."""


def draw(group: str, name: str, video: Video, tokens: VideoTokens, signals: Any) -> Any:
    """The figure of one method.

    Raises:
        StgraphError: the method needs what the clip's descriptor cannot give.
    """
    grid = tokens.grids[0]
    if name in NEED_MODEL.get(group, ()):
        raise StgraphError(f"{name} needs a model")
    if group in ("spatial", "temporal"):
        names = {"spatial": "grid", "temporal": "aligned", group: name}
        edges = [registry(kind).build(value) for kind, value in names.items()]
        graph = build_graph(tokens, edges)
        partition = COMMUNITIES.build("components")(graph.prune(0.8))
        return viz.space_time_graph(video, graph, partition, grid, frames=(29, 30), box=(2, 8, 9, 18))
    by = {"difference": "difference", "selector": "verdict", "importance": "verdict"}.get(group, "community")
    words: dict[str, Any] = {"name": "simdiff", group: name}
    if group == "selector":
        words = {"name": name}
    elif group == "importance":
        words = {"name": "importance", "importance": name}
    elif group == "encoder":
        words = {"name": "simdiff"}
    selection: Selection = registry("selector").build({**words, "retention": 0.3})(tokens, signals)
    return viz.filmstrip(video, selection, grid, by, frames=FRAMES)  # type: ignore[arg-type]


def draw_all(names: list[str], video: Video, tokens: VideoTokens, signals: Any) -> None:
    """Draw all, or those whose group or name is given, and say which have none."""
    FOLDER.mkdir(exist_ok=True)
    made = set()
    for group in GROUPS:
        for name in registry(group):
            if names and not {group, name} & set(names):
                continue
            path = FOLDER / f"{group}_{name}.jpg"
            try:
                save(figure_picture(draw(group, name, video, tokens, signals), 90), path)
            except StgraphError as error:
                print(f"no picture of {group}={name}: {error}")
                continue
            made.add(path)
    if not names:
        for path in set(FOLDER.glob("*.jpg")) - made:
            path.unlink()


if __name__ == "__main__":
    from pictures import clip

    shown, its_tokens, its_signals, _ = clip()
    draw_all(sys.argv[1:], shown, its_tokens, its_signals)
