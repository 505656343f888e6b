"""VideoQA: a question about a video, answered by a video LLM that sees only the tokens that a selector keeps."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from string import ascii_uppercase
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from torch import Tensor, nn

from ..errors import StgraphError, check_choice, check_number
from ..models.adapter import Adapter
from ..models.attachment import Attachment, Trim, adapter_of
from ..models.prompt import Prompt, has_torchvision, load_prompt
from ..optional import quiet_transformers, require
from ..selectors.base import Selector
from ..selectors.selection import Selection
from ..selectors.simdiff import STSimDiff
from ..tokens import VideoTokens
from ..video import Video, read_video

if TYPE_CHECKING:
    from .config import Config

DTYPES = {"auto": "auto", "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

STAGES = ("read", "prepare", "encoder", "selection", "prefill", "decode")
"""Reading the file; frames and question into inputs; vision tower and projector; choosing and cutting out tokens; the
LLM up to the first new token; all further ones."""


@dataclass(frozen=True)
class AnswerReport:
    """What an answer took.

    Attributes:
        frames: sampled from the video.
        tokens: visual tokens of the video, separators included.
        kept: those that the LLM saw (with ``trim="inside"``: from its trimming layer on).
        trim: where tokens were dropped, ``"before"`` the LLM or ``"inside"`` it; None without a selector.
        prompt: tokens of the whole prompt before anything was dropped.
        generated: tokens of the answer.
        seconds: of each of :data:`STAGES`.
        peak_memory: bytes. On CUDA what torch allocated at most during this answer, on the CPU the most that the
            process ever held; None where the system does not tell.
        device: that the model is on.
        dtype: of the model.
    """

    frames: int
    tokens: int
    kept: int
    trim: Trim | None
    prompt: int
    generated: int
    seconds: dict[str, float]
    peak_memory: int | None
    device: str
    dtype: str

    @property
    def prompt_kept(self) -> int:
        """Tokens of the prompt that the LLM saw."""
        return self.prompt - self.tokens + self.kept


@dataclass(frozen=True, eq=False)
class Answer:
    """An answer and what it rests on.

    Attributes:
        text: of the answer.
        selection: which tokens were kept and why; None without a selector.
        report: tokens, seconds and memory.
        video: the sampled frames.
        tokens: of the video, as the LLM would have seen them; None unless asked for.
    """

    text: str
    selection: Selection | None
    report: AnswerReport
    video: Video
    tokens: VideoTokens | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """What the reader and the selector said that a user should know."""
        return (*self.video.notes, *(self.selection.notes if self.selection else ()))


@dataclass(frozen=True, eq=False)
class Choice:
    """The answer to a multiple-choice question.

    Attributes:
        index: of the chosen option.
        probabilities: of all options, as first words of the answer and among each other; they sum to 1.
        selection: which tokens were kept and why; None without a selector.
        report: tokens, seconds and memory.
    """

    index: int
    probabilities: tuple[float, ...]
    selection: Selection | None
    report: AnswerReport


@dataclass(frozen=True, eq=False)
class VideoQA:
    """Answers questions about videos; ``VideoQA.from_pretrained(folder)("clip.mp4", "What happens?").text``.

    Between calls the model is as it was: selector and clocks are there for as long as an answer takes.

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

    def __post_init__(self) -> None:
        check_number("max_new_tokens", self.max_new_tokens, at_least=1, integer=True)
        adapter = self._adapter  # says now what does not fit
        if self.selector is not None:
            Attachment(self.selector, self.model, trim=self.trim, layer=self.layer, adapter=adapter)

    @property
    def _adapter(self) -> Adapter:
        return adapter_of(self.model) if self.adapter is None else self.adapter

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path,
        selector: Selector | Literal["default"] | None = "default",
        *,
        device: str = "auto",
        dtype: str = "auto",
        **settings: Any,
    ) -> VideoQA:
        """Load a model and what makes its inputs.

        Args:
            model: folder, or model id of the Hugging Face Hub.
            selector: as above; ST-SimDiff at 30 % when not given.
            device: ``"cpu"``, ``"cuda"`` or ``"auto"``: CUDA where there is one.
            dtype: ``"float32"``, ``"bfloat16"``, ``"float16"`` or ``"auto"``: that of the files.
            settings: the further attributes of this class.

        Raises:
            StgraphError: no such model, a folder without weights, a model that is no video LLM, or settings that do not
                fit it.
        """
        require("transformers", extra="models", needed_by="a video LLM")
        from ..models import load_model

        check_choice("device", device, ("auto", "cpu", "cuda"))
        check_choice("dtype", dtype, DTYPES)
        if device == "cuda" and not torch.cuda.is_available():
            raise StgraphError("device is cuda, but torch sees no CUDA device; use cpu or auto")
        has_torchvision()  # a broken one is told before it keeps the model from being imported
        place = "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
        with quiet_transformers():
            loaded = load_model(str(model), dtype=DTYPES[dtype]).to(place).eval()
            prompt = load_prompt(str(model), loaded)
        if selector != "default":
            settings["selector"] = selector
        return cls(loaded, prompt, **settings)

    @torch.no_grad()
    def __call__(
        self, video: str | Path | Video, question: str, *, keep_tokens: bool = False, **generation: Any
    ) -> Answer:
        """Answer a question about a video.

        Args:
            video: file, or frames that were read already.
            question: any text that is not empty.
            keep_tokens: hand out the features of the video's tokens with the answer.
            generation: arguments of ``generate``. Without any, decoding is greedy and ends after ``max_new_tokens``.

        Raises:
            StgraphError: the video cannot be read, the question is empty, or the inputs do not fit the model.
        """
        return self._asked(video, question, keep_tokens, generation)[0]

    @torch.no_grad()
    def choose(self, video: str | Path | Video, question: str, options: Sequence[str]) -> Choice:
        """Answer a multiple-choice question by the letter that the model finds likeliest as its first word.

        Nothing is decoded: one pass over the prompt decides, so an answer in other words than a letter cannot be given.

        Args:
            video: file, or frames that were read already.
            question: any text that is not empty.
            options: 2 to 26 answers. They are put to the model as ``A. …``, each on a line of its own.

        Raises:
            StgraphError: as for a call; too few or too many options; a tokenizer that splits single letters.
        """
        if not 2 <= len(options) <= len(ascii_uppercase):
            raise StgraphError(f"a choice is between 2 and {len(ascii_uppercase)} options, got {len(options)}")
        check_question(question)
        letters = ascii_uppercase[: len(options)]
        lines = [f"{letter}. {option}" for letter, option in zip(letters, options, strict=True)]
        asked = "\n".join([question, *lines, "Answer with the option's letter from the given choices directly."])
        ids = [self.prompt.tokenizer.encode(letter, add_special_tokens=False) for letter in letters]
        if any(len(pieces) != 1 for pieces in ids):
            raise StgraphError("the tokenizer has no token for each letter, so options cannot be told by their letters")
        told = {"max_new_tokens": 1, "output_logits": True, "return_dict_in_generate": True}
        answer, out = self._asked(video, asked, False, told)
        probabilities = out.logits[0][0, [pieces[0] for pieces in ids]].float().softmax(0).tolist()
        best = max(range(len(options)), key=probabilities.__getitem__)
        return Choice(best, tuple(probabilities), answer.selection, answer.report)

    def _asked(
        self, video: str | Path | Video, question: str, keep_tokens: bool, generation: dict[str, Any]
    ) -> tuple[Answer, Any]:
        """The answer, and what ``generate`` returned."""
        check_question(question)
        model = cast(Any, self.model)
        clock = _Clock(model.device)
        with quiet_transformers(), clock.running("read"):
            seen = video if isinstance(video, Video) else read_video(video, **self.sampling)
            clock.switch("prepare")
            inputs = {key: self._placed(key, value) for key, value in self.prompt(seen, question).items()}
            ids = inputs["input_ids"]
            _reset_peak(model.device)
            selector, adapter = self.selector, self._adapter
            where: dict[str, Any] = {"trim": self.trim, "layer": self.layer, "adapter": adapter}
            attached = nullcontext() if selector is None else selector.attach(model, **where)
            with attached, _Watch(model, adapter, inputs, clock, keep_tokens=keep_tokens) as watch:
                options = {"max_new_tokens": self.max_new_tokens, "do_sample": False} | generation
                if not options["do_sample"]:  # a folder's own settings of sampling mean nothing then
                    options = {"temperature": None, "top_p": None, "top_k": None} | options
                clock.switch("encoder")
                out = model.generate(**inputs, **options)
        new = (out if isinstance(out, Tensor) else out.sequences)[0, ids.shape[1] :]
        selection = getattr(attached, "selection", None)
        count = int(adapter.placeholders(model, inputs).sum())
        report = AnswerReport(
            frames=len(seen),
            tokens=count,
            kept=count if selection is None else len(selection),
            trim=getattr(attached, "trim", None),
            prompt=ids.shape[1],
            generated=len(new),
            seconds={stage: clock.seconds.get(stage, 0.0) for stage in STAGES},
            peak_memory=_peak(model.device),
            device=str(model.device),
            dtype=str(model.dtype).removeprefix("torch."),
        )
        return Answer(self.prompt.words(new), selection, report, seen, watch.tokens), out

    def _placed(self, key: str, value: Any) -> Any:
        """An input on the model's device, pixels in its dtype."""
        if not isinstance(value, Tensor):
            return value
        model = cast(Any, self.model)
        return value.to(model.device, model.dtype if key.startswith("pixel_values") else value.dtype)


