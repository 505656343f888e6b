"""What a sweep measures with: a model with its clips, and the worker that holds one."""

from __future__ import annotations

import importlib
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

from stgraph.errors import StgraphError

if TYPE_CHECKING:
    from torch import Tensor

    from stgraph.selectors import Selection, Selector
    from stgraph.signals import Signals
    from stgraph.tokens import VideoTokens


class Answers(Protocol):
    """What a model answered to the Q questions about a clip; the questions have the same order for every selector.

    Attributes:
        kinds: (Q,) the type of each question.
        correct: (Q,) whether the answer is right.
        probability: (Q,) of the right answer.
        selection: the kept tokens; None where all were seen.
        seconds: of each stage.
        flops: of the prefill, 0 where they are not counted.
    """

    kinds: Sequence[str]
    correct: Sequence[bool]
    probability: Sequence[float]
    selection: Selection | None
    seconds: Mapping[str, float]
    flops: float


class OpenClip(Protocol):
    """A clip that was rendered and encoded once, for many selectors.

    Attributes:
        tokens: its N tokens.
        signals: what the vision tower hands on.
        events: (N,) bool masks of the tokens that its questions rest on, by kind.
    """

    tokens: VideoTokens
    signals: Signals
    events: Mapping[str, Tensor]

    def answer(self, selector: Selector | None, *, trim: Any = None, layer: int | None = None) -> Answers:
        """Answer all questions; None sees all tokens."""
        ...


class Evaluator(Protocol):
    """A model with its clips.

    Attributes:
        identity: all that results depend on besides clip and settings, such as the digest of the checkpoint
            (``"model"``) and the version of clips and questions (``"benchmark"``).
    """

    identity: Mapping[str, str]

    def clips(self, split: str, count: int | None = None, **knobs: Any) -> list[str]:
        """Names of the first ``count`` clips of a split; a name is enough to make the clip in another process."""
        ...

    def open(self, clip: str) -> OpenClip:
        """Render and encode a clip."""
        ...


class Result(NamedTuple):
    """What one cell gave.

    Attributes:
        kinds: (Q,) types of the questions.
        correct: (Q,) right or not.
        probability: (Q,) of the right answers.
        figures: others, by name: tokens, kept, coverage, ...; ``"<stage> seconds"`` are times.
        seconds: that the cell took.
    """

    kinds: tuple[str, ...]
    correct: tuple[bool, ...]
    probability: tuple[float, ...]
    figures: dict[str, float]
    seconds: float


def clip_name(split: str, number: int | str, knobs: Mapping[str, Any]) -> str:
    """The name of a clip, from which it can be made again: ``"test/17"``, ``"test/17?frames=32&noise=20"``."""
    asked = "&".join(f"{key}={value}" for key, value in sorted(knobs.items()))
    return f"{split}/{number}{'?' if asked else ''}{asked}"


def load(function: str, model: str) -> Evaluator:
    """The evaluator that ``"package.module:function"`` makes of a model's folder.

    Raises:
        StgraphError: the function cannot be imported, or does not accept the model.
    """
    module, _, name = function.partition(":")
    try:
        make = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise StgraphError(
            f"evaluator must be module:function, and {function!r} cannot be imported: {error}"
        ) from error
    return cast(Evaluator, make(model))


class Worker:
    """Measures cells with an evaluator that it loads when it needs it, and keeps the last clip open.

    Args:
        function: see :func:`load`.
        model: folder of the model.
        threads: that torch may use.
    """

    def __init__(self, function: str, model: str, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        self._function, self._model = function, model
        self._evaluator: Evaluator | None = None
        self._open: tuple[str, OpenClip] | None = None

    def measure(self, settings: Mapping[str, Any], clip: str) -> Result:
        """The result of one cell.

        Raises:
            StgraphError: anything wrong with the settings, the model or the clip.
        """
        from stgraph.registry import registry
        from stgraph.selectors.metrics import evaluate

        start = time.perf_counter()
        selector = None if settings["selector"] is None else registry("selector").build(settings["selector"])
        opened = self._opened(clip)
        answers = opened.answer(selector, trim=settings["trim"], layer=settings["layer"])
        n = int((~opened.tokens.separator).sum())
        figures = {"tokens": float(n), "kept": float(n)}
        if answers.flops:
            figures["prefill GFLOPs"] = answers.flops / 1e9
        if answers.selection is not None:
            chosen = answers.selection
            quality = evaluate(opened.tokens, chosen, dict(opened.events))
            figures |= {
                "kept": float(sum(chosen.budget)),
                "coverage": quality.coverage,
                "reconstruction error": quality.reconstruction_error,
                "frame spread": quality.frame_spread,
            }
            if quality.event_recall is not None:
                figures["event recall"] = quality.event_recall
            if bool((chosen.community >= 0).any()):
                figures["communities"] = float(chosen.community.max() + 1)
            figures |= {f"{stage} seconds": seconds for stage, seconds in chosen.seconds.items()}
        figures |= {f"{stage} seconds": seconds for stage, seconds in answers.seconds.items()}
        return Result(
            tuple(answers.kinds),
            tuple(map(bool, answers.correct)),
            tuple(map(float, answers.probability)),
            figures,
            time.perf_counter() - start,
        )

    def _opened(self, clip: str) -> OpenClip:
        if self._evaluator is None:
            self._evaluator = load(self._function, self._model)
        if self._open is None or self._open[0] != clip:
            self._open = None  # the memory of the one before is free before the next is read
            self._open = clip, self._evaluator.open(clip)
        return self._open[1]
