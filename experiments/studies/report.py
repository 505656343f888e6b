"""The reports of studies, those on one grid and those over all of them: metrics (j) and types of questions (k)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stgraph.app.compare import Cell, markdown
from stgraph.errors import StgraphError

from .. import statistics
from ..outcomes import Outcomes
from ..statistics import Interval, words
from . import figures
from .catalogue import FLOORS, FULL, PAPER, Study, settings, studies
from .measure import Measured, measure
from .words import losses, paragraphs, row_of, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

METRICS = ("coverage", "reconstruction error", "frame spread", "event recall")
"""What is known of a selection without a language model. The last needs clips whose events are known."""

OVER_ALL = {"j": "metrics", "k": "questions"}
"""Studies over all others, by letter."""


@dataclass(frozen=True)
class Report:
    """A study, ready to be written.

    Attributes:
        letter: of the study.
        name: of the study.
        title: of table and figure.
        answer: one sentence with a figure and its interval.
        table: in Markdown.
        paragraphs: what was found, and what it means.
        figure: the drawing.
    """

    letter: str
    name: str
    title: str
    answer: str
    table: str
    paragraphs: tuple[str, str]
    figure: Figure

    def text(self, image: str, command: str) -> str:
        """The report in Markdown."""
        first, second = self.paragraphs
        return (
            f"## ({self.letter}) {self.title}\n\n`{command}`\n\n{first}\n\n{second}\n\n"
            f"![{self.title}]({image})\n\n{self.table}"
        )

    def save(self, folder: Path, command: str) -> None:
        """Write ``<name>.md`` and ``<name>.png``.

        Raises:
            StgraphError: the folder cannot be written to.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self.figure.savefig(folder / f"{self.name}.png", dpi=110)
            (folder / f"{self.name}.md").write_text(self.text(f"{self.name}.png", command), "utf-8")
        except OSError as error:
            raise StgraphError(f"folder {folder} cannot be written to: {error.strerror or error}") from error


def report(
    name: str,
    outcomes: Outcomes,
    model: str,
    split: str,
    clips: int | None = None,
    retentions: Sequence[float] | None = None,
) -> Report:
    """The report of a study by its name.

    Args:
        name: of a study, ``"metrics"`` or ``"questions"``.
        outcomes: of all cells.
        model: digest of the model.
        split: of the clips.
        clips: the first so many; None for all that were measured.
        retentions: others than the study's.

    Raises:
        StgraphError: nothing of it was measured.
    """
    if name == "metrics":
        return metrics(outcomes, model, split, clips, retentions or (0.1, 0.3))
    if name == "questions":
        return questions(outcomes, model, split, clips, retentions or (0.1, 0.3))
    asked = studies()[name]
    found = measure(asked, outcomes, model, clips_of(asked, outcomes, split, clips), retentions)
    return Report(asked.letter, name, asked.title, answer(found), table(found), paragraphs(found), figures.draw(found))


def clips_of(study: Study, outcomes: Outcomes, split: str, count: int | None = None) -> dict[str, list[str]]:
    """The clips of a study that outcomes hold, by condition."""
    return {name: saved_clips(outcomes, split, knobs, count) for name, knobs in study.conditions.items()}


def saved_clips(outcomes: Outcomes, split: str, knobs: dict[str, object] | object, count: int | None) -> list[str]:
    """The first clips of a split, made with these knobs, that outcomes hold."""
    from ..sweep.evaluator import clip_name

    known = dict(knobs) if isinstance(knobs, dict) else {}
    suffix = clip_name("", "", known).partition("?")[2]
    chosen = [name for name in outcomes.clips if name.startswith(f"{split}/") and name.partition("?")[2] == suffix]
    return chosen[:count]


