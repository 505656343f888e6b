"""Comparing settings on the same tokens."""

from __future__ import annotations

import csv
import json

import pytest
import torch

from stgraph import Signals, StgraphError, STSimDiff, VideoTokens
from stgraph.app.cli import main
from stgraph.app.compare import (
    Comparison,
    Failure,
    combinations,
    compare,
    figure,
    jaccard,
    markdown,
    save,
    summary,
    table,
    text,
)
from stgraph.app.config import resolve
from stgraph.sample import render_sample

from ..strategies import features

WORDS = ["community=components,leiden", "retention=0.2,0.4", "difference=percentile"]


@pytest.fixture(scope="module")
def tokens():
    return VideoTokens.from_grid(features(6, 6, 7, 24, seed=8))


@pytest.fixture(scope="module")
def results(tokens):
    events = {"cut": tokens.coords[:, 0] == 3, "flash": tokens.coords[:, 0] == 4}
    return compare(tokens, Signals(), combinations(WORDS), events=events).results


def test_every_combination_once(results):
    assert [result.words for result in results] == [
        {"community": community, "retention": retention}
        for community in ("components", "leiden")
        for retention in ("0.2", "0.4")
    ]
    assert [result.config for result in results] == [
        resolve([f"community={c}", f"retention={r}", "difference=percentile"])
        for c in ("components", "leiden")
        for r in ("0.2", "0.4")
    ]


def test_results_are_those_of_each_alone(results, tokens):
    for result in results:
        assert result.selection.digest == result.config.selector()(tokens).digest


def test_table_says_what_it_measures(results):
    heads, rows = table(results)
    assert heads[:2] == ["community", "retention"]
    column = {head: [row[i] for row in rows] for i, head in enumerate(heads)}
    first = results[0].analysis
    for number, result in enumerate(results):
        partition = result.analysis.partition
        assert column["communities"][number] == partition.num_communities
        assert column["largest"][number] == int(partition.sizes.max()) / len(partition.labels)
        assert column["modularity"][number] == partition.modularity(result.analysis.similar)
        assert column["NMI to first"][number] == partition.compare(first.partition).nmi
        kept, kept_first = (set(r.selection.indices.tolist()) for r in (result, results[0]))
        assert column["kept-set Jaccard"][number] == len(kept & kept_first) / len(kept | kept_first)
        assert column["coverage"][number] == result.quality.coverage
        assert column["cut"][number] == result.quality.recall_by_event["cut"]
    assert column["NMI to first"][0] == pytest.approx(1)


def test_selectors_without_a_graph_have_no_communities(tokens):
    results = compare(tokens, Signals(), combinations(["selector=random,uniform,simdiff"])).results
    heads, rows = table(results)
    assert [row[heads.index("communities")] is None for row in rows] == [True, True, False]
    assert "–" in markdown(heads, rows)
    figure(results, "title")
    assert "communities" not in table(results[:2])[0], "where no row has any, there is no column of them"


ISSUE = ["selector=simdiff,fastv,visionzip,framefusion,evs,random,uniform", "retention=0.1,0.3,0.5"]


def test_methods_without_their_signal_cost_the_others_nothing(tokens, tmp_path):
    comparison = compare(tokens, Signals(), combinations(ISSUE))
    ran = ("simdiff", "evs", "random", "uniform")
    assert [row.words for row in comparison.results] == [
        {"selector": name, "retention": share} for name in ran for share in ("0.1", "0.3", "0.5")
    ]
    assert len(comparison.failures) == 9
    note = next(note for note in comparison.notes if "fastv" in note)
    assert note.startswith("not run: selector=fastv retention=0.1,0.3,0.5, because selector 'fastv' needs the signal")
    assert "selector.signal=features" in note
    save(comparison, tmp_path / "out", "clip")
    records = json.loads((tmp_path / "out" / "compare.json").read_text("utf-8"))
    assert len(records) == 21
    assert [(r["selector"], r["retention"]) for r in records if "not run" in r] == [
        (failure.words["selector"], failure.words["retention"]) for failure in comparison.failures
    ]
    assert f"- {note}" in (tmp_path / "out" / "compare.md").read_text("utf-8").splitlines()


