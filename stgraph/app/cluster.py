"""Many videos on a Ray cluster: the same outcomes as on one machine, one row a clip."""

from __future__ import annotations

import dataclasses
import logging
import pickle
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import StgraphError, check_choice, check_number
from ..optional import require
from .config import Config
from .many import Outcome, compress_many

ENGINES = ("local", "ray")


@dataclass(frozen=True)
class Resources:
    """Where a batch runs, as the words ``engine=``, ``gpus=``, ``cpus=`` and ``address=`` say.

    Attributes:
        engine: ``"local"``: this process; ``"ray"``: workers of a Ray cluster.
        cpus: of each worker, with ``engine="ray"``.
        gpus: of each worker, with ``engine="ray"``; a share such as 0.5 lets two use one.
        address: of a Ray cluster that runs, such as ``"auto"``; None starts one on this machine.
    """

    engine: str = "local"
    cpus: float = 1
    gpus: float = 0
    address: str | None = None

    def __post_init__(self) -> None:
        check_choice("engine", self.engine, ENGINES)
        check_number("cpus", self.cpus, above=0)
        check_number("gpus", self.gpus, at_least=0)
        if self.engine == "local" and (self.address is not None or self.gpus or self.cpus != 1):
            raise StgraphError(
                "cpus, gpus and address are settings of a Ray cluster; add engine=ray, or leave them out"
            )

    @classmethod
    def of_words(cls, words: Sequence[str]) -> tuple[Resources, list[str]]:
        """The resources that words of the command line name, and the other words.

        Raises:
            StgraphError: a value out of range.
        """
        import yaml

        names = [field.name for field in dataclasses.fields(cls)]
        own = [word for word in words if word.partition("=")[0] in names]
        values = {word.partition("=")[0]: yaml.safe_load(word.partition("=")[2]) for word in own}
        return cls(**values), [word for word in words if word not in own]


def start_ray(address: str | None) -> bool:
    """Join a Ray cluster, or start one on this machine; returns whether this process started it and must stop it.

    Raises:
        StgraphError: ray is not installed, or there is no cluster at that address.
    """
    ray = require("ray", extra="ray", needed_by="engine=ray")
    if ray.is_initialized():
        return False
    try:
        ray.init(address=address, log_to_driver=False, include_dashboard=False, configure_logging=False)
    except (ConnectionError, ValueError) as error:
        raise StgraphError(
            f"no Ray cluster answers at {address!r}: {error}; check the address, or leave it out"
        ) from error
    return True


def compress_on_ray(
    paths: Sequence[Path],
    config: Config,
    resources: Resources,
    *,
    workers: int = 1,
    allow_corrupt: bool = False,
) -> Iterator[tuple[int, Outcome]]:
    """Select the tokens of many videos on a Ray cluster: (place in ``paths``, outcome), as they become ready.

    Every worker has an encoder and a selector of its own. Videos are read by the workers, so their paths must mean the
    same on all machines; results come back to this process. The tokens of an outcome have one feature only.

    Args:
        paths: video files.
        config: what to do with them.
        resources: of each worker, and the cluster.
        workers: how many there are, ≥ 1.
        allow_corrupt: use what can be decoded of damaged files.

    Raises:
        StgraphError: ray is not installed, the cluster cannot be reached, or it gives up on a worker that dies again
            and again.
    """
    if not paths:
        return
    ray = require("ray", extra="ray", needed_by="engine=ray")
    data = require("ray.data", extra="ray", needed_by="engine=ray")
    own = start_ray(resources.address)
    context = data.DataContext.get_current()
    bars, context.enable_progress_bars = context.enable_progress_bars, False
    log = logging.getLogger("ray.data")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        # One clip per block: each result arrives as soon as it is ready, and an interruption loses only clips in
        # progress.
        listed = [{"place": place, "path": str(path)} for place, path in enumerate(paths)]
        rows = data.from_items(listed, override_num_blocks=len(paths))
        options: dict[str, Any] = {"num_cpus": resources.cpus, "num_gpus": resources.gpus}
        options["compute"] = data.ActorPoolStrategy(size=min(workers, len(paths)))  # Ray warns of more than have work
        done = rows.map(_Compressor, fn_constructor_args=(config, allow_corrupt), **options)
        for row in done.iter_rows():
            yield row["place"], pickle.loads(row["outcome"])
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None) or error
        reason = " ".join(str(cause.__cause__ or cause).split())
        raise StgraphError(
            f"the Ray cluster failed ({reason}); finished clips are kept: run the same command again to continue"
        ) from error
    finally:
        context.enable_progress_bars = bars
        log.setLevel(level)
        if own:
            ray.shutdown()


class _Compressor:
    """Compresses clips one by one in a worker, with one encoder for all of them."""

    def __init__(self, config: Config, allow_corrupt: bool) -> None:
        import torch

        torch.set_num_threads(1)
        self._paths: deque[str] = deque()
        endless = iter(self._paths.popleft, None)  # compress_many takes a path when it needs one
        self._outcomes = compress_many(endless, config, ahead=0, allow_corrupt=allow_corrupt)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        self._paths.append(row["path"])
        outcome = next(self._outcomes)
        if outcome.tokens is not None:
            tokens = dataclasses.replace(outcome.tokens, features=outcome.tokens.features[:, :1])
            outcome = dataclasses.replace(outcome, tokens=tokens)
        return {"place": row["place"], "outcome": pickle.dumps(outcome)}
