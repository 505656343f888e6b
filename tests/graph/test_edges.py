"""Edge builders: against brute force, and what motion edges are for."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stgraph import SpatialEdges, StgraphError, STSimDiff, TemporalEdges, VideoTokens, build_graph
from stgraph.graph.edges import (
    SPATIAL,
    SPATIAL_EDGES,
    TEMPORAL,
    TEMPORAL_EDGES,
    MotionEdges,
    NoSpatialEdges,
    NoTemporalEdges,
)
from stgraph.graph.spatiotemporal import snap_threshold
from stgraph.registry import registry

from ..strategies import videos

radii = st.one_of(st.none(), st.integers(0, 3))


def best_matches(tokens, radius, minimum=-1.0, *, separators_as_vertices=False):
    """(earlier, later) -> weight, by looking at every pair."""
    graph = build_graph(tokens, (), separators_as_vertices=separators_as_vertices)
    places = [(int(b), *c) for b, c in zip(graph.batch, graph.coords.tolist(), strict=True)]
    found = {}
    for later, (video, frame, row, column) in enumerate(places):
        options = []
        for earlier, (v, t, y, x) in enumerate(places):
            distance = max(abs(row - y), abs(column - x))
            if (v, t) == (video, frame - 1) and (radius is None or distance <= radius):
                weight = float(graph.similarity(torch.tensor([[earlier], [later]])))
                options.append((-weight, (row - y) ** 2 + (column - x) ** 2, earlier))
        if options and -min(options)[0] >= snap_threshold(minimum):
            found[min(options)[2], later] = -min(options)[0]
    return found


def edges_of(graph):
    return dict(zip(map(tuple, graph.edge_index.T.tolist()), graph.edge_weight.tolist(), strict=True))


@given(videos(), radii, st.sampled_from([-1.0, 0.3, 0.9]), st.booleans())
def test_motion_edges_are_the_best_matches(tokens, radius, minimum, separators):
    builder = MotionEdges(radius=radius, minimum_similarity=minimum)
    graph = build_graph(tokens, (builder,), separators_as_vertices=separators)
    expected = best_matches(tokens, radius, minimum, separators_as_vertices=separators)
    assert edges_of(graph) == expected
    earlier, later = graph.edge_index
    assert bool((earlier < later).all())
    assert later.tolist() == sorted(set(later.tolist())), "at most one edge into the past, in raster order"
    assert bool((graph.edge_kind == TEMPORAL).all())


@given(st.lists(videos(), min_size=1, max_size=3), st.booleans())
def test_radius_zero_is_the_paper(parts, separators):
    parts = [
        p
        for p in parts
        if (p.features.shape[1], p.features.dtype) == (parts[0].features.shape[1], parts[0].features.dtype)
    ]
    tokens = VideoTokens.cat(parts)
    moving, aligned = (
        build_graph(tokens, (SpatialEdges(), temporal), separators_as_vertices=separators)
        for temporal in (MotionEdges(radius=0), TemporalEdges())
    )
    for name in ("edge_index", "edge_weight", "edge_kind", "norm"):
        assert torch.equal(getattr(moving, name), getattr(aligned, name)), name


@given(st.lists(videos(dtypes=False), min_size=2, max_size=3), radii)
def test_batch_equals_its_videos(parts, radius):
    parts = [p for p in parts if p.features.shape[1] == parts[0].features.shape[1]]
    builders = (SpatialEdges(connectivity=8), MotionEdges(radius=radius))
    graph = build_graph(VideoTokens.cat(parts), builders)
    for number, part in enumerate(parts):
        one, alone = graph.video(number), build_graph(part, builders)
        assert torch.equal(one.edge_index, alone.edge_index)
        assert torch.equal(one.edge_weight, alone.edge_weight)


def test_ties_go_to_the_nearest_then_to_the_smaller_index():
    x = torch.ones(2, 3, 3, 4)
    assert edges_of(build_graph(VideoTokens.from_grid(x), (MotionEdges(radius=None),))).keys() == {
        (i, i + 9) for i in range(9)
    }, "all alike: nothing moves"
    x[0, 1, 1] = -1  # the token at the centre has four equally near and equally good matches
    centre = {e for e in edges_of(build_graph(VideoTokens.from_grid(x), (MotionEdges(),))) if e[1] == 13}
    assert centre == {(1, 13)}


def test_many_displacements_in_several_passes(monkeypatch):
    tokens = VideoTokens.from_grid(torch.randn(3, 4, 5, 8, generator=torch.Generator().manual_seed(0)))
    whole = build_graph(tokens, (MotionEdges(radius=None),))
    monkeypatch.setattr("stgraph.graph.edges._CANDIDATES", 1)
    piecewise = build_graph(tokens, (MotionEdges(radius=None),))
    assert torch.equal(whole.edge_index, piecewise.edge_index)
    assert torch.equal(whole.edge_weight, piecewise.edge_weight)


def moving_object(frames=6, height=5, width=9, dim=64):
    """Two alike patches, one above the other, that move one column per frame over a textured background."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(height, width, dim, generator=g).expand(frames, -1, -1, -1).clone()
    body = torch.randn(dim, generator=g)
    inside = torch.zeros(frames, height, width, dtype=torch.bool)
    for frame in range(frames):
        inside[frame, 1:3, frame + 1] = True
    x[inside] = body + 0.1 * torch.randn(int(inside.sum()), dim, generator=g)
    return VideoTokens.from_grid(x), inside.flatten()


