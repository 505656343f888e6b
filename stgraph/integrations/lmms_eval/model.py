"""Stgraph: any supported video LLM with any selector, as a model of lmms-eval.

Imported by lmms-eval alone. Its settings are read without Hydra, whose parser needs another release of antlr than the
dependencies of lmms-eval do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from lmms_eval.api.instance import GenerationResult, TokenCounts
from lmms_eval.api.model import lmms
from lmms_eval.models.model_utils.gen_metrics import log_metrics
from PIL import Image
from rich.progress import track

from ...app.ask import STAGES, AnswerReport, VideoQA, selector_settings
from ...app.config import resolve
from ...errors import StgraphError
from ...video import Video, read_video


class Stgraph(lmms):  # type: ignore[misc]  # lmms-eval is no dependency, so its classes have no types here
    """``--model stgraph --model_args pretrained=FOLDER,selector=simdiff,retention=0.3``.

    One process, one question at a time. What the LLM was spared is in the results under ``throughput``, what it saw of
    each sample in the samples' ``token_counts``.

    Args:
        pretrained: folder or model id of a video LLM.
        trim: ``before`` or ``inside``; left out, the selector's own place, see :meth:`stgraph.Selector.attach`.
        layer: with ``inside``, the layer that trims.
        dtype: of the weights.
        device: ``cpu`` or ``cuda``; CUDA where there is one when not given.
        batch_size: has to be 1.
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
        trim: str | None = None,
        layer: int | None = None,
        dtype: str = "auto",
        device: str | None = None,
        batch_size: int | str = 1,
        max_batch_size: int | None = None,
        **settings: Any,
    ) -> None:
        super().__init__()
        if str(batch_size) != "1":
            raise StgraphError(f"stgraph answers one question at a time; give batch_size=1, not {batch_size}")
        whole = settings.get("selector") == "none"
        if whole:
            del settings["selector"]
        config = selector_settings(resolve((), settings), list(settings))
        self.qa = VideoQA.from_pretrained(
            pretrained,
            None if whole else config.selector(),
            device=(device or "auto").partition(":")[0],
            dtype=dtype,
            trim=trim,
            layer=layer,
            sampling=config.video,
        )

    def generate_until(self, requests: Sequence[Any]) -> list[Any]:
        """An answer to every request, in their order."""
        results, reports = [], []
        for request in track(requests, "answering", disable=self.rank != 0):
            context, doc_to_messages, options, number, task, split = request.args
            video, question = _asked(doc_to_messages(self.task_dict[task][split][number]), self.qa.sampling)
            answer = self.qa(video, question, **_generation(options))
            text = answer.text
            for stop in _stops(options):
                text = text.partition(stop)[0]
            report = answer.report
            counts = TokenCounts(input_tokens=report.prompt_kept, output_tokens=report.generated)
            results.append(GenerationResult(text, counts))
            self.cache_hook.add_partial("generate_until", (context, options), text)
            reports.append(report)
        if reports:
            _report(reports)
        return results

    def loglikelihood(self, requests: Sequence[Any]) -> list[Any]:
        """Refused: lmms-eval asks chat models to generate only."""
        raise StgraphError("stgraph generates answers; choose the variant of the task whose output is generated")

    def generate_until_multi_round(self, requests: Sequence[Any]) -> list[Any]:
        """Refused: each question is asked on its own."""
        raise StgraphError("stgraph answers each question on its own; choose a task with a single round")


def _asked(messages: Sequence[Any], sampling: Mapping[str, Any]) -> tuple[str | Video, str]:
    """The one video and the text of a conversation; pictures are the frames of a video, a second each."""
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
        span = {key: second for key, second in span.items() if second is not None}
        path = videos[0]["url"]
        return read_video(path, **{**sampling, **span}) if span else str(path), question
    frames = [torch.from_numpy(np.array(_picture(item).convert("RGB"))).permute(2, 0, 1) for item in pictures]
    if len({frame.shape for frame in frames}) > 1:
        raise StgraphError("the pictures of a question are of different sizes, so they are not frames of one video")
    return Video(torch.stack(frames), torch.arange(len(frames), dtype=torch.float64)), question


def _picture(item: Any) -> Image.Image:
    return item if isinstance(item, Image.Image) else Image.open(item)


def _generation(options: dict[str, Any]) -> dict[str, Any]:
    """What a task asks of the decoding, in the words of transformers."""
    known = {key: options[key] for key in ("max_new_tokens", "num_beams") if options.get(key) is not None}
    if options.get("do_sample") or (options.get("temperature") or 0) > 0:
        known |= {key: options[key] for key in ("temperature", "top_p", "top_k") if options.get(key) is not None}
        known["do_sample"] = True
    return known


def _stops(options: dict[str, Any]) -> list[str]:
    stops = options.get("until") or []
    return [stop for stop in ([stops] if isinstance(stops, str) else stops) if stop]


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
