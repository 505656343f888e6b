"""Encoder: frames in, tokens out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

from ..signals import Signals
from ..tokens import VideoTokens
from ..video import Video

LARGEST = 720
"""Largest useful number of pixels of the shorter side of a frame, for all encoders here and for the report."""


class Encoded(NamedTuple):
    """What an encoder returns: the tokens, and the signals that selectors may ask for."""

    tokens: VideoTokens
    signals: Signals


@dataclass(frozen=True)
class Encoder(ABC):
    """A deterministic map from frames to tokens; fields are its parameters.

    Subclasses implement ``__call__`` for one :class:`~stgraph.video.Video`; the tokens carry its timestamps.
    """

    @property
    def largest(self) -> int:
        """Frames whose shorter side has more pixels may be shrunk to this while they are decoded, to save memory."""
        return LARGEST

    def identity(self) -> object | None:
        """What beside the parameters decides the tokens, such as the state of files of weights; plain data.

        None where that cannot be told: then tokens are not kept from one run to the next.
        """
        return ()

    @abstractmethod
    def __call__(self, video: Video) -> Encoded:
        """Tokens of shape (T·h·w, d) for the T frames of ``video``, and their signals."""
