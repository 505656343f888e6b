"""VideoQA: questions about videos, answered by a video LLM that sees only the tokens that a selector keeps."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from ..errors import StgraphError, check_choice, check_number
from ..models.adapter import Adapter, adapter_of
from ..models.attachment import Attachment, Trim
from ..models.loading import is_placed
from ..models.prompt import Prompt, has_torchvision, load_prompt
from ..optional import quiet_transformers, require
from ..selectors.base import Selector
from ..selectors.simdiff import STSimDiff
from ..video import Video, read_video
from .answers import Answer, AnswerReport, Choice, check_question
from .checks import check_video, device_named, quantization_named
from .engine import Engine
from .saved_answer import save_answer, selector_settings
from .serving import Serving
from .session import VideoSession
from .stages import STAGES
from .together import ask_together

__all__ = [
    "STAGES",
    "Answer",
    "AnswerReport",
    "Choice",
    "VideoQA",
    "VideoSession",
    "check_question",
    "check_video",
    "save_answer",
    "selector_settings",
]

READING = tuple(inspect.signature(read_video).parameters)[1:]
"""Arguments of :func:`stgraph.read_video` beside the file."""

DTYPES = {"auto": "auto", "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, eq=False)
class VideoQA:
    """Answers questions about videos; ``VideoQA.from_pretrained(folder)("clip.mp4", "What happens?").text``.

    Threads may share one: the selector is attached when the first of them asks and taken off when the last one has its
    answer, so between answers the model is as it was.

    Attributes:
        model: a transformers video LLM of a supported family, see ``stgraph.models.MODELS``.
        prompt: makes its inputs, see :func:`stgraph.models.prompt.load_prompt`.
        selector: what keeps tokens; None lets the model see all of them.
        trim: ``"before"`` or ``"inside"`` the LLM; None is the selector's own place, see
            :meth:`stgraph.Selector.attach`.
        layer: with ``"inside"``, the layer that trims.
        adapter: for the model, instead of the registered one of its family.
        sampling: how videos are read: arguments of :func:`stgraph.read_video`, which takes 64 frames without any.
        max_new_tokens: of an answer.
        system: replaces the system prompt of the model.

    Raises:
        StgraphError: the model is of no supported family, or selector and settings do not fit it.
    """

    model: nn.Module
    prompt: Prompt
    selector: Selector | None = field(default_factory=lambda: STSimDiff(retention=0.3))
    trim: Trim | None = None
    layer: int | None = None
    adapter: Adapter | None = None
    sampling: Mapping[str, Any] = field(default_factory=dict)
    max_new_tokens: int = 64
    system: str | None = None
    engine: Engine = field(init=False, repr=False)

    def __post_init__(self) -> None:
        check_number("max_new_tokens", self.max_new_tokens, at_least=1, integer=True)
        for name in self.sampling:
            check_choice("a setting of sampling", name, READING)
        adapter = adapter_of(self.model) if self.adapter is None else self.adapter
        selector = self.selector

        def attach(selector: Selector) -> Attachment:
            return Attachment(selector, self.model, trim=self.trim, layer=self.layer, adapter=adapter)

        if selector is not None:
            attach(selector)  # attach once, so that errors are raised here and not at the first question
        serving = Serving(self.model, adapter, None if selector is None else partial(attach, selector))
        object.__setattr__(self, "engine", Engine(self.model, adapter, self.prompt, serving, self.max_new_tokens))

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path,
        selector: Selector | Literal["default"] | None = "default",
        *,
        device: str = "auto",
        dtype: str = "auto",
        device_map: Any = None,
        attn_implementation: str = "sdpa",
        quantization_config: Any = None,
        time_instruction: bool | None = None,
        overrides: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> VideoQA:
        """Load a model and what makes its inputs.

        Args:
            model: folder, or model id of the Hugging Face Hub.
            selector: as above; ST-SimDiff at 30 % when not given.
            device: any of torch, such as ``"cpu"`` or ``"cuda:1"``, or ``"auto"``: CUDA where there is one.
            dtype: ``"float32"``, ``"bfloat16"``, ``"float16"`` or ``"auto"``: that of the files.
            device_map: of accelerate, such as ``"auto"``, for a model that is spread over several devices; in place
                of ``device``.
            attn_implementation: see :meth:`stgraph.Selector.attach`.
            quantization_config: ``"int8"`` or ``"int4"``, which bitsandbytes does while it loads onto a GPU, or a
                configuration of transformers. A quantised model stays where it was loaded.
            time_instruction: whether LLaVA-Video is told the times of its frames; None is as its folder says.
            overrides: entries of the model's configuration to replace, such as ``mm_spatial_pool_mode``.
            settings: the further attributes of this class.

        Raises:
            StgraphError: no such model, a folder without weights, a model that is no video LLM, settings that do not
                fit it, or a device that is not there.
        """
        require("transformers", extra="models", needed_by="a video LLM")
        from ..models import load_model

        check_choice("dtype", dtype, DTYPES)
        place = device_named(device, spread=device_map is not None)
        options = dict(overrides or {}) | {"attn_implementation": attn_implementation}
        if device_map is not None:
            options["device_map"] = device_map
        if quantization_config is not None:
            options["quantization_config"] = quantization_named(quantization_config, place)
            options.setdefault("device_map", {"": str(place)})
        has_torchvision()  # report a broken torchvision before the import of the model fails because of it
        with quiet_transformers():
            loaded = load_model(str(model), dtype=DTYPES[dtype], **options)
            if not is_placed(loaded):
                loaded = loaded.to(place)
            prompt = load_prompt(str(model), loaded.eval())
        if time_instruction is not None:
            if not hasattr(prompt, "time_instruction"):
                raise StgraphError(
                    "time_instruction is a setting of LLaVA-Video, and this model is of another family; leave it out"
                )
            prompt.time_instruction = time_instruction
        if selector != "default":
            settings["selector"] = selector
        return cls(loaded, prompt, **settings)

    def video(self, video: str | Path | Video, *, system: str | None = None, keep_tokens: bool = False) -> VideoSession:
        """Many questions about one video, which is read, encoded and selected from once.

        Args:
            video: file, or frames that were read already.
            system: replaces the system prompt, for this session.
            keep_tokens: keep the features of the video's tokens.

        Raises:
            StgraphError: the video cannot be read, or the model cannot take its frames.
        """
        clock = self.engine.clock()
        with clock.running("read"):
            seen = video if isinstance(video, Video) else read_video(check_video(video), **self.sampling)
        system = self.system if system is None else system
        return VideoSession(self.engine, seen, read=clock.seconds["read"], system=system, keep_tokens=keep_tokens)

    def __call__(
        self,
        video: str | Path | Video,
        question: str,
        *,
        history: Sequence[Answer | tuple[str, str]] = (),
        images: Sequence[Any] = (),
        system: str | None = None,
        on_text: Callable[[str], None] | None = None,
        keep_tokens: bool = False,
        **generation: Any,
    ) -> Answer:
        """Answer a question about a video.

        Args:
            video: file, or frames that were read already.
            question: any text that is not empty.
            history: earlier questions of the same conversation with their answers, see :meth:`VideoSession.ask`.
            images: pictures (PIL) that the question is about too, in families that can.
            system: replaces the system prompt.
            on_text: is called with each piece of the answer's text as it comes.
            keep_tokens: hand out the features of the video's tokens with the answer.
            generation: arguments of ``generate``, see docs/ask.md. Without any, decoding is greedy and ends after
                ``max_new_tokens``.

        Raises:
            StgraphError: the video cannot be read, the question is empty, or the inputs do not fit the model.
        """
        check_question(question)
        with self.video(video, system=system, keep_tokens=keep_tokens) as session:
            (answer,) = session.answers([question], history, images, on_text, generation, once=True)
            return replace(answer, report=answer.report.beside(session.seconds))

    def ask_all(
        self, videos: Sequence[str | Path | Video], questions: Sequence[str], **generation: Any
    ) -> list[Answer]:
        """Answer one question about each of several videos, in one batch where the model takes them together.

        The seconds of a batch are divided among its answers. Videos whose frames differ in number or size are asked one
        by one, in families that take videos in one tensor.

        Args:
            videos: files, or frames that were read already.
            questions: one for each video.
            generation: arguments of ``generate``.

        Raises:
            StgraphError: no video, another number of questions, or as a call.
        """
        if isinstance(videos, (str, Path, Video)) or not videos or len(videos) != len(questions):
            raise StgraphError(f"expected one question for each of {len(videos)} videos, got {len(questions)}")
        for question in questions:
            check_question(question)
        with ExitStack() as stack:
            sessions = [stack.enter_context(self.video(video)) for video in videos]
            answers = ask_together(self.engine, sessions, questions, generation) if len(videos) > 1 else None
            if answers is None:
                answers = [
                    session.answers([question], (), (), None, generation, once=True)[0]
                    for session, question in zip(sessions, questions, strict=True)
                ]
            return [
                replace(answer, report=answer.report.beside(session.seconds))
                for answer, session in zip(answers, sessions, strict=True)
            ]

    def choose(
        self, video: str | Path | Video, question: str, options: Sequence[str], *, system: str | None = None
    ) -> Choice:
        """Answer a multiple-choice question, see :meth:`VideoSession.choose`.

        Args:
            video: file, or frames that were read already.
            question: any text that is not empty.
            options: 2 to 26 answers. They are put to the model as ``A. …``, each on a line of its own.
            system: replaces the system prompt.

        Raises:
            StgraphError: as for a call; too few or too many options; a tokenizer that splits single letters.
        """
        check_question(question)
        with self.video(video, system=system) as session:
            choice = session.chosen(question, options, once=True)
            return replace(choice, report=choice.report.beside(session.seconds))
