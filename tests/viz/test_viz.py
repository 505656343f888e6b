"""Pictures: exact pixels of overlays, stable colours, and charts of degenerate videos."""

from __future__ import annotations

import colorsys
import io
import itertools
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from stgraph import Grid, Selection, StgraphError, STSimDiff, Verdict, Video, VideoTokens, build_graph, read_video, viz
from stgraph.community import Partition
from stgraph.difference import DIFFERENCES, Difference
from stgraph.registry import registry
from stgraph.viz.colours import (
    ALONE_COLOUR,
    COMPARISON_COLOURS,
    EDGE_COLOURS,
    EVENT_COLOUR,
    VERDICT_COLOURS,
    community_palette,
    heat_colours,
    rgb,
)
from stgraph.viz.summary import (
    difference_per_frame,
    telling_frames,
    token_grid,
    verdicts_per_frame,
    weight_histogram,
)

from ..strategies import features


def video_of(frames: int, height: int = 48, width: int = 64, seed: int = 0) -> Video:
    g = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (frames, 3, height, width), generator=g, dtype=torch.uint8)
    return Video(pixels, torch.arange(frames, dtype=torch.float64) / 4)


def tokens_of(frames: int, height: int = 4, width: int = 6, seed: int = 0) -> VideoTokens:
    return VideoTokens.from_grid(features(frames, height, width, 8, seed))


def selection_of(tokens: VideoTokens, **options: object) -> Selection:
    return STSimDiff(**options)(tokens)  # type: ignore[arg-type]


# -- colours ----------------------------------------------------------------------------------------------------------


def test_every_verdict_has_a_colour_of_its_own() -> None:
    assert set(viz.VERDICT_COLOURS) == set(Verdict)
    assert len(set(viz.VERDICT_COLOURS.values())) == len(Verdict)


def test_verdict_colours_differ_for_colour_blind_readers() -> None:
    # Linear transform of Viénot, Brettel and Mollon (1999) for missing red and green cones, in linear light.
    blindness = {
        "protanopia": [[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]],
        "deuteranopia": [[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]],
    }
    colours = (np.array([rgb(c) for c in viz.VERDICT_COLOURS.values()]) / 255) ** 2.2
    for matrix in blindness.values():
        seen = (colours @ np.array(matrix).T).clip(0, 1) ** (1 / 2.2) * 255
        for a, b in itertools.combinations(seen, 2):
            assert np.linalg.norm(a - b) > 20


def test_community_colours_depend_on_the_number_alone() -> None:
    some = viz.community_colours(np.array([5, 0, 300]), np.zeros(3, dtype=bool))
    other = viz.community_colours(np.array([[300, 5], [7, 0]]), np.zeros((2, 2), dtype=bool))
    assert (some[0] == other[0, 1]).all()
    assert (some[2] == other[0, 0]).all()
    assert (some[1] == other[1, 1]).all()
    grey = viz.community_colours(np.array([5]), np.array([True]))
    assert tuple(grey[0]) == rgb(ALONE_COLOUR)


def test_near_community_numbers_are_easily_told_apart() -> None:
    palette = community_palette().astype(float)
    assert len({tuple(colour) for colour in palette.tolist()}) == len(palette)
    for step in range(1, 22):
        distance = np.linalg.norm(palette[step:] - palette[:-step], axis=1)
        assert distance.min() > 23

    assert min(colorsys.rgb_to_hsv(*(colour / 255))[1] for colour in palette) > 0.2, "no community looks grey"


def test_event_orange_is_only_events() -> None:
    others = [
        *community_palette().tolist(),
        *heat_colours(np.linspace(0, 1, 256)).tolist(),
        *(rgb(c) for c in (*EDGE_COLOURS.values(), *COMPARISON_COLOURS.values())),
        *(rgb(c) for verdict, c in VERDICT_COLOURS.items() if verdict is not Verdict.EVENT),
    ]
    assert np.linalg.norm(np.array(others, dtype=float) - rgb(EVENT_COLOUR), axis=1).min() > 50


