"""Past the paper: compose parts of ST-SimDiff, choose on the validation split, and test once on the test split.

  python -m experiments.search              choose, and write conf/found.yaml
  python -m experiments.search trim=before  of what drops tokens before the language model
  python -m experiments.studies found split=test

Candidates are drawn at random from all combinations of parts. The paper's default and the last choice are among them.
Successive halving measures them on more and more clips and keeps the better third each time. All changes of one part of
the best follow in the same way, again and again until none is better. Nothing is measured on the test split here.
"""

from __future__ import annotations

import argparse
import itertools
import random
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from stgraph.errors import StgraphError, check_choice, check_number

from .ending import ends_well
from .outcomes import Outcomes
from .settings import compose
from .statistics import accuracy, difference, words
from .studies.catalogue import FOUND, settings, words_chosen
from .sweep import Plan, Store, run
from .sweep.__main__ import check_size, shown
from .sweep.engines import Resources
from .sweep.evaluator import load

Words = tuple[str, ...]

PARTS: Mapping[str, Sequence[Words]] = {
    "threshold": [
        (),
        ("similarity_threshold=0.7",),
        ("similarity_threshold=0.85",),
        ("similarity_threshold=0.9",),
        ("similarity_threshold=0.95",),
        ("similarity_threshold=representatives",),
        ("similarity_threshold=communities",),
    ],
    "community": [
        (),
        ("community=sqrt_split",),
        ("community=sqrt_split", "community.bound=16"),
        ("community=leiden",),
        ("community=leiden", "community.objective=cpm", "community.resolution=0.05"),
        ("community=label_propagation",),
    ],
    "difference": [
        (),
        ("difference.threshold=0.5",),
        ("difference.threshold=0.8",),
        ("difference=none",),
        ("difference=percentile",),
        ("difference=percentile", "difference.percentile=85"),
        ("difference=robust_z",),
        ("difference=robust_z", "difference.z=2"),
        ("difference=noise",),
        ("difference=noise", "difference.sigmas=3"),
        ("difference=drift",),
        ("difference=multiscale",),
        ("difference=frame_relative",),
        ("difference=spatial",),
        ("difference=evs",),
        ("difference=motion",),
        ("difference=running_mean",),
        ("difference=second_difference",),
    ],
    "importance": [
        (),
        ("importance=change",),
        ("importance=distinctness",),
        ("importance=apportionment",),
        ("importance=novelty",),
        ("importance=llm_attention",),
    ],
    "events": [(), ("selector.protect_events=true",)],
    "spatial": [(), ("spatial.connectivity=8",)],
    "temporal": [(), ("temporal=motion",), ("temporal.stride=2",)],
    "followed": [(), ("selector.similarity_edges=spatial",), ("selector.similarity_edges=temporal",)],
}
"""The parts that are combined; the first choice of each is the paper's."""

INSIDE = "importance=llm_attention"
"""The choice that trims inside the language model, at the layer that is usual there; all others trim before it."""

KEEP = 3
"""A third of the candidates is kept for the next stage."""

ROUNDS = 3
"""Of changes of one part, as many as a search usually has: its size is counted with them."""

Candidate = tuple[int, ...]
"""The number of the choice of each part."""


