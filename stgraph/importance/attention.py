"""Importance by attention: of the language model, or of the vision encoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from .base import Evidence, Importance


@dataclass(frozen=True)
class LanguageModelAttention(Importance):
    """Head-mean attention of the last prompt token in an early LLM layer (paper, design 4, after FastV)."""

    signal: ClassVar[str] = "llm_attention"

    def __call__(self, evidence: Evidence) -> Tensor:
        """(V,) attention received; needs the signal ``llm_attention``."""
        return evidence.signals.require(self.signal, "importance 'llm_attention'")[evidence.graph.token]


@dataclass(frozen=True)
class EncoderAttention(Importance):
    """Attention that the token receives in the vision encoder, from [CLS] where there is one (as FasterVLM ranks
    tokens).
    """

    signal: ClassVar[str] = "encoder_attention"

    def __call__(self, evidence: Evidence) -> Tensor:
        """(V,) attention received; needs the signal ``encoder_attention``."""
        return evidence.signals.require(self.signal, "importance 'encoder_attention'")[evidence.graph.token]
