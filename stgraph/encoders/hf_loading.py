"""Loading a vision tower from the folder of a model, with checks of its files."""

from __future__ import annotations

import importlib
import textwrap
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..errors import StgraphError
from ..optional import install_hint, quiet_transformers
from .attention import blocks_of
from .hf_families import FAMILIES
from .hf_tower import Preparation, Tower

_TOWER_PREFIX = r"^(?:model\.)?(?:vision_tower|video_tower|vision_model|visual)\."
"""Where checkpoints of whole models, old and new, keep the weights of their tower."""


def load_tower(model: str, layer: int | None, dtype: torch.dtype, device: torch.device) -> Tower:
    """The vision tower of a folder or model id, on the device, without the blocks behind ``layer``.

    Raises:
        StgraphError: no such model, no supported vision tower in it, files that cannot be read, or no such layer.
    """
    try:
        from transformers import AutoConfig
        from transformers.image_processing_base import ImageProcessingMixin
    except ImportError as error:
        raise StgraphError(
            f"encoder=hf needs transformers, which cannot be imported ({error}): {install_hint('models')}"
        ) from error
    source = _source(model)
    with quiet_transformers():
        expected = "name a folder with config.json and safetensors weights, or a model id of the Hugging Face Hub"
        with _reading(f"the model {model!r}", f"{expected} that is reachable or already downloaded"):
            whole = AutoConfig.from_pretrained(source, trust_remote_code=False)
        config = getattr(whole, "vision_config", whole)
        family = FAMILIES.get(config.model_type)
        if family is None:
            raise StgraphError(
                f"{model!r} has no vision tower that encoder=hf can read (its type is {config.model_type!r}); "
                f"supported are {', '.join(FAMILIES)}, alone or inside a larger model"
            )
        expected = "expected safetensors (pickled checkpoints are refused because loading one can run code)"
        with _reading(f"the vision tower of {model!r}", expected):
            modeling = importlib.import_module(type(config).__module__.replace(".configuration_", ".modeling_"))
            module, report = getattr(modeling, family.tower).from_pretrained(
                source,
                config=config,
                key_mapping={_TOWER_PREFIX: ""},
                use_safetensors=True,
                ignore_mismatched_sizes=True,  # reported below, by name
                dtype=dtype,
                attn_implementation="sdpa",
                output_loading_info=True,
            )
        with _reading(f"the preprocessor configuration of {model!r}", "correct the file, or remove it"):
            try:
                settings, _ = ImageProcessingMixin.get_image_processor_dict(source)
            except OSError as error:
                if isinstance(error.__context__, ValueError):  # there, but not JSON
                    raise
                settings = {}
            preparation = Preparation.of(settings, family)
    absent = {*report["missing_keys"], *(name for name, *_ in report["mismatched_keys"])}
    layer = layer if layer is not None else getattr(whole, "vision_feature_layer", family.layer)
    _check_depth(module, report["unexpected_keys"], model)
    block = _cut(module, layer, absent, model)
    return Tower(module.eval().to(device), block, config, family, preparation)


def _check_depth(module: nn.Module, unexpected: Iterable[str], model: str) -> None:
    """Raise :class:`StgraphError` where a checkpoint has more blocks than its configuration says."""
    prefix, blocks = blocks_of(module)
    more = sorted(name for name in unexpected if name.startswith(f"{prefix}.{len(blocks)}."))
    if more:
        raise StgraphError(
            f"config.json of {model!r} says {len(blocks)} blocks in the vision tower, but its weights have more "
            f"({more[0]}, ...); expected a checkpoint whose weights and config.json belong together"
        )


def _cut(module: nn.Module, layer: Any, absent: set[str], model: str) -> nn.Module:
    """The block that ``layer`` names, with all later ones removed; no weights up to it may be ``absent``."""
    prefix, blocks = blocks_of(module)
    total = len(blocks)
    if not isinstance(layer, int) or layer == 0 or not -total <= layer <= total:
        raise StgraphError(
            f"encoder.layer must be from 1 to {total}, or from -{total} to -1, for the {total} blocks of {model!r}, "
            f"got {layer}"
        )
    count = layer if layer > 0 else total + 1 + layer
    del blocks[count:]
    names = list(module.state_dict())
    last = max(index for index, name in enumerate(names) if name.startswith(f"{prefix}."))
    lost = [name for name in names[: last + 1] if name in absent]
    if lost:
        raise StgraphError(
            f"{model!r} holds no weights that fit {len(lost)} tensors of its vision tower ({lost[0]}, ...); "
            "expected a checkpoint whose weights and config.json belong together, as transformers saves it"
        )
    return blocks[count - 1]


def _source(model: str) -> str:
    """``model`` as transformers takes it, after telling a mistyped folder from a model id."""
    path = Path(model).expanduser()
    if path.is_dir():
        return str(path)
    if model.startswith(("/", ".", "~")) or model.count("/") > 1 or path.exists():
        raise StgraphError(
            f"there is no folder {model!r}; encoder=hf needs a folder saved by transformers or a model id"
        )
    return model


@contextmanager
def _reading(what: str, expected: str) -> Iterator[None]:
    """Failures of foreign files, which come as every kind of exception, told in one sentence."""
    try:
        yield
    except Exception as error:
        reason = textwrap.shorten(str(error) or type(error).__name__, 200, placeholder=" ...").rstrip(".")
        raise StgraphError(f"{what} cannot be read: {reason}; {expected}") from error
