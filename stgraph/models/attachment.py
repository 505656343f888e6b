"""Attachment: a selector at work inside a video LLM, for as long as a ``with`` block lasts.

The prompt is never rewritten. Hooks cut columns out of what the language model is given (embeddings, positions, masks,
deepstack features), so ``generate`` sees a prompt of the original length: positions go on after it, sequences that it
returns hold all of it, and beams, sampling and streaming need no code of their own.
"""

from __future__ import annotations

import re
import weakref
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from ..errors import StgraphError, check_choice, check_number
from ..selectors.base import Selector
from ..selectors.selection import Selection
from ..signals import DeferredSignals, Signals
from ..tokens import VideoTokens
from .adapter import Adapter
from .layers import check_not_compiled, check_version, cut_deepstack, last_attention, norm_behind_attention, projections
from .plan import Call, Here, Place, Plan, Run
from .rounds import Pruning, Stage
from .tower import AttentionInput, tower_signals

ATTENTION = re.compile(r"sdpa|eager|flex_attention|(?!paged\|).*flash[-_]att(entio)?n.*")
"""Attention implementations that pruning was compared with the full-length run under, see docs/models.md.

Flash attention stands for all that take its masks (none, or 2-D), from the package or from the kernels hub.
"""

_PER_COLUMN = ("input_ids", "position_ids", "mm_token_type_ids")

_SECOND_VIDEO = (
    "the videos in the cache of a pruned prompt are known already and new ones cannot follow them; leave {} out, or "
    "start anew without past_key_values"
)

_STILL_RUNNING = (
    "the with block ended while generate was running in another thread, so the rest of its answer is wrong; wait for "
    "that thread inside the block"
)

_REFUSED = {
    "prefill_chunk_size": "its videos are chosen from all at once",
    "assistant_early_exit": "transformers takes the number of layers from the model's own configuration, where video "
    "LLMs do not have it",
    "use_mtp": "the layers that guess ahead would see the whole prompt",
    "speculation_type": "a model that guesses from hidden states would need those of the whole prompt",
}
"""Options of ``generate`` and why they do not work."""

Trim = Literal["before", "inside"]

_attached: weakref.WeakSet[nn.Module] = weakref.WeakSet()
_pruned: weakref.WeakSet[Any] = weakref.WeakSet()
"""Caches of pruned prompts, whoever pruned them."""


