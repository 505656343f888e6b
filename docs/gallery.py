"""One picture for each method, all on the sample clip: ``python docs/gallery.py [NAME...]``."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path
from typing import Any

import torch
from saving import figure_picture, save

from stgraph import Selection, Selector, StgraphError, Video, VideoQA, VideoTokens, build_graph, viz
from stgraph.community import COMMUNITIES
from stgraph.registry import GROUPS, registry
from stgraph.tokens import Grid

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
    selector = registry("selector").build({**words, "retention": 0.3})
    try:
        selection: Selection = selector(tokens, signals)
    except StgraphError:
        if group != "selector":
            raise
        return inside_a_model(selector, video)
    return viz.filmstrip(video, selection, grid, by, frames=FRAMES)  # type: ignore[arg-type]


def inside_a_model(selector: Selector, video: Video) -> Any:
    """The figure of a selector that reads a model: attached to the benchmark's small video LLM."""
    chosen = sorted({*FRAMES, *range(0, len(video), 6)})[:16]
    frames = torch.nn.functional.interpolate(video.frames[chosen].float(), (128, 224), mode="area").round().byte()
    seen = Video(frames, video.timestamps[chosen], video.source)
    qa = small_model()
    with selector.attach(qa.model) as attached:
        qa(seen, "what flashed")
    selection = attached.selection
    assert selection is not None
    grid = Grid(*(selection.coords.amax(0) + 1).tolist())
    every = len(chosen) // grid.frames  # frames that the model reads as one
    shown = Video(video.frames[chosen[::every]], video.timestamps[chosen[::every]], video.source)
    return viz.filmstrip(shown, selection, grid, frames=[chosen.index(t) // every for t in FRAMES])


@cache
def small_model() -> VideoQA:
    """The model that ships with the benchmark."""
    from experiments.benchmark.answering import CHECKPOINT

    return VideoQA.from_pretrained(CHECKPOINT, None, dtype="float32")


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
