"""A saved answer: its words, its report, and beside them what a compressed video has."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..errors import StgraphError
from ..video import Video
from .answers import Answer

if TYPE_CHECKING:
    from .config import Config


def selector_settings(config: Config, overrides: Sequence[str] = ()) -> Config:
    """The settings that matter when the tokens are those of a video LLM: all but the encoder's.

    Raises:
        StgraphError: ``overrides`` set the encoder.
    """
    from .config import Config

    for override in overrides:
        if override.partition("=")[0].partition(".")[0].strip() == "encoder":
            raise StgraphError(
                f"{override!r} has no effect here, because the video LLM encodes the video itself; leave it out"
            )
    return Config({key: value for key, value in config.data.items() if key != "encoder"})


def save_answer(
    answer: Answer, question: str, folder: str | Path, config: Config, *, overwrite: bool = False, **more: Any
) -> None:
    """Write ``answer.json``, and beside it the selection, pictures and the report, as for a compressed video.

    Args:
        answer: of a call with ``keep_tokens=True`` and a selector.
        question: that it answers.
        folder: the output folder; not written where this fails.
        config: the selector's and the video's settings.
        overwrite: replace another run that the folder holds.
        more: plain data for ``answer.json``.

    Raises:
        StgraphError: the answer was given without its tokens, or the folder is taken or cannot be written to.
    """
    from .pipeline import Run, measure
    from .saved_run import save

    if answer.selection is None or answer.tokens is None:
        raise StgraphError(
            "an answer can only be saved together with its tokens; ask with a selector and keep_tokens=True"
        )
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