def answer(found: Measured, retention: float = 0.1) -> str:
    """The study's question, answered in a sentence with a figure and its interval."""
    retention = retention if retention in found.retentions else found.retentions[0]
    if found.study.view == "lengths":
        base = found.study.base
        return f"{found.study.question} At {retention:.0%}, {base} loses, in points: {losses(found, retention)}."
    compared = found.compared(retention)
    if not compared:
        return f"{found.study.question} Not measured."
    best = max(compared, key=lambda line: line.points)
    assert best.difference is not None  # as chosen above
    gain = f"{best.row}, {words(best.difference.interval, sign=True)} points against {found.study.base}"
    gain += f" at {retention:.0%}{_elsewhere(found, best.row, retention)}"
    if found.study.name == "found":
        return _past(found, retention)
    if found.study.base != PAPER:
        own = next((line for line in compared if line.row == PAPER and line.difference is not None), None)
        whole = "" if own is None or own.difference is None else words(own.difference.interval, sign=True)
        if own is not None:
            whole += f" points against {found.study.base} at {retention:.0%}{_elsewhere(found, PAPER, retention)}"
        return f"{found.study.question} The whole method: {whole}; best: {gain}."
    if best.beyond_chance and best.points > 0:
        return f"{found.study.question} There is better: {gain}."
    smallest = 100 * best.difference.detectable
    return (
        f"{found.study.question} Nothing better than {PAPER} is shown, once all rows are corrected for: the best is "
        f"{gain}; alone, {smallest:.1f} points would have been found four times in five.{_better(found, retention)}"
    )


def _better(found: Measured, without: float) -> str:
    """The best row at each other retention where one is better beyond chance."""
    told = ""
    for retention in found.retentions:
        sure = [line for line in found.compared(retention) if line.beyond_chance and line.points > 0]
        if sure and retention != without:
            best = max(sure, key=lambda line: line.points)
            assert best.difference is not None  # as it is compared
            gain = words(best.difference.interval, sign=True)
            told += f" At {retention:.0%} there is better: {row_of(best, found)}, {gain}."
    return told


def _elsewhere(found: Measured, row: str, retention: float) -> str:
    """What a row gains at the other retentions, under the first condition."""
    told = ""
    for other in found.retentions:
        line = found.line(row, other, found.conditions[0])
        if other != retention and line is not None and line.difference is not None:
            told += f", {words(line.difference.interval, sign=True)} at {other:.0%}"
    return told


def _past(found: Measured, retention: float) -> str:
    """Whether the composition that was found beats the paper's default and every peer."""
    lines = [line for line in found.lines if line.retention == retention and line.difference is not None]
    paper = next((line for line in lines if line.row == PAPER), None)
    rivals = [line for line in lines if line.row != PAPER]
    if paper is None or paper.difference is None or not rivals:
        return f"{found.study.question} Not measured."
    gain = _turned(paper.difference.interval)
    best = max(rivals, key=lambda line: line.accuracy.estimate)
    assert best.difference is not None  # as chosen above
    lead = _turned(best.difference.interval)
    return (
        f"{found.study.question} At {retention:.0%} it is {words(gain, sign=True)} points from the paper's default and "
        f"{words(lead, sign=True)} from the best other, {best.row}."
    )


def _turned(interval: Interval) -> Interval:
    """The difference the other way round."""
    return Interval(-interval.estimate, -interval.high, -interval.low)


# -- over all studies -------------------------------------------------------------------------------------------------