def check_question(question: str) -> None:
    """Raise :class:`StgraphError` where there is nothing to answer."""
    if not question.strip():
        raise StgraphError("the question is empty; ask something about the video")


def selector_settings(config: Config, overrides: Sequence[str] = ()) -> Config:
    """The settings that matter when the tokens are those of a video LLM: all but the encoder's.

    Raises:
        StgraphError: ``overrides`` set the encoder.
    """
    from .config import Config

    for override in overrides:
        if override.partition("=")[0].partition(".")[0].strip() == "encoder":
            raise StgraphError(f"{override!r} has no effect here: the tokens are the video LLM's own; leave it out")
    return Config({key: value for key, value in config.data.items() if key != "encoder"})


def save_answer(
    answer: Answer, question: str, folder: str | Path, config: Config, *, overwrite: bool = False, **more: Any
) -> None:
    """Write ``answer.json``, and beside it the selection, pictures and the report, as for a compressed video.

    Args:
        answer: of a call with ``keep_tokens=True`` and a selector.
        question: that it answers.
        folder: the output folder, made whole or not at all.
        config: the selector's and the video's settings.
        overwrite: replace another run that the folder holds.
        more: plain data for ``answer.json``.

    Raises:
        StgraphError: the answer was given without its tokens, or the folder is taken or cannot be written to.
    """
    from .pipeline import Run, measure, save

    if answer.selection is None or answer.tokens is None:
        raise StgraphError("an answer is saved with its tokens; ask with a selector and keep_tokens=True")
    tokens = answer.tokens
    video = _steps(answer.video, tokens.grids[0].frames)
    quality = measure(config, tokens, answer.selection)
    run = Run(config, video, tokens, answer.selection, quality, answer.report.seconds)
    words = {"question": question, "answer": answer.text, **more, "report": asdict(answer.report)}
    also = {"answer.json": json.dumps(words, indent=2, ensure_ascii=False) + "\n"}
    save(run, folder, overwrite=overwrite, also=also)


