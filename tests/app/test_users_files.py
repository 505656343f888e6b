"""What users' files and names may do: to a batch, a cache, a configuration, and to all commands."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from stgraph import Selection, StgraphError, write_video
from stgraph.app.batch import compress_folder
from stgraph.app.cache import Cache, encoded_key, video_key
from stgraph.app.config import resolve
from stgraph.app.config_file import load_config
from stgraph.app.find import find_videos
from stgraph.app.pipeline import compress, encode
from stgraph.optional import install_hint

from .test_cli import fails, stgraph

SETTINGS = ["video.frames=3", "encoder.tokens_per_frame=12", "retention=0.4"]
ALL_IN_ONE = os.fsdecode(b"=1 caf\xe9 $x$ a_b^c\n") + "\u4e2d\u6587\u5b57.mp4"
NAMES = [os.fsdecode(b"caf\xe9.mp4"), "$x$ a_b^c.mp4", "\u4e2d\u6587\u5b57.mp4", "a\nb.mp4", "=1+1.mp4"]


def clip(path: Path, seed: int = 0, frames: int = 4) -> Path:
    g = torch.Generator().manual_seed(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path, torch.randint(0, 256, (frames, 3, 24, 32), generator=g, dtype=torch.uint8), 4)
    return path


def index(folder: Path) -> list[dict[str, str]]:
    with (folder / "index.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


# -- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [ALL_IN_ONE, "..mp4", *(pytest.param(n, marks=pytest.mark.slow) for n in NAMES)])
def test_every_command_takes_every_name(tmp_path, name):
    clip(tmp_path / name)
    for command, more in (("compress", []), ("compare", ["community=components,none"]), ("stream", [])):
        words = [*more, *SETTINGS] if command != "compare" else ["difference=threshold,none", *SETTINGS]
        done = stgraph(command, name, *words, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        done.stdout.encode()  # nothing that a terminal cannot show
    names = sorted(path.name for path in (tmp_path / "outputs").iterdir())
    stem = "clip" if name == "..mp4" else name.removesuffix(".mp4")
    assert names == sorted([stem, f"compare-{stem}", f"stream-{stem}"])
    done = stgraph("batch", name, *SETTINGS, "--output", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "outputs" / stem / "selection.json").read_text("utf-8"))
    assert record["video"]["file"].encode()
    assert Selection.load(tmp_path / "outputs" / stem).digest == record["digest"]


def test_results_never_lie_beside_outputs(tmp_path):
    (tmp_path / "outputs" / "old").mkdir(parents=True)
    (tmp_path / "outputs" / "old" / "notes").write_text("x")
    clip(tmp_path / "..mp4")
    assert stgraph("compress", "..mp4", *SETTINGS, "--overwrite", cwd=tmp_path).returncode == 0
    assert (tmp_path / "outputs" / "old" / "notes").exists()
    assert (tmp_path / "outputs" / "clip" / "report.html").exists()


def test_runs_are_numbered_unless_a_folder_is_named(tmp_path):
    clip(tmp_path / "a.mp4")
    for number in ("a", "a-2", "a-3"):
        done = stgraph("compress", "a.mp4", *SETTINGS, cwd=tmp_path)
        assert f"report outputs/{number}/report.html" in done.stdout
    assert stgraph("compress", "a.mp4", *SETTINGS, "-o", "named", cwd=tmp_path).returncode == 0
    again = stgraph("compress", "a.mp4", *SETTINGS, "-o", "named", cwd=tmp_path)
    assert (again.returncode, "already holds a run" in again.stderr) == (2, True)


# -- batch ------------------------------------------------------------------------------------------------------------


def replaced(path: Path, _: Path) -> None:
    clip(path, seed=9)


def replaced_in_secret(path: Path, _: Path) -> None:
    """Another clip of the same size, with the times of the first."""
    before = path.stat()
    data = bytearray(path.read_bytes())
    at = data.index(b"mdat") + 60
    data[at : at + 8] = bytes(8)
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def tensors_gone(_: Path, result: Path) -> None:
    (result / "selection.safetensors").unlink()


def tensors_cut(_: Path, result: Path) -> None:
    file = result / "selection.safetensors"
    file.write_bytes(file.read_bytes()[:-10])


def tensors_changed(_: Path, result: Path) -> None:
    file = result / "selection.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


def record_changed(_: Path, result: Path) -> None:
    (result / "selection.json").write_text("{")


def record_of_nothing(_: Path, result: Path) -> None:
    (result / "selection.json").write_text("null")


def manifest_gone(_: Path, result: Path) -> None:
    (result / "manifest.json").unlink()


def result_gone(_: Path, result: Path) -> None:
    shutil.rmtree(result)


@pytest.mark.parametrize(
    "change",
    [
        replaced,
        replaced_in_secret,
        tensors_gone,
        tensors_cut,
        tensors_changed,
        record_changed,
        record_of_nothing,
        manifest_gone,
        result_gone,
    ],
)
def test_what_changed_is_done_again(tmp_path, change):
    paths = [clip(tmp_path / "in" / name, seed) for seed, name in enumerate(("a.mp4", "b.mp4"))]
    config, out = resolve(SETTINGS), tmp_path / "out"
    compress_folder([tmp_path / "in"], out, config)
    change(paths[0], out / "a.mp4")
    again = compress_folder([tmp_path / "in"], out, config, allow_corrupt=True)
    assert (again.done, again.skipped, again.failed) == (1, 1, {})
    assert Selection.load(out / "a.mp4").digest == index(out)[0]["digest"]
    assert compress_folder([tmp_path / "in"], out, config).skipped == 2


def test_a_clip_that_was_only_copied_is_finished(tmp_path):
    clip(tmp_path / "in" / "a.mp4")
    config = resolve(SETTINGS)
    compress_folder([tmp_path / "in"], tmp_path / "out", config)
    shutil.copytree(tmp_path / "in", tmp_path / "copy")
    assert compress_folder([tmp_path / "copy"], tmp_path / "out", config).skipped == 1


def test_notes_in_a_result_are_kept(tmp_path):
    path = clip(tmp_path / "in" / "a.mp4")
    config, out = resolve(SETTINGS), tmp_path / "out"
    compress_folder([path], out, config)
    (out / "a.mp4" / "notes.txt").write_text("mine")
    assert compress_folder([path], out, config).skipped == 1
    clip(path, seed=5)
    assert compress_folder([path], out, config).done == 1
    assert (out / "a.mp4-2" / "notes.txt").read_text() == "mine"


def test_names_inside_names_are_refused(tmp_path):
    one, two = clip(tmp_path / "x" / "a.mp4"), clip(tmp_path / "y" / "a.mp4" / "b.mp4")
    with pytest.raises(StgraphError, match="would lie inside those of"):
        find_videos([one, two.parents[1]])


@pytest.mark.parametrize("source", ["", "x" * 300, "a\0b", "nowhere"])
def test_sources_that_are_none(source):
    with pytest.raises(StgraphError, match=r"empty name|no such file or folder"):
        find_videos([source])


def test_endings_of_every_kind_and_what_is_passed_over(tmp_path):
    for name in ("a.gif", "b.m2ts", "c.MTS", "d.txt", "e", "f.json"):
        (tmp_path / "in" / "deep").mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / "deep" / name).write_bytes(b"x")
    assert list(find_videos([tmp_path / "in"])) == ["deep/a.gif", "deep/b.m2ts", "deep/c.MTS"]
    clip(tmp_path / "in" / "a.mp4")
    result = compress_folder([tmp_path / "in"], tmp_path / "out", resolve(SETTINGS))
    assert result.notes == (
        "3 files were passed over, since they are not named like videos: 1 .json, 1 .txt, 1 no ending",
    )
    assert (result.done, len(result.failed)) == (1, 3)


@pytest.mark.parametrize("name", ["=1+1.mp4", "@x.mp4", "+a.mp4", "-b.mp4", "\tc.mp4"])
def test_no_cell_of_the_index_is_a_formula(tmp_path, name):
    clip(tmp_path / "in" / name)
    compress_folder([tmp_path / "in"], tmp_path / "out", resolve(SETTINGS))
    (row,) = index(tmp_path / "out")
    assert row["state"] == "done"
    assert row["clip"][0] == ("\\" if name[0] == "\t" else "'")
    assert compress_folder([tmp_path / "in"], tmp_path / "out", resolve(SETTINGS)).skipped == 1


def test_stored_settings_of_a_batch_run_no_code(tmp_path, monkeypatch):
    (tmp_path / "planted.py").write_text("raise SystemExit('code was run')")
    monkeypatch.syspath_prepend(tmp_path)
    clip(tmp_path / "a.mp4")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "config.yaml").write_text("community: planted:Thing")
    with pytest.raises(StgraphError, match="runs code from outside stgraph"):
        compress_folder([tmp_path / "a.mp4"], tmp_path / "out", resolve(SETTINGS))


# -- the cache --------------------------------------------------------------------------------------------------------


@pytest.fixture
def cached(tmp_path):
    path = clip(tmp_path / "a.mp4")
    return path, Cache(tmp_path / "cache")


def test_a_second_run_takes_frames_and_tokens_from_the_cache(cached):
    path, cache = cached
    config = resolve(SETTINGS)
    first, second = (encode(path, config, cache=cache) for _ in range(2))
    assert (first.cached, second.cached) == ((), ("frames", "tokens"))
    assert torch.equal(first.video.frames, second.video.frames)
    assert torch.equal(first.video.timestamps, second.video.timestamps)
    assert (first.video.notes, first.video.duration) == (second.video.notes, second.video.duration)
    assert torch.equal(first.tokens.features, second.tokens.features)
    assert compress(first, config).selection.digest == compress(second, config).selection.digest
    other = encode(path, resolve([*SETTINGS, "retention=0.2", "community=none"][:3]), cache=cache)
    assert other.cached == ("frames", "tokens")
    assert encode(path, resolve([*SETTINGS, "encoder.seed=1"]), cache=cache).cached == ("frames",)
    assert encode(path, resolve([*SETTINGS, "video.frames=2"]), cache=cache).cached == ()
    assert encode(path, config).cached == ()


def test_what_is_cached_follows_the_content_not_the_name(cached, tmp_path):
    path, cache = cached
    config = resolve(SETTINGS)
    encode(path, config, cache=cache)
    copy = Path(shutil.copy(path, tmp_path / "b.mp4"))
    assert encode(copy, config, cache=cache).cached == ("frames", "tokens")
    before = path.stat()
    clip(path, seed=3)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    changed = encode(path, config, cache=cache)
    assert changed.cached == ()
    assert torch.equal(changed.tokens.features, encode(path, config).tokens.features)


@pytest.mark.parametrize("damage", ["cut", "empty", "flipped", "text"])
def test_a_damaged_entry_is_made_anew(cached, damage):
    path, cache = cached
    config = resolve(SETTINGS)
    right = encode(path, config, cache=cache)
    for entry in cache.folder.iterdir():
        data = bytearray(entry.read_bytes())
        data[-1] ^= 1
        entry.write_bytes({"cut": data[:-5], "empty": b"", "flipped": data, "text": b"no tensors"}[damage])
    again = encode(path, config, cache=cache)
    assert again.cached == ()
    assert torch.equal(again.video.frames, right.video.frames)
    assert encode(path, config, cache=cache).cached == ("frames", "tokens")


def test_a_cache_that_others_can_write_is_not_trusted(cached):
    path, cache = cached
    config = resolve(SETTINGS)
    encode(path, config, cache=cache)
    cache.folder.chmod(0o777)
    assert encode(path, config, cache=cache).cached == ()


def test_a_cache_that_cannot_be_written_costs_no_run(tmp_path):
    (tmp_path / "file").write_text("x")
    path = clip(tmp_path / "a.mp4")
    assert encode(path, resolve(SETTINGS), cache=Cache(tmp_path / "file" / "cache")).cached == ()


def test_the_cache_is_bounded_and_the_longest_unused_goes(tmp_path):
    cache = Cache(tmp_path / "cache", limit=100_000)
    paths = [clip(tmp_path / f"{n}.mp4", n) for n in range(6)]
    config = resolve(SETTINGS)
    for number, path in enumerate(paths):
        encode(path, config, cache=cache)
        for age, entry in enumerate(sorted(cache.folder.iterdir(), key=lambda e: e.stat().st_mtime_ns)):
            os.utime(entry, (1000 * number + age, 1000 * number + age))
        assert sum(entry.stat().st_size for entry in cache.folder.iterdir()) <= 100_000
    assert encode(paths[-1], config, cache=cache).cached == ("frames", "tokens")
    assert "frames" not in encode(paths[0], config, cache=cache).cached
    small = Cache(tmp_path / "small", limit=1000)
    encode(paths[0], config, cache=small)
    assert not list(small.folder.glob("*")) if small.folder.exists() else True


def test_keys_tell_encoders_apart(cached):
    path, _ = cached
    key = video_key(path, {"frames": 3})
    assert key != video_key(path, {"frames": 4})
    config = resolve(SETTINGS)
    assert encoded_key(key, config.encoder(), {"seed": 0}) != encoded_key(key, config.encoder(), {"seed": 1})

    class Mine(type(config.encoder())):
        pass

    Mine.__module__ = "my_encoders"
    assert encoded_key(key, Mine(), {}) is None


def test_no_cache_on_the_command_line(tmp_path, monkeypatch):
    monkeypatch.setenv("STGRAPH_CACHE", str(tmp_path / "cache"))
    clip(tmp_path / "a.mp4")
    assert "from the cache" not in stgraph("compress", "a.mp4", *SETTINGS, "--no-cache", cwd=tmp_path).stdout
    assert not (tmp_path / "cache").exists()
    assert "from the cache" not in stgraph("compress", "a.mp4", *SETTINGS, cwd=tmp_path).stdout
    assert "(frames and tokens from the cache)" in stgraph("compress", "a.mp4", *SETTINGS, cwd=tmp_path).stdout


# -- configuration ----------------------------------------------------------------------------------------------------

MANY = "a: &a [1,1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"{new}: &{new} [{','.join(['*' + old] * 10)}]\n" for old, new in zip("abcde", "bcdef", strict=True)
)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("retention: 0.3\nretention: 0.4", "'retention' is given twice"),
        ("community:\n  name: leiden\n  name: louvain", "'name' is given twice"),
        ("video: {frames: 3, frames: 4}", "'frames' is given twice"),
        ("a: &x\n  b: *x", "contains itself through an alias"),
        ("a: &x [1, *x]", "contains itself through an alias"),
        (MANY, "more than 10000 values"),
        ("a: !!python/object/apply:os.system [ls]", "not a YAML file of settings"),
        ("[" * 1500, "not a YAML file of settings"),
        ("retention: 0.3\n---\nretention: 0.4", "not a YAML file of settings"),
        ("a: 2026-13-45", "not a YAML file of settings"),
    ],
)
def test_files_of_settings_that_are_none(tmp_path, text, sentence):
    file = tmp_path / "c.yaml"
    file.write_text(text)
    with pytest.raises(StgraphError, match=sentence) as error:
        load_config(file)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "data",
    [
        {"community": "planted:Thing"},
        {"community": {"name": "planted:Thing"}},
        {"encoder": {"name": "planted:Thing"}},
        {"selector": "planted:Thing"},
        {"community": {"name": "composed", "inner": {"name": "planted:Thing"}}},
        {"community": {"name": "composed", "outer": "planted:Thing"}},
        {"importance": {"name": "auto", "substitute": "planted:Thing"}},
        {"difference": ["planted:Thing"]},
    ],
)
def test_classes_in_a_file_are_refused_before_they_are_imported(tmp_path, monkeypatch, data):
    (tmp_path / "planted.py").write_text("import pathlib; pathlib.Path('run').write_text('x')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StgraphError, match=r"runs code from outside stgraph; add --trust"):
        resolve([], data)
    assert not (tmp_path / "run").exists()
    assert "planted" not in sys.modules


ROWS = """
from dataclasses import dataclass
from stgraph.community import CommunityDetector