def metrics(outcomes: Outcomes, model: str, split: str, clips: int | None, retentions: Sequence[float]) -> Report:
    """Which metric that needs no language model predicts the share of right answers."""
    names = saved_clips(outcomes, split, {}, clips)
    place = {name: number for number, name in enumerate(outcomes.clips)}
    chosen = [place[name] for name in names]
    counts = np.bincount(outcomes.clip, minlength=len(outcomes.clips))[chosen]
    known = [metric for metric in METRICS if metric in outcomes.figures]
    rows: list[list[Cell]] = []
    points: list[tuple[str, float, dict[str, float], float]] = []
    told: list[str] = []
    ranked: list[tuple[str, float, Interval]] = []
    for retention in retentions:
        numbers = {
            number: name
            for name, words_of in _every_row().items()
            if (number := outcomes.row(settings(words_of, retention), model)) is not None
        }
        whole = [number for number in numbers if _complete(outcomes, number, chosen, known)]
        if len(whole) < 3:
            continue
        right = np.stack([_by_clip(outcomes, number, chosen) for number in whole])
        accuracy = (right * counts).sum(1) / counts.sum()
        for metric in known:
            sign = -1 if metric == "reconstruction error" else 1
            values = sign * outcomes.figures[metric][np.ix_(whole, chosen)]
            found = statistics.rank_correlation(values, right * counts, resamples=1000)
            pick = int(values.mean(1).argmax())
            top, paper = accuracy.max(), _of(numbers, whole, accuracy, PAPER)
            label = f"−{metric}" if sign < 0 else metric
            shares = [accuracy[pick], top, *([] if paper is None else [paper])]
            cells: list[Cell] = [f"{retention:.0%}", label, len(whole), words(found, scale=1, digits=2)]
            rows.append([*cells, numbers[whole[pick]], *(f"{100 * share:.1f}" for share in shares)])
            ranked.append((label, retention, found))
        for place_in, number in enumerate(whole):
            values_of = {metric: float(outcomes.figures[metric][number, chosen].mean()) for metric in known}
            points.append((numbers[number], retention, values_of, 100 * float(accuracy[place_in])))
        told.append(f"{len(whole)} configurations at {retention:.0%}")
    if not ranked:
        raise StgraphError("fewer than three configurations were measured on the same clips; run other studies first")
    # The answer is that at the first retention.
    known_anywhere = [each for each in ranked if each[0] != "event recall" and each[1] == ranked[0][1]]
    label, retention, found = max(known_anywhere, key=lambda each: each[2].estimate)
    question = "Which metric that needs no language model predicts right answers?"
    first = (
        f"{question} Over {_joined(told)}, on {len(names)} clips, each metric ranks the configurations, and Spearman's "
        f"correlation compares this with their ranks by right answers. Of those that need no known events, the best is "
        f"{label} at {retention:.0%} with {words(found, scale=1, digits=2)}. The table also names the configuration "
        "that a metric would choose, and how often that one is right, beside the best and the paper's default."
    )
    chance = [f"{name} at {other:.0%}" for name, other, each in ranked if not each.excludes_zero]
    negative = [f"{name} at {other:.0%}" for name, other, each in ranked if each.high < 0]
    second = (
        (f"No better than chance: {_joined(chance)}. " if chance else "")
        + (f"Pointing the wrong way: {_joined(negative)}. " if negative else "")
        + (
            f"Where a model is too dear to ask, choose by {label}: its interval lies above zero."
            if found.low > 0
            else "None of them is shown to predict right answers: settings should be chosen by answers."
        )
    )
    heads = ["tokens kept", "metric", "rows", "Spearman [95 %]", "it would choose", "right, %", "best, %", "paper, %"]
    drawing = figures.scatter(points, known, "What is known without a language model, and right answers")
    shown = [f"{words(each, scale=1, digits=2)} at {other:.0%}" for name, other, each in ranked if name == label]
    sentence = f"{question} {_upper(label)}: Spearman {', '.join(shown)}."
    title = "Which LLM-free metric predicts right answers"
    return Report("j", "metrics", title, sentence, markdown(heads, rows), (first, second), drawing)


