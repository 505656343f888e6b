"""What a method may need beyond the token features themselves."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from .errors import StgraphError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Signals:
    """Per-token signals, each aligned with the N tokens of a :class:`~stgraph.tokens.VideoTokens` (separators too).

    Attributes:
        encoder_attention: (N,) float. Attention that the token receives in the vision encoder, head mean: from [CLS]
            where the encoder has one, otherwise the mean over all queries of its frame (FasterVLM, VisionZip).
        encoder_keys: (N, d_k) float. Head-mean raw attention keys of the same encoder block (VisionZip, PruMerge).
        llm_attention: (N,) float. Head-mean attention of the last prompt token to the token in an early LLM layer
            (FastV).
    """

    encoder_attention: Tensor | None = None
    encoder_keys: Tensor | None = None
    llm_attention: Tensor | None = None

    def check(self, num_tokens: int) -> None:
        """Raise :class:`StgraphError` unless every signal has ``num_tokens`` rows and is finite."""
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None:
                continue
            if value.shape[0] != num_tokens or value.ndim != (2 if field.name == "encoder_keys" else 1):
                raise StgraphError(
                    f"signal {field.name} has shape {tuple(value.shape)}, expected one row for each of "
                    f"{num_tokens} tokens"
                )
            if not bool(value.isfinite().all()):
                raise StgraphError(f"signal {field.name} holds NaN or Inf")

    def require(self, name: str, method: str) -> Tensor:
        """The signal called ``name``, or a sentence that says who needs it and where it comes from."""
        value = getattr(self, name)
        if value is None:
            source = (
                "an attached video LLM"
                if name == "llm_attention"
                else "an encoder that has attention, such as encoder=hf"
            )
            raise StgraphError(f"{method} needs the signal {name}, which comes from {source}; none was given")
        tensor: Tensor = value
        return tensor