def test_a_moving_object_stays_one_community():
    tokens, inside = moving_object()
    moving = STSimDiff(temporal=MotionEdges(radius=1))(tokens)
    assert len(moving.community[inside].unique()) == 1
    assert not bool(torch.isin(moving.community[~inside], moving.community[inside].unique()).any())
    aligned = STSimDiff()(tokens)
    assert len(aligned.community[inside].unique()) == 6, "at fixed positions it breaks into its frames"


def test_difference_follows_motion():
    tokens, inside = moving_object()
    aligned, moving = STSimDiff()(tokens), STSimDiff(temporal=MotionEdges(radius=1))(tokens)
    past = tokens.coords[:, 0] > 0
    assert bool((aligned.difference[inside & past] > 0.5).all()), "another content at the same place"
    assert bool((moving.difference[inside & past] < 0.1).all()), "the same object as before"


def test_pairs_that_two_builders_find_are_joined_once():
    tokens = VideoTokens.from_grid(torch.ones(3, 3, 3, 4))
    graph = build_graph(tokens, (SpatialEdges(), SpatialEdges(connectivity=8), TemporalEdges(), MotionEdges()))
    expected = build_graph(tokens, (SpatialEdges(connectivity=8), TemporalEdges()))
    assert edges_of(graph) == edges_of(expected)
    assert graph.num_edges == expected.num_edges


def test_none_leaves_a_kind_out():
    tokens = VideoTokens.from_grid(torch.randn(3, 3, 3, 4))
    spatial = build_graph(tokens, (SpatialEdges(), NoTemporalEdges()))
    temporal = build_graph(tokens, (NoSpatialEdges(), TemporalEdges()))
    assert set(spatial.edge_kind.tolist()) == {SPATIAL}
    assert set(temporal.edge_kind.tolist()) == {TEMPORAL}
    assert build_graph(tokens, (NoSpatialEdges(), NoTemporalEdges())).num_edges == 0
    selection = STSimDiff(spatial=NoSpatialEdges(), temporal=NoTemporalEdges(), retention=0.5)(tokens)
    assert selection.community.tolist() == list(range(27))
    assert bool((selection.difference == 0).all())


@pytest.mark.parametrize("group", ["spatial", "temporal"])
def test_groups_build_and_describe_every_builder(group):
    table = registry(group)
    assert table is {"spatial": SPATIAL_EDGES, "temporal": TEMPORAL_EDGES}[group]
    for name in table:
        builder = table.build(name)
        assert table.build(table.config(builder)) == builder
        assert table.config(builder)["name"] == name
        selection = STSimDiff(**{group: builder})(VideoTokens.from_grid(torch.randn(2, 3, 3, 4)))
        assert selection.method[group]["name"] == name


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"radius": -1}, "motion radius must be a whole number ≥ 0"),
        ({"radius": 1.5}, "motion radius must be a whole number ≥ 0"),
        ({"minimum_similarity": 1.5}, "motion minimum_similarity must be a number ≥ -1 and ≤ 1"),
    ],
)
def test_motion_refuses(parameters, message):
    with pytest.raises(StgraphError, match=message):
        MotionEdges(**parameters)


def test_non_finite_features_are_named_with_motion_too():
    x = torch.randn(3, 2, 2, 4)
    x[1, 0, 0, 0] = float("nan")
    with pytest.raises(StgraphError, match="video 0, frame 1 hold NaN or Inf"):
        build_graph(VideoTokens.from_grid(x), (MotionEdges(),))
