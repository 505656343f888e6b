"""Encoder: frames in, tokens out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

from ..signals import Signals
from ..tokens import VideoTokens
from ..video import Video


class Encoded(NamedTuple):
    """What an encoder returns: the tokens, and the signals that selectors may ask for."""

    tokens: VideoTokens
    signals: Signals


@dataclass(frozen=True)
class Encoder(ABC):
    """A deterministic map from frames to tokens; fields are its parameters.

    Subclasses implement ``__call__`` for one :class:`~stgraph.video.Video`; the tokens carry its timestamps.
    """

    @abstractmethod
    def __call__(self, video: Video) -> Encoded:
        """Tokens of shape (T·h·w, d) for the T frames of ``video``, and their signals."""
