"""What a sweep is told on the command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stgraph.app.compare import combinations
from stgraph.app.config import Config, resolve
from stgraph.app.overrides import sweep
from stgraph.errors import StgraphError, check_choice, check_number
from stgraph.registry import GROUPS

from ..settings import compose, head
from .cells import Plan, settings_of
from .engines import Resources
from .evaluator import load

FULL = "selector=none"
"""The model that sees all tokens."""


@dataclass(frozen=True)
class Settings:
    """A sweep, ready to run.

    Attributes:
        names: of the configurations, what tells each from the others.
        plan: configurations × clips.
        worker: (function, model) of the evaluator.
        results: path of the results file.
        retry: run failed cells again.
        limit: cells that need no ``--yes``.
        resources: what it may use.
    """

    names: tuple[str, ...]
    plan: Plan
    worker: tuple[str, str]
    results: Path
    retry: bool
    limit: int
    resources: Resources


def read(words: Sequence[str]) -> Settings:
    """A sweep from the words of the command line.

    Args:
        words: Hydra overrides; those of stgraph and ``trim``, ``layer`` and ``knobs.*`` may have several values.

    Raises:
        StgraphError: a word that means nothing, a value out of range, an empty grid, or a model that cannot be loaded.
    """
    for word in words:
        if "=" not in word:
            raise StgraphError(f"override {word!r} must have the form name=value, such as retention=0.1,0.3")
    ours = {*GROUPS, *resolve().data}
    methods = [word for word in words if head(word) in ours]
    grid = [_own(combination) for combination in sweep([word for word in words if head(word) not in ours])]
    own = grid[0]
    if not isinstance(own["retry"], bool):
        raise StgraphError(f"retry must be true or false, got {own['retry']!r}")
    check_number("limit", own["limit"], at_least=1, integer=True)
    check_choice("split", own["split"], ("train", "validation", "test", "quick"))
    if own["clips"] is not None:
        check_number("clips", own["clips"], at_least=1, integer=True)
    for key in own:
        values = {repr(each[key]) for each in grid}
        if len(values) > 1 and key not in ("trim", "layer", "knobs"):
            raise StgraphError(f"{key} takes one value; several are for words of stgraph, trim, layer and knobs")
    worker = str(own["evaluator"]), str(own["model"])
    resources = Resources(**{key: own[key] for key in ("engine", "workers", "threads", "gpus", "address")})
    evaluator = load(*worker)
    places = [key for key in ("trim", "layer") if len({repr(each[key]) for each in grid}) > 1]
    named: dict[str, dict[str, Any]] = {}
    for each in grid:
        for varying, config in _methods(methods):
            settings = settings_of(config, trim=each["trim"], layer=each["layer"])
            inside = {} if config is None else {key: each[key] for key in places}
            name = ", ".join(f"{key} {value}" for key, value in {**varying, **inside}.items())
            named.setdefault(name or "default", settings)
    clips = dict.fromkeys(
        clip for each in grid for clip in evaluator.clips(own["split"], own["clips"], **each["knobs"])
    )
    if not clips or not named:
        raise StgraphError("the grid is empty: it needs at least one configuration and one clip")
    plan = Plan(evaluator.identity, list(named.values()), list(clips))
    return Settings(tuple(named), plan, worker, Path(str(own["results"])), own["retry"], own["limit"], resources)


def _own(words: Sequence[str]) -> dict[str, Any]:
    """The sweep's own settings; which knobs there are is the evaluator's to know."""
    import yaml

    own = compose("sweep", [word for word in words if head(word) != "knobs"])
    for word in words:
        name, _, value = word.partition("=")
        if head(word) == "knobs":
            knob = name.strip().lstrip("+").removeprefix("knobs").removeprefix(".")
            if not knob:
                raise StgraphError("knobs are given one by one, such as knobs.noise=0.2")
            own["knobs"] = {**own["knobs"], knob: yaml.safe_load(value)}
    return own


def _methods(words: Sequence[str]) -> list[tuple[dict[str, str], Config | None]]:
    """(what varies, the configuration) for each combination; None where the model sees all tokens."""
    found: list[tuple[dict[str, str], Config | None]] = []
    plain: list[str] = []
    for word in words:
        name, _, values = word.partition("=")
        listed = [value.strip() for value in values.split(",")]
        if name.strip() == "selector" and "none" in listed:
            found.append(({"selector": "none"}, None))
            listed.remove("none")
            if not listed:
                if len(words) > 1:
                    others = [word for word in words if head(word) not in ("selector", "retention")]
                    if others:
                        raise StgraphError(f"{FULL} sees all tokens, so {others[0]!r} has no effect; leave it out")
                return found
            word = f"{name}={','.join(listed)}"
        plain.append(word)
    return [*found, *combinations(plain)]
