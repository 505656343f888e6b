"""Output folders are whole or not there, and never take the place of what no run of ours wrote."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from stgraph import StgraphError
from stgraph.app import output as module
from stgraph.app.manifest import MANIFEST, is_complete
from stgraph.app.output import check_output, default_output, new_output, output_folder


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def write_run(path, text, **options):
    with output_folder(path, **options) as folder:
        (folder / "selection.json").write_text(text)


def test_appears_whole(tmp_path):
    path = tmp_path / "deep" / "run"
    with output_folder(path) as folder:
        (folder / "selection.json").write_text("1")
        assert not path.exists()
    assert (path / "selection.json").read_text() == "1"
    assert names(path.parent) == ["run"]


def test_nothing_is_left_after_an_error(tmp_path):
    def fail(folder):
        (folder / "half").write_text("x")
        raise RuntimeError

    with pytest.raises(RuntimeError), output_folder(tmp_path / "run") as folder:
        fail(folder)
    assert names(tmp_path) == []


def test_never_overwrites_unless_asked(tmp_path):
    write_run(tmp_path / "run", "old")
    with pytest.raises(StgraphError, match=r"already holds a run.*--overwrite"):
        write_run(tmp_path / "run", "new")
    write_run(tmp_path / "run", "new", overwrite=True)
    assert (tmp_path / "run" / "selection.json").read_text() == "new"
    with pytest.raises(RuntimeError), output_folder(tmp_path / "run", overwrite=True):
        raise RuntimeError
    assert (tmp_path / "run" / "selection.json").read_text() == "new"
    assert names(tmp_path) == ["run"]


def test_never_deletes_what_is_no_run(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(StgraphError, match="holds files, but no run"):
            write_run(tmp_path, "x", overwrite=overwrite)
    assert names(tmp_path) == ["thesis.tex"]


def test_empty_folder_is_used(tmp_path):
    (tmp_path / "run").mkdir()
    write_run(tmp_path / "run", "x")
    assert names(tmp_path / "run") == [MANIFEST, "selection.json"]


def test_file_in_the_way(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StgraphError, match="is a file"):
        write_run(tmp_path / "file", "x")
    with pytest.raises(StgraphError, match="is not a folder"):
        write_run(tmp_path / "file" / "run", "x")


@pytest.mark.parametrize(
    ("code", "sentence"),
    [(errno.ENOSPC, "the disk is full"), (errno.EACCES, "not writable"), (errno.EIO, "cannot be written")],
)
def test_system_errors_are_sentences(tmp_path, code, sentence):
    write_run(tmp_path / "run", "old")
    with pytest.raises(StgraphError, match=sentence), output_folder(tmp_path / "run", overwrite=True):
        raise OSError(code, os.strerror(code))
    assert names(tmp_path) == ["run"]
    assert (tmp_path / "run" / "selection.json").read_text() == "old"


def test_unwritable_parent(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("tempfile.mkdtemp", refuse)
    with pytest.raises(StgraphError, match="not writable"):
        check_output(tmp_path / "run")
    with pytest.raises(StgraphError, match="not writable"):
        write_run(tmp_path / "run", "x")


# -- what is never lost -----------------------------------------------------------------------------------------------


def with_notes(run):
    (run / "notes.txt").write_text("years of work")


def with_input(run):
    (run / "clip.mp4").write_bytes(b"video")


def with_change(run):
    (run / "selection.json").write_text("my own")


def with_folder(run):
    (run / "mine").mkdir()


def with_link(run):
    (run / "selection.json").unlink()
    (run / "selection.json").symlink_to(run.parent / "elsewhere")


def with_hidden(run):
    (run / ".hidden").write_text("x")


def with_two(run):
    (run / "a").mkdir()
    (run / "a" / "b.txt").write_text("x")


def without_manifest(run):
    (run / MANIFEST).unlink()


def with_a_manifest_that_claims_more(run):
    (run / MANIFEST).write_text(json.dumps({"files": {"../elsewhere": {}, "selection.json": {}}}))


def with_no_json(run):
    (run / MANIFEST).write_text("{")


CHANGES = [
    with_notes,
    with_input,
    with_change,
    with_folder,
    with_link,
    with_hidden,
    with_two,
    without_manifest,
    with_a_manifest_that_claims_more,
    with_no_json,
]


@pytest.mark.parametrize("change", CHANGES)
def test_overwrite_replaces_only_what_a_run_wrote(tmp_path, change):
    run = tmp_path / "run"
    (tmp_path / "elsewhere").write_text("elsewhere")
    write_run(run, "old")
    change(run)
    before = {path: path.read_bytes() if path.is_file() else None for path in tmp_path.rglob("*")}
    with pytest.raises(StgraphError, match=r"holds files(, but no run| that stgraph did not write)"):
        check_output(run, overwrite=True)
    with pytest.raises(StgraphError, match=r"holds files(, but no run| that stgraph did not write)"):
        write_run(run, "new", overwrite=True)
    assert {path: path.read_bytes() if path.is_file() else None for path in tmp_path.rglob("*")} == before


@pytest.mark.parametrize("change", CHANGES)
def test_aside_keeps_what_is_not_as_a_run_wrote_it(tmp_path, change):
    run = tmp_path / "run"
    write_run(run, "old")
    change(run)
    before = names(run)
    write_run(run, "new", overwrite=True, aside=True)
    assert (run / "selection.json").read_text() == "new"
    assert names(tmp_path / "run-2") == before


def test_what_comes_to_lie_there_meanwhile_is_kept(tmp_path):
    for number, come in enumerate(("folder", "file", "link")):
        path = tmp_path / f"run{number}"

        def comes(new, path=path, come=come):
            (new / "selection.json").write_text("ours")
            if come == "folder":
                path.mkdir()
                (path / "theirs").write_text("x")
            elif come == "file":
                path.write_text("theirs")
            else:
                path.symlink_to("nowhere")

        with pytest.raises(StgraphError, match=f"{path.name}-2"), output_folder(path) as new:
            comes(new)
        assert (tmp_path / f"run{number}-2" / "selection.json").read_text() == "ours"
        assert path.is_symlink() or path.is_file() or names(path) == ["theirs"]


def test_notes_that_come_during_an_overwrite_are_kept(tmp_path):
    run = tmp_path / "run"
    write_run(run, "old")

    def comes(new):
        (new / "selection.json").write_text("new")
        (run / "notes.txt").write_text("x")

    with pytest.raises(StgraphError, match="also holds files"), output_folder(run, overwrite=True) as new:
        comes(new)
    assert (run / "notes.txt").read_text() == "x"
    assert (run / "selection.json").read_text() == "old"


def test_two_runs_at_once_both_keep_their_results(tmp_path):
    with new_output(tmp_path / "run", numbered=True) as one, new_output(tmp_path / "run", numbered=True) as two:
        for number, out in enumerate((one, two)):
            (out.folder / "result").write_text(str(number))
    assert [out.path.name for out in (one, two)] == ["run", "run-2"]
    assert [(out.path / "result").read_text() for out in (one, two)] == ["0", "1"]


def test_runs_are_numbered(tmp_path):
    (tmp_path / "run-2").write_text("a file")
    (tmp_path / "run-3").symlink_to("nowhere")
    paths = []
    for _ in range(3):
        with new_output(tmp_path / "run", numbered=True) as out:
            (out.folder / "x").write_text("x")
        paths.append(out.path.name)
    assert paths == ["run", "run-4", "run-5"]
    with pytest.raises(RuntimeError), new_output(tmp_path / "run", numbered=True):
        raise RuntimeError
    assert not (tmp_path / "run-6").exists()


@pytest.mark.parametrize("exists", [True, False])
def test_a_link_stays_a_link(tmp_path, exists):
    target = tmp_path / "disk" / "target"
    if exists:
        target.mkdir(parents=True)
    (tmp_path / "run").symlink_to(target)
    write_run(tmp_path / "run", "one")
    assert (tmp_path / "run").is_symlink()
    assert (target / "selection.json").read_text() == "one"
    write_run(tmp_path / "run", "two", overwrite=True)
    assert (tmp_path / "run").is_symlink()
    assert (target / "selection.json").read_text() == "two"
    assert names(target.parent) == ["target"]


@pytest.mark.parametrize("step", range(6))
def test_an_interruption_anywhere_loses_nothing(tmp_path, monkeypatch, step):
    """Whatever rename is interrupted, before or after it is done, one whole run is there and nothing else."""
    run = tmp_path / "run"
    write_run(run, "old")
    real, calls = module.Path.rename, []

    def interrupted(self, target):
        calls.append(target)
        if len(calls) - 1 == step // 2 and step % 2 == 0:
            raise KeyboardInterrupt
        result = real(self, target)
        if len(calls) - 1 == step // 2:
            raise KeyboardInterrupt
        return result

    monkeypatch.setattr(module.Path, "rename", interrupted)
    try:
        write_run(run, "new", overwrite=True)
        assert step > 3  # there are two renames
    except KeyboardInterrupt:
        pass
    monkeypatch.undo()
    assert names(tmp_path) == ["run"]
    assert (run / "selection.json").read_text() in ("old", "new")
    assert is_complete(run)


KILLED = """
import os, sys
from pathlib import Path
from stgraph.app import output
real = Path.rename
def rename(self, target):
    result = real(self, target)
    if "old" in Path(target).parts:
        os.kill(os.getpid(), 9)
    return result
