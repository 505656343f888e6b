"""Studies, the results page, the search and the leaderboard: numbers follow from outcomes, words from numbers."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

import stgraph
from experiments import leaderboard, results, search, statistics
from experiments.leaderboard import Entry
from experiments.outcomes import Outcomes, model_of, read
from experiments.statistics import accuracy, difference, holm
from experiments.studies import catalogue
from experiments.studies.__main__ import main
from experiments.studies.catalogue import FULL, PAPER, Study, peers, settings, studies
from experiments.studies.measure import measure
from experiments.studies.report import answer, clips_of, report
from experiments.studies.words import paragraphs
from experiments.sweep.cells import content, digest, settings_of
from experiments.sweep.evaluator import clip_name
from stgraph.registry import registry

STAND_IN = ["evaluator=tests.experiments.stand_in:load", "workers=0"]


def outcomes_of(rates: dict[tuple[str, float], float], study: Study, clips: int = 60) -> Outcomes:
    """Outcomes in which each row of a study is right at a rate of its own; rows without one were not measured."""
    rng = np.random.default_rng(0)
    identity = {"model": "m", "benchmark": "b"}
    points = [point for point in study.points() if (point.row, point.retention) in rates]
    contents = {digest(each): each for each in (content(point.settings, identity) for point in points)}
    clip = np.repeat(np.arange(clips), 6)
    luck = rng.random(len(clip))
    correct = np.stack([luck < rates[point.row, point.retention] for point in points]).astype(np.float32)
    coverage = np.stack(
        [np.full(clips, rates[point.row, point.retention]) + 0.01 * rng.random(clips) for point in points]
    )
    figures = {"coverage": coverage.astype(np.float32), "frame spread": rng.random(coverage.shape).astype(np.float32)}
    names = tuple(clip_name("test", number, {}) for number in range(clips))
    kind = np.array(["where", "when", "order"] * (2 * clips))
    return Outcomes("b", contents, names, clip, kind, correct, figures)


@pytest.fixture(scope="module")
def detectors() -> Outcomes:
    """Leiden is better than the paper's default, spectral worse, Louvain the same."""
    rates = {(FULL, 1.0): 0.95}
    for retention in (0.1, 0.3):
        rates |= {
            (PAPER, retention): 0.6,
            ("louvain", retention): 0.6,
            ("leiden", retention): 0.75,
            ("spectral", retention): 0.4,
            ("random tokens", retention): 0.5,
        }
    return outcomes_of(rates, studies()["community"])


# -- the catalogue ----------------------------------------------------------------------------------------------------


def test_every_row_of_every_study_can_be_built():
    for study in studies().values():
        for point in study.points([0.1]):
            if point.settings["selector"] is not None:
                registry("selector").build(point.settings["selector"])
        assert study.base in study.rows


def test_every_peer_is_a_row_of_the_comparison():
    rows = studies()["peers"].rows
    listed = {words[0].removeprefix("selector=") for words in rows.values() if words}
    left_out = set(registry("selector")) - listed - {"simdiff"}
    for name in left_out - set(catalogue.OWN):
        with pytest.raises(ValueError, match="must"):
            registry("selector").build(name)


def test_words_of_a_row_are_those_of_the_command_line():
    inside = settings(("selector=fastv", "trim=inside", "layer=3"), 0.2)
    assert (inside["trim"], inside["layer"]) == ("inside", 3)
    assert inside["selector"]["name"] == "fastv"
    assert inside["selector"]["retention"] == 0.2


# -- numbers ----------------------------------------------------------------------------------------------------------


def test_lines_hold_the_statistics_of_the_outcomes(detectors):
    study = studies()["community"]
    found = measure(study, detectors, "m", clips_of(study, detectors, "test"))
    leiden, paper = (found.line(name, 0.1) for name in ("leiden", PAPER))
    one, two = detectors.correct[leiden.number], detectors.correct[paper.number]
    assert leiden.accuracy == accuracy(one, detectors.clip)
    assert leiden.difference == difference(one, two, detectors.clip)
    assert paper.difference is None
    assert set(found.missing) == set(study.rows) - {PAPER, "louvain", "leiden", "spectral", "random tokens"}
    assert leiden.by_kind["when"] == pytest.approx(one[detectors.kind == "when"].mean())
    tested = [line for line in found.lines if line.difference is not None]
    assert [line.holm for line in tested] == holm([line.difference.p for line in tested])


def test_only_questions_that_both_were_asked_count(detectors):
    study = studies()["community"]
    correct = detectors.correct.copy()
    leiden = detectors.row(settings(("community=leiden",), 0.1), "m")
    correct[leiden, :150] = np.nan  # 25 clips
    found = measure(study, replace(detectors, correct=correct), "m", clips_of(study, detectors, "test"))
    assert found.line("leiden", 0.1).questions.sum() == 210
    assert found.line("louvain", 0.1).questions.sum() == 360


