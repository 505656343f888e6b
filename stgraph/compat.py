"""All that stgraph assumes of the inside of transformers, torch and accelerate, in one file.

Names of arguments, attributes and modules that no public interface promises are written here and nowhere else.
:func:`probe` compares them with the given model when a selector is attached, so that a release which changes one is
refused in a sentence. Nothing is looked up under one name and quietly not found.

Two more assumptions cannot be seen in a signature, and are held by tests: transformers encodes images before videos
(so the last call of a vision tower in a forward pass is that of the videos), and the blocks of a vision tower are its
longest list of modules.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable, Mapping
from functools import cache as cached
from typing import Any, cast

import torch
from torch import Tensor, nn

from .errors import StgraphError

OLDEST = (5, 23)
"""The first release of transformers whose masks fit layers that hold different numbers of tokens."""

CACHE_NAMES = ("cache", "past_key_values")
"""The argument and the output that hold the cache: since transformers 5.24, and before."""

LAYER_ARGUMENTS = ("hidden_states", "attention_mask", "position_embeddings")
DECODER_ARGUMENTS = ("inputs_embeds", "attention_mask", "position_ids")

OTHER_GENERATION = ("generate_batch", "init_continuous_batching", "continuous_batching_context_manager")
"""Methods of a model that generate without ``generate``: continuous batching runs a loop of its own."""

NORMS_BEHIND_ATTENTION = ("pre_feedforward_layernorm", "post_attention_layernorm")

_UPGRADE = 'install the versions that stgraph supports with pip install "stgraph-simdiff[models]"'


# -- probing ----------------------------------------------------------------------------------------------------------


def probe(model: nn.Module, decoder: nn.Module, *, inside: int) -> None:
    """Raise :class:`StgraphError` unless the model is built as stgraph assumes.

    Args:
        model: with its head.
        decoder: its language model.
        inside: number of decoder layers whose queries and keys are read; 0 where all is dropped before the LLM.
    """
    check_version()
    check_not_compiled(model)
    for module, expected in ((model, ("attention_mask", "position_ids")), (decoder, DECODER_ARGUMENTS)):
        _check_arguments(module, expected)
    layers = cast(Any, decoder).layers
    if inside:
        _check_arguments(layers[0], LAYER_ARGUMENTS)
        _check_masks()
    for index in range(inside):
        projections(layers[index])
        norm_behind_attention(layers[index])


def check_version() -> None:
    """Raise :class:`StgraphError` where transformers is older than :data:`OLDEST`."""
    from packaging.version import Version
    from transformers import __version__

    if Version(__version__).release < OLDEST:
        raise StgraphError(
            f"attaching needs transformers {'.'.join(map(str, OLDEST))} or later, but this is {__version__}; {_UPGRADE}"
        )


def check_not_compiled(model: nn.Module) -> None:
    """Raise :class:`StgraphError` where torch compiled the model or a part of it before: it would not see hooks."""
    for name, module in model.named_modules():
        forward = module.forward
        compiled = hasattr(forward, "_torchdynamo_orig_callable") and not hasattr(forward, "_torchdynamo_disable")
        if compiled or module._compiled_call_impl is not None:
            raise StgraphError(
                f"{name or 'the model'} is compiled by torch, and a pruned prompt changes its shapes within the model; "
                "attach to the model as it was loaded, and compile it inside the block if you wish"
            )


_forgotten = 0


def forget_compiled(config: Any) -> None:
    """Let torch compile anew what it has compiled so far: code that is there does not look for new hooks.

    Where attention is itself a compiled function (flex attention), nothing is done, for it would be compiled for each
    question; there a model is to be compiled inside the block.
    """
    global _forgotten
    frames = torch._dynamo.utils.counters["frames"]["ok"]
    if frames > _forgotten and attention_implementation(config) != "flex_attention":
        torch.compiler.reset()
    _forgotten = frames


def _check_arguments(module: nn.Module, expected: Iterable[str]) -> None:
    """``forward`` has the expected arguments and takes a cache under one of the two names."""
    names, open_ended = _arguments(cast(Any, type(module)))
    missing = [name for name in expected if name not in names]
    if not open_ended and not names & set(CACHE_NAMES):
        missing.append(" or ".join(CACHE_NAMES))
    if missing:
        from transformers import __version__

        raise StgraphError(
            f"{type(module).__name__} of transformers {__version__} does not take {', '.join(missing)}, so it is not "
            f"known how to prune its prompts; {_UPGRADE}"
        )


@cached
def _arguments(kind: Any) -> tuple[frozenset[str], bool]:
    """Names of the arguments of ``forward``, and whether it takes any others."""
    parameters = inspect.signature(kind.forward).parameters.values()
    return frozenset(p.name for p in parameters), any(p.kind is p.VAR_KEYWORD for p in parameters)


# -- caches -----------------------------------------------------------------------------------------------------------


def cache_name() -> str:
    """The name under which this release of transformers takes a cache and returns one."""
    from dataclasses import fields

    from transformers.modeling_outputs import CausalLMOutputWithPast

    names = {field.name for field in fields(CausalLMOutputWithPast)}
    return next(name for name in CACHE_NAMES if name in names)


def cache_of(values: Mapping[str, Any]) -> Any:
    """The cache among keyword arguments, or in the output of a model; None where there is none.

    Raises:
        StgraphError: there is one under a name that is not known.
    """
    for name in CACHE_NAMES:
        if values.get(name) is not None:
            return values[name]
    from transformers import Cache

    for name, value in values.items():
        if isinstance(value, Cache):
            raise StgraphError(
                f"the cache was passed as {name!r}, but the argument must be {' or '.join(CACHE_NAMES)}; rename it"
            )
    return None


def cache_made(output: Any) -> Any:
    """The cache in what a decoder returned, also where that is a tuple; None where there is none."""
    if isinstance(output, Mapping):
        return cache_of(output)
    from transformers import Cache

    return next((value for value in output if isinstance(value, Cache)), None) if isinstance(output, tuple) else None


def cache_output(output: Mapping[str, Any]) -> dict[str, Any]:
    """The cache that a model returned, as an argument of the output of another."""
    return {cache_name(): cache_of(output)}


def branched(cache: Any) -> Any:
    """A cache that continues from ``cache`` without changing it; keys and values are shared for as long as they can be.

    Raises:
        StgraphError: its layers are not those of a ``DynamicCache``, which never write into what they hold.
    """
    import copy

    from transformers.cache_utils import DynamicLayer

    if any(type(layer) is not DynamicLayer for layer in cache.layers) or getattr(cache, "offloading", False):
        raise StgraphError(
            "only a DynamicCache that is not offloaded can be copied for several continuations, got "
            f"{type(cache).__name__}; leave cache_implementation out"
        )
    branch = copy.copy(cache)
    branch.layers = [copy.copy(layer) for layer in cache.layers]
    return branch


def is_fixed(cache: Any) -> bool:
    """Whether a cache has room for a set number of tokens, the same in each layer."""
    return bool(cache.is_compileable)


def has_unequal_layers(kind: str | None) -> bool:
    """Whether layers of a cache of this ``cache_implementation`` may hold different numbers of tokens."""
    return kind in (None, "dynamic", "dynamic_full")


def grows(kind: str | None) -> bool:
    """Whether a cache of this ``cache_implementation`` takes any number of tokens."""
    return has_unequal_layers(kind) or kind in ("offloaded", "quantized")


# -- what the model is called with ------------------------------------------------------------------------------------


def generation_arguments(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a call of ``generate`` by name, also those that were given by position."""
    names = [
        name for name in inspect.signature(cast(Any, type(model)).generate).parameters if name not in ("self", "kwargs")
    ]
    found = dict(zip(names, args, strict=False)) | dict(kwargs)
    ids = found.pop("inputs", None)
    return found if ids is None else {"input_ids": ids, **found}


