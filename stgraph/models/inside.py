"""Rounds inside the language model: the hooks on its layers, for ``trim="inside"``.

What happens in which layer, and what each hook is given, is drawn in ``README.md`` beside this file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from .. import compat
from .plan import Call, Here, Plan
from .rounds import Pruning, Stage

Hook = Callable[..., Any]


class InsideHooks:
    """The hooks of one attachment on the decoder layers.

    They act on the call that their thread is in the middle of, and on none without a plan.
    """

    def __init__(
        self, decoder: nn.Module, *, last: int, deepstack: int, here: Here, note: Callable[[Plan, Pruning], None]
    ) -> None:
        """Prepare hooks for ``decoder``.

        Args:
            decoder: the language model.
            last: the layer before which the last round is.
            deepstack: behind how many layers the model adds vision features.
            here: what each thread is in the middle of.
            note: keeps what a method found, after each of its rounds.
        """
        self._config = cast(Any, decoder).config
        self._layers: list[nn.Module] = list(cast(Any, decoder).layers)
        self._last, self._deepstack, self._here, self._note = last, deepstack, here, note

    def places(self) -> Iterator[tuple[nn.Module, Hook, bool]]:
        """Modules, their hooks, and whether each hook runs before its module."""
        for index, layer in enumerate(self._layers):
            yield layer, self._before_layer(index), True
        for index in range(self._deepstack):
            yield self._layers[index], self._behind_deepstack(index), False
        for index in range(self._last):  # behind whose attention there may be a round
            query, key = compat.projections(self._layers[index])
            yield query, self._see("query", index), False
            yield key, self._see("keys", index), False
            yield compat.norm_behind_attention(self._layers[index]), self._behind_attention(index), True

    def _call(self) -> tuple[Call, Plan] | None:
        """The call that this thread is in the middle of, and its plan; None without one."""
        call = self._here.call
        return None if call is None or call.plan is None else (call, call.plan)

    def _before_layer(self, index: int) -> Hook:
        """Before layer ``index``: cut all that it is given down to the tokens that are left there."""

        def hook(
            module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
        ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
            found = self._call()
            if found is None:
                return None
            call, plan = found
            hidden = args[0] if args else kwargs["hidden_states"]
            stage = plan.stage(index)
            if stage is not None:
                first, kwargs = stage.layer == index, dict(kwargs)
                if call.whole:
                    if index <= self._deepstack:
                        hidden = stage.total.take(hidden)
                    elif first:
                        hidden = stage.step.take(hidden)
                    kwargs["position_embeddings"] = tuple(stage.total.take(x) for x in kwargs["position_embeddings"])
                    if kwargs.get("position_ids") is not None:
                        kwargs["position_ids"] = stage.total.take(kwargs["position_ids"])
                if first:
                    mask, cache = stage.total.mask(call.mask), compat.cache_of(kwargs)
                    call.stage_mask = compat.layer_mask(self._config, hidden, mask, cache, stage.layer)
                kwargs["attention_mask"] = call.stage_mask
            if call.due == index + 1:
                call.rotation = kwargs["position_embeddings"]
            if stage is None:
                return None
            return ((hidden, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": hidden})

        return hook

    def _behind_deepstack(self, index: int) -> Hook:
        """Behind layer ``index``: put tokens back to their columns, to which the model adds features."""

        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Tensor | None:
            found = self._call()
            if found is None or not found[0].whole:
                return None
            stage = found[1].stage(index)
            return None if stage is None else stage.total.put(output)

        return hook

    def _see(self, name: Literal["query", "keys"], index: int) -> Hook:
        """Keep the queries or keys of layer ``index``, where the round behind its attention is due."""

        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> None:
            found = self._call()
            if found is not None and found[0].due == index + 1:
                setattr(found[0], name, output[:, : found[1].width].detach())

        return hook

    def _behind_attention(self, index: int) -> Hook:
        """Between the attention and the MLP of layer ``index``, where the round of the next layer is."""

        def hook(module: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Any]) -> None:
            found = self._call()
            if found is None or not found[0].whole:
                return
            call, plan = found
            (hidden,) = args
            if call.due == index + 1:
                self._round(plan, call, hidden)
            merge = plan.merges.get(index + 1)
            if merge is not None:
                merge.put_(hidden)  # in place, for it is the residual too

        return hook

    @torch.no_grad()
    def _round(self, plan: Plan, call: Call, hidden: Tensor) -> None:
        """What the method does behind the attention of a layer, with the hidden states there."""
        pruning, width = cast(Pruning, plan.pruning), plan.width
        there = (plan.stages[-1].total.mask(call.mask) if plan.stages else call.mask)[:, :width]
        cosine, sine = (x[:, :width] for x in call.rotation)
        layer = pruning.due
        attention = cast(Any, self._layers[layer - 1]).self_attn
        cut, merge = pruning.round(
            hidden[:, :width],
            there.bool(),
            lambda: compat.last_attention(attention, call.query[:, -1:], call.keys, (cosine, sine), there),
            lambda row, columns: compat.column_attention(
                attention, call.query[row], call.keys[row], (cosine, sine), there, row, columns
            ),
        )
        if merge is not None:
            plan.merges[layer] = merge
        if cut is not None:
            plan.stages.append(Stage(layer, cut, cut.after(plan.stages[-1].total) if plan.stages else cut))
        self._note(plan, pruning)
