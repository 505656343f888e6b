"""Prompt: a video and a question as the inputs of a video LLM.

Where torchvision works, the processor of transformers makes them. It reads no video without torchvision, so for the
families of :data:`OWN` the same inputs are also made here, with torch alone.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any, cast

from torch import nn

from ..errors import StgraphError
from ..video import Video
from .adapter import adapter_of
from .chat import published_template, written
from .conversation import CLOCK, IMAGES, Prompt, Seen, Times, Turn, messages
from .frame_prompt import FramePrompt
from .loading import COMPOSED
from .prompt_files import read_auto, video_settings
from .torch_prompt import OWN, TorchPrompt

__all__ = ["IMAGES", "OWN", "FramePrompt", "ProcessorPrompt", "Prompt", "Seen", "TorchPrompt", "Turn", "load_prompt"]


def load_prompt(folder: str, model: nn.Module) -> Prompt:
    """What makes the inputs of ``model``, from the tokenizer and processor files of its folder or Hub id.

    Raises:
        StgraphError: files are missing or broken, or the family needs torchvision and it does not work here.
    """
    adapter_of(model)
    kind: str = cast(Any, model).config.model_type
    if kind in COMPOSED:
        return FramePrompt.from_folder(folder, model)
    if has_torchvision():
        from transformers import AutoProcessor

        return ProcessorPrompt(read_auto(AutoProcessor, folder))
    if kind not in OWN:
        raise StgraphError(
            f"transformers prepares videos for models of type {kind!r} with torchvision, which is not installed; "
            f"install the build for this torch, or use a model of type {', '.join(sorted(OWN))}"
        )
    from transformers import AutoTokenizer

    tokenizer = read_auto(AutoTokenizer, folder)
    tokenizer.chat_template = published_template(folder) or tokenizer.chat_template
    return TorchPrompt(tokenizer, model, OWN[kind], video_settings(folder), folder)


def has_torchvision() -> bool:
    """Whether torchvision is installed.

    Raises:
        StgraphError: it is, in a build for another torch. Models of transformers cannot be imported then.
    """
    try:
        importlib.import_module("torchvision.transforms.v2.functional")
    except ModuleNotFoundError:
        return False
    except (ImportError, RuntimeError) as error:
        raise StgraphError(
            f"torchvision and torch do not fit together ({' '.join(str(error).split())[:200]}), so models of "
            "transformers cannot be imported; install the torchvision build for this torch, or remove torchvision"
        ) from error
    return True


class ProcessorPrompt(Prompt):
    """By a processor of transformers, which needs torchvision."""

    def __init__(self, processor: Any) -> None:
        self.processor = processor
        self.tokenizer = processor.tokenizer

    def __call__(self, video: Video, question: str) -> dict[str, Any]:
        """What the processor makes of the frames as they are; none are left out."""
        return self.ask(self.see(video), [(question, None)])

    def ask(
        self, seen: Seen, turns: Sequence[Turn], *, system: str | None = None, images: Sequence[Any] = ()
    ) -> dict[str, Any]:
        """The same for a conversation; the frames are prepared with each question."""
        video, times = seen.video, Times.of(seen.video)
        text = written(self.processor, messages(turns, system, len(images)))
        pictures = {"images": list(images)} if images else {}
        shown = {
            "total_num_frames": times.total,
            "fps": float(CLOCK),
            "frames_indices": list(times.ticks),
            "height": video.height,
            "width": video.width,
        }
        try:
            made = self.processor(
                text=[text],
                videos=[video.frames],
                video_metadata=[shown],
                do_sample_frames=False,
                return_tensors="pt",
                **pictures,
            )
        except (ValueError, TypeError) as error:  # processors raise these for a video that they do not support
            raise StgraphError(
                f"the processor of the model refuses a video of {len(video)} frames of {video.height}×{video.width}: "
                f"{' '.join(str(error).split())[:200]}; sample other frames"
            ) from error
        return dict(made)
