from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stgraph.errors import StgraphError
from stgraph.video import ROUNDING, Video, choose_frames, read_video, write_video

from ..clips import cut_short, numbered_frame, numbers, write_clip, write_sound
from ..memory import peak_growth

MILLISECOND = Fraction(1, 1000)


# -- which frames -----------------------------------------------------------------------------------------------------

gaps = st.lists(st.integers(2, 400), min_size=1, max_size=40)


def times_of(gaps: list[int]) -> tuple[np.ndarray, float]:
    edges = np.cumsum([0, *gaps]) / 1000
    return edges[:-1], float(edges[-1])


def on_screen(times: np.ndarray, seconds: float) -> int:
    return max(i for i, time in enumerate(times) if time <= seconds + ROUNDING)


@given(gaps, st.integers(1, 50))
def test_frames_are_those_on_screen_at_evenly_spaced_times(gaps: list[int], count: int) -> None:
    times, end = times_of(gaps)
    chosen = choose_frames(times, frames=count, end=end).tolist()
    if count >= len(times):
        assert chosen == list(range(len(times)))
    else:
        assert chosen == sorted({on_screen(times, t) for t in np.linspace(0, times[-1], count)})


@given(gaps, st.sampled_from([0.5, 1, 2, 7.5, 24, 30, 120, 600]), st.floats(0, 0.9))
def test_fps_takes_the_frames_on_screen_at_each_tick(gaps: list[int], fps: float, share: float) -> None:
    times, end = times_of(gaps)
    start = round(share * end, 3)
    ticks = [start + k / fps for k in range(math.ceil((end - start) * fps) + 1)]
    expected = sorted({on_screen(times, tick) for tick in ticks if tick + ROUNDING < end - 1e-9})
    chosen = choose_frames(times, fps=fps, start=start, end=end).tolist()
    assert chosen == expected or set(chosen) ^ set(expected) <= _on_the_edge(times, ticks, end)


def _on_the_edge(times: np.ndarray, ticks: list[float], end: float) -> set[int]:
    """Frames whose choice hangs on the last bit of a float: a tick just ROUNDING before a frame's time."""
    close = {i for i, time in enumerate([*times, end]) for tick in ticks if abs(tick + ROUNDING - time) < 1e-8}
    return close | {i - 1 for i in close}


@given(gaps, st.integers(1, 9))
def test_stride_takes_every_nth_frame(gaps: list[int], stride: int) -> None:
    times, end = times_of(gaps)
    assert choose_frames(times, stride=stride, end=end).tolist() == list(range(0, len(times), stride))


@given(gaps)
def test_fps_above_the_native_rate_takes_every_frame_once(gaps: list[int]) -> None:
    times, end = times_of(gaps)
    assert choose_frames(times, fps=1000 / min(gaps), end=end).tolist() == list(range(len(times)))


@given(st.sampled_from([24, 25, 30, 50, 60]), st.integers(1, 2000))
def test_native_fps_survives_times_in_whole_milliseconds(rate: int, count: int) -> None:
    times = np.round(np.arange(count) / rate, 3)
    assert choose_frames(times, fps=rate, end=count / rate).tolist() == list(range(count))


@given(st.integers(1, 300), st.integers(1, 300))
def test_constant_rate_is_sampled_as_linspace_over_frame_numbers(count: int, wanted: int) -> None:
    times = np.arange(count) / 25
    expected = np.unique(np.floor(np.linspace(0, count - 1, min(wanted, count)) + ROUNDING * 25).astype(int))
    assert choose_frames(times, frames=wanted, end=count / 25).tolist() == expected.tolist()


def test_window_begins_with_the_frame_on_screen_and_stops_before_end() -> None:
    times = np.array([0.0, 1.0, 2.0, 3.0])
    assert choose_frames(times, stride=1, start=1.5, end=3.0).tolist() == [1, 2]
    assert choose_frames(times, stride=1, start=1.0, end=3.1).tolist() == [1, 2, 3]
    assert choose_frames(times, frames=2, start=1.5, end=4.0).tolist() == [1, 3]


