"""Random video tokens: smooth enough that communities form, with missing tokens, separators, ties and zeros."""

from __future__ import annotations

from typing import get_args

import torch
from hypothesis import strategies as st
from torch import Tensor

from stgraph import VideoTokens
from stgraph.tokens import Grid, SeparatorLayout, separator_count


def features(
    frames: int, height: int, width: int, dim: int, seed: int, *, kinds: int = 3, noise: float = 0.3
) -> Tensor:
    """(T, H, W, d) features that mix a few prototypes: neighbours are often similar, and some are equal."""
    g = torch.Generator().manual_seed(seed)
    prototypes = torch.randn(kinds, dim, generator=g)
    kind = torch.randint(0, kinds, (frames, height, width), generator=g)
    kind[1:] = torch.where(torch.rand(frames - 1, height, width, generator=g) < 0.7, kind[:-1], kind[1:])
    x = prototypes[kind] + noise * torch.randn(frames, height, width, dim, generator=g)
    exact = torch.rand(frames, height, width, generator=g) < 0.2
    x[exact] = prototypes[kind[exact]]  # identical tokens: ties
    x[torch.rand(frames, height, width, generator=g) < 0.03] = 0  # zero vectors
    return x * torch.exp(0.5 * torch.randn(frames, height, width, 1, generator=g))


def prototype_rows(count: int, x: Tensor) -> Tensor:
    """(count, d) rows for separators: the first token over and over, as a model repeats one newline vector."""
    row = x.flatten(0, 2)[:1]
    return torch.where(row.any(), row, torch.ones_like(row)).expand(count, -1).clone()


@st.composite
def videos(draw: st.DrawFn, *, holes: bool = True, separators: bool = True, dtypes: bool = True) -> VideoTokens:
    """One video of a few frames in any layout."""
    frames, height, width = draw(st.integers(1, 5)), draw(st.integers(1, 5)), draw(st.integers(1, 5))
    x = features(
        frames,
        height,
        width,
        draw(st.sampled_from([1, 4, 17])),
        draw(st.integers(0, 10_000)),
        kinds=draw(st.integers(1, 4)),
        noise=draw(st.sampled_from([0.0, 0.2, 0.6])),
    )
    x = x.to(draw(st.sampled_from([torch.float32, torch.float16, torch.bfloat16] if dtypes else [torch.float32])))
    layouts = get_args(SeparatorLayout)
    layout = draw(st.sampled_from(layouts if separators else layouts[:1]))
    count = separator_count(Grid(frames, height, width), layout)
    plain = VideoTokens.from_sequence(x.flatten(0, 2), (frames, height, width))
    if count:
        with_room = prototype_rows(len(plain) + count, x)
        tokens = VideoTokens.from_sequence(with_room, (frames, height, width), separator_layout=layout)
        tokens.features[~tokens.separator] = plain.features
    else:
        tokens = plain
    if holes and draw(st.booleans()):
        keep = torch.rand(len(tokens), generator=torch.Generator().manual_seed(draw(st.integers(0, 99)))) < 0.8
        keep[0] = True
        tokens = tokens.take(keep.nonzero()[:, 0])
    return tokens


retentions = st.one_of(st.sampled_from([0.1, 0.3, 0.5, 1.0, 1e-6, 1 / 3]), st.floats(0.001, 1.0))
