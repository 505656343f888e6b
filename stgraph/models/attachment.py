"""Attachment: a selector at work inside a video LLM, for as long as a ``with`` block lasts.

The prompt is never rewritten. Hooks cut columns out of what the language model is given (embeddings, positions, masks,
deepstack features), so ``generate`` sees a prompt of the original length: positions go on after it, sequences that it
returns hold all of it, and beams, sampling and streaming need no code of their own.
"""

from __future__ import annotations

import inspect
import sys
import threading
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, NamedTuple, cast

import torch
from torch import Tensor, nn

from ..errors import StgraphError, check_choice, check_number
from ..selectors.base import Selector
from ..selectors.selection import Selection
from ..signals import Signals
from ..tokens import VideoTokens
from .adapter import Adapter, VideoLayout
from .cut import Cut

ATTENTION = ("sdpa", "eager")
"""Attention implementations that pruning was compared with the full-length run under."""

EARLY_LAYER = 2
"""FastV's K, the layer that tokens are dropped at."""

_PER_COLUMN = ("input_ids", "position_ids", "mm_token_type_ids")

_SECOND_VIDEO = (
    "the videos in the cache of a pruned prompt are known already and new ones cannot follow them; leave {} out, or "
    "start anew without past_key_values"
)

Trim = Literal["before", "inside"]

_attached: weakref.WeakSet[nn.Module] = weakref.WeakSet()


class _Place(NamedTuple):
    """One video in the prompt: its row, and the columns of its N tokens."""

    row: int
    columns: Tensor
    layout: VideoLayout


@dataclass(eq=False)
class _Plan:
    """What is cut out of one batch of prompts, for as long as they are continued.

    ``rows`` are those of the model: each prompt is there ``copies`` times, for its beams; ``places`` are in the first.
    ``cut`` is made before the language model, ``trim``, in the columns that ``cut`` left, inside it; None where nothing
    is dropped. ``tokens`` are there until the last of the two is known, ``merged`` are their features after a merge.
    """

    places: list[_Place]
    rows: int
    length: int
    copies: int
    cut: Cut | None = None
    trim: Cut | None = None
    tokens: VideoTokens | None = None
    merged: Tensor | None = None

    def cached(self, cache: Any) -> int:
        """Columns that a cache stands for, dropped ones included."""
        seen = int(cache.get_seq_length())
        return seen if self.cut is None else seen + self.length - self.cut.width


@dataclass(eq=False)
class _Call:
    """One forward pass.

    Attributes:
        plan: what it leaves out; None where it has no video.
        fresh: the plan is yet to be made.
        whole: it starts with the prompt, which is to be cut; otherwise the prompt is in the cache.
        mask: (B, columns of the first layers) attention mask.
        query: of the last column, in the layer whose attention trims.
        keys: of all columns there.
        trimmed_mask: what the trimmed layers get as their mask.
    """

    plan: _Plan | None
    fresh: bool = False
    whole: bool = True
    mask: Tensor = field(init=False)
    query: Tensor = field(init=False)
    keys: Tensor = field(init=False)
    trimmed_mask: Tensor | None = None


@dataclass(eq=False)
class _Run:
    """One ``generate``.

    Attributes:
        places: the videos that it was given.
        rows: of its input, before it multiplies them for beams.
        new: columns that its first forward pass adds to a pruned cache; None where it has none.
        plan: that it follows.
    """

    places: list[_Place]
    rows: int
    new: int | None = None
    plan: _Plan | None = None


class _Here(threading.local):
    """What the current thread is in the middle of."""

    run: _Run | None = None
    call: _Call | None = None


