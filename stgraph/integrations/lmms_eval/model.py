"""Stgraph: any supported video LLM with any selector, as a model of lmms-eval.

Imported by lmms-eval alone. Its settings are read without Hydra, whose parser needs another release of antlr than the
dependencies of lmms-eval do.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby, takewhile
from typing import Any, NamedTuple

import numpy as np
import torch
from lmms_eval.api.instance import GenerationResult, TokenCounts
from lmms_eval.api.model import lmms
from lmms_eval.models.model_utils.gen_metrics import log_metrics
from PIL import Image
from rich.progress import track

from ...app.answers import Answer, AnswerReport
from ...app.ask import VideoQA, selector_settings
from ...app.config import resolve
from ...app.stages import STAGES
from ...errors import StgraphError, check_choice, check_number
from ...models.loading import input_device
from ...video import Video, read_video


class Protocol(NamedTuple):
    """How questions are put where nothing else is said.

    Attributes:
        sampling: of frames, as for :func:`stgraph.read_video`.
        time_instruction: whether LLaVA-Video is told the times of its frames; None is as its folder says.
        max_new_tokens: where the task does not say.
        heeds_until: whether an answer ends where the task says (``until``).
    """

    sampling: dict[str, Any]
    time_instruction: bool | None
    max_new_tokens: int
    heeds_until: bool


PROTOCOLS = {
    "default": Protocol({}, None, 64, heeds_until=True),
    "release": Protocol({"fps": 1, "max_frames": 64}, False, 1024, heeds_until=False),
}
"""``release`` is what the authors' code for LLaVA-Video does: a frame each second, and 64 evenly spaced ones where
these would be more; the question right behind the video; at most 1,024 new tokens; no stop words."""


class Request(NamedTuple):
    """One request of lmms-eval, read.

    Attributes:
        key: equal for requests about the same part of the same file.
        video: the file, or the frames.
        span: seconds to read, where a task names a part.
        question: the text.
        generation: what the task asks of the decoding, in the words of transformers.
        stops: texts at which an answer ends.
        arguments: what lmms-eval caches the answer by.
    """

    key: object
    video: str | Video
    span: dict[str, float]
    question: str
    generation: dict[str, Any]
    stops: list[str]
    arguments: tuple[Any, Any]


class Stgraph(lmms):  # type: ignore[misc]  # lmms-eval is no dependency, so its classes have no types here
    """``--model stgraph --model_args pretrained=FOLDER,selector=simdiff,retention=0.3``.

    Questions about the same video that follow each other share one session: it is encoded and selected from once. What
    the LLM was spared is in the results under ``throughput``, what it saw of each sample in the samples'
    ``token_counts``. Under ``accelerate launch`` each rank answers its part of the questions on a device of its own.

    Args:
        pretrained: folder or model id of a video LLM.
        protocol: ``default``, or ``release`` for that of the paper's code, see :data:`PROTOCOLS`. What is given beside
            it counts.
        trim: ``before`` or ``inside``; left out, the selector's own place, see :meth:`stgraph.Selector.attach`.
        layer: with ``inside``, the layer that trims.
        max_frames: frames of a video at most, evenly spaced where its sampling gives more.
        max_new_tokens: of an answer, where the task does not say.
        time_instruction: tell LLaVA-Video the times of its frames, or do not.
        pool_mode: how LLaVA-Video pools patches: ``bilinear``, ``average`` or ``max``; left out, as its folder says.
        system: replaces the system prompt.
        dtype: of the weights.
        device: any of torch, such as ``cuda:1``; CUDA where there is one when not given.
        device_map: of accelerate, for a model spread over several devices.
        attn_implementation: see :meth:`stgraph.Selector.attach`.
        quantization_config: ``int8`` or ``int4``, on a GPU.
        batch_size: questions that are answered at once: those about the same video, or one about each of several.
        max_batch_size: passed by lmms-eval, without effect.
        settings: the words of the command line, such as ``selector=fastv``, ``retention=0.3``, ``difference=drift`` or
            ``video.frames=64``; ``selector=none`` lets the model see all tokens.

    Raises:
        StgraphError: settings or a model that :meth:`stgraph.VideoQA.from_pretrained` refuses.
    """

    is_simple = False

    def __init__(
        self,
        pretrained: str,
        protocol: str = "default",
        trim: str | None = None,
        layer: int | None = None,
        max_frames: int | None = None,
        max_new_tokens: int | None = None,
        time_instruction: bool | None = None,
        pool_mode: str | None = None,
        system: str | None = None,
        dtype: str = "auto",
        device: str | None = None,
        device_map: str | None = None,
        attn_implementation: str = "sdpa",
        quantization_config: str | None = None,
        batch_size: int | str = 1,
        max_batch_size: int | None = None,
        **settings: Any,
    ) -> None:
        super().__init__()
        check_choice("protocol", protocol, PROTOCOLS)
        self.protocol = PROTOCOLS[protocol]
        self.batch_size = _count("batch_size", batch_size)
        place = self._join_ranks(device, device_map)
        whole = settings.get("selector") == "none"
        if whole:
            del settings["selector"]
        config = selector_settings(resolve((), settings), list(settings))
        sampling = sampling_of(self.protocol, config.video, max_frames)
        self.qa = VideoQA.from_pretrained(
            pretrained,
            None if whole else config.selector(),
            device=place,
            dtype=dtype,
            device_map=device_map,
            attn_implementation=attn_implementation,
            quantization_config=quantization_config,
            time_instruction=_truth("time_instruction", time_instruction),
            overrides={} if pool_mode is None else {"mm_spatial_pool_mode": pool_mode},
            trim=trim,
            layer=layer,
            sampling=sampling,
            max_new_tokens=self.protocol.max_new_tokens if max_new_tokens is None else max_new_tokens,
            system=system,
        )
        settled = time_instruction is not None or self.protocol.time_instruction is None
        if not settled and hasattr(self.qa.prompt, "time_instruction"):  # other families are never told
            self.qa.prompt.time_instruction = self.protocol.time_instruction

    def _join_ranks(self, device: str | None, device_map: str | None) -> str:
        """The device of this process; with others it joins them, so that lmms-eval can gather what they answer."""
        ranks, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("LOCAL_RANK", "0"))
        if ranks < 2:
            return device or "auto"
        if device_map is not None or (device or "cuda").partition(":")[2]:
            raise StgraphError(
                f"each of {ranks} ranks has a device of its own, so neither device={device} nor "
                f"device_map={device_map} can be given; leave them out, or start one process"
            )
        from accelerate import Accelerator

        cpu = device == "cpu" or not torch.cuda.is_available()
        self.accelerator = Accelerator(cpu=cpu)
        self._rank, self._world_size = self.accelerator.process_index, self.accelerator.num_processes
        return "cpu" if cpu else f"cuda:{rank}"

    @property
    def device(self) -> torch.device:
        """That the model's inputs go to; lmms-eval counts the questions of all ranks there."""
        return input_device(self.qa.model)

    def generate_until(self, requests: Sequence[Any]) -> list[Any]:
        """An answer to every request, in their order."""
        results: list[Any] = []
        reports: list[AnswerReport] = []
        shown = track(requests, "answering", disable=self.rank != 0)
        for request, answer in self._answered(map(self._read, shown)):
            text = answer.text
            for stop in request.stops if self.protocol.heeds_until else ():
                text = text.partition(stop)[0]
            report = answer.report
            counts = TokenCounts(input_tokens=report.prompt_kept, output_tokens=report.generated)
            results.append(GenerationResult(text, counts))
            self.cache_hook.add_partial("generate_until", request.arguments, text)
            reports.append(report)
        if reports:
            _report(reports)
        return results

    def loglikelihood(self, requests: Sequence[Any]) -> list[Any]:
        """Refused: lmms-eval asks chat models to generate only."""
        raise StgraphError("stgraph generates answers; choose the variant of the task whose output is generated")

    def generate_until_multi_round(self, requests: Sequence[Any]) -> list[Any]:
        """Refused: each question is asked on its own."""
        raise StgraphError(
            "stgraph answers single questions, and this task has several rounds; choose a task with one round"
        )

    def _read(self, request: Any) -> Request:
        context, doc_to_messages, options, number, task, split = request.args
        video, span, question = asked(doc_to_messages(self.task_dict[task][split][number]))
        key = object() if isinstance(video, Video) else (str(video), *sorted(span.items()))
        return Request(key, video, span, question, generation_of(options), stops_of(options), (context, options))

    def _answered(self, requests: Iterator[Request]) -> Iterator[tuple[Request, Answer]]:
        """Answers in the order of the requests: in one session for those about one video, in batches for others."""
        single: list[Request] = []
        for _, group in groupby(requests, lambda request: request.key):
            same = list(group)
            if single and (len(same) > 1 or len(single) == self.batch_size or not _alike(single[0], same[0])):
                yield from self._about_many(single)
                single = []
            if len(same) > 1:
                yield from self._about_one(same)
            else:
                single += same
        if single:
            yield from self._about_many(single)

    def _about_one(self, requests: Sequence[Request]) -> Iterator[tuple[Request, Answer]]:
        """Questions about one video, which is encoded and selected from once."""
        answers: list[Answer] = []
        with self.qa.video(self._video(requests[0])) as session:
            while rest := requests[len(answers) :]:
                chunk = list(takewhile(partial(_alike, rest[0]), rest[: self.batch_size]))
                questions, generation = [request.question for request in chunk], chunk[0].generation
                answers += session.ask_all(questions, **generation)
            once = {stage: seconds / len(answers) for stage, seconds in session.seconds.items()}
        for request, answer in zip(requests, answers, strict=True):
            yield request, replace(answer, report=answer.report.beside(once))

    def _about_many(self, requests: Sequence[Request]) -> Iterator[tuple[Request, Answer]]:
        """A question about each of several videos, or about one."""
        videos = [self._video(request) for request in requests]
        questions, generation = [request.question for request in requests], requests[0].generation
        return zip(requests, self.qa.ask_all(videos, questions, **generation), strict=True)

    def _video(self, request: Request) -> str | Video:
        if request.span:
            return read_video(str(request.video), **{**self.qa.sampling, **request.span})
        return request.video


