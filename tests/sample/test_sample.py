from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from stgraph.errors import StgraphError
from stgraph.sample import (
    KINDS,
    Box,
    EventClip,
    Kind,
    SampleEvent,
    event_tokens,
    load_events,
    render_events,
    render_sample,
    save_events,
)
from stgraph.tokens import VideoTokens
from stgraph.video import read_video

SIZE = (96, 160)
GRID = (12, 20)  # patches of 8 × 8 pixels
GRADUAL = ("fade", "light_drift")


@pytest.fixture(scope="module")
def clips() -> dict[Kind, EventClip]:
    return {kind: render_events(kind, size=SIZE, fps=12, seconds=3) for kind in KINDS}


def tokens_at(timestamps: torch.Tensor, grid: tuple[int, int] = GRID) -> VideoTokens:
    return VideoTokens.from_grid(torch.zeros(len(timestamps), *grid, 1), timestamps=timestamps)


def marks(clip: EventClip, stride: int, **keywords: float) -> torch.Tensor:
    """(T, rows, columns) bool for every stride-th frame."""
    times = clip.video.timestamps[::stride]
    return event_tokens(clip.events, tokens_at(times), SIZE, **keywords).view(len(times), *GRID)


def patch_change(clip: EventClip, stride: int) -> torch.Tensor:
    """(T, rows, columns) mean absolute change of each patch since the previous sampled frame, 0 to 255."""
    frames = clip.video.frames[::stride].float()
    change = (frames[1:] - frames[:-1]).abs().mean(1)
    change = change.unflatten(2, (GRID[1], -1)).unflatten(1, (GRID[0], -1)).mean((2, 4))
    return torch.cat([torch.zeros(1, *GRID), change])


# -- the truth is the truth -------------------------------------------------------------------------------------------


def near_object(clip: EventClip, stride: int) -> torch.Tensor:
    """(T, rows, columns): patches that the object's box touches in this sampled frame or the one before."""
    times = clip.video.timestamps[::stride].tolist()
    pixels = torch.zeros(len(times), *SIZE)
    for frame, seconds in enumerate(times):
        for box in (clip.events[0].box_at(t) for t in (seconds, times[max(frame - 1, 0)])):
            if box is not None:
                pixels[frame, int(box.y0) : int(box.y1), int(box.x0) : int(box.x1)] = 1
    return torch.nn.functional.max_pool2d(pixels, 8) > 0


@pytest.mark.parametrize("stride", [1, 3])
@pytest.mark.parametrize("kind", ["cut", "flash", "texture_change", "enter", "moving_object", "noise"])
def test_pixels_change_where_tokens_are_marked_and_nowhere_else(
    clips: dict[Kind, EventClip], kind: Kind, stride: int
) -> None:
    clip = clips[kind]
    marked, change = marks(clip, stride), patch_change(clip, stride)
    # Inside an object its own texture moves along: a change, but of nothing that is new or gone.
    objects = kind in ("enter", "moving_object")
    allowed = near_object(clip, stride) if objects else marks(clip, stride, overlap=1e-9)
    assert not (marked & ~allowed).any()
    assert change[~allowed].max() < 4
    assert bool(marked.any()) == (kind != "noise")
    if kind != "noise":
        assert change[marked].median() > 8


@pytest.mark.parametrize("kind", GRADUAL)
def test_gradual_changes_are_marked_from_half_way_to_their_end(clips: dict[Kind, EventClip], kind: Kind) -> None:
    clip = clips[kind]
    (event,) = clip.events
    frames = marks(clip, 1).any(2).any(1)
    times = clip.video.timestamps[frames]
    assert bool((marks(clip, 1).all(2).all(1) == frames).all())
    assert float(times[0]) == pytest.approx((event.start_seconds + event.end_seconds) / 2, abs=1 / 12)
    assert float(times[-1]) == pytest.approx(event.end_seconds)
    every = marks(clip, 1, level=0.0).any(2).any(1)
    assert float(clip.video.timestamps[every][0]) == pytest.approx(event.start_seconds + 1 / 12)
    # Sampled around the change, the first frame after it is marked.
    times = torch.tensor([0.0, 2.9], dtype=torch.float64)
    assert event_tokens(clip.events, tokens_at(times), SIZE).view(2, -1).all(1).tolist() == [False, True]


def test_a_camera_pan_marks_what_comes_into_view(clips: dict[Kind, EventClip]) -> None:
    clip = clips["camera_pan"]
    frames = clip.video.frames.float()
    track = [event_box.x0 for _, event_box in clip.events[0].track]
    for earlier, later in ((12, 18), (10, 25)):
        shift = int(track[later] - track[earlier])
        assert shift > 8
        same = (frames[later][..., : SIZE[1] - shift] - frames[earlier][..., shift:]).abs().mean()
        assert float(same) < 4
        times = clip.video.timestamps[[earlier, later]]
        columns = event_tokens(clip.events, tokens_at(times), SIZE).view(2, *GRID)[1].all(0)
        fresh = (torch.arange(1, GRID[1] + 1) * 8 - (SIZE[1] - shift)).clamp(0, 8) / 8
        assert columns.tolist() == (fresh >= 0.25).tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_happens_outside_the_middle_half(clips: dict[Kind, EventClip], kind: Kind) -> None:
    clip = clips[kind]
    assert len(clip.events) == (kind != "noise")
    assert len(clip.video) == 36
    change = patch_change(clip, 1)
    assert change[:9].max() < 4
    assert change[29:].max() < 4


