"""Signals of a video LLM's own vision tower, for the methods that ask for them.

A hook keeps what went into the attention of one block of the tower. When a method asks, that attention alone is
computed once more, so that a method that does not ask costs nothing, the tower keeps its fast kernels, and no weights
are ever returned by it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, cast

import torch
from torch import Tensor, nn

from .. import compat
from ..encoders.attention import AttentionWatch, received
from ..errors import StgraphError
from ..signals import Signals
from ..tokens import VideoTokens
from .adapter import Adapter, VideoLayout


class AttentionInput(NamedTuple):
    """What the attention of a vision tower was last called with."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class _Frames(AttentionWatch):
    """Attention received by the patches of frames, and their keys."""

    skips: ClassVar[bool] = True

    def __init__(self, patches: Mapping[int, int]) -> None:
        """Look at the frames with these numbers, each of so many ``patches``."""
        super().__init__()
        self.attention: dict[int, Tensor] = {}
        self.keys: dict[int, Tensor] = {}
        self.seen = 0
        self._patches = patches

    def meet(self, query: Tensor, key: Tensor, scale: float) -> None:
        """Note frames, which come one by one or, where all have the same size, together."""
        first, self.seen = self.seen, self.seen + len(query)
        numbers = [number for number in range(first, self.seen) if number in self._patches]
        if not numbers or (patches := self._patches[numbers[0]]) > query.shape[2]:
            return
        rows = torch.tensor(numbers, device=query.device) - first
        query, key = query[rows], key[rows]
        # Whatever a tower has beside patches ([CLS], registers) comes first in its sequence.
        attention = received(query, key, scale, patches)[:, -patches:, None]
        self.attention.update(zip(numbers, attention, strict=True))
        self.keys.update(zip(numbers, key.float().mean(1)[:, -patches:], strict=True))


@torch.no_grad()
def tower_signals(
    adapter: Adapter, model: nn.Module, seen: AttentionInput, tokens: VideoTokens, layouts: Sequence[VideoLayout]
) -> Signals:
    """Attention received and keys, pooled as the features are, aligned with ``tokens``; 0 at separators.

    None where the adapter does not say how to read them, or the tower's attention is not a scaled dot product.

    Args:
        adapter: of the model's family.
        model: the video LLM.
        seen: what :meth:`Adapter.vision_attention` was called with.
        tokens: of all videos.
        layouts: of the same videos.

    Raises:
        StgraphError: the tower saw other frames than those of the videos.
    """
    patches: dict[int, int] = {}
    numbers: list[Sequence[int]] = []
    for layout in layouts:
        if layout.patches is None:
            return Signals()
        numbers.append(layout.images or range(len(patches), len(patches) + layout.grid.frames))
        patches |= dict.fromkeys(numbers[-1], layout.patches[0] * layout.patches[1])
    with _Frames(patches) as found:
        compat.attend_again(cast(nn.Module, adapter.vision_attention(model)), *seen)
    if not found.seen:  # a wrapper of the tower computes its attention in another way
        return Signals()
    others = found.seen > len(patches) and all(layout.images is None for layout in layouts)
    if others or found.attention.keys() != patches.keys():
        raise StgraphError(
            f"encoder signals cannot be read: the vision tower was given {found.seen} frames, but the videos have "
            f"{len(patches)}; signal=features (and keys=features) asks for a substitute from the features alone"
        )

    def spread(rows: Mapping[int, Tensor]) -> Tensor:
        """(N, d) for the tokens, of (patches, d) for each frame."""
        width = next(iter(rows.values())).shape[1]
        values = torch.zeros(len(tokens), width, dtype=torch.float32, device=tokens.device)
        for video, layout in enumerate(layouts):
            grid = adapter.pool(model, torch.stack([rows[number] for number in numbers[video]]), layout)
            places = ((tokens.batch == video) & ~tokens.separator).nonzero()[:, 0]
            values[places] = grid.to(tokens.device)[tuple(tokens.coords[places].T)]
        return values

    signals = Signals(encoder_attention=spread(found.attention)[:, 0], encoder_keys=spread(found.keys))
    signals.check(len(tokens))
    return signals