# -- every kind of file -----------------------------------------------------------------------------------------------

B_FRAMES = {"bf": "3", "b_strategy": "0"}
FILES = {
    "h264.mp4": {},
    "b_frames.mp4": {"options": B_FRAMES},
    "open_groups.mp4": {"options": {**B_FRAMES, "x264-params": "open-gop=1"}},
    "b_frames.mkv": {"options": B_FRAMES},
    "b_frames.avi": {"options": B_FRAMES},
    "b_frames.ts": {"options": B_FRAMES},
    "fragments.mp4": {"container_options": {"movflags": "frag_keyframe+empty_moov"}},
    "no_seek_index.mkv": {"container_options": {"live": "1"}},
    "elementary.h264": {"container_format": "h264", "options": B_FRAMES},
    "hevc.mp4": {"codec": "libx265", "options": {"x265-params": "log-level=none"}},
    "mpeg2.mpg": {"codec": "mpeg2video", "options": {"bf": "2"}},
    "vp8.webm": {"codec": "libvpx", "options": {"auto-alt-ref": "1", "lag-in-frames": "16"}},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"cpu-used": "8", "lag-in-frames": "16"}},
    "ten_bit.mp4": {"pixels": "yuv420p10le"},
    "ten_bit.mkv": {"codec": "ffv1", "pixels": "yuv420p10le"},
    "grey.mkv": {"codec": "ffv1", "pixels": "gray"},
    "grey.mp4": {"pixels": "gray"},
    "odd.mkv": {"codec": "ffv1", "size": (47, 65)},
    "odd_444.mp4": {"pixels": "yuv444p", "size": (51, 63)},
    "sound_first.mp4": {"sound": True},
    "sound_first.mkv": {"sound": True},
    "late.mkv": {"times": range(500, 550)},
    "late.ts": {"times": range(500, 550)},
}


@pytest.mark.parametrize("name", FILES)
def test_every_frame_of_every_container(tmp_path: Path, name: str) -> None:
    settings = dict(FILES[name])
    path = write_clip(tmp_path / name, settings.pop("times", 50), **settings)
    height, width = settings.get("size", (48, 64))
    whole = read_video(path, stride=1)
    assert numbers(whole.frames) == list(range(50))
    assert whole.frames.shape == (50, 3, height, width)
    torch.testing.assert_close(whole.timestamps, torch.arange(50, dtype=torch.float64) / 25, atol=ROUNDING, rtol=0)
    assert whole.duration == pytest.approx(2, abs=0.05)
    # Decoding only the groups that hold sampled frames gives the very same pictures.
    for keywords in ({"frames": 7}, {"stride": 7}, {"fps": 3}, {"frames": 3, "start": 1.0, "end": 1.7}):
        some = read_video(path, **keywords)
        assert torch.equal(some.frames, whole.frames[torch.searchsorted(whole.timestamps, some.timestamps)])
    assert numbers(read_video(path, stride=7).frames) == list(range(0, 50, 7))
    assert numbers(read_video(path, frames=8).frames) == [0, 7, 14, 21, 28, 35, 42, 49]


def test_variable_frame_rate_is_sampled_by_time(tmp_path: Path) -> None:
    times = [0, 40, 80, 1000, 1010, 1020, 3000, 3500]
    path = write_clip(tmp_path / "variable.mkv", times, tick=MILLISECOND)
    assert read_video(path, stride=1).timestamps.tolist() == pytest.approx([t / 1000 for t in times])
    video = read_video(path, fps=2)
    assert numbers(video.frames) == [0, 2, 3, 5, 6, 7]  # at 0, 0.5, 1, 1.5 and 2 and 2.5, 3, 3.5 s
    assert video.timestamps.tolist() == pytest.approx([0, 0.08, 1.0, 1.02, 3.0, 3.5])
    assert numbers(read_video(path, frames=4).frames) == [0, 5, 7]
    assert "4 frames were asked for; 3" in read_video(path, frames=4).notes[0]


