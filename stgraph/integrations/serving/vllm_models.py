"""Qwen2.5-VL and Qwen3-VL of vLLM with the positions of the full prompt, less the columns of dropped tokens.

Both models keep a position for each token of the prompt, make them before the features are known, and correct them when
embeddings arrive. Here the first positions are right for all text at once, and tokens of images and videos bring their
places along (:mod:`.positions`). All positions come from the model's own function, applied to the full prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...errors import StgraphError
from .positions import COLUMNS, Item, expand, initial, pack, unpack, write

METHODS = {
    "get_mrope_input_positions": ("self", "input_tokens", "mm_features"),
    "recompute_mrope_positions": (
        "self",
        "input_ids",
        "multimodal_embeddings",
        "mrope_positions",
        "num_computed_tokens",
    ),
    "_postprocess_image_embeds_evs": ("self", "image_embeds_split", "image_input"),
    "_postprocess_video_embeds_evs": ("self", "video_embeds_split", "video_input"),
}
"""Methods of both models that are replaced, and their parameters."""

_EXPANDED = (
    "self",
    "device",
    "seq_len",
    "video_grid_thw",
    "num_tokens_per_frame",
    "timestamps",
    "is_video_embed",
    "is_vision_start",
    "retention_mask",
)

WIDTH: ContextVar[int | None] = ContextVar("WIDTH", default=None)
"""Columns of the features that a model hands over; behind them Qwen3-VL appends those of earlier layers."""

_FULL: ContextVar[bool] = ContextVar("_FULL", default=False)

Mask = Callable[[Tensor, Sequence[int], int, float], Tensor]
"""Chooses tokens: (features, grid of patches, merge size, pruning rate) to a mask."""


class Plan(NamedTuple):
    """What a prompt's positions carry along until its images and videos have been written.

    Attributes:
        items: its images and videos.
        delta: the position after the last minus the number of tokens.
    """

    items: tuple[Item, ...]
    delta: int


def patch_qwen2_5(cls: Any, mask: Mask) -> None:
    """Give a class Qwen2.5-VL's positions of the full prompt."""
    originals = _patch(cls)
    positions = originals["get_mrope_input_positions"]

    def postprocess_videos(self: Any, video_embeds_split: Sequence[Tensor], video_input: Any) -> tuple[Tensor, ...]:
        grids = video_input["video_grid_thw"].tolist()
        seconds = video_input.get("second_per_grid_ts")
        seconds = [None] * len(grids) if seconds is None else seconds.flatten().tolist()
        out = []
        for embedding, grid, second in zip(video_embeds_split, grids, seconds, strict=True):
            data: dict[str, Any] = {"video_grid_thw": torch.tensor(grid)}
            if second is not None:
                data["second_per_grid_ts"] = torch.tensor(second, dtype=torch.float64)
            places = _places(positions, self, "video", data, len(embedding))
            keep = mask(embedding, grid, self.visual.spatial_merge_size, self.video_pruning_rate)
            out.append(_with_places(embedding[keep], places[keep.to(places.device)]))
        return tuple(out)

    cls._postprocess_video_embeds_evs = postprocess_videos


def patch_qwen3(cls: Any) -> None:
    """Give a class Qwen3-VL's positions of the full prompt.

    Timestamps stand between the frames of a video, so the model itself joins kept tokens with text; it calls the
    function for the mask that it imported.
    """
    check_parameters(cls._get_expanded_positions, _EXPANDED, f"{cls.__name__}._get_expanded_positions")
    _patch(cls)
    expanded = cls._get_expanded_positions

    def expanded_positions(self: Any, *args: Any, **kwargs: Any) -> Tensor:
        token = _FULL.set(True)
        try:
            places = expanded(self, *args, **kwargs)[:, :3]
        finally:
            _FULL.reset(token)
        return pack(_numbered(places), places.dtype)

    cls._get_expanded_positions = expanded_positions


def patch_width(cls: Any) -> None:
    """Tell the function for the mask how many columns of Qwen3-VL's embeddings are the features themselves."""
    name = "_postprocess_video_embeds_evs"
    check_parameters(getattr(cls, name), METHODS[name], f"{cls.__name__}.{name}")
    postprocess = getattr(cls, name)

    def postprocess_videos(self: Any, video_embeds_split: Sequence[Tensor], video_input: Any) -> tuple[Tensor, ...]:
        token = WIDTH.set(self.visual_dim)
        try:
            out: tuple[Tensor, ...] = postprocess(self, video_embeds_split, video_input)
            return out
        finally:
            WIDTH.reset(token)

    cls._postprocess_video_embeds_evs = postprocess_videos


