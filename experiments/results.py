"""Everything that the benchmark shows, as one page made from saved outcomes: ``experiments/RESULTS.md``.

python -m experiments.results
python -m experiments.results outcomes=outputs/studies.sqlite split=quick
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stgraph.errors import StgraphError

from .outcomes import Outcomes, model_of, read
from .settings import compose
from .statistics import accuracy, words
from .studies.catalogue import studies
from .studies.report import OVER_ALL, Report, report, saved_clips, settings_of_full

SIX = ("paper", "thresholds", "community", "split", "difference", "metrics")
"""The studies whose answers stand at the top: what the paper leaves open, and whether settings can be chosen without a
model.
"""

ON_TEST = ("paper", "community", "split", "difference", "peers", "found", "metrics", "questions")
"""Studies that were measured on the test split, where more clips show smaller differences; the others on the one of the
settings.
"""

HEAD = """# Results

This page is generated from saved outcomes; do not edit it. `python -m experiments.results` makes it again without a
model. Every figure is the share of right answers of a small video LLM that sees only the tokens a method keeps; it was
trained on all tokens only. Brackets hold 95 % intervals by a bootstrap over clips, bold differences exclude zero, and p
values are exact McNemar's, corrected by Holm within a study. [docs/studies.md](../docs/studies.md) says how to
measure more.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.results",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("words", nargs="*", metavar="name=value", help="settings of conf/results.yaml")
    given = parser.parse_args(arguments)
    try:
        own = compose("results", given.words)
        outcomes = read(str(own["outcomes"]))
        page = Path(str(own["page"]))
        written = write(outcomes, page, str(own["split"]))
    except StgraphError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{page}: {', '.join(written)}")
    return 0


def write(outcomes: Outcomes, page: Path, split: str) -> list[str]:
    """Write the page and a figure for each study; returns the names of the studies that were measured.

    Raises:
        StgraphError: nothing was measured on this split, or the files cannot be written.
    """
    model = model_of(outcomes)
    reports: dict[str, Report] = {}
    missing = []
    for name in [*studies(), *OVER_ALL.values()]:
        try:
            reports[name] = report(name, outcomes, model, _split_of(name, split, outcomes))
        except StgraphError as error:
            missing.append(f"{name}: {error}")
    if not reports:
        raise StgraphError(f"no study was measured on the {split} split; run python -m experiments.studies all first")
    folder = page.parent / "figures"
    parts = [HEAD, _measured(outcomes, model, split), "## Six answers\n"]
    parts.append("\n".join(f"{number}. {_answer(reports, name)}" for number, name in enumerate(SIX, start=1)) + "\n")
    for name, each in reports.items():
        parts.append(
            each.text(
                f"figures/{name}.png", f"python -m experiments.studies {name} split={_split_of(name, split, outcomes)}"
            )
        )
    if missing:
        parts.append("## Not measured\n\n" + "\n".join(f"- {text}" for text in missing) + "\n")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, each in reports.items():
            each.figure.savefig(folder / f"{name}.png", dpi=90)
        page.write_text("\n".join(parts), "utf-8")
    except OSError as error:
        raise StgraphError(f"{page} cannot be written: {error.strerror or error}") from error
    return list(reports)


def _split_of(study: str, split: str, outcomes: Outcomes) -> str:
    """Where a study is looked at."""
    return "test" if study in ON_TEST and saved_clips(outcomes, "test", {}, None) else split


def _answer(reports: dict[str, Report], name: str) -> str:
    if name in reports:
        return reports[name].answer
    question = studies()[name].question if name in studies() else "Which LLM-free metric predicts right answers?"
    return f"{question} Not measured yet."


def _measured(outcomes: Outcomes, model: str, split: str) -> str:
    """What the page rests on."""
    clips = saved_clips(outcomes, split, {}, None)
    full = outcomes.row(settings_of_full(), model)
    told = [
        f"Model `{model[:12]}`, benchmark `{outcomes.benchmark}`, split {split}: {len(clips)} clips at the default "
        f"difficulty, {len(outcomes.configurations)} configurations, "
        f"{int((~np.isnan(outcomes.correct)).sum())} answers."
    ]
    if full is not None and (asked := outcomes.asked([full], clips)).any():
        found = accuracy(outcomes.correct[full, asked], outcomes.clip[asked])
        told.append(f"With all tokens the model answers {words(found)} % right.")
    if split != "test":
        told.append(
            "These are not clips of the test split, and there are few of them, so only large differences show; the "
            "same commands with split=test measure on all of it."
        )
    if split != "test" and (clips := saved_clips(outcomes, "test", {}, None)):
        named = ", ".join(name for name in ON_TEST if name in studies())
        told.append(
            f"These studies are measured on up to {len(clips)} clips of the test split: {named}. Each table says on "
            "how many."
        )
    return " ".join(told) + "\n"


if __name__ == "__main__":
    sys.exit(main())
