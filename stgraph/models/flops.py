"""What a video costs a video LLM, from the dimensions of its parts: FLOPs, and bytes of the key-value cache.

A multiplication with its addition is two FLOPs. Matrix products and convolutions are counted; norms, activations,
softmax and rotary positions, about one in a thousand, are not. With n tokens of width d, h heads and k key-value heads
of size s, a gated MLP of width m, L layers and a vocabulary of V, one layer of the decoder takes

    n · 2(2·d·h·s + 2·d·k·s + 3·d·m)  +  4·h·s · pairs

FLOPs. With p tokens in the cache, ``pairs`` of a query and a key are n·p + n(n + 1)/2 for a kernel that skips the
masked half, as flash attention does, and n·(p + n) for one that does not. The last token alone enters the head, at
2·d·V. The cache holds 2·k·s values for each token and layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any


@dataclass(frozen=True)
class Decoder:
    """A language model with grouped keys, a gated MLP and full attention in every layer, no mixture of experts.

    Attributes:
        layers: L.
        width: d.
        heads: h.
        key_value_heads: k.
        head_size: s.
        mlp: m.
        vocabulary: V.
    """

    layers: int
    width: int
    heads: int
    key_value_heads: int
    head_size: int
    mlp: int
    vocabulary: int

    @classmethod
    def of(cls, config: Any) -> Decoder:
        """From the configuration of the language model of a transformers model, ``model.config.get_text_config()``."""
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        return cls(
            config.num_hidden_layers,
            config.hidden_size,
            config.num_attention_heads,
            config.num_key_value_heads,
            size,
            config.intermediate_size,
            config.vocab_size,
        )

    @property
    def head(self) -> int:
        """FLOPs of the head for one token."""
        return 2 * self.width * self.vocabulary

    def layer(self, new: int, cached: int = 0, *, causal: bool = True) -> int:
        """FLOPs of one layer for ``new`` tokens behind ``cached`` ones; ``causal``: the masked half is skipped."""
        inner = self.head_size * (self.heads + self.key_value_heads)
        pairs = new * cached + (new * (new + 1) // 2 if causal else new * new)
        return 2 * new * self.width * (2 * inner + 3 * self.mlp) + 4 * self.heads * self.head_size * pairs

    def prefill(self, tokens: Sequence[int], *, causal: bool = True) -> int:
        """FLOPs of a prompt with so many tokens in each layer, and of the head for the last one."""
        return sum(self.layer(n, causal=causal) for n in tokens) + self.head

    def extend(self, new: int, cached: Sequence[int]) -> int:
        """FLOPs of ``new`` tokens behind so many in each layer's cache, and of the head for the last of them."""
        return sum(self.layer(new, n) for n in cached) + self.head

    def decode(self, cached: Sequence[int]) -> int:
        """FLOPs of the next token after so many in each layer's cache."""
        return self.extend(1, cached)

    def cache_bytes(self, tokens: Sequence[int], *, value: int = 2) -> int:
        """Bytes of a cache that holds so many tokens in each layer, of ``value`` bytes for each number."""
        return 2 * self.key_value_heads * self.head_size * value * sum(tokens)


@dataclass(frozen=True)
class VisionTower:
    """A vision transformer.

    Attributes:
        layers: that run; a model that takes the features of the last but one has one less than the tower.
        width: d.
        mlp: width of the MLP.
        pixels: numbers in a patch: channels × height × width (× frames).
        gated: the MLP has three matrices and not two.
        window: patches that attend to each other, in layers with windows.
        full: layers where all patches of a frame attend to each other; None for all.
    """

    layers: int
    width: int
    mlp: int
    pixels: int
    gated: bool = False
    window: int = 0
    full: int | None = None

    def frame(self, patches: int) -> int:
        """FLOPs of a frame."""
        full = self.layers if self.full is None else self.full
        weights = 4 * self.width**2 + (3 if self.gated else 2) * self.width * self.mlp
        keys = full * patches + (self.layers - full) * self.window
        return 2 * patches * (self.pixels * self.width + self.layers * weights) + 4 * self.width * patches * keys


def projector(widths: Sequence[int], tokens: int) -> int:
    """FLOPs of linear layers from each of ``widths`` to the next, for ``tokens`` of them."""
    return 2 * tokens * sum(a * b for a, b in pairwise(widths))


def selection(tokens: int, width: int) -> int:
    """FLOPs of ST-SimDiff on ``tokens`` of ``width`` features.

    The dot products of norms, of up to three edges and of centralities, and one sum: 11 for each feature. What the
    selection takes is the time to read the features, not these.
    """
    return 11 * tokens * width


@dataclass(frozen=True)
class VideoLLM:
    """The parts of a model, and what a video becomes in it.

    Attributes:
        tower: sees each frame by itself.
        patches: of a frame in the tower.
        projector: widths of its linear layers.
        projected: vectors of a frame that go through it.
        tokens: of a frame in the decoder, separators included.
        decoder: the language model.
        stride: frames of the video that become one of the tower's.
        projectors: how many there are, for models with deepstack.
    """

    tower: VisionTower
    patches: int
    projector: tuple[int, ...]
    projected: int
    tokens: int
    decoder: Decoder
    stride: int = 1
    projectors: int = 1

    def video_tokens(self, frames: int) -> int:
        """Tokens of a video before anything is dropped."""
        return -(-frames // self.stride) * self.tokens

    def encoder(self, frames: int) -> int:
        """FLOPs of the tower and the projector."""
        seen = -(-frames // self.stride)
        return seen * (self.tower.frame(self.patches) + self.projectors * projector(self.projector, self.projected))

    def schedule(self, visual: int, text: int, *, entering: int | None = None, layer: int = 0) -> list[int]:
        """Tokens in each layer.

        Args:
            visual: video tokens that stay.
            text: all other tokens.
            entering: video tokens in the layers before ``layer``; ``visual`` by default.
            layer: the first layer that only ``visual`` of them reach.
        """
        early = visual if entering is None else entering
        return [text + (early if i < layer else visual) for i in range(self.decoder.layers)]


_QWEN2_7B = Decoder(28, 3584, 28, 4, 128, 18944, 152064)
_SO400M = VisionTower(26, 1152, 4304, 3 * 14 * 14)

MODELS = {
    "LLaVA-Video-7B": VideoLLM(_SO400M, 27 * 27, (1152, 3584, 3584), 27 * 27, 14 * (14 + 1), _QWEN2_7B),
    "NVILA-8B": VideoLLM(_SO400M, 32 * 32, (3 * 4 * 1152, 3584, 3584), 16 * 16, 16 * 16 + 1, _QWEN2_7B),
    "Qwen2.5-VL-7B": VideoLLM(
        VisionTower(32, 1280, 3420, 3 * 14 * 14 * 2, gated=True, window=64, full=4),
        32 * 32,
        (4 * 1280, 4 * 1280, 3584),
        16 * 16,
        16 * 16,
        _QWEN2_7B,
        stride=2,
    ),
    "Qwen3-VL-8B": VideoLLM(
        VisionTower(27, 1152, 4304, 3 * 16 * 16 * 2),
        28 * 28,
        (4 * 1152, 4 * 1152, 4096),
        14 * 14,
        14 * 14,
        Decoder(36, 4096, 32, 8, 128, 12288, 151936),
        stride=2,
        projectors=4,
    ),
}
"""Published models. LLaVA-Video-7B takes frames of 384 × 384 pixels; NVILA-8B 448 × 448, whose features it repeats for
each of the three scales that its projector was trained with. The Qwen models take any size: here 448 × 448."""
