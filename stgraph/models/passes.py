"""Passes: what an attached selector does in ``generate`` and in each forward pass of the model.

``README.md`` beside this file draws one forward pass: who is called when, and what is remembered where.
"""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from .. import compat
from ..errors import StgraphError, check_number
from ..selectors.base import Selector
from ..selectors.selection import Selection
from ..signals import DeferredSignals, Question, Signals
from ..tokens import VideoTokens
from .adapter import Adapter
from .inside import Hook, InsideHooks
from .plan import Call, Here, Plan, Run
from .reading import Reader
from .rounds import Pruning
from .tower import AttentionInput, tower_signals

_PER_COLUMN = ("input_ids", "position_ids", "mm_token_type_ids")

_SECOND_VIDEO = (
    "new videos cannot be added to the cache of a pruned prompt; leave {} out (the videos in the cache are still "
    "seen), or start again without the cache"
)

_NO_CACHE = (
    "this forward pass continues a pruned prompt but was given no cache, so its tokens would be taken for a new "
    "prompt; pass the cache of the pruned prompt, or call generate"
)

_pruned: weakref.WeakSet[Any] = weakref.WeakSet()
"""Caches of pruned prompts, whoever pruned them."""

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


class Found(NamedTuple):
    """What became of the videos of a prompt."""

    selection: Selection | None = None
    tokens_per_layer: tuple[tuple[int, ...], ...] = ()


