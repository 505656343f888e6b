"""The leaderboard: one file a method in ``experiments/entries/``, from which docs/leaderboard.md is made.

  python -m experiments.leaderboard                                   make the page from the files
  python -m experiments.leaderboard add NAME selector=my.module:Mine  measure a method and write its file
  python -m experiments.leaderboard all                               the same for every method and preset here

A file holds a bit for each question, so the page can be made, and checked, without a model. Its digest covers all that
it says.
"""

from __future__ import annotations

import argparse
import base64
import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stgraph.app.compare import Cell, markdown
from stgraph.errors import StgraphError

from .ending import ends_well
from .outcomes import Outcomes
from .settings import compose
from .statistics import accuracy, words
from .studies.catalogue import FLOORS, FOUND, FULL, PAPER, peers, settings, words_chosen
from .sweep import Plan, Store, run, settings_of
from .sweep.__main__ import check_size, shown
from .sweep.cells import digest
from .sweep.engines import Resources
from .sweep.evaluator import load

FILES = Path(__file__).with_name("entries")
FORMAT = "stgraph leaderboard 1"


@dataclass(frozen=True)
class Entry:
    """A method's outcomes at one or more retentions.

    Attributes:
        method: its name in the table.
        words: that select it.
        benchmark: version of clips and questions.
        model: digest of the model.
        split: of the clips.
        clip: (Q,) the clip of each question.
        kind: (Q,) the type of each question.
        results: retention → what was measured there.
    """

    method: str
    words: tuple[str, ...]
    benchmark: str
    model: str
    split: str
    clip: tuple[int, ...]
    kind: tuple[str, ...]
    results: Mapping[float, Measured]

    @cached_property
    def content(self) -> dict[str, Any]:
        """Everything but the digest, as plain data."""
        kinds = sorted(set(self.kind))
        return {
            "format": FORMAT,
            "method": self.method,
            "words": list(self.words),
            "benchmark": self.benchmark,
            "model": self.model,
            "split": self.split,
            "questions_of_clips": np.bincount(self.clip).tolist(),
            "kinds": kinds,
            "kind": base64.b64encode(bytes(kinds.index(kind) for kind in self.kind)).decode(),
            "results": {str(retention): each.content for retention, each in self.results.items()},
        }

    def save(self, folder: Path = FILES) -> Path:
        """Write the file of the method.

        Raises:
            StgraphError: it cannot be written.
        """
        path = folder / f"{re.sub(r'[^a-z0-9]+', '-', self.method.lower()).strip('-')}.json"
        text = json.dumps({**self.content, "digest": digest(self.content)}, indent=1, ensure_ascii=False) + "\n"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
        except OSError as error:
            raise StgraphError(f"{path} cannot be written: {error.strerror or error}") from error
        return path

    @classmethod
    def load(cls, path: Path) -> Entry:
        """Read the file of a method.

        Raises:
            StgraphError: it has no digest, another one than its content, or is no such file.
        """
        try:
            content = json.loads(path.read_text("utf-8"))
            given = dict(content).get("digest")
            content = {key: value for key, value in content.items() if key != "digest"}
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise StgraphError(f"{path} is not a row of the leaderboard: {error}") from error
        if given is None:
            raise StgraphError(f"{path} has no digest; make it with: python -m experiments.leaderboard add")
        if given != digest(content):
            raise StgraphError(f"{path} was changed after it was made (its digest does not fit); make it again")
        if content.get("format") != FORMAT:
            raise StgraphError(f"{path} must have the format {FORMAT!r}, got {content.get('format')!r}")
        kinds = content["kinds"]
        counts = content["questions_of_clips"]
        return cls(
            content["method"],
            tuple(content["words"]),
            content["benchmark"],
            content["model"],
            content["split"],
            tuple(np.repeat(np.arange(len(counts)), counts).tolist()),
            tuple(kinds[number] for number in base64.b64decode(content["kind"])),
            {float(key): Measured.of(each, sum(counts)) for key, each in content["results"].items()},
        )


@dataclass(frozen=True, eq=False)
class Measured:
    """One method at one retention.

    Attributes:
        correct: (Q,) bool.
        figures: means over clips: kept tokens, seconds.
    """

    correct: NDArray[np.bool_]
    figures: Mapping[str, float]

    @property
    def content(self) -> dict[str, Any]:
        """As plain data."""
        bits = base64.b64encode(np.packbits(self.correct).tobytes()).decode()
        return {"correct": bits, "figures": dict(self.figures)}

    @classmethod
    def of(cls, content: Mapping[str, Any], questions: int) -> Measured:
        """From plain data."""
        packed = np.frombuffer(base64.b64decode(content["correct"]), np.uint8)
        return cls(np.unpackbits(packed, count=questions).astype(bool), content["figures"])