class Attachment:
    """Prunes the video tokens of every call of ``model`` inside the ``with`` block; afterwards the model is as before.

    Attributes:
        selection: of the videos of the latest prompt, in the order of their placeholders; None before the first.
    """

    def __init__(
        self, selector: Selector, model: nn.Module, *, trim: Trim = "before", layer: int | None = None
    ) -> None:
        """Check that ``selector`` can be attached to ``model``; see :meth:`stgraph.Selector.attach`."""
        check_choice("trim", trim, ("before", "inside"))
        self.selector = selector
        self.model = model
        self.selection: Selection | None = None
        self._adapter = adapter_of(model)
        self._decoder = self._adapter.language_model(model)
        self._inside = trim == "inside"
        self._plans: weakref.WeakKeyDictionary[Any, _Plan] = weakref.WeakKeyDictionary()
        self._here = _Here()
        self._undo: list[Callable[[], None]] = []
        config = cast(Any, self._decoder).config
        kind = config._attn_implementation
        if kind not in ATTENTION:
            raise StgraphError(
                f"pruning is not verified with the attention implementation {kind!r}; load the model with "
                f"attn_implementation={ATTENTION[0]!r} or {ATTENTION[1]!r}"
            )
        if any(name != "full_attention" for name in getattr(config, "layer_types", None) or ()):
            raise StgraphError(
                "pruning needs full attention in every layer of the language model, but this one has "
                f"{', '.join(sorted(set(config.layer_types) - {'full_attention'}))}; turn it off in its configuration"
            )
        layers = cast(Any, self._decoder).layers
        self._layer = len(layers)
        if self._inside:
            first = self._adapter.first_layer(model)
            self._layer = max(EARLY_LAYER, first) if layer is None else layer
            check_number("layer", self._layer, at_least=first, at_most=len(layers) - 1, integer=True)
            _projections(layers[self._layer - 1])
            _check_version()
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

    def _hook(self) -> None:
        model, decoder = self.model, self._decoder
        handles = [
            model.register_forward_pre_hook(self._begin, with_kwargs=True),
            model.register_forward_hook(self._end, always_call=True),
            decoder.register_forward_pre_hook(self._before, with_kwargs=True),
            decoder.register_forward_hook(self._after, with_kwargs=True),
        ]
        if self._inside:
            layers = list(cast(Any, decoder).layers)
            query, key = _projections(layers[self._layer - 1])
            handles += [query.register_forward_hook(self._see_query), key.register_forward_hook(self._see_keys)]
            handles += [
                layer.register_forward_pre_hook(self._layer_hook(index == 0), with_kwargs=True)
                for index, layer in enumerate(layers[self._layer :])
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
        rows = len(inputs["input_ids"]) if inputs["input_ids"] is not None else 1
        new = self._new_columns(inputs)
        if places and new is not None:
            raise StgraphError(_SECOND_VIDEO.format(self._adapter.pixels))
        run = _Run(places, rows, new)
        outer, self._here.run = self._here.run, run
        try:
            return generate(*args, **kwargs)
        finally:
            self._here.run = outer

    def _new_columns(self, inputs: Mapping[str, Any]) -> int | None:
        """How many columns of a conversation are not in its pruned cache yet; None where there is no such cache."""
        cache, ids, mask = (inputs.get(key) for key in ("past_key_values", "input_ids", "attention_mask"))
        plan = self._plans.get(cache) if cache is not None else None
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
        """Ways to generate whose first pass is not the prompt, or whose cache wants layers of one length."""
        config = kwargs.get("generation_config") or cast(Any, self.model).generation_config

        def option(name: str) -> Any:
            value = kwargs.get(name)
            return getattr(config, name, None) if value is None else value

        if option("cache_implementation") not in (None, "dynamic", "dynamic_full"):
            raise StgraphError(
                f"a pruned prompt needs a cache whose layers can differ in length, but cache_implementation is "
                f"{option('cache_implementation')!r}; use 'dynamic'"
            )
        for name in ("prefill_chunk_size", "prompt_lookup_num_tokens", "assistant_model", "assistant_early_exit"):
            if option(name) is not None:
                raise StgraphError(f"{name} cannot be used with a pruned prompt; leave it out")

    def _begin(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        self._here.call = None
        inputs = {"input_ids": args[0], **kwargs} if args else kwargs
        run, cache = self._here.run, inputs.get("past_key_values")
        plan = self._plans.get(cache) if cache is not None else None
        if plan is not None:
            if inputs.get("position_ids") is None:
                raise StgraphError(
                    "going on from the cache of a pruned prompt needs position_ids, counted as if nothing had been "
                    "dropped; pass them, or use generate"
                )
            if inputs.get(self._adapter.pixels) is not None:
                raise StgraphError(_SECOND_VIDEO.format(self._adapter.pixels))
            self._here.call = _Call(plan, whole=False)
            if run is not None and run.new is not None:
                # generate took the columns that were dropped for columns that are not in the cache yet.
                new, run.new = run.new, None
                per_column = [kwargs.get(key) for key in _PER_COLUMN]
                cut = {key: x[..., -new:] for key, x in zip(_PER_COLUMN, per_column, strict=True) if x is not None}
                return args, kwargs | cut
        elif run is not None and run.plan is not None:
            self._here.call = _Call(run.plan)  # without a cache the whole sequence comes again, grown by a token
        else:
            plan = self._plan(inputs, run)
            self._here.call = _Call(plan, fresh=plan is not None)
        return None

    def _end(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        self._here.call = None

    def _plan(self, inputs: Mapping[str, Any], run: _Run | None) -> _Plan | None:
        places = self._places(inputs) if run is None else run.places
        ids, cache = inputs.get("input_ids"), inputs.get("past_key_values")
        if not places or ids is None:
            return None
        if cache is not None and (cache.is_compileable or cache.get_seq_length()):
            raise StgraphError("a pruned prompt needs an empty DynamicCache; leave past_key_values out")
        if inputs.get("labels") is not None:
            raise StgraphError("labels do not fit a pruned prompt; compute the loss from the logits of its last tokens")
        copies = 1 if run is None else len(ids) // run.rows
        rows, length = ids.shape
        plan = _Plan([place._replace(row=place.row * copies) for place in places], rows, length, copies)
        if run is not None:
            run.plan = plan
        return plan

    def _places(self, inputs: Mapping[str, Any]) -> list[_Place]:
        """Where the videos of a call lie; empty when it has none."""
        if inputs.get("mm_encoder_outputs"):
            raise StgraphError(f"videos are known by {self._adapter.pixels}; pass that, not mm_encoder_outputs")
        if inputs.get(self._adapter.pixels) is None:
            return []
        ids = inputs.get("input_ids")
        if ids is None:
            raise StgraphError("the places of the video tokens are read from input_ids; pass these, not inputs_embeds")
        layouts = self._adapter.layouts(self.model, inputs)
        rows, columns = (ids == self._adapter.video_token(self.model)).nonzero(as_tuple=True)
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
            places.append(_Place(int(row[0]), column, layout))
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
        if plan.cut is None:
            return None
        kwargs = {**kwargs, "attention_mask": call.mask}
        if call.whole:
            positions = kwargs.get("position_ids")
            if positions is None:
                positions = torch.arange(queries, device=embeddings.device)[None]
            if plan.merged is not None:
                embeddings = embeddings.clone()
                parts = plan.merged.split([len(place.columns) for place in plan.places])
                for place, part in zip(plan.places, parts, strict=True):
                    embeddings[place.row : place.row + plan.copies, place.columns] = part
            kwargs |= {
                "inputs_embeds": plan.cut.take(embeddings),
                "position_ids": plan.cut.take(positions, positions.ndim - 1),
            }
            if kwargs.get("deepstack_visual_embeds") is not None:
                kwargs |= _cut_deepstack(plan.cut, kwargs["visual_pos_masks"], kwargs["deepstack_visual_embeds"])
        return args, kwargs

    @torch.no_grad()
    def _choose(self, plan: _Plan, embeddings: Tensor, mask: Tensor) -> None:
        """What stays before the language model."""
        if mask.ndim != 2:
            raise StgraphError(f"attention_mask must be (batch, length), got {tuple(mask.shape)}")
        if bool((mask[:, 1:] < mask[:, :-1]).any()):
            raise StgraphError('prompts must be padded on the left; set padding_side="left" in the processor')
        tokens = VideoTokens.cat([p.layout.tokens(embeddings[p.row, p.columns]) for p in plan.places])
        if not self._inside:
            self.selection = self.selector(tokens, Signals())
            keep = self.selection.mask
            if self.selection.merges:
                plan.merged = self.selection.invert(self.selection.apply(tokens.features))
            plan.cut = None if bool(keep.all()) else Cut.of(_columns(plan, keep) & mask.bool())
            return
        if self._decoder.training and getattr(self._decoder, "gradient_checkpointing", False):
            raise StgraphError('trim="inside" does not work with gradient checkpointing; use trim="before"')
        plan.tokens = tokens
        # The candidates of a method are known before attention is; a method without any sends all tokens.
        known = self._select(tokens, Signals(llm_attention=torch.zeros(len(tokens), device=tokens.device)))
        enough = torch.tensor([self._fills(known, video) for video in range(tokens.num_videos)], device=tokens.device)
        enter = (known.candidate > 0) | tokens.separator | ~enough[tokens.batch]
        plan.cut = None if bool(enter.all()) else Cut.of(_columns(plan, enter) & mask.bool())

    def _fills(self, selection: Selection, video: int) -> bool:
        """Whether the candidates of a video fill its budget."""
        return int(((selection.candidate > 0) & (selection.batch == video)).sum()) >= selection.budget[video]

    def _select(self, tokens: VideoTokens, signals: Signals) -> Selection:
        selection = self.selector(tokens, signals)
        if selection.merges:
            raise StgraphError(
                f'{type(self.selector).__name__} merges tokens, which is only done before the LLM; use trim="before"'
            )
        return selection

    def _after(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        call = self._here.call
        if call is not None and call.plan is not None and call.fresh:
            cache = kwargs.get("past_key_values")
            cache = getattr(output, "past_key_values", None) if cache is None else cache
            if cache is not None:
                self._plans[cache] = call.plan

    # -- inside the language model -------------------------------------------------------------------------------------

    def _see_query(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        call = self._here.call
        if call is not None and call.fresh:
            call.query = output[:, -1:].detach()

    def _see_keys(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        call = self._here.call
        if call is not None and call.fresh:
            call.keys = output.detach()

    def _layer_hook(self, first: bool) -> Callable[..., tuple[tuple[Any, ...], dict[str, Any]] | None]:
        """The hook of the layer that tokens are dropped at, or of those after it."""

        def hook(
            module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
        ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
            call = self._here.call
            if call is None or call.plan is None:
                return None
            plan = call.plan
            hidden = args[0] if args else kwargs["hidden_states"]
            if first and plan.tokens is not None:
                self._trim(plan, plan.tokens, call, kwargs["position_embeddings"])
                plan.tokens = None
            trim = plan.trim
            if trim is None:
                return None
            kwargs = dict(kwargs)
            if call.whole:
                if first:
                    hidden = trim.take(hidden)
                kwargs["position_embeddings"] = tuple(trim.take(x) for x in kwargs["position_embeddings"])
                if kwargs.get("position_ids") is not None:
                    kwargs["position_ids"] = trim.take(kwargs["position_ids"])
            if first:
                call.trimmed_mask = self._layer_mask(trim, call, hidden, kwargs.get("past_key_values"))
            kwargs["attention_mask"] = call.trimmed_mask
            if args:
                return (hidden, *args[1:]), kwargs
            return args, {**kwargs, "hidden_states": hidden}

        return hook

    def _layer_mask(self, trim: Cut, call: _Call, hidden: Tensor, cache: Any) -> Tensor | None:
        """The mask of the trimmed layers, as transformers makes it for the attention implementation in use."""
        from transformers.masking_utils import create_causal_mask

        mask: Tensor | None = create_causal_mask(
            config=cast(Any, self._decoder).config,
            inputs_embeds=hidden,
            attention_mask=trim.mask(call.mask),
            past_key_values=cache,
            layer_idx=self._layer,
        )
        return mask

    @torch.no_grad()
    def _trim(self, plan: _Plan, tokens: VideoTokens, call: _Call, rotation: tuple[Tensor, Tensor]) -> None:
        """What stays from this layer on, by the attention of the last query in the layer before."""
        attention = cast(Any, self._decoder).layers[self._layer - 1].self_attn
        received = last_attention(attention, call.query, call.keys, rotation, call.mask)
        if plan.cut is not None:
            columns = torch.where(plan.cut.valid, plan.cut.columns, plan.length).to(received.device)
            received = received.new_zeros(len(received), plan.length + 1).scatter(1, columns, received)
        scores = torch.cat([received[place.row, place.columns] for place in plan.places]).to(tokens.device)
        self.selection = self._select(tokens, Signals(llm_attention=scores))
        stay = _columns(plan, self.selection.mask)
        there = call.mask.bool()
        stay = (stay if plan.cut is None else plan.cut.take(stay)) & there
        plan.trim = None if torch.equal(stay, there) else Cut.of(stay)


def last_attention(
    attention: nn.Module, query: Tensor, keys: Tensor, rotation: tuple[Tensor, Tensor], mask: Tensor
) -> Tensor:
    """Head-mean attention of the last query to every column, (B, S) float32, as the layer itself computes it.

    Args:
        attention: the attention module of a decoder layer.
        query: (B, 1, heads · d) or (B, 1, heads, d), not rotated.
        keys: (B, S, key heads · d) or (B, S, key heads, d), not rotated.
        rotation: cosines and sines, (B, S, d) each.
        mask: (B, S), 0 for padding.
    """
    size = cast(int, attention.head_dim)
    rotate = sys.modules[type(attention).__module__].apply_rotary_pos_emb
    q = query.view(*query.shape[:2], -1, size).transpose(1, 2)
    k = keys.view(*keys.shape[:2], -1, size).transpose(1, 2)
    cosine, sine = rotation
    q, _ = rotate(q, q, cosine[:, -1:], sine[:, -1:])
    _, k = rotate(k, k, cosine, sine)
    q = q.unflatten(1, (k.shape[1], -1)).squeeze(3)  # (B, key heads, queries of each, d)
    logits = (q.float() @ k.float().transpose(2, 3)) * cast(float, attention.scaling)
    logits = logits.masked_fill(mask[:, None, None].to(logits.device) == 0, -torch.inf)
    received: Tensor = logits.softmax(-1).mean((1, 2))
    return received


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


def _check_version() -> None:
    """Raise :class:`StgraphError` where transformers cannot make masks for layers whose caches differ in length."""
    from transformers import __version__, masking_utils

    if "layer_idx" not in inspect.signature(masking_utils.create_causal_mask).parameters:
        raise StgraphError(
            f'trim="inside" needs transformers 5.23 or later, but this is {__version__}; upgrade or use trim="before"'
        )


def _projections(layer: nn.Module) -> tuple[nn.Module, nn.Module]:
    """The modules whose outputs are the queries and keys of a decoder layer, not rotated yet."""
    attention = getattr(layer, "self_attn", None)
    found = [
        getattr(attention, f"{kind}_norm", None) or getattr(attention, f"{kind}_proj", None) for kind in ("q", "k")
    ]
    if None in found or not hasattr(sys.modules[type(attention).__module__], "apply_rotary_pos_emb"):
        raise StgraphError(
            f"queries and keys cannot be read in {type(layer).__name__}, which has no q_proj and k_proj of its own or "
            'no rotary positions; use trim="before"'
        )
    query, key = cast("list[nn.Module]", found)
    return query, key


def _columns(plan: _Plan, keep: Tensor) -> Tensor:
    """(B, S) bool, the columns of the prompt that stay where ``keep`` (N,) says which video tokens do."""
    stay = torch.ones(plan.rows, plan.length, dtype=torch.bool, device=keep.device)
    parts = keep.split([len(place.columns) for place in plan.places])
    for place, part in zip(plan.places, parts, strict=True):
        stay[place.row : place.row + plan.copies, place.columns.to(keep.device)] = part
    return stay


def _cut_deepstack(cut: Cut, visual: Tensor, features: list[Tensor]) -> dict[str, Any]:
    """Deepstack features lie one after the other, in the order of the True places of ``visual`` (B, S)."""
    number = (visual.flatten().cumsum(0) - 1).view_as(visual)
    kept = cut.take(visual)
    kept[:, : cut.width] &= cut.valid.to(kept.device)
    rows = cut.take(number)[kept]
    return {"visual_pos_masks": kept, "deepstack_visual_embeds": [x[rows.to(x.device)] for x in features]}