def sampling_of(protocol: Protocol, given: Mapping[str, Any], max_frames: int | None) -> dict[str, Any]:
    """How videos are read: what is given, and the protocol's way where nothing is said of how many frames."""
    sampling = dict(given)
    if not sampling.keys() & {"frames", "fps", "stride"}:
        sampling = protocol.sampling | sampling
    if max_frames is not None:
        sampling["max_frames"] = max_frames
    return sampling


def asked(messages: Sequence[Any]) -> tuple[Any, dict[str, float], str]:
    """The video of a conversation, the seconds of it that are meant, and the text; pictures are frames of a video.

    Raises:
        StgraphError: there is no video or several, or pictures of different sizes.
    """
    parts = [part for message in messages for part in message["content"]]
    videos = [part for part in parts if part["type"] == "video"]
    pictures = [part["url"] for part in parts if part["type"] == "image"]
    question = "\n".join(part["text"] for part in parts if part["type"] == "text")
    if len(videos) + bool(pictures) != 1:
        raise StgraphError(
            f"a question is about one video, but this one comes with {len(videos)} and {len(pictures)} pictures; "
            "choose a task with one video for each question"
        )
    if videos:
        span = {key: videos[0].get(f"{key}_time") for key in ("start", "end")}
        return videos[0]["url"], {key: second for key, second in span.items() if second is not None}, question
    frames = [torch.from_numpy(np.array(_picture(item).convert("RGB"))).permute(2, 0, 1) for item in pictures]
    if len({frame.shape for frame in frames}) > 1:
        raise StgraphError(
            "the pictures of a question have different sizes, so they are not frames of one video; choose another task"
        )
    return Video(torch.stack(frames), torch.arange(len(frames), dtype=torch.float64)), {}, question