def model_arguments(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
    """The arguments of a forward pass by name; by position only ``input_ids`` come, which are the first of all models.

    Raises:
        StgraphError: more than one came by position.
    """
    if len(args) > 1:
        raise StgraphError("call an attached model with keyword arguments behind input_ids, such as attention_mask=...")
    return {"input_ids": args[0], **kwargs} if args else kwargs


def prompt_positions(model: nn.Module, inputs: Mapping[str, Any]) -> Tensor:
    """(..., B, S) int64 positions that ``generate`` would give the tokens of ``inputs``, which hold ``input_ids``."""
    prepare = cast(Any, model)._prepare_position_ids_for_generation
    return cast(Tensor, prepare(inputs["input_ids"], dict(inputs)))


def continues_prompt(inputs: Mapping[str, Any]) -> bool:
    """Whether the positions of a forward pass show that something comes before it.

    Prompts begin at position 0, or at 1 where padding has that place.
    """
    positions = inputs.get("position_ids")
    return positions is not None and bool((positions[..., 0] > 1).any())


def context_length(decoder: nn.Module) -> int | None:
    """Positions that a language model was made for; None where its configuration does not say."""
    config = cast(Any, decoder).config
    limit = getattr(config, "max_position_embeddings", None)
    rope = getattr(config, "rope_parameters", None) or {}
    stretched = rope.get("factor") if rope.get("rope_type", "default") != "default" else None
    return (
        None
        if limit is None
        else max(limit, int((rope.get("original_max_position_embeddings") or limit) * (stretched or 1)))
    )


# -- masks and attention ----------------------------------------------------------------------------------------------


def attention_implementation(config: Any) -> str:
    """The attention implementation of a model with this configuration."""
    return str(config._attn_implementation)


def set_attention_implementation(config: Any, name: str) -> None:
    """Let modules with this configuration use another attention implementation."""
    config._attn_implementation = name


def layer_mask(config: Any, hidden: Tensor, mask: Tensor, cache: Any, layer: int) -> Tensor | None:
    """The mask of the layers that hold as many tokens as ``layer``, as transformers makes it for its attention."""
    from transformers.masking_utils import create_causal_mask

    made: Tensor | None = create_causal_mask(
        config=config, inputs_embeds=hidden, attention_mask=mask, layer_idx=layer, **{cache_name(): cache}
    )
    return made


def _check_masks() -> None:
    """Raise :class:`StgraphError` unless masks can be made for each layer by itself."""
    from transformers import __version__, masking_utils

    if not {"layer_idx", cache_name()} <= inspect.signature(masking_utils.create_causal_mask).parameters.keys():
        raise StgraphError(
            f"the masks of transformers {__version__} do not fit layers that hold different numbers of tokens, as "
            f'trim="inside" needs; {_UPGRADE}, or use trim="before"'
        )


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


def column_attention(
    attention: nn.Module,
    query: Tensor,
    keys: Tensor,
    rotation: tuple[Tensor, Tensor],
    mask: Tensor,
    row: int,
    columns: Tensor,
) -> Tensor:
    """Head-mean attention of some columns of a row to every column of it, (m, S) float32, as the layer computes it.

    Args:
        attention: the attention module of a decoder layer.
        query: (S, heads · d) or (S, heads, d) of the row, not rotated.
        keys: (S, key heads · d) or (S, key heads, d), not rotated.
        rotation: cosines and sines, (B, S, d) each.
        mask: (B, S), 0 for padding.
        row: of ``rotation`` and ``mask``.
        columns: (m,) those that ask.
    """
    size = cast(int, attention.head_dim)
    rotate = sys.modules[type(attention).__module__].apply_rotary_pos_emb
    cosine, sine = (x[row if len(x) > 1 else 0][None] for x in rotation)
    columns = columns.to(query.device)
    q = query[columns].view(1, len(columns), -1, size).transpose(1, 2)
    k = keys.view(1, len(keys), -1, size).transpose(1, 2)
    q, _ = rotate(q, q, cosine[:, columns], sine[:, columns])
    _, k = rotate(k, k, cosine, sine)
    q = q[0].unflatten(0, (k.shape[1], -1))  # (key heads, queries of each, m, d)
    logits = (q.float() @ k[0].float()[:, None].transpose(2, 3)) * cast(float, attention.scaling)
    seen = (torch.arange(len(keys), device=columns.device) <= columns[:, None]) & (mask[row].to(columns.device) != 0)
    received: Tensor = logits.masked_fill(~seen.to(logits.device), -torch.inf).softmax(-1).mean((0, 1))
    return received


def projections(layer: nn.Module) -> tuple[nn.Module, nn.Module]:
    """The modules whose outputs are the queries and keys of a decoder layer, not rotated yet."""
    attention = getattr(layer, "self_attn", None)
    found = [
        getattr(attention, f"{kind}_norm", None) or getattr(attention, f"{kind}_proj", None) for kind in ("q", "k")
    ]
    rotate = getattr(sys.modules[type(attention).__module__], "apply_rotary_pos_emb", None)
    known = rotate is not None and list(inspect.signature(rotate).parameters)[:4] == ["q", "k", "cos", "sin"]
    if None in found or not known or not all(hasattr(attention, name) for name in ("head_dim", "scaling")):
        raise StgraphError(
            f"queries and keys cannot be read in {type(layer).__name__}, which lacks a q_proj and k_proj of its own, "
            'head_dim, scaling or rotary positions; use trim="before"'
        )
    query, key = cast("list[nn.Module]", found)
    return query, key


def norm_behind_attention(layer: nn.Module) -> nn.Module:
    """The norm of a decoder layer that is given the residual stream behind its attention."""
    for name in NORMS_BEHIND_ATTENTION:
        norm = getattr(layer, name, None)
        if norm is not None:
            return cast(nn.Module, norm)
    raise StgraphError(
        f"the hidden states behind the attention of {type(layer).__name__} cannot be read, because it has no "
        'post_attention_layernorm; use trim="before"'
    )


def cut_deepstack(cut: Any, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The deepstack features of the columns that stay of a :class:`stgraph.models.cut.Cut`.

    They lie one after the other, in the order of their places.
    """
    features = kwargs.get("deepstack_visual_embeds")
    if features is None:
        return {}
    visual = kwargs["visual_pos_masks"]
    number = (visual.flatten().cumsum(0) - 1).view_as(visual)
    kept = cut.take(visual)
    kept[:, : cut.width] &= cut.valid.to(kept.device)
    rows = cut.take(number)[kept]
    return {"visual_pos_masks": kept, "deepstack_visual_embeds": [x[rows.to(x.device)] for x in features]}


def tokenizer_of(model: nn.Module) -> Any:
    """The tokenizer beside the weights that a model was loaded from; None where none is on this machine."""
    return _tokenizer(str(getattr(model, "name_or_path", "") or ""))


@cached
def _tokenizer(name_or_folder: str) -> Any:
    if not name_or_folder:
        return None
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(name_or_folder, local_files_only=True, trust_remote_code=False)
    except Exception:  # Missing and broken files raise any exception, and the tokenizer is optional.
        return None


# -- vision towers ----------------------------------------------------------------------------------------------------


def block_attention(block: nn.Module) -> nn.Module:
    """The attention module of a block of a vision tower."""
    for name in ("self_attn", "attn", "attention"):
        part = getattr(block, name, None)
        if part is not None:
            return cast(nn.Module, part)
    raise AttributeError(f"{type(block).__name__} has no attention module of a known name")


def window_order(patches: tuple[int, int], vision: Any) -> Tensor:
    """(windows · tokens,) int64: place in raster order of each token of a frame of Qwen2.5-VL's tower, in its order.

    Args:
        patches: rows and columns of a frame.
        vision: the configuration of the tower.
    """
    from transformers.vision_utils import get_vision_window_index

    frame = torch.tensor([[1, *patches]])
    window, _ = get_vision_window_index(frame, vision.spatial_merge_size, vision.window_size, vision.patch_size)
    return cast(Tensor, window)


def parameter_of(module: nn.Module, name: str) -> Tensor:
    """A parameter of a module, also where accelerate holds it elsewhere between the module's own calls."""
    value, hook = getattr(module, name), getattr(module, "_hf_hook", None)
    if value.is_meta and hook is not None:
        for each in getattr(hook, "hooks", (hook,)):
            if getattr(each, "weights_map", None) is not None:
                return cast(Tensor, each.weights_map[name])
    return cast(Tensor, value)


def check_offloaded(model: nn.Module, loose: Iterable[str]) -> None:
    """Raise :class:`StgraphError` where accelerate offloads what is read without a call of the module that holds it.

    Such a model does not run without a selector either.

    Args:
        model: with its head.
        loose: names of the parameters that the model reads in this way.
    """
    held = list(loose)
    held += [
        f"{name}.out_proj.weight" for name, module in model.named_modules() if isinstance(module, nn.MultiheadAttention)
    ]
    for name in held:
        owner = model.get_submodule(name.rpartition(".")[0])
        if model.get_parameter(name).is_meta and hasattr(owner, "_hf_hook"):
            raise StgraphError(
                f"{name} is offloaded, but transformers and torch read it where accelerate does not see it, so the "
                f"model cannot run; keep it on a device, with an entry such as {name!r}: 0 in device_map"
            )


def attend_again(attention: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Compute an attention module once more with scaled dot products, whatever implementation it has.

    A copy of the module computes: it has the same weights and another configuration. ``forward`` of a dispatched module
    is a function that
    accelerate bound to the original, so the copy has that of its class, between the same steps of its hook: inputs are
    moved to where the weights are, weights that are offloaded are fetched and let go again.
    """
    import copy

    twin = copy.copy(cast(Any, attention))
    vars(twin).pop("forward", None)
    twin.config = copy.copy(twin.config)
    set_attention_implementation(twin.config, "sdpa")
    hook = getattr(twin, "_hf_hook", None)
    if hook is None:
        type(twin).forward(twin, *args, **kwargs)
        return
    args, kwargs = hook.pre_forward(twin, *args, **kwargs)
    try:
        type(twin).forward(twin, *args, **kwargs)
    finally:
        hook.post_forward(twin, None)