def test_heat_brightens_with_level() -> None:
    colours = heat_colours(np.linspace(-1, 2, 50)) @ np.array([0.299, 0.587, 0.114])
    assert (np.diff(colours) >= -1).all()
    assert tuple(heat_colours(np.array(0.0))) == tuple(heat_colours(np.array(-3.0)))


# -- overlays ---------------------------------------------------------------------------------------------------------


def test_kept_tokens_keep_their_pixels_and_dropped_ones_are_grey_and_dark() -> None:
    frame = video_of(1, 8, 8).frames[0]
    verdict = np.array([[Verdict.REPRESENTATIVE, Verdict.DROPPED], [Verdict.TRIMMED, Verdict.EVENT]])
    out = viz.frame_overlay(frame, verdict, dim=0.25, outline=0)
    assert torch.equal(out[:, :4, :4], frame[:, :4, :4])
    assert torch.equal(out[:, 4:, 4:], frame[:, 4:, 4:])
    red, green, blue = frame[:, :4, 4:].double()
    grey = (0.25 * (0.299 * red + 0.587 * green + 0.114 * blue)).round().to(torch.uint8)
    assert torch.equal(out[:, :4, 4:], grey.expand(3, -1, -1))


def test_outline_has_the_verdicts_colour_and_width_and_spares_the_inside() -> None:
    frame = video_of(1, 16, 16).frames[0]
    out = viz.frame_overlay(frame, np.array([[Verdict.EVENT, Verdict.EVENT], [0, 0]]), outline=1)
    colour = torch.tensor(rgb(viz.VERDICT_COLOURS[Verdict.EVENT]), dtype=torch.uint8)[:, None]
    for line in (out[:, 0], out[:, 7], out[:, :8, 0], out[:, :8, -1]):
        assert torch.equal(line, colour.expand_as(line))
    assert torch.equal(out[:, 1:7, 1:15], frame[:, 1:7, 1:15]), "no line between tokens of one verdict"


