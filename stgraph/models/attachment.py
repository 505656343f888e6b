"""Attachment: a selector at work inside a video LLM, for as long as a ``with`` block lasts.

The prompt is never rewritten. Hooks cut columns out of what the language model is given (embeddings, positions, masks,
deepstack features), so ``generate`` sees a prompt of the original length: positions continue after it, sequences that
it returns hold all of it, and beams, sampling and streaming need no code of their own.

What happens in each forward pass is in :mod:`stgraph.models.passes`.
"""

from __future__ import annotations

import re
import warnings
import weakref
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Any, Literal, Self, cast

import torch
from torch import nn

from .. import compat
from ..errors import StgraphError, check_choice, check_number
from ..selectors.base import Selector
from ..selectors.selection import Selection
from .adapter import Adapter, adapter_of
from .passes import Passes
from .tower import AttentionInput

ATTENTION = re.compile(r"sdpa|eager|flex_attention|(?!paged\|).*flash[-_]att(entio)?n.*")
"""Attention implementations that pruning was compared with the full-length run under, see docs/models.md.

Flash attention stands for all that take its masks (none, or 2-D), from the package or from the kernels hub.
"""

_STILL_RUNNING = (
    "the with block ended while generate was running in another thread, so the rest of its answer is wrong; wait for "
    "that thread inside the block"
)

_NEVER_STARTED = (
    "a selector was attached to this model and never started, so the model sees all tokens; write "
    "'with selector.attach(model):', or call start() of what attach returned"
)

Trim = Literal["before", "inside"]

_attached: weakref.WeakSet[nn.Module] = weakref.WeakSet()


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
            self._decoder = self._adapter.language_model(model)
            self._adapter.vision_attention(model)
        except AttributeError as error:
            raise StgraphError(
                f"{type(model).__name__} lacks parts of the model that {type(self._adapter).__name__} is for; "
                "attach to the model itself, not to its wrapper (with PEFT, to model.get_base_model())"
            ) from error
        last = self._last_round(layer)
        compat.probe(model, self._decoder, inside=last)
        compat.check_offloaded(model, self._adapter.loose)
        _check_attention(cast(Any, self._decoder).config)
        self._passes = Passes(selector, model, self._adapter, last=last)
        self._pending: _NeverStarted | None = None
        self._undo: list[Callable[[], None]] = []

    def _last_round(self, layer: int | None) -> int:
        """The layer before which the last round is; 0 where all tokens that go are dropped before the LLM."""
        if self.trim == "inside":
            layers = len(cast(Any, self._decoder).layers)
            last = self.selector.last_round(layers) if layer is None else layer
            check_number("layer", last, at_least=1, at_most=layers - 1, integer=True)
            return last
        if layer is not None:
            raise StgraphError('layer only has an effect with trim="inside"; add trim="inside", or leave layer out')
        return 0

    def __repr__(self) -> str:
        state = "at work" if self._undo else "not at work: use it as 'with ...:', or call start()"
        return f"<{type(self.selector).__name__} on {type(self.model).__name__}, trim={self.trim!r}, {state}>"

    @property
    def selection(self) -> Selection | None:
        """Of the videos of the latest prompt, in the order of their placeholders; None before the first.

        That is the latest prompt of the calling thread; where it has run none, that of any thread.
        """
        return self._passes.found.selection

    @property
    def tokens_per_layer(self) -> tuple[tuple[int, ...], ...]:
        """How many visual tokens of each of these videos entered each decoder layer."""
        return self._passes.found.tokens_per_layer

    @property
    def tower_input(self) -> AttentionInput | None:
        """What the vision tower's attention was last given in this thread, from which its signals are read.

        It is forgotten at the end of each forward pass and of each ``generate``. Code that replaces the features of the
        tower must also restore this value.
        """
        return self._passes.here.tower

    @tower_input.setter
    def tower_input(self, seen: AttentionInput | None) -> None:
        self._passes.here.tower = seen

    def branch(self, cache: Any, copies: int = 1) -> Any:
        """A cache that continues from the pruned prompt of ``cache`` and leaves ``cache`` as it is.

        Keys and values are shared, so that any number of questions continue from one video at no cost; with more than
        one copy of each row they are not.

        Args:
            cache: of a call in this block.
            copies: of each row, one after the other, for so many questions in one batch.

        Raises:
            StgraphError: ``cache`` is of a prompt that this attachment did not prune, or no ``DynamicCache``.
        """
        return self._passes.branch(cache, copies)

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
        if self._passes.runs and kind is None:
            raise StgraphError(_STILL_RUNNING)

    def warn_if_never_started(self) -> Self:
        """Let the model warn at its next call unless a selector is at work in it then."""
        self._pending = _NeverStarted()
        self._pending.handle = self.model.register_forward_pre_hook(self._pending)
        return self

    def _hook(self) -> None:
        model, generate = self.model, cast(Any, self.model).generate

        def pruned(*args: Any, **kwargs: Any) -> Any:
            output = self._passes.generate(generate, args, kwargs)
            if not self._undo:
                raise StgraphError(_STILL_RUNNING)
            return output

        for place, hook, before in self._passes.places():
            register = place.register_forward_pre_hook if before else place.register_forward_hook
            self._undo.append(register(_Hook(self, hook), with_kwargs=True).remove)
        self._undo.append(model.register_forward_hook(_Hook(self, self._passes.end), always_call=True).remove)
        self._replace("generate", pruned)
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


def _check_attention(config: Any) -> None:
    """Raise :class:`StgraphError` for a language model whose attention pruning is not verified with."""
    kind = compat.attention_implementation(config)
    if not ATTENTION.fullmatch(kind):
        raise StgraphError(
            f"pruning is not verified with the attention implementation {kind!r}; load the model with "
            "attn_implementation='sdpa', 'eager', 'flash_attention_2' or 'flex_attention'"
        )
    if any(name != "full_attention" for name in getattr(config, "layer_types", None) or ()):
        raise StgraphError(
            "pruning needs full attention in every layer of the language model, but this one has "
            f"{', '.join(sorted(set(config.layer_types) - {'full_attention'}))}; turn these off in its configuration"
        )


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
        f"{name} generates in its own loop, where prompts are not pruned; call generate, or leave the with block"
    )
