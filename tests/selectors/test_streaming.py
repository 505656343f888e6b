"""Streams: equal to the offline result where a window covers the clip, exact budgets, bounded memory."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stgraph import Signals, StgraphError, STSimDiff, TemporalEdges, VideoTokens, build_graph, stream
from stgraph.budget import ceil_share
from stgraph.community import COMMUNITIES
from stgraph.difference.drift import Drift
from stgraph.encoders.base import Encoded
from stgraph.selectors import SELECTORS

from .. import strategies
from ..memory import peak_growth


def all_signals(count):
    g = torch.Generator().manual_seed(count)
    return Signals(torch.rand(count, generator=g), torch.randn(count, 8, generator=g), torch.rand(count, generator=g))


def followed(windows):
    """Communities of all tokens of a stream after the last word on which of them are one."""
    leader = dict(pair for window in windows for pair in window.joined)

    def last(number):
        return last(leader[number]) if number in leader else number

    return [last(number) for window in windows for number in window.selection.community.tolist()]


def cut(tokens, sizes):
    """The same video in blocks of some frames each."""
    frame = tokens.coords[:, 0]
    blocks, start = [], 0
    for size in sizes:
        rows = (frame >= start) & (frame < start + size)
        grid = tokens.grids[0]._replace(frames=size)
        coords = tokens.coords[rows] - torch.tensor([start, 0, 0])
        blocks.append(VideoTokens(tokens.features[rows], coords, tokens.batch[rows], tokens.separator[rows], (grid,)))
        start += size
    assert start == tokens.grids[0].frames
    return blocks


@given(tokens=strategies.videos(), retention=strategies.retentions, data=st.data())
def test_a_window_that_covers_the_clip_gives_the_offline_selection(tokens, retention, data):
    selector = STSimDiff(retention=retention)
    offline = selector(tokens)
    frames = tokens.grids[0].frames
    blocks = cut(tokens, [1] * frames) if data.draw(st.booleans()) else [tokens]
    context, longer = data.draw(st.integers(0, 3)), data.draw(st.integers(0, 3))
    (only,) = stream(blocks, selector, window=frames + longer, context=context)
    assert only.selection.digest == offline.digest
    assert only.selection.budget == offline.budget
    for name in ("indices", "verdict", "candidate", "community", "importance", "margin", "coords"):
        assert torch.equal(getattr(only.selection, name), getattr(offline, name)), name
    assert torch.equal(only.features, offline.apply(tokens.features))
    assert (only.first_frame, only.first_token, only.joined) == (0, 0, ())


@pytest.mark.parametrize("name", [*SELECTORS])
def test_every_selector_streams(name):
    x = strategies.features(7, 4, 4, 16, seed=3)
    tokens = VideoTokens.from_grid(x)
    signals = all_signals(len(tokens))
    selector = SELECTORS.build({"name": name, "retention": 0.3})
    (covering,) = stream([Encoded(tokens, signals)], selector, window=9, context=0)
    offline = selector(tokens, signals)
    assert covering.selection.digest == offline.digest
    assert torch.equal(covering.features, offline.apply(tokens.features))
    windows = list(stream([Encoded(tokens, signals)], selector, window=3, context=0))
    assert [window.grid.frames for window in windows] == [3, 3, 1]
    if offline.merges:
        assert [len(window.selection) for window in windows] == [ceil_share(0.3, n) for n in (48, 48, 16)]
        with pytest.raises(StgraphError, match=r"merges tokens .*give context=0"):
            list(stream([Encoded(tokens, signals)], selector, window=3))
    else:
        assert sum(len(window.selection) for window in windows) == len(offline)


@given(
    tokens=strategies.videos(),
    retention=strategies.retentions,
    window=st.integers(1, 4),
    context=st.integers(0, 3),
    policy=st.sampled_from(["proportional", "keep", "drop", "vertex"]),
)
def test_the_budget_is_exact_after_every_window(tokens, retention, window, context, policy):
    selector = STSimDiff(retention=retention, separators=policy)
    visual = selector.visual(tokens)
    kept = separators = 0
    seen = 0
    for released in stream(cut(tokens, [1] * tokens.grids[0].frames), selector, window=window, context=context):
        assert released.first_token == seen
        seen += len(released.selection.verdict)
        assert torch.equal(released.selection.coords, tokens.coords[released.first_token : seen])
        assert torch.equal(released.features, tokens.features[released.indices])
        stays = visual[released.indices]
        kept, separators = kept + int(stays.sum()), separators + int((~stays).sum())
        assert kept == ceil_share(retention, int(visual[:seen].sum()))
        newlines = int(tokens.separator[:seen].sum())
        expected = {"proportional": ceil_share(retention, newlines), "keep": newlines, "drop": 0, "vertex": 0}
        assert separators == expected[policy]
    assert seen == len(tokens)


@given(
    seed=st.integers(0, 999),
    sizes=st.tuples(st.integers(1, 9), st.integers(1, 4), st.integers(1, 4)),
    window=st.integers(1, 5),
    stride=st.integers(1, 2),
    more=st.integers(0, 3),
)
def test_components_of_a_stream_are_those_of_the_clip(seed, sizes, window, stride, more):
    tokens = VideoTokens.from_grid(strategies.features(*sizes, 8, seed, noise=0.5))
    temporal = TemporalEdges(stride)
    selector = STSimDiff(temporal=temporal)
    offline = COMMUNITIES.build("components")(build_graph(tokens, (selector.spatial, temporal)).prune(0.8)).labels
    found = followed(list(stream(cut(tokens, [1] * sizes[0]), selector, window=window, context=stride + more)))
    assert len(set(zip(found, offline.tolist(), strict=True))) == len(set(found)) == len(set(offline.tolist()))


def test_communities_that_meet_later_are_joined():
    x = torch.zeros(4, 1, 3, 2)
    x[:, 0, 0] = x[:, 0, 2] = torch.tensor([1.0, 0.0])
    x[:, 0, 1] = torch.tensor([0.0, 1.0])
    x[3, 0, 1] = torch.tensor([1.0, 0.0])  # the middle closes the gap in the last frame
    windows = list(stream(x, window=2))
    assert windows[0].selection.community.tolist() == [0, 1, 2, 0, 1, 2]
    assert windows[1].selection.community.tolist() == [0, 1, 0, 0, 0, 0]
    assert [window.joined for window in windows] == [(), ((2, 0),)]


@pytest.mark.parametrize(("difference", "context"), [("threshold", 1), ("drift", 4)])
def test_differences_reach_back_into_the_context(difference, context):
    x = strategies.features(11, 3, 4, 8, seed=5)
    selector = STSimDiff(difference=Drift(window=4)) if difference == "drift" else STSimDiff()
    offline = selector(VideoTokens.from_grid(x))
    windows = list(stream(x, selector, window=3, context=context))
    assert torch.equal(torch.cat([window.selection.difference for window in windows]), offline.difference)
    candidates = torch.cat([window.selection.candidate for window in windows])
    assert torch.equal(candidates & 2, offline.candidate & 2)
    blind = torch.cat([window.selection.difference for window in stream(x, selector, window=3, context=0)])
    assert not blind.view(11, -1)[::3].any()


@settings(max_examples=25)
@given(seed=st.integers(0, 999), window=st.integers(1, 6), context=st.integers(0, 8), data=st.data())
def test_how_frames_are_cut_into_blocks_does_not_matter(seed, window, context, data):
    x = strategies.features(9, 3, 3, 8, seed)
    cuts = sorted(data.draw(st.sets(st.integers(1, 8))))
    sizes = [b - a for a, b in itertools.pairwise([0, *cuts, 9])]
    ways = [list(x), list(x.split(sizes)), [x], cut(VideoTokens.from_grid(x), sizes)]
    found = [[w.selection.digest for w in stream(way, window=window, context=context)] for way in ways]
    assert all(digests == found[0] for digests in found)


def test_newline_columns_half_precision_and_timestamps():
    x = strategies.features(6, 3, 4, 8, seed=1).to(torch.bfloat16)
    windows = list(stream(x.split(2), window=4, newline=True))
    assert [window.grid for window in windows] == [(4, 3, 3), (2, 3, 3)]
    assert sum(window.selection.counts["separator"] for window in windows) == ceil_share(0.3, 18)
    assert windows[0].features.dtype == torch.bfloat16
    assert windows[0].timestamps is None
    timed = VideoTokens.from_grid(x, timestamps=torch.arange(6.0, dtype=torch.float64))
    seconds = [window.timestamps for window in stream([timed], window=4)]
    assert [s.tolist() for s in seconds] == [[0, 1, 2, 3], [4, 5]]


def test_signals_follow_their_tokens():
    x = strategies.features(6, 3, 3, 8, seed=2)
    tokens = VideoTokens.from_grid(x)
    signals = Signals(encoder_attention=torch.rand(len(tokens), generator=torch.Generator().manual_seed(0)))
    windows = list(stream([Encoded(tokens, signals)], window=2))
    importance = torch.cat([window.selection.importance for window in windows])
    assert torch.equal(importance, signals.encoder_attention)


def test_words_name_the_frame_of_the_stream():
    x = strategies.features(9, 2, 2, 8, seed=4)
    *_, last = stream(x, window=4)
    assert "(frame 8, row 1, column 1)" in last.selection.why(3)
    assert repr(last).startswith("StreamWindow(2, frames 8 to 8, Selection(")


def test_memory_is_that_of_the_window():
    growth, said = peak_growth(
        """