@given(
    st.integers(1, 20), st.integers(1, 20), st.integers(1, 7), st.integers(1, 7), st.integers(0, 3), st.integers(0, 99)
)
def test_overlay_touches_no_kept_pixel_inside(
    height: int, width: int, rows: int, columns: int, line: int, seed: int
) -> None:
    frame = video_of(1, height, width, seed).frames[0]
    verdict = np.random.default_rng(seed).integers(0, len(Verdict), (rows, columns))
    out = viz.frame_overlay(frame, verdict, outline=line)
    for y, x in itertools.product(range(height), range(width)):
        here = verdict[y * rows // height, x * columns // width]
        near = [(y + dy, x + dx) for dy, dx in ((0, line), (0, -line), (line, 0), (-line, 0))]
        inside = all(
            0 <= v < height and 0 <= u < width and verdict[v * rows // height, u * columns // width] == here
            for v, u in near
        )
        if here in (Verdict.DROPPED, Verdict.TRIMMED):
            assert len(set(out[:, y, x].tolist())) == 1
        elif inside:
            assert torch.equal(out[:, y, x], frame[:, y, x])
        else:
            assert tuple(out[:, y, x].tolist()) == rgb(viz.VERDICT_COLOURS[Verdict(int(here))])


def test_overlays_leave_their_input_alone() -> None:
    frame = video_of(1).frames[0]
    before = frame.clone()
    viz.frame_overlay(frame, np.zeros((4, 6), dtype=int))
    viz.community_overlay(frame, np.zeros((4, 6), dtype=int), np.zeros((4, 6), dtype=bool))
    viz.difference_overlay(frame, np.ones((4, 6)), marked=np.ones((4, 6), dtype=bool))
    assert torch.equal(frame, before)


def test_community_overlay_colours_members_alike_and_leaves_the_rest() -> None:
    frame = torch.full((3, 12, 12), 100, dtype=torch.uint8)
    community = np.array([[0, 1], [-1, 0]])
    out = viz.community_overlay(frame, community, np.zeros((2, 2), dtype=bool), opacity=0.5)
    assert torch.equal(out[:, 3, 3], out[:, 9, 9])
    assert not torch.equal(out[:, 3, 3], out[:, 3, 9])
    assert out[:, 9, 3].tolist() == [100, 100, 100]
    expected = (0.5 * 100 + 0.5 * community_palette()[0]).round()
    assert out[:, 3, 3].tolist() == expected.tolist()


def test_difference_overlay_is_brighter_where_more_differs() -> None:
    frame = torch.full((3, 8, 32), 60, dtype=torch.uint8)
    out = viz.difference_overlay(frame, np.array([[0.0, 0.4, 0.7, 1.0]]))
    light = out.double().mean(0)[4, 4::8]
    assert (light.diff() > 0).all()


def test_bad_frames_are_told() -> None:
    with pytest.raises(StgraphError, match=r"a frame must be \(3, H, W\) uint8"):
        viz.frame_overlay(torch.zeros(8, 8, 3, dtype=torch.uint8), np.zeros((2, 2), dtype=int))
    with pytest.raises(StgraphError, match="dim must be"):
        viz.frame_overlay(video_of(1).frames[0], np.zeros((2, 2), dtype=int), dim=2)


@pytest.mark.parametrize("kind", ["kept", "communities", "difference"])
def test_overlay_frames_equal_the_overlay_of_each_frame(kind: viz.OverlayKind) -> None:
    video, tokens = video_of(3), tokens_of(3)
    selection, grid = selection_of(tokens), tokens.grids[0]
    out = list(viz.overlay_frames(video, selection, grid, kind, frames=[2, 0]))
    shape = tuple(grid)[1:]
    rows = slice(2 * grid.height * grid.width, None)
    sizes = torch.bincount(selection.community)
    verdict = selection.verdict[rows].view(shape).numpy()
    if kind == "kept":
        expected = viz.frame_overlay(video.frames[2], verdict)
    elif kind == "communities":
        alone = (sizes[selection.community] == 1)[rows].view(shape).numpy()
        expected = viz.community_overlay(video.frames[2], selection.community[rows].view(shape).numpy(), alone)
    else:
        maximum = max(1.0, float(selection.difference.max()))
        marked = np.isin(verdict, (Verdict.EVENT, Verdict.BOTH))
        score = selection.difference[rows].view(shape).numpy()
        expected = viz.difference_overlay(video.frames[2], score, maximum=maximum, marked=marked)
    assert torch.equal(out[0], expected)
    assert len(out) == 2


def test_what_does_not_fit_is_told_before_anything_is_drawn() -> None:
    video, tokens = video_of(3), tokens_of(3)
    selection, grid = selection_of(tokens), tokens.grids[0]
    with pytest.raises(StgraphError, match="the grid has 3 frames, the video 2"):
        viz.overlay_frames(video_of(2), selection, grid)
    with pytest.raises(StgraphError, match="outside the grid"):
        viz.frame_sheet(video, selection, Grid(3, 2, 2))
    with pytest.raises(StgraphError, match="frame must be"):
        viz.overlay_frames(video, selection, grid, frames=[3])
    with pytest.raises(StgraphError, match="did you mean 'communities'"):
        viz.overlay_frames(video, selection, grid, "comunities")  # type: ignore[arg-type]
    both = selection_of(VideoTokens.cat([tokens, tokens]))
    with pytest.raises(StgraphError, match="a picture shows one video"):
        viz.frame_sheet(video, both, grid)


def test_overlay_video_plays_at_the_videos_speed(tmp_path: object) -> None:
    video, tokens = video_of(5), tokens_of(5)
    path = f"{tmp_path}/overlay.mp4"
    viz.overlay_video(path, video, selection_of(tokens), tokens.grids[0], width=96)
    back = read_video(path)
    assert len(back) == 5
    assert (back.height, back.width) == (72, 96)
    assert torch.allclose(back.timestamps, video.timestamps, atol=1e-3)


# -- contact sheet ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["kept", "communities", "difference"])
@pytest.mark.parametrize(("frames", "columns"), [(1, 4), (5, 2), (7, 4)])
def test_sheet_size(frames: int, columns: int, kind: viz.OverlayKind) -> None:
    video, tokens = video_of(7), tokens_of(7)
    sheet = viz.frame_sheet(
        video, selection_of(tokens), tokens.grids[0], kind, frames=frames, columns=columns, width=200
    )
    shown = min(columns, frames)
    assert sheet.width == shown * 212 + 12
    assert sheet.height > -(-frames // columns) * 150
    assert sheet.mode == "RGB"


def test_sheet_shows_the_overlays() -> None:
    video, tokens = video_of(4, 40, 64), tokens_of(4)
    selection = selection_of(tokens)
    sheet = np.asarray(viz.frame_sheet(video, selection, tokens.grids[0], frames=[1, 3], width=64))
    for place, overlay in enumerate(viz.overlay_frames(video, selection, tokens.grids[0], frames=[1, 3])):
        x = 12 + place * 76
        assert (sheet[12:52, x : x + 64] == overlay.permute(1, 2, 0).numpy()).all()


@given(st.lists(st.integers(0, 5), min_size=1, max_size=60), st.integers(1, 20))
def test_telling_frames(changes: list[int], count: int) -> None:
    chosen = telling_frames(np.array(changes), count)
    assert chosen == sorted(set(chosen))
    assert len(chosen) == min(count, len(changes))
    assert chosen[0] == 0, "the first frame is always among them"


def test_telling_frames_hold_the_busiest() -> None:
    changes = np.zeros(64, dtype=int)
    changes[[17, 35, 50]] = (90, 120, 80)
    assert {17, 35, 50} <= set(telling_frames(changes, 8))


# -- numbers ----------------------------------------------------------------------------------------------------------


def test_summaries_against_loops() -> None:
    tokens = VideoTokens.from_grid(features(4, 3, 5, 8, seed=3), newline=True)
    selection, graph = selection_of(tokens, retention=0.4), build_graph(tokens)
    difference = registry("difference").build("threshold")(graph)
    counts = verdicts_per_frame(selection, 4)
    per_frame = difference_per_frame(difference, graph, 4)
    for t in range(4):
        for verdict in Verdict:
            inside = (selection.coords[:, 0] == t) & (selection.verdict == verdict)
            assert counts[t, verdict] == int(inside.sum())
        scores = difference.score[graph.coords[:, 0] == t].numpy()
        assert per_frame.mean[t] == pytest.approx(scores.mean(), abs=1e-6)
        assert per_frame.high[t] == pytest.approx(np.quantile(scores, 0.95), abs=1e-6)
        assert per_frame.marked[t] == int(difference.marked[graph.coords[:, 0] == t].sum())
    histogram = weight_histogram(graph)
    assert histogram.spatial.sum() + histogram.temporal.sum() == graph.num_edges


def test_token_grid_leaves_holes_and_separators_out() -> None:
    grid = Grid(1, 2, 2)
    coords = torch.tensor([[0, 0, 0], [0, 0, 2], [0, 1, 1], [0, 1, 2]])
    laid = token_grid(torch.tensor([5, 6, 7, 8]), coords, grid, -1)
    assert laid.tolist() == [[[5, -1], [-1, 7]]]


# -- charts -----------------------------------------------------------------------------------------------------------


def picture(figure: object) -> np.ndarray:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=50)  # type: ignore[attr-defined]
    return np.asarray(Image.open(buffer).convert("RGB"))


CASES = {
    "ordinary": features(5, 4, 6, 8, seed=1),
    "one frame": features(1, 4, 6, 8, seed=1),
    "one token": torch.ones(1, 1, 1, 4),
    "one community, nothing happens": torch.ones(4, 3, 3, 4),
    "everything changes": torch.eye(4)[:, None, None].expand(4, 2, 3, 4).contiguous(),
    "zero vectors": torch.zeros(3, 2, 2, 4),
}


@pytest.mark.parametrize("name", CASES)
def test_all_charts_of(name: str) -> None:
    tokens = VideoTokens.from_grid(CASES[name])
    grid, graph = tokens.grids[0], build_graph(tokens)
    video = video_of(grid.frames)
    selection = selection_of(tokens, retention=0.5)
    partition = registry("community").build("components")(graph.prune(0.8))
    timestamps = video.timestamps.tolist()
    for detector in ("threshold", "none"):
        difference = DIFFERENCES.build(detector)(graph)
        for figure in (
            viz.difference_chart(difference, graph, grid.frames, timestamps=timestamps),
            viz.space_time_graph(
                video, graph, partition, grid, frames=range(min(3, grid.frames)), difference=difference
            ),
        ):
            assert picture(figure).std() > 1, "something is drawn"
    for figure in (
        viz.kept_chart(selection, grid),
        viz.community_size_chart(partition),
        viz.edge_weight_chart(graph, similarity_threshold=0.8, difference_threshold=0.2),
    ):
        assert picture(figure).std() > 1


def test_charts_without_any_vertex() -> None:
    every = VideoTokens.from_grid(features(2, 2, 3, 4, seed=0), newline=True)
    tokens = every.take(every.separator.nonzero()[:, 0])
    graph = build_graph(tokens)
    nothing = torch.zeros(0)
    difference = Difference(nothing, nothing.bool(), (0.8,))
    partition = Partition(nothing.long())
    for figure in (
        viz.difference_chart(difference, graph, 2),
        viz.community_size_chart(partition),
        viz.edge_weight_chart(graph),
        viz.space_time_graph(video_of(2), graph, partition, tokens.grids[0]),
    ):
        assert picture(figure).std() > 1


def test_difference_chart_bars_and_lines_hold_the_numbers() -> None:
    tokens = tokens_of(6, seed=4)
    graph = build_graph(tokens)
    difference = registry("difference").build("threshold")(graph)
    left, right = viz.difference_chart(difference, graph, 6).axes
    per_frame = difference_per_frame(difference, graph, 6)
    assert [bar.get_height() for bar in right.patches] == per_frame.marked.tolist()
    high, mean = left.lines[:2]
    assert np.allclose(high.get_ydata(), per_frame.high)
    assert np.allclose(mean.get_ydata(), per_frame.mean)


def test_space_time_graph_draws_each_similar_edge_once() -> None:
    tokens = tokens_of(3, seed=2)
    grid, graph = tokens.grids[0], build_graph(tokens)
    partition = registry("community").build("components")(graph.prune(0.8))
    figure = viz.space_time_graph(video_of(3), graph, partition, grid, frames=(0, 1, 2))
    collections = [c for c in figure.axes[0].collections if hasattr(c, "get_segments")]
    segments = [segment.tobytes() for c in collections for segment in c.get_segments()]
    assert len(set(segments)) == graph.prune(0.8).num_edges
    vertices = sum(len(c.get_offsets()) for c in figure.axes[0].collections if not hasattr(c, "get_segments"))
    assert vertices == graph.num_nodes


def test_space_time_graph_tells_what_cannot_be_drawn() -> None:
    tokens = tokens_of(3)
    grid, graph, video = tokens.grids[0], build_graph(tokens), video_of(3)
    partition = registry("community").build("components")(graph)
    with pytest.raises(StgraphError, match="ascending numbers from 0 to 2"):
        viz.space_time_graph(video, graph, partition, grid, frames=(2, 1))
    with pytest.raises(StgraphError, match="inside the grid of 4 × 6 tokens"):
        viz.space_time_graph(video, graph, partition, grid, box=(0, 0, 5, 6))
    two = build_graph(VideoTokens.cat([tokens, tokens]))
    with pytest.raises(StgraphError, match="a chart shows one video"):
        viz.space_time_graph(video, two, partition, grid)


def test_overlays_need_no_matplotlib() -> None:
    code = "import sys, stgraph.viz, stgraph.viz.report; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
