"""Random signals, so that methods which need some can run; the same for a video alone and in a batch."""

from __future__ import annotations

import torch

from stgraph import Signals, VideoTokens


def random_signals(tokens: VideoTokens, seed: int = 0, *, dim: int = 8) -> Signals:
    """Attention and keys for every token, with ties among them."""
    parts = []
    for index in range(tokens.num_videos):
        n = len(tokens.video(index))
        g = torch.Generator().manual_seed(seed + n)
        parts.append(
            (
                torch.rand(n, generator=g).mul(20).round() / 20,
                torch.randn(n, dim, generator=g).round(decimals=1),
                torch.rand(n, generator=g),
            )
        )
    return Signals(*(torch.cat(values) for values in zip(*parts, strict=True)))
