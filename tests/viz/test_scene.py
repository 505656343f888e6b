"""One word, one picture: every kind on ordinary and on degenerate videos, from memory and from a finished run."""

from __future__ import annotations

import dataclasses
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from stgraph import Grid, Selection, StgraphError, STSimDiff, Video, VideoTokens, build_graph, viz
from stgraph.app.draw import draw
from stgraph.graph.merge_tree import merge_tree
from stgraph.registry import registry
from stgraph.viz.drawing import MAX_COLUMNS
from stgraph.viz.saved import FILE, load_scene, save_graph

from ..strategies import features


def clip(frames: int, height: int = 24, width: int = 36) -> Video:
    g = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (frames, 3, height, width), generator=g, dtype=torch.uint8)
    return Video(pixels, torch.arange(frames, dtype=torch.float64) / 5, source="garden.mp4")


def dense(frames: int = 6, height: int = 4, width: int = 6) -> VideoTokens:
    return VideoTokens.from_grid(features(frames, height, width, 8, 3))


def drawn(figure: Any) -> np.ndarray:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=40)
    return np.asarray(Image.open(buffer).convert("L"), dtype=float)


def run_folder(folder: Path, tokens: VideoTokens, video: Video | None) -> Selection:
    folder.mkdir()
    selection = STSimDiff(retention=0.4)(tokens)
    selection.save(folder, {"grids": [list(tokens.grids[0])], "video": {"file": "garden.mp4"}})
    save_graph(folder, build_graph(tokens), video)
    return selection


@pytest.mark.parametrize("kind", list(viz.KINDS))
def test_every_kind_draws_something(kind: str) -> None:
    tokens = dense()
    figure = STSimDiff(retention=0.4)(tokens).draw(kind, clip(6), tokens)
    assert drawn(figure).std() > 1


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 2, 3), (3, 1, 1)])
def test_the_smallest_videos(shape: tuple[int, int, int]) -> None:
    tokens = VideoTokens.from_grid(features(*shape, 8, 3))
    scene = viz.scene(STSimDiff(retention=0.3)(tokens), clip(shape[0]), tokens)
    for kind in viz.KINDS:
        assert drawn(scene.draw(kind)).size


def test_without_frames_only_pictures_on_frames_are_missing() -> None:
    tokens = dense()
    scene = viz.scene(STSimDiff(retention=0.4)(tokens), None, tokens)
    for kind in viz.KINDS:
        if kind not in ("graph", "filmstrip"):
            assert drawn(scene.draw(kind)).std() > 1
            continue
        with pytest.raises(StgraphError, match=f"the picture '{kind}' is drawn on frames: give the video"):
            scene.draw(kind)


def test_without_tokens_it_says_what_is_missing() -> None:
    selection = STSimDiff(retention=0.4)(dense())
    with pytest.raises(StgraphError, match="the merge tree need the graph: give the tokens"):
        selection.draw("dendrogram", clip(6))
    assert drawn(selection.draw("difference", clip(6))).std() > 1


def test_long_videos_are_thinned_and_it_is_said() -> None:
    tokens = VideoTokens.from_grid(features(4096, 1, 2, 4, 3))
    scene = viz.scene(STSimDiff(retention=0.3)(tokens), None, tokens)
    for kind in ("river", "difference"):
        texts = [text.get_text() for text in scene.draw(kind).axes[0].texts]
        assert any(text.startswith(f"{MAX_COLUMNS} of 4,096 frames") for text in texts)


def test_the_river_holds_every_token_once() -> None:
    tokens = dense()
    graph = build_graph(tokens)
    partition = registry("community").build("components")(graph.prune(0.8))
    figure = viz.community_river(partition, graph, 6)
    shapes = figure.axes[0].collections[0].get_paths()
    stacks = [path.vertices[:4] for path in shapes if len(path.vertices) == 5]  # the columns are plain boxes
    assert sum(box[:, 1].max() - box[:, 1].min() for box in stacks) == pytest.approx(len(tokens))


def test_the_barcode_shows_births_and_deaths() -> None:
    tree = merge_tree(build_graph(dense()))
    lives = tree.persistence(2)
    bars = viz.persistence_barcode(tree, bars=10).axes[0].patches
    assert len(bars) == min(10, len(lives.birth))
    for bar, birth in zip(bars, lives.birth.tolist(), strict=False):
        assert bar.get_x() + bar.get_width() == pytest.approx(birth)


def test_the_dendrogram_draws_the_last_merges() -> None:
    tree = merge_tree(build_graph(dense()))
    lines = viz.merge_dendrogram(tree, leaves=8).axes[0].lines
    heights = sorted(float(line.get_ydata()[1]) for line in lines)
    np.testing.assert_allclose(heights, sorted(tree.weight[-7:].tolist()))


def test_a_marker_outside_the_grid_says_so() -> None:
    markers = {"paper": (0.8, 0.2), "chosen": (0.4, 0.2)}
    figure = viz.threshold_map(np.eye(2, 3), [0.7, 0.8, 0.9], [0.1, 0.2], markers=markers)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert "paper" in texts
    assert "chosen at (0.4, 0.2), outside" in texts
    with pytest.raises(StgraphError, match=re.escape("values must be (2, 3) numbers")):
        viz.threshold_map(np.eye(3), [0.7, 0.8, 0.9], [0.1, 0.2])


