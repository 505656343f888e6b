"""The command line on real files."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import resource
import subprocess
import sys

import pytest
import torch
import yaml
from safetensors.torch import load_file

from stgraph import Selection, StgraphError, Verdict, kernels, read_video
from stgraph.app.cli import main
from stgraph.app.config import resolve
from stgraph.app.config_file import load_config
from stgraph.app.pipeline import compress, encode
from stgraph.budget import ceil_share
from stgraph.sample import render_sample
from stgraph.video import write_video


@pytest.fixture(scope="session")
def clip(tmp_path_factory):
    """A small rendered clip with known events."""
    return render_sample(tmp_path_factory.mktemp("clip") / "sample.mp4", size=(96, 160), fps=12)


@pytest.fixture(scope="session")
def run_folder(clip, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    result = stgraph(
        "compress", clip.path, "retention=0.3", "video.frames=16", "--events", clip.events_path, "--output", folder
    )
    assert result.returncode == 0, result.stderr
    return folder, result.stdout


def stgraph(*words, cwd=None):
    """Run the command line in this process; importing torch again for every call would take minutes."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        patch.setattr(sys, "argv", ["stgraph", *map(str, words)])
        if cwd:
            patch.chdir(cwd)
        try:
            main()
        except SystemExit as end:
            code = end.code
    return subprocess.CompletedProcess(words, code or 0, out.getvalue(), err.getvalue())


def fails(*words, sentence):
    result = stgraph(*words)
    assert result.returncode == 2, result.stdout + result.stderr
    assert sentence in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stderr.startswith("error: ")
    assert len(result.stderr.strip().splitlines()) == 1


def test_compress_writes_everything(run_folder):
    folder, out = run_folder
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.yaml",
        "frames.png",
        "graph.safetensors",
        "manifest.json",
        "overlay.mp4",
        "report.html",
        "selection.json",
        "selection.safetensors",
    ]
    tensors = load_file(folder / "selection.safetensors")
    assert {"indices", "verdict", "community", "centrality", "difference", "coords"} <= tensors.keys()
    record = json.loads((folder / "selection.json").read_text("utf-8"))
    n = record["tokens"]
    assert len(tensors["verdict"]) == n == len(tensors["coords"])
    assert len(tensors["indices"]) == record["kept"] == ceil_share(0.3, n)
    assert record["digest"] == Selection.load(folder).digest
    assert record["config"]["retention"] == 0.3
    assert record["quality"].keys() == {"simdiff", "random", "uniform"}
    assert record["quality"]["simdiff"]["event_recall"] > record["quality"]["random"]["event_recall"]
    assert {"read", "encode", "select", "measure"} <= record["stages"].keys()
    assert record["versions"]["torch"] == torch.__version__
    assert record["versions"]["kernels"] == kernels.active()
    assert len(read_video(folder / "overlay.mp4", stride=1)) == 16
    for word in (str(record["kept"]), record["digest"], "coverage", "event recall", "random", "uniform", "report.html"):
        assert word in out


def test_saved_configuration_gives_the_same_digest(run_folder, clip):
    folder, _ = run_folder
    config = resolve([], load_config(folder / "config.yaml"))
    assert compress(encode(clip.path, config), config).selection.digest == Selection.load(folder).digest


def test_explain(run_folder):
    folder, _ = run_folder
    selection = Selection.load(folder)
    kept = int(selection.indices[0])
    dropped = int((selection.verdict == Verdict.DROPPED).nonzero()[0])
    result = stgraph("explain", folder, "--token", kept, "-t", dropped)
    assert result.returncode == 0
    first, second = result.stdout.splitlines()
    assert f"Token {kept} (" in first
    assert "was kept" in first
    assert "was dropped" in second
    fails("explain", folder, "--token", 10**6, sentence="token must be a whole number from 0 to")
    fails("explain", folder.parent, "--token", 0, sentence="holds no selection")


def test_overwriting_is_asked_for(clip, tmp_path):
    words = ("compress", clip.path, "video.frames=2", "selector=uniform", "--output", tmp_path / "run")
    assert stgraph(*words).returncode == 0
    fails(*words, sentence="already holds a run; choose another --output or add --overwrite")
    quiet = stgraph(*words, "--overwrite", "--quiet")
    assert (quiet.returncode, quiet.stdout) == (0, "")
    fails("compress", clip.path, "--output", clip.path.parent, sentence="holds files, but no run")


def test_default_output_and_config_file(clip, tmp_path):
    (tmp_path / "mine.yaml").write_text(
        yaml.safe_dump({"video": {"frames": 3}, "selector": "random", "retention": 0.5})
    )
    result = stgraph("compress", clip.path, "retention=0.2", "--config", "mine.yaml", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    record = json.loads((tmp_path / "outputs" / "sample" / "selection.json").read_text("utf-8"))
    assert record["kept"] == ceil_share(0.2, record["tokens"])
    assert record["method"]["name"] == "random"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("retention=0",), "retention must be a number > 0 and ≤ 1"),
        (("retention=lots",), "retention must be a number"),
        (("comunity=leiden",), "did you mean 'community'"),
        (("difference=treshold",), "did you mean 'threshold'"),
        (("video.frames=0",), "frames"),
        (("video.start=9999",), "start"),
        (("--config", "nowhere.yaml"), "no configuration file"),
        (("--events", "nowhere.json"), "nowhere.json"),
    ],
)
def test_bad_words(clip, tmp_path, words, sentence):
    fails("compress", clip.path, *words, "--output", tmp_path / "run", sentence=sentence)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["missing", "text", "empty", "folder", "truncated"])
