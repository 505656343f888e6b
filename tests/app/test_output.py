"""Output folders are whole or not there."""

from __future__ import annotations

import errno
import os

import pytest

from stgraph import StgraphError
from stgraph.app.output import output_folder


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
        with pytest.raises(StgraphError, match="holds files that are not a run"):
            write_run(tmp_path, "x", overwrite=overwrite)
    assert names(tmp_path) == ["thesis.tex"]


def test_empty_folder_is_used(tmp_path):
    (tmp_path / "run").mkdir()
    write_run(tmp_path / "run", "x")
    assert names(tmp_path / "run") == ["selection.json"]


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
        write_run(tmp_path / "run", "x")
