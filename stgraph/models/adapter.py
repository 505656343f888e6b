"""Adapter: all that stgraph must know about one family of video LLMs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, cast

from torch import Tensor, nn

from .. import compat
from ..encoders.attention import blocks_of, resized
from ..errors import StgraphError
from ..tokens import Grid, SeparatorLayout, VideoTokens, separator_count


class VideoLayout(NamedTuple):
    """How the tokens of one video lie in the prompt, in the order of the prompt.

    Attributes:
        grid: (T, H, W) of the tokens that the LLM sees, separators not counted.
        separator_layout: where newline tokens lie between them, see :meth:`stgraph.VideoTokens.from_sequence`.
        present: bool, one for each token and separator, False for those that the model leaves out by itself; None where
            all are there.
        patches: (rows, columns) of each frame in the vision tower, for :meth:`Adapter.pool`; None where its signals
            cannot be read.
        images: numbers of the frames among all that the vision tower is given; None where it is given the frames of
            all videos, one after the other, and nothing else.
    """

    grid: Grid
    separator_layout: SeparatorLayout = "none"
    present: Tensor | None = None
    patches: tuple[int, int] | None = None
    images: tuple[int, ...] | None = None

    @property
    def size(self) -> int:
        """Number of placeholders that the video fills, separators included."""
        if self.present is not None:
            return int(self.present.sum())
        return self.grid.size + separator_count(self.grid, self.separator_layout)

    def tokens(self, features: Tensor) -> VideoTokens:
        """The video from the (size, d) features at its placeholders."""
        if self.present is None:
            return VideoTokens.from_sequence(features, self.grid, separator_layout=self.separator_layout)
        places = self.present.nonzero()[:, 0].to(features.device)
        whole = features.new_zeros(len(self.present), features.shape[1]).index_copy(0, places, features)
        return VideoTokens.from_sequence(whole, self.grid, separator_layout=self.separator_layout).take(places)


@dataclass(frozen=True)
class Adapter(ABC):
    """What differs between families; only :meth:`layouts` has no default.

    The vision tower and the projector are never touched: the embeddings that reach the language model are pruned there.
    """

    pixels: ClassVar[str] = "pixel_values_videos"
    """The argument that videos come in; a call without it is left alone."""

    loose: ClassVar[tuple[str, ...]] = ()
    """Parameters that transformers reads while it encodes videos, outside the call of the module that holds them."""

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

    def placeholders(self, model: nn.Module, inputs: Mapping[str, Any]) -> Tensor:
        """(B, S) bool, where in ``input_ids`` the tokens of the videos are, separators included."""
        return cast(Tensor, inputs["input_ids"] == self.video_token(model))

    def notes(self, model: nn.Module, inputs: Mapping[str, Any]) -> tuple[str, ...]:
        """Notes on how the videos of a call were found; empty where the inputs say it."""
        return ()

    def vision_attention(self, model: nn.Module) -> nn.Module | None:
        """The attention module of the vision tower's block whose features the LLM gets, see :func:`vision_block`.

        By default None: a method that needs the signals of the vision tower then says that it has none.
        """
        return None

    def pool(self, model: nn.Module, patches: Tensor, layout: VideoLayout) -> Tensor:
        """(T, h · w, d) values of the patches, in the tower's order, as (T, H, W, d) of the tokens that the LLM sees.

        As the features are pooled; by default bilinearly, from patches in raster order.
        """
        _, height, width = layout.grid
        return resized(patches.unflatten(1, cast("tuple[int, int]", layout.patches)), height, width)

    def deepstack_layers(self, model: nn.Module) -> int:
        """How many decoder layers the model adds vision features behind, to tokens that must all be there."""
        return 0


def vision_block(tower: nn.Module, layer: int | list[int] = -1) -> nn.Module:
    """The attention module of a block of a vision tower.

    Args:
        tower: whose longest list of modules are its blocks.
        layer: the block whose output is meant, counted as in transformers' ``hidden_states``: 1 … L from the front,
            −1 … −L from the back; of several the last named.
    """
    blocks = blocks_of(tower)[1]
    number = layer if isinstance(layer, int) else layer[-1]
    block = blocks[number if number < 0 else number - 1]
    return compat.block_attention(block)


def video_pixels(inputs: Mapping[str, Any]) -> tuple[int, ...]:
    """(videos, frames, channels, height, width) of ``pixel_values_videos`` that come as one dense tensor."""
    shape = tuple(inputs["pixel_values_videos"].shape)
    if len(shape) != 5:
        raise StgraphError(
            f"pixel_values_videos must be (videos, frames, channels, height, width), got {shape}; "
            "use the processor of the model"
        )
    return shape


def adapter_of(model: nn.Module) -> Adapter:
    """The registered adapter of a transformers model.

    Raises:
        StgraphError: it is no transformers model, or of a family without an adapter.
    """
    from . import MODELS

    kind = getattr(getattr(model, "config", None), "model_type", None)
    if kind is None or not hasattr(model, "generate"):
        raise StgraphError(
            f"a selector can only be attached to a transformers model that generates, got {type(model).__name__}; "
            "load one with AutoModelForImageTextToText"
        )
    if kind not in MODELS:
        raise StgraphError(
            f"there is no adapter for models of type {kind!r}; there are adapters for {', '.join(sorted(MODELS))}; "
            "docs/models.md shows how to write one"
        )
    return MODELS.get(kind)()
