"""HuggingFace: the vision tower of a transformers model, alone or inside a video LLM, as an encoder."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import torch

from ..errors import StgraphError, check_choice, check_number
from ..signals import Signals
from ..tokens import VideoTokens
from ..video import Video
from .base import LARGEST, Encoded, Encoder
from .hf_loading import load_tower
from .hf_tower import Tower

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class HuggingFace(Encoder):
    """Tokens are the patches of each frame in a transformers vision tower; [CLS] and register tokens are left out.

    Every frame is encoded on its own, so there is one grid of tokens per frame, at the frame's own timestamp. Towers
    that join two frames into one token (Qwen-VL) are given each frame twice, which is how they read a still image.

    A frame is resized without cropping, with the filter, mean and deviation of the model's preprocessor configuration
    (of its family where the folder has none): to a square where the tower needs one, keeping its aspect ratio where the
    tower takes any size.

    Attributes:
        model: a folder, or a model id of the Hugging Face Hub. Only safetensors weights are read, only those of the
            vision tower, and no code that comes with the model is ever run.
        layer: the block whose output becomes the features, before any final norm, counted as in transformers'
            ``hidden_states``: 1 … L from the front, −1 … −L from the back. None takes ``vision_feature_layer`` of a
            LLaVA or InternVL model, the last block of other video LLMs' towers, and the last but one of a tower alone.
        size: side in pixels of the resized frame (of the square with its area, where the aspect ratio is kept). None
            takes the tower's own, or 448 where it has none.
        pool: factor by which both sides of the token grid shrink, bilinearly and rounded up; LLaVA-Video pools by 2.
        attention: also return the signals, read from the attention of the same block: ``encoder_attention``, what each
            patch receives, head mean, from [CLS] where there is one and else from the mean query of its frame; and
            ``encoder_keys``, the head mean of the keys as they meet the queries (rotated, where the tower rotates).
        batch_size: frames that go through the tower together; changes memory and speed, not the tokens.
        dtype: of the weights and the features; signals are float32.
        device: ``"auto"`` is CUDA where there is one. Tokens and signals stay on the device.

    Raises:
        StgraphError: transformers is missing, the model cannot be read or has no supported vision tower, ``layer`` or
            ``size`` does not fit it, CUDA is asked for and absent, or features are not finite.
    """

    model: str = "google/siglip-so400m-patch14-384"
    layer: int | None = None
    size: int | None = None
    pool: int = 1
    attention: bool = True
    batch_size: int = 8
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    device: Literal["auto", "cpu", "cuda"] = "auto"

    def __post_init__(self) -> None:
        if not self.model:
            raise StgraphError(
                "encoder.model is empty; name a folder or a model id, such as hf:google/siglip-base-patch16-224"
            )
        if self.layer is not None:
            check_number("encoder.layer", self.layer, integer=True)
        if self.size is not None:
            check_number("encoder.size", self.size, at_least=1, integer=True)
        check_number("encoder.pool", self.pool, at_least=1, integer=True)
        check_number("encoder.batch_size", self.batch_size, at_least=1, integer=True)
        check_choice("encoder.dtype", self.dtype, DTYPES)
        check_choice("encoder.device", self.device, ("auto", "cpu", "cuda"))

    @property
    def largest(self) -> int:
        """Pixels of a frame's shorter side that the tower may make use of."""
        return max(LARGEST, self.size or 0)

    def identity(self) -> object | None:
        """The files of the model with their sizes and times, and the device; None where they are not here."""
        folder = Path(self.model)
        if not folder.is_dir():
            from huggingface_hub import try_to_load_from_cache

            # the folder is named by the revision of the model
            config = try_to_load_from_cache(self.model, "config.json")
            if not isinstance(config, str):
                return None
            folder = Path(config).parent
        states = sorted((path.name, path.stat()) for path in folder.iterdir() if path.is_file())
        files = [(name, state.st_size, state.st_mtime_ns, state.st_ctime_ns) for name, state in states]
        return [str(folder.resolve()), files, self.device, torch.cuda.is_available()]

    @torch.no_grad()
    def __call__(self, video: Video) -> Encoded:
        """Tokens of shape (T·h·w, d) for the T frames of ``video``, and the signals of the chosen block."""
        batches = []
        for start in range(0, len(video.frames), self.batch_size):
            frames = video.frames[start : start + self.batch_size]
            grids = self._tower.encode(frames, self.size, self.pool, attention=self.attention)
            finite = grids[0].isfinite().flatten(1).all(1)
            if not bool(finite.all()):
                frame = start + int((~finite).nonzero()[0])
                raise StgraphError(
                    f"the features of frame {frame} (at {float(video.timestamps[frame]):.2f} s) are not finite after "
                    f"encoding with {self.model!r} in {self.dtype}; try encoder.dtype=float32"
                )
            batches.append(grids)
        features, *signals = (torch.cat(grids) for grids in zip(*batches, strict=True))
        tokens = VideoTokens.from_grid(features, timestamps=(video.timestamps,))
        if not signals:
            return Encoded(tokens, Signals())
        attention, keys = signals
        return Encoded(tokens, Signals(encoder_attention=attention.flatten(), encoder_keys=keys.flatten(0, 2)))

    @cached_property
    def _tower(self) -> Tower:
        # The tower is kept as long as the encoder: a folder of clips loads it once.
        if self.device == "cuda" and not torch.cuda.is_available():
            raise StgraphError("encoder.device=cuda, but torch sees no CUDA device; use encoder.device=cpu or auto")
        device = "cuda" if self.device != "cpu" and torch.cuda.is_available() else "cpu"
        return load_tower(self.model, self.layer, DTYPES[self.dtype], torch.device(device))
