"""Many videos: the same results as one by one, in order, with what fails told apart and nothing done twice."""

from __future__ import annotations

import csv
import threading

import pytest
import torch

from stgraph import Selection, StgraphError, compress_many, write_video
from stgraph import video as video_module
from stgraph.app.batch import compress_folder
from stgraph.app.config import resolve
from stgraph.app.config_file import load_config
from stgraph.app.find import find_videos
from stgraph.app.pipeline import compress, encode

from .test_cli import fails, stgraph

SETTINGS = ["video.frames=3", "encoder.tokens_per_frame=12", "retention=0.4"]


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Four clips, one of them in a folder below, and beside them a text that is no video."""
    folder = tmp_path_factory.mktemp("clips")
    (folder / "below").mkdir()
    for number, name in enumerate(("a.mp4", "b.mp4", "below/a.mp4", "c.mp4")):
        g = torch.Generator().manual_seed(number)
        write_video(folder / name, torch.randint(0, 256, (4, 3, 24, 32), generator=g, dtype=torch.uint8), 4)
    (folder / "notes.txt").write_text("no video")
    return folder


@pytest.fixture
def paths(clips):
    return list(find_videos([clips]).values())


@pytest.mark.parametrize(("workers", "ahead"), [(1, 0), (1, 2), (3, 2), (2, 99)])
def test_results_are_those_of_one_after_the_other(paths, workers, ahead):
    config = resolve(SETTINGS)
    outcomes = list(compress_many(paths, config, workers=workers, ahead=ahead))
    assert [outcome.path for outcome in outcomes] == paths
    for outcome in outcomes:
        alone = compress(encode(outcome.path, config), config)
        assert outcome.error is None
        assert outcome.selection.digest == alone.selection.digest
        assert torch.equal(outcome.tokens.features, alone.tokens.features)
        assert outcome.frames == 3
        assert outcome.seconds.keys() == {"read", "encode", "select"}


def test_videos_beside_a_selection_are_results(clips, tmp_path):
    run = tmp_path / "outputs" / "a"
    run.mkdir(parents=True)
    for path in (tmp_path / "a.mp4", run / "overlay.mp4"):
        path.write_bytes((clips / "a.mp4").read_bytes())
    assert len(find_videos([tmp_path])) == 2
    (run / "selection.json").write_text("{}")
    assert list(find_videos([tmp_path])) == ["a.mp4"]


def test_no_more_videos_are_read_ahead_than_asked_for(paths, monkeypatch):
    real, lock, read = video_module.read_video, threading.Lock(), []

    def counting(path, **arguments):
        with lock:
            read.append(path)
        return real(path, **arguments)

    monkeypatch.setattr(video_module, "read_video", counting)
    endless = (paths[number % len(paths)] for number in range(10**9))
    outcomes = compress_many(endless, resolve(SETTINGS), ahead=2)
    for taken in range(1, 6):
        assert next(outcomes).error is None
        assert taken <= len(read) <= taken + 2
    outcomes.close()
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("stgraph-read")]


def test_a_video_that_fails_does_not_stop_the_others(clips, paths, tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video at all")
    outcomes = list(compress_many([paths[0], broken, tmp_path / "none.mp4", paths[1]], resolve(SETTINGS)))
    assert [outcome.error is None for outcome in outcomes] == [True, False, False, True]
    assert "not a video that FFmpeg can read" in outcomes[1].error
    assert "no such file" in outcomes[2].error
    assert outcomes[1].selection is None
    needs_a_model = resolve([*SETTINGS, "selector=fastv"])
    (outcome,) = compress_many(paths[:1], needs_a_model)
    assert "needs the signal llm_attention" in outcome.error


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (AttributeError("a mistake in the code"), "AttributeError: a mistake in the code (test_batch.py:"),
        (RuntimeError("[enforce fail] can't\nallocate"), "RuntimeError: [enforce fail] can't allocate ("),
        (MemoryError(), "MemoryError (test_batch.py:"),
        (UnicodeEncodeError("utf-8", "\udce9", 0, 1, "surrogates"), "UnicodeEncodeError: "),
        (OSError(5, "Input/output error"), "OSError: [Errno 5] Input/output error ("),
    ],
)
def test_whatever_goes_wrong_with_one_clip_is_its_row(clips, tmp_path, monkeypatch, error, sentence):
    real = video_module.read_video

    def wrong(path, **arguments):
        if path.name == "b.mp4":
            raise error
        return real(path, **arguments)

    monkeypatch.setattr(video_module, "read_video", wrong)
    result = compress_folder([clips], tmp_path / "out", resolve(SETTINGS))
    assert (result.done, result.failed.keys()) == (3, {"b.mp4"})
    assert sentence in result.failed["b.mp4"]
    assert "\n" not in result.failed["b.mp4"]
    assert [row["state"] for row in index(tmp_path / "out")] == ["done", "failed", "done", "done"]


def index(folder):
    with (folder / "index.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_folder_of_results_is_taken_up_where_it_ended(clips, tmp_path, monkeypatch):
    config, out = resolve(SETTINGS), tmp_path / "out"
    real = video_module.read_video

    def interrupted(path, **arguments):
        if path.name == "b.mp4":
            raise KeyboardInterrupt
        return real(path, **arguments)

    monkeypatch.setattr(video_module, "read_video", interrupted)
    with pytest.raises(KeyboardInterrupt):
        compress_folder([clips], out, config, ahead=0)
    assert [row["clip"] for row in index(out)] == ["a.mp4"]
    monkeypatch.setattr(video_module, "read_video", real)
    calls = []
    result = compress_folder([clips], out, config, progress=lambda done, total: calls.append((done, total)))
    assert (result.done, result.skipped, result.failed) == (3, 1, {})
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert result.summary().startswith("4 clips: 3 compressed, 1 finished before and skipped (")
    rows = index(out)
    assert [row["clip"] for row in rows] == ["a.mp4", "b.mp4", "below/a.mp4", "c.mp4"]
    for row in rows:
        selection = Selection.load(out / row["clip"])
        assert row["digest"] == selection.digest
        assert int(row["kept"]) == len(selection)
        assert float(row["read"]) > 0
    again = compress_folder([clips], out, config)
    assert (again.done, again.skipped) == (0, 4)
    assert index(out) == rows
    (out / "b.mp4" / "selection.json").write_text("{")  # half a file, as a crash of the machine may leave it
    assert compress_folder([clips], out, config).done == 1
    assert index(out)[1]["digest"] == rows[1]["digest"]


def test_command_line(clips, tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video at all")
    out = tmp_path / "out"
    result = stgraph("batch", clips / "below", broken, *SETTINGS, "--output", out)
    assert result.returncode == 1
    assert (
        result.stderr == f"failed: broken.mp4: {broken} is not a video that FFmpeg can read, or its header is cut off\n"
    )
    assert "2 clips: 1 compressed, 1 failed" in result.stdout
    assert [row["state"] for row in index(out)] == ["done", "failed"]
    assert stgraph("explain", out / "a.mp4", "--token", 0).returncode == 0
    broken.unlink()
    quiet = stgraph("batch", clips / "below", *SETTINGS, "--output", out, "--quiet")
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")
    fails("batch", clips, "retention=0.5", "--output", out, sentence="holds results with other settings")
    fails("batch", "retention=0.5", "--output", out, sentence="needs at least one video")
    fails("batch", clips, *SETTINGS, "--output", clips, sentence="holds files, but not the results of a batch")
    fails("batch", clips, clips / "a.mp4", *SETTINGS, "--output", out, sentence="would both be called a.mp4")
    fails("batch", clips / "none", "--output", out, sentence="no such file or folder")
    fails("batch", clips, *SETTINGS, "--output", tmp_path / "new", "--workers", 0, sentence="workers must be")
    assert not (tmp_path / "new").exists()
    (tmp_path / "empty").mkdir()
    fails("batch", tmp_path / "empty", "--output", out, sentence="holds no videos (.mp4, .m4v, ")


def test_settings_with_which_all_failed_can_be_mended(clips, tmp_path):
    out = tmp_path / "out"
    failed = compress_folder([clips / "below"], out, resolve([*SETTINGS, "selector=fastv"]))
    assert "selector.signal=features asks for a substitute" in failed.failed["a.mp4"]
    mended = resolve([*SETTINGS, "selector=fastv", "selector.signal=features"])
    assert compress_folder([clips / "below"], out, mended).done == 1
    assert resolve([], load_config(out / "config.yaml")).data == mended.data
    with pytest.raises(StgraphError, match="holds results with other settings"):
        compress_folder([clips / "below"], out, resolve(SETTINGS))
    (out / "own").mkdir()
    (out / "own" / "config.yaml").write_text("retention: 0.5\n", "utf-8")  # not of a batch
    with pytest.raises(StgraphError, match="holds results with other settings"):
        compress_folder([clips / "below"], out / "own", resolve(SETTINGS))


def test_an_interruption_says_how_to_go_on(clips, tmp_path, monkeypatch):
    def interrupted(path, **arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(video_module, "read_video", interrupted)
    result = stgraph("batch", clips, *SETTINGS, "--output", tmp_path / "out")
    assert result.returncode == 130
    assert "run the same command again to continue" in result.stderr
    assert index(tmp_path / "out") == []


def test_bad_arguments_are_told_at_once():
    with pytest.raises(StgraphError, match="ahead must be a whole number ≥ 0, got -1"):
        compress_many([], ahead=-1)
    assert list(compress_many([])) == []