def test_native_rate_gives_every_frame_once(tmp_path: Path) -> None:
    for name in ("thirty.mkv", "thirty.mp4"):
        path = write_clip(tmp_path / name, 45, tick=Fraction(1, 30))
        assert numbers(read_video(path, fps=30).frames) == list(range(45))
        assert numbers(read_video(path, fps=500).frames) == list(range(45))


def test_fewer_frames_than_asked_for_are_used_as_they_are(tmp_path: Path) -> None:
    video = read_video(write_clip(tmp_path / "short.mp4", 5), frames=64)
    assert numbers(video.frames) == [0, 1, 2, 3, 4]
    assert video.notes == ("64 frames were asked for; 5 distinct ones are shown at these times",)
    assert not read_video(tmp_path / "short.mp4", frames=5).notes


def test_sixty_four_frames_when_nothing_is_said(tmp_path: Path) -> None:
    video = read_video(write_clip(tmp_path / "plain.mp4", 130))
    assert len(video) == 64
    assert numbers(video.frames)[0] == 0
    assert numbers(video.frames)[-1] == 129


@pytest.mark.parametrize(
    ("display", "turn"),
    [
        ((90, False, False), lambda x: np.rot90(x)),
        ((180, False, False), lambda x: np.rot90(x, 2)),
        ((270, False, False), lambda x: np.rot90(x, 3)),
        ((0, True, False), lambda x: x[:, ::-1]),
        ((0, False, True), lambda x: x[::-1]),
        ((90, True, False), lambda x: np.rot90(x)[:, ::-1]),
    ],
)
def test_rotation_and_mirroring_are_applied(tmp_path: Path, display: tuple[float, bool, bool], turn) -> None:
    video = read_video(write_clip(tmp_path / "turned.mp4", 3, size=(48, 80), display=display), size=None)
    expected = turn(numbered_frame(1, 48, 80)).astype(float)
    assert video.frames.shape[2:] == expected.shape[:2]
    difference = np.abs(video.frames[1].permute(1, 2, 0).numpy() - expected)
    assert difference.mean() < 6


def test_a_skewed_display_is_left_and_said(tmp_path: Path) -> None:
    video = read_video(write_clip(tmp_path / "skew.mp4", 3, display=(45, False, False)), stride=1)
    assert numbers(video.frames) == [0, 1, 2]
    assert "no quarter turn" in video.notes[0]


def test_pixels_that_are_not_square_are_left_and_said(tmp_path: Path) -> None:
    video = read_video(write_clip(tmp_path / "wide.mp4", 3, aspect=Fraction(4, 3)), stride=1)
    assert video.frames.shape[2:] == (48, 64)
    assert "not square (4/3)" in video.notes[0]


def test_size_is_the_shorter_side(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "plain.mp4", 20, size=(96, 128))
    small = read_video(path, size=48)
    assert small.frames.shape == (20, 3, 48, 64)
    assert numbers(small.frames) == list(range(20))
    pooled = torch.nn.functional.avg_pool2d(read_video(path).frames.float(), 2)
    assert float((pooled - small.frames).abs().mean()) < 2
    turned = write_clip(tmp_path / "turned.mp4", 3, size=(96, 128), display=(90, False, False))
    assert read_video(turned, size=48).frames.shape[2:] == (64, 48)