@ends_well
def main(arguments: Sequence[str] | None = None) -> int:
    """Make the page, or add a method; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.leaderboard",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("words", nargs="*", metavar="add NAME | all | name=value")
    parser.add_argument("--yes", action="store_true", help="run a grid of any size")
    given = parser.parse_intermixed_args(arguments)
    plain = [word for word in given.words if "=" not in word]
    rest = [word for word in given.words if "=" in word]
    keys = set(compose("leaderboard", []))
    own = compose("leaderboard", [word for word in rest if word.partition("=")[0] in keys])
    files = Path(str(own["files"]))
    methods = tuple(word for word in rest if word.partition("=")[0] not in keys)
    if plain == ["all"]:
        names: dict[str, tuple[str, ...]] = {FULL: ("selector=none",), PAPER: (), **FLOORS, **peers()}
        if (tuned := words_chosen(FOUND)) is not None:
            names["tuned"] = tuned
        for path in add(names, own, files, yes=given.yes):
            print(path)
    elif plain[:1] == ["add"]:
        if len(plain) != 2:
            raise StgraphError("add takes one name: add NAME selector=module:Class; quote a name with spaces")
        for path in add({plain[1]: methods}, own, files, yes=given.yes):
            print(f"{path}; commit it with the page, and open a pull request")
    elif plain or methods:
        raise StgraphError(
            f"{(plain or methods)[0]!r} is not understood; expected add NAME, all, or settings such as retention=0.3"
        )
    page = Path(str(own["page"]))
    page.write_text(text(entries(files)), "utf-8")
    print(page)
    return 0


def add(
    methods: Mapping[str, Sequence[str]], own: Mapping[str, Any], files: Path = FILES, *, yes: bool = False
) -> list[Path]:
    """Measure methods on the split of the leaderboard and write their files.

    A method that fails on a clip gets no file, and is told on stderr.

    Args:
        methods: name → words.
        own: settings of conf/leaderboard.yaml.
        files: folder of the files.
        yes: whatever the size of the grid.
    """
    worker = str(own["evaluator"]), str(own["model"])
    evaluator = load(*worker)
    retentions = [float(value) for value in own["retention"]]
    rows = {
        (name, retention): settings_of(None) if "selector=none" in words_of else settings(words_of, retention)
        for name, words_of in methods.items()
        for retention in ([1.0] if "selector=none" in words_of else retentions)
    }
    plan = Plan(evaluator.identity, list(rows.values()), evaluator.clips(own["split"], own["clips"]))
    check_size(len(plan), own["limit"], yes=yes)
    resources = Resources(**{key: own[key] for key in ("engine", "workers", "threads", "gpus", "address")})
    with Store(str(own["results"])) as store:
        with shown() as progress:
            run(plan, store, worker, resources, retry=own["retry"], progress=progress)
        for error in dict.fromkeys(error for *_, error in store.failures(store.add(plan))):
            print(f"failed: {error}", file=sys.stderr)
        outcomes = Outcomes.of(store, evaluator.identity["benchmark"])
    paths = []
    for name, words_of in methods.items():
        entry = entry_of(name, words_of, outcomes, plan, {r: each for (n, r), each in rows.items() if n == name}, own)
        if entry is not None:
            paths.append(entry.save(files))
    return paths


def entry_of(
    name: str,
    words_of: Sequence[str],
    outcomes: Outcomes,
    plan: Plan,
    rows: Mapping[float, Mapping[str, Any]],
    own: Mapping[str, Any],
) -> Entry | None:
    """The entry of a method from outcomes; None where it has not answered all questions."""
    model = plan.identity["model"]
    chosen = np.isin(np.asarray(outcomes.clips), list(plan.clips))
    asked = chosen[outcomes.clip]
    results = {}
    for retention, each in rows.items():
        number = outcomes.row(each, model)
        if number is None or np.isnan(outcomes.correct[number, asked]).any():
            return None
        names = ("kept", "tokens", "selection seconds", "prefill seconds", "prefill GFLOPs")
        figures = {
            key: float(np.nanmedian(outcomes.figures[key][number, chosen]))
            for key in names
            if key in outcomes.figures and not np.isnan(outcomes.figures[key][number, chosen]).all()
        }
        results[retention] = Measured(outcomes.correct[number, asked] > 0, figures)
    clip = np.unique(outcomes.clip[asked], return_inverse=True)[1]
    return Entry(
        name,
        tuple(words_of),
        outcomes.benchmark,
        model,
        str(own["split"]),
        tuple(clip.tolist()),
        tuple(outcomes.kind[asked].tolist()),
        results,
    )


def entries(folder: Path = FILES) -> list[Entry]:
    """Every entry of the leaderboard.

    Raises:
        StgraphError: a file without its digest, or files of different benchmarks, models or clips.
    """
    found = [Entry.load(path) for path in sorted(folder.glob("*.json"))]
    if not found:
        raise StgraphError(f"folder {folder} holds no row; make some with: python -m experiments.leaderboard all")
    for entry in found[1:]:
        for what in ("benchmark", "model", "split", "clip"):
            if getattr(entry, what) != getattr(found[0], what):
                raise StgraphError(
                    f"{entry.method} and {found[0].method} were measured with different {what}s; measure one again"
                )
    return found


def text(found: Sequence[Entry]) -> str:
    """The page in Markdown, best first at each retention."""
    one = found[0]
    whole = next((entry for entry in found if 1.0 in entry.results), None)
    parts = [
        "# Leaderboard\n",
        f"{len(one.kind)} questions about {max(one.clip) + 1} clips of the {one.split} split (benchmark "
        f"`{one.benchmark}`, model `{one.model[:12]}`). Right answers in percent, with 95 % intervals by a bootstrap "
        "over clips. Methods whose intervals overlap may still differ, because their questions are paired: "
        "`experiments/RESULTS.md` tests that. Times are medians of a clip on one thread of the machine that measured "
        "the row, so compare them with care. FLOPs are those of the language model for one prompt. A method that drops "
        "tokens inside the language model looks at the question, so its prefill takes as many prompts as a clip has "
        "questions. Click a heading to sort by it.\n",
    ]
    if whole is not None:
        parts.append(f"With all tokens: {words(_accuracy(whole, 1.0))} %.\n")
    for retention in sorted({retention for entry in found for retention in entry.results if retention < 1}):
        chosen = [entry for entry in found if retention in entry.results]
        chosen.sort(key=lambda entry: -float(entry.results[retention].correct.mean()))
        parts.append(f"## {retention:.0%} of the tokens\n")
        heads = ["method", "right answers", "tokens", "selection, ms", "prefill, ms", "prefill, GFLOPs", "digest"]
        rows: list[list[Cell]] = [
            [
                entry.method,
                words(_accuracy(entry, retention)),
                *_figures(entry.results[retention].figures),
                digest(entry.content)[:8],
            ]
            for entry in chosen
        ]
        parts.append(markdown(heads, rows))
        kinds = sorted(set(one.kind))
        parts.append("By type of question:\n")
        by_kind: list[list[Cell]] = [
            [entry.method, *(words(_accuracy(entry, retention, kind)) for kind in kinds)] for entry in chosen
        ]
        parts.append(markdown(["method", *kinds], by_kind))
    parts.append(ADD)
    return "\n".join(parts)


ADD = """## Add a row

1. Measure your method; this resumes where it was interrupted:
   `python -m experiments.leaderboard add "my method" selector=my_package.my_module:MyMethod --yes`
2. Commit the file that it writes in `experiments/entries/` and the page, and open one pull request.

The file holds a bit for each question and a digest of all that it says. A row whose digest is missing or does not fit
is refused.
"""


def _accuracy(entry: Entry, retention: float, kind: str | None = None) -> Any:
    chosen = np.array([kind is None or each == kind for each in entry.kind])
    correct = entry.results[retention].correct[chosen]
    return accuracy(correct, np.asarray(entry.clip)[chosen], resamples=1000)


def _figures(figures: Mapping[str, float]) -> list[Cell]:
    cells: list[Cell] = [round(figures["kept"]) if "kept" in figures else None]
    for name in ("selection seconds", "prefill seconds"):
        cells.append(f"{1000 * figures[name]:.1f}" if name in figures else None)
    cells.append(f"{figures['prefill GFLOPs']:.2f}" if "prefill GFLOPs" in figures else None)
    return cells


if __name__ == "__main__":
    sys.exit(main())
