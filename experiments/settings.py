"""What an experiment is told: Hydra composes its own settings, stgraph's words mean what they mean everywhere."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

from stgraph.app.compare import combinations
from stgraph.app.config import Config, resolve
from stgraph.app.output import check_output
from stgraph.errors import StgraphError, check_choice, check_number, nearest
from stgraph.registry import GROUPS, registry
from stgraph.sample import KINDS

from .clips import SAMPLE, Source
from .score import Score

CONF = Path(__file__).with_name("conf")
MARK = "results.json"
"""The file that shows that a folder holds the results of an experiment."""


@dataclass(frozen=True)
class Settings:
    """One experiment, ready to run.

    Attributes:
        runs: every combination of stgraph's words with several values, as (the words that vary, the configuration).
        sources: the clips.
        score: ``"module:function"`` that scores one selector on one clip, see :mod:`experiments.score`.
        jobs: worker processes, ≥ 1.
        output: folder for the results.
        overwrite: replace the results that it holds.
        own: what else the experiment's file says.
    """

    runs: tuple[tuple[dict[str, str], Config], ...]
    sources: tuple[Source, ...]
    score: str
    jobs: int
    output: Path
    overwrite: bool
    own: dict[str, Any]

    def __post_init__(self) -> None:
        check_number("jobs", self.jobs, at_least=1, integer=True)
        if not isinstance(self.overwrite, bool):
            raise StgraphError(f"overwrite must be true or false, got {self.overwrite!r}")
        if not self.sources:
            raise StgraphError("there is no clip; name some with rendered=[sample,cut] or videos=[a.mp4]")
        for source in self.sources:
            if source.path is not None and not Path(source.path).is_file():
                raise StgraphError(f"there is no video file {source.path}")
        load_score(self.score)
        check_output(self.output, overwrite=self.overwrite)


def read(experiment: str, words: Sequence[str]) -> Settings:
    """The settings of an experiment from its file in ``conf/`` and the words of the command line.

    Args:
        experiment: name of the file.
        words: Hydra overrides. Those that name a setting of stgraph, such as ``community=leiden`` or
            ``retention=0.1,0.3``, are resolved as by the ``stgraph`` command; the others belong to the file.

    Raises:
        StgraphError: a word that means nothing, or a value out of range.
    """
    for word in words:
        if "=" not in word:
            raise StgraphError(f"override {word!r} must have the form name=value, such as retention=0.3")
    ours = {*GROUPS, *resolve().data}
    theirs = [word for word in words if head(word) not in ours]
    words = [word for word in words if head(word) in ours]
    tree = compose(experiment, theirs)
    methods = {key: tree.pop(key) for key in list(tree) if key in ours}
    retention = methods.pop("retention")
    if not any(head(word) == "retention" for word in words):
        words = [f"retention={','.join(map(str, _listed(retention)))}", *words]
    seeds = _listed(tree.pop("seeds"))
    rendered = _listed(tree.pop("rendered"))
    size = tuple(_listed(tree.pop("size")))
    for name in rendered:
        check_choice("rendered", name, (SAMPLE, *KINDS))
    many = len(seeds) > 1
    return Settings(
        runs=tuple(combinations(words, methods)),
        sources=(
            *(Source(f"{name} {seed}" if many else name, name, seed, size) for name in rendered for seed in seeds),
            *(Source(Path(path).stem, path=path) for path in map(str, _listed(tree.pop("videos")))),
        ),
        score=tree.pop("score"),
        jobs=tree.pop("jobs"),
        output=Path(str(tree.pop("output"))),
        overwrite=tree.pop("overwrite"),
        own=tree,
    )


def load_score(name: str) -> Score:
    """The scoring function called ``"module:function"``.

    Raises:
        StgraphError: it cannot be imported.
    """
    module, _, attribute = str(name).partition(":")
    try:
        return cast("Score", getattr(importlib.import_module(module), attribute))
    except (ImportError, AttributeError, ValueError) as error:
        raise StgraphError(f"score must be module:function, and {name!r} cannot be imported: {error}") from error


def compose(experiment: str, words: Sequence[str]) -> dict[str, Any]:
    """The file with the overrides of its own settings, as plain data."""
    from hydra import compose as composed
    from hydra import initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    register_groups()

    def plain(overrides: Sequence[str]) -> dict[str, Any]:
        return cast("dict[str, Any]", OmegaConf.to_container(composed(experiment, list(overrides)), resolve=True))

    with initialize_config_dir(str(CONF), version_base="1.3"):
        known = {*plain([]), *(path.name for path in CONF.iterdir() if path.is_dir())}
        for word in words:
            if head(word) not in known:
                hint = nearest(head(word), known | {*GROUPS, *resolve().data})
                raise StgraphError(f"there is no setting {head(word)!r}{hint}")
        try:
            return plain(words)
        except (HydraException, OmegaConfBaseException) as error:
            reason = str(error).strip().splitlines()[0].rstrip(".")
            raise StgraphError(f"{' '.join(words)!r} cannot be understood: {reason}") from error


@cache
def register_groups() -> None:
    """Every registered method as a choice of a Hydra group, so that a file in ``conf/`` can say ``- community:
    leiden``.
    """
    from hydra.core.config_store import ConfigStore

    store: Callable[..., None] = ConfigStore.instance().store
    for group in GROUPS:
        for name in registry(group):
            chosen = group == "selector"
            node = resolve([f"selector={name}"]).data[group] if chosen else registry(group).default_config(name)
            store(group=group, name=name, node=node)


def head(word: str) -> str:
    """What a word is about: ``study`` in ``+study.paper.rows.mine=['difference=noise']``."""
    return word.partition("=")[0].strip().lstrip("+~").split(".")[0]


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