def test_bad_videos(clip, tmp_path, kind):
    path = tmp_path / "bad.mp4"
    if kind == "text":
        path.write_text("not a video")
    elif kind == "empty":
        path.touch()
    elif kind == "folder":
        path.mkdir()
    elif kind == "truncated":
        data = clip.path.read_bytes()
        path.write_bytes(data[: len(data) // 2])
    fails("compress", path, "--output", tmp_path / "out" / "run", sentence=str(path))
    assert not (tmp_path / "out").exists()


def test_fewer_frames_than_asked_for_is_said(tmp_path):
    write_video(tmp_path / "short.mp4", torch.randint(0, 255, (5, 3, 48, 64), dtype=torch.uint8), 10)
    result = stgraph("compress", tmp_path / "short.mp4", "--output", tmp_path / "run")
    assert result.returncode == 0, result.stderr
    assert "5 frames" in result.stdout
    assert "note: " in result.stdout


def test_not_finite_after_encoding(clip, monkeypatch):
    config = resolve(["video.frames=4"])
    encoder = config.encoder()

    real = type(encoder).__call__

    def broken(self, video):
        encoded = real(self, video)
        encoded.tokens.features[encoded.tokens.coords[:, 0] == 2] = float("nan")
        return encoded

    monkeypatch.setattr(type(encoder), "__call__", broken)
    with pytest.raises(StgraphError, match=r"features that are not finite for \d+ tokens, the first in frame 2"):
        encode(clip.path, config)


def test_what_is_in_brackets_is_printed(clip, tmp_path):
    """Rich would take it for markup, and a word between colons for an emoji."""
    output = tmp_path / "a[bold]b:smile:"
    done = stgraph("compress", clip.path, "retention=0.3", "video.frames=8", "--output", output)
    assert done.returncode == 0, done.stderr
    assert f"report {output / 'report.html'}" in done.stdout


def test_methods_and_doctor_and_sample(tmp_path):
    out = stgraph("methods").stdout
    for word in ("community=…", "components", "threshold=0.2", "simdiff", "random", "descriptor", "hf"):
        assert word in out
    assert "percentile=95.0" in stgraph("methods", "difference").stdout
    fails("methods", "comunity", sentence="did you mean 'community'")
    doctor = stgraph("doctor")
    assert doctor.returncode == 0
    assert "torch" in doctor.stdout
    with pytest.MonkeyPatch.context() as patch:
        found = importlib.util.find_spec
        patch.setattr(importlib.util, "find_spec", lambda name: None if name == "igraph" else found(name))
        assert 'pip install "stgraph-simdiff[graph] @ file:' in " ".join(stgraph("doctor").stdout.split())
    assert "stgraph 0." in stgraph("--version").stdout
    assert stgraph("sample", tmp_path / "s.mp4").returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s.events.json", "s.mp4"]


def test_usage_errors_end_with_code_2():
    assert stgraph("compress").returncode == 2
    assert stgraph("nonsense").returncode == 2


def test_as_a_program(clip, tmp_path):
    command = [sys.executable, "-m", "stgraph", "compress", clip.path, "video.frames=2", "-o", tmp_path / "run"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 2
    assert again.stderr.startswith("error: output folder")


@pytest.mark.parametrize("limit", [10_000, *(pytest.param(n, marks=pytest.mark.slow) for n in (100_000, 400_000))])
def test_a_write_that_fails_leaves_nothing(clip, tmp_path, limit):
    """As on a full disk, but for one file: the tensors, the pictures or the report cannot be written."""
    command = [sys.executable, "-m", "stgraph", "compress", clip.path, "-o", tmp_path / "run"]
    result = subprocess.run(
        command,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert result.returncode == 2, result.stderr
    assert result.stderr.count("\n") == 1
    assert str(tmp_path / "run") in result.stderr
    assert "partial" not in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_cuts_hold_the_most_event_tokens(clip, tmp_path):
    """Every frame of a clip with two cuts: the frames after them have the most event tokens, the others few."""
    frames = read_video(clip.path, stride=1).frames
    shots = [frames[:16], frames[28:44], frames[-16:]]
    write_video(tmp_path / "cuts.mp4", torch.cat(shots), 12)
    config = resolve(["video.stride=1"])
    run = compress(encode(tmp_path / "cuts.mp4", config), config)
    event = (run.selection.candidate & 2).bool()
    counts = torch.bincount(run.tokens.coords[event, 0], minlength=48).tolist()
    cuts = [counts.pop(32), counts.pop(16)]
    assert min(cuts) > len(run.tokens) / 48 / 2, "most of the picture changes"
    assert max(counts) < min(cuts) / 4