def test_words_follow_from_the_numbers(detectors):
    study = studies()["community"]
    found = measure(study, detectors, "m", clips_of(study, detectors, "test"))
    assert answer(found).startswith(f"{study.question} There is better: leiden, +1")
    same = replace(found, lines=tuple(line for line in found.lines if line.row not in ("leiden", "spectral")))
    told = answer(same)
    assert f"Nothing better than {PAPER} is shown" in told
    assert "the best is louvain, 0.0 [0.0, 0.0] points" in told
    late = replace(found, lines=tuple(line for line in found.lines if line.row != "leiden" or line.retention > 0.1))
    assert re.search(r"Nothing better .* At 30% there is better: leiden, \+1\d\.\d \[.*\]\.$", answer(late))
    text = report("community", detectors, "m", "test").text("x.png", "command")
    assert "of 3 rows held against paper's default 1 are better and 1 worse beyond chance" in text
    assert re.search(r"\| leiden \| 7\d\.\d \[.*\] \| \*\*\+1\d\.\d \[.*\]\*\* \| < 0.001 \|", text)
    assert "Not measured: multiplex" in text
    assert re.search(r"at 10%, \+1\d\.\d \[.*\] at 30%\.$", answer(found))  # each retention has its gain


def test_each_table_says_what_it_rests_on(detectors):
    correct = detectors.correct.copy()
    for words in ((), *studies()["community"].rows.values()):
        row = detectors.row(settings(words, 0.3), "m")
        if row is not None:
            correct[row, detectors.clip >= 40] = np.nan
    table = report("community", replace(detectors, correct=correct), "m", "test").table
    assert "**10% of the tokens** (360 questions about 60 clips)" in table
    assert "**30% of the tokens** (240 questions about 40 clips)" in table


def test_lengths_are_told_by_what_is_lost():
    study = replace(studies()["length"], conditions={"8 frames": {}, "again": {}}, retentions=(0.1, 0.3))
    rates = {(FULL, 1.0): 0.9, (PAPER, 0.1): 0.5, (PAPER, 0.3): 0.7, ("random tokens", 0.1): 0.3}
    outcomes = outcomes_of(rates, study)
    found = measure(study, outcomes, "m", clips_of(study, outcomes, "test"))
    full, paper = outcomes.row(settings_of(None), "m"), outcomes.row(settings((), 0.1), "m")
    loss = difference(outcomes.correct[paper], outcomes.correct[full], outcomes.clip).interval
    lost = statistics.words(loss, sign=True)
    assert answer(found).endswith(f"At 10%, {PAPER} loses, in points: {lost} with 8 frames and {lost} with again.")
    assert f"At 10%: {lost} with 8 frames and {lost} with again. At 30%: −" in paragraphs(found)[1]


def test_the_metric_that_follows_accuracy_is_found(detectors):
    found = report("metrics", detectors, "m", "test")
    assert "Coverage: Spearman 1.00" in found.answer or "Coverage: Spearman 0.9" in found.answer
    assert "| 10% | coverage | 5 |" in found.table
    assert "leiden" in found.table


def test_what_compression_breaks(detectors):
    found = report("questions", detectors, "m", "test")
    assert "3 of 3 types lose beyond chance" in found.answer
    assert "| order | 9" in found.table


# -- commands ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def words(tmp_path):
    (tmp_path / "model").mkdir()
    return [*STAND_IN, f"model={tmp_path / 'model'}", f"results={tmp_path / 'r.sqlite'}"]


def test_a_study_is_measured_once_and_written_from_saved_results(words, tmp_path, capsys):
    call = ["split", *words, "retention=[0.3]", "clips=5", f"output={tmp_path / 'out'}"]
    assert main(call) == 0
    printed = capsys.readouterr().out
    assert "## (d) Splitting large communities" in printed
    assert (tmp_path / "out" / "split.png").stat().st_size > 10_000
    read(tmp_path / "r.sqlite").save(tmp_path / "outcomes.safetensors")
    (tmp_path / "model").rmdir()  # nothing of it is needed
    (tmp_path / "r.sqlite").unlink()
    assert main([*call, "--saved", f"outcomes={tmp_path / 'outcomes.safetensors'}"]) == 0
    assert answers(capsys.readouterr().out) == answers(printed)


def answers(text: str) -> list[str]:
    """The page without the columns of other figures, which the compact file holds to three digits."""
    return [" | ".join(line.split(" | ")[:4]) if line.startswith("|") else line for line in text.splitlines()]