def questions(outcomes: Outcomes, model: str, split: str, clips: int | None, retentions: Sequence[float]) -> Report:
    """What compression breaks: the loss of each type of question against all tokens."""
    names = saved_clips(outcomes, split, {}, clips)
    full = outcomes.row(settings_of_full(), model)
    if full is None:
        raise StgraphError("the model that sees all tokens was not measured; run python -m experiments.studies paper")
    rows: list[list[Cell]] = []
    series: dict[str, list[tuple[float, float, float]]] = {}
    kinds = [kind for kind in outcomes.kinds if (outcomes.asked([full], names) & (outcomes.kind == kind)).any()]
    lost: dict[str, Interval] = {}
    heads = ["type", "all tokens, %"]
    cells: dict[str, list[Cell]] = {}
    for kind in kinds:
        asked = outcomes.asked([full], names) & (outcomes.kind == kind)
        cells[kind] = [kind, words(statistics.accuracy(outcomes.correct[full, asked], outcomes.clip[asked]))]
    for name, words_of in {PAPER: (), **FLOORS}.items():
        for retention in retentions:
            number = outcomes.row(settings(words_of, retention), model)
            if number is None:
                continue
            heads.append(f"{name}, {retention:.0%}")
            bars = []
            for kind in kinds:
                asked = outcomes.asked([full, number], names) & (outcomes.kind == kind)
                found = statistics.difference(
                    outcomes.correct[number, asked], outcomes.correct[full, asked], outcomes.clip[asked]
                ).interval
                text = words(found, sign=True)
                cells[kind].append(f"**{text}**" if found.excludes_zero else text)
                bars.append((100 * found.estimate, 100 * found.low, 100 * found.high))
                if name == PAPER and retention == retentions[0]:
                    lost[kind] = found
            if retention == retentions[0]:
                series[f"{name}, {retention:.0%}"] = bars
    rows = list(cells.values())
    if not lost:
        raise StgraphError("the paper's default was not measured; run python -m experiments.studies paper")
    order = sorted(lost, key=lambda kind: lost[kind].estimate)
    broken = [kind for kind in order if lost[kind].high < 0]
    kept = [kind for kind in kinds if kind not in broken]
    worst = order[0]
    at = f"{retentions[0]:.0%}"
    sentence = (
        f"What does compression break? Most of all {worst}: {words(lost[worst], sign=True)} points at {at} by "
        f"{PAPER}; {len(broken)} of {len(kinds)} types lose beyond chance."
    )
    first = (
        f"What does compression break? Each type of question, answered from the tokens that {PAPER} keeps, against the "
        f"answers from all tokens, over {len(names)} clips. At {at} most is lost on "
        f"{_joined([f'{kind} ({words(lost[kind], sign=True)})' for kind in order[:3]])}."
    )
    second = (
        (f"Beyond chance lose: {_joined(broken)}. " if broken else "No type loses beyond chance. ")
        + (f"No loss is shown for {_joined(kept)}. " if kept else "")
        + "Intervals are wide, because each type has a part of the questions only; a type whose interval holds zero "
        "may still lose."
    )
    drawing = figures.drops(kinds, series, f"What compression to {at} breaks, by type of question")
    return Report(
        "k", "questions", "What compression breaks", sentence, markdown(heads, rows), (first, second), drawing
    )


def settings_of_full() -> dict[str, object]:
    """The settings of the model that sees all tokens."""
    from ..sweep.cells import settings_of

    return settings_of(None)


def _every_row() -> dict[str, Sequence[str]]:
    """The rows of all studies by name; those of equal words are one."""
    rows: dict[str, Sequence[str]] = {}
    seen = set()
    for study in studies().values():
        for name, words_of in study.rows.items():
            key = tuple(words_of)
            if key not in seen and not any(word.startswith("trim=inside") for word in words_of):
                seen.add(key)
                rows[name if name not in rows else f"{name} ({study.name})"] = words_of
    return rows


def _complete(outcomes: Outcomes, number: int, clips: Sequence[int], names: Sequence[str]) -> bool:
    return all(not np.isnan(outcomes.figures[name][number, clips]).any() for name in names)


def _by_clip(outcomes: Outcomes, number: int, clips: Sequence[int]) -> np.ndarray:
    """(K,) the share of right answers on each of these clips."""
    right = np.nan_to_num(outcomes.correct[number])
    sums = np.bincount(outcomes.clip, weights=right, minlength=len(outcomes.clips))
    counts = np.bincount(outcomes.clip, minlength=len(outcomes.clips))
    shares: np.ndarray = sums[clips] / np.maximum(counts[clips], 1)
    return shares


def _of(numbers: dict[int, str], rows: Sequence[int], values: np.ndarray, name: str) -> float | None:
    return next((float(value) for row, value in zip(rows, values, strict=True) if numbers[row] == name), None)


def _joined(parts: Sequence[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else list(parts)) or "none"


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]


__all__ = ["FULL", "OVER_ALL", "Report", "answer", "clips_of", "metrics", "questions", "report", "saved_clips"]