def _steps(video: Video, steps: int) -> Video:
    """One frame for each time step of the tokens: the first of those that the model joins."""
    if steps == len(video):
        return video
    stride = math.ceil(len(video) / steps)
    chosen = torch.arange(0, len(video), stride)
    if len(chosen) != steps:
        chosen = torch.arange(steps) * len(video) // steps
    note = f"the model joins frames: {len(video)} became {steps} time steps; pictures show the first of each"
    return Video(video.frames[chosen], video.timestamps[chosen], video.source, video.duration, (*video.notes, note))


# -- clocks -----------------------------------------------------------------------------------------------------------


class _Clock:
    """Seconds by stage; one stage runs at a time."""

    def __init__(self, device: torch.device) -> None:
        self.seconds: dict[str, float] = {}
        self._cuda = device if device.type == "cuda" else None
        self._stage = ""
        self._since = 0.0

    def switch(self, stage: str) -> None:
        """End the running stage and start ``stage``."""
        if self._cuda is not None:
            torch.cuda.synchronize(self._cuda)
        now = time.perf_counter()
        if self._stage:
            self.seconds[self._stage] = self.seconds.get(self._stage, 0.0) + now - self._since
        self._stage, self._since = stage, now

    @contextmanager
    def running(self, stage: str) -> Iterator[None]:
        """Start with ``stage``, and stop at the end of the block."""
        self.switch(stage)
        yield
        self.switch("")


class _Watch:
    """Switches the clock as the first forward pass goes through the model; afterwards none of its hooks is left.

    It is entered after the selector was attached. The hooks that come first and last at a module then enclose what the
    attachment does there, and that is the selection.
    """

    def __init__(
        self, model: nn.Module, adapter: Adapter, inputs: Mapping[str, Any], clock: _Clock, *, keep_tokens: bool
    ) -> None:
        self.tokens: VideoTokens | None = None
        self._model, self._adapter, self._inputs = model, adapter, inputs
        self._clock, self._keep_tokens = clock, keep_tokens
        self._handles: list[Any] = []

    def __enter__(self) -> _Watch:
        decoder = self._adapter.language_model(self._model)
        for module in (decoder, *cast(Any, decoder).layers):
            self._handles += [
                module.register_forward_pre_hook(self._to("selection"), prepend=True),
                module.register_forward_pre_hook(self._to("prefill")),
            ]
        if self._keep_tokens:
            self._handles.append(decoder.register_forward_pre_hook(self._keep, with_kwargs=True, prepend=True))
        self._handles.append(self._model.register_forward_hook(self._first_pass_done))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._release()

    def _release(self) -> None:
        while self._handles:
            self._handles.pop().remove()

    def _to(self, stage: str) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            self._clock.switch(stage)

        return hook

    def _first_pass_done(self, *_: Any) -> None:
        self._clock.switch("decode")
        self._release()

    def _keep(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        places = self._adapter.placeholders(self._model, self._inputs)[0]
        features = kwargs["inputs_embeds"][0, places].float()
        self.tokens = self._adapter.layouts(self._model, self._inputs)[0].tokens(features)


def _reset_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def _peak(device: torch.device) -> int | None:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), None)
