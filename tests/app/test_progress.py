"""One bar over all stages of a command: no second of work is silent, and the bar never runs back."""

from __future__ import annotations

import io

import pytest
import torch

from stgraph import write_video
from stgraph.app import progress
from stgraph.app.config import resolve
from stgraph.app.pipeline import compress, encode
from stgraph.app.saved_run import save


def test_every_stage_of_compress_is_told_in_order(tmp_path):
    write_video(tmp_path / "clip.mp4", torch.randint(0, 256, (4, 3, 24, 32), dtype=torch.uint8), 4)
    config = resolve(["video.frames=3", "encoder.tokens_per_frame=12"])
    told: list[tuple[str, float]] = []
    report = lambda stage, share: told.append((stage, share))  # noqa: E731
    run = compress(encode(tmp_path / "clip.mp4", config, progress=report), config, progress=report)
    save(run, tmp_path / "run", progress=report)
    assert list(dict.fromkeys(stage for stage, _ in told)) == list(progress.COMPRESS)
    stages = list(progress.COMPRESS)
    assert told == sorted(told, key=lambda one: (stages.index(one[0]), one[1]))
    assert set(run.seconds) == {"read", "encode", "select", "measure", "draw"}  # all that takes time has its stage


@pytest.mark.parametrize("stages", [progress.COMPRESS, progress.COMPARE, progress.STREAM, progress.BATCH])
def test_the_bar_runs_from_nothing_to_all_once(stages, monkeypatch):
    shown: list[float] = []
    monkeypatch.setattr("sys.stderr", io.StringIO())
    monkeypatch.setattr("rich.progress.Progress.update", lambda self, task, **what: shown.append(what["completed"]))
    with progress.stage_bar(stages, shown=True) as report:
        for stage in stages:
            for share in (0, 0.5, 1):
                report(stage, share)
    assert shown == sorted(shown)
    assert (shown[0], shown[-1]) == (0, sum(stages.values()))


def test_nothing_is_shown_where_nothing_is_asked_for(capfd):
    with progress.stage_bar(progress.COMPRESS, shown=False) as report:
        report("reading", 0.5)
    assert capfd.readouterr() == ("", "")
