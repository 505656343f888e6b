"""The experiments end to end on small clips, and what they promise: equal to direct runs, whatever the jobs."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from experiments import ablation, threshold_sensitivity
from experiments.clips import Clip, Source, load
from experiments.run import main, over
from experiments.score import interval, mean, without_model
from experiments.settings import read, register_groups
from stgraph import STSimDiff, VideoTokens
from stgraph.errors import StgraphError
from stgraph.registry import GROUPS, registry
from stgraph.selectors import Selector
from stgraph.signals import Signals

ROOT = Path(__file__).parents[2]
TINY = ["preset=quick", "rendered=[cut,noise]", "size=[64,96]", "video.frames=8", "encoder.tokens_per_frame=24"]
GRID = ["similarity_thresholds=[0.6,0.8,0.95]", "difference_thresholds=[0.2,0.8]"]


def tokens_seen(clip: Clip, selector: Selector) -> dict[str, float]:
    """A score of one's own, as a video LLM would bring it."""
    return {"accuracy": len(selector(clip.tokens, clip.signals)) / len(clip.tokens)}


def unknown_video(source: Source) -> list[float]:
    raise StgraphError(f"{source.name} is not a video")


def counted(number: int) -> list[float]:
    return [float(torch.get_num_threads()), number / 3]


@pytest.fixture(scope="module")
def clip() -> Clip:
    settings = read("threshold_sensitivity", TINY)
    return load(settings.sources[0], settings.runs[0][1])


# -- end to end -------------------------------------------------------------------------------------------------------