def test_a_setting_serves_the_selectors_that_have_it(tokens):
    words = ["selector=simdiff,fastervlm,visionzip,prumerge", "selector.signal=features", "retention=0.1,0.3"]
    comparison = compare(tokens, Signals(), combinations(words))
    assert len(comparison.results) == 8
    assert comparison.failures == []
    assert comparison.notes == ["selector.signal is not used by simdiff"]


def test_a_setting_that_varies_does_not_repeat_rows_without_it():
    chosen = combinations(["selector=random,simdiff", "community=components,leiden"])
    assert [words for words, _ in chosen] == [
        {"selector": "random", "community": "–"},
        {"selector": "simdiff", "community": "components"},
        {"selector": "simdiff", "community": "leiden"},
    ]


def test_failures_that_are_no_product_are_listed():
    def failed(selector: str, retention: str) -> Failure:
        return Failure({"selector": selector, "retention": retention}, resolve(), "of the moon")

    rows = [failed("evs", "0.1"), failed("evs", "0.3"), failed("dart", "0.1")]
    (note,) = Comparison([], rows).notes
    assert note == (
        "not run: selector=evs retention=0.1; selector=evs retention=0.3; selector=dart retention=0.1, "
        "because of the moon"
    )


def test_the_command_line_says_what_could_not_be_run(tmp_path, monkeypatch, capsys):
    clip = render_sample(tmp_path / "sample.mp4", size=(96, 160), fps=12)
    words = [str(clip.path), *ISSUE, "video.frames=8", "encoder.tokens_per_frame=24", "--output", str(tmp_path / "out")]
    monkeypatch.setattr("sys.argv", ["stgraph", "compare", *words, "--events", str(clip.events_path)])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    rows = {line.split()[0]: line.split()[1:] for line in lines if line.startswith(("simdiff", "evs", "rand", "unif"))}
    assert set(rows) == {"simdiff", "evs", "random", "uniform"}
    assert {len(row) for row in rows.values()} == {12}, "four figures at three retentions"
    assert sum(line.startswith("note: not run: selector=") for line in lines) == 3
    assert len(json.loads((tmp_path / "out" / "compare.json").read_text("utf-8"))) == 21


def test_nothing_could_be_run(tokens):
    with pytest.raises(StgraphError, match="selector 'fastv' needs the signal llm_attention"):
        compare(tokens, Signals(), combinations(["selector=fastv,framefusion"]))


def dots(results) -> dict[str, list[dict[str, list[float]]]]:
    """What a figure shows: rows, and for each kind of dot in each panel the values by row."""
    shown = figure(results, "title")
    rows = [label.get_text() for label in shown.axes[0].get_yticklabels()]
    kinds = [text.get_text() for text in shown.legends[0].get_texts()] if shown.legends else [""]
    points = []
    for axes in shown.axes:
        marked = [line for line in axes.lines if line.get_marker() not in ("", "None")]
        assert len(marked) == len(kinds)
        points.append(
            {k: dict(zip((rows[int(y)] for y in m.get_ydata()), m.get_xdata(), strict=True))
             for k, m in zip(kinds, marked, strict=True)}
        )  # fmt: skip
    return {"rows": rows, "kinds": kinds, "points": points}


