"""Comparing settings on the same tokens."""

from __future__ import annotations

import csv
import json

import pytest
import torch

from stgraph import Signals, StgraphError, STSimDiff, VideoTokens
from stgraph.compare import combinations, compare, figure, jaccard, markdown, save, table, text
from stgraph.config import resolve

from .strategies import features

WORDS = ["community=components,leiden", "retention=0.2,0.4", "difference=percentile"]


@pytest.fixture(scope="module")
def tokens():
    return VideoTokens.from_grid(features(6, 6, 7, 24, seed=8))


@pytest.fixture(scope="module")
def results(tokens):
    events = {"cut": tokens.coords[:, 0] == 3, "flash": tokens.coords[:, 0] == 4}
    return compare(tokens, Signals(), combinations(WORDS), events=events)


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
    results = compare(tokens, Signals(), combinations(["selector=random,uniform,simdiff"]))
    heads, rows = table(results)
    assert [row[heads.index("communities")] is None for row in rows] == [True, True, False]
    assert "–" in markdown(heads, rows)
    figure(results, "title")


def test_files(results, tmp_path):
    save(results, tmp_path / "out", "clip")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "compare.csv",
        "compare.json",
        "compare.md",
        "compare.png",
    ]
    _, rows = table(results)
    with (tmp_path / "out" / "compare.csv").open(encoding="utf-8", newline="") as file:
        assert len(list(csv.reader(file))) == 1 + len(rows)
    records = json.loads((tmp_path / "out" / "compare.json").read_text("utf-8"))
    assert [resolve([], record["config"]) for record in records] == [result.config for result in results]
    with pytest.raises(StgraphError, match="already holds a run"):
        save(results, tmp_path / "out", "clip")
    save(results, tmp_path / "out", "clip", overwrite=True)


def test_nothing_varies(tokens):
    (result,) = compare(tokens, Signals(), combinations([]))
    assert result.name == "default"
    assert table([result])[0][0] == "configuration"


@pytest.mark.parametrize("words", ["encoder=descriptor,hf", "video.frames=8,16"])
def test_what_is_selected_from_must_not_vary(words):
    with pytest.raises(StgraphError, match="selections of the same tokens"):
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
    with pytest.raises(StgraphError, match="must be of the same"):
        jaccard(selection, STSimDiff()(tokens.take(torch.arange(9))))


def test_cells():
    assert [text(cell) for cell in (None, 0.25, 3, "leiden")] == ["–", "0.250", "3", "leiden"]