@dataclass(frozen=True)
class Rows(CommunityDetector):
    def detect(self, graph):
        return graph.coords[:, 1]
"""


def test_a_detector_in_the_working_folder(tmp_path):
    """In processes of their own, as it changes where modules are looked for."""
    (tmp_path / "my_rows.py").write_text(ROWS)
    (tmp_path / "c.yaml").write_text("community: my_rows:Rows\n")
    clip(tmp_path / "a.mp4")

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-P", "-m", "stgraph", "compress", "a.mp4", *SETTINGS, *words]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    typed = run("community=my_rows:Rows", "-o", "typed")
    assert typed.returncode == 0, typed.stderr
    refused = run("-c", "c.yaml", "-o", "refused")
    assert (refused.returncode, "add --trust" in refused.stderr) == (2, True)
    trusted = run("-c", "c.yaml", "--trust", "-o", "trusted")
    assert trusted.returncode == 0, trusted.stderr
    assert Selection.load(tmp_path / "typed").digest == Selection.load(tmp_path / "trusted").digest


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("video.size=20000",), "size must be a whole number"),
        (("video.stride=9223372036854775808",), "stride must be a whole number"),
        (("video.frames=9223372036854775808",), "frames must be a whole number"),
        (("video.fps=1e300",), "fps must be a number"),
        (("video.start=1e308",), "start is 1e+308 s"),
        (("community=:",), "cannot be imported"),
        (("community=.os:x",), "cannot be imported"),
        (("community=os:",), "cannot be imported"),
        (("community=os:nothing",), "cannot be imported"),
        (("community=os.path:join",), "must be a dataclass derived from CommunityDetector"),
        (("community=broken_module:X",), "cannot be imported (SyntaxError"),
        (("community=raising_module:X",), "cannot be imported (ZeroDivisionError"),
        (("encoder=:",), "cannot be imported"),
        (("selector=a:",), "cannot be imported"),
        (("retention=1e-400",), "retention must be"),
        (("video.start=-1",), "start must be"),
        (("comunity=x",), "did you mean 'community'"),
        (("encoder.tokens_per_frame=99999999999999999999",), "tokens_per_frame must be"),
        (("similarity_threshold=1e999",), "must be"),
        (("difference.threshold=.nan",), "must be"),
    ],
)
def test_no_word_gives_a_traceback(tmp_path, words, sentence, monkeypatch):
    clip(tmp_path / "a.mp4")
    (tmp_path / "broken_module.py").write_text("def (")
    (tmp_path / "raising_module.py").write_text("1 / 0")
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    fails("compress", "a.mp4", *words, sentence=sentence)


@pytest.mark.parametrize("option", [("--window", 10**20), ("--window", 10**7), ("--context", 10**20), ("--window", -1)])
def test_windows_beyond_reason(tmp_path, option):
    clip(tmp_path / "a.mp4")
    fails("stream", tmp_path / "a.mp4", *option, "-o", tmp_path / "out", sentence="must be a whole number")


def test_unknown_settings_are_listed_once():
    with pytest.raises(StgraphError) as error:
        resolve(["zzzzzz=1"])
    listed = str(error.value).partition("known are ")[2].split(", ")
    assert listed
    assert len(listed) == len(set(listed))


# -- how to install ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("record", "command"),
    [
        (
            {"url": "file:///src/stgraph", "dir_info": {"editable": True}},
            '"stgraph-simdiff[graph] @ file:///src/stgraph"',
        ),
        (
            {"url": "https://example.org/x.git", "vcs_info": {"vcs": "git", "commit_id": "1"}},
            '"stgraph-simdiff[graph] @ git+https://example.org/x.git"',
        ),
        ({"url": "file:///w/stgraph.whl", "archive_info": {}}, '"stgraph-simdiff[graph] @ file:///w/stgraph.whl"'),
    ],
)
def test_the_hint_says_where_this_one_came_from(monkeypatch, record, command):
    class Installed:
        def read_text(self, name):
            return json.dumps(record) if name == "direct_url.json" else None

    monkeypatch.setattr("importlib.metadata.distribution", lambda name: Installed())
    assert install_hint("graph") == f"pip install {command}"


def test_the_hint_from_a_checkout_that_is_not_installed(monkeypatch):
    from importlib import metadata

    def absent(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.distribution", absent)
    checkout = Path(__file__).parents[2].as_uri()
    assert install_hint("graph") == f'pip install "stgraph-simdiff[graph] @ {checkout}"'
    assert install_hint() == f'pip install "stgraph-simdiff @ {checkout}"'