def test_figure_has_a_row_for_each_word_and_a_shade_for_each_number(tokens):
    words = ["retention=0.5,0.1,0.3", "selector=uniform,divprune,simdiff"]
    results = compare(tokens, Signals(), combinations(words)).results
    shown = dots(results)
    assert shown["kinds"] == ["0.1", "0.3", "0.5"]
    coverage, error, seconds = shown["points"]
    for result in results:
        name, share = result.words["selector"], result.words["retention"]
        assert coverage[share][name] == result.quality.coverage
        assert error[share][name] == result.quality.reconstruction_error
        assert seconds[share][name] == result.seconds
    mean = {name: sum(coverage[share][name] for share in shown["kinds"]) for name in shown["rows"]}
    assert list(mean) == sorted(mean, key=mean.get, reverse=True), "the best first"


def test_summary_puts_the_numbers_side_by_side(tokens):
    words = ["retention=0.5,0.1", "selector=uniform,divprune"]
    comparison = compare(tokens, Signals(), combinations(words))
    heads, rows = summary(comparison.results)
    assert heads == ["selector"] + [
        f"{panel} {share}" for panel in ("coverage", "reconstruction error", "seconds") for share in ("0.1", "0.5")
    ]
    assert [row[0] for row in rows] == dots(comparison.results)["rows"]
    found = {row[0]: dict(zip(heads, row, strict=True)) for row in rows}
    for result in comparison.results:
        name, share = result.words["selector"], result.words["retention"]
        assert found[name][f"coverage {share}"] == result.quality.coverage
        assert found[name][f"seconds {share}"] == result.seconds


@pytest.mark.parametrize(
    "words",
    [[], ["retention=0.1,0.3"], ["selector=random,uniform"], ["selector=random,uniform", "separators=keep,drop"]],
)
def test_summary_only_where_it_is_shorter(tokens, words):
    assert summary(compare(tokens, Signals(), combinations(words)).results) is None


def test_figure_of_numbers_alone_keeps_their_order(tokens):
    results = compare(tokens, Signals(), combinations(["retention=0.5,0.1"])).results
    assert dots(results)["rows"] == ["0.5", "0.1"]


def test_figure_of_one_result(tokens):
    results = compare(tokens, Signals(), combinations([])).results
    assert dots(results)["rows"] == ["default"]


def test_files(results, tmp_path):
    results = Comparison(results, [])
    save(results, tmp_path / "out", "clip")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "compare.csv",
        "compare.json",
        "compare.md",
        "compare.png",
        "manifest.json",
    ]
    _, rows = table(results.results)
    with (tmp_path / "out" / "compare.csv").open(encoding="utf-8", newline="") as file:
        assert len(list(csv.reader(file))) == 1 + len(rows)
    records = json.loads((tmp_path / "out" / "compare.json").read_text("utf-8"))
    assert [resolve([], record["config"]) for record in records] == [result.config for result in results.results]
    with pytest.raises(StgraphError, match="already holds a run"):
        save(results, tmp_path / "out", "clip")
    save(results, tmp_path / "out", "clip", overwrite=True)


def test_nothing_varies(tokens):
    (result,) = compare(tokens, Signals(), combinations([])).results
    assert result.name == "default"
    assert table([result])[0][0] == "configuration"


@pytest.mark.parametrize("words", ["encoder=descriptor,hf", "video.frames=8,16"])
def test_what_is_selected_from_must_not_vary(words):
    with pytest.raises(StgraphError, match="compared on the same tokens"):
        combinations([words])


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["retention"], "must have the form name=value"),
        (["community=components,ledien"], "did you mean 'leiden'"),
        (["retention=0.1,2"], "retention must be a number > 0 and ≤ 1"),
    ],
)
def test_bad_words(words, sentence):
    with pytest.raises(StgraphError, match=sentence):
        combinations(words)


def test_jaccard_is_of_the_same_tokens(tokens):
    selection = STSimDiff()(tokens)
    assert jaccard(selection, selection) == 1
    with pytest.raises(StgraphError, match="give two of the same tokens"):
        jaccard(selection, STSimDiff()(tokens.take(torch.arange(9))))


def test_cells():
    assert [text(cell) for cell in (None, 0.25, 3, "leiden")] == ["–", "0.250", "3", "leiden"]
