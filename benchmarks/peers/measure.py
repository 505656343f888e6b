"""The figures: agreement with the authors' outputs, quality on clips, and time at the size of a 7B model's input."""

from __future__ import annotations

import dataclasses
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

from stgraph import Signals, VideoTokens, kernels, read_video
from stgraph.encoders.descriptor import Descriptor
from stgraph.sample import event_tokens, load_events
from stgraph.sample.events import Box, SampleEvent
from stgraph.selectors import SELECTORS
from stgraph.selectors.metrics import evaluate
from tests.selectors.golden.agreement import METHODS, agreement

from ..tokens import clip, similar_share

OUTCOMES = Path(__file__).with_name("outcomes.json")

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}

CUTS = {"bikes.mp4": (30, 76, 137, 187, 242)}
"""First frames behind the cuts of clips without a file of events, at 25 frames a second."""

ENOUGH_SECONDS = 10.0
"""After so long a method is not measured again."""


def load(path: Path = OUTCOMES) -> dict[str, Any]:
    """The figures that are known."""
    found: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.exists() else {}
    return {"golden": {}, "clips": {}, "times": {}} | found


def save(outcomes: dict[str, Any], path: Path = OUTCOMES) -> None:
    """Write them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(outcomes, indent=1, ensure_ascii=False) + "\n", "utf-8")


def golden(outcomes: dict[str, Any]) -> Iterator[str]:
    """How many golden outputs of each method agree."""
    for method in METHODS:
        found = agreement(method)
        outcomes["golden"][method] = {"equal": found.equal, "cases": found.cases, "rows": found.rows}
        yield f"{method}: {found.equal} of {found.cases} golden outputs"


def built(name: str, retention: float) -> tuple[Any, bool]:
    """A method, and whether the features stand in for a signal that it needs."""
    fields = {field.name for field in dataclasses.fields(SELECTORS.get(name))}
    asked = {key: "features" for key in ("signal", "keys") if key in fields}
    return SELECTORS.build({"name": name, "retention": retention, **asked}), bool(asked)


def quality(
    outcomes: dict[str, Any], path: Path, names: list[str], retentions: list[float], frames: int, *, again: bool
) -> Iterator[str]:
    """Coverage, error and recall of known events of every method on one clip."""
    own = outcomes["clips"].get(path.name, {})
    if again or own.get("frames") != frames:
        own = {"frames": frames, "rows": {}}
    todo = [(name, r) for name in names for r in retentions if f"{r:g}" not in own["rows"].get(name, {})]
    if not todo:
        return
    video = read_video(path, frames=frames)
    tokens, _ = Descriptor()(video)
    own |= {"tokens": len(tokens), "dim": tokens.features.shape[1]}
    outcomes["clips"][path.name] = own
    events = list(_events(path))
    size = (video.frames.shape[-2], video.frames.shape[-1])
    known = event_tokens(events, tokens, size) if events else None
    for name, retention in todo:
        selector, substitute = built(name, retention)
        found = evaluate(tokens, selector(tokens), known)
        row = own["rows"].setdefault(name, {})
        row[f"{retention:g}"] = {
            "coverage": round(found.coverage, 4),
            "error": round(found.reconstruction_error, 4),
            "recall": None if found.event_recall is None else round(found.event_recall, 4),
        }
        row["substitute"] = substitute
        yield f"{path.name} {name} {retention:g}: coverage {found.coverage:.3f}"


def _events(path: Path) -> Iterator[SampleEvent]:
    beside = path.with_suffix(".events.json")
    if beside.exists():
        yield from load_events(beside)
    for frame in CUTS.get(path.name, ()):
        whole = Box(0, 0, 1e6, 1e6)
        yield SampleEvent("cut", frame / 25, frame / 25, ((frame / 25, whole),))


def times(
    outcomes: dict[str, Any],
    names: list[str],
    *,
    retention: float,
    frames: int,
    dim: int,
    share: float,
    rounds: int,
    clock: str,
    again: bool,
) -> Iterator[str]:
    """Median time of every method on the same tokens; simdiff and one read of them are measured in turns with it.

    Attention and keys are random. The first round of a method warms up and is not counted, unless it takes so long that
    there is no other.
    """
    if clock == "cpu":
        torch.set_num_threads(1)
    setting = {
        "frames": frames,
        "dim": dim,
        "retention": retention,
        "share": share,
        "clock": clock,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "kernels": kernels.active(),
    }
    known = outcomes["times"]
    if again or any(known.get(key) != value for key, value in setting.items()):
        known = setting | {"rows": {}}
    todo = [name for name in names if name not in known["rows"]]
    if not todo:
        return
    print("making the tokens", file=sys.stderr, flush=True)
    x = clip(frames, dim, share)
    tokens = VideoTokens.from_grid(x)
    n, g = len(tokens), torch.Generator().manual_seed(0)
    signals = Signals(torch.rand(n, generator=g), torch.randn(n, 64, generator=g), torch.rand(n, generator=g))
    known.setdefault("tokens", n)
    known.setdefault("similar", round(similar_share(x), 3))
    outcomes["times"] = known
    simdiff = SELECTORS.build({"name": "simdiff", "retention": retention})
    simdiff(tokens, signals)
    for name in todo:
        selector = SELECTORS.build({"name": name, "retention": retention})
        taken: list[float] = []
        beside: list[float] = []
        reads: list[float] = []
        while len(taken) < rounds + 1 and sum(taken) < 1000 * ENOUGH_SECONDS:
            reads.append(_ms(tokens.features.sum, CLOCKS[clock]))
            beside.append(_ms(partial(simdiff, tokens, signals), CLOCKS[clock]))
            taken.append(_ms(partial(selector, tokens, signals), CLOCKS[clock]))
        counted = taken[1:] or taken
        median = statistics.median(counted)
        known["rows"][name] = {
            "ms": round(median, 1),
            "runs": len(counted),
            "over_simdiff": round(median / statistics.median(beside), 2),
            "reads": round(median / statistics.median(reads), 1),
        }
        yield f"{name}: {median:.0f} ms, {median / statistics.median(beside):.1f} times simdiff"


def _ms(work: Callable[[], object], clock: Callable[[], float]) -> float:
    start = clock()
    work()
    return 1000 * (clock() - start)