output.Path.rename = rename
with output.output_folder(sys.argv[1], overwrite=True) as new:
    (new / "selection.json").write_text("new")
    if sys.argv[2] == "early":
        os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("when", ["early", "between"])
def test_a_killed_run_is_cleared_away_by_the_next(tmp_path, monkeypatch, when):
    run = tmp_path / "run"
    write_run(run, "old")
    killed = subprocess.run([sys.executable, "-c", KILLED, run, when], check=False)
    assert killed.returncode == -signal.SIGKILL
    (left,) = tmp_path.glob(".stgraph-*.partial")
    write_run(tmp_path / "other", "x")
    assert left.exists()  # it is so young that its run may be about to lock it
    old = time.time() - 60
    os.utime(left, (old, old))
    write_run(tmp_path / "more", "x")
    assert names(tmp_path) == ["more", "other", "run"]
    assert (run / "selection.json").read_text() == "old"
    assert is_complete(run)


def test_a_run_that_is_working_is_left_alone(tmp_path):
    with output_folder(tmp_path / "one") as new:
        (new / "selection.json").write_text("one")
        old = time.time() - 3600
        os.utime(new.parents[1], (old, old))
        write_run(tmp_path / "two", "two")
    assert names(tmp_path) == ["one", "two"]


@pytest.mark.parametrize("name", ["x" * 300, "/".join(["y" * 200] * 30)])
def test_names_that_are_too_long_are_told_before_the_work(tmp_path, name):
    with pytest.raises(StgraphError, match="too long"):
        check_output(tmp_path / name)
    with pytest.raises(StgraphError, match="too long"):
        write_run(tmp_path / name, "x")
    assert names(tmp_path) == []


