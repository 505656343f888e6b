"""Serving: one model, its selector and its clocks, shared by any number of threads."""

from __future__ import annotations

import copy
import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor, nn

from ..models.adapter import Adapter
from ..models.attachment import Attachment
from .stages import Stages


class Serving:
    """A selector attached to a model, and clocks on it, for as long as any thread asks.

    The first to enter puts all hooks on, the last to leave takes them off, so between answers the model is as it was.
    """

    def __init__(self, model: nn.Module, adapter: Adapter, attach: Callable[[], Attachment] | None) -> None:
        self.attached: Attachment | None = None
        self.stages = Stages(model, adapter)
        self.encoder = EncoderMemory(model, adapter)
        self._attach = attach
        self._users = 0
        self._lock = threading.Lock()
        self._stack = ExitStack()

    @contextmanager
    def entered(self) -> Iterator[Serving]:
        """The block in which the model may be asked."""
        with self._lock:
            if not self._users:
                self._start()
            self._users += 1
        try:
            yield self
        finally:
            with self._lock:
                self._users -= 1
                if not self._users:
                    self._stack.close()
                    self.attached = None

    def _start(self) -> None:
        with ExitStack() as stack:
            if self._attach is not None:
                self.attached = stack.enter_context(self._attach())
            stack.callback(self.stages.stop)
            self.stages.start()
            stack.callback(self.encoder.stop)
            self.encoder.start(self.attached)
            self._stack = stack.pop_all()


class _Memory(threading.local):
    video: Encoded | None = None


@dataclass(eq=False)
class Encoded:
    """What the vision tower and the projector made of the pixels of a video; ``output`` is None before the first."""

    pixels: Tensor
    output: Any = None
    tower: Any = None


class EncoderMemory:
    """Lets a model encode the video of a session once, by replacing its method that encodes videos."""

    def __init__(self, model: nn.Module, adapter: Adapter) -> None:
        self._inner = cast(Any, model).base_model
        self._name = "get_image_features" if adapter.pixels == "pixel_values" else "get_video_features"
        self._pixels = adapter.pixels
        self._here = _Memory()
        self._replaced: Any = None

    def start(self, attached: Attachment | None) -> None:
        """Replace the method, on this model alone."""
        original = getattr(self._inner, self._name, None)
        if original is None:
            return

        @functools.wraps(original)
        def features(*args: Any, **kwargs: Any) -> Any:
            video = self._here.video
            pixels = args[0] if args else kwargs.get(self._pixels)
            if video is None or pixels is not video.pixels:
                return original(*args, **kwargs)
            if video.output is None:
                video.output = original(*args, **kwargs)
                video.tower = None if attached is None else attached.tower_input
            elif attached is not None:
                attached.tower_input = video.tower
            return copy.copy(video.output)

        self._replaced = vars(self._inner).get(self._name)
        setattr(self._inner, self._name, features)

    def stop(self) -> None:
        """Put the method back."""
        vars(self._inner).pop(self._name, None)
        if self._replaced is not None:
            setattr(self._inner, self._name, self._replaced)

    @contextmanager
    def of(self, video: Encoded | None) -> Iterator[None]:
        """Within the block, this thread asks about ``video``."""
        self._here.video = video
        try:
            yield
        finally:
            self._here.video = None
