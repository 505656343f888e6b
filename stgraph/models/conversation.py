"""Conversation: what is asked of a video LLM, and what makes its inputs of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor

from ..errors import StgraphError
from ..video import Video

CLOCK = 1000
"""Ticks per second in which frames are timed for a model."""

Turn = tuple[str, str | None]
"""A question and its answer; None where it is yet to be answered."""

IMAGES = ("pixel_values", "image_grid_thw", "image_sizes", "batch_num_images", "pixel_attention_mask")
"""Inputs that hold the pictures beside a video, in families whose videos come in ``pixel_values_videos``."""


class Seen(NamedTuple):
    """A video as a model is shown it, prepared once for any number of questions.

    Attributes:
        video: the sampled frames.
        inputs: the part of the model's inputs that holds them; empty where they are made with each question.
    """

    video: Video
    inputs: dict[str, Any]


class Prompt(ABC):
    """Makes the inputs of one model, and words of what it generates.

    A prompt of your own needs :meth:`__call__` alone. It is then asked single questions; :meth:`ask` is what
    conversations, a system prompt and images take.
    """

    tokenizer: Any

    @abstractmethod
    def __call__(self, video: Video, question: str) -> dict[str, Any]:
        """Keyword arguments of ``generate``: one prompt that shows the video and then asks the question."""

    def see(self, video: Video) -> Seen:
        """Prepare a video."""
        return Seen(video, {})

    def ask(
        self, seen: Seen, turns: Sequence[Turn], *, system: str | None = None, images: Sequence[Any] = ()
    ) -> dict[str, Any]:
        """Keyword arguments of ``generate``: a conversation about a video, which is shown before the first question.

        Args:
            seen: the video, of :meth:`see`.
            turns: questions with their answers, and the last question without one.
            system: replaces the system prompt of the model.
            images: pictures (PIL) that come with the last question, behind the video.

        Raises:
            StgraphError: the prompt or the family has no place for a part of it.
        """
        if len(turns) > 1 or system is not None or images:
            raise StgraphError(
                f"{type(self).__name__} makes prompts of single questions only; ask without history, system and "
                "images, or add a method ask to it"
            )
        return self(seen.video, turns[-1][0])

    def words(self, ids: Tensor) -> str:
        """The text of generated (S,) token ids."""
        text: str = self.tokenizer.decode(ids, skip_special_tokens=True)
        return text.strip()


def messages(turns: Sequence[Turn], system: str | None, images: int) -> list[dict[str, Any]]:
    """A conversation as chat templates take it: the video first, ``images`` with the last question."""
    written = [] if system is None else [{"role": "system", "content": [{"type": "text", "text": system}]}]
    for number, (question, answer) in enumerate(turns):
        shown = [{"type": "video"}] if number == 0 else []
        if number == len(turns) - 1:
            shown += [{"type": "image"}] * images
        written.append({"role": "user", "content": [*shown, {"type": "text", "text": question}]})
        if answer is not None:
            written.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
    return written


class Times(NamedTuple):
    """When the frames of a video are shown, as models are told: in ticks of ``CLOCK``."""

    ticks: list[int]
    total: int

    @classmethod
    def of(cls, video: Video) -> Times:
        """A lone frame stands for the whole video; else the last one lasts as long as the others on average."""
        seconds = video.timestamps.tolist()
        if len(seconds) > 1:
            length = (seconds[-1] - seconds[0]) * len(seconds) / (len(seconds) - 1)
        else:
            length = video.duration or 1.0
        return cls([round(second * CLOCK) for second in seconds], max(1, round(length * CLOCK)))

    @property
    def fps(self) -> float:
        """Frames per second, on average."""
        return len(self.ticks) / self.total * CLOCK

    def pairs(self, size: int) -> list[float]:
        """Seconds of each group of ``size`` frames: midway between its first and last; the last frame fills it up."""
        ticks = self.ticks + [self.ticks[-1]] * (-len(self.ticks) % size)
        return [(ticks[i] / CLOCK + ticks[i + size - 1] / CLOCK) / 2 for i in range(0, len(ticks), size)]