def test_compared_selections_are_counted() -> None:
    tokens = dense()
    one, two = (
        STSimDiff(retention=0.4)(tokens),
        registry("selector").build({"name": "random", "retention": 0.4})(tokens),
    )
    figure = viz.compare_selections({"a": one, "b": two}, tokens.grids[0], video=clip(6))
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    both = int((one.mask & two.mask).sum())
    assert labels[0].startswith(f"kept by both {both},")
    assert labels[1:] == [f"only a {len(one) - both}", f"only b {len(two) - both}"]
    with pytest.raises(StgraphError, match="needs two selections by name, got 1"):
        viz.compare_selections({"a": one}, tokens.grids[0])


def test_a_finished_run_is_drawn_from_its_folder(tmp_path: Path) -> None:
    tokens = dense()
    selection = run_folder(tmp_path / "run", tokens, clip(6))
    scene, graph = load_scene(tmp_path / "run"), build_graph(tokens)
    for name in ("edge_index", "edge_weight", "edge_kind", "coords", "token"):
        assert torch.equal(getattr(scene.graph, name), getattr(graph, name)), name
    assert scene.grid == Grid(6, 4, 6)
    assert scene.video is not None
    assert scene.video.source == "garden.mp4"
    memory = selection.show(clip(6), tokens).data
    assert {**scene.explore().data, "images": 0} == {**memory, "images": 0}
    assert draw(tmp_path / "run").name == "explorer.html"
    assert draw(tmp_path / "run", "river").read_bytes().startswith(b"\x89PNG")
    assert draw(tmp_path / "run", "river", tmp_path / "a.svg").read_text("utf-8").startswith("<?xml")


def test_what_cannot_be_drawn_is_told_in_one_sentence(tmp_path: Path) -> None:
    run_folder(tmp_path / "run", dense(), None)
    with pytest.raises(StgraphError, match="kind must be one of explorer, report, graph, river"):
        draw(tmp_path / "run", "rivers")
    with pytest.raises(StgraphError, match="is drawn on frames"):
        draw(tmp_path / "run", "filmstrip")
    with pytest.raises(StgraphError, match="needs a name that ends in"):
        draw(tmp_path / "run", "river", tmp_path / "river.gif")
    with pytest.raises(StgraphError, match="cannot be written"):
        draw(tmp_path / "run", "river", tmp_path / "missing" / "river.png")
    (tmp_path / "run" / FILE).write_bytes(b"broken")
    with pytest.raises(StgraphError, match="is damaged"):
        draw(tmp_path / "run")
    (tmp_path / "run" / FILE).unlink()
    with pytest.raises(StgraphError, match="holds a selection but not its graph"):
        draw(tmp_path / "run")
    with pytest.raises(StgraphError, match="no selection"):
        draw(tmp_path)


def test_what_does_not_belong_together_is_told() -> None:
    tokens = dense()
    selection = STSimDiff(retention=0.4)(tokens)
    with pytest.raises(StgraphError, match="the selection was made from 144 tokens, got 8"):
        selection.draw("river", clip(6), dense(2, 2, 2))
    with pytest.raises(StgraphError, match="the selection has 6 frames, the video has 3"):
        selection.draw("river", clip(3), tokens)
    with pytest.raises(StgraphError, match="did you mean 'river'"):
        selection.draw("rivr", clip(6), tokens)
    with pytest.raises(StgraphError, match="has no such option"):
        selection.draw("river", clip(6), tokens, colour="red")
    fastv = registry("selector").build({"name": "random", "retention": 0.4})(tokens)
    with pytest.raises(StgraphError, match="random finds no communities"):
        fastv.draw("river", clip(6), tokens)


def test_values_show_themselves_in_notebooks() -> None:
    tokens = dense()
    graph, selector = build_graph(tokens), STSimDiff(retention=0.4)
    found, selection = selector.analyse(tokens), selector(tokens)
    assert "6 × 4 × 6" in tokens._repr_html_()
    assert f"{graph.num_nodes:,}" in graph._repr_html_()
    assert f"{found.partition.num_communities:,}, " in found.partition._repr_html_()
    assert f"{int(found.difference.marked.sum())} of 144" in found.difference._repr_html_()
    assert f"{len(selection)} of 144" in selection._repr_html_()
    hostile = dataclasses.replace(selection, method={"name": "<script>"})
    assert "<script>" not in hostile._repr_html_()


def test_two_selections_are_shown_by_name() -> None:
    tokens = dense()
    one = STSimDiff(retention=0.4)(tokens)
    explorer = one.show(clip(6), tokens, other=registry("selector").build({"name": "random", "retention": 0.4})(tokens))
    assert [run["name"] for run in explorer.data["runs"]] == ["simdiff", "random"]
    assert [run["name"] for run in one.show(None, tokens, other=one).data["runs"]] == ["this", "other"]
