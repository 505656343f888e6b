"""Faults in the positions of vLLM's own pruning, and a trial that shows each of them on a class of a model.

A trial makes a prompt as vLLM's processor does, and hands it chunk by chunk to the methods of the class, as vLLM's
runner does. The positions must be those of the full prompt, less the columns of the tokens that were dropped. Nothing
is computed but positions, so a trial takes milliseconds, and a class of vLLM that passes them all is left as it is.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

Grid = tuple[int, int, int]

WORD, START, END, VIDEO, IMAGE, STAMP = 1, 2, 3, 4, 5, 6
MERGE = 2
WIDTH = 8


@dataclass(frozen=True)
class Trial:
    """One prompt, and how it is computed.

    Attributes:
        parts: numbers of words, and videos and images: ("video", (t, h, w) in tokens, seconds of a step).
        cuts: rows at which the prompt is cut into chunks; a row at which a chunk ends and the next begins.
        start: rows before this one are in the prefix cache and never computed.
        dtype: of the embeddings.
    """

    parts: tuple[int | tuple[str, Grid, float], ...]
    cuts: tuple[int, ...] = ()
    start: int = 0
    dtype: torch.dtype = torch.float32


CLIP = ("video", (2, 2, 4), 1.0)
PICTURE = ("image", (1, 2, 3), 1.0)

TRIALS = {
    "one video": Trial((20, CLIP, 5)),
    "few words before a video": Trial((2, CLIP, 5)),
    "a video in chunks": Trial((20, CLIP, 5), cuts=(8, 24, 27)),
    "a video of which a part is cached": Trial((20, CLIP, 5), start=25),
    "two videos": Trial((20, CLIP, 4, CLIP, 5)),
    "an image after a video": Trial((20, CLIP, 4, PICTURE, 5)),
    "200 frames in bfloat16": Trial((20, ("video", (200, 2, 4), 1.0), 5), dtype=torch.bfloat16),
    "half a second for a step": Trial((20, ("video", (3, 2, 4), 0.5), 5)),
    "a video taller than wide": Trial((20, ("video", (2, 6, 2), 1.0), 5)),
}
"""What is tried, by name."""


def faults(cls: Any, trials: dict[str, Trial] = TRIALS) -> dict[str, str]:
    """What goes wrong with a class of vLLM: the names of trials, with how many positions are wrong, or the error."""
    found = {}
    for name, trial in trials.items():
        try:
            got, expected = run(cls, trial)
        except Exception as error:
            found[name] = f"{type(error).__name__}: {error}"
            continue
        wrong = int((got != expected).any(0).sum())
        if wrong:
            found[name] = f"{wrong} of {expected.shape[1]} positions are wrong"
    return found


def run(cls: Any, trial: Trial) -> tuple[Tensor, Tensor]:
    """Positions of the rows that are computed, and one more column for the first generated token: got and expected."""
    model = _stand_in(cls, trial.dtype)
    stamped = hasattr(cls, "_get_expanded_positions")
    prompt, features = _prompt(model, trial, stamped, pruned=True)
    embeddings = [_embedding(model, feature, trial, number) for number, feature in enumerate(features)]
    positions, delta = model.get_mrope_input_positions(prompt, features)
    ends = sorted({trial.start, *trial.cuts, len(prompt)})
    for first, last in itertools.pairwise(ends):
        window = []
        for feature, embedding in zip(features, embeddings, strict=True):
            offset = feature.mm_position.offset
            part = embedding[max(first - offset, 0) : max(last - offset, 0)]
            if len(part):
                window.append(part)
        _, new, delta = model.recompute_mrope_positions(
            input_ids=prompt, multimodal_embeddings=window, mrope_positions=positions, num_computed_tokens=first
        )
        positions.copy_(new)
    full_prompt, full_features = _prompt(model, trial, stamped, pruned=False)
    model.__dict__["is_multimodal_pruning_enabled"] = False
    full, _ = model.get_mrope_input_positions(full_prompt, full_features)
    kept = []
    end = 0
    for embedding, feature in zip(embeddings, full_features, strict=True):
        offset, length = feature.mm_position.offset, feature.mm_position.length
        columns = _columns(embedding, full_prompt[offset : offset + length])
        kept += [full[:, end:offset], full[:, offset : offset + length][:, columns]]
        end = offset + length
    kept.append(full[:, end:])
    expected = torch.cat([*kept, (full.max() + 1).expand(3, 1)], 1)
    # The first positions of Qwen2.5-VL may be more than the tokens of the prompt; the runner reads those of its tokens.
    got = torch.cat([positions[:, : len(prompt)], torch.full((3, 1), len(prompt) + delta)], 1)
    return got[:, trial.start :], expected[:, trial.start :]


def _stand_in(cls: Any, dtype: torch.dtype) -> Any:
    """An instance of a model's class that has no weights, only what its methods on positions look at."""
    vision = SimpleNamespace(spatial_merge_size=MERGE, tokens_per_second=2)
    ids = {"vision_start_token_id": START, "vision_end_token_id": END, "video_token_id": VIDEO, "image_token_id": IMAGE}
    word = torch.zeros(WIDTH, dtype=dtype)
    word[-1] = -1
    text = SimpleNamespace(embed_input_ids=lambda tokens: word.repeat(len(tokens), 1))
    model = cls.__new__(cls)
    model.__dict__.update(
        config=SimpleNamespace(vision_config=vision, **ids),
        visual=SimpleNamespace(spatial_merge_size=MERGE),
        visual_dim=WIDTH,
        video_pruning_rate=0.5,
        video_pruning_method="evs",
        is_multimodal_pruning_enabled=True,
        use_deepstack=False,
        get_language_model=lambda: text,
        _tokenizer=SimpleNamespace(encode=lambda text, **_: [STAMP] * 4),
    )
    return model


