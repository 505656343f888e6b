"""Videos as cameras, screen recorders and interrupted downloads leave them."""

from __future__ import annotations

import contextlib
import os
import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from stgraph import StgraphError
from stgraph.video import read_blocks, read_video, write_video

from ..clips import cut_short, numbers, write_clip
from ..memory import peak_growth

INTRA_REFRESH = {"g": "30", "x264-params": "intra-refresh=1:keyint=30:scenecut=0"}
SAMPLINGS = ({}, {"frames": 1}, {"frames": 9}, {"stride": 7}, {"stride": 31}, {"fps": 3}, {"start": 5.3, "end": 7.1})


@pytest.fixture(scope="module", params=["mp4", "mkv", "ts", "flv"])
def refreshed(request, tmp_path_factory) -> Path:
    """250 frames of H.264 whose pictures are refreshed column by column: recovery points in the place of keyframes."""
    folder = tmp_path_factory.mktemp("refresh")
    return write_clip(folder / f"clip.{request.param}", 250, options=INTRA_REFRESH)


@pytest.mark.parametrize("keywords", SAMPLINGS)
def test_every_frame_after_a_recovery_point_is_that_of_sequential_decoding(refreshed, keywords):
    whole = read_video(refreshed, stride=1)
    assert numbers(whole.frames) == list(range(250))
    some = read_video(refreshed, **keywords)
    assert torch.equal(some.frames, whole.frames[torch.searchsorted(whole.timestamps, some.timestamps)])
    assert not [note for note in some.notes if "corrupt" in note]


def test_blocks_of_a_refreshed_stream_are_the_whole(refreshed):
    whole = read_video(refreshed)
    blocks = list(read_blocks(refreshed, 10))
    assert torch.equal(torch.cat([block.frames for block in blocks]), whole.frames)


def test_pictures_of_an_apng_build_on_one_another(tmp_path):
    path = write_clip(tmp_path / "a.apng", 30, codec="apng", pixels="rgb24", container_format="apng")
    assert numbers(read_video(path, stride=1).frames) == list(range(30))
    for keywords in ({"frames": 8}, {"stride": 7}, {"start": 0.6}):
        shown = read_video(path, **keywords)
        assert numbers(shown.frames) == [round(25 * t) for t in shown.timestamps.tolist()]


# -- cut off ----------------------------------------------------------------------------------------------------------

KINDS = {
    "gif": {"codec": "gif", "pixels": "rgb8", "container_format": "gif"},
    "mkv": {"codec": "ffv1", "tick": Fraction(1, 24)},
    "webm": {"codec": "libvpx", "tick": Fraction(1, 24)},
}


@pytest.fixture(scope="module", params=KINDS)
def whole(request, tmp_path_factory) -> Path:
    return write_clip(tmp_path_factory.mktemp("whole") / f"clip.{request.param}", 24, **KINDS[request.param])


@pytest.mark.parametrize("share", [0.5, 0.7, 0.8, 0.9, 0.97])
def test_a_cut_is_noticed_however_short_the_clip(whole, share):
    assert len(read_video(whole, stride=1)) == 24
    short = cut_short(whole, share)
    with pytest.raises(StgraphError, match="truncated or corrupt"):
        read_video(short)
    some = read_video(short, stride=1, allow_corrupt=True)
    assert 0 < len(some) <= 24
    assert numbers(some.frames)[:-1] == list(range(len(some) - 1))  # of the last one there may be a part only
    assert "truncated or corrupt" in some.notes[-1]


def test_a_live_recording_that_is_cut_inside_a_picture(tmp_path):
    """Its segment and clusters have no sizes: those of the pictures tell."""
    path = write_clip(tmp_path / "live.mkv", 24, tick=Fraction(1, 24), codec="ffv1", container_options={"live": "1"})
    assert len(read_video(path, stride=1)) == 24
    with pytest.raises(StgraphError, match="truncated or corrupt: its last"):
        read_video(cut_short(path, 0.7))


def test_bytes_after_the_end_are_no_damage(whole):
    longer = whole.with_stem(whole.stem + "-longer")
    longer.write_bytes(whole.read_bytes() + bytes(1000))
    assert len(read_video(longer, stride=1)) == 24


@pytest.mark.parametrize("name", ["fast.mp4", "fast.mkv", "fast.ts", "fast.flv"])
@pytest.mark.parametrize("rate", [1200, 4000, 20_000])
def test_no_frame_of_a_high_speed_camera_is_lost(tmp_path, name, rate):
    path = write_clip(tmp_path / name, 200, tick=Fraction(1, rate))
    assert numbers(read_video(path, stride=1).frames) == list(range(200))
    assert np.abs(np.array(numbers(read_video(path, frames=5).frames)) - [0, 49, 99, 149, 199]).max() <= 1


# -- what is no video file --------------------------------------------------------------------------------------------


def playlists(folder: Path, clip: str) -> dict[str, str]:
    return {
        "list.m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{clip}\n#EXT-X-ENDLIST\n",
        "list.mp4": f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{folder / clip}\n#EXT-X-ENDLIST\n",
        "concat.mp4": f"ffconcat version 1.0\nfile {clip}\n",
        "concat.txt": f"ffconcat version 1.0\nfile '{folder / clip}'\n",
        "manifest.mpd": f'<?xml version="1.0"?>\n<MPD type="static"><BaseURL>{clip}</BaseURL></MPD>',
    }


