"""The contract of a selector in a server: an exact count, and a mask that always has it.

A server makes the prompt before it knows any feature, with one placeholder for each video token that will stay. So the
count depends only on the number of tokens and the rate. A mask with another count would stop the whole server. So where
the selector fails (on features that are not finite, say), evenly spaced tokens stay and an error is logged.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...app.config import resolve
from ...app.config_file import load_config
from ...budget import ceil_share, evenly_spaced
from ...errors import StgraphError, check_number
from ...importance.auto import Auto
from ...selectors import SELECTORS, Selection, Selector
from ...signals import Signals
from ...tokens import VideoTokens

LOG = logging.getLogger("stgraph.serving")

SERVERS = ("retention", "tokens", "video", "encoder")
"""Settings that a server decides: it reads and encodes the video, and has the rate."""


def kept_share(pruning_rate: float) -> float:
    """The share that stays, where servers are told the share that goes.

    Computed on the decimal number that Python prints for the rate: 1 − 0.7 is 0.3, where binary arithmetic gives
    0.30000000000000004 and would keep 4 of 10 tokens.

    Raises:
        StgraphError: a rate that is not a number in [0, 1).
    """
    check_number("pruning rate", pruning_rate, at_least=0, below=1)
    return float(1 - Decimal(repr(float(pruning_rate))))


@dataclass(frozen=True)
class ServingSelector:
    """A selector that is ready to serve.

    Attributes:
        selector: one that reads only the features and merges nothing. Its ``retention`` is not used: the server has the
            pruning rate.
        strict: raise where the selector fails on a video, in place of keeping evenly spaced tokens. For tests.

    Raises:
        StgraphError: a selector that needs more than the features of one video, or that merges tokens.
    """

    selector: Selector
    strict: bool = False

    def __post_init__(self) -> None:
        # The attention that `auto` would take first is in no server: pin its fallback.
        selector: Any = self.selector
        if isinstance(getattr(selector, "importance", None), Auto):
            object.__setattr__(self, "selector", replace(selector, importance=selector.importance.substitute))
        self._probe()

    @classmethod
    def from_overrides(cls, overrides: Sequence[str], *, strict: bool = False) -> ServingSelector:
        """The selector of a configuration: the same overrides as on the command line.

        Args:
            overrides: such as ``["selector=simdiff", "community=leiden"]``.
            strict: see the class.

        Raises:
            StgraphError: as :func:`stgraph.app.config.resolve`; an override of ``retention``, ``tokens``, ``video`` or
                ``encoder``, which the server decides; or a selector that cannot serve.
        """
        for override in overrides:
            setting = override.split("=")[0].lstrip("+~")
            if setting.split(".")[0] in SERVERS:
                raise StgraphError(
                    f"{override} cannot be set here: the server reads and encodes the video, and its pruning rate "
                    "decides how many tokens stay; leave this setting out"
                )
        return cls(resolve(overrides).selector(), strict)

    @classmethod
    def from_file(cls, path: str | Path, *, strict: bool = False) -> ServingSelector:
        """The selector of a YAML configuration file, such as the ``config.yaml`` of a compress run.

        What the server decides (:data:`SERVERS`) is passed over.

        Args:
            path: of the file.
            strict: see the class.

        Raises:
            StgraphError: as :func:`stgraph.app.config_file.load_config` and :func:`stgraph.app.config.resolve`, a
                class from outside stgraph, or a selector that cannot serve.
        """
        data = {key: value for key, value in load_config(path).items() if key not in SERVERS}
        return cls(resolve(base=data).selector(), strict)

    @property
    def configuration(self) -> dict[str, Any]:
        """The selector with every parameter, as plain data; what the server decides is left out."""
        settings = SELECTORS.config(self.selector)
        return {key: value for key, value in settings.items() if key not in ("retention", "tokens")}

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that depend on the configuration: servers must not share caches where they differ."""
        text = json.dumps(self.configuration, sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def count(self, num_tokens: int, pruning_rate: float) -> int:
        """How many of the tokens of a video stay: ⌈(1 − rate) · N⌉ in exact arithmetic.

        Args:
            num_tokens: N, at least 1.
            pruning_rate: in [0, 1).
        """
        check_number("num_tokens", num_tokens, at_least=1, integer=True)
        return ceil_share(kept_share(pruning_rate), num_tokens)

    def mask(
        self,
        features: Tensor,
        grid: tuple[int, int, int],
        pruning_rate: float,
        record: Callable[[VideoTokens, Selection], None] | None = None,
    ) -> Tensor:
        """Which tokens of a video stay.

        Args:
            features: (N, d), N = t·h·w in raster order: frames, rows, columns.
            grid: (t, h, w) of the tokens.
            pruning_rate: as for :meth:`count`.
            record: called with what the selector saw and chose, unless it failed.

        Returns:
            (N,) bool on the device of the features, with exactly ``count(N, pruning_rate)`` true.

        Raises:
            StgraphError: only with ``strict``: the selector fails on this video.
        """
        budget = self.count(len(features), pruning_rate)
        try:
            tokens = _tokens(features, grid)
            selection = self._select(tokens, pruning_rate)
            mask = torch.zeros(len(features), dtype=torch.bool, device=features.device)
            mask[selection.indices.to(features.device)] = True
            if int(mask.sum()) != budget:
                raise StgraphError(f"the selector kept {int(mask.sum())} tokens where {budget} must stay")
            if record is not None:
                record(tokens, selection)
        except Exception as error:  # any error: a request must not stop the server
            if self.strict:
                raise
            LOG.error("%s; this video of %d tokens keeps %d evenly spaced ones", error, len(features), budget)
            mask = torch.zeros(len(features), dtype=torch.bool, device=features.device)
            mask[evenly_spaced(len(features), budget).to(features.device)] = True
        return mask

    def _select(self, tokens: VideoTokens, pruning_rate: float) -> Selection:
        return replace(self.selector, retention=kept_share(pruning_rate))(tokens, Signals())

    def _probe(self) -> None:
        """Select from a small video, so that whatever cannot serve is found at start."""
        name = SELECTORS.name_of(self.selector)
        generator = torch.Generator().manual_seed(0)
        features = torch.randn(3 * 4 * 4, 8, generator=generator, dtype=torch.float32)
        if self.selector.reads_question:
            raise StgraphError(f"selector {name!r} reads the question, which servers do not pass to it; {_ADVICE}")
        try:
            selection = self._select(_tokens(features, (3, 4, 4)), 0.5)
        except StgraphError as error:
            raise StgraphError(f"selector {name!r} cannot serve: {error}; {_ADVICE}") from error
        if selection.merges:
            raise StgraphError(f"selector {name!r} merges tokens, and servers can only drop them; {_ADVICE}")


def _tokens(features: Tensor, grid: tuple[int, int, int]) -> VideoTokens:
    if features.ndim != 2 or len(features) != grid[0] * grid[1] * grid[2]:
        raise StgraphError(f"features must be (t·h·w, d) for the grid {grid}, got {tuple(features.shape)}")
    return VideoTokens.from_grid(features.detach().unflatten(0, grid))


_ADVICE = "take one that needs only the features and drops tokens, such as simdiff, evs or uniform"