import torch
from stgraph import stream
torch.set_num_threads(1)
def frames(count):
    scene = torch.randn(14, 14, 64)
    for _ in range(count):
        yield scene + 0.3 * torch.randn(14, 14, 64)
def run(count):
    return sum(len(window.selection) for window in stream(frames(count)))
run(200)
""",
        "print(run(2000))",
    )
    assert int(said) == ceil_share(0.3, 2000 * 196)
    window = 64 * 196 * 64 * 4
    assert growth < 3 * window  # the stream itself is 31 windows long


@pytest.mark.slow
def test_a_day_at_one_frame_per_second():
    growth, said = peak_growth(
        """
import torch
from stgraph import stream
torch.set_num_threads(1)
noise = 0.3 * torch.randn(256, 14, 14, 64)
def frames(count):
    for number in range(count):
        if number % 600 == 0:
            scene = torch.randn(14, 14, 64)
        yield scene + noise[number % 256]
def run(count):
    return sum(len(window.selection) for window in stream(frames(count)))
run(200)
""",
        "print(run(86_400))",
    )
    assert int(said) == ceil_share(0.3, 86_400 * 196)
    assert growth < 32e6  # of 4.3 GB


# -- bad input --------------------------------------------------------------------------------------------------------


def fails(blocks, sentence, **arguments):
    with pytest.raises(StgraphError, match=sentence):
        list(stream(blocks, **arguments))


def test_bad_input():
    x = torch.randn(4, 2, 2, 3)
    fails([], "holds no frames; give at least one")
    fails([x[:0]], r"at frame 0 it got \(0, 2, 2, 3\)")
    fails([x, x[0, 0]], r"at frame 4 it got \(2, 3\)")
    fails([x, "frame"], "at frame 4 it got str")
    fails([VideoTokens.from_grid([x, x])], "VideoTokens of one video")
    fails([x, x[..., :2]], r"frame 4 comes as 2×2×2 float32 on cpu \(features\), those before it as 2×2×3 float32")
    fails([x, x.half()], "frame 4 comes as 2×2×3 float16")
    fails([x, VideoTokens.from_grid(x)], r"frame 4 comes as 2×2×3 float32 on cpu \(VideoTokens\)")
    fails([x.long()], r"convert with \.float\(\)")
    fails([x], "window must be a whole number ≥ 1, got 0", window=0)
    fails([x], "context must be a whole number ≥ 0, got -1", context=-1)


def test_bad_arguments_are_told_before_the_first_frame():
    with pytest.raises(StgraphError, match="window must be"):
        stream(iter([]), window=1.5)


def test_a_frame_that_is_not_finite_is_named_by_its_number_in_the_stream():
    x = torch.randn(9, 2, 2, 3)
    x[7, 1, 1, 0] = torch.nan
    released = stream(x, window=3)
    assert [next(released).number, next(released).number] == [0, 1]  # what came before is not lost
    with pytest.raises(StgraphError, match="features of frame 7 of the stream hold NaN or Inf"):
        next(released)


def test_other_errors_of_a_selector_pass_through():
    fails(torch.randn(3, 2, 2, 4), "needs the signal llm_attention", selector=SELECTORS.build("fastv"), context=0)


def test_windows_are_values():
    (window,) = stream(torch.randn(2, 2, 2, 4))
    with pytest.raises(dataclasses.FrozenInstanceError):
        window.number = 1
