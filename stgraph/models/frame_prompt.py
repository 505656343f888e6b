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
from .adapter import adapter_of
from .conversation import Prompt, Seen, Turn
from .loading import load_tokenizer, model_folder

SYSTEM = "You are a helpful assistant."

PLACE = "<video>"
"""Stands for the video until its placeholders are put in, as ids."""


class FramePrompt(Prompt):
    """Frames squeezed to the square that the tower sees, and a conversation around their placeholders.

    Args:
        tokenizer: of the language model.
        model: LLaVA-Video or NVILA.
        time_instruction: tell LLaVA-Video the length of the video and the times of its frames, as in its training;
            NVILA is never told. None goes by the model's ``add_time_instruction``.
    """

    def __init__(self, tokenizer: Any, model: nn.Module, *, time_instruction: bool | None = None) -> None:
        self.tokenizer = tokenizer
        self._model = model
        self._config = cast(Any, model).config
        told = getattr(self._config, "add_time_instruction", False)
        self.time_instruction = told if time_instruction is None else time_instruction

    @classmethod
    def from_folder(cls, folder: str | Path, model: nn.Module, *, time_instruction: bool | None = None) -> FramePrompt:
        """With the tokenizer of a folder, or of the ``llm`` folder in it.

        Raises:
            StgraphError: there is no readable tokenizer.
        """
        return cls(
            load_tokenizer(model_folder(folder), cast(Any, model).config), model, time_instruction=time_instruction
        )

    def __call__(self, video: Video, question: str) -> dict[str, Any]:
        """Keyword arguments of ``generate``: one prompt that shows the video and then asks the question."""
        return self.ask(self.see(video), [(question, None)])

    def see(self, video: Video) -> Seen:
        """The pixels."""
        return Seen(video, {"pixel_values_videos": self._pixels(video)[None]})

    def ask(
        self, seen: Seen, turns: Sequence[Turn], *, system: str | None = None, images: Sequence[Any] = ()
    ) -> dict[str, Any]:
        """A conversation about a video.

        Raises:
            StgraphError: there are images, which the model is not loaded with a place for.
        """
        if images:
            raise StgraphError(
                f"models of type {self._config.model_type!r} are shown videos alone; leave the images out"
            )
        return self._padded([self._prompt(seen, turns, system)]) | seen.inputs

    def batch(self, videos: Sequence[Video], questions: Sequence[str]) -> dict[str, Any]:
        """The same for one question about each of several videos of equally many frames, padded on the left.

        Returns:
            ``input_ids`` and ``attention_mask`` (B, S) int64, ``pixel_values_videos`` (B, T, 3, side, side) float32.

        Raises:
            StgraphError: no video, another number of questions, or different numbers of frames.
        """
        if not videos or len(videos) != len(questions):
            raise StgraphError(f"expected one question for each of {len(videos)} videos, got {len(questions)}")
        lengths = sorted({len(video) for video in videos})
        if len(lengths) > 1:
            raise StgraphError(
                f"the videos of a batch must have equally many frames, got {', '.join(map(str, lengths))}; sample them "
                "with the same number"
            )
        seen = [self.see(video) for video in videos]
        prompts = [
            self._prompt(video, [(question, None)], None) for video, question in zip(seen, questions, strict=True)
        ]
        pixels = torch.cat([video.inputs["pixel_values_videos"] for video in seen])
        return self._padded(prompts) | {"pixel_values_videos": pixels}

    def _prompt(self, seen: Seen, turns: Sequence[Turn], system: str | None) -> list[int]:
        """Token ids of a conversation."""
        layout = adapter_of(self._model).layouts(self._model, seen.inputs)[0]
        before, after = (self._ids(text) for text in self._texts(seen.video, turns, system))
        return [*before, *[self._config.video_token_id] * layout.size, *after]

    def _padded(self, prompts: Sequence[list[int]]) -> dict[str, Any]:
        """Token ids of equal length, padded on the left, and their mask."""
        longest = max(map(len, prompts))
        padding = self.tokenizer.pad_token_id
        padding = self.tokenizer.eos_token_id if padding is None else padding
        ids = torch.tensor([[padding] * (longest - len(prompt)) + prompt for prompt in prompts])
        first = torch.tensor([[longest - len(prompt)] for prompt in prompts])
        mask = (torch.arange(longest) >= first).long()
        return {"input_ids": ids, "attention_mask": mask}

    def _pixels(self, video: Video) -> Tensor:
        """(T, 3, side, side) in −1 … 1, whatever the aspect ratio was."""
        side = self._config.vision_config.image_size
        frames = (Image.fromarray(frame.permute(1, 2, 0).numpy()) for frame in video.frames)
        resized = np.stack([np.asarray(frame.resize((side, side), Image.Resampling.BICUBIC)) for frame in frames])
        return torch.from_numpy(resized).permute(0, 3, 1, 2) / 127.5 - 1

    def _ids(self, text: str) -> list[int]:
        return cast("list[int]", self.tokenizer(text, add_special_tokens=False).input_ids)

    def _texts(self, video: Video, turns: Sequence[Turn], system: str | None) -> tuple[str, str]:
        """What stands before the video, and after it."""
        nvila = self._config.model_type == "nvila"
        between = "" if nvila else f"\n{_times(video)}\n" if self.time_instruction else "\n"
        said = [] if system is None else [("system", system)]
        for number, (question, answer) in enumerate(turns):
            said.append(("user", question if number else PLACE + between + question))
            said += [] if answer is None else [("assistant", answer)]
        if nvila and self.tokenizer.chat_template is not None:
            conversation = [{"role": role, "content": text} for role, text in said]
            whole = self.tokenizer.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True)
        else:
            said = said if system is not None else [("system", SYSTEM), *said]
            whole = "".join(f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text in said)
            whole += "<|im_start|>assistant\n"
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
