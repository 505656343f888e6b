"""Outcomes of many configurations on the same questions: read from a results file, or from the compact file that ships
with the repository, one bit a question.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stgraph.errors import StgraphError, nearest

from .sweep.cells import content, digest
from .sweep.store import Store

SHIPPED = (
    "tokens",
    "kept",
    "coverage",
    "reconstruction error",
    "event recall",
    "communities",
    "selection seconds",
    "prefill seconds",
    "prefill GFLOPs",
)
"""Figures that the compact file holds, to three digits; others stay in the results file."""

FORMAT = "stgraph outcomes 1"

Bools = NDArray[np.bool_]
Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Outcomes:
    """What C configurations gave on K clips with Q questions; a cell that was not measured is NaN.

    Attributes:
        benchmark: version of clips and questions.
        configurations: content of each by name: settings, identity of the model, versions. C of them.
        clips: (K,) names.
        clip: (Q,) int64, the number of each question's clip.
        kind: (Q,) text, the type of each question.
        correct: (C, Q) float32, 1 right, 0 wrong.
        figures: (C, K) float32 by name.
    """

    benchmark: str
    configurations: dict[str, dict[str, Any]]
    clips: tuple[str, ...]
    clip: NDArray[np.int64]
    kind: NDArray[np.str_]
    correct: Floats
    figures: dict[str, Floats]

    @cached_property
    def kinds(self) -> list[str]:
        """The types of questions, sorted."""
        return sorted(set(self.kind.tolist()))

    @property
    def models(self) -> list[str]:
        """Digests of the models that answered."""
        return list(dict.fromkeys(each["identity"]["model"] for each in self.configurations.values()))

    def row(self, settings: Mapping[str, Any], model: str) -> int | None:
        """The row of a configuration of a model, whatever the versions of the libraries; the first if several."""
        wanted = {**settings, "model": model}
        return self._by_settings.get(digest(wanted))

    @cached_property
    def _by_settings(self) -> dict[str, int]:
        rows: dict[str, int] = {}
        for number, each in enumerate(self.configurations.values()):
            settings = {key: value for key, value in each.items() if key not in ("identity", "versions")}
            rows.setdefault(digest({**settings, "model": each["identity"]["model"]}), number)
        return rows

    def asked(self, rows: Sequence[int], clips: Sequence[str] | None = None) -> Bools:
        """(Q,) the questions that all of these rows were asked, of these clips or of all."""
        known: Bools = np.logical_not(np.isnan(self.correct[list(rows)]).any(axis=0))
        if clips is None:
            return known
        chosen = np.isin(np.asarray(self.clips), list(clips))
        return known & chosen[self.clip]

    # -- files --------------------------------------------------------------------------------------------------------

    @classmethod
    def of(cls, store: Store, benchmark: str | None = None) -> Outcomes:
        """Everything in a results file that was asked of one version of the benchmark.

        Raises:
            StgraphError: no result at all, or of several versions of which none is chosen.
        """
        configurations = store.configurations()
        versions = {each["identity"].get("benchmark", "") for each in configurations.values()}
        if benchmark is None:
            if len(versions) != 1:
                found = ", ".join(sorted(versions)) or "none"
                raise StgraphError(f"{store.path} must hold results of one version of the benchmark, found: {found}")
            benchmark = versions.pop()
        chosen = {
            name: each for name, each in configurations.items() if each["identity"].get("benchmark", "") == benchmark
        }
        cells = [each for each in store.results() if each[0].configuration in chosen]
        if not cells:
            raise StgraphError(f"{store.path} holds no finished cell; run the sweep first")
        finished = {cell.configuration for cell, *_ in cells}
        chosen = {name: each for name, each in chosen.items() if name in finished}
        kinds: dict[str, tuple[str, ...]] = {}
        for cell, _, answers in cells:
            asked = tuple(kind for kind, *_ in answers)
            if kinds.setdefault(cell.clip, asked) != asked:
                raise StgraphError(f"{store.path} holds different questions about clip {cell.clip}; make it anew")
        clips = sorted(kinds, key=_natural)
        start = dict(zip(clips, np.cumsum([0, *(len(kinds[clip]) for clip in clips)]).tolist(), strict=False))
        row = {name: number for number, name in enumerate(chosen)}
        place = {clip: number for number, clip in enumerate(clips)}
        total = sum(map(len, kinds.values()))
        correct = np.full((len(row), total), np.nan, np.float32)
        names = dict.fromkeys(name for _, known, _ in cells for name in known)
        figures = {name: np.full((len(row), len(clips)), np.nan, np.float32) for name in names}
        for cell, known, answers in cells:
            first = start[cell.clip]
            correct[row[cell.configuration], first : first + len(answers)] = [right for _, right, _ in answers]
            for name, value in known.items():
                figures[name][row[cell.configuration], place[cell.clip]] = value
        return cls(
            benchmark,
            chosen,
            tuple(clips),
            np.repeat(np.arange(len(clips)), [len(kinds[clip]) for clip in clips]),
            np.array([kind for clip in clips for kind in kinds[clip]]),
            correct,
            figures,
        )

    def save(self, path: str | Path) -> None:
        """Write the compact file: a bit for each question, three digits for each figure of a clip.

        Raises:
            StgraphError: it cannot be written.
        """
        from safetensors.numpy import save_file

        asked = np.stack([self._clips_of(row) for row in self.correct]) if len(self.correct) else np.zeros((0, 0), bool)
        tensors: dict[str, NDArray[Any]] = {
            "correct": np.packbits(np.nan_to_num(self.correct) > 0, axis=1),
            "asked": np.packbits(asked, axis=1),
            "clip": self.clip.astype(np.int32),
            "kind": np.array([self.kinds.index(kind) for kind in self.kind.tolist()], np.uint8),
        }
        tensors |= {f"figure {name}": self.figures[name].astype(np.float16) for name in SHIPPED if name in self.figures}
        words = {
            "benchmark": self.benchmark,
            "clips": self.clips,
            "kinds": self.kinds,
            "configurations": self.configurations,
        }
        try:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            save_file(tensors, path, {"format": FORMAT, "words": json.dumps(words)})
        except OSError as error:
            raise StgraphError(f"{path} cannot be written: {error.strerror or error}") from error

    @classmethod
    def load(cls, path: str | Path) -> Outcomes:
        """Read the compact file.

        Raises:
            StgraphError: there is none, or it is of something else.
        """
        from safetensors import SafetensorError, safe_open

        if not Path(path).is_file():
            raise StgraphError(f"there is no file of outcomes {path}; make one with python -m experiments.export")
        try:
            with safe_open(str(path), "numpy") as file:
                about = file.metadata() or {}
                if about.get("format") != FORMAT:
                    raise StgraphError(f"{path} must be a file of outcomes ({FORMAT}), got {about.get('format')!r}")
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        except (OSError, SafetensorError) as error:
            raise StgraphError(f"{path} cannot be read: {error}") from error
        words = json.loads(about["words"])
        clip = tensors["clip"].astype(np.int64)
        asked = np.unpackbits(tensors["asked"], axis=1, count=len(words["clips"])).astype(bool)
        correct = np.unpackbits(tensors["correct"], axis=1, count=len(clip)).astype(np.float32)
        correct[~asked[:, clip]] = np.nan
        figures = {
            name.removeprefix("figure "): value.astype(np.float32)
            for name, value in tensors.items()
            if name.startswith("figure ")
        }
        kind = np.array(words["kinds"])[tensors["kind"]]
        return cls(words["benchmark"], words["configurations"], tuple(words["clips"]), clip, kind, correct, figures)

    def _clips_of(self, row: Floats) -> Bools:
        """(K,) the clips whose questions a row answered."""
        asked = np.zeros(len(self.clips), bool)
        asked[self.clip[~np.isnan(row)]] = True
        return asked


def read(path: str | Path) -> Outcomes:
    """Outcomes from either kind of file, told by its content.

    Raises:
        StgraphError: see :meth:`Outcomes.of` and :meth:`Outcomes.load`.
    """
    try:
        with Path(path).open("rb") as file:
            sqlite = file.read(16).startswith(b"SQLite format 3")
    except FileNotFoundError as error:
        raise StgraphError(f"there is no file {path}; run a sweep or name another file") from error
    except OSError as error:
        raise StgraphError(f"{path} cannot be read: {error.strerror or error}") from error
    if not sqlite:
        return Outcomes.load(path)
    with Store(path, create=False) as store:
        return Outcomes.of(store)


def name_of(settings: Mapping[str, Any], identity: Mapping[str, str]) -> str:
    """The name of a configuration, as cells have it."""
    return digest(content(settings, identity))


def model_of(outcomes: Outcomes, model: str | None = None) -> str:
    """The one model of the outcomes, or the one that is named by the beginning of its digest.

    Raises:
        StgraphError: there are several and none is named, or none has this name.
    """
    models = outcomes.models
    if model is None:
        if len(models) != 1:
            raise StgraphError(f"outcomes are of several models; name one with model=, one of {', '.join(models)}")
        return models[0]
    for known in models:
        if known.startswith(model):
            return known
    raise StgraphError(f"there are no outcomes of model {model!r}{nearest(model, models)}")


def _natural(name: str) -> list[tuple[int, int, str]]:
    """A key that sorts ``test/2`` before ``test/10``."""
    parts: list[tuple[int, int, str]] = []
    number = ""
    for character in name + "\0":
        if character.isdigit():
            number += character
            continue
        if number:
            parts.append((0, int(number), ""))
            number = ""
        parts.append((1, 0, character))
    return parts
