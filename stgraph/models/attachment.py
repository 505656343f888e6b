"""Attachment: a selector at work inside a video LLM, for as long as a ``with`` block lasts.

The prompt is never rewritten. Hooks cut columns out of what the language model is given (embeddings, positions, masks,
deepstack features), so ``generate`` sees a prompt of the original length: positions go on after it, sequences that it
returns hold all of it, and beams, sampling and streaming need no code of their own.

``README.md`` beside this file draws one forward pass: who is called when, and what is remembered where.
"""

from __future__ import annotations

import re
import warnings
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self, cast

import torch
from torch import Tensor, nn

from .. import compat
from ..errors import StgraphError, check_choice, check_number
from ..selectors.base import Selector
from ..selectors.selection import Selection
from ..signals import DeferredSignals, Signals
from ..tokens import VideoTokens
from .adapter import Adapter
from .inside import InsideHooks
from .plan import Call, Here, Place, Plan, Run
from .rounds import Pruning
from .tower import AttentionInput, tower_signals

ATTENTION = re.compile(r"sdpa|eager|flex_attention|(?!paged\|).*flash[-_]att(entio)?n.*")
"""Attention implementations that pruning was compared with the full-length run under, see docs/models.md.

Flash attention stands for all that take its masks (none, or 2-D), from the package or from the kernels hub.
"""

_PER_COLUMN = ("input_ids", "position_ids", "mm_token_type_ids")

_SECOND_VIDEO = (
    "the videos in the cache of a pruned prompt are known already and new ones cannot follow them; leave {} out, or "
    "start anew without the cache"
)

_STILL_RUNNING = (
    "the with block ended while generate was running in another thread, so the rest of its answer is wrong; wait for "
    "that thread inside the block"
)

_NO_CACHE = (
    "a forward pass that goes on from a pruned prompt came without the cache of that prompt, so its tokens would be "
    "taken for a prompt of their own; pass the cache, or call generate"
)

