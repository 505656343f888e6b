"""Sweeps: what is done is never lost and never done again, whatever is killed; and bad input is one sentence."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from experiments.outcomes import Outcomes, read
from experiments.sweep import Plan, Progress, Store, run, settings_of
from experiments.sweep import store as storing
from experiments.sweep.__main__ import main, text
from experiments.sweep.evaluator import Result, Worker
from experiments.sweep.store import Counts
from stgraph.app.config import resolve
from stgraph.errors import StgraphError

ROOT = Path(__file__).parents[2]
EVALUATOR = "tests.experiments.stand_in:load"
WORDS = ["selector=none,simdiff,random", "retention=0.1,0.4"]
CELLS = 5  # the full model has no retention


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    return folder


@pytest.fixture
def plan():
    settings = [settings_of(None), settings_of(resolve(["retention=0.4"]))]
    return Plan({"model": "model", "benchmark": "stand-in 1"}, settings, [f"test/{number}" for number in range(3)])


def words(model: Path, results: Path, *more: str) -> list[str]:
    return [f"evaluator={EVALUATOR}", f"model={model}", f"results={results}", "workers=0", *more]


def killed_and_finished(model: Path, results: Path, *more: str, kills: int) -> None:
    """Run a sweep that is killed at random moments, and a last time to its end."""
    draw = random.Random(7)
    (model / "sleep").write_text("0.05")
    command = [sys.executable, "-m", "experiments.sweep", *WORDS, *words(model, results, "clips=12", *more)]
    for _ in range(kills):
        process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL, start_new_session=True)
        done = finished(results)
        deadline = time.monotonic() + 300
        while finished(results) <= done and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(draw.random() * 0.4)
        assert process.poll() is None, "it ended before it was killed"
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        with sqlite3.connect(results) as file:  # its claims are free at once, not after a minute
            file.execute("UPDATE sweep SET heartbeat = 0")
    assert 0 < finished(results) < CELLS * 12
    subprocess.run(command, cwd=ROOT, stderr=subprocess.DEVNULL, check=True, stdout=subprocess.DEVNULL)


def finished(results: Path) -> int:
    if not results.exists():
        return 0
    try:
        with sqlite3.connect(results) as file:
            return file.execute("SELECT count(*) FROM cell WHERE state = 'done'").fetchone()[0]
    except sqlite3.OperationalError:  # the tables are being made
        return 0


def same(first: Path, second: Path) -> None:
    one, two = read(first), read(second)
    assert list(one.configurations) == list(two.configurations)
    assert one.clips == two.clips
    assert np.array_equal(one.correct, two.correct)
    for name in ("coverage", "kept", "event recall"):
        assert np.array_equal(one.figures[name], two.figures[name], equal_nan=True)


# -- surviving --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kills", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_killed_at_random_moments_and_finished_equals_undisturbed(model, tmp_path, kills):
    killed_and_finished(model, tmp_path / "killed.sqlite", "workers=2", kills=kills)
    (model / "sleep").unlink()
    assert main([*WORDS, *words(model, tmp_path / "whole.sqlite", "clips=12")]) == 0
    same(tmp_path / "killed.sqlite", tmp_path / "whole.sqlite")


@pytest.mark.ray
def test_killed_at_random_moments_and_finished_equals_undisturbed_on_ray(model, tmp_path):
    killed_and_finished(model, tmp_path / "killed.sqlite", "engine=ray", "workers=2", kills=2)
    (model / "sleep").unlink()
    assert main([*WORDS, *words(model, tmp_path / "whole.sqlite", "clips=12")]) == 0
    same(tmp_path / "killed.sqlite", tmp_path / "whole.sqlite")


def test_finished_cells_are_never_run_again(model, tmp_path, capsys):
    results = tmp_path / "r.sqlite"
    assert main([*WORDS, *words(model, results, "clips=3")]) == 0
    first = read(results).figures["cell seconds"]
    assert main([*WORDS, *words(model, results, "clips=3")]) == 0
    assert np.array_equal(read(results).figures["cell seconds"], first)
    assert main(["selector=random", "retention=0.1,0.2", *words(model, results, "clips=4")]) == 0
    assert finished(results) == CELLS * 3 + 1 + 4  # one clip more of one configuration, and another configuration
    assert "retention 0.2 | 24 |" in capsys.readouterr().out


def test_several_sweeps_share_a_file(model, tmp_path):
    (model / "sleep").write_text("0.05")
    results = tmp_path / "shared.sqlite"
    command = [sys.executable, "-m", "experiments.sweep", *words(model, results, "clips=8")]
    grids = (WORDS, ["selector=simdiff,random,uniform", "retention=0.4"])
    sweeps = [subprocess.Popen([*command, *grid], cwd=ROOT, stdout=subprocess.DEVNULL) for grid in grids]
    assert [sweep.wait(timeout=300) for sweep in sweeps] == [0, 0]
    assert finished(results) == 8 * (CELLS + 1)
    with sqlite3.connect(results) as file:
        assert file.execute("SELECT max(attempts) FROM cell").fetchone() == (1,)  # no cell was run twice


def test_interrupt_keeps_what_is_done(model, tmp_path):
    (model / "sleep").write_text("0.1")
    results = tmp_path / "r.sqlite"
    command = [sys.executable, "-m", "experiments.sweep", *WORDS, *words(model, results, "clips=20", "workers=2")]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, start_new_session=True)
    deadline = time.monotonic() + 300
    while finished(results) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    error = process.communicate(timeout=120)[1].decode()
    assert process.returncode == 130
    assert error == "interrupted; finished cells are kept; run the same command again to continue\n"
    with sqlite3.connect(results) as file:
        states = dict(file.execute("SELECT state, count(*) FROM cell GROUP BY state"))
    assert states["done"] >= 3
    assert set(states) == {"done", "waiting"}


def test_a_failed_cell_keeps_its_error_and_can_be_retried(model, tmp_path, capsys):
    (model / "bad").write_text("validation/1")
    call = [*WORDS, *words(model, tmp_path / "r.sqlite", "clips=2")]
    assert main(call) == 1
    printed = capsys.readouterr().out
    assert "failed: selector none on validation/1: clip validation/1 cannot be rendered" in printed
    assert "5 cells failed; add retry=true" in printed
    (model / "bad").unlink()
    assert main(call) == 1
    assert main([*call, "retry=true"]) == 0
    assert finished(tmp_path / "r.sqlite") == 2 * CELLS


@pytest.mark.parametrize("engine", ["local", pytest.param("ray", marks=pytest.mark.ray)])
def test_a_worker_that_dies_is_replaced(model, tmp_path, engine):
    (model / "fatal").write_text("validation/1 xx")  # twice
    call = [*WORDS, *words(model, tmp_path / "r.sqlite", "clips=3", f"engine={engine}", "workers=1")]
    assert main(call) == 0
    assert finished(tmp_path / "r.sqlite") == 3 * CELLS


@pytest.mark.parametrize(
    "engine", [pytest.param("local", marks=pytest.mark.slow), pytest.param("ray", marks=pytest.mark.ray)]
)
def test_a_cell_that_kills_its_workers_fails_and_the_others_go_on(model, tmp_path, engine, capsys):
    (model / "fatal").write_text("validation/1 " + "x" * 99)
    call = ["selector=random", *words(model, tmp_path / "r.sqlite", "clips=3", f"engine={engine}", "workers=1")]
    assert main(call) == 1
    assert "failed: default on validation/1: 3 workers died while they ran it" in capsys.readouterr().out
    assert finished(tmp_path / "r.sqlite") == 2


def test_claims_of_a_dead_sweep_become_free(plan, tmp_path, monkeypatch):
    path = tmp_path / "r.sqlite"
    with Store(path) as living, Store(path) as dead:
        name = living.add(plan)
        dead.beat()
        assert dead.claim(name).clip == "test/0"
        living.beat()
        assert living.counts(name).running == 1
        monkeypatch.setattr(storing, "STALE_SECONDS", -1.0)
        living.beat()
        assert living.counts(name) == Counts(6, 0, 0, 0)


def test_claims_prefer_the_open_clip_then_one_that_nobody_has(plan, tmp_path):
    with Store(tmp_path / "r.sqlite") as store:
        name = store.add(plan)
        store.beat()
        asked = [None, "test/0", None, "test/0", None]
        assert [store.claim(name, clip).clip for clip in asked] == ["test/0", "test/0", "test/1", "test/2", "test/1"]


def test_a_name_depends_on_all_that_a_result_depends_on(plan):
    def named(**changes: object) -> str:
        values = {"identity": plan.identity, "settings": plan.settings[1:], "clips": ["test/0"]}
        return next(iter(Plan(**values | changes).cells)).name

    other = [
        named(identity={**plan.identity, "model": "other"}),
        named(settings=[settings_of(resolve(["retention=0.3"]))]),
        named(settings=[settings_of(resolve(["retention=0.4"]), trim="inside", layer=2)]),
        named(clips=["test/1"]),
    ]
    assert named() not in other
    assert len(set(other)) == len(other)
    assert named() == named(settings=[settings_of(resolve(["retention=0.4", "encoder=descriptor"]))])


# -- the file ---------------------------------------------------------------------------------------------------------


def test_disk_full_is_told_and_keeps_what_is_done(plan, tmp_path):
    path = tmp_path / "r.sqlite"
    store = Store(path)
    name = store.add(plan)
    store.beat()
    small = Result(("where",), (True,), (0.5,), {}, 0.1)
    store.finish(store.claim(name), small)
    pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
    store._connection.execute(f"PRAGMA max_page_count = {pages}")
    many = 100_000
    claim = store.claim(name)
    with pytest.raises(StgraphError, match="the disk is full: free some space and run the same command again"):
        store.finish(claim, Result(("where",) * many, (True,) * many, (0.5,) * many, {}, 0.1))
    store.close()
    with Store(path) as again:
        assert again.counts(name) == Counts(5, 0, 1, 0)
        again.finish(again.claim(name), small)


def test_a_file_of_another_version_is_refused_and_not_changed(tmp_path):
    path = tmp_path / "r.sqlite"
    Store(path).close()
    with sqlite3.connect(path) as file:
        file.execute("PRAGMA user_version = 7")
        file.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    file.close()
    before = path.read_bytes()
    with pytest.raises(StgraphError, match=r"has version 7, and this stgraph reads version 1; nothing was changed"):
        Store(path)
    assert path.read_bytes() == before


def test_files_of_something_else_are_refused(tmp_path):
    other = tmp_path / "other.sqlite"
    with sqlite3.connect(other) as file:
        file.execute("CREATE TABLE mine (x)")
    file.close()
    with pytest.raises(StgraphError, match="database of something else"):
        Store(other)
    text_file = tmp_path / "notes.txt"
    text_file.write_text("no database " * 100)
    with pytest.raises(StgraphError, match="it is no results file"):
        Store(text_file)
    with pytest.raises(StgraphError, match="there is no results file"):
        Store(tmp_path / "none.sqlite", create=False)


def test_the_compact_file_holds_the_same_outcomes(model, tmp_path):
    assert main([*WORDS, *words(model, tmp_path / "r.sqlite", "clips=11")]) == 0
    assert main(["selector=uniform", *words(model, tmp_path / "r.sqlite", "clips=2")]) == 0  # with gaps
    whole = read(tmp_path / "r.sqlite")
    whole.save(tmp_path / "outcomes.safetensors")
    compact = read(tmp_path / "outcomes.safetensors")
    assert np.array_equal(compact.correct, whole.correct, equal_nan=True)
    assert np.isnan(compact.correct).sum() == 9 * 6
    assert compact.configurations == whole.configurations
    assert compact.clips == whole.clips
    assert np.array_equal(compact.kind, whole.kind)
    assert np.allclose(compact.figures["coverage"], whole.figures["coverage"], atol=1e-3, equal_nan=True)
    (tmp_path / "other").write_bytes(b"x" * 100)
    with pytest.raises(StgraphError, match="cannot be read"):
        read(tmp_path / "other")
    with pytest.raises(StgraphError, match="there is no file"):
        read(tmp_path / "none")


def test_outcomes_of_two_versions_of_the_benchmark_are_not_mixed(plan, tmp_path):
    with Store(tmp_path / "r.sqlite") as store:
        store.add(plan)
        store.add(Plan({**plan.identity, "benchmark": "stand-in 2"}, plan.settings, plan.clips))
        with pytest.raises(StgraphError, match="one version of the benchmark, found: stand-in 1, stand-in 2"):
            Outcomes.of(store)
        with pytest.raises(StgraphError, match="no finished cell"):
            Outcomes.of(store, "stand-in 1")


# -- the command ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("retention", "must have the form name=value"),
        ("comunity=leiden", "there is no setting 'comunity'; did you mean 'community'"),
        ("wrkers=2", "there is no setting 'wrkers'; did you mean 'workers'"),
        ("community=leidn", "did you mean 'leiden'"),
        ("clips=0", "clips must be a whole number ≥ 1"),
        ("split=tset", "did you mean 'test'"),
        ("workers=1,2", "workers takes one value"),
        ("workers=-1", "workers must be a whole number ≥ 0"),
        ("knobs=0.2", "knobs are given one by one"),
        ("engine=dask", "engine must be one of local, ray"),
        ("address=auto", "add engine=ray"),
        ("trim=between", "trim must be one of before, inside"),
        ("layer=-1", "layer must be a whole number ≥ 0"),
        ("model=nowhere", "there is no model nowhere"),
        ("evaluator=nothing:at_all", "evaluator must be module:function"),
        ("limit=4", "the grid has 100 cells, more than limit=4; add --yes"),
    ],
)
def test_bad_words_are_one_sentence(word, message, model, tmp_path, capsys):
    assert main([*words(model, tmp_path / "r.sqlite", "clips=100"), word]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert message in error
    assert not (tmp_path / "r.sqlite").exists()


def test_an_empty_grid_is_told(tmp_path):
    with (
        Store(tmp_path / "r.sqlite") as store,
        pytest.raises(StgraphError, match="the grid is empty: it needs at least one configuration and one clip"),
    ):
        run(Plan({}, [], ["test/0"]), store, (EVALUATOR, "."))


def test_settings_without_effect_are_told(model, tmp_path, capsys):
    assert main([*words(model, tmp_path / "r.sqlite"), "selector=none", "community=leiden"]) == 2
    assert "sees all tokens, so 'community=leiden' has no effect" in capsys.readouterr().err


def test_knobs_and_places_are_axes(model, tmp_path):
    call = words(model, tmp_path / "r.sqlite", "clips=2", "knobs.noise=0,0.2", "trim=before,inside", "selector=random")
    assert main(call) == 0
    outcomes = read(tmp_path / "r.sqlite")
    assert outcomes.clips == ("validation/0?noise=0", "validation/0?noise=0.2", *outcomes.clips[2:])
    assert [each["trim"] for each in outcomes.configurations.values()].count("inside") == 1
    assert outcomes.correct.shape == (2, 24)


def test_progress_in_words():
    assert text(Progress(Counts(100, 2, 96, 2), 38, 20.0)) == "98 of 200 cells, 2 failed, 3.00 a second, 34 s left"
    assert text(Progress(Counts(3, 0, 0, 0), 0, 0.0)) == "0 of 3 cells"


def test_a_cell_is_what_a_direct_selection_gives(model):
    from tests.experiments.stand_in import Clip

    settings = settings_of(resolve(["selector=random", "retention=0.4"]))
    result = Worker(EVALUATOR, str(model), 1).measure(settings, "test/3")
    clip = Clip("test/3", 0)
    selection = resolve(["selector=random", "retention=0.4"]).selector()(clip.tokens)
    assert result.correct == clip.answer(resolve(["selector=random", "retention=0.4"]).selector()).correct
    assert result.figures["kept"] == len(selection)
    assert result.figures["tokens"] == len(clip.tokens)
