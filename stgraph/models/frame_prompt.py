"""The inputs of LLaVA-Video and NVILA, which come with a tokenizer and without a processor of transformers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ..errors import StgraphError
from ..video import Video
from .attachment import adapter_of
from .loading import load_tokenizer, model_folder
from .prompt import Prompt

SYSTEM = "You are a helpful assistant."

PLACE = "<video>"
"""Stands for the video until its placeholders are put in, as ids."""


class FramePrompt(Prompt):
    """Frames squeezed to the square that the tower sees, and a conversation around their placeholders.

    Args:
        tokenizer: of the language model.
        model: LLaVA-Video or NVILA.
        time_instruction: tell LLaVA-Video the length of the video and the times of its frames, as in its training;
            NVILA is never told.
    """

    def __init__(self, tokenizer: Any, model: nn.Module, *, time_instruction: bool = True) -> None:
        self.tokenizer = tokenizer
        self.time_instruction = time_instruction
        self._model = model
        self._config = cast(Any, model).config

    @classmethod
    def from_folder(cls, folder: str | Path, model: nn.Module, *, time_instruction: bool = True) -> FramePrompt:
        """With the tokenizer of a folder, or of the ``llm`` folder in it.

        Raises:
            StgraphError: there is no readable tokenizer.
        """
        return cls(
            load_tokenizer(model_folder(folder), cast(Any, model).config), model, time_instruction=time_instruction
        )

    def __call__(self, video: Video, question: str) -> dict[str, Any]:
        """Keyword arguments of ``generate``: one prompt that shows the video and then asks the question."""
        return self.batch([video], [question])

    def batch(self, videos: Sequence[Video], questions: Sequence[str]) -> dict[str, Any]:
        """The same for one question about each of several videos of equally many frames, padded on the left.

        Returns:
            ``input_ids`` and ``attention_mask`` (B, S) int64, ``pixel_values_videos`` (B, T, 3, side, side) float32.

        Raises:
            StgraphError: no video, another number of questions, or different numbers of frames.
        """
        if not videos or len(videos) != len(questions):
            raise StgraphError(f"there must be one question for each video, got {len(questions)} for {len(videos)}")
        lengths = sorted({len(video) for video in videos})
        if len(lengths) > 1:
            raise StgraphError(
                f"the videos of a batch must have equally many frames, got {', '.join(map(str, lengths))}; sample them "
                "with the same number"
            )
        pixels = torch.stack([self._pixels(video) for video in videos])
        layout = adapter_of(self._model).layouts(self._model, {"pixel_values_videos": pixels})[0]
        shown = [self._config.video_token_id] * layout.size
        prompts = []
        for video, question in zip(videos, questions, strict=True):
            before, after = (self._ids(text) for text in self._texts(video, question))
            prompts.append([*before, *shown, *after])
        longest = max(map(len, prompts))
        padding = self.tokenizer.pad_token_id
        padding = self.tokenizer.eos_token_id if padding is None else padding
        ids = torch.tensor([[padding] * (longest - len(prompt)) + prompt for prompt in prompts])
        first = torch.tensor([[longest - len(prompt)] for prompt in prompts])
        mask = (torch.arange(longest) >= first).long()
        return {"input_ids": ids, "attention_mask": mask, "pixel_values_videos": pixels}

    def _pixels(self, video: Video) -> Tensor:
        """(T, 3, side, side) in −1 … 1, whatever the aspect ratio was."""
        side = self._config.vision_config.image_size
        frames = (Image.fromarray(frame.permute(1, 2, 0).numpy()) for frame in video.frames)
        resized = np.stack([np.asarray(frame.resize((side, side), Image.Resampling.BICUBIC)) for frame in frames])
        return torch.from_numpy(resized).permute(0, 3, 1, 2) / 127.5 - 1

    def _ids(self, text: str) -> list[int]:
        return cast("list[int]", self.tokenizer(text, add_special_tokens=False).input_ids)

    def _texts(self, video: Video, question: str) -> tuple[str, str]:
        """What stands before the video, and after it."""
        if self._config.model_type == "nvila" and self.tokenizer.chat_template is not None:
            turn = {"role": "user", "content": PLACE + question}
            whole = self.tokenizer.apply_chat_template([turn], tokenize=False, add_generation_prompt=True)
        else:
            between = f"\n{_times(video)}\n" if self.time_instruction else "\n"
            asked = question if self._config.model_type == "nvila" else between + question
            whole = (
                f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n{PLACE}{asked}<|im_end|>\n"
                "<|im_start|>assistant\n"
            )
        before, _, after = whole.partition(PLACE)
        return before, after


def _times(video: Video) -> str:
    """How LLaVA-Video is told when its frames are, word for word as in its training."""
    seconds = video.timestamps.tolist()
    places = ",".join(f"{second:.2f}s" for second in seconds)
    length = video.duration if video.duration is not None else seconds[-1]
    return (
        f"The video lasts for {length:.2f} seconds, and {len(seconds)} frames are uniformly sampled from it. These "
        f"frames are located at {places}.Please answer the following questions related to this video."
    )