def test_check_compares_with_the_published_outcomes(words, tmp_path, capsys):
    call = ["release", *words, "retention=[0.3]", "clips=5", f"output={tmp_path / 'out'}"]
    published = f"outcomes={tmp_path / 'outcomes.safetensors'}"
    assert main(call) in (0, 1)
    outcomes = read(tmp_path / "r.sqlite")
    outcomes.save(tmp_path / "outcomes.safetensors")
    assert main([*call, published, "--saved", "--check"]) == 0
    assert "figures lie within the published intervals" in capsys.readouterr().out
    replace(outcomes, correct=1 - outcomes.correct).save(tmp_path / "outcomes.safetensors")
    assert main([*call, published, "--saved", "--check"]) == 1


def test_bad_words_are_one_sentence(words, capsys):
    for call, message in (
        (["papr"], "did you mean 'paper'"),
        (["retention=[0.1]"], "name a study"),
        (["paper", "clps=3"], "did you mean 'clips'"),
        (["paper", "limit=5", "clips=3", *words], "more than limit=5; add --yes"),
    ):
        assert main(call) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert message in error


def test_the_page_begins_with_six_answers(detectors, tmp_path):
    page = tmp_path / "RESULTS.md"
    assert results.write(detectors, page, "test") == ["community", "split", "metrics", "questions"]
    text = page.read_text()
    six = text.partition("## Six answers")[2].partition("\n## ")[0].strip().splitlines()
    assert [line[:2] for line in six] == ["1.", "2.", "3.", "4.", "5.", "6."]
    assert "There is better: leiden" in six[2]
    for image in re.findall(r"\]\((figures/.*?)\)", text):
        assert (tmp_path / image).is_file()


def test_the_shipped_page_is_that_of_the_shipped_outcomes():
    root = Path(results.__file__).parent
    shipped = Outcomes.load(root / "outcomes.safetensors")
    split = results._split_of("paper", "quick", shipped)
    first = report("paper", shipped, model_of(shipped), split)
    page = (root / "RESULTS.md").read_text("utf-8")
    assert f"1. {first.answer}" in page
    assert first.table in page
    assert (root / "outcomes.safetensors").stat().st_size < 4_000_000


def test_the_search_chooses_on_validation_clips_only(words, tmp_path, capsys, monkeypatch):
    few = {name: choices[:3] for name, choices in search.PARTS.items()}
    monkeypatch.setattr(search, "PARTS", few)
    found = tmp_path / "found.yaml"
    call = [*words, "candidates=8", "stages=[4,8]", f"found={found}", "retention=0.3"]
    assert search.main(call) == 0
    assert "difference, points" in capsys.readouterr().out
    outcomes = read(tmp_path / "r.sqlite")
    assert all(clip.startswith("validation/") for clip in outcomes.clips)
    content = yaml.safe_load(found.read_text())
    best = outcomes.row(settings(content["words"], 0.3), "model")
    paper = outcomes.row(settings((), 0.3), "model")
    whole = ~np.isnan(outcomes.correct).any(1)
    assert whole[best]
    assert whole[paper]
    assert outcomes.correct[best].mean() == outcomes.correct[whole].mean(1).max()
    chosen = next(each for each in search.draw(10**6, 0) if list(search.words_of(each)) == content["words"])
    for near in search.neighbours(chosen):  # the search ends where no change of one part is better
        assert outcomes.row(settings(search.words_of(near), 0.3), "model") is not None
    monkeypatch.setattr(catalogue, "FOUND", found)
    assert studies()["found"].rows["found"] == tuple(content["words"])
    assert search.main([*words, "candidates=1"]) == 2
    assert "candidates must be a whole number ≥ 2" in capsys.readouterr().err


def test_the_preset_that_ships_is_what_was_chosen():
    chosen = settings(studies()["found"].rows["found"], 0.1)["selector"]
    assert registry("selector").config(stgraph.preset("tuned", retention=0.1)) == chosen


def test_the_search_leaves_out_what_fails_on_a_clip(words, tmp_path, monkeypatch):
    # Random tokens have edges of negative weight, which label propagation refuses.
    broken = ("community=label_propagation", "similarity_threshold=-1")
    monkeypatch.setattr(search, "PARTS", {"community": [(), broken]})
    found = tmp_path / "found.yaml"
    assert search.main([*words, "candidates=2", "stages=[4,8]", f"found={found}", "retention=0.3"]) == 0
    assert yaml.safe_load(found.read_text())["words"] == []


def test_words_tell_their_candidate():
    for candidate in search.draw(50, 0):
        assert search.candidate_of(search.words_of(candidate)) == candidate
    assert search.candidate_of(("difference=percentile", "difference.percentile=33")) is None
    assert search.candidate_of(tuple(studies()["found"].rows["found"])) is not None