class _Input(dict[str, Any]):
    """Inputs of a video, which the model reads as a mapping and by attributes."""

    timestamps: list[list[float]]


def _prompt(model: Any, trial: Trial, stamped: bool, *, pruned: bool) -> tuple[list[int], list[Any]]:
    """A prompt, with all tokens or with as many as stay, and vLLM's record of its images and videos."""
    from vllm.multimodal.inputs import MultiModalFeatureSpec, PlaceholderRange

    prompt: list[int] = []
    features = []
    for part in trial.parts:
        if isinstance(part, int):
            prompt += [WORD] * part
            continue
        modality, (frames, height, width), seconds = part
        pad = VIDEO if modality == "video" else IMAGE
        counts = [height * width] * frames
        if pruned and modality == "video":
            kept = _count(type(model))(height * width, frames, model.video_pruning_rate)
            counts = [kept] + [0] * (frames - 1)
        if stamped and modality == "video":
            item = [token for count in counts for token in (*[STAMP] * 4, START, *[pad] * count, END)]
        else:
            item = [pad] * sum(counts)
        data = {f"{modality}_grid_thw": SimpleNamespace(data=torch.tensor([frames, MERGE * height, MERGE * width]))}
        if modality == "video" and not stamped:
            data["second_per_grid_ts"] = SimpleNamespace(data=torch.tensor(seconds))
        features.append(
            MultiModalFeatureSpec(
                data=data,
                modality=modality,
                identifier="trial",
                mm_position=PlaceholderRange(offset=len(prompt) + 1, length=len(item)),
            )
        )
        prompt += [START, *item, END]
    return prompt, features


def _count(cls: Any) -> Any:
    """The function that says how many tokens stay, as the model's module holds it."""
    import sys

    for base in cls.__mro__:
        count = getattr(sys.modules[base.__module__], "compute_retained_tokens_count", None)
        if count is not None:
            return count
    raise AttributeError(f"the module of {cls.__name__} has no compute_retained_tokens_count")


def _embedding(model: Any, feature: Any, trial: Trial, seed: int) -> Tensor:
    """What the model makes of features whose first two columns are the bytes of the number of their token."""
    grid = feature.data[f"{feature.modality}_grid_thw"].data
    count = int(grid.prod()) // MERGE**2
    features = torch.randn(count, WIDTH, generator=torch.Generator().manual_seed(seed), dtype=torch.float32)
    features[:, 0], features[:, 1], features[:, -1] = torch.arange(count) // 256, torch.arange(count) % 256, 1
    split = (features.to(trial.dtype),)
    inputs = _Input({f"{feature.modality}_grid_thw": grid[None]})
    if feature.modality == "image":
        return model._postprocess_image_embeds_evs(split, inputs)[0]  # type: ignore[no-any-return]
    if "second_per_grid_ts" in feature.data:
        inputs["second_per_grid_ts"] = feature.data["second_per_grid_ts"].data[None]
    inputs.timestamps = [[float(second) for second in range(int(grid[0]))]]
    return model._postprocess_video_embeds_evs(split, inputs)[0]  # type: ignore[no-any-return]


def _columns(embedding: Tensor, tokens: Sequence[int]) -> Tensor:
    """Where the rows of an embedding lie in the full image or video."""
    pads = torch.tensor([place for place, token in enumerate(tokens) if token in (VIDEO, IMAGE)])
    words = iter([place for place, token in enumerate(tokens) if token not in (VIDEO, IMAGE)])
    numbers = (embedding[:, 0].long() * 256 + embedding[:, 1].long()).tolist()
    visual = (embedding[:, WIDTH - 1] > 0).tolist()
    return torch.tensor([int(pads[n]) if seen else next(words) for n, seen in zip(numbers, visual, strict=True)])
