"""Generation: which settings of a model and of a caller are used for an answer."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

from torch import Tensor, nn

from ..errors import StgraphError, check_number, nearest
from ..models.prompt import Prompt

GREEDY = ("temperature", "top_p", "top_k", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff", "top_h")
"""Settings of sampling. They have no effect in greedy decoding."""

NEUTRAL = {"repetition_penalty": 1.0, "no_repeat_ngram_size": 0}
"""Settings that depend on earlier tokens -> the value with which they have no effect."""

CONTINUING = {
    *GREEDY,
    *NEUTRAL,
    *("max_new_tokens", "min_new_tokens", "do_sample", "eos_token_id", "pad_token_id", "suppress_tokens"),
    *("begin_suppress_tokens", "bad_words_ids", "logits_processor", "stopping_criteria", "stop_strings", "tokenizer"),
    *("max_time", "streamer", "output_logits", "output_scores", "return_dict_in_generate", "num_beams"),
    *("renormalize_logits", "remove_invalid_values"),
}
"""Arguments of ``generate`` with which an answer may continue from the cache of a video; with others it starts anew."""


@dataclass(frozen=True)
class OfTheAnswer:
    """A logits processor that sees the tokens of the answer and not those of the prompt.

    The original code of LLaVA-Video, NVILA and their like generates from embeddings, where the prompt has no ids. So a
    penalty for repetition counts new tokens only; by ids, it would count the letters of the options too.
    """

    processor: Callable[[Tensor, Tensor], Tensor]
    prompt: int

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores (B, V) of the token after ``input_ids`` (B, S)."""
        return self.processor(input_ids[:, self.prompt :], scores)


def settings(model: nn.Module, given: Mapping[str, Any], *, prompt: int, max_new_tokens: int) -> dict[str, Any]:
    """Arguments of ``generate``.

    Args:
        model: whose ``generation_config`` holds what is not given.
        given: arguments of the caller.
        prompt: columns of the prompt.
        max_new_tokens: where none is given.

    Raises:
        StgraphError: an unknown argument, numbers out of range, several answers to one question, or a stream of
            several beams.
    """
    from transformers import LogitsProcessorList, NoRepeatNGramLogitsProcessor, RepetitionPenaltyLogitsProcessor

    check_names(given)
    options = {"max_new_tokens": max_new_tokens, "do_sample": False} | dict(given)
    check_number("max_new_tokens", options["max_new_tokens"], at_least=1, integer=True)
    if not options["do_sample"]:
        options = dict.fromkeys(GREEDY[:3]) | options
    penalty = float(effective(model, given, "repetition_penalty") or 1.0)
    check_number("repetition_penalty", penalty, above=0)
    size = effective(model, given, "no_repeat_ngram_size") or 0
    check_number("no_repeat_ngram_size", size, at_least=0, integer=True)
    processors: list[Any] = []
    if penalty != 1:
        processors.append(OfTheAnswer(RepetitionPenaltyLogitsProcessor(penalty), prompt))
    if size:
        processors.append(OfTheAnswer(NoRepeatNGramLogitsProcessor(size), prompt))
    if processors:
        own = options.get("logits_processor") or []
        options |= NEUTRAL | {"logits_processor": LogitsProcessorList([*processors, *own])}
    if (effective(model, given, "num_return_sequences") or 1) > 1:
        raise StgraphError("num_return_sequences must be 1: a question has one answer; ask again for another sample")
    if options.get("streamer") is not None and (effective(model, given, "num_beams") or 1) > 1:
        raise StgraphError("an answer cannot be streamed with num_beams > 1; leave num_beams out, or do not stream")
    return options


def check_names(given: Mapping[str, Any]) -> None:
    """Raise where an argument is none of ``generate``.

    Raises:
        StgraphError: names the unknown argument and the nearest one that there is.
    """
    for name in given:
        if name not in _arguments():
            hint = nearest(name, _arguments(), cutoff=0.7, otherwise=", such as max_new_tokens or temperature")
            raise StgraphError(f"{name!r} is no argument of generate{hint}")


@cache
def _arguments() -> frozenset[str]:
    """All arguments of ``generate`` that a caller may give."""
    from transformers import GenerationConfig, GenerationMixin

    known = {*vars(GenerationConfig()), *inspect.signature(GenerationMixin.generate).parameters, *CONTINUING}
    return frozenset(name for name in known if not name.startswith("_")) - {"self", "inputs", "kwargs"}


def effective(model: nn.Module, given: Mapping[str, Any], name: str) -> Any:
    """A setting as the caller gives it, else as in the generation configuration of the caller or the model."""
    if given.get(name) is not None:
        return given[name]
    config = given.get("generation_config") or cast(Any, model).generation_config
    return getattr(config, name, None)


def continues(model: nn.Module, given: Mapping[str, Any]) -> bool:
    """Whether an answer with these settings may continue from the cache of a video."""
    plain = given.keys() <= CONTINUING and (effective(model, given, "num_beams") or 1) == 1
    config = cast(Any, model).generation_config
    return bool(plain and config.use_cache is not False and getattr(config, "cache_implementation", None) is None)


class Streamer:
    """Passes the text of an answer on while it is generated; ``generate`` calls :meth:`put` and :meth:`end`.

    The pieces, joined, are the answer's text: space at its ends is left out, and a letter of several tokens waits for
    its last one.
    """

    def __init__(self, prompt: Prompt, on_text: Callable[[str], None]) -> None:
        self._prompt, self._on_text = prompt, on_text
        self._ids: list[int] = []
        self._told = 0
        self._started = False

    def put(self, ids: Tensor) -> None:
        """The next token; the first call brings the prompt."""
        if not self._started:
            self._started = True
            return
        self._ids += ids.flatten().tolist()
        text = self._text()
        if not text.endswith("\ufffd"):
            self._tell(text)

    def end(self) -> None:
        """The answer is whole."""
        self._tell(self._text())

    def _text(self) -> str:
        from torch import tensor

        return self._prompt.words(tensor(self._ids))

    def _tell(self, text: str) -> None:
        if len(text) > self._told:
            self._on_text(text[self._told :])
            self._told = len(text)