def test_a_name_that_just_fits(tmp_path):
    write_run(tmp_path / ("x" * 255), "x")
    write_run(tmp_path / ("x" * 255), "y", overwrite=True)
    assert names(tmp_path) == ["x" * 255]


def test_folders_that_one_is_in_are_refused(tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    monkeypatch.chdir(tmp_path / "in")
    for path in (".", "..", "../in", tmp_path, ""):
        with pytest.raises(StgraphError, match="is the current folder or holds it"):
            write_run(path, "x")


@pytest.mark.parametrize(
    ("video", "name"),
    [
        ("clip.mp4", "clip"),
        ("..mp4", "clip"),
        ("...mp4", "clip"),
        ("....mp4", "clip"),
        (".mp4", "mp4"),
        (". .mp4", "clip"),
        ("a/b.c.mkv", "b.c"),
        ("x" * 251 + ".mp4", "x" * 200),
        ("\u00e9" * 120 + ".mp4", "\u00e9" * 100),
        ("caf\udce9.mp4", "caf\udce9"),
        ("$x$.mp4", "$x$"),
        ("\u4e2d\u6587.mp4", "\u4e2d\u6587"),
    ],
)
def test_default_output_is_inside_outputs(video, name):
    path = default_output(video)
    assert path.parts == ("outputs", name)
    assert default_output(video, "stream-").parts == ("outputs", f"stream-{name}")


def test_parents_that_were_made_go_again_after_an_error(tmp_path):
    with pytest.raises(RuntimeError), output_folder(tmp_path / "a" / "b" / "run"):
        raise RuntimeError
    assert names(tmp_path) == []
