"""What is compared in each study: rows of words, the row that the others are held against, retentions, conditions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from stgraph.app.config import resolve
from stgraph.errors import StgraphError, check_choice
from stgraph.registry import registry

from ..sweep.cells import settings_of

FULL = "all tokens"
"""The row of the model that sees everything."""

PAPER = "paper's default"
"""The row of ST-SimDiff as the paper has it."""

FLOORS = {"random tokens": ("selector=random",), "uniform tokens": ("selector=uniform",)}
"""Rows of every table: what a method that looks at nothing achieves."""

OWN = ("simdiff", "importance", "sim_spatial", "sim_temporal", "sim", "diff")
"""Registered selectors that are ST-SimDiff and its ablation rows; all others are peers."""

FOUND = Path(__file__).parents[1] / "conf" / "found.yaml"
"""What :mod:`experiments.search` has chosen on the validation split."""

INSIDE = ("trim=inside", "layer=2")


class Point(NamedTuple):
    """One configuration of a study.

    Attributes:
        row: its name in the table.
        retention: share of tokens kept; 1 for the model that sees all.
        condition: name of the condition of the clips.
        settings: of its cells, see :func:`experiments.sweep.settings_of`.
    """

    row: str
    retention: float
    condition: str
    settings: dict[str, Any]


@dataclass(frozen=True)
class Study:
    """A comparison.

    Attributes:
        letter: it is called by.
        name: on the command line.
        title: of table and figure.
        question: that it answers.
        rows: name → words of stgraph, and ``trim=`` and ``layer=``.
        base: the row that others are held against.
        retentions: of every row.
        conditions: name → knobs of the clips.
        view: which figure shows it best: ``"rows"``, ``"ranking"``, ``"thresholds"``, ``"kinds"``, ``"curves"`` or
            ``"lengths"``.
        figures: of the clips, beside accuracy in the table.
        clips: at most so many of each condition, because the grid is large; None for all.
    """

    letter: str
    name: str
    title: str
    question: str
    rows: Mapping[str, Sequence[str]]
    base: str = PAPER
    retentions: Sequence[float] = (0.1, 0.3)
    conditions: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: {"": {}})
    view: str = "rows"
    figures: Sequence[str] = ("coverage", "event recall")
    clips: int | None = None

    def points(self, retentions: Sequence[float] | None = None) -> Iterator[Point]:
        """Every configuration, the model that sees all tokens first."""
        for condition in self.conditions:
            yield Point(FULL, 1.0, condition, settings_of(None))
            for retention in retentions or self.retentions:
                for row, words in self.rows.items():
                    yield Point(row, retention, condition, settings(words, retention))


def settings(words: Sequence[str], retention: float) -> dict[str, Any]:
    """The settings of a row at a retention."""
    place: dict[str, Any] = {}
    ours = []
    for word in words:
        name, _, value = word.partition("=")
        if name in ("trim", "layer"):
            place[name] = int(value) if name == "layer" else value
        else:
            ours.append(word)
    return settings_of(resolve([*ours, f"retention={retention}"]), **place)


def every(group: str, leave_out: Sequence[str] = ()) -> dict[str, tuple[str, ...]]:
    """A row for each registered method of a group."""
    return {name: (f"{group}={name}",) for name in registry(group) if name not in leave_out}


def peers() -> dict[str, tuple[str, ...]]:
    """A row for each peer that runs at its defaults."""
    rows: dict[str, tuple[str, ...]] = {}
    for name in registry("selector"):
        if name not in (*OWN, "random", "uniform"):
            try:
                registry("selector").build(name)
            except StgraphError:
                continue  # it is made of other methods, which it must be told
            rows[name] = (f"selector={name}",)
    return rows


def studies() -> dict[str, Study]:
    """All studies by name, in the order of their letters."""
    paper = {PAPER: ()}
    sim, diff = (0.6, 0.8, 0.9, 0.95), (0.0, 0.2, 0.5, 0.8)
    grid = {
        f"τ_sim {one:g}, τ_diff {two:g}": (f"similarity_threshold={one}", f"difference.threshold={two}")
        for one in sim
        for two in diff
        if (one, two) != (0.8, 0.2)
    }
    automatic = every("similarity_threshold", ["fixed"]) | {
        name: (f"difference={name}",) for name in ("percentile", "robust_z", "noise")
    }
    inside = {
        f"{name}, inside, layer {layer}": (*words, "trim=inside", f"layer={layer}")
        for name, words in {"ST-SimDiff": (), "FastV": ("selector=fastv",)}.items()
        for layer in (1, 2, 3)
    }
    found = (
        Study(
            "a",
            "paper",
            "The rows of the paper",
            "What is each part of ST-SimDiff worth?",
            {
                "importance": ("selector=importance",),
                "+ spatial similarity": ("selector=sim_spatial",),
                "+ temporal similarity": ("selector=sim_temporal",),
                "+ both": ("selector=sim",),
                PAPER: (),
                "difference only": ("selector=diff",),
                "importance, inside": ("selector=importance", *INSIDE),
                "+ both, inside": ("selector=sim", *INSIDE),
                "+ difference, inside": INSIDE,
                **FLOORS,
            },
            base="importance",
            retentions=(0.1, 0.3, 0.5),
        ),
        Study(
            "b",
            "thresholds",
            "Thresholds of similarity and difference",
            "Are the fixed thresholds 0.8 and 0.2 good enough?",
            {**paper, **grid, **automatic},
            retentions=(0.1, 0.3, 0.5),
            conditions={
                "plain": {},
                "noise": {"noise": 30},
                "frame rate": {"fps": 4},
                "motion": {"motion": 12},
            },
            view="thresholds",
            clips=40,
        ),
        Study(
            "c",
            "community",
            "Community detectors",
            "Are Louvain, Leiden and others worth their time beside connected components?",
            {
                **paper,
                **every("community", ["components", "agglomerative"]),
                "agglomerative": ("community=agglomerative", "similarity_threshold=-1"),
                "leiden, CPM 0.05": ("community=leiden", "community.objective=cpm", "community.resolution=0.05"),
                **FLOORS,
            },
            figures=("coverage", "event recall", "communities", "selection seconds"),
        ),
        Study(
            "d",
            "split",
            "Splitting large communities",
            "What is the √N split worth?",
            {
                **paper,
                "√N": ("community=sqrt_split",),
                "at most 128": ("community=sqrt_split", "community.bound=128"),
                "at most 16": ("community=sqrt_split", "community.bound=16"),
                "at most 4": ("community=sqrt_split", "community.bound=4"),
                "leiden": ("community=leiden",),
                "leiden, √N": ("community=sqrt_split", "community.detector=leiden"),
                "louvain, √N": ("community=sqrt_split", "community.detector=louvain"),
                **FLOORS,
            },
            figures=("coverage", "event recall", "communities"),
        ),
        Study(
            "e",
            "difference",
            "Difference detectors by type of question",
            "Is difference along time enough, and which detector helps which question?",
            {**paper, **every("difference", ["threshold"]), **FLOORS},
            view="kinds",
        ),
        Study(
            "f",
            "peers",
            "All methods",
            "How does ST-SimDiff compare with its peers and with what looks at nothing?",
            {**paper, **FLOORS, **peers()},
            retentions=(0.05, 0.1, 0.2, 0.3, 0.5),
            view="curves",
            figures=("coverage", "event recall", "selection seconds"),
        ),
        Study(
            "g",
            "trim",
            "Trimming before the language model or inside it",
            "Where should tokens be dropped, and from which layer on?",
            {PAPER: (), **inside, **FLOORS},
            figures=("kept", "prefill seconds"),
        ),
        Study(
            "h",
            "length",
            "Retention and the length of the video",
            "Do longer videos bear a smaller retention?",
            {**paper, **FLOORS},
            retentions=(0.05, 0.1, 0.2, 0.3, 0.5),
            conditions={f"{frames} frames": {"frames": frames} for frames in (8, 16, 32)},
            view="lengths",
            figures=("tokens", "kept"),
            clips=40,
        ),
        Study(
            "i",
            "release",
            "The paper's algorithm and the authors' release",
            "Do the paper and its code answer alike?",
            {
                PAPER: (),
                "paper, inside": INSIDE,
                "release": ("selector.preset=release",),
                "release, before": ("selector.preset=release", "trim=before"),
                **FLOORS,
            },
            retentions=(0.1, 0.3, 0.5),
            figures=("kept", "coverage", "event recall"),
        ),
    )
    return {study.name: study for study in (*found, *past_the_paper())}


def words_chosen(path: Path) -> tuple[str, ...] | None:
    """The words that a search has chosen; None where there is no such file.

    Raises:
        StgraphError: the file is not as the search writes it.
    """
    if not path.is_file():
        return None
    try:
        return tuple(map(str, yaml.safe_load(path.read_text("utf-8"))["words"]))
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise StgraphError(f"{path} is not what the search writes; run python -m experiments.search") from error


def past_the_paper() -> Iterator[Study]:
    """The study of the preset that was chosen on the validation split, where one was."""
    words = words_chosen(FOUND)
    if words is None:
        return
    yield Study(
        "l",
        "found",
        "Past the paper",
        "Is the composition that was chosen on the validation split better than the paper's default and every peer?",
        {"found": words, PAPER: (), **FLOORS, **peers()},
        base="found",
        retentions=(0.1, 0.3),
        view="ranking",
        figures=("coverage", "event recall", "prefill GFLOPs"),
    )


def study(name: str) -> Study:
    """A study by its name or letter.

    Raises:
        StgraphError: there is none.
    """
    known = studies()
    by_letter = {each.letter: each for each in known.values()}
    check_choice("study", name, [*known, *by_letter])
    return known.get(name) or by_letter[name]
