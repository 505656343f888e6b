"""Importance by the best signal that is available."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..registry import build_groups, group_field
from ..signals import Signals
from .attention import EncoderAttention, LanguageModelAttention
from .base import Evidence, Importance


@dataclass(frozen=True)
class Auto(Importance):
    """The LLM's attention where tokens are dropped inside one, else the encoder's, else a substitute from the graph.

    The selection's notes say which one it was.

    Attributes:
        substitute: what is used with neither.
    """

    substitute: Importance = group_field("importance", "novelty")

    def __post_init__(self) -> None:
        build_groups(self)

    def choices(self) -> tuple[Importance, ...]:
        """Either attention, or the substitute."""
        return LanguageModelAttention(), EncoderAttention(), self.substitute

    def resolve(self, signals: Signals) -> Importance:
        """The importance for these signals."""
        if signals.llm_attention is not None:
            return LanguageModelAttention()
        return EncoderAttention() if signals.encoder_attention is not None else self.substitute

    def __call__(self, evidence: Evidence) -> Tensor:
        """(V,) scores of the resolved importance."""
        return self.resolve(evidence.signals)(evidence)
