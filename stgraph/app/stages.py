"""Stages: how long each part of an answer takes, measured by hooks on the model that any number of threads share."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import nn

from ..models.adapter import Adapter

STAGES = ("read", "prepare", "encoder", "selection", "prefill", "decode")
"""Reading the file; frames and question into inputs; vision tower and projector; choosing and cutting out tokens; the
LLM up to the first new token; all further ones."""


class Clock:
    """Seconds by stage; one stage runs at a time."""

    def __init__(self, device: torch.device) -> None:
        """No stage is timed yet. On CUDA, a stage ends when the device has finished its work."""
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self._cuda = device if device.type == "cuda" else None
        self._stage = ""
        self._since = 0.0

    def switch(self, stage: str = "") -> None:
        """End the running stage and start ``stage``, if any."""
        if self._cuda is not None:
            torch.cuda.synchronize(self._cuda)
        now = time.perf_counter()
        if self._stage:
            self.seconds[self._stage] += now - self._since
        self._stage, self._since = stage, now

    @contextmanager
    def running(self, stage: str) -> Iterator[None]:
        """``stage`` at the beginning of the block, none at its end."""
        self.switch(stage)
        try:
            yield
        finally:
            self.switch()


class _Here(threading.local):
    """State of the current thread: its clock during the first forward pass, and who gets the embeddings."""

    clock: Clock | None = None
    then: str = ""
    look: Callable[[dict[str, Any]], None] | None = None


class Stages:
    """Hooks that switch the clock of their thread while its first forward pass goes through the model.

    They are put on after the selector is attached. Those that come first and last at a module then enclose what the
    attachment does there, and that is the selection.
    """

    def __init__(self, model: nn.Module, adapter: Adapter) -> None:
        self._model, self._adapter = model, adapter
        self._here = _Here()
        self._handles: list[Any] = []

    def start(self) -> None:
        """Put the hooks on."""
        decoder = self._adapter.language_model(self._model)
        for module in (decoder, *cast(Any, decoder).layers):
            self._handles += [
                module.register_forward_pre_hook(self._to("selection"), prepend=True),
                module.register_forward_pre_hook(self._to("prefill")),
            ]
        self._handles.append(decoder.register_forward_pre_hook(self._look, with_kwargs=True, prepend=True))
        self._handles.append(self._model.register_forward_hook(self._first_pass_done, always_call=True))

    def stop(self) -> None:
        """Take them off."""
        while self._handles:
            self._handles.pop().remove()

    @contextmanager
    def measured(
        self, clock: Clock, first: str, then: str = "", look: Callable[[dict[str, Any]], None] | None = None
    ) -> Iterator[None]:
        """Run ``clock`` in this thread: from the stage ``first`` through one forward pass, then in the stage ``then``.

        Args:
            clock: stopped at the end of the block.
            first: the stage to begin with.
            then: the stage behind the pass; the clock stops there when it is empty.
            look: is shown the keyword arguments of the decoder in that pass.
        """
        self._here.clock, self._here.then, self._here.look = clock, then, look
        try:
            with clock.running(first):
                yield
        finally:
            self._here.clock = self._here.look = None

    def _to(self, stage: str) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            if self._here.clock is not None:
                self._here.clock.switch(stage)

        return hook

    def _look(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self._here.look is not None:
            self._here.look(kwargs)

    def _first_pass_done(self, *_: Any) -> None:
        if self._here.clock is not None:
            self._here.clock.switch(self._here.then)
            self._here.clock = self._here.look = None