@pytest.mark.parametrize("name", playlists(Path(), ""))
def test_a_playlist_opens_no_other_file(tmp_path, name, monkeypatch):
    write_clip(tmp_path / "clip.ts")
    (tmp_path / name).write_text(playlists(tmp_path, "clip.ts")[name])
    with pytest.raises(StgraphError, match="is a playlist, which names other files"):
        read_video(tmp_path / name)


def test_a_pattern_names_no_other_files(tmp_path):
    from PIL import Image

    for number in range(3):
        Image.new("RGB", (64, 48), (number, 0, 0)).save(tmp_path / f"a{number}.png")
    shutil.copy(tmp_path / "a0.png", tmp_path / "a%d.png")
    with contextlib.suppress(StgraphError):  # FFmpeg takes the name for a pattern, whatever reads it
        assert len(read_video(tmp_path / "a%d.png")) == 1


def test_pipes_and_devices_do_not_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    for path in (tmp_path / "pipe", tmp_path / "link", "/dev/zero", "/dev/null"):
        with pytest.raises(StgraphError, match="is a pipe or a device"):
            read_video(path)


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("http://example.org/a.mp4", "is an address"),
        ("https://example.org/a.mp4", "is an address"),
        ("rtsp://camera/1", "is an address"),
        ("file:///a.mp4", "is an address"),
        ("s3://bucket/a.mp4", "is an address"),
        ("x" * 300, "no such file"),
        ("a\0b", "no such file"),
        ("-", "no such file"),
        ("caf\udce9.mp4", r"no such file: caf\\xe9.mp4"),
        ("a\x1b[31mb.mp4", r"no such file: a\\x1b\[31mb.mp4"),
        ("a\nb.mp4", r"no such file: a\\nb.mp4"),
    ],
)
def test_names_that_are_no_file(path, sentence):
    with pytest.raises(StgraphError, match=sentence) as error:
        read_video(path)
    assert str(error.value).isprintable()


def test_an_animated_webp_is_not_called_corrupt(tmp_path):
    path = write_clip(tmp_path / "a.webp", 5, codec="libwebp_anim", container_format="webp")
    with pytest.raises(StgraphError, match="animated WebP, which FFmpeg cannot read"):
        read_video(path)


@pytest.mark.parametrize("name", [os.fsdecode(b"caf\xe9.mp4"), "$x$.mp4", "\u4e2d\u6587.mp4", "a\nb.mp4", "%d.mp4"])
def test_any_name_is_read_and_written(tmp_path, name):
    write_video(tmp_path / name, torch.zeros(3, 3, 16, 16, dtype=torch.uint8), 5)
    assert len(read_video(tmp_path / name)) == 3


@pytest.mark.parametrize(
    "keywords",
    [
        {"size": 20_000},
        {"size": 2**63},
        {"stride": 2**63},
        {"frames": 2**63},
        {"fps": 1e300},
        {"largest": 0},
        {"largest": 10**9},
    ],
)
def test_numbers_beyond_reason(tmp_path, keywords):
    path = write_clip(tmp_path / "clip.mp4", 5)
    with pytest.raises(StgraphError, match=f"{next(iter(keywords))} must be"):
        read_video(path, **keywords)


def test_frames_that_no_memory_holds_are_refused_before_it_is_taken(tmp_path, monkeypatch):
    path = write_clip(tmp_path / "clip.mp4", 5)
    monkeypatch.setattr("os.sysconf", lambda name: 64)
    with pytest.raises(StgraphError, match=r"5 frames of 8192 × 6144 pixels take 0\.7 GiB"):
        read_video(path, size=6144)


# -- memory -----------------------------------------------------------------------------------------------------------


def test_frames_are_shrunk_while_they_are_decoded(tmp_path):
    path = write_clip(tmp_path / "plain.mp4", 20, size=(96, 128))
    small = read_video(path, largest=48)
    assert small.frames.shape == (20, 3, 48, 64)
    assert small.stored_size == (96, 128)
    assert torch.equal(small.frames, read_video(path, size=48).frames)
    assert torch.equal(read_video(path, largest=96).frames, read_video(path).frames)
    assert read_video(path, largest=48, size=60).frames.shape[2:] == (48, 64)
    turned = read_video(write_clip(tmp_path / "t.mp4", 3, size=(96, 128), display=(90, False, False)), largest=48)
    assert turned.frames.shape[2:] == (64, 48)
    assert turned.stored_size == (128, 96)


@pytest.mark.slow
def test_memory_follows_the_sampled_size(tmp_path):
    """Of 3000 × 4000 pixels no more is held than the decoder's own pictures, 17 MiB each."""
    flat = np.zeros((3000, 4000, 3), np.uint8)
    path = write_clip(tmp_path / "big.mp4", 16, size=(3000, 4000), frames=[flat] * 16, options={"preset": "ultrafast"})
    warm = write_clip(tmp_path / "warm.mp4", 3)
    prepare = f"from stgraph.video import read_video; read_video({str(warm)!r}, frames=2)"
    growth, said = peak_growth(prepare, f"print(len(read_video({str(path)!r}, largest=720)))")
    assert said == "16"
    frames, decoder = 16 * 720 * 960 * 3, 17 * 2**20
    assert growth < frames + 8 * decoder  # whole, the frames alone would take 549 MiB