@ends_well
def main(arguments: Sequence[str] | None = None) -> int:
    """Search; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.search",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("words", nargs="*", metavar="name=value", help="settings of conf/search.yaml")
    parser.add_argument("--yes", action="store_true", help="run a search of any size")
    given = parser.parse_intermixed_args(arguments)
    own = compose("search", given.words)
    check_number("candidates", own["candidates"], at_least=2, integer=True)
    check_number("seed", own["seed"], integer=True)
    if own["trim"] is not None:
        check_choice("trim", own["trim"], ("before", "inside"))
    text = search(own, yes=given.yes)
    print(text)
    return 0


def search(own: Mapping[str, Any], *, yes: bool = False) -> str:
    """Choose the best combination on the validation split, write it, and return what was found in words.

    Raises:
        StgraphError: settings out of range, or a search that is larger than its limit.
    """
    worker = str(own["evaluator"]), str(own["model"])
    evaluator = load(*worker)
    resources = Resources(**{key: own[key] for key in ("engine", "workers", "threads", "gpus", "address")})
    stages = [int(clips) for clips in own["stages"]]
    path = Path(str(own["found"]))
    drawn = draw(int(own["candidates"]), int(own["seed"]), own["trim"])
    last = candidate_of(words_chosen(path) or ())
    if last is not None and _trims(last, own["trim"]):
        drawn = list(dict.fromkeys([*drawn, last]))
    paper = drawn[0]
    most = len(drawn) + ROUNDS * sum(map(len, PARTS.values()))
    check_size(most * stages[0] + most // KEEP * stages[-1], own["limit"], yes=yes)
    retention = float(own["retention"])

    def halving(candidates: Sequence[Candidate], store: Store, best: Candidate) -> list[tuple[Candidate, float]]:
        """The candidates that are left after the last stage with their shares of right answers, best first.

        The best so far and the paper's default stay to the end. A candidate that fails on a clip is left out.
        """
        left = [(candidate, 0.0) for candidate in candidates]
        for clips in stages:
            names = evaluator.clips("validation", clips)
            rows = {candidate: settings(words_of(candidate), retention) for candidate, _ in left}
            with shown() as progress:
                run(Plan(evaluator.identity, list(rows.values()), names), store, worker, resources, progress=progress)
            outcomes = Outcomes.of(store, evaluator.identity["benchmark"])
            asked = np.isin(np.asarray(outcomes.clips), names)[outcomes.clip]
            shares = []
            for candidate, each in rows.items():
                number = outcomes.row(each, evaluator.identity["model"])
                if number is not None and not np.isnan(answers := outcomes.correct[number, asked]).any():
                    shares.append((candidate, float(answers.mean())))
            if not shares:
                raise StgraphError("every candidate failed on some clip; python -m experiments.sweep tells why")
            shares.sort(key=lambda pair: (-pair[1], pair[0]))
            print(f"{clips} clips: {len(rows)} candidates, best {100 * shares[0][1]:.1f} %", file=sys.stderr)
            kept = {best, paper, *(each for each, _ in shares[: max(2, len(shares) // KEEP)])}
            left = [pair for pair in shares if pair[0] in kept]
        return left

    with Store(str(own["results"])) as store:
        tried = set(drawn)
        best, before = halving(drawn, store, paper)[0][0], None
        while best != before:
            before, near = best, [best, paper, *neighbours(best, own["trim"])]
            best = halving(near, store, best)[0][0]
            tried.update(near)
        outcomes = Outcomes.of(store, evaluator.identity["benchmark"])
    names = evaluator.clips("validation", stages[-1])
    rows = [outcomes.row(settings(words_of(each), retention), evaluator.identity["model"]) for each in (best, paper)]
    one, two = (row for row in rows if row is not None)
    asked = outcomes.asked([one, two], names)
    right, clip = outcomes.correct[:, asked], outcomes.clip[asked]
    evidence = {
        "clips": stages[-1],
        "right answers, %": words(accuracy(right[one], clip)),
        "paper's default, %": words(accuracy(right[two], clip)),
        "difference, points": words(difference(right[one], right[two], clip).interval, sign=True),
    }
    found = {
        "words": list(words_of(best)),
        "retention": retention,
        "validation": evidence,
        "candidates": len(tried),
        "model": evaluator.identity["model"],
        "benchmark": evaluator.identity["benchmark"],
    }
    try:
        path.write_text(yaml.safe_dump(found, sort_keys=False, allow_unicode=True), "utf-8")
    except OSError as error:
        raise StgraphError(f"{path} cannot be written: {error.strerror or error}") from error
    figures = "\n".join(f"{name}: {value}" for name, value in evidence.items())
    return f"{' '.join(words_of(best)) or 'the paper is best'}\n{figures}\nwritten to {path}"


def draw(count: int, seed: int, trim: str | None = None) -> list[Candidate]:
    """The paper's default, and ``count`` − 1 other combinations drawn at random without repetition.

    Args:
        count: of candidates, with the paper's default.
        seed: of the generator.
        trim: ``"before"`` or ``"inside"`` the language model; None for both.
    """
    paper, *others = itertools.product(*(range(len(choices)) for choices in PARTS.values()))
    others = [each for each in others if _trims(each, trim)]
    return [paper, *random.Random(seed).sample(others, min(count - 1, len(others)))]


def neighbours(candidate: Candidate, trim: str | None = None) -> list[Candidate]:
    """All candidates that differ in one part, and trim at this place."""
    changed = [
        (*candidate[:place], choice, *candidate[place + 1 :])
        for place, choices in enumerate(PARTS.values())
        for choice in range(len(choices))
        if choice != candidate[place]
    ]
    return [each for each in changed if _trims(each, trim)]


def _trims(candidate: Candidate, trim: str | None) -> bool:
    """Whether a candidate trims at this place; all do at None."""
    return trim is None or (trim == "inside") == (INSIDE in words_of(candidate))


def candidate_of(words: Words) -> Candidate | None:
    """The candidate that these words choose; None where parts have no such choices."""
    places = []
    for choices in PARTS.values():
        fitting = [place for place, choice in enumerate(choices) if set(choice) <= set(words)]
        places.append(max(fitting, key=lambda place: len(choices[place])))
    found = tuple(places)
    return found if set(words_of(found)) == set(words) else None


def words_of(candidate: Candidate) -> Words:
    """The words of a candidate; none for the paper's default."""
    chosen = (choices[number] for number, choices in zip(candidate, PARTS.values(), strict=True))
    return tuple(word for each in chosen for word in each)


__all__ = ["FOUND", "PARTS", "candidate_of", "draw", "main", "neighbours", "search", "words_of"]

if __name__ == "__main__":
    sys.exit(main())
