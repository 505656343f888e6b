"""Long video files: read in blocks, selected window by window, recorded in little memory."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from stgraph import StgraphError, VideoTokens, read_blocks, read_video, stream, write_video
from stgraph.app.config import resolve
from stgraph.app.pipeline import compress, encode
from stgraph.app.stream import StreamRecord, record_stream, stream_video
from stgraph.budget import ceil_share
from stgraph.selectors import Verdict

from ..clips import cut_short, numbers, write_clip
from ..memory import peak_growth
from .test_cli import fails, stgraph


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """20 frames at 10 per second, with a cut after each 7."""
    g = torch.Generator().manual_seed(0)
    scenes = torch.randint(0, 256, (3, 3, 8, 10), generator=g, dtype=torch.uint8)
    frames = scenes.repeat_interleave(6, 2).repeat_interleave(6, 3)[torch.arange(20) // 7]
    path = tmp_path_factory.mktemp("stream") / "clip.mp4"
    write_video(path, frames, fps=10)
    return path


@pytest.mark.parametrize("block", [1, 3, 20, 99])
def test_blocks_are_the_frames_of_the_whole(clip, block):
    whole = read_video(clip, stride=1)
    blocks = list(read_blocks(clip, block, stride=1))
    assert [len(video) for video in blocks[:-1]] == [block] * (len(blocks) - 1)
    assert torch.equal(torch.cat([video.frames for video in blocks]), whole.frames)
    assert torch.equal(torch.cat([video.timestamps for video in blocks]), whole.timestamps)


def test_blocks_are_decoded_when_they_are_asked_for(tmp_path):
    path = write_clip(tmp_path / "long.mp4", 50)
    calls = []
    blocks = read_blocks(path, 5, stride=1, progress=lambda done, total: calls.append((done, total)))
    assert calls == []
    assert numbers(next(blocks).frames) == [0, 1, 2, 3, 4]
    assert calls[-1] == (5, 50)


def test_damage_is_found_when_its_block_is_reached(tmp_path):
    whole = write_clip(tmp_path / "clip.mkv", 50)
    short = cut_short(whole)
    with pytest.raises(StgraphError, match="truncated or corrupt"):
        list(read_blocks(short, 5, stride=1))
    blocks = list(read_blocks(short, 5, stride=1, allow_corrupt=True))
    notes = [note for video in blocks for note in video.notes]
    assert len(notes) == len(set(notes)) >= 1
    with pytest.raises(StgraphError, match="block must be a whole number"):
        read_blocks(whole, 0)


def test_a_window_that_covers_the_video_gives_what_compress_gives(clip):
    config = resolve(["video.stride=1", "encoder.tokens_per_frame=40"])
    (window,) = stream_video(clip, config, window=32)
    offline = compress(encode(clip, config), config).selection
    assert window.selection.digest == offline.digest


def test_a_record_holds_what_the_windows_said(clip, tmp_path):
    config = resolve(["video.stride=1", "encoder.tokens_per_frame=40"])
    record = StreamRecord()
    windows = list(stream_video(clip, config, window=6, record=record))
    assert record.windows == len(windows) == 4
    tensors = record.tensors()
    assert torch.equal(tensors["verdict"], torch.cat([window.selection.verdict for window in windows]))
    assert torch.equal(tensors["indices"], torch.cat([window.indices for window in windows]))
    assert torch.equal(tensors["timestamps"], read_video(clip, stride=1).timestamps)
    coords = torch.cat([window.selection.coords for window in windows])
    assert torch.equal(tensors["first_token"], (coords[:, 1:] == 0).all(1).nonzero()[:, 0])
    assert record.kept == len(tensors["indices"]) == ceil_share(0.3, len(coords))
    events = tensors["per_frame"][:, [Verdict.EVENT, Verdict.BOTH]].sum(1)
    assert set(events.topk(2).indices.tolist()) == {7, 14}
    assert record.seconds.keys() == {"read", "encode", "select"}
    assert record_stream(clip, config, window=6).digest == record.digest
    assert record_stream(clip, config, window=5).digest != record.digest
    record.save(tmp_path / "run")
    assert torch.equal(load_file(tmp_path / "run" / "stream.safetensors")["verdict"], tensors["verdict"])
    with pytest.raises(StgraphError, match="already holds a run"):
        record.save(tmp_path / "run")


def test_records_of_plain_streams_count_separators_and_frames():
    record = StreamRecord()
    for window in stream(torch.randn(5, 2, 4, 8), window=2, newline=True):
        record.add(window)
    assert record.num_separators == 10
    assert list(record.timestamps) == [0, 1, 2, 3, 4]
    assert "30 tokens → 9 kept (30.00 %), 10 separators → 3" in record.summary()


def test_the_picture_of_a_long_stream_is_a_mean_over_spans():
    record = StreamRecord()
    for window in stream(torch.ones(1300, 1, 2, 2), window=100):
        record.add(window)
    figure = record.chart()
    heights = [patch.get_data() for patch in figure.axes[0].patches]
    assert all(len(data.values) == 600 for data in heights)
    kept = sum((data.values - data.baseline).mean() for data in heights)
    assert kept == pytest.approx(0.6, rel=0.02)


def test_command_line(clip, tmp_path):
    words = ("encoder.tokens_per_frame=40", "retention=0.2", "--window", 8, "--output", tmp_path / "run")
    result = stgraph("stream", clip, "video.stride=1", *words)
    assert result.returncode == 0, result.stderr
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        "manifest.json",
        "stream.json",
        "stream.png",
        "stream.safetensors",
    ]
    record = json.loads((tmp_path / "run" / "stream.json").read_text("utf-8"))
    assert "20 frames in 3 windows" in result.stdout
    assert record["digest"] in result.stdout
    assert record["kept"] == ceil_share(0.2, record["tokens"])
    assert (record["window"], record["config"]["retention"]) == (8, 0.2)
    assert resolve([], record["config"]).selector().retention == 0.2
    fails("stream", clip, "video.stride=1", *words, sentence="already holds a run; choose another --output")
    fails("stream", clip, "--window", 0, sentence="window must be a whole number ≥ 1 and ≤ 1e+06, got 0")
    fails("stream", clip.parent / "none.mp4", sentence="no such file")
    quiet = stgraph("stream", clip, "--quiet", "--output", tmp_path / "one")
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")
    assert json.loads((tmp_path / "one" / "stream.json").read_text("utf-8"))["frames"] == 2  # one per second


def test_memory_does_not_grow_with_the_file(tmp_path):
    scene = torch.randint(0, 256, (3, 96, 128), dtype=torch.uint8)
    for name, count in (("short", 60), ("long", 600)):
        write_video(tmp_path / f"{name}.mp4", (scene.roll(n // 20, 2) for n in range(count)), 25, preset="ultrafast")
    growth, said = peak_growth(
        f"""
import torch
torch.set_num_threads(1)
from stgraph.app.config import resolve
from stgraph.app.stream import record_stream
config = resolve(["video.stride=1", "encoder.tokens_per_frame=48"])
record_stream({str(tmp_path / "short.mp4")!r}, config, window=16)
""",
        f"print(record_stream({str(tmp_path / 'long.mp4')!r}, config, window=16).frames)",
    )
    assert int(said) == 600
    assert growth < 600 * 3 * 96 * 128 / 4  # a quarter of the pictures


def test_tokens_of_blocks_are_tokens_of_the_video(clip):
    config = resolve(["video.stride=1", "encoder.tokens_per_frame=40"])
    parts = [config.encoder()(video).tokens for video in read_blocks(clip, 7, stride=1)]
    whole = config.encoder()(read_video(clip, stride=1)).tokens
    assert isinstance(whole, VideoTokens)
    assert torch.equal(torch.cat([part.features for part in parts]), whole.features)