def test_ablation_end_to_end_and_jobs_do_not_matter(tmp_path):
    texts = []
    for jobs in (1, 2):
        words = [*TINY, "study=[paper,split]", "retention=0.3", f"jobs={jobs}", f"output={tmp_path / str(jobs)}"]
        texts.append(ablation.run(words).replace(str(tmp_path / str(jobs)), ""))
    one, two = (tmp_path / "1", tmp_path / "2")
    assert texts[0] == texts[1]
    for name in ("results.json", "results.csv", "results.md"):
        assert (one / name).read_bytes() == (two / name).read_bytes()
    assert sorted(path.name for path in one.iterdir()) == [
        "manifest.json",
        "paper.png",
        "results.csv",
        "results.json",
        "results.md",
        "split.png",
    ]
    results = json.loads((one / "results.json").read_text())["results"]
    assert len(results) == 8 + 10  # rows and floors of the two studies
    with (one / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["coverage"]) for row in rows] == [result["figures"]["coverage"] for result in results]
    full = next(r for r in results if r["configuration"] == "+ difference")
    assert full["figures"]["coverage"] == pytest.approx(
        sum(figures["coverage"] for figures in full["by_clip"].values()) / 2
    )
    assert "recall of cut" not in full["by_clip"]["noise"]
    assert [path for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_ablation_gives_what_the_selector_gives(tmp_path, clip):
    settings = read("ablation", [*TINY, "study=paper", "rendered=cut", "jobs=1", f"output={tmp_path / 'a'}"])
    rows = {(row.name, row.words["retention"]): row for row in ablation.measure(settings)}
    direct = without_model(clip, STSimDiff(retention=0.1, similarity_edges="spatial", difference=_difference("none")))
    assert rows["+ spatial similarity", "0.1"].by_clip == {"cut": direct}
    baseline = rows["importance (novelty)", "0.3"].figures
    assert baseline["communities"] == len(clip.tokens)  # every token is alone, so all are candidates
    assert baseline["candidates"] == pytest.approx(1 / 0.3, rel=0.02)


def test_threshold_sensitivity_end_to_end(tmp_path):
    words = [*TINY, *GRID, "retention=0.2,0.5", "jobs=1", f"output={tmp_path / 'out'}"]
    text = threshold_sensitivity.run(words)
    assert "retention 0.2" in text
    assert "the paper's" in text
    results = json.loads((tmp_path / "out" / "results.json").read_text())["results"]
    assert len(results) == 2 * (6 + 7)
    at = {(r["retention"], r["tau_sim"], r["tau_diff"]): r["figures"] for r in results}
    assert at["0.2", 0.6, 0.2]["communities"] <= at["0.2", 0.95, 0.2]["communities"]
    assert at["0.5", 0.8, 0.2]["candidates"] <= at["0.5", 0.8, 0.8]["candidates"]
    assert -1 <= at["0.2", "otsu", 0.2]["chosen"] <= 1
    assert (tmp_path / "out" / "threshold_sensitivity.png").stat().st_size > 10_000
    with pytest.raises(StgraphError, match="already holds a run"):
        threshold_sensitivity.run(words)
    threshold_sensitivity.run([*words, "overwrite=true", "retention=0.2", "rendered=noise"])


# -- the sweep --------------------------------------------------------------------------------------------------------


def _difference(name: str, **parameters: object) -> object:
    return registry("difference").build({"name": name, **parameters})


@pytest.mark.parametrize(
    "selector",
    [
        STSimDiff(retention=0.3),
        STSimDiff(retention=0.1, protect_events=True, similarity_edges="spatial"),
        STSimDiff(retention=0.2, community=registry("community").build("leiden"), difference=_difference("drift")),
    ],
    ids=["paper", "spatial, protected", "leiden and drift"],
)
def test_sweep_equals_direct_selection(clip, selector):
    pairs = [(0.6, 0.2), (0.6, 0.9), (0.8, 0.2), (0.97, 0.5), ("otsu", 0.2), ("representatives", 0.2), (0.8, "noise")]
    for (similarity, difference), (ready, chosen) in zip(
        pairs, threshold_sensitivity.sweep(clip, selector, pairs), strict=True
    ):
        detector = (
            _difference(difference)
            if isinstance(difference, str)
            else replace(selector.difference, threshold=difference)
        )
        direct = replace(selector, similarity_threshold=similarity, difference=detector)
        wanted, got = direct(clip.tokens), ready(clip.tokens)
        assert got.digest == wanted.digest
        assert torch.equal(got.community, wanted.community)
        if similarity == "otsu":
            fixed = replace(selector, similarity_threshold=chosen, difference=detector)(clip.tokens)
            assert fixed.digest == wanted.digest  # the number that is reported is the one that was used
        assert (chosen is None) == (not isinstance(similarity, str) and not isinstance(difference, str))


def test_sweep_finds_components_once(clip, monkeypatch):
    calls = []
    original = threshold_sensitivity.merge_tree
    monkeypatch.setattr(threshold_sensitivity, "merge_tree", lambda graph: calls.append(graph) or original(graph))
    pairs = [(threshold / 20, 0.2) for threshold in range(20)]
    assert len(list(threshold_sensitivity.sweep(clip, STSimDiff(), pairs))) == 20
    assert len(calls) == 1


# -- settings ---------------------------------------------------------------------------------------------------------


def test_words_mean_what_they_mean_to_stgraph():
    words = "community=sqrt_split community.detector=leiden community.detector.resolution=0.5 difference=drift,noise"
    settings = read("ablation", [*words.split(), "retention=0.1,0.3"])
    assert [run[0] for run in settings.runs] == [
        {"difference": difference, "retention": retention}
        for difference in ("drift", "noise")
        for retention in ("0.1", "0.3")
    ]
    assert settings.runs[0][1].data["community"]["detector"]["resolution"] == 0.5
    assert settings.runs[0][1].data["encoder"]["tokens_per_frame"] == 96


def test_every_registered_method_is_a_hydra_choice():
    from hydra.core.config_store import ConfigStore

    register_groups()
    for group in GROUPS:
        for name in registry(group):
            assert ConfigStore.instance().load(f"{group}/{name}.yaml").node["name"] == name


def test_a_study_of_a_group_has_a_row_for_every_registered_method():
    study = {"each": "difference", "leave_out": ["evs"], "variants": {"": [], ", x": ["importance=change"]}}
    rows = ablation.rows_of(study, {"floor": ["selector=random"]})
    assert set(rows) == {n + v for n in registry("difference") if n != "evs" for v in ("", ", x")} | {"floor"}
    assert rows["drift, x"] == ["difference=drift", "importance=change"]


@pytest.mark.parametrize("experiment", ["ablation", "threshold_sensitivity"])
@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("community=leidn", "no community called 'leidn'; did you mean 'leiden'"),
        ("community.resolutoin=1", "no parameter 'resolutoin'"),
        ("retention=0.1,2", "retention must be a number > 0 and ≤ 1, got 2"),
        ("jbos=2", "no setting 'jbos'; did you mean 'jobs'"),
        ("jobs=0", "jobs must be a whole number ≥ 1"),
        ("jobs=many", "jobs must be a whole number ≥ 1"),
        ("overwrite=2", "overwrite must be true or false"),
        ("rendered=[cut,flsh]", "did you mean 'flash'"),
        ("rendered=[]", "there is no clip"),
        ("videos=[nothing.mp4]", "there is no video file nothing.mp4"),
        ("score=experiments.score:magic", "score must be module:function"),
        ("preset=slow", "Could not find 'preset/slow'"),
        ("jobs=[1", "cannot be understood"),
        ("retention", "must have the form name=value"),
        ("encoder=descriptor,hf", "changes the tokens, but all settings"),
    ],
)
def test_bad_words_are_one_sentence(experiment, word, message):
    with pytest.raises(StgraphError) as caught:
        read(experiment, [word])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("similarity_threshold=0.7", "give similarity_thresholds"),
        ("difference=noise", "has no threshold to be varied"),
        ("selector=random", "leave the other selector out"),
        ("similarity_thresholds=[0.5,3]", "similarity_threshold must be a number ≥ -1 and ≤ 1, got 3"),
        ("difference_thresholds=[]", "difference_thresholds must be a list of numbers"),
    ],
)
def test_thresholds_that_cannot_be_swept(word, message):
    with pytest.raises(StgraphError, match=message):
        threshold_sensitivity.measure(read("threshold_sensitivity", [word]))


