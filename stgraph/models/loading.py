"""Loading a video LLM from a folder or from the Hub, also those that transformers has no class for."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import nn

from ..errors import StgraphError
from ..optional import require
from .checkpoint import find_weights, read_json, shortened

FILES = ["*.json", "*.safetensors", "*.jinja", "*.txt", "*.model"]
"""What is downloaded of a published model: no code and nothing pickled."""


class Composed(NamedTuple):
    """A family that transformers has no class for, composed of its parts.

    Attributes:
        model: its class, as ``module:name``.
        read: what understands a published folder, as ``module:name``.
        published: ``model_type`` in published folders; ``save_pretrained`` writes the name of the family.
    """

    model: str
    read: str
    published: tuple[str, ...]


COMPOSED = {
    "llava_video": Composed(
        "stgraph.models.llava_video:LlavaVideoForConditionalGeneration",
        "stgraph.models.llava_video:read_llava_video",
        ("llava_qwen",),
    ),
    "nvila": Composed(
        "stgraph.models.nvila:NvilaForConditionalGeneration",
        "stgraph.models.nvila:read_nvila",
        ("llava_llama", "vila"),
    ),
}
"""``model_type`` of this package -> how it is loaded."""


def load_model(
    name_or_folder: str | Path, *, dtype: Any = "auto", attn_implementation: str = "sdpa", **options: Any
) -> nn.Module:
    """A video LLM that selectors can be attached to, ready to generate.

    Weights are read from safetensors files only, and code that comes with a model is never run.

    Args:
        name_or_folder: a folder, or the name of a model on the Hub, which is downloaded where it is not cached yet.
        dtype: of the weights, ``"auto"`` for that of the checkpoint.
        attn_implementation: see :meth:`stgraph.Selector.attach`.
        options: of transformers' ``from_pretrained``, such as ``device_map``.

    Raises:
        StgraphError: there is no such model, it is no video LLM that is known, or its files are missing, broken,
            pickled, or do not fit its configuration.
    """
    from . import MODELS

    require("transformers", extra="models", needed_by="a video LLM")
    if dtype != "auto" and not isinstance(getattr(torch, str(dtype).removeprefix("torch."), None), torch.dtype):
        raise StgraphError(f"dtype must be auto or a dtype of torch such as bfloat16, got {dtype!r}")
    kind = read_json(model_folder(name_or_folder, ["config.json"]) / "config.json").get("model_type")
    family = next((name for name, composed in COMPOSED.items() if kind in composed.published), None)
    if family is None and kind not in MODELS:
        known = sorted({*MODELS, *(name for composed in COMPOSED.values() for name in composed.published)})
        raise StgraphError(
            f"{name_or_folder} is a model of type {kind!r}, which is no video LLM that is known; known are "
            f"{', '.join(known)}, and docs/models.md tells how to add one"
        )
    folder = model_folder(name_or_folder)
    options |= {"dtype": dtype, "attn_implementation": attn_implementation}
    with _explained(folder):
        if family is not None:
            source = _named(COMPOSED[family].read)(folder)
            return cast(nn.Module, _named(COMPOSED[family].model).from_source(source, **options))
        find_weights(folder)
        model = _named(COMPOSED[kind].model if kind in COMPOSED else "transformers:AutoModelForImageTextToText")
        loaded, info = model.from_pretrained(
            folder, use_safetensors=True, trust_remote_code=False, output_loading_info=True, **options
        )
    if missing := sorted(info["missing_keys"]):  # transformers makes them up
        raise StgraphError(
            f"{folder} lacks {len(missing)} weights of the model that its config.json describes: {shortened(missing)}; "
            "give the folder as it was published"
        )
    return cast(nn.Module, loaded)


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """What transformers says of a folder or an option that it cannot use, in one sentence."""
    try:
        yield
    except StgraphError:
        raise
    except Exception as error:  # foreign files make foreign code fail in every way
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
    """What a foreign error begins with."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200].rstrip(" .:")


def _named(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)
