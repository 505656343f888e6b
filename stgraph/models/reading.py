"""Reading: what a call of an attached model holds: its videos, and whether its prompt can be pruned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from torch import Tensor, nn

from .. import compat
from ..errors import StgraphError
from .adapter import Adapter
from .plan import Place

REFUSED = {
    "prefill_chunk_size": "its videos are chosen from all at once",
    "assistant_early_exit": "transformers takes the number of layers from the model's own configuration, where video "
    "LLMs do not have it",
    "use_mtp": "the layers that guess ahead would see the whole prompt",
    "speculation_type": "a model that guesses from hidden states would need those of the whole prompt",
}
"""Options of ``generate`` and why they do not work with a pruned prompt."""


class Reader:
    """Reads the arguments of ``generate`` and of forward passes of one model."""

    def __init__(self, model: nn.Module, adapter: Adapter, *, inside: bool) -> None:
        """Read calls of ``model``, whose tokens may be dropped ``inside`` its language model."""
        self.model, self.adapter = model, adapter
        self._decoder, self._inside = adapter.language_model(model), inside

    def places(self, inputs: Mapping[str, Any]) -> list[Place]:
        """Where the videos of a call lie; empty when it has none."""
        if inputs.get("mm_encoder_outputs"):
            raise StgraphError(
                f"pass videos as {self.adapter.pixels}, not as mm_encoder_outputs; if this is an assistant_model, "
                "attach to the model that it assists"
            )
        if inputs.get(self.adapter.pixels) is None:
            return []
        ids = inputs.get("input_ids")
        if ids is None or inputs.get("inputs_embeds") is not None:
            raise StgraphError("the places of the video tokens are read from input_ids; pass these, not inputs_embeds")
        if ids.ndim != 2:
            raise StgraphError(f"input_ids must be (batch, length), got {tuple(ids.shape)}")
        layouts = self.adapter.layouts(self.model, inputs)
        rows, columns = self.adapter.placeholders(self.model, inputs).nonzero(as_tuple=True)
        sizes = [layout.size for layout in layouts]
        if sum(sizes) != len(rows):
            raise StgraphError(
                f"the videos have {sum(sizes)} tokens, but input_ids hold {len(rows)} placeholders for them; use the "
                "processor of the model for both"
            )
        places = []
        for row, column, layout in zip(rows.split(sizes), columns.split(sizes), layouts, strict=True):
            if bool((row != row[0]).any()):
                raise StgraphError("the placeholders of one video are spread over several rows of input_ids")
            places.append(Place(int(row[0]), column, layout))
        self._check_length(inputs, places)
        return places

    def notes(self, inputs: Mapping[str, Any]) -> tuple[str, ...]:
        """How the videos of a call were found."""
        if inputs.get("input_ids") is None or inputs.get(self.adapter.pixels) is None:
            return ()
        return self.adapter.notes(self.model, inputs)

    def _check_length(self, inputs: Mapping[str, Any], places: Sequence[Place]) -> None:
        """Raise :class:`StgraphError` where a prompt has more positions than the model was made for.

        Tokens that stay keep their positions, so dropping others does not help.
        """
        limit, length = compat.context_length(self._decoder), inputs["input_ids"].shape[1]
        if not places or limit is None or length <= limit:
            return
        longest = int(compat.prompt_positions(self.model, inputs).max()) + 1
        if longest <= limit:
            return
        row = max({place.row for place in places}, key=lambda row: sum(p.layout.size for p in places if p.row == row))
        videos = [place.layout for place in places if place.row == row]
        tokens, steps = sum(video.size for video in videos), sum(video.grid.frames for video in videos)
        fits = max(0, (limit - longest + tokens) * steps // tokens)
        raise StgraphError(
            f"the prompt has {longest} positions ({tokens} of its tokens are the videos'), more than the model's "
            f"{limit}; sample fewer frames: {fits} of the {steps} time steps fit"
        )

    def check_forward(self, inputs: Mapping[str, Any]) -> None:
        """Raise :class:`StgraphError` for a forward pass whose prompt cannot be pruned."""
        ids, cache = inputs["input_ids"], compat.cache_of(inputs)
        if cache is not None and (compat.is_fixed(cache) or cache.get_seq_length()):
            raise StgraphError("a pruned prompt needs an empty DynamicCache; leave the cache out")
        if isinstance(inputs.get("logits_to_keep"), Tensor):
            raise StgraphError(
                "logits_to_keep names columns of the whole prompt, many of which are dropped; give the number of last "
                "columns"
            )
        if inputs.get("labels") is not None:
            raise StgraphError("labels do not fit a pruned prompt; compute the loss from the logits of its last tokens")
        mask = inputs.get("attention_mask")
        if mask is not None and tuple(mask.shape) != tuple(ids.shape):
            raise StgraphError(f"attention_mask must be {tuple(ids.shape)} as input_ids are, got {tuple(mask.shape)}")

    def is_guided(self, inputs: Mapping[str, Any]) -> bool:
        """Whether ``generate`` may run prompts of its own beside the one that it is given."""
        return self._option(inputs, "guidance_scale") not in (None, 1) or inputs.get("logits_processor") is not None

    def _option(self, inputs: Mapping[str, Any], name: str) -> Any:
        """What a call of ``generate`` sets, by keyword or in its configuration."""
        value = inputs.get(name)
        config = inputs.get("generation_config") or cast(Any, self.model).generation_config
        return getattr(config, name, None) if value is None else value

    def check_generation(self, inputs: Mapping[str, Any]) -> None:
        """Ways to generate that pass the prompt in parts, or to others, or whose cache does not fit."""
        for name, reason in REFUSED.items():
            if self._option(inputs, name):
                raise StgraphError(f"{name} cannot be used with a pruned prompt: {reason}; leave it out")
        kind = self._option(inputs, "cache_implementation")
        if not compat.grows(kind):
            raise StgraphError(
                f"a pruned prompt needs a cache that grows, but cache_implementation is {kind!r}; use 'dynamic'"
            )
        if self._inside and not compat.has_unequal_layers(kind):
            raise StgraphError(
                f'trim="inside" needs a cache whose layers can differ in length, but cache_implementation is {kind!r}; '
                "use 'dynamic', or trim=\"before\""
            )
