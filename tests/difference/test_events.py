"""Events: marked tokens that touch, against a search over all pairs."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stgraph import StgraphError, VideoTokens, build_graph
from stgraph.difference.base import Difference

from ..strategies import videos


def neighbours(a, b):
    return max(abs(p - q) for p, q in zip(a, b, strict=True)) <= 1


def busy_frames(coords, batch, marked):
    """(video, frame) of which more than half is marked."""
    frames = {(b, c[0]) for b, c in zip(batch, coords, strict=True)}
    of = {f: [m for b, c, m in zip(batch, coords, marked, strict=True) if (b, c[0]) == f] for f in frames}
    return {f for f, marks in of.items() if sum(marks) > len(marks) / 2}


def brute_force(coords, batch, marked):
    """Groups of marked vertices that touch, found by growing them; those of busy frames in a row are one."""
    busy = busy_frames(coords, batch, marked)

    def joined(i, j):
        one, two = (batch[i], coords[i][0]), (batch[j], coords[j][0])
        if batch[i] != batch[j] or (one in busy) != (two in busy):
            return False
        if one in busy:
            return abs(one[1] - two[1]) <= 1
        return neighbours(coords[i], coords[j])

    left = [i for i, m in enumerate(marked) if m]
    groups = []
    while left:
        group, grown = [], [left.pop(0)]
        while grown:
            i = grown.pop()
            group.append(i)
            near = [j for j in left if joined(i, j)]
            grown += near
            left = [j for j in left if j not in near]
        groups.append(sorted(group))
    return groups


@given(videos(), videos(dtypes=False), st.floats(0.05, 0.9), st.integers(0, 1000), st.integers(1, 4))
def test_equals_brute_force(first, second, share, seed, min_size):
    if first.features.shape[1] == second.features.shape[1] and first.features.dtype == second.features.dtype:
        first = VideoTokens.cat([first, second])
    graph = build_graph(first)
    g = torch.Generator().manual_seed(seed)
    marked = torch.rand(graph.num_nodes, generator=g) < share
    score = torch.rand(graph.num_nodes, generator=g)
    events = Difference(score, marked, (0.0,)).events(graph, min_size)

    coords, batch = graph.coords.tolist(), graph.batch.tolist()
    groups = [group for group in brute_force(coords, batch, marked.tolist()) if len(group) >= min_size]
    assert sorted(event.vertices for event in events) == sorted(map(tuple, groups))
    assert [(e.video, e.first_frame) for e in events] == sorted((e.video, e.first_frame) for e in events)
    for event in events:
        frames, rows, columns = zip(*(coords[i] for i in event.vertices), strict=True)
        assert {batch[i] for i in event.vertices} == {event.video}
        assert (event.first_frame, event.last_frame) == (min(frames), max(frames))
        assert event.box == (min(rows), min(columns), max(rows) + 1, max(columns) + 1)
        assert event.size == len(event.vertices)
        among = {(event.video, t) for t in frames} & busy_frames(coords, batch, marked.tolist())
        assert event.kind == ("local" if not among else "cut" if len(set(frames)) == 1 else "transition")
        assert event.mass == pytest.approx(float(score[list(event.vertices)].double().sum()))
        per_frame = {t: sum(float(score[i]) for i in event.vertices if coords[i][0] == t) for t in sorted(set(frames))}
        assert event.peak_frame == max(per_frame, key=lambda t: per_frame[t])


def test_by_hand():
    graph = build_graph(VideoTokens.from_grid(torch.ones(4, 3, 5, 2)))
    marked, score = torch.zeros(2, 4, 3, 5)
    for t, y, x, s in ((1, 0, 0, 0.5), (2, 1, 1, 0.9), (2, 0, 1, 0.2), (0, 2, 4, 1.0)):  # three touch at corners
        marked[t, y, x], score[t, y, x] = 1, s
    difference = Difference(score.flatten(), marked.flatten().bool(), (0.0,))
    lone, joined = difference.events(graph)
    assert (lone.first_frame, lone.last_frame, lone.box, lone.size) == (0, 0, (2, 4, 3, 5), 1)
    assert (joined.first_frame, joined.last_frame, joined.box, joined.size) == (1, 2, (0, 0, 2, 2), 3)
    assert joined.mass == pytest.approx(1.6)
    assert joined.peak_frame == 2
    assert difference.events(graph, min_size=2) == [joined]
    assert difference.events(graph, min_size=4) == []


def test_a_cut_parts_what_moves_before_it_from_what_moves_after_it():
    graph = build_graph(VideoTokens.from_grid(torch.ones(7, 4, 4, 2)))
    marked = torch.zeros(7, 4, 4, dtype=torch.bool)
    marked[1:6, 1, 1] = True  # one place changes all the time
    marked[3] = True  # and there is a cut
    marked[3, 0, 0] = False
    events = Difference(marked.flatten().float(), marked.flatten(), (0.0,)).events(graph)
    found = [(e.kind, e.first_frame, e.last_frame, e.size) for e in events]
    assert found == [("local", 1, 2, 2), ("cut", 3, 3, 15), ("local", 4, 5, 2)]
    marked[4] = True
    fade = Difference(marked.flatten().float(), marked.flatten(), (0.0,)).events(graph)
    assert [(e.kind, e.first_frame, e.last_frame, e.size) for e in fade][1] == ("transition", 3, 4, 31)


def test_bad_input_is_told():
    graph = build_graph(VideoTokens.from_grid(torch.ones(2, 2, 2, 2)))
    with pytest.raises(StgraphError, match="min_size must be a whole number ≥ 1, got 0"):
        Difference(torch.zeros(8), torch.zeros(8).bool(), (0.0,)).events(graph, 0)
    with pytest.raises(StgraphError, match="one score and one mark for each of 8 vertices"):
        Difference(torch.zeros(7), torch.zeros(7).bool(), (0.0,)).events(graph)
