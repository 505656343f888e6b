"""Session: many questions about one video, which is read, encoded, selected from and prefilled once.

The prompt of every question begins alike, up to the last token of the video. Where the selection does not depend on the
question (``trim="before"``), that beginning goes through the model once, and each question goes on from its key-value
cache. Otherwise only what the encoder made of the video is kept.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch
from torch import Tensor

from .. import compat
from ..errors import StgraphError
from ..models.attachment import Attachment
from ..models.loading import input_device
from ..models.prompt import IMAGES, Turn
from ..optional import quiet_transformers
from ..selectors.selection import Selection
from ..tokens import VideoTokens
from ..video import Video
from .answers import Answer, AnswerReport, Choice, check_question, letters_of, options_asked, peak_memory, reset_peak
from .batching import PER_COLUMN, check_context, joined, padded, until
from .generation import Streamer, continues, effective, settings
from .serving import Encoded, Serving
from .stages import Clock

if TYPE_CHECKING:
    from .ask import VideoQA


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


class Generated(NamedTuple):
    """Answers to a batch of questions.

    Attributes:
        rows: the token ids of each answer, its end included.
        output: what ``generate`` returned.
        width: columns of the prompts.
        selection: of the video's tokens; None without a selector.
    """

    rows: list[Tensor]
    output: Any
    width: int
    selection: Selection | None


def generated(
    qa: VideoQA,
    inputs: Mapping[str, Any],
    generation: Mapping[str, Any],
    clock: Clock,
    *,
    first: str = "encoder",
    look: Callable[[dict[str, Any]], None] | None = None,
) -> Generated:
    """Run ``generate`` with the hooks of ``qa`` on the model, and cut the answers out of what it returns.

    Args:
        qa: whose :class:`Serving` was entered.
        inputs: of one prompt or of a batch.
        generation: arguments of ``generate`` as the caller gives them.
        clock: of this answer.
        first: the stage that it begins with.
        look: is shown what the decoder is given at first.
    """
    model, width = cast(Any, qa.model), inputs["input_ids"].shape[1]
    options = settings(model, generation, prompt=width, max_new_tokens=qa.max_new_tokens)
    with torch.no_grad(), quiet_transformers(), qa.serving.stages.measured(clock, first, "decode", look):
        output = model.generate(**inputs, **options)
    sequences = output if isinstance(output, Tensor) else output.sequences
    ends = effective(model, generation, "eos_token_id")
    attached = qa.serving.attached
    rows = [until(row[width:], ends) for row in sequences]
    return Generated(rows, output, width, None if attached is None else attached.selection)


def ask_together(
    qa: VideoQA, sessions: Sequence[VideoSession], questions: Sequence[str], generation: Mapping[str, Any]
) -> list[Answer] | None:
    """Answer a question about each of several videos in one batch, padded on the left.

    Returns:
        The answers, with their shares of the seconds; None where the videos' inputs cannot stand in one batch, because
        their frames are of different numbers or sizes.
    """
    clock = Clock(input_device(qa.model))
    rows = [session.inputs([(question, None)], clock) for session, question in zip(sessions, questions, strict=True)]
    whole = padded(rows)
    if whole is None:
        return None
    for session, one in zip(sessions, rows, strict=True):
        positions = compat.prompt_positions(qa.model, one)
        session.check_length(one, positions, generation.get("max_new_tokens", qa.max_new_tokens))
    reset_peak(input_device(qa.model))
    found = generated(qa, whole, generation, clock)
    answers = []
    for row, (session, question) in enumerate(zip(sessions, questions, strict=True)):
        own = found._replace(selection=None if found.selection is None else found.selection.video(row))
        report = session.report(rows[row], own, row, clock)
        text = qa.prompt.words(found.rows[row])
        answers.append(Answer(text, own.selection, report, session.video, None, question))
    return answers


class VideoSession:
    """Questions about one video: ``with qa.video("clip.mp4") as v: v.ask("What happens?").text``.

    Each question stands alone unless it is given a history. Threads may share a session.

    Attributes:
        video: the sampled frames.
        system: replaces the system prompt of the model.
        seconds: what was done once, by stage: reading, preparing and, once a question needed them, encoding, selecting
            and the prefill of the video.
        tokens: features of the video's tokens, once a question was asked; None unless they are kept.
    """

    def __init__(
        self, qa: VideoQA, video: Video, *, read: float = 0.0, system: str | None = None, keep_tokens: bool = False
    ) -> None:
        """Prepare ``video``, which took ``read`` seconds to be read; :meth:`VideoQA.video` does so."""
        self.video, self.system = video, system
        self.tokens: VideoTokens | None = None
        self._qa, self._keep_tokens = qa, keep_tokens
        self._lock = threading.Lock()
        self._stack = ExitStack()
        self._serving: Serving | None = None
        self._beginning: Beginning | None = None
        self._made: dict[str, tuple[Any, Any]] = {}
        self._encoded: Encoded | None = None
        clock = Clock(input_device(qa.model))
        with quiet_transformers(), clock.running("prepare"):
            self._seen = qa.prompt.see(video)
        self.seconds = clock.seconds | {"read": read}

    def __enter__(self) -> VideoSession:
        self._serving = self._stack.enter_context(self._qa.serving.entered())
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
        letters = letters_of(self._qa.prompt.tokenizer, len(options))
        told = {"max_new_tokens": 1, "output_logits": True, "return_dict_in_generate": True}
        clock = Clock(input_device(self._qa.model))
        inputs = [self.inputs([(asked, None)], clock)]
        found = self._generated(inputs, told, None, clock, once=once)
        probabilities = found.output.logits[0][0, letters].float().softmax(0).tolist()
        best = max(range(len(options)), key=probabilities.__getitem__)
        report = self.report(inputs[0], found, 0, clock)
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
        clock = Clock(input_device(self._qa.model))
        inputs = [self.inputs([*said, (question, None)], clock, images) for question in questions]
        found = self._generated(inputs, generation, on_text, clock, once=once)
        return [
            Answer(
                self._qa.prompt.words(found.rows[row]),
                found.selection,
                self.report(inputs[row], found, row, clock),
                self.video,
                self.tokens,
                question,
            )
            for row, question in enumerate(questions)
        ]

    def inputs(self, turns: Sequence[Turn], clock: Clock, images: Sequence[Any] = ()) -> dict[str, Any]:
        """The inputs of a conversation, on the model's device; those of the video are always the same objects."""
        adapter = self._qa.adapter_in_use
        if images and adapter.pixels == "pixel_values":
            raise StgraphError(
                "the frames of a video are images to this model, so other images cannot be told from them; leave the "
                "images out"
            )
        with quiet_transformers(), clock.running("prepare"):
            made = self._qa.prompt.ask(self._seen, turns, system=self.system, images=list(map(_picture, images)))
            own = {key for key in made if key in PER_COLUMN or (images and key in IMAGES)}
            whole = {key: self._qa.placed(key, made[key]) for key in own}
            with self._lock:
                return whole | {key: self._shared(key, value) for key, value in made.items() if key not in own}

    def _shared(self, key: str, value: Any) -> Any:
        """A part of the video's inputs on the model's device: the same object for every question."""
        before, there = self._made.get(key, (None, None))
        if not _same(before, value):
            self._beginning = self._encoded = None
            there = self._qa.placed(key, value)
            self._made[key] = (value, there)
        return there

    @property
    def selects_once(self) -> bool:
        """Whether the same tokens are kept for every question."""
        attached = self._entered().attached
        return attached is None or (attached.trim == "before" and not attached.selector.reads_question)

    def _may_begin(self, generation: Mapping[str, Any]) -> bool:
        """Whether a question may go on from the common beginning."""
        return self.selects_once and continues(self._qa.model, generation)

    def _entered(self) -> Serving:
        if self._serving is None:
            raise StgraphError("a session is asked inside its with block: with qa.video(...) as v: v.ask(...)")
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
        """Run ``generate`` on one prompt, or on several that go on from the common beginning."""
        serving, model = self._entered(), cast(Any, self._qa.model)
        positions = [compat.prompt_positions(model, one) for one in inputs]
        given = dict(generation)
        if on_text is not None:
            given["streamer"] = Streamer(self._qa.prompt, on_text)
        for one, place in zip(inputs, positions, strict=True):
            self.check_length(one, place, given.get("max_new_tokens", self._qa.max_new_tokens))
        reset_peak(input_device(model))
        beginning = None if once or not self._may_begin(given) else self._begun(inputs[0], positions[0])
        if beginning is None:
            look = self._keep(inputs[0]) if self._keep_tokens else None
            with serving.encoder.of(self._encoding(inputs[0])):
                return generated(self._qa, inputs[0], given, clock, look=look)
        whole = joined(inputs, positions, len(beginning.ids))
        cache = _branch(beginning.cache, len(inputs), serving.attached)
        found = generated(self._qa, whole | {compat.cache_name(): cache}, given, clock, first="prefill")
        return found._replace(selection=beginning.selection)

    def _encoding(self, inputs: Mapping[str, Any]) -> Encoded | None:
        """What the encoder is to remember."""
        pixels = inputs.get(self._qa.adapter_in_use.pixels)
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
        serving, model, adapter = self._entered(), cast(Any, self._qa.model), self._qa.adapter_in_use
        end = int(adapter.placeholders(model, inputs)[0].nonzero()[-1]) + 1
        images = () if adapter.pixels == "pixel_values" else IMAGES
        part = {key: x[:, :end] if key in PER_COLUMN else x for key, x in inputs.items() if key not in images}
        self.check_length(inputs, positions, 1)
        clock = Clock(input_device(model))
        look = self._keep(part) if self._keep_tokens else None
        with torch.no_grad(), quiet_transformers(), serving.stages.measured(clock, "encoder", look=look):
            output = model(**part, position_ids=positions[..., :end], use_cache=True, logits_to_keep=1)
        self.seconds = {stage: self.seconds[stage] + clock.seconds[stage] for stage in self.seconds}
        selection = None if serving.attached is None else serving.attached.selection
        return Beginning(part["input_ids"][0], compat.cache_made(output), selection)

    def _keep(self, inputs: Mapping[str, Any]) -> Callable[[dict[str, Any]], None]:
        """Keep the features of the video's tokens, as the LLM would have seen them."""
        adapter, model = self._qa.adapter_in_use, self._qa.model

        def look(kwargs: dict[str, Any]) -> None:
            places = adapter.placeholders(model, inputs)[0]
            self.tokens = adapter.layouts(model, inputs)[0].tokens(kwargs["inputs_embeds"][0, places].float())

        return look

    def check_length(self, inputs: Mapping[str, Any], positions: Tensor, new: int) -> None:
        """Raise where a prompt and ``new`` tokens of an answer have no place in the model's context."""
        model, adapter = self._qa.model, self._qa.adapter_in_use
        check_context(
            compat.context_length(adapter.language_model(model)),
            int(positions.max()) + 1,
            new,
            prompt=inputs["input_ids"].shape[1],
            video=int(adapter.placeholders(model, inputs).sum()),
            frames=len(self.video),
        )

    def report(self, inputs: Mapping[str, Any], found: Generated, row: int, clock: Clock) -> AnswerReport:
        """What an answer took, its share of the batch."""
        qa, attached = self._qa, self._entered().attached
        model, count = cast(Any, qa.model), int(qa.adapter_in_use.placeholders(qa.model, inputs).sum())
        return AnswerReport(
            frames=len(self.video),
            tokens=count,
            kept=count if found.selection is None else len(found.selection),
            trim=None if attached is None else attached.trim,
            prompt=inputs["input_ids"].shape[1],
            generated=len(found.rows[row]),
            seconds={stage: seconds / len(found.rows) for stage, seconds in clock.seconds.items()},
            peak_memory=peak_memory(input_device(model)),
            device=str(input_device(model)),
            dtype=str(model.dtype).removeprefix("torch."),
        )


def _same(before: Any, value: Any) -> bool:
    if isinstance(before, Tensor) and isinstance(value, Tensor):
        return before is value or (before.shape == value.shape and torch.equal(before, value))
    return before is not None and bool(before == value)


def _pair(turn: Any) -> Turn:
    if not (isinstance(turn, tuple) and len(turn) == 2 and all(isinstance(text, str) for text in turn)):
        raise StgraphError(f"history holds answers, or pairs of a question and its answer; got {turn!r}")
    return turn[0], turn[1]


def _picture(image: Any) -> Any:
    from PIL import Image

    if isinstance(image, Image.Image):
        return image.convert("RGB")
    try:
        with Image.open(image) as opened:
            return opened.convert("RGB")
    except (OSError, AttributeError, TypeError, ValueError) as error:
        raise StgraphError(f"images are pictures or files of pictures, got {image!r} ({error})") from error


def _branch(cache: Any, rows: int, attached: Attachment | None) -> Any:
    """A copy of a cache for so many sequences, which shares its memory until it grows."""
    if attached is not None:
        return attached.branch(cache, rows)
    branch = compat.branched(cache)
    if rows > 1:
        branch.batch_repeat_interleave(rows)
    return branch