class Attachment:
    """Prunes the video tokens of every call of ``model`` inside the ``with`` block; afterwards the model is as before.

    Attributes:
        selection: of the videos of the latest prompt, in the order of their placeholders; None before the first.
        tokens_per_layer: how many visual tokens of each of these videos entered each decoder layer.
        trim: ``"before"`` the language model or ``"inside"`` it.
    """

    def __init__(
        self,
        selector: Selector,
        model: nn.Module,
        *,
        trim: Trim | None = None,
        layer: int | None = None,
        adapter: Adapter | None = None,
    ) -> None:
        """Check that ``selector`` can be attached to ``model``; see :meth:`stgraph.Selector.attach`."""
        self.trim: Trim = selector.natural_trim if trim is None else trim
        check_choice("trim", self.trim, ("before", "inside"))
        self.selector = selector
        self.model = model
        self.selection: Selection | None = None
        self.tokens_per_layer: tuple[tuple[int, ...], ...] = ()
        self._adapter = adapter_of(model) if adapter is None else adapter
        if not isinstance(self._adapter, Adapter):
            raise StgraphError(f"adapter must be one such as InternVL(), got {adapter!r}; leave it out, or give one")
        check_not_compiled(model)
        try:
            self._decoder, self._tower = self._adapter.language_model(model), self._adapter.vision_attention(model)
        except AttributeError as error:
            raise StgraphError(
                f"{type(model).__name__} has not the parts of the model that {type(self._adapter).__name__} is for; "
                "attach to the model itself, not to what wraps it (with PEFT, to model.get_base_model())"
            ) from error
        self._inside = self.trim == "inside"
        self._plans: weakref.WeakKeyDictionary[Any, Plan] = weakref.WeakKeyDictionary()
        self._here = Here()
        self._runs: set[Run] = set()
        self._undo: list[Callable[[], None]] = []
        check_version(inside=self._inside)
        config = cast(Any, self._decoder).config
        kind = config._attn_implementation
        if not ATTENTION.fullmatch(kind):
            raise StgraphError(
                f"pruning is not verified with the attention implementation {kind!r}; load the model with "
                "attn_implementation='sdpa', 'eager', 'flash_attention_2' or 'flex_attention'"
            )
        if any(name != "full_attention" for name in getattr(config, "layer_types", None) or ()):
            raise StgraphError(
                "pruning needs full attention in every layer of the language model, but this one has "
                f"{', '.join(sorted(set(config.layer_types) - {'full_attention'}))}; turn it off in its configuration"
            )
        layers = cast(Any, self._decoder).layers
        self._layers, self._deepstack = len(layers), self._adapter.deepstack_layers(model)
        if self._inside:
            self._layer = selector.last_round(len(layers)) if layer is None else layer
            check_number("layer", self._layer, at_least=1, at_most=len(layers) - 1, integer=True)
            for index in range(self._layer):
                projections(layers[index])
                norm_behind_attention(layers[index])
        elif layer is not None:
            raise StgraphError('layer is where tokens are dropped with trim="inside"; leave it out, or pass that')

    # -- entering and leaving ------------------------------------------------------------------------------------------

    def __enter__(self) -> Attachment:
        if self.model in _attached:
            raise StgraphError("a selector is attached to this model already; leave its with block first")
        _attached.add(self.model)
        try:
            self._hook()
        except BaseException:
            self._release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._release()
        if self._runs and kind is None:
            raise StgraphError(_STILL_RUNNING)

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise StgraphError(
            "a model cannot be copied or pickled while a selector is attached to it; do so outside its with block"
        )

    def _hook(self) -> None:
        model, decoder = self.model, self._decoder
        handles = [
            model.register_forward_pre_hook(self._begin, with_kwargs=True),
            model.register_forward_hook(self._end, always_call=True),
            decoder.register_forward_pre_hook(self._before, with_kwargs=True),
            decoder.register_forward_hook(self._after, with_kwargs=True),
        ]
        if self._tower is not None:
            handles.append(self._tower.register_forward_pre_hook(self._see_tower, with_kwargs=True))
        if self._inside:
            layers = list(cast(Any, decoder).layers)
            for index in range(len(layers)):
                handles.append(layers[index].register_forward_pre_hook(self._layer_hook(index), with_kwargs=True))
            for index in range(self._deepstack):
                handles.append(layers[index].register_forward_hook(self._deepstack_hook(index)))
            for index in range(self._layer):  # behind whose attention there may be a round
                query, key = projections(layers[index])
                handles += [
                    query.register_forward_hook(self._see("query", index)),
                    key.register_forward_hook(self._see("keys", index)),
                    norm_behind_attention(layers[index]).register_forward_pre_hook(self._behind_attention(index)),
                ]
        self._undo += [handle.remove for handle in handles]
        generate = cast(Any, model).generate
        replaced = vars(model).get("generate")

        def attached_generate(*args: Any, **kwargs: Any) -> Any:
            return self._generate(generate, args, kwargs)

        def restore() -> None:
            delattr(model, "generate")
            if replaced is not None:
                cast(Any, model).generate = replaced

        cast(Any, model).generate = attached_generate
        self._undo.append(restore)

    def _release(self) -> None:
        while self._undo:
            self._undo.pop()()
        _attached.discard(self.model)

    # -- the model's calls ---------------------------------------------------------------------------------------------

    def _generate(self, generate: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        inputs = dict(kwargs)
        inputs["input_ids"] = args[0] if args else kwargs.get("inputs", kwargs.get("input_ids"))
        places = self._places(inputs)
        if places:
            self._refuse_unsupported(kwargs)
        new = self._new_columns(inputs)
        if places and new is not None:
            raise StgraphError(_SECOND_VIDEO.format(self._adapter.pixels))
        ids = inputs["input_ids"]
        rows, length = (1, 0) if ids is None else (len(ids), ids.shape[-1])
        run = Run(places, rows, length, new)
        outer, self._here.run = self._here.run, run
        self._runs.add(run)
        try:
            output = generate(*args, **kwargs)
        finally:
            self._runs.discard(run)
            self._here.run, self._here.tower = outer, None
        if not self._undo:
            raise StgraphError(_STILL_RUNNING)
        return output

    def _plan_of(self, cache: Any) -> Plan | None:
        """The plan that a cache follows; None without a cache, or for one of a prompt that nobody pruned."""
        if cache is None:
            return None
        if cache in _pruned and cache not in self._plans:
            raise StgraphError(
                "the cache is that of a prompt which was pruned in another with block; start anew without "
                "past_key_values, or ask all turns in one block"
            )
        return self._plans.get(cache)

    def _new_columns(self, inputs: Mapping[str, Any]) -> int | None:
        """How many columns of a conversation are not in its pruned cache yet; None where there is no such cache."""
        cache, ids, mask = (inputs.get(key) for key in ("past_key_values", "input_ids", "attention_mask"))
        plan = self._plan_of(cache)
        if plan is None:
            return None
        self._refuse_unsupported(inputs)
        if ids is None or (inputs.get("mm_token_type_ids") is None) != (inputs.get("video_grid_thw") is None):
            raise StgraphError(
                "going on from the cache of a pruned prompt needs input_ids, and mm_token_type_ids and video_grid_thw "
                "either both or not at all"
            )
        new = (ids if mask is None else mask).shape[1] - plan.cached(cache)
        if new < 1:
            raise StgraphError(
                f"the cache holds {plan.cached(cache)} tokens of the conversation and input_ids nothing beyond them; "
                "pass the whole conversation, or an attention_mask for all of it"
            )
        return int(new)

    def _refuse_unsupported(self, kwargs: Mapping[str, Any]) -> None:
        """Ways to generate that pass the prompt in parts, or to others, or whose cache wants layers of one length."""
        config = kwargs.get("generation_config") or cast(Any, self.model).generation_config

        def option(name: str) -> Any:
            value = kwargs.get(name)
            return getattr(config, name, None) if value is None else value

        for name, reason in _REFUSED.items():
            if option(name):
                raise StgraphError(f"{name} cannot be used with a pruned prompt: {reason}; leave it out")
        if option("cache_implementation") not in (None, "dynamic", "dynamic_full"):
            raise StgraphError(
                f"a pruned prompt needs a cache whose layers can differ in length, but cache_implementation is "
                f"{option('cache_implementation')!r}; use 'dynamic'"
            )

    def _begin(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        self._here.call = None
        inputs = {"input_ids": args[0], **kwargs} if args else kwargs
        run, plan = self._here.run, self._plan_of(inputs.get("past_key_values"))
        if plan is not None:
            if inputs.get("position_ids") is None:
                raise StgraphError(
                    "going on from the cache of a pruned prompt needs position_ids, counted as if nothing had been "
                    "dropped; pass them, or use generate"
                )
            if inputs.get(self._adapter.pixels) is not None:
                raise StgraphError(_SECOND_VIDEO.format(self._adapter.pixels))
            self._here.call = Call(plan, whole=False)
            if run is not None and run.new is not None:
                # generate took the columns that were dropped for columns that are not in the cache yet.
                new, run.new = run.new, None
                new += max(0, len(inputs["input_ids"][0]) - run.length)
                per_column = [kwargs.get(key) for key in _PER_COLUMN]
                cut = {key: x[..., -new:] for key, x in zip(_PER_COLUMN, per_column, strict=True) if x is not None}
                return args, kwargs | cut
        elif run is not None and run.plan is not None and run.plan.begins(inputs.get("input_ids")):
            self._here.call = Call(run.plan)  # without a cache the whole sequence comes again, grown by a token
        else:
            if run is not None and run.plan is not None:
                run = None  # a prompt of its own, such as that of classifier-free guidance
            plan = self._plan(inputs, run)
            self._here.call = Call(plan, fresh=plan is not None)
        return None

    def _end(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        self._here.call = self._here.tower = None

    def _plan(self, inputs: Mapping[str, Any], run: Run | None) -> Plan | None:
        places = self._places(inputs) if run is None else run.places
        ids, cache = inputs.get("input_ids"), inputs.get("past_key_values")
        if not places or ids is None:
            return None
        if cache is not None and (cache.is_compileable or cache.get_seq_length()):
            raise StgraphError("a pruned prompt needs an empty DynamicCache; leave past_key_values out")
        if inputs.get("labels") is not None:
            raise StgraphError("labels do not fit a pruned prompt; compute the loss from the logits of its last tokens")
        mask = inputs.get("attention_mask")
        if mask is not None and tuple(mask.shape) != tuple(ids.shape):
            raise StgraphError(f"attention_mask must be {tuple(ids.shape)} as input_ids are, got {tuple(mask.shape)}")
        copies = 1
        if run is not None:
            ids, copies = ids[:, : run.length], len(ids) // run.rows
        plan = Plan([place._replace(row=place.row * copies) for place in places], ids, copies)
        if run is not None:
            run.plan = plan
        return plan

    def _places(self, inputs: Mapping[str, Any]) -> list[Place]:
        """Where the videos of a call lie; empty when it has none."""
        if inputs.get("mm_encoder_outputs"):
            raise StgraphError(
                f"videos are known by {self._adapter.pixels}; pass that, not mm_encoder_outputs, which is also what an "
                "assistant_model is given: attach to the model that it assists"
            )
        if inputs.get(self._adapter.pixels) is None:
            return []
        ids = inputs.get("input_ids")
        if ids is None or inputs.get("inputs_embeds") is not None:
            raise StgraphError("the places of the video tokens are read from input_ids; pass these, not inputs_embeds")
        if ids.ndim != 2:
            raise StgraphError(f"input_ids must be (batch, length), got {tuple(ids.shape)}")
        layouts = self._adapter.layouts(self.model, inputs)
        rows, columns = self._adapter.placeholders(self.model, inputs).nonzero(as_tuple=True)
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
        return places

    # -- before the language model -------------------------------------------------------------------------------------

    def _before(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        call = self._here.call
        if call is None:
            raise StgraphError("call the attached model itself, not its parts, so that its videos can be found")
        plan = call.plan
        if plan is None:
            return None
        embeddings, mask = kwargs.get("inputs_embeds"), kwargs.get("attention_mask")
        if embeddings is None:
            raise StgraphError(f"{type(module).__name__} was called without inputs_embeds; its adapter does not fit it")
        rows, queries = embeddings.shape[:2]
        if rows != plan.rows:
            raise StgraphError(
                f"the pruned prompt has {plan.rows} sequences, but the call that goes on from it {rows}; beams are "
                "counted, use the same number of them"
            )
        if mask is None:
            total = queries if call.whole else plan.cached(kwargs["past_key_values"]) + queries
            mask = torch.ones(rows, total, dtype=torch.int64, device=embeddings.device)
        if call.fresh:
            self._choose(plan, embeddings, mask)
        call.mask = mask if plan.cut is None else plan.cut.mask(mask)
        merge = plan.merge if call.whole else None
        if plan.cut is None:
            return None if merge is None else (args, {**kwargs, "inputs_embeds": merge.put(embeddings, None)})
        kwargs = {**kwargs, "attention_mask": call.mask}
        if call.whole:
            positions = kwargs.get("position_ids")
            if positions is None:
                positions = torch.arange(queries, device=embeddings.device)[None]
            kwargs |= {
                "inputs_embeds": plan.cut.take(embeddings) if merge is None else merge.put(embeddings, plan.cut),
                "position_ids": plan.cut.take(positions, positions.ndim - 1),
            }
            if kwargs.get("deepstack_visual_embeds") is not None:
                kwargs |= cut_deepstack(plan.cut, kwargs["visual_pos_masks"], kwargs["deepstack_visual_embeds"])
        return args, kwargs

    @torch.no_grad()
    def _choose(self, plan: Plan, embeddings: Tensor, mask: Tensor) -> None:
        """What stays before the language model."""
        if bool((mask[:, 1:] < mask[:, :-1]).any()):
            raise StgraphError('prompts must be padded on the left; set padding_side="left" in the processor')
        if self._inside and self._decoder.training and getattr(self._decoder, "gradient_checkpointing", False):
            raise StgraphError('trim="inside" does not work with gradient checkpointing; use trim="before"')
        embeddings, mask = embeddings[:, : plan.length], mask[:, : plan.length]
        tokens = VideoTokens.cat([p.layout.tokens(embeddings[p.row, p.columns]) for p in plan.places])
        pruning = Pruning(
            self.selector,
            tokens,
            self._encoder_signals(plan, tokens),
            rows=torch.cat([torch.full_like(p.columns, p.row) for p in plan.places]).to(tokens.device),
            columns=torch.cat([p.columns for p in plan.places]).to(tokens.device),
            copies=plan.copies,
            layers=self._layers,
            last=self._layer if self._inside else 0,
        )
        plan.cut, plan.merge = pruning.round(embeddings, mask.bool())
        self._note(plan, pruning)

    def _see_tower(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        # Images are encoded before videos, so the last call is the one that counts.
        self._here.tower = AttentionInput(args, kwargs)

    def _encoder_signals(self, plan: Plan, tokens: VideoTokens) -> Signals:
        """Signals of the vision tower; none where it is not known how to read them."""
        seen, layouts = self._here.tower, [place.layout for place in plan.places]
        if seen is None:
            return Signals()
        return DeferredSignals(lambda: tower_signals(self._adapter, self.model, seen, tokens, layouts))

    def _after(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        call = self._here.call
        if call is not None and call.plan is not None and call.fresh:
            cache = kwargs.get("past_key_values")
            cache = getattr(output, "past_key_values", None) if cache is None else cache
            if cache is not None:
                self._plans[cache] = call.plan
                _pruned.add(cache)

    # -- inside the language model -------------------------------------------------------------------------------------

    def _see(self, name: Literal["query", "keys"], index: int) -> Callable[..., None]:
        """The hook that keeps the queries or keys of layer ``index`` where the round behind its attention is due."""

        def hook(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
            call = self._here.call
            if call is not None and call.plan is not None and call.due == index + 1:
                prompt = output[:, : call.plan.width].detach()
                setattr(call, name, prompt[:, -1:] if name == "query" else prompt)

        return hook

    def _layer_hook(self, index: int) -> Callable[..., tuple[tuple[Any, ...], dict[str, Any]] | None]:
        """The hook before layer ``index``: it sees, of every token that is left there, all that the layer is given."""

        def hook(
            module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
        ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
            call = self._here.call
            if call is None or call.plan is None:
                return None
            plan = call.plan
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
                    call.stage_mask = self._layer_mask(stage, call, hidden, kwargs.get("past_key_values"))
                kwargs["attention_mask"] = call.stage_mask
            if call.due == index + 1:
                call.rotation = kwargs["position_embeddings"]
            if stage is None:
                return None
            return ((hidden, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": hidden})

        return hook

    def _deepstack_hook(self, index: int) -> Callable[..., Tensor | None]:
        """The hook behind layer ``index`` that puts tokens back to their columns, to which the model adds features."""

        def hook(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor | None:
            call = self._here.call
            stage = call.plan.stage(index) if call is not None and call.plan is not None and call.whole else None
            return None if stage is None else stage.total.put(output)

        return hook

    def _behind_attention(self, index: int) -> Callable[..., None]:
        """The hook between the attention and the MLP of layer ``index``, where the round of the next layer is."""

        def hook(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            call = self._here.call
            if call is None or call.plan is None or not call.whole:
                return
            (hidden,) = args
            if call.due == index + 1:
                self._round(call.plan, call, hidden)
            merge = call.plan.merges.get(index + 1)
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
        attention = cast(Any, self._decoder).layers[layer - 1].self_attn
        cut, merge = pruning.round(
            hidden[:, :width],
            there.bool(),
            lambda: last_attention(attention, call.query, call.keys, (cosine, sine), there),
        )
        if merge is not None:
            plan.merges[layer] = merge
        if cut is not None:
            plan.stages.append(Stage(layer, cut, cut.after(plan.stages[-1].total) if plan.stages else cut))
        self._note(plan, pruning)

    def _note(self, plan: Plan, pruning: Pruning) -> None:
        """Keep what a method found, once it has finished."""
        plan.pruning = pruning if pruning.selection is None else None
        if pruning.selection is not None:
            self.selection, self.tokens_per_layer = pruning.selection, pruning.tokens_per_layer

    def _layer_mask(self, stage: Stage, call: Call, hidden: Tensor, cache: Any) -> Tensor | None:
        """The mask of the trimmed layers, as transformers makes it for the attention implementation in use."""
        from transformers.masking_utils import create_causal_mask

        mask: Tensor | None = create_causal_mask(
            config=cast(Any, self._decoder).config,
            inputs_embeds=hidden,
            attention_mask=stage.total.mask(call.mask),
            past_key_values=cache,
            layer_idx=stage.layer,
        )
        return mask


def adapter_of(model: nn.Module) -> Adapter:
    """The registered adapter of a transformers model.

    Raises:
        StgraphError: it is no transformers model, or of a family without an adapter.
    """
    from . import MODELS

    kind = getattr(getattr(model, "config", None), "model_type", None)
    if kind is None or not hasattr(model, "generate"):
        raise StgraphError(
            f"a selector is attached to a transformers model that generates, got {type(model).__name__}; "
            "load one with AutoModelForImageTextToText"
        )
    if kind not in MODELS:
        raise StgraphError(
            f"there is no adapter for models of type {kind!r}, known are {', '.join(sorted(MODELS))}; an adapter is a "
            "class of a few lines, see docs/models.md"
        )
    return MODELS.get(kind)()