# -- which tokens -----------------------------------------------------------------------------------------------------


def truth(kind: Kind, *track: tuple[float, Box], start: float, end: float, times: list[float]) -> list[list[int]]:
    """Marked tokens of each sampled frame, on a 2 × 4 grid over 20 × 40 pixels."""
    events = [SampleEvent(kind, start, end, track)]
    tokens = tokens_at(torch.tensor(times, dtype=torch.float64), (2, 4))
    return [row.nonzero()[:, 0].tolist() for row in event_tokens(events, tokens, (20, 40)).view(-1, 8)]


def test_a_cut_marks_the_first_sampled_frame_after_it() -> None:
    track = (1.0, Box(0, 0, 20, 40))
    everything = list(range(8))
    assert truth("cut", track, start=1.0, end=1.04, times=[0, 0.5, 1.0, 1.5]) == [[], [], everything, []]
    assert truth("cut", track, start=1.0, end=1.04, times=[0, 0.9, 1.4, 1.5]) == [[], [], everything, []]
    assert truth("cut", track, start=1.0, end=1.04, times=[1.0, 1.5]) == [[], []]


def test_a_flash_marks_its_region_twice_or_never() -> None:
    track = (1.0, Box(0, 0, 10, 20))
    assert truth("flash", track, start=1.0, end=1.1, times=[0, 1.05, 1.2, 1.4]) == [[], [0, 1], [0, 1], []]
    assert truth("flash", track, start=1.0, end=1.1, times=[0, 1.0, 1.05, 1.1]) == [[], [0, 1], [], [0, 1]]
    assert truth("flash", track, start=1.0, end=1.1, times=[0, 0.9, 1.2]) == [[], [], []]


def test_an_entering_object_marks_what_it_newly_covers_and_a_moving_one_also_what_it_leaves() -> None:
    track = ((1.0, Box(0, 30, 10, 40)), (2.0, Box(0, 20, 10, 30)), (3.0, Box(0, 18, 10, 28)))
    times = [0, 1.0, 2.0, 3.0, 4.0]
    assert truth("enter", *track, start=1.0, end=3.0, times=times) == [[], [3], [2], [], []]
    assert truth("moving_object", *track, start=1.0, end=3.0, times=times) == [[], [3], [2, 3], [], []]
    assert truth("moving_object", *track, start=1.0, end=3.0, times=[0, 1.0, 3.0]) == [[], [3], [2, 3]]


def test_overlap_is_the_share_of_the_patch() -> None:
    event = SampleEvent("texture_change", 1.0, 1.1, ((1.0, Box(0, 0, 10, 13)),))
    tokens = tokens_at(torch.tensor([0.0, 1.0], dtype=torch.float64), (2, 4))
    for overlap, expected in ((0.25, [0, 1]), (0.31, [0]), (1.0, [0])):
        marked = event_tokens([event], tokens, (20, 40), overlap=overlap)
        assert (marked.nonzero()[:, 0] - 8).tolist() == expected


def test_separators_and_missing_tokens_are_no_events() -> None:
    event = SampleEvent("cut", 1.0, 1.1, ((1.0, Box(0, 0, 20, 40)),))
    times = torch.tensor([0.0, 1.0], dtype=torch.float64)
    tokens = VideoTokens.from_grid(torch.zeros(2, 2, 5, 1), newline=True, timestamps=times)
    marked = event_tokens([event], tokens, (20, 40))
    assert torch.equal(marked, ~tokens.separator & (tokens.coords[:, 0] == 1))
    mask = torch.ones(2, 2, 4, dtype=torch.bool)
    mask[1, 0, 1] = False
    fewer = VideoTokens.from_grid(torch.zeros(2, 2, 4, 1), mask=mask, timestamps=times)
    assert torch.equal(event_tokens([event], fewer, (20, 40)), fewer.coords[:, 0] == 1)


def test_event_tokens_wants_one_video_with_timestamps() -> None:
    grid = torch.zeros(2, 2, 4, 1)
    times = torch.tensor([0.0, 1.0], dtype=torch.float64)
    for tokens in (VideoTokens.from_grid(grid), VideoTokens.from_grid([grid, grid], timestamps=[times, times])):
        with pytest.raises(StgraphError, match="one video with timestamps"):
            event_tokens([], tokens, (20, 40))
    for overlap in (0, 1.1, math.nan):
        with pytest.raises(StgraphError, match="overlap must be"):
            event_tokens([], VideoTokens.from_grid(grid, timestamps=times), (20, 40), overlap=overlap)


# -- the sample -------------------------------------------------------------------------------------------------------