def test_a_recording_may_begin_in_the_middle_of_a_group(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "whole.ts", 60, options={**B_FRAMES, "sc_threshold": "0"}, frames=_heavy_frames(60))
    data = path.read_bytes()
    packets = len(data) // 188
    tail = tmp_path / "tail.ts"
    tail.write_bytes(data[188 * (packets * 3 // 10) :])
    video = read_video(tail, stride=1)
    assert numbers(video.frames) == list(range(24, 60))  # from the next keyframe, of which there is one in 12 frames
    assert video.timestamps[0] == 0


def test_frames_cut_away_by_an_edit_list_are_not_shown(tmp_path: Path) -> None:
    # The edit list of an MP4 with B-frames says where the shown part begins: move it half a second on.
    path = write_clip(tmp_path / "edited.mp4", 50, options=B_FRAMES)
    data = bytearray(path.read_bytes())
    at = data.index(b"elst") + 16
    start = int.from_bytes(data[at : at + 4], "big")
    ticks_per_second = int.from_bytes(data[data.index(b"mdhd") + 16 :][:4], "big")
    data[at : at + 4] = (start + ticks_per_second * 4 // 10).to_bytes(4, "big")
    path.write_bytes(data)
    assert numbers(read_video(path, stride=1).frames) == list(range(10, 50))
    assert numbers(read_video(path, stride=9).frames) == list(range(10, 50, 9))


def test_a_cover_picture_is_not_the_video(tmp_path: Path) -> None:
    import av

    path = tmp_path / "song.mp4"
    with av.open(str(path), "w") as container:
        cover = container.add_stream("png", rate=1)
        cover.height, cover.width, cover.pix_fmt = 48, 64, "rgb24"
        cover.disposition = av.stream.Disposition.attached_pic
        speaker = container.add_stream("aac", rate=8000, layout="mono")
        container.mux(cover.encode(av.VideoFrame.from_ndarray(numbered_frame(3), format="rgb24")))
        container.mux(cover.encode(None))
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 8000
        container.mux(speaker.encode(sound))
        container.mux(speaker.encode(None))
    with pytest.raises(StgraphError, match="only sound"):
        read_video(path)


def test_progress_is_reported_when_asked(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = write_clip(tmp_path / "plain.mp4", 10)
    calls: list[tuple[int, int]] = []
    read_video(path, stride=2, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]
    read_video(path)
    assert capfd.readouterr() == ("", "")
    read_video(path, progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert "reading video" in err


# -- broken files and arguments ---------------------------------------------------------------------------------------


def _heavy_frames(count: int) -> list[np.ndarray]:
    """Numbered frames with noise below, so that a file is mostly pictures."""
    rng = np.random.default_rng(0)
    frames = [numbered_frame(n) for n in range(count)]
    for frame in frames:
        frame[24:] = rng.integers(0, 255, (24, 64, 3))
    return frames


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("front.mp4", {"container_options": {"movflags": "faststart"}}),
        ("clip.mkv", {}),
        ("clip.webm", {"codec": "libvpx"}),
        ("clip.avi", {"codec": "mpeg4"}),
        ("fragments.mp4", {"container_options": {"movflags": "frag_keyframe+empty_moov"}}),
        ("sound.mkv", {"sound": True}),
    ],
)
def test_a_truncated_file_is_an_error_unless_allowed(
    tmp_path: Path, name: str, settings: dict, capfd: pytest.CaptureFixture[str]
) -> None:
    path = cut_short(write_clip(tmp_path / name, 100, frames=_heavy_frames(100), **settings))
    with pytest.raises(StgraphError, match="truncated or corrupt"):
        read_video(path, frames=8)
    video = read_video(path, stride=1, allow_corrupt=True)
    assert 30 <= len(video) < 90
    assert numbers(video.frames[:30]) == list(range(30))
    assert any("truncated or corrupt" in note for note in video.notes)
    assert capfd.readouterr() == ("", "")  # FFmpeg's own complaints stay unprinted


def test_damage_inside_a_file_is_found(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", 100, frames=_heavy_frames(100))
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 4000] = bytes(4000)
    path.write_bytes(data)
    with pytest.raises(StgraphError, match="truncated or corrupt: decoding fails"):
        read_video(path, stride=1)
    video = read_video(path, stride=1, allow_corrupt=True)
    assert 50 < len(video) < 100
    assert "truncated or corrupt" in video.notes[-1]


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5])
def test_a_file_without_its_header_is_an_error(tmp_path: Path, share: float) -> None:
    path = cut_short(write_clip(tmp_path / "clip.mp4"), share)
    for allowed in (False, True):
        with pytest.raises(StgraphError, match="not a video that FFmpeg can read"):
            read_video(path, allow_corrupt=allowed)


@pytest.mark.parametrize("name", ["notes.mp4", "notes.txt"])
def test_text_is_not_a_video(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("this is no video\n" * 200)
    with pytest.raises(StgraphError, match="not a video that FFmpeg can read"):
        read_video(path)


def test_a_video_without_frames(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "none.mkv", [])
    with pytest.raises(StgraphError, match=r"none\.mkv"):
        read_video(path)


def test_paths_that_are_no_video(tmp_path: Path) -> None:
    with pytest.raises(StgraphError, match="no such file"):
        read_video(tmp_path / "missing.mp4")
    with pytest.raises(StgraphError, match="is a folder"):
        read_video(tmp_path)
    with pytest.raises(StgraphError, match="only sound"):
        read_video(write_sound(tmp_path / "sound.mp4"))


def test_a_colon_in_the_name_is_no_protocol(tmp_path: Path) -> None:
    assert len(read_video(write_clip(tmp_path / "a.mp4", 5).rename(tmp_path / "http:a.mp4"))) == 5


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"frames": 0}, "frames must be"),
        ({"frames": True}, "frames must be"),
        ({"frames": 2.5}, "frames must be"),
        ({"fps": 0}, "fps must be"),
        ({"fps": -1}, "fps must be"),
        ({"fps": math.nan}, "fps must be"),
        ({"fps": math.inf}, "fps must be"),
        ({"fps": True}, "fps must be"),
        ({"stride": 0}, "stride must be"),
        ({"size": 0}, "size must be"),
        ({"start": -1}, "start must be"),
        ({"start": math.nan}, "start must be"),
        ({"end": math.nan}, "end must be"),
        ({"end": False}, "end must be"),
        ({"start": 1.0, "end": 1.0}, "start must be before end"),
        ({"start": 2.0}, "lasts 2.000 s"),
        ({"end": 2.1}, "lasts 2.000 s"),
        ({"frames": 3, "fps": 1}, "give one of frames, fps and stride"),
        ({"frames": 3, "stride": 1}, "give one of frames, fps and stride"),
    ],
)
def test_arguments_out_of_range(tmp_path: Path, keywords: dict, message: str) -> None:
    path = write_clip(tmp_path / "clip.mp4", 50)
    with pytest.raises(StgraphError, match=message):
        read_video(path, **keywords)


