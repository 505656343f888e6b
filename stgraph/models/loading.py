"""Loading a video LLM from a folder or from the Hub, also those that transformers has no class for."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import nn

from ..errors import StgraphError, nearest
from ..optional import require
from .checkpoint import find_weights, read_json, shortened

FILES = ["*.json", "*.safetensors", "*.jinja", "*.txt", "*.model"]
"""What is downloaded of a published model: no code and nothing pickled."""


class Composed(NamedTuple):
    """A family that transformers has no class for, composed of its parts.

    A published folder is told by the original class that its ``config.json`` names. Where it names none, by its
    ``model_type``, or by the entries that only this family has: some folders say ``llava``, as other families do.

    Attributes:
        model: its class, as ``module:name``.
        read: what understands a published folder, as ``module:name``.
        architectures: names of the original classes.
        kinds: ``model_type`` of published folders, where no other family has it.
        entries: what every published configuration of the family holds.
    """

    model: str
    read: str
    architectures: tuple[str, ...]
    kinds: tuple[str, ...]
    entries: tuple[str, ...]

    def published(self, config: Mapping[str, Any]) -> bool:
        """Whether this is a configuration that the authors of the family wrote."""
        if config.get("architectures"):
            return bool(set(self.architectures) & set(config["architectures"]))
        return config.get("model_type") in self.kinds or set(self.entries) <= config.keys()


COMPOSED = {
    "llava_video": Composed(
        "stgraph.models.llava_video:LlavaVideoForConditionalGeneration",
        "stgraph.models.llava_video:read_llava_video",
        ("LlavaQwenForCausalLM",),
        ("llava_qwen",),
        ("mm_vision_tower", "mm_projector_type", "mm_spatial_pool_mode"),
    ),
    "nvila": Composed(
        "stgraph.models.nvila:NvilaForConditionalGeneration",
        "stgraph.models.nvila:read_nvila",
        ("LlavaLlamaModel", "VILAForCausalLM", "VILAForCasualLM"),
        ("llava_llama", "vila"),
        ("llm_cfg", "vision_tower_cfg", "mm_projector_cfg"),
    ),
}
"""``model_type`` of this package -> how it is loaded; ``save_pretrained`` writes that name."""

OPTIONS = (
    *("device_map", "max_memory", "offload_folder", "offload_buffers", "quantization_config"),
    *("tp_plan", "tp_size", "device_mesh", "key_mapping", "experts_implementation", "fusion_config"),
)
"""Options of ``from_pretrained`` that are no entries of a configuration."""

COMPUTED = ("position_ids", "inv_freq")
"""Ends of the names of what older files hold beside the weights, though it follows from the configuration."""


def load_model(
    name_or_folder: str | Path,
    *,
    dtype: Any = "auto",
    torch_dtype: Any = None,
    attn_implementation: str = "sdpa",
    device_map: Any = None,
    quantization_config: Any = None,
    **options: Any,
) -> nn.Module:
    """A video LLM that selectors can be attached to, ready to generate.

    Weights are read from safetensors files only, and code that comes with a model is never run.

    Args:
        name_or_folder: a folder, or the name of a model on the Hub, which is downloaded where it is not cached yet.
        dtype: of the weights, ``"auto"`` for that of the checkpoint.
        torch_dtype: the older name of the same.
        attn_implementation: see :meth:`stgraph.Selector.attach`.
        device_map: where the parts go, such as ``"auto"``; the model is then never to be moved, see :func:`is_placed`.
        quantization_config: of transformers, such as ``BitsAndBytesConfig(load_in_4bit=True)``, which needs a GPU.
        options: further ones of :data:`OPTIONS`, and any entry of the model's configuration, which it replaces.

    Raises:
        StgraphError: there is no such model, it is no video LLM that is known, an option is not known, or its files are
            missing, broken, pickled, or do not fit its configuration.
    """
    from . import MODELS

    require("transformers", extra="models", needed_by="a video LLM")
    dtype = _dtype(dtype, torch_dtype)
    config = read_json(model_folder(name_or_folder, ["config.json"]) / "config.json")
    kind = config.get("model_type")
    family = next((name for name, composed in COMPOSED.items() if composed.published(config)), None)
    if family is None and kind not in MODELS:
        known = sorted({*MODELS, *(name for composed in COMPOSED.values() for name in composed.kinds)})
        classes = config.get("architectures") or []
        named = f" and class {', '.join(classes)}" if classes else ""
        raise StgraphError(
            f"{name_or_folder} is a model of type {kind!r}{named}, which stgraph does not support; it supports "
            f"{', '.join(known)}; docs/models.md shows how to add one"
        )
    folder = model_folder(name_or_folder)
    given = {"device_map": device_map, "quantization_config": quantization_config}
    given = {name: value for name, value in given.items() if value is not None}
    given |= {"dtype": dtype, "attn_implementation": attn_implementation}
    given |= {name: options.pop(name) for name in OPTIONS if name in options}
    with _explained(folder):
        if family is not None:
            source = _named(COMPOSED[family].read)(folder, options)
            return cast(nn.Module, _named(COMPOSED[family].model).from_source(source, **given))
        find_weights(folder)
        check_entries(options, _entries(folder, config, str(kind)), folder)
        model = _named(COMPOSED[kind].model if kind in COMPOSED else "transformers:AutoModelForImageTextToText")
        given |= {"use_safetensors": True, "trust_remote_code": False, "ignore_mismatched_sizes": True}
        loaded, info = model.from_pretrained(folder, output_loading_info=True, **given, **options)
    check_loaded(info, config, folder)
    return cast(nn.Module, loaded)


def check_loaded(info: Mapping[str, Any], config: Mapping[str, Any], folder: Path) -> None:
    """Raise :class:`StgraphError` where transformers initialised weights at random or ignored some of the folder's.

    Args:
        info: what ``from_pretrained`` says of its loading.
        config: what ``config.json`` holds.
        folder: that was loaded.
    """
    # The files of a quantised model hold what its quantiser needs beside the weights.
    extra = () if config.get("quantization_config") else info["unexpected_keys"]
    faults = {
        "lacks {} weights of": info["missing_keys"],
        "has other shapes for {} weights of": {name for name, *_ in info["mismatched_keys"]},
        "holds {} weights that have no place in": {name for name in extra if not name.endswith(COMPUTED)},
    }
    for fault, names in faults.items():
        if names:
            raise StgraphError(
                f"{folder} {fault.format(len(names))} the model that its config.json describes: "
                f"{shortened(sorted(names))}; give the folder as it was published"
            )


def is_placed(model: nn.Module) -> bool:
    """Whether a model must stay where it is: it is quantised, or its parts were put on devices one by one."""
    return getattr(model, "hf_device_map", None) is not None or getattr(model, "hf_quantizer", None) is not None


def input_device(model: nn.Module) -> torch.device:
    """Where a model takes its inputs, also where its weights are offloaded."""
    embedding = cast(Any, model).get_input_embeddings()
    hook = getattr(embedding, "_hf_hook", None)
    for each in getattr(hook, "hooks", (hook,)):
        if (device := getattr(each, "execution_device", None)) is not None:
            return torch.device(device)
    return cast(torch.device, next(embedding.parameters()).device)


def check_entries(given: Iterable[str], known: Iterable[str], folder: Path) -> None:
    """Raise :class:`StgraphError` unless all options are entries of a configuration."""
    known = set(known) - {"model_type", "architectures", "transformers_version"}
    for name in given:
        if name not in known:
            raise StgraphError(
                f"{name!r} is neither an option of load_model nor an entry of the configuration of {folder}"
                f"{nearest(name, {*known, *OPTIONS, 'dtype', 'attn_implementation'})}"
            )


def _dtype(dtype: Any, older: Any) -> Any:
    """The dtype under either name: ``"auto"``, or one of torch."""
    found = []
    for name, value in (("dtype", dtype), ("torch_dtype", older)):
        if value is None or value == "auto":
            continue
        known = getattr(torch, str(value).removeprefix("torch."), None)
        if not isinstance(known, torch.dtype):
            raise StgraphError(f"{name} must be auto or a dtype of torch such as bfloat16, got {value!r}")
        found.append(known)
    if len(set(found)) > 1:
        raise StgraphError(f"dtype is {found[0]} and torch_dtype {found[1]}; give one of them")
    return found[0] if found else "auto"


def _entries(folder: Path, config: Mapping[str, Any], kind: str) -> set[str]:
    """What the configuration of a folder that transformers reads may hold."""
    if kind in COMPOSED:
        return set(_named(COMPOSED[kind].model).config_class().to_dict()) | set(config)
    from transformers import AutoConfig

    return set(AutoConfig.from_pretrained(folder, trust_remote_code=False).to_dict()) | set(config)


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """What transformers says of a folder or an option that it cannot use, in one sentence."""
    try:
        yield
    except StgraphError:
        raise
    except Exception as error:  # code of other libraries can raise any exception for such files
        raise StgraphError(
            f"{folder} cannot be loaded ({first_line(error)}); check the options, and give the folder as it was "
            "published"
        ) from error


def model_folder(name_or_folder: str | Path, files: Sequence[str] = FILES) -> Path:
    """The folder itself, or the one in the cache that the ``files`` of a model of the Hub are in.

    Raises:
        StgraphError: there is neither.
    """
    folder, name = Path(name_or_folder), str(name_or_folder)
    if folder.is_dir():
        return folder
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(snapshot_download(name, allow_patterns=list(files)))
    except HFValidationError as error:
        raise StgraphError(f"there is no folder {name}; give a folder, or the name of a model on the Hub") from error
    except (OSError, ValueError) as error:  # among them all errors of the Hub and of the network
        raise StgraphError(
            f"there is no folder {name}, and the Hub gave no model of that name ({first_line(error)}); give a folder"
        ) from error


def load_tokenizer(folder: Path, config: Any) -> Any:
    """The tokenizer in a folder, or in the ``llm`` folder inside; ``config`` is that of the model, already understood.

    Raises:
        StgraphError: there is no readable tokenizer.
    """
    from transformers import AutoTokenizer

    place = folder / "llm" if (folder / "llm").is_dir() else folder
    if not any((place / name).is_file() for name in ("tokenizer.json", "vocab.json")):  # one would be made up
        raise StgraphError(
            f"{place} has no tokenizer (tokenizer.json, or vocab.json and merges.txt); give the folder as it was "
            "published"
        )
    try:
        return AutoTokenizer.from_pretrained(place, config=config, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise StgraphError(
            f"the tokenizer in {place} cannot be read ({first_line(error)}); give the folder as it was published"
        ) from error


def first_line(error: Exception) -> str:
    """First line of an error of another library."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200].rstrip(" .:")


def _named(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)