def _patch(cls: Any) -> dict[str, Any]:
    """Replace what both models share; returns the methods as they were."""
    for name, parameters in METHODS.items():
        check_parameters(getattr(cls, name), parameters, f"{cls.__name__}.{name}")
    originals = {name: getattr(cls, name) for name in METHODS}
    positions = originals["get_mrope_input_positions"]

    def get_positions(self: Any, input_tokens: list[int], mm_features: Sequence[Any]) -> tuple[Tensor, int]:
        if _FULL.get() or not self.is_multimodal_pruning_enabled:
            result: tuple[Tensor, int] = positions(self, input_tokens, mm_features)
            return result
        features = sorted(mm_features, key=lambda feature: feature.mm_position.offset)
        spans = [(feature.mm_position.offset, feature.mm_position.length) for feature in features]
        tokens = [list(input_tokens[first : first + count]) for first, count in spans]
        full_items = [_full_item(item, feature, self.config) for item, feature in zip(tokens, features, strict=True)]
        prompt, offsets = expand(list(input_tokens), spans, full_items)
        full_spans = [(offset, len(item)) for offset, item in zip(offsets, full_items, strict=True)]
        moved = [
            replace(feature, mm_position=replace(feature.mm_position, offset=offset, length=length, is_embed=None))
            for feature, (offset, length) in zip(features, full_spans, strict=True)
        ]
        full, _ = positions(self, prompt, moved)
        pruned, items = initial(full, spans, full_spans)
        delta = int(full.max()) + 1 - len(input_tokens)
        attach_plan(pruned, Plan(items, delta))
        return pruned, delta

    def recompute(
        self: Any,
        input_ids: Any,
        multimodal_embeddings: Sequence[Tensor],
        mrope_positions: Tensor,
        num_computed_tokens: int,
    ) -> tuple[Sequence[Tensor], Tensor, int]:
        plan = plan_of(mrope_positions)
        if not multimodal_embeddings:
            return [], mrope_positions, plan.delta
        chunks = [unpack(embedding[:, -COLUMNS:]) for embedding in multimodal_embeddings]
        written = write(mrope_positions, plan.items, chunks, num_computed_tokens)
        return [embedding[:, :-COLUMNS] for embedding in multimodal_embeddings], written, plan.delta

    def postprocess_images(self: Any, image_embeds_split: Sequence[Tensor], image_input: Any) -> tuple[Tensor, ...]:
        if not self.is_multimodal_pruning_enabled:
            return tuple(image_embeds_split)
        out = []
        for embedding, grid in zip(image_embeds_split, image_input["image_grid_thw"].tolist(), strict=True):
            places = _places(positions, self, "image", {"image_grid_thw": torch.tensor(grid)}, len(embedding))
            out.append(_with_places(embedding, places))
        return tuple(out)

    cls.get_mrope_input_positions = get_positions
    cls.recompute_mrope_positions = recompute
    cls._postprocess_image_embeds_evs = postprocess_images
    return originals


def attach_plan(positions: Tensor, plan: Plan) -> None:
    """Leave a plan with the tensor that the runner keeps for the request and hands back."""
    positions.stgraph_plan = plan  # type: ignore[attr-defined]


def plan_of(positions: Tensor) -> Plan:
    """The plan that was left with a prompt's positions.

    Raises:
        StgraphError: the runner handed back another tensor.
    """
    plan = getattr(positions, "stgraph_plan", None)
    if not isinstance(plan, Plan):
        raise StgraphError("vLLM returned other positions than it was given; report this with the version of vLLM")
    return plan


def check_parameters(function: Any, expected: Sequence[str], name: str) -> None:
    """Raise :class:`StgraphError` unless a function of vLLM has the parameters that are known here."""
    import inspect

    import vllm

    found = tuple(inspect.signature(function).parameters)
    if found != tuple(expected):
        raise StgraphError(
            f"{name} of vLLM {vllm.__version__} takes ({', '.join(found)}) where ({', '.join(expected)}) was known; "
            "install a version of vLLM that docs/serving.md names, or unset STGRAPH_VLLM"
        )


def _full_item(tokens: list[int], feature: Any, config: Any) -> list[int]:
    """The tokens of an image or a video as they were without pruning."""
    if feature.modality != "video":
        return tokens
    merge = config.vision_config.spatial_merge_size
    frames, height, width = feature.data["video_grid_thw"].data.tolist()
    frame: list[int] = [config.video_token_id] * (height // merge * (width // merge))
    if config.vision_start_token_id not in tokens:
        return frame * int(frames)
    full: list[int] = []
    for token in tokens:
        if token != config.video_token_id:
            full.append(token)
        if token == config.vision_start_token_id:
            full += frame
    return full


def _places(positions: Any, model: Any, modality: str, data: dict[str, Any], count: int) -> Tensor:
    """(count, 3) positions of an image or a video that begins a prompt."""
    elements = {name: SimpleNamespace(data=value) for name, value in data.items()}
    feature = SimpleNamespace(
        modality=modality, data=elements, mm_position=SimpleNamespace(offset=0, length=count, is_embed=None)
    )
    token = model.config.video_token_id if modality == "video" else model.config.image_token_id
    places: Tensor = positions(model, [token] * count, [feature])[0].T
    return places


def _with_places(embedding: Tensor, places: Tensor) -> Tensor:
    return torch.cat([embedding, pack(_numbered(places).to(embedding.device), embedding.dtype)], 1)


def _numbered(places: Tensor) -> Tensor:
    return torch.cat([torch.arange(len(places), device=places.device)[:, None], places], 1)
