"""A batch on a Ray cluster of two workers gives what the same batch gives on one machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from stgraph import Selection, StgraphError, write_video
from stgraph.app.batch import compress_folder
from stgraph.app.cluster import Resources
from stgraph.app.config import resolve

from .test_cli import fails

# Ray warns about itself.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:ray", "ignore::FutureWarning:ray")

SETTINGS = ["video.frames=3", "encoder.tokens_per_frame=12", "retention=0.4"]


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Five clips and a file that is none."""
    folder = tmp_path_factory.mktemp("clips")
    for number in range(5):
        g = torch.Generator().manual_seed(number)
        write_video(folder / f"{number}.mp4", torch.randint(0, 256, (4, 3, 24, 32), generator=g, dtype=torch.uint8), 4)
    (folder / "broken.mp4").write_bytes(b"no video")
    return folder


def digests(folder: Path) -> dict[str, str]:
    return {path.parent.name: Selection.load(path.parent).digest for path in folder.rglob("selection.json")}


@pytest.mark.ray
def test_a_cluster_gives_the_same_selections(clips, tmp_path):
    config, resources = resolve(SETTINGS), Resources("ray")
    seen = []
    here = compress_folder([clips], tmp_path / "here", config)
    there = compress_folder(
        [clips], tmp_path / "there", config, workers=2, resources=resources, progress=lambda *done: seen.append(done)
    )
    assert digests(tmp_path / "here") == digests(tmp_path / "there")
    assert len(digests(tmp_path / "there")) == 5
    assert seen[-1] == (6, 6)
    assert there.failed == here.failed
    again = compress_folder([clips], tmp_path / "there", config, workers=2, resources=resources)
    assert (again.done, again.skipped) == (0, 5)
    rows = [(tmp_path / name / "index.csv").read_text().splitlines() for name in ("here", "there")]
    columns = [[row.split(",")[:6] for row in each] for each in rows]
    assert columns[0] == columns[1]  # one row a clip, in the order of the folder


@pytest.mark.ray
def test_a_killed_batch_goes_on(clips, tmp_path):
    output = tmp_path / "out"
    command = [sys.executable, "-m", "stgraph", "batch", str(clips), *SETTINGS, "engine=ray", "--output", str(output)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not list(output.rglob("selection.json")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert process.poll() is None
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    done = len(digests(output))
    assert done
    result = compress_folder([clips], output, resolve(SETTINGS), resources=Resources("ray"))
    assert (result.done, result.skipped) == (5 - done, done)


def test_words_of_the_engine_are_no_settings():
    found, others = Resources.of_words(["engine=ray", "gpus=0.5", "community=leiden", "address=auto"])
    assert found == Resources("ray", 1, 0.5, "auto")
    assert others == ["community=leiden"]


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("engine=rya", "engine must be one of local, ray, got 'rya'; did you mean 'ray'"),
        ("gpus=1", "add engine=ray"),
        ("address=auto", "add engine=ray"),
        ("cpus=0", "cpus must be a number > 0"),
    ],
)
def test_bad_words_are_one_sentence(word, message, clips, tmp_path):
    fails("batch", clips, word, "--output", tmp_path / "out", sentence=message)


def test_without_ray_the_install_command_is_told(clips, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(StgraphError, match=r"engine=ray needs the library ray.*\[ray\]"):
        compress_folder([clips], tmp_path / "out", resolve(SETTINGS), resources=Resources("ray"))
