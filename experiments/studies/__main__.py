"""The command line of the studies."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stgraph.errors import StgraphError, check_choice, check_number

from ..ending import ends_well
from ..outcomes import Outcomes, model_of, read
from ..settings import compose
from ..sweep import Plan, Store, run
from ..sweep.__main__ import check_size, shown
from ..sweep.engines import Resources
from ..sweep.evaluator import Evaluator, load
from .catalogue import Study, studies
from .measure import measure
from .report import OVER_ALL, Report, clips_of, report

DOC = """Answer a question about compression with a whole video LLM: a table, a figure and two paragraphs.

  python -m experiments.studies paper                    measure what is missing, then write
  python -m experiments.studies peers retention=[0.1]    at one retention
  python -m experiments.studies all --saved              from saved results only, without a model
  python -m experiments.studies paper peers --check      are the figures within the published intervals?

Run again to continue after an interruption. Studies, by name or letter:

"""


@ends_well
def main(arguments: Sequence[str] | None = None) -> int:
    """Run studies; returns the exit code: 0 done, 1 cells failed or figures differ, 2 bad input, 130 interrupted."""
    known = studies()
    listed = "\n".join(f"  {each.letter}  {name:12}{each.question}" for name, each in known.items())
    listed += "\n  j  metrics     Which metric that needs no language model predicts right answers?"
    listed += "\n  k  questions   What does compression break?"
    parser = argparse.ArgumentParser(
        prog="python -m experiments.studies",
        description=DOC + listed,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "words", nargs="+", metavar="STUDY|name=value", help="studies, and settings of conf/studies.yaml"
    )
    parser.add_argument("--saved", action="store_true", help="measure nothing")
    parser.add_argument("--check", action="store_true", help="compare with the published outcomes")
    parser.add_argument("--yes", action="store_true", help="run a grid of any size")
    given = parser.parse_intermixed_args(arguments)
    names = _names([word for word in given.words if "=" not in word])
    own = compose("studies", [word for word in given.words if "=" in word])
    failed = 0
    if not given.saved:
        failed = _measure([known[name] for name in names if name in known], own, yes=given.yes)
    outcomes = _outcomes(own, saved=given.saved)
    for name in names:
        text = _write(name, outcomes, own)
        print(text)
    if given.check:
        return _check([known[name] for name in names if name in known], outcomes, own)
    return 1 if failed else 0


def _names(given: Sequence[str]) -> list[str]:
    every = [*studies(), *OVER_ALL.values()]
    if list(given) == ["all"]:
        return every
    if not given:
        raise StgraphError(f"name a study: {', '.join(every)}, or all")
    by_letter = {each.letter: name for name, each in studies().items()} | OVER_ALL
    for name in given:
        check_choice("study", name, [*every, *by_letter])
    return list(dict.fromkeys(by_letter.get(name, name) for name in given))


def _measure(chosen: Sequence[Study], own: dict[str, Any], *, yes: bool) -> int:
    """Measure what is missing of studies; returns how many cells failed."""
    if not chosen:
        return 0
    worker = str(own["evaluator"]), str(own["model"])
    resources = Resources(**{key: own[key] for key in ("engine", "workers", "threads", "gpus", "address")})
    evaluator = load(*worker)
    plans = [plan for study in chosen for plan in plans_of(study, evaluator, own)]
    check_size(sum(map(len, plans)), own["limit"], yes=yes)
    failed = 0
    with Store(own["results"]) as store:
        for plan in plans:
            with shown() as progress:
                state = run(plan, store, worker, resources, retry=own["retry"], progress=progress)
            failed += state.counts.failed
            for error in dict.fromkeys(error for *_, error in store.failures(store.add(plan))):
                print(f"failed: {error}", file=sys.stderr)
    return failed


def plans_of(study: Study, evaluator: Evaluator, own: dict[str, Any]) -> list[Plan]:
    """The cells of a study, a plan for each condition of the clips."""
    retentions = own["retention"]
    count = own["clips"] if own["clips"] is not None else study.clips
    points = list(study.points(retentions))
    return [
        Plan(
            evaluator.identity,
            [point.settings for point in points if point.condition == condition],
            evaluator.clips(own["split"], count, **knobs),
        )
        for condition, knobs in study.conditions.items()
    ]


def _outcomes(own: dict[str, Any], *, saved: bool) -> Outcomes:
    """What was measured; with ``saved`` what ships, where nothing was."""
    results = Path(str(own["results"]))
    return read(results if results.exists() or not saved else str(own["outcomes"]))


def _write(name: str, outcomes: Outcomes, own: dict[str, Any]) -> str:
    found = _report(name, outcomes, own)
    folder = Path(str(own["output"]))
    found.save(folder, f"python -m experiments.studies {name}")
    return found.text(f"{name}.png", f"python -m experiments.studies {name}") + f"\ntable and figure in {folder}\n"


def _report(name: str, outcomes: Outcomes, own: dict[str, Any]) -> Report:
    if own["retention"] is not None:
        for value in own["retention"]:
            check_number("retention", value, above=0, at_most=1)
    return report(name, outcomes, model_of(outcomes), own["split"], own["clips"], own["retention"])


def _check(chosen: Sequence[Study], outcomes: Outcomes, own: dict[str, Any]) -> int:
    """Whether measured figures lie within the published intervals; of many rows a few may lie outside by chance."""
    published = Outcomes.load(str(own["outcomes"]))
    model = model_of(outcomes)
    inside, total = 0, 0
    for each in chosen:
        found = measure(each, outcomes, model, clips_of(each, outcomes, own["split"], own["clips"]), own["retention"])
        clips = clips_of(each, published, own["split"], own["clips"])
        known = measure(each, published, model_of(published), clips, own["retention"])
        for line in found.lines:
            other = known.line(line.row, line.retention, line.condition)
            if other is not None:
                total += 1
                inside += other.accuracy.low - 1e-9 <= line.accuracy.estimate <= other.accuracy.high + 1e-9
    print(f"{inside} of {total} figures lie within the published intervals")
    return 0 if total and inside >= 0.95 * total else 1


if __name__ == "__main__":
    sys.exit(main())
