"""Engine: a model with all that turns prompts into answers; what a session and a batch of videos have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from .. import compat
from ..models.adapter import Adapter
from ..models.loading import input_device
from ..models.prompt import Prompt
from ..optional import quiet_transformers
from ..selectors.selection import Selection
from ..video import Video
from .answers import AnswerReport, peak_memory
from .batching import check_context, until
from .generation import effective, settings
from .serving import Serving
from .stages import Clock


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


@dataclass(frozen=True, eq=False)
class Engine:
    """A model that can be asked.

    Attributes:
        model: a transformers video LLM.
        adapter: of its family.
        prompt: makes its inputs.
        serving: its selector and clocks; a context manager that each caller enters.
        max_new_tokens: of an answer, where the caller gives none.
    """

    model: nn.Module
    adapter: Adapter
    prompt: Prompt
    serving: Serving
    max_new_tokens: int

    @property
    def device(self) -> torch.device:
        """Where the model takes its inputs."""
        return input_device(self.model)

    def clock(self) -> Clock:
        """A clock at zero."""
        return Clock(self.device)

    def placed(self, key: str, value: Any) -> Any:
        """An input where the model takes it, pixels in its dtype."""
        if not isinstance(value, Tensor):
            return value
        dtype = cast(Any, self.model).dtype if key.startswith("pixel_values") else value.dtype
        return value.to(self.device, dtype)

    def generate(
        self,
        inputs: Mapping[str, Any],
        generation: Mapping[str, Any],
        clock: Clock,
        *,
        first: str = "encoder",
        look: Callable[[dict[str, Any]], None] | None = None,
    ) -> Generated:
        """Run the model's ``generate`` with the hooks of the selector, and cut the answers out of what it returns.

        Args:
            inputs: of one prompt or of a batch.
            generation: arguments of ``generate`` as the caller gives them.
            clock: of this answer.
            first: the stage that it begins with.
            look: is shown what the decoder is given at first.
        """
        model, width = cast(Any, self.model), inputs["input_ids"].shape[1]
        options = settings(model, generation, prompt=width, max_new_tokens=self.max_new_tokens)
        with torch.no_grad(), quiet_transformers(), self.serving.stages.measured(clock, first, "decode", look):
            output = model.generate(**inputs, **options)
        sequences = output if isinstance(output, Tensor) else output.sequences
        ends = effective(model, generation, "eos_token_id")
        attached = self.serving.attached
        rows = [until(row[width:], ends) for row in sequences]
        return Generated(rows, output, width, None if attached is None else attached.selection)

    def check_length(self, inputs: Mapping[str, Any], positions: Tensor, new: int, video: Video) -> None:
        """Raise where a prompt and ``new`` tokens of an answer are longer than the model's context."""
        check_context(
            compat.context_length(self.adapter.language_model(self.model)),
            int(positions.max()) + 1,
            new,
            prompt=inputs["input_ids"].shape[1],
            video=int(self.adapter.placeholders(self.model, inputs).sum()),
            frames=len(video),
        )

    def report(self, inputs: Mapping[str, Any], found: Generated, row: int, clock: Clock, video: Video) -> AnswerReport:
        """The report of one answer: its share of the batch."""
        attached = self.serving.attached
        count = int(self.adapter.placeholders(self.model, inputs).sum())
        return AnswerReport(
            frames=len(video),
            tokens=count,
            kept=count if found.selection is None else len(found.selection),
            trim=None if attached is None else attached.trim,
            prompt=inputs["input_ids"].shape[1],
            generated=len(found.rows[row]),
            seconds={stage: seconds / len(found.rows) for stage, seconds in clock.seconds.items()},
            peak_memory=peak_memory(self.device),
            device=str(self.device),
            dtype=str(cast(Any, self.model).dtype).removeprefix("torch."),
        )
