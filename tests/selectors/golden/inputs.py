"""The inputs of the golden outputs: random shots with a moving block, made by numpy alone, so the same everywhere.

Every number is drawn as a float64 normal from one generator per input and rounded to float32; after that there are only
element-wise sums and products in float32 and whole-number rules for places, so that no machine rounds differently.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stgraph import Signals, VideoTokens
from stgraph.signals import Question

Floats = NDArray[np.float32]

NOISE = np.array([0.04, 0.08, 0.15, 0.25, 0.35, 0.5, 0.7, 0.95], np.float32)
"""How restless a position is, by (3 row + 5 column + seed) mod 8."""

HOT = np.array([0, 0.05, 0, 0.1, 0, 0, 0.3, 0, 0.05, 0, 0.6], np.float32)
"""How much of a frame's query is in the key of a position, by (7 position + seed) mod 11."""


class Recipe(NamedTuple):
    """What one input is made of: sizes; frames of each shot; how much of one vector every token shares; whether the
    left half is five times as still; how much of its own every position has.
    """

    seed: int
    frames: int
    height: int
    width: int
    dim: int
    shots: tuple[int, ...]
    shared: float
    still: bool
    own: float


RECIPES = {
    "a0": Recipe(11, 8, 6, 6, 64, (3, 5), 0.0, False, 0.3),
    "b0": Recipe(21, 16, 7, 7, 48, (5, 4, 7), 0.0, True, 0.3),
    "c0": Recipe(31, 12, 8, 10, 32, (7, 5), 0.5, False, 0.3),
    "p0": Recipe(41, 1, 24, 24, 32, (1,), 0.3, False, 0.3),
    "s0": Recipe(53, 4, 5, 6, 24, (4,), 0.0, True, 3.0),
}


class Video(NamedTuple):
    """One input, float32.

    Attributes:
        features: (T, H, W, d).
        attention: (T, n) positive, of the encoder.
        keys: (T, n, d) of the encoder.
        query: (T, d) of each frame's [CLS].
        llm_attention: (N,) positive.
        text_states: (8, d) of eight text tokens behind the video.
        text_keys: (8, d).
    """

    features: Floats
    attention: Floats
    keys: Floats
    query: Floats
    llm_attention: Floats
    text_states: Floats
    text_keys: Floats

    def digest(self) -> str:
        """16 hexadecimal digits of the SHA-256 of the features."""
        return hashlib.sha256(np.ascontiguousarray(self.features).tobytes()).hexdigest()[:16]

    def tokens(self, frames: int | None = None) -> tuple[VideoTokens, Signals]:
        """The first frames of the video, all if None, and their signals."""
        keys, attention = torch.from_numpy(self.keys[:frames]), torch.from_numpy(self.attention[:frames])
        tokens = VideoTokens.from_grid(torch.from_numpy(self.features[:frames]))
        text = Question(torch.from_numpy(self.text_states), torch.from_numpy(self.text_keys))
        received = torch.from_numpy(self.llm_attention)[: len(tokens)]
        return tokens, Signals(attention.flatten(), keys.flatten(0, 1), received, question=(text,))

    def with_newlines(self) -> tuple[VideoTokens, Signals]:
        """The video with the first text state behind every row, which the language model attends to most."""
        x = torch.from_numpy(self.features)
        newline = torch.from_numpy(self.text_states[0]).expand(*x.shape[:2], 1, -1)
        received = torch.from_numpy(self.llm_attention).view(x.shape[:3])
        received = torch.cat([received, torch.ones_like(received[:, :, :1])], 2)
        return VideoTokens.from_grid(torch.cat([x, newline], 2), newline=True), Signals(
            llm_attention=received.flatten()
        )

    def attention_of_the_query(self) -> Tensor:
        """(N,) float64 softmax of query · key / √d over a frame and a [CLS] whose key is zero, without the latter."""
        logits = (torch.from_numpy(self.keys).double() * torch.from_numpy(self.query)[:, None]).sum(-1)
        logits = torch.cat([torch.zeros_like(logits[:, :1]), logits / self.keys.shape[-1] ** 0.5], 1)
        return logits.softmax(1)[:, 1:].flatten()


def probe(dim: int) -> Floats:
    """(dim,) the fixed vector by which rows are compared, beside their length."""
    return _generator(777).standard_normal(dim).astype(np.float32)


def video(name: str) -> Video:
    """One of :data:`RECIPES`."""
    recipe = RECIPES[name]
    _, frames, height, width, dim, shots, *_ = recipe
    area = height * width
    generator = _generator(recipe.seed)

    def draw(*shape: int) -> Floats:
        return generator.standard_normal(shape).astype(np.float32)

    # The order of these draws is part of the rule.
    prototype, own, shared = draw(len(shots), 4, dim), draw(len(shots), height, width, dim), draw(dim)
    noise, mover = draw(frames, height, width, dim), draw(dim)
    attention, llm_attention = draw(frames, area), draw(frames * area)
    keys, query = draw(frames, area, dim), draw(frames, dim)
    text_states, text_keys = draw(8, dim), draw(8, dim)

    row, column = np.indices((height, width))
    level = NOISE[(3 * row + 5 * column + recipe.seed) % 8]
    if recipe.still:
        level[:, : width // 2] *= np.float32(0.2)
    features = np.empty((frames, height, width, dim), np.float32)
    for t, shot in enumerate(np.repeat(np.arange(len(shots)), shots)):
        kind = ((row + shot) // 2 + 2 * ((column + shot) // 3)) % 4
        frame = prototype[shot][kind] + own[shot] * np.float32(recipe.own)
        frame = frame + noise[t] * level[..., None]
        block = np.s_[t % (height - 1) :, 2 * t % (width - 1) :]
        frame[block][:2, :2] = mover + noise[t][block][:2, :2] * np.float32(0.25)
        frame = frame + shared * np.float32(recipe.shared)
        length = np.float32(0.75) + np.float32(0.125) * ((row + 2 * column + t) % 5).astype(np.float32)
        features[t] = frame * length[..., None]
    hot = HOT[(np.arange(area) * 7 + recipe.seed) % 11]
    return Video(
        features=features,
        attention=attention * attention * np.float32(2**-6) + np.float32(2**-12),
        keys=keys + query[:, None] * hot[None, :, None],
        query=query * np.float32(0.75),
        llm_attention=llm_attention * llm_attention * np.float32(2**-10) + np.float32(2**-16),
        text_states=text_states,
        text_keys=text_keys,
    )


def _generator(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))
