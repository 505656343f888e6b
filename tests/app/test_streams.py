"""Streams that are closed, full, narrow or gone never cost the work that was done; Ctrl-C says so."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

WORK = """
import sys
from pathlib import Path
from stgraph.app.streams import run
def command():
    print("kept ⌈r·N⌉ of naïve 文字")
    for _ in range(3000):
        print("a long line that fills a pipe and every buffer on the way to it")
    Path(sys.argv[1]).write_text("done", "utf-8")
    print("written", file=sys.stderr)
run(command)
"""

CLI = """
import sys, time
from stgraph.app import cli
@cli.app.command()
def wait():
    print("ready", flush=True)
    time.sleep(60)
@cli.app.command()
def fine():
    print("fine")
cli.main()
"""


def shell(words: str, folder, **environment: str) -> subprocess.CompletedProcess[str]:
    (folder / "work.py").write_text(WORK, "utf-8")
    command = f'"{sys.executable}" "{folder}/work.py" "{folder}/result" {words}'
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"],
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, **environment},
        check=False,
    )


@pytest.mark.parametrize(
    ("words", "code", "stderr"),
    [
        ("", 0, "written\n"),
        ("| head -1", 0, "written\n"),
        (">&-", 0, "written\n"),
        ("2>&-", 0, ""),
        (">&- 2>&-", 0, ""),
        ("<&- >&- 2>&-", 0, ""),
        (">/dev/full", 1, "written\nerror: the standard output cannot be written (No space left on device)"),
        ("2>/dev/full", 1, ""),
        (">/dev/full 2>/dev/full", 1, ""),
        ("> >(exec >&-; sleep 0.1)", 0, "written\n"),
    ],
)
def test_the_work_is_done_whatever_becomes_of_the_words(words, code, stderr, tmp_path):
    done = shell(words, tmp_path)
    assert (tmp_path / "result").read_text("utf-8") == "done"
    assert done.returncode == code
    assert done.stderr.startswith(stderr)
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "cp437", "utf-16", "utf-8:strict"])
def test_characters_that_an_encoding_lacks_are_escapes(encoding, tmp_path):
    (tmp_path / "work.py").write_text(WORK, "utf-8")
    done = subprocess.run(
        [sys.executable, str(tmp_path / "work.py"), str(tmp_path / "result")],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": encoding},
        check=False,
    )
    assert done.returncode == 0
    assert (tmp_path / "result").read_text("utf-8") == "done"
    text = done.stdout.decode(encoding.partition(":")[0])
    assert text.splitlines()[0].startswith("kept ")
    if encoding == "ascii":
        assert text.splitlines()[0] == r"kept \u2308r\xb7N\u2309 of na\xefve \u6587\u5b57"
    if encoding.startswith("utf"):
        assert text.splitlines()[0] == "kept ⌈r·N⌉ of naïve 文字"


def test_an_interruption_is_told_in_one_sentence(tmp_path):
    """Through the real command line, whose library ends without a word."""
    process = subprocess.Popen(
        [sys.executable, "-c", CLI, "wait"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stderr == "interrupted; what was not finished was not written\n"


@pytest.mark.parametrize(
    ("words", "code", "stdout", "stderr"),
    [
        (["fine"], 0, "fine\n", ""),
        (["compress", "missing.mp4", "retention=2"], 2, "", "error: retention must be"),
        (["no-such-command"], 2, "", "Usage"),
        (["--version"], 0, "stgraph ", ""),
    ],
)
def test_all_other_ends_are_what_they_were(words, code, stdout, stderr, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", CLI, *words], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == code
    assert done.stdout.startswith(stdout)
    assert done.stderr.startswith(stderr)
    assert "Traceback" not in done.stderr