class Passes:
    """The hooks of one attachment on the model, its vision tower and its language model.

    Attributes:
        here: what each thread is in the middle of.
        latest: what the last prompt of any thread has come to.
        runs: the calls of ``generate`` that have not ended.
    """

    def __init__(self, selector: Selector, model: nn.Module, adapter: Adapter, *, last: int) -> None:
        """Prepare hooks for ``model``.

        Args:
            selector: the method.
            model: the video LLM.
            adapter: of its family.
            last: the layer before which the last round is; 0 where all tokens that go are dropped before the LLM.
        """
        self.here, self.latest = Here(), Found()
        self.runs: set[Run] = set()
        self._selector, self._model, self._adapter, self._last = selector, model, adapter, last
        self._decoder, self._tower = adapter.language_model(model), adapter.vision_attention(model)
        self._reader = Reader(model, adapter, inside=bool(last))
        self._plans: weakref.WeakKeyDictionary[Any, Plan] = weakref.WeakKeyDictionary()

    @property
    def found(self) -> Found:
        """What the latest prompt of this thread has come to; where it has run none, that of any thread."""
        return self.here.found or self.latest

    def places(self) -> Iterator[tuple[nn.Module, Hook, bool]]:
        """Modules, their hooks, and whether each hook runs before its module."""
        yield self._model, self._begin, True
        yield self._decoder, self._before, True
        yield self._decoder, self._after, False
        if self._tower is not None:
            yield self._tower, self._see_tower, True
        if self._last:
            deepstack = self._adapter.deepstack_layers(self._model)
            inside = InsideHooks(self._decoder, last=self._last, deepstack=deepstack, here=self.here, note=self._note)
            yield from inside.places()

    def branch(self, cache: Any, copies: int) -> Any:
        """See :meth:`stgraph.models.attachment.Attachment.branch`."""
        plan = self._plan_of(cache)
        if plan is None:
            raise StgraphError(
                "this cache is not from a prompt pruned in this with block; pass one from a call inside the block"
            )
        check_number("copies", copies, at_least=1, integer=True)
        branch = compat.branched(cache)
        if copies > 1:
            branch.batch_repeat_interleave(copies)
            plan = plan.repeated(copies)
        self._follow(branch, plan)
        return branch

    # -- generate ------------------------------------------------------------------------------------------------------

    def generate(self, generate: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run ``generate`` of the model, whose forward passes know which prompt they belong to."""
        inputs = compat.generation_arguments(self._model, args, kwargs)
        places, notes = self._reader.places(inputs), self._reader.notes(inputs)
        if places:
            self._reader.check_generation(inputs)
        elif notes:
            warnings.warn(notes[0], stacklevel=3)
        new = self._new_columns(inputs)
        if places and new is not None:
            raise StgraphError(_SECOND_VIDEO.format(self._adapter.pixels))
        ids = inputs.get("input_ids")
        rows, length = (1, 0) if ids is None else (len(ids), ids.shape[-1])
        run = Run(places, rows, length, new, guided=self._reader.is_guided(inputs), notes=notes)
        outer, self.here.run = self.here.run, run
        self.runs.add(run)
        try:
            return generate(*args, **kwargs)
        finally:
            self.runs.discard(run)
            self.here.run, self.here.tower = outer, None

    def _new_columns(self, inputs: Mapping[str, Any]) -> int | None:
        """How many columns of a conversation are not in its pruned cache yet; None where there is no such cache."""
        cache, ids, mask = compat.cache_of(inputs), inputs.get("input_ids"), inputs.get("attention_mask")
        plan = self._plan_of(cache)
        if plan is None:
            return None
        self._reader.check_generation(inputs)
        if ids is None or (inputs.get("mm_token_type_ids") is None) != (inputs.get("video_grid_thw") is None):
            raise StgraphError(
                "to continue from the cache of a pruned prompt, pass input_ids, and mm_token_type_ids and "
                "video_grid_thw either both or not at all"
            )
        new = (ids if mask is None else mask).shape[1] - plan.cached(cache)
        if new < 1:
            raise StgraphError(
                f"input_ids hold no tokens beyond the {plan.cached(cache)} that the cache has already; "
                "pass the whole conversation, or an attention_mask for all of it"
            )
        return int(new)

    # -- plans ---------------------------------------------------------------------------------------------------------

    def _plan_of(self, cache: Any) -> Plan | None:
        """The plan that a cache follows; None without a cache, or for one of a prompt that nobody pruned."""
        if cache is None:
            return None
        if cache in _pruned and cache not in self._plans:
            raise StgraphError(
                "the cache is from a prompt that was pruned in another with block; start again without the cache, or "
                "ask all turns in one block"
            )
        return self._plans.get(cache)

    def _follow(self, cache: Any, plan: Plan) -> None:
        """Remember that the prompt in a cache was pruned by a plan."""
        self._plans[cache] = plan
        _pruned.add(cache)

    def _plan(self, inputs: Mapping[str, Any], run: Run | None) -> Plan | None:
        """The plan of a prompt that a forward pass begins; None where it has no video."""
        places = self._reader.places(inputs) if run is None else run.places
        ids = inputs.get("input_ids")
        if not places or ids is None:
            return None
        self._reader.check_forward(inputs)
        copies = 1
        if run is not None:
            ids, copies = ids[:, : run.length], len(ids) // run.rows
        plan = Plan([place._replace(row=place.row * copies) for place in places], ids, copies)
        plan.notes = self._reader.notes(inputs) if run is None else run.notes
        if run is not None:
            run.plan = plan
        return plan

    def _note(self, plan: Plan, pruning: Pruning) -> None:
        """Keep what a method found, once it has finished."""
        plan.pruning = pruning if pruning.selection is None else None
        if pruning.selection is not None:
            selection = replace(pruning.selection, notes=(*pruning.selection.notes, *plan.notes))
            self.latest = self.here.found = Found(selection, pruning.tokens_per_layer)

    # -- around the model ----------------------------------------------------------------------------------------------

    def _begin(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments | None:
        """Before the model: find out which prompt a forward pass belongs to, and whether that has a plan already."""
        self.here.call = None
        inputs = compat.model_arguments(args, kwargs)
        run, cache = self.here.run, compat.cache_of(inputs)
        plan = self._plan_of(cache)
        if plan is not None:
            return self._go_on(plan, run, args, kwargs, inputs)
        if run is not None and run.plan is not None:
            if run.plan.begins(inputs.get("input_ids")):
                self.here.call = Call(run.plan)  # without a cache the whole sequence comes again, grown by a token
                return None
            if not run.guided or compat.continues_prompt(inputs):
                raise StgraphError(_NO_CACHE)
            run = None  # a prompt of its own, such as that of classifier-free guidance
        plan = self._plan(inputs, run)
        self.here.call = Call(plan, fresh=plan is not None)
        return None

    def _go_on(
        self, plan: Plan, run: Run | None, args: tuple[Any, ...], kwargs: dict[str, Any], inputs: Mapping[str, Any]
    ) -> Arguments | None:
        """A forward pass behind a pruned prompt that is in the cache."""
        if inputs.get("position_ids") is None:
            raise StgraphError(
                "to continue from the cache of a pruned prompt, pass position_ids, counted as if nothing had been "
                "dropped, or use generate"
            )
        if inputs.get(self._adapter.pixels) is not None:
            raise StgraphError(_SECOND_VIDEO.format(self._adapter.pixels))
        self.here.call = Call(plan, whole=False)
        if run is None or run.new is None:
            return None
        # generate took the columns that were dropped for columns that are not in the cache yet.
        new, run.new = run.new, None
        new += max(0, len(inputs["input_ids"][0]) - run.length)
        per_column = [kwargs.get(key) for key in _PER_COLUMN]
        cut = {key: x[..., -new:] for key, x in zip(_PER_COLUMN, per_column, strict=True) if x is not None}
        return args, kwargs | cut

    def end(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """After the model, also where it has failed: forget the forward pass."""
        self.here.call = self.here.tower = None

    # -- around the vision tower and the language model ----------------------------------------------------------------

    def _see_tower(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        # Images are encoded before videos, so the last call is the one that counts.
        self.here.tower = AttentionInput(args, kwargs)

    def _before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments | None:
        """Before the language model: cut out of what it is given all that goes."""
        call = self.here.call
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
                f"the pruned prompt has {plan.rows} sequences, but the call that continues it has {rows}; use the same "
                "number (each beam is one sequence)"
            )
        if mask is None:
            total = queries if call.whole else plan.cached(compat.cache_of(kwargs)) + queries
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
            kwargs |= compat.cut_deepstack(plan.cut, kwargs)
        return args, kwargs

    @torch.no_grad()
    def _choose(self, plan: Plan, embeddings: Tensor, mask: Tensor) -> None:
        """What stays before the language model."""
        if bool((mask[:, 1:] < mask[:, :-1]).any()):
            raise StgraphError('prompts must be padded on the left; set padding_side="left" in the processor')
        if self._last and self._decoder.training and getattr(self._decoder, "gradient_checkpointing", False):
            raise StgraphError('trim="inside" does not work with gradient checkpointing; use trim="before"')
        embeddings, mask = embeddings[:, : plan.length], mask[:, : plan.length]
        tokens = VideoTokens.cat([p.layout.tokens(embeddings[p.row, p.columns]) for p in plan.places])
        pruning = Pruning(
            self._selector,
            tokens,
            self._signals(plan, tokens, embeddings, mask),
            rows=torch.cat([torch.full_like(p.columns, p.row) for p in plan.places]).to(tokens.device),
            columns=torch.cat([p.columns for p in plan.places]).to(tokens.device),
            copies=plan.copies,
            layers=len(cast(Any, self._decoder).layers),
            last=self._last,
            text=plan.text(),
        )
        plan.cut, plan.merge = pruning.round(embeddings, mask.bool())
        self._note(plan, pruning)

    def _signals(self, plan: Plan, tokens: VideoTokens, embeddings: Tensor, mask: Tensor) -> Signals:
        """The text behind each video, and signals of the vision tower where it is known how to read them."""
        question = tuple(
            Question(embeddings[row, columns], first=int(mask[row, : place.columns[0]].sum())) if len(columns) else None
            for place, (row, columns) in zip(plan.places, plan.text(), strict=True)
        )
        seen, layouts = self.here.tower, [place.layout for place in plan.places]
        if seen is None:
            return Signals(question=question)
        return DeferredSignals(
            lambda: tower_signals(self._adapter, self._model, seen, tokens, layouts), question=question
        )

    def _after(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        """After the language model: its cache follows the plan."""
        call = self.here.call
        if call is None or call.plan is None or not call.fresh:
            return
        cache = compat.cache_of(kwargs)
        cache = compat.cache_made(output) if cache is None else cache
        if cache is not None:
            self._follow(cache, call.plan)
        elif kwargs.get("use_cache"):
            raise StgraphError(
                f"{type(module).__name__} returned no cache of a known type, so later calls cannot be matched to this "
                "prompt; pass use_cache=False"
            )