def test_the_sample_holds_what_its_events_say(tmp_path: Path) -> None:
    sample = render_sample(tmp_path / "sample.mp4", size=SIZE)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["sample.events.json", "sample.mp4"]
    assert load_events(sample.events_path) == sample.events
    assert [event.kind for event in sample.events] == ["cut", "enter", "flash", "moving_object", "fade"]
    video = read_video(sample.path)
    assert (len(video), video.height, video.width) == (64, *SIZE)
    assert video.duration == pytest.approx(10.5)
    frames = video.frames.float()
    change = torch.cat([torch.zeros(1), (frames[1:] - frames[:-1]).abs().mean((1, 2, 3))])
    times = video.timestamps
    cut, _, flash, _, fade = sample.events
    # The cut and the flash (which 64 sampled frames show) are the three sharpest changes.
    after_cut = int((times >= cut.start_seconds - 1e-3).nonzero()[0])
    in_flash = ((times >= flash.start_seconds - 1e-3) & (times < flash.end_seconds - 1e-3)).nonzero()[:, 0].tolist()
    assert len(in_flash) == 1
    assert set(change.topk(3).indices.tolist()) == {after_cut, in_flash[0], in_flash[0] + 1}
    fading = (times > fade.start_seconds) & (times <= fade.end_seconds)
    still = times < cut.start_seconds - 0.17
    assert change[fading].min() > 2 * change[still].max()
    per_kind = {e.kind: int(event_tokens([e], tokens_at(times), SIZE).sum()) for e in sample.events}
    assert all(per_kind.values())
    assert per_kind["cut"] == 12 * 20


def test_the_same_seed_gives_the_same_clip() -> None:
    first, again, other = (render_events("enter", size=(64, 96), fps=8, seconds=1, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(first.video.frames, again.video.frames)
    assert first.events == again.events
    assert not torch.equal(first.video.frames, other.video.frames)


def test_events_survive_the_file_and_bad_files_are_told(tmp_path: Path) -> None:
    events = (
        SampleEvent("moving_object", 0.5, 1.5, ((0.5, Box(0, 1, 2, 3)), (1.0, Box(1.0, 2.0, 3.5, 4.0)))),
        SampleEvent("cut", 2.0, 2.04, ((2.0, Box(0, 0, 10, 10)),)),
    )
    save_events(tmp_path / "e.json", events)
    assert load_events(tmp_path / "e.json") == events
    with pytest.raises(StgraphError, match="cannot be read"):
        load_events(tmp_path / "missing.json")
    for text in ("", "{}x", '[{"kind": "party"}]', "[1]", '{"a": 1}'):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(StgraphError, match="does not hold sample events"):
            load_events(tmp_path / "bad.json")
    with pytest.raises(StgraphError, match="cannot be written"):
        save_events(tmp_path / "no" / "e.json", events)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"size": (64, 63)}, "width must be"),
        ({"size": (64.0, 64)}, "height must be"),
        ({"fps": math.nan}, "fps must be"),
        ({"fps": 1}, "fps must be"),
        ({"seed": -1}, "seed must be"),
        ({"seed": True}, "seed must be"),
    ],
)
def test_arguments_out_of_range(tmp_path: Path, keywords: dict, message: str) -> None:
    with pytest.raises(StgraphError, match=message):
        render_events("cut", **keywords)
    with pytest.raises(StgraphError, match=message):
        render_sample(tmp_path / "sample.mp4", **keywords)
    assert list(tmp_path.iterdir()) == []


def test_a_sample_file_needs_even_sizes_and_a_clip_a_known_kind(tmp_path: Path) -> None:
    with pytest.raises(StgraphError, match="even"):
        render_sample(tmp_path / "sample.mp4", size=(65, 80))
    with pytest.raises(StgraphError, match="did you mean 'flash'"):
        render_events("flush")
    with pytest.raises(StgraphError, match="seconds must be"):
        render_events("cut", seconds=0.5)


def test_boxes_lie_in_the_frame_and_follow_the_object(clips: dict[Kind, EventClip]) -> None:
    for kind in ("enter", "moving_object"):
        (event,) = clips[kind].events
        boxes = np.array([box for _, box in event.track])
        assert (boxes[:, :2] >= 0).all()
        assert (boxes[:, 2] <= SIZE[0]).all()
        assert (boxes[:, 3] <= SIZE[1]).all()
        assert event.box_at(event.start_seconds - 0.5) == (None if kind == "enter" else event.track[0][1])
        assert event.box_at(99) == event.track[-1][1]


def test_a_disk_that_is_read_only(tmp_path, monkeypatch):
    """There even removing what is not there is an error of the system."""
    import errno
    import os

    from stgraph import StgraphError
    from stgraph.sample import render_sample, save_events

    def refuse(*args, **keywords):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("av.open", refuse)
    monkeypatch.setattr("pathlib.Path.unlink", refuse)
    monkeypatch.setattr("pathlib.Path.write_text", refuse)
    with pytest.raises(StgraphError, match=r"cannot be written \(Read-only file system\)"):
        render_sample(tmp_path / "s.mp4", size=(64, 64), fps=8)
    with pytest.raises(StgraphError, match=r"cannot be written \(Read-only file system\)"):
        save_events(tmp_path / "s.json", ())