def _picture(item: Any) -> Image.Image:
    return item if isinstance(item, Image.Image) else Image.open(item)


def _alike(first: Request, second: Request) -> bool:
    """Whether two requests may stand in one batch."""
    return first.generation == second.generation


def generation_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """What a task asks of the decoding, in the words of transformers."""
    known = {key: options[key] for key in ("max_new_tokens", "num_beams") if options.get(key) is not None}
    if options.get("do_sample") or (options.get("temperature") or 0) > 0:
        known |= {key: options[key] for key in ("temperature", "top_p", "top_k") if options.get(key) is not None}
        known["do_sample"] = True
    return known


def stops_of(options: Mapping[str, Any]) -> list[str]:
    """Texts at which an answer ends."""
    stops = options.get("until") or []
    return [stop for stop in ([stops] if isinstance(stops, str) else stops) if stop]


def _count(name: str, value: Any) -> int:
    """A number that lmms-eval may hand on as text."""
    try:
        number = int(value)
    except (TypeError, ValueError):
        number = 0
    check_number(name, number if number > 0 else value, at_least=1, integer=True)
    return number


def _truth(name: str, value: Any) -> bool | None:
    """True or False, which lmms-eval may hand on as text."""
    words = {"true": True, "false": False}
    found = words.get(value.lower(), value) if isinstance(value, str) else value
    if found is not None and not isinstance(found, bool):
        raise StgraphError(f"{name} must be True or False, got {value!r}")
    return found


def _report(reports: Sequence[AnswerReport]) -> None:
    """What lmms-eval adds to its results: totals, and means over the questions."""
    count, generated = len(reports), sum(report.generated for report in reports)
    seconds = {stage: sum(report.seconds[stage] for report in reports) for stage in STAGES}
    spent = sum(seconds.values())
    means = {f"{stage}_seconds": total / count for stage, total in seconds.items()}
    means |= {
        "video_tokens": sum(report.tokens for report in reports) / count,
        "kept_tokens": sum(report.kept for report in reports) / count,
    }
    log_metrics(spent, generated, generated / spent, {"num_requests": count, **means})
