"""Adapter: all that stgraph must know about one family of video LLMs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, cast

from torch import Tensor, nn

from ..errors import StgraphError
from ..tokens import Grid, SeparatorLayout, VideoTokens


class VideoLayout(NamedTuple):
    """How the tokens of one video lie in the prompt, in the order of the prompt.

    Attributes:
        grid: (T, H, W) of the tokens that the LLM sees, separators not counted.
        separators: where newline tokens lie between them, see :meth:`stgraph.VideoTokens.from_sequence`.
        present: bool, one for each token and separator, False for those that the model leaves out by itself; None where
            all are there.
    """

    grid: Grid
    separators: SeparatorLayout = "none"
    present: Tensor | None = None

    @property
    def size(self) -> int:
        """Number of placeholders that the video fills, separators included."""
        if self.present is not None:
            return int(self.present.sum())
        frames, height, _ = self.grid
        return self.grid.size + {"none": 0, "row": frames * height, "frame": frames, "trailing": 1}[self.separators]

    def tokens(self, features: Tensor) -> VideoTokens:
        """The video from the (size, d) features at its placeholders."""
        if self.present is None:
            return VideoTokens.from_sequence(features, self.grid, separators=self.separators)
        places = self.present.nonzero()[:, 0].to(features.device)
        whole = features.new_zeros(len(self.present), features.shape[1]).index_copy(0, places, features)
        return VideoTokens.from_sequence(whole, self.grid, separators=self.separators).take(places)


@dataclass(frozen=True)
class Adapter(ABC):
    """What differs between families; only :meth:`layouts` has no default.

    The vision tower and the projector are never touched: the embeddings that reach the language model are pruned there.
    """

    pixels: ClassVar[str] = "pixel_values_videos"
    """The argument that videos come in; a call without it is left alone."""

    @abstractmethod
    def layouts(self, model: nn.Module, inputs: Mapping[str, Any]) -> list[VideoLayout]:
        """The videos of a call, in the order of their placeholders: row by row, from left to right.

        ``inputs`` are the keyword arguments of ``generate`` or of the model; they hold ``pixels``.
        """

    def language_model(self, model: nn.Module) -> nn.Module:
        """The decoder: it takes ``inputs_embeds`` and has ``layers``."""
        return model.get_submodule("model.language_model")

    def video_token(self, model: nn.Module) -> int:
        """Id of the placeholder that stands for one video token, separators included, in ``input_ids``."""
        return cast(int, cast(Any, model).config.video_token_id)

    def first_layer(self, model: nn.Module) -> int:
        """The first decoder layer that tokens can be dropped at: one needs the attention of the layer before it."""
        return 1


def video_pixels(inputs: Mapping[str, Any]) -> tuple[int, ...]:
    """(videos, frames, channels, height, width) of ``pixel_values_videos`` that come as one dense tensor."""
    shape = tuple(inputs["pixel_values_videos"].shape)
    if len(shape) != 5:
        raise StgraphError(
            f"pixel_values_videos must be (videos, frames, channels, height, width), got {shape}; "
            "use the processor of the model"
        )
    return shape