def test_end_may_reach_to_the_end_of_the_sound(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "late.mkv", range(500, 550))
    assert len(read_video(path, stride=1, end=2.0)) == 50
    with pytest.raises(StgraphError, match=r"lasts 2\.000 s"):
        read_video(path, end=3.0)  # the file's clock runs to 22 s, the video for two
    assert len(read_video(write_clip(tmp_path / "sound.mkv", sound=True), stride=1, end=2.01)) == 50


def test_a_video_checks_itself() -> None:
    frames, times = torch.zeros(2, 3, 4, 5, dtype=torch.uint8), torch.tensor([0.0, 1.0], dtype=torch.float64)
    video = Video(frames, times)
    assert (len(video), video.height, video.width) == (2, 4, 5)
    assert repr(video) == "Video(2 frames of 4×5, 0.00–1.00 s, source=None)"
    for wrong in (frames[:0], frames.float(), frames[:, :2], frames[0]):
        with pytest.raises(StgraphError, match="frames must be"):
            Video(wrong, times)
    for wrong in (times[:1], times.float()):
        with pytest.raises(StgraphError, match="timestamps must be"):
            Video(frames, wrong)
    for wrong in (times.flip(0), times * 0, times * math.nan):
        with pytest.raises(StgraphError, match="strictly increasing"):
            Video(frames, wrong)


