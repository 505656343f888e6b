"""What a method may need beyond the token features themselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from .errors import StgraphError

if TYPE_CHECKING:
    from torch import Tensor


class Question(NamedTuple):
    """The text tokens behind a video in the prompt, for methods that look at the question.

    Attributes:
        states: (m, d) their states, of the size of the video's features.
        keys: (m, d_k) their attention keys, of the size of the video's; None where they are not known.
        first: column of the video's first token in the prompt.
    """

    states: Tensor
    keys: Tensor | None = None
    first: int = 0


@dataclass(frozen=True, eq=False)
class Signals:
    """Per-token signals, each aligned with the N tokens of a :class:`~stgraph.tokens.VideoTokens` (separators too).

    Attributes:
        encoder_attention: (N,) float. Attention that the token receives in the vision encoder, head mean: from [CLS]
            where the encoder has one, otherwise the mean over all queries of its frame (FasterVLM, VisionZip).
        encoder_keys: (N, d_k) float. Head-mean raw attention keys of the same encoder block (VisionZip, PruMerge).
        llm_attention: (N,) float. Head-mean attention of the last prompt token to the token in an early LLM layer
            (FastV).
        question: the text behind each video, one for each, None where nothing follows (DART, CDPruner, SparseVLM).
    """

    encoder_attention: Tensor | None = None
    encoder_keys: Tensor | None = None
    llm_attention: Tensor | None = None
    question: tuple[Question | None, ...] | None = None

    def __post_init__(self) -> None:
        for field in fields(self):  # a selection is discrete, so there is no gradient
            value = getattr(self, field.name)
            if getattr(value, "requires_grad", False):
                object.__setattr__(self, field.name, value.detach())

    def check(self, num_tokens: int) -> None:
        """Raise :class:`StgraphError` unless every signal has ``num_tokens`` rows and is finite."""
        for field in fields(Signals):
            value = getattr(self, field.name)
            if field.name == "question":
                continue
            if value is None:
                continue
            if value.shape[0] != num_tokens or value.ndim != (2 if field.name == "encoder_keys" else 1):
                raise StgraphError(
                    f"signal {field.name} has shape {tuple(value.shape)}, expected one row for each of "
                    f"{num_tokens} tokens"
                )
            if not bool(value.isfinite().all()):
                raise StgraphError(f"signal {field.name} holds NaN or Inf")

    def take(self, rows: Tensor) -> Signals:
        """The signals of some of the tokens."""
        values = {f.name: getattr(self, f.name) for f in fields(Signals)}
        return Signals(**{k: v if v is None or k == "question" else v[rows] for k, v in values.items()})

    def with_llm_attention(self, llm_attention: Tensor) -> Signals:
        """The same signals beside this ``llm_attention``, (N,)."""
        return replace(self, llm_attention=llm_attention)

    def with_question(self, question: tuple[Question | None, ...]) -> Signals:
        """The same signals beside these questions, one for each video."""
        return replace(self, question=question)

    def require(self, name: str, method: str) -> Tensor:
        """The signal called ``name``, or a sentence that says who needs it and where it comes from."""
        value = getattr(self, name)
        if value is None:
            source = (
                "a video LLM that a selector is attached to with trim='inside'"
                if name == "llm_attention"
                else "an encoder that has attention, such as encoder=hf, or a video LLM whose vision tower can be read"
            )
            raise StgraphError(f"{method} needs the signal {name}, which comes from {source}; none was given")
        tensor: Tensor = value
        return tensor


class DeferredSignals(Signals):
    """Signals of an encoder that are computed when a method first asks for one of them."""

    _encoder: Callable[[], Signals]

    def __init__(
        self,
        encoder: Callable[[], Signals],
        llm_attention: Tensor | None = None,
        question: tuple[Question | None, ...] | None = None,
    ) -> None:
        """Take ``encoder``, which makes signals that fit the tokens, and what is known already."""
        object.__setattr__(self, "llm_attention", None if llm_attention is None else llm_attention.detach())
        object.__setattr__(self, "question", question)
        object.__setattr__(self, "_encoder", cache(encoder))

    if not TYPE_CHECKING:  # properties in the place of fields

        @property
        def encoder_attention(self) -> Tensor | None:
            """(N,) attention received in the encoder."""
            return self._encoder().encoder_attention

        @property
        def encoder_keys(self) -> Tensor | None:
            """(N, d_k) keys of the encoder."""
            return self._encoder().encoder_keys

    def check(self, num_tokens: int) -> None:
        """Raise :class:`StgraphError` unless what is known already fits."""
        Signals(llm_attention=self.llm_attention).check(num_tokens)

    def take(self, rows: Tensor) -> Signals:
        """The signals of some of the tokens, still to be computed."""
        known = Signals(llm_attention=self.llm_attention).take(rows)
        return DeferredSignals(lambda: self._encoder().take(rows), known.llm_attention, self.question)

    def with_llm_attention(self, llm_attention: Tensor) -> Signals:
        """The same signals, still to be computed, beside this ``llm_attention``, (N,)."""
        return DeferredSignals(self._encoder, llm_attention, self.question)

    def with_question(self, question: tuple[Question | None, ...]) -> Signals:
        """The same signals, still to be computed, beside these questions."""
        return DeferredSignals(self._encoder, self.llm_attention, question)