_NEVER_STARTED = (
    "a selector was attached to this model and never started, so the model sees all tokens; write "
    "'with selector.attach(model):', or call start() of what attach returned"
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


class Found(NamedTuple):
    """What became of the videos of a prompt."""

    selection: Selection | None = None
    tokens_per_layer: tuple[tuple[int, ...], ...] = ()


class Attachment:
    """Prunes the video tokens of every call of ``model`` inside the ``with`` block; afterwards the model is as before.

    Without a block, :meth:`start` and :meth:`stop` do the same. Any number of threads may call the model meanwhile.

    Attributes:
        selector: the method.
        model: the video LLM.
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
        self._adapter = adapter_of(model) if adapter is None else adapter
        if not isinstance(self._adapter, Adapter):
            raise StgraphError(f"adapter must be one such as InternVL(), got {adapter!r}; leave it out, or give one")
        try:
            self._decoder, self._tower = self._adapter.language_model(model), self._adapter.vision_attention(model)
        except AttributeError as error:
            raise StgraphError(
                f"{type(model).__name__} has not the parts of the model that {type(self._adapter).__name__} is for; "
                "attach to the model itself, not to what wraps it (with PEFT, to model.get_base_model())"
            ) from error
        config, layers = cast(Any, self._decoder).config, len(cast(Any, self._decoder).layers)
        last = 0
        if self.trim == "inside":
            last = selector.last_round(layers) if layer is None else layer
            check_number("layer", last, at_least=1, at_most=layers - 1, integer=True)
        elif layer is not None:
            raise StgraphError('layer is where tokens are dropped with trim="inside"; leave it out, or pass that')
        compat.probe(model, self._decoder, inside=last)
        kind = compat.attention_implementation(config)
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
        self._layers, self._last = layers, last
        self._plans: weakref.WeakKeyDictionary[Any, Plan] = weakref.WeakKeyDictionary()
        self._here, self._latest = Here(), Found()
        self._runs: set[Run] = set()
        self._pending: _NeverStarted | None = None
        self._undo: list[Callable[[], None]] = []

    def __repr__(self) -> str:
        state = "at work" if self._undo else "not at work: use it as 'with ...:', or call start()"
        return f"<{type(self.selector).__name__} on {type(self.model).__name__}, trim={self.trim!r}, {state}>"

    @property
    def selection(self) -> Selection | None:
        """Of the videos of the latest prompt, in the order of their placeholders; None before the first.

        That is the latest prompt of the calling thread; where it has run none, that of any thread.
        """
        return (self._here.found or self._latest).selection

    @property
    def tokens_per_layer(self) -> tuple[tuple[int, ...], ...]:
        """How many visual tokens of each of these videos entered each decoder layer."""
        return (self._here.found or self._latest).tokens_per_layer

    @property
    def tower_input(self) -> AttentionInput | None:
        """What the vision tower's attention was last given in this thread, from which its signals are read.

        It is forgotten at the end of each forward pass and of each ``generate``. Who puts features in the place of the
        tower's puts back what the tower had seen, too.
        """
        return self._here.tower

    @tower_input.setter
    def tower_input(self, seen: AttentionInput | None) -> None:
        self._here.tower = seen

    def branch(self, cache: Any, copies: int = 1) -> Any:
        """A cache that goes on from the pruned prompt of ``cache`` and leaves ``cache`` as it is.

        Keys and values are shared, so that any number of questions go on from one video at no cost; with more than one
        copy of each row they are not.

        Args:
            cache: of a call in this block.
            copies: of each row, one after the other, for so many questions in one batch.

        Raises:
            StgraphError: ``cache`` is of a prompt that this attachment did not prune, or no ``DynamicCache``.
        """
        plan = self._plan_of(cache)
        if plan is None:
            raise StgraphError("this cache is of no prompt that was pruned here; pass that of a call inside the block")
        check_number("copies", copies, at_least=1, integer=True)
        branch = compat.branched(cache)
        if copies > 1:
            branch.batch_repeat_interleave(copies)
            plan = plan.repeated(copies)
        self._follow(branch, plan)
        return branch

    # -- entering and leaving ------------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Put the hooks into the model, until :meth:`stop`.

        Raises:
            StgraphError: a selector is at work in this model already, or torch has compiled it meanwhile.
        """
        if self.model in _attached:
            raise StgraphError("a selector is attached to this model already; leave its with block first, or stop it")
        compat.check_not_compiled(self.model)
        compat.forget_compiled(cast(Any, self._decoder).config)
        if self._pending is not None:
            self._pending.handle.remove()
        _attached.add(self.model)
        try:
            self._hook()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Take all hooks out again, so that the model is as it was."""
        while self._undo:
            self._undo.pop()()
        _attached.discard(self.model)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if self._runs and kind is None:
            raise StgraphError(_STILL_RUNNING)

    def warn_if_never_started(self) -> Self:
        """Let the model warn at its next call unless a selector is at work in it then."""
        self._pending = _NeverStarted()
        self._pending.handle = self.model.register_forward_pre_hook(self._pending)
        return self

    def _hook(self) -> None:
        model, decoder = self.model, self._decoder
        places: list[tuple[nn.Module, Callable[..., Any], bool]] = [
            (model, self._begin, True),
            (decoder, self._before, True),
            (decoder, self._after, False),
        ]
        if self._tower is not None:
            places.append((self._tower, self._see_tower, True))
        if self._last:
            deepstack = self._adapter.deepstack_layers(model)
            inside = InsideHooks(decoder, last=self._last, deepstack=deepstack, here=self._here, note=self._note)
            places += inside.places()
        for place, hook, before in places:
            register = place.register_forward_pre_hook if before else place.register_forward_hook
            self._undo.append(register(_Hook(self, hook), with_kwargs=True).remove)
        self._undo.append(model.register_forward_hook(_Hook(self, self._end), always_call=True).remove)
        generate = cast(Any, model).generate
        self._replace("generate", lambda *args, **kwargs: self._generate(generate, args, kwargs))
        for name in compat.OTHER_GENERATION:
            if hasattr(model, name):
                self._replace(name, partial(_refuse_generation, name))

    def _replace(self, name: str, function: Callable[..., Any]) -> None:
        """Let the model have another method until :meth:`stop`."""
        own = vars(self.model)
        replaced = own.get(name)

        def restore() -> None:
            del own[name]
            if replaced is not None:
                own[name] = replaced

        own[name] = function
        self._undo.append(restore)

    # -- the model's calls ---------------------------------------------------------------------------------------------

    def _generate(self, generate: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        inputs = compat.generation_arguments(self.model, args, kwargs)
        places, notes = self._places(inputs), self._notes(inputs)
        if places:
            self._refuse_unsupported(inputs)
        elif notes:
            warnings.warn(notes[0], stacklevel=3)
        new = self._new_columns(inputs)
        if places and new is not None:
            raise StgraphError(_SECOND_VIDEO.format(self._adapter.pixels))
        ids = inputs.get("input_ids")
        rows, length = (1, 0) if ids is None else (len(ids), ids.shape[-1])
        guided = self._option(inputs, "guidance_scale") not in (None, 1) or inputs.get("logits_processor") is not None
        run = Run(places, rows, length, new, guided=guided, notes=notes)
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
                "the cache is that of a prompt which was pruned in another with block; start anew without the cache, "
                "or ask all turns in one block"
            )
        return self._plans.get(cache)

    def _new_columns(self, inputs: Mapping[str, Any]) -> int | None:
        """How many columns of a conversation are not in its pruned cache yet; None where there is no such cache."""
        cache, ids, mask = compat.cache_of(inputs), inputs.get("input_ids"), inputs.get("attention_mask")
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

    def _option(self, inputs: Mapping[str, Any], name: str) -> Any:
        """What a call of ``generate`` sets, by keyword or in its configuration."""
        value = inputs.get(name)
        config = inputs.get("generation_config") or cast(Any, self.model).generation_config
        return getattr(config, name, None) if value is None else value

    def _refuse_unsupported(self, inputs: Mapping[str, Any]) -> None:
        """Ways to generate that pass the prompt in parts, or to others, or whose cache does not fit."""
        for name, reason in _REFUSED.items():
            if self._option(inputs, name):
                raise StgraphError(f"{name} cannot be used with a pruned prompt: {reason}; leave it out")
        kind = self._option(inputs, "cache_implementation")
        if not compat.grows(kind):
            raise StgraphError(
                f"a pruned prompt needs a cache that grows, but cache_implementation is {kind!r}; use 'dynamic'"
            )
        if self._last and not compat.has_unequal_layers(kind):
            raise StgraphError(
                f'trim="inside" needs a cache whose layers can differ in length, but cache_implementation is {kind!r}; '
                "use 'dynamic', or trim=\"before\""
            )

    def _begin(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """Before the model: find out which prompt a forward pass belongs to, and whether that has a plan already."""
        self._here.call = None
        inputs = compat.model_arguments(args, kwargs)
        run, cache = self._here.run, compat.cache_of(inputs)
        plan = self._plan_of(cache)
        if plan is not None:
            return self._go_on(plan, run, args, kwargs, inputs)
        if run is not None and run.plan is not None:
            if run.plan.begins(inputs.get("input_ids")):
                self._here.call = Call(run.plan)  # without a cache the whole sequence comes again, grown by a token
                return None
            if not run.guided or compat.continues_prompt(inputs):
                raise StgraphError(_NO_CACHE)
            run = None  # a prompt of its own, such as that of classifier-free guidance
        plan = self._plan(inputs, run)
        self._here.call = Call(plan, fresh=plan is not None)
        return None

    def _go_on(
        self, plan: Plan, run: Run | None, args: tuple[Any, ...], kwargs: dict[str, Any], inputs: Mapping[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """A forward pass behind a pruned prompt that is in the cache."""
        if inputs.get("position_ids") is None:
            raise StgraphError(
                "going on from the cache of a pruned prompt needs position_ids, counted as if nothing had been "
                "dropped; pass them, or use generate"
            )
        if inputs.get(self._adapter.pixels) is not None:
            raise StgraphError(_SECOND_VIDEO.format(self._adapter.pixels))
        self._here.call = Call(plan, whole=False)
        if run is None or run.new is None:
            return None
        # generate took the columns that were dropped for columns that are not in the cache yet.
        new, run.new = run.new, None
        new += max(0, len(inputs["input_ids"][0]) - run.length)
        per_column = [kwargs.get(key) for key in _PER_COLUMN]
        cut = {key: x[..., -new:] for key, x in zip(_PER_COLUMN, per_column, strict=True) if x is not None}
        return args, kwargs | cut

    def _end(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        self._here.call = self._here.tower = None

    def _plan(self, inputs: Mapping[str, Any], run: Run | None) -> Plan | None:
        places = self._places(inputs) if run is None else run.places
        ids, cache = inputs.get("input_ids"), compat.cache_of(inputs)
        if not places or ids is None:
            return None
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
        copies = 1
        if run is not None:
            ids, copies = ids[:, : run.length], len(ids) // run.rows
        plan = Plan([place._replace(row=place.row * copies) for place in places], ids, copies)
        plan.notes = self._notes(inputs) if run is None else run.notes
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
        self._check_length(inputs, places)
        return places

    def _notes(self, inputs: Mapping[str, Any]) -> tuple[str, ...]:
        """How the videos of a call were found."""
        if inputs.get("input_ids") is None or inputs.get(self._adapter.pixels) is None:
            return ()
        return self._adapter.notes(self.model, inputs)

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
            f"the prompt has {longest} positions, its videos {tokens} tokens, and the model was made for {limit}; "
            f"sample fewer frames: {fits} of the {steps} time steps fit"
        )

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
            self.selector,
            tokens,
            self._encoder_signals(plan, tokens),
            rows=torch.cat([torch.full_like(p.columns, p.row) for p in plan.places]).to(tokens.device),
            columns=torch.cat([p.columns for p in plan.places]).to(tokens.device),
            copies=plan.copies,
            layers=self._layers,
            last=self._last,
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
        if call is None or call.plan is None or not call.fresh:
            return
        cache = compat.cache_of(kwargs)
        cache = compat.cache_made(output) if cache is None else cache
        if cache is not None:
            self._follow(cache, call.plan)
        elif kwargs.get("use_cache"):
            raise StgraphError(
                f"{type(module).__name__} was asked to use a cache and returned none that is known, so it cannot be "
                "told what goes on from this prompt; pass use_cache=False"
            )

    def _follow(self, cache: Any, plan: Plan) -> None:
        """Remember that the prompt in a cache was pruned by a plan."""
        self._plans[cache] = plan
        _pruned.add(cache)

    def _note(self, plan: Plan, pruning: Pruning) -> None:
        """Keep what a method found, once it has finished."""
        plan.pruning = pruning if pruning.selection is None else None
        if pruning.selection is not None:
            selection = replace(pruning.selection, notes=(*pruning.selection.notes, *plan.notes))
            self._latest = self._here.found = Found(selection, pruning.tokens_per_layer)


class _NeverStarted:
    """A hook that warns at the next call of a model in which no selector is at work, and then is gone."""

    handle: Any = None

    def __call__(self, module: nn.Module, args: Any) -> None:
        self.handle.remove()
        if module not in _attached:
            warnings.warn(_NEVER_STARTED, stacklevel=2)


class _Hook:
    """A hook of an attachment: seen by no compiler, without effect once the attachment has stopped, never copied."""

    def __init__(self, attachment: Attachment, function: Callable[..., Any]) -> None:
        self._attachment, self._function = attachment, torch.compiler.disable(function)

    def __call__(self, *args: Any) -> Any:
        return self._function(*args) if self._attachment._undo else None

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise StgraphError(
            "a model cannot be copied or pickled while a selector is attached to it; do so outside its with block"
        )


def _refuse_generation(name: str, *args: Any, **kwargs: Any) -> Any:
    raise StgraphError(
        f"{name} runs a loop of its own, in which prompts are not pruned; call generate, or leave the block"
    )


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
