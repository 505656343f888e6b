"""Session: many questions about one video, which is read, encoded, selected from and prefilled once.

The prompt of every question begins alike, up to the last token of the video. Where the selection does not depend on the
question (``trim="before"``), that beginning goes through the model once, and each question continues from its key-value
cache. Otherwise only what the encoder made of the video is kept.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from .. import compat
from ..errors import StgraphError
from ..models.attachment import Attachment
from ..models.prompt import IMAGES, Turn
from ..optional import quiet_transformers
from ..selectors.selection import Selection
from ..tokens import VideoTokens
from ..video import Video
from .answers import Answer, Choice, check_question, letters_of, options_asked, reset_peak
from .batching import PER_COLUMN, joined
from .engine import Engine, Generated
from .generation import Streamer, continues
from .serving import Encoded, Serving
from .stages import Clock


class Beginning(NamedTuple):
    """The common beginning of all prompts of a session, after it went through the model.

    Attributes:
        ids: (P,) token ids of its columns.
        cache: its keys and values.
        selection: of the video's tokens; None without a selector.
    """

    ids: Tensor
    cache: Any
    selection: Selection | None


class VideoSession:
    """Questions about one video: ``with qa.video("clip.mp4") as v: v.ask("What happens?").text``.

    Each question stands alone unless it is given a history. Threads may share a session.

    Attributes:
        video: the sampled frames.
        system: replaces the system prompt of the model.
        seconds: what was done once, by stage: reading, preparing and, once a question needed them, encoding, selecting
            and the prefill of the video.
        tokens: features of the video's tokens, once a question was asked; None unless they are kept.
        engine: the model that is asked.
    """

    def __init__(
        self, engine: Engine, video: Video, *, read: float = 0.0, system: str | None = None, keep_tokens: bool = False
    ) -> None:
        """Prepare ``video``, which took ``read`` seconds to be read; :meth:`VideoQA.video` does so."""
        self.video, self.system = video, system
        self.tokens: VideoTokens | None = None
        self.engine, self._keep_tokens = engine, keep_tokens
        self._lock = threading.Lock()
        self._stack = ExitStack()
        self._serving: Serving | None = None
        self._beginning: Beginning | None = None
        self._made: dict[str, tuple[Any, Any]] = {}
        self._encoded: Encoded | None = None
        clock = engine.clock()
        with quiet_transformers(), clock.running("prepare"):
            self._seen = engine.prompt.see(video)
        self.seconds = clock.seconds | {"read": read}

    def __enter__(self) -> VideoSession:
        self._serving = self._stack.enter_context(self.engine.serving.entered())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._serving = self._beginning = self._encoded = None
        self._made.clear()
        self._stack.close()

    # -- questions -----------------------------------------------------------------------------------------------------

    def ask(
        self,
        question: str,
        *,
        history: Sequence[Answer | tuple[str, str]] = (),
        images: Sequence[Any] = (),
        on_text: Callable[[str], None] | None = None,
        **generation: Any,
    ) -> Answer:
        """Answer a question.

        Args:
            question: any text that is not empty.
            history: earlier questions of the same conversation with their answers, the oldest first: answers of this
                session, or pairs of texts.
            images: pictures (PIL) that the question is about too, in families that can.
            on_text: is called with each piece of the answer's text as it comes.
            generation: arguments of ``generate``, see docs/ask.md. Without any, decoding is greedy and ends after
                ``max_new_tokens``.

        Raises:
            StgraphError: the question is empty, or the inputs do not fit the model.
        """
        return self.answers([question], history, images, on_text, generation)[0]

    def ask_all(
        self, questions: Sequence[str], *, history: Sequence[Answer | tuple[str, str]] = (), **generation: Any
    ) -> list[Answer]:
        """Answer several questions in one batch; each stands alone, and none sees the others.

        The seconds of the batch are divided among the answers. Where the selection depends on the question
        (``trim="inside"``), they are asked one by one.

        Args:
            questions: at least one.
            history: as for :meth:`ask`, of all of them.
            generation: arguments of ``generate``.

        Raises:
            StgraphError: no question, or as :meth:`ask`.
        """
        if isinstance(questions, str) or not questions:
            raise StgraphError(f"ask_all takes a list of questions, got {questions!r}; ask takes one")
        return self.answers(questions, history, (), None, generation)

    def choose(self, question: str, options: Sequence[str]) -> Choice:
        """Answer a multiple-choice question by the letter that the model finds likeliest as its first word.

        Nothing is decoded: one pass over the prompt decides, so an answer in other words than a letter cannot be given.

        Args:
            question: any text that is not empty.
            options: 2 to 26 answers. They are put to the model as ``A. …``, each on a line of its own.

        Raises:
            StgraphError: as :meth:`ask`; too few or too many options; a tokenizer that splits single letters.
        """
        return self.chosen(question, options)

    def chosen(self, question: str, options: Sequence[str], *, once: bool = False) -> Choice:
        """The same; ``once``: no other question follows, so nothing is prepared for one."""
        check_question(question)
        asked = options_asked(question, options)
        letters = letters_of(self.engine.prompt.tokenizer, len(options))
        told = {"max_new_tokens": 1, "output_logits": True, "return_dict_in_generate": True}
        clock = self.engine.clock()
        inputs = [self.inputs([(asked, None)], clock)]
        found = self._generated(inputs, told, None, clock, once=once)
        probabilities = found.output.logits[0][0, letters].float().softmax(0).tolist()
        best = max(range(len(options)), key=probabilities.__getitem__)
        report = self.engine.report(inputs[0], found, 0, clock, self.video)
        return Choice(best, tuple(probabilities), found.selection, report, self.video)

    # -- inputs --------------------------------------------------------------------------------------------------------

    def answers(
        self,
        questions: Sequence[str],
        history: Sequence[Answer | tuple[str, str]],
        images: Sequence[Any],
        on_text: Callable[[str], None] | None,
        generation: Mapping[str, Any],
        *,
        once: bool = False,
    ) -> list[Answer]:
        """Answers to one question or several; ``once``: no other follows, so nothing is prepared for one."""
        for question in questions:
            check_question(question)
        said: list[Turn] = [(one.question, one.text) if isinstance(one, Answer) else _pair(one) for one in history]
        if len(questions) > 1 and not self._may_begin(generation):
            return [self.answers([question], history, images, on_text, generation)[0] for question in questions]
        clock = self.engine.clock()
        inputs = [self.inputs([*said, (question, None)], clock, images) for question in questions]
        found = self._generated(inputs, generation, on_text, clock, once=once)
        return [
            Answer(
                self.engine.prompt.words(found.rows[row]),
                found.selection,
                self.engine.report(inputs[row], found, row, clock, self.video),
                self.video,
                self.tokens,
                question,
            )
            for row, question in enumerate(questions)
        ]

    def inputs(self, turns: Sequence[Turn], clock: Clock, images: Sequence[Any] = ()) -> dict[str, Any]:
        """The inputs of a conversation, on the model's device; those of the video are always the same objects."""
        adapter = self.engine.adapter
        if images and adapter.pixels == "pixel_values":
            raise StgraphError(
                "this model takes the frames of a video as images, so it cannot tell other images from frames; leave "
                "the images out"
            )
        with quiet_transformers(), clock.running("prepare"):
            made = self.engine.prompt.ask(self._seen, turns, system=self.system, images=list(map(_picture, images)))
            own = {key for key in made if key in PER_COLUMN or (images and key in IMAGES)}
            whole = {key: self.engine.placed(key, made[key]) for key in own}
            with self._lock:
                return whole | {key: self._shared(key, value) for key, value in made.items() if key not in own}

    def _shared(self, key: str, value: Any) -> Any:
        """A part of the video's inputs on the model's device: the same object for every question."""
        before, there = self._made.get(key, (None, None))
        if not _same(before, value):
            self._beginning = self._encoded = None
            there = self.engine.placed(key, value)
            self._made[key] = (value, there)
        return there

    @property
    def selects_once(self) -> bool:
        """Whether the same tokens are kept for every question."""
        attached = self._entered().attached
        return attached is None or (attached.trim == "before" and not attached.selector.reads_question)

    def _may_begin(self, generation: Mapping[str, Any]) -> bool:
        """Whether a question may continue from the common beginning."""
        return self.selects_once and continues(self.engine.model, generation)

    def _entered(self) -> Serving:
        if self._serving is None:
            raise StgraphError(
                "this session is not open; ask inside its with block: with qa.video(...) as v: v.ask(...)"
            )
        return self._serving

    # -- the model -----------------------------------------------------------------------------------------------------

    def _generated(
        self,
        inputs: Sequence[dict[str, Any]],
        generation: Mapping[str, Any],
        on_text: Callable[[str], None] | None,
        clock: Clock,
        *,
        once: bool = False,
    ) -> Generated:
        """Run ``generate`` on one prompt, or on several that continue from the common beginning."""
        serving, model = self._entered(), cast(Any, self.engine.model)
        positions = [compat.prompt_positions(model, one) for one in inputs]
        given = dict(generation)
        if on_text is not None:
            given["streamer"] = Streamer(self.engine.prompt, on_text)
        for one, place in zip(inputs, positions, strict=True):
            self.engine.check_length(one, place, given.get("max_new_tokens", self.engine.max_new_tokens), self.video)
        reset_peak(self.engine.device)
        beginning = None if once or not self._may_begin(given) else self._begun(inputs[0], positions[0])
        if beginning is None:
            look = self._keep(inputs[0]) if self._keep_tokens else None
            with serving.encoder.of(self._encoding(inputs[0])):
                return self.engine.generate(inputs[0], given, clock, look=look)
        whole = joined(inputs, positions, len(beginning.ids))
        cache = _branch(beginning.cache, len(inputs), serving.attached)
        found = self.engine.generate(whole | {compat.cache_name(): cache}, given, clock, first="prefill")
        return found._replace(selection=beginning.selection)

    def _encoding(self, inputs: Mapping[str, Any]) -> Encoded | None:
        """What the encoder is to remember."""
        pixels = inputs.get(self.engine.adapter.pixels)
        if pixels is None:
            return None
        if self._encoded is None or self._encoded.pixels is not pixels:
            self._encoded = Encoded(pixels)
        return self._encoded

    def _begun(self, inputs: Mapping[str, Any], positions: Tensor) -> Beginning | None:
        """The common beginning; None where this prompt begins otherwise or the model's cache cannot be shared."""
        with self._lock:
            if self._beginning is None:
                self._beginning = self._begin(inputs, positions)
            found = self._beginning
        ids = inputs["input_ids"][0]
        same = len(ids) > len(found.ids) and torch.equal(ids[: len(found.ids)], found.ids)
        return found if same else None

    def _begin(self, inputs: Mapping[str, Any], positions: Tensor) -> Beginning:
        """One pass over the columns up to the last one of the video."""
        serving, model, adapter = self._entered(), cast(Any, self.engine.model), self.engine.adapter
        end = int(adapter.placeholders(model, inputs)[0].nonzero()[-1]) + 1
        images = () if adapter.pixels == "pixel_values" else IMAGES
        part = {key: x[:, :end] if key in PER_COLUMN else x for key, x in inputs.items() if key not in images}
        self.engine.check_length(inputs, positions, 1, self.video)
        clock = self.engine.clock()
        look = self._keep(part) if self._keep_tokens else None
        with torch.no_grad(), quiet_transformers(), serving.stages.measured(clock, "encoder", look=look):
            output = model(**part, position_ids=positions[..., :end], use_cache=True, logits_to_keep=1)
        self.seconds = {stage: self.seconds[stage] + clock.seconds[stage] for stage in self.seconds}
        selection = None if serving.attached is None else serving.attached.selection
        return Beginning(part["input_ids"][0], compat.cache_made(output), selection)

    def _keep(self, inputs: Mapping[str, Any]) -> Callable[[dict[str, Any]], None]:
        """Keep the features of the video's tokens, as the LLM would have seen them."""
        adapter, model = self.engine.adapter, self.engine.model

        def look(kwargs: dict[str, Any]) -> None:
            places = adapter.placeholders(model, inputs)[0]
            self.tokens = adapter.layouts(model, inputs)[0].tokens(kwargs["inputs_embeds"][0, places].float())

        return look


def _same(before: Any, value: Any) -> bool:
    if isinstance(before, Tensor) and isinstance(value, Tensor):
        return before is value or (before.shape == value.shape and torch.equal(before, value))
    return before is not None and bool(before == value)


def _pair(turn: Any) -> Turn:
    if not (isinstance(turn, tuple) and len(turn) == 2 and all(isinstance(text, str) for text in turn)):
        raise StgraphError(f"history must hold answers, or pairs of a question and its answer, got {turn!r}")
    return turn[0], turn[1]


def _picture(image: Any) -> Any:
    from PIL import Image

    if isinstance(image, Image.Image):
        return image.convert("RGB")
    try:
        with Image.open(image) as opened:
            return opened.convert("RGB")
    except (OSError, AttributeError, TypeError, ValueError) as error:
        raise StgraphError(f"images must be pictures or paths of picture files, got {image!r} ({error})") from error


def _branch(cache: Any, rows: int, attached: Attachment | None) -> Any:
    """A copy of a cache for so many sequences, which shares its memory until it grows."""
    if attached is not None:
        return attached.branch(cache, rows)
    branch = compat.branched(cache)
    if rows > 1:
        branch.batch_repeat_interleave(rows)
    return branch