# -- writing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(48, 64), (47, 64), (48, 65), (51, 67)])
@pytest.mark.parametrize("fps", [25, 23.976, 30000 / 1001])
def test_what_is_written_is_read(tmp_path: Path, size: tuple[int, int], fps: float) -> None:
    frames = torch.from_numpy(np.stack([numbered_frame(n, *size) for n in range(30)])).permute(0, 3, 1, 2)
    write_video(tmp_path / "tensor.mp4", frames, fps, quality=1)
    write_video(tmp_path / "iterable.mp4", iter(frames), fps, quality=1)
    for name in ("tensor.mp4", "iterable.mp4"):
        video = read_video(tmp_path / name, stride=1)
        assert numbers(video.frames) == list(range(30))
        assert float((video.frames[:, :, : size[0], : size[1]].float() - frames).abs().mean()) < 3
        torch.testing.assert_close(video.timestamps, torch.arange(30).double() / fps, atol=1e-4, rtol=0)
    assert (video.height, video.width) == (size[0] + size[0] % 2, size[1] + size[1] % 2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["iterable.mp4", "tensor.mp4"]


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    frame = torch.zeros(3, 16, 16, dtype=torch.uint8)
    for frames, message in (
        ([], "at least one frame"),
        ([frame, frame[:, :8]], "of one size"),
        ([frame, frame.float()], "uint8"),
        ([frame[0]], "of one size"),
    ):
        with pytest.raises(StgraphError, match=message):
            write_video(tmp_path / "clip.mp4", frames, 25)
    with pytest.raises(StgraphError, match=r"\.mp4"):
        write_video(tmp_path / "clip.avi", [frame], 25)
    with pytest.raises(StgraphError, match="cannot be written"):
        write_video(tmp_path / "no" / "clip.mp4", [frame], 25)
    for fps in (0, math.nan, True):
        with pytest.raises(StgraphError, match="fps must be"):
            write_video(tmp_path / "clip.mp4", [frame], fps)
    assert list(tmp_path.iterdir()) == []


# -- memory -----------------------------------------------------------------------------------------------------------


def read_growth(warm_up: Path, path: Path) -> tuple[int, int, float]:
    """Frames, growth of the peak memory in MiB, and the last timestamp of a 64-frame read in a process of its own."""
    prepare = f"from stgraph.video import read_video; read_video({str(warm_up)!r}, frames=2)"
    work = f"video = read_video({str(path)!r}, frames=64); print(len(video), float(video.timestamps[-1]))"
    growth, said = peak_growth(prepare, work)
    frames, last = said.split()
    return int(frames), growth >> 20, round(float(last), 3)


def test_memory_is_that_of_the_sampled_frames(tmp_path: Path) -> None:
    image = torch.zeros(3, 240, 320, dtype=torch.uint8)
    write_video(tmp_path / "short.mp4", [image] * 24, 24, preset="ultrafast")
    write_video(tmp_path / "long.mp4", (image for _ in range(800)), 24, preset="ultrafast")
    frames, growth, _ = read_growth(tmp_path / "short.mp4", tmp_path / "long.mp4")
    assert frames == 64
    assert growth < 80  # the 64 sampled frames are 14 MiB, all 800 are 176 MiB


@pytest.mark.slow
def test_a_hundred_thousand_frames_in_bounded_memory(tmp_path: Path) -> None:
    import time

    def frames():
        image = torch.zeros(3, 48, 64, dtype=torch.uint8)
        for n in range(100_000):
            image.fill_(n * 251 // 100_000)
            yield image

    started = time.perf_counter()
    write_video(tmp_path / "long.mp4", frames(), 25, quality=30, preset="ultrafast")
    written = time.perf_counter()
    write_clip(tmp_path / "short.mp4", 30)
    count, growth, last = read_growth(tmp_path / "short.mp4", tmp_path / "long.mp4")
    print(f"written in {written - started:.1f} s, read in {time.perf_counter() - written:.1f} s, +{growth} MiB")
    assert count == 64
    assert last == pytest.approx(99_999 / 25)
    assert growth < 100  # all frames as RGB would be 879 MiB


def test_same_frames_give_the_same_file(tmp_path):
    frames = torch.randint(0, 255, (1, 3, 96, 128), dtype=torch.uint8).repeat(60, 1, 1, 1)
    frames[30:] = 255 - frames[30:]
    for name in "abc":
        write_video(tmp_path / f"{name}.mp4", (frame for frame in frames), 12)
    assert len({(tmp_path / f"{name}.mp4").read_bytes() for name in "abc"}) == 1