def test_the_last_choice_is_a_candidate(words, tmp_path):
    found = tmp_path / "found.yaml"
    last = ("community=leiden", "importance=change")
    found.write_text(yaml.safe_dump({"words": list(last)}))
    assert last not in map(search.words_of, search.draw(2, 0))
    assert search.main([*words, "candidates=2", "stages=[2]", f"found={found}", "retention=0.3"]) == 0
    assert read(tmp_path / "r.sqlite").row(settings(last, 0.3), "model") is not None
    found.write_text("words: 3\n")
    assert search.main([*words, f"found={found}"]) == 2


def test_neighbours_differ_in_one_part():
    first = search.draw(5, 0)[3]
    near = search.neighbours(first)
    assert len(near) == sum(len(choices) - 1 for choices in search.PARTS.values())
    assert all(sum(one != two for one, two in zip(first, each, strict=True)) == 1 for each in near)


@pytest.mark.parametrize("trim", ["before", "inside"])
def test_a_search_at_one_place_of_trimming_leaves_the_other_out(trim):
    _, *drawn = search.draw(40, 0, trim)
    inside = [
        "importance=llm_attention" in search.words_of(each) for each in [*drawn, *search.neighbours(drawn[0], trim)]
    ]
    assert inside == [trim == "inside"] * len(inside)
    assert len(inside) > 50


def test_a_place_that_there_is_not_is_refused(words, capsys):
    assert search.main([*words, "trim=above"]) == 2
    assert "trim must be one of before, inside, got 'above'\n" in capsys.readouterr().err


# -- leaderboard ------------------------------------------------------------------------------------------------------


@pytest.fixture
def board(words, tmp_path):
    return [*words, "split=test", "clips=4", f"files={tmp_path / 'files'}", f"page={tmp_path / 'page.md'}"]


def test_a_row_is_one_command(board, tmp_path, capsys):
    assert leaderboard.main(["add", "our method", "community=leiden", *board]) == 0
    assert leaderboard.main(["add", "random", "selector=random", *board]) == 0
    assert "open a pull request" in capsys.readouterr().out
    page = (tmp_path / "page.md").read_text()
    assert "24 questions about 4 clips of the test split" in page
    assert "## 10% of the tokens" in page
    outcomes = read(tmp_path / "r.sqlite")
    row = outcomes.row(settings(("selector=random",), 0.3), "model")
    assert f"| random | {100 * outcomes.correct[row].mean():.1f} [" in page
    assert leaderboard.main(board) == 0  # from the files alone
    assert (tmp_path / "page.md").read_text() == page


def test_a_row_without_its_digest_is_refused(board, tmp_path, capsys):
    assert leaderboard.main(["add", "ours", *board]) == 0
    path = tmp_path / "files" / "ours.json"
    content = json.loads(path.read_text())
    for change, message in (
        ({"digest": None}, "has no digest"),
        ({"method": "better"}, "was changed after it was made"),
    ):
        changed = {key: value for key, value in {**content, **change}.items() if value is not None}
        path.write_text(json.dumps(changed))
        assert leaderboard.main(board) == 2
        assert message in capsys.readouterr().err
    path.write_text("[]")
    assert leaderboard.main(board) == 2
    assert "is not a row of the leaderboard" in capsys.readouterr().err


def test_rows_of_different_clips_are_not_compared(board, tmp_path, capsys):
    assert leaderboard.main(["add", "one", *board]) == 0
    assert leaderboard.main(["add", "two", *board, "clips=3"]) == 2
    assert "were measured with different clips" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("call", "message"),
    [(["add"], "add takes one name"), (["sbumit"], "is not understood"), ([], "holds no row")],
)
def test_bad_calls_of_the_leaderboard(call, message, board, capsys):
    assert leaderboard.main([*call, *board]) == 2
    assert message in capsys.readouterr().err


def test_entries_survive_their_files(board, tmp_path):
    assert leaderboard.main(["add", "ours", *board]) == 0
    entry = Entry.load(tmp_path / "files" / "ours.json")
    assert entry.content == Entry.load(entry.save(tmp_path / "again")).content
    assert len(entry.kind) == 24


def test_shipped_rows_of_the_leaderboard_fit_each_other():
    if list(leaderboard.FILES.glob("*.json")):
        assert leaderboard.text(leaderboard.entries()) == Path("docs/leaderboard.md").read_text("utf-8")


def test_there_are_peers_to_compare_with():
    assert len(peers()) >= 13
    assert model_of(outcomes_of({(FULL, 1.0): 1.0}, studies()["paper"])) == "m"
