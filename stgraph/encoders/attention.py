"""What a vision tower attends to, read where its queries and keys meet."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


class AttentionWatch(TorchFunctionMode):
    """While entered, shows the queries and keys of every ``scaled_dot_product_attention`` to :meth:`meet`.

    That is after whatever a family does to get there (fused projections, rotary positions, windows), with the fast
    kernels still in use and nothing patched. The mode is local to the thread.
    """

    skips: ClassVar[bool] = False
    """The output is not used, so the attention is not computed and the values are returned instead."""

    @abstractmethod
    def meet(self, query: Tensor, key: Tensor, scale: float) -> None:
        """Take note of (B, heads, n, d) queries and keys, whose products are multiplied with ``scale``."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function is F.scaled_dot_product_attention:
            query, key, value, *_ = args
            self.meet(query, key, kwargs.get("scale") or query.shape[-1] ** -0.5)
            if self.skips:
                return value
        return function(*args, **kwargs)


def received(query: Tensor, key: Tensor, scale: float, patches: int) -> Tensor:
    """(B, n) float32: head mean of the attention to each of n tokens, from [CLS] or the mean of the frame's queries.

    ``query`` and ``key`` are (B, heads, n, d_k): n tokens of a frame, more than its ``patches`` where the tower has a
    [CLS], or fewer where attention is windowed; queries outside the window then count as giving nothing. No frame is
    padded, so masks do not matter. Rows are taken in blocks: a large grid never needs its n × n weights at once.
    """
    frames, heads, n, _ = query.shape
    queries = 1 if n > patches else patches
    key = key.float().transpose(-1, -2)
    total = torch.zeros(frames, n, dtype=torch.float32, device=query.device)
    for rows in torch.split(query[:, :, :queries], max(1, 2**24 // (frames * heads * n)), dim=2):
        total += (rows.float() @ key * scale).softmax(-1).mean(1).sum(1)
    return total / queries


def resized(grid: Tensor, height: int, width: int) -> Tensor:
    """(B, h, w, d) -> (B, height, width, d), bilinearly as the LLaVA models do."""
    if grid.shape[1:3] == (height, width):
        return grid
    pooled = F.interpolate(grid.permute(0, 3, 1, 2).float(), size=(height, width), mode="bilinear")
    return pooled.permute(0, 2, 3, 1).to(grid.dtype)


def blocks_of(tower: nn.Module) -> tuple[str, nn.ModuleList]:
    """Name and blocks of a vision tower: its longest list of modules."""
    lists = [(name, part) for name, part in tower.named_modules() if isinstance(part, nn.ModuleList)]
    return max(lists, key=lambda entry: len(entry[1]))