def test_bad_rows_are_told_before_any_work():
    with pytest.raises(StgraphError, match="no difference called 'nosie'; did you mean 'noise'"):
        ablation.measure(read("ablation", ["study=paper", "+study.paper.rows.x=['difference=nosie']"]))


@pytest.mark.parametrize("folder", ["output=README.md", "output=docs"])
def test_bad_output_folder_is_told_in_the_words_of_the_experiment(folder, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["ablation", folder])
    with pytest.raises(SystemExit) as ended:
        main(ablation.run, "")
    error = capsys.readouterr().err
    assert ended.value.code == 2
    assert error.startswith("error: output")
    assert "--o" not in error.replace("--output must", "")


# -- scores and processes ---------------------------------------------------------------------------------------------


def test_another_score_stands_behind_the_same_command(tmp_path):
    words = [*TINY, "study=paper", "score=tests.experiments.test_experiments:tokens_seen", "shown=[accuracy]", "jobs=1"]
    text = ablation.run([*words, "rendered=noise", f"output={tmp_path / 'out'}"])
    assert "accuracy<br>retention 0.1" in text
    results = json.loads((tmp_path / "out" / "results.json").read_text())["results"]
    assert all(
        result["figures"]["accuracy"] == pytest.approx(float(result["retention"]), abs=0.01) for result in results
    )


def test_mean_is_over_the_clips_that_have_a_figure():
    clips = [{"coverage": 0.5, "recall of cut": 1.0}, {"coverage": 1.0}, {"recall of cut": 0.0, "recall of fade": 0.0}]
    means = {"coverage": 0.75, "recall of cut": 0.5, "recall of fade": 0.0, "event recall": 0.25}
    assert mean(clips) == means
    assert mean([{"accuracy": 1.0}]) == {"accuracy": 1.0}


def test_without_candidates_no_communities_are_reported():
    tokens = VideoTokens.from_grid(torch.eye(8).reshape(2, 2, 2, 8))
    figures = without_model(Clip("eye", tokens, Signals(), {}), registry("selector").build("random"))
    assert set(figures) == {"coverage", "reconstruction error"}


def test_order_and_threads_of_processes():
    assert over(counted, [3, 1, 2], jobs=2, total=6) == [[1.0, 1.0], [1.0, 1 / 3], [1.0, 2 / 3]]


def test_an_error_in_a_process_is_told():
    with pytest.raises(StgraphError, match=r"[ab] is not a video"):
        over(unknown_video, [Source("a"), Source("b")], jobs=2, total=2)


@pytest.mark.slow
def test_interrupt_leaves_nothing_behind(tmp_path):
    command = [sys.executable, "-m", "experiments.ablation", "jobs=2", f"output={tmp_path / 'out'}"]
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, start_new_session=True)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("stgraph-clip-*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    error = process.communicate(timeout=60)[1].decode()
    assert process.returncode == 130
    assert error == "interrupted; nothing was written\n"
    assert list(tmp_path.iterdir()) == []


def test_intervals_are_over_the_clips_that_have_a_figure():
    clips = [{"coverage": 0.2, "recall of cut": 0.0}, {"coverage": 0.4, "recall of cut": 1.0, "recall of fade": 0.5}]
    coverage = interval([*clips, {}], "coverage")
    assert coverage == pytest.approx((0.3, 0.2, 0.4))
    recall = interval(clips, "event recall")
    assert recall.estimate == pytest.approx(mean(clips)["event recall"])
    assert (recall.low, recall.high) == pytest.approx((0.0, 0.75))  # the first clip twice, the second twice
    assert interval(clips, "communities") is None
