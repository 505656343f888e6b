"""Checkpoint: the weights of a folder of safetensors files, checked before any is read.

Pickled weights are refused: reading them can run code.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..errors import StgraphError

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")

SHOWN = 4
"""Number of names that a message lists; the others are only counted."""


class Weight(NamedTuple):
    """One tensor of a checkpoint, not read yet."""

    file: Path
    key: str
    shape: tuple[int, ...]


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        StgraphError: there is no such file, or it holds something else.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StgraphError(
            f"{path.parent} has no readable {path.name} ({error.strerror}); give the whole folder of a model"
        ) from error
    except ValueError as error:
        raise StgraphError(f"{path} is not JSON: {error}; download it again") from error
    if not isinstance(found, dict):
        raise StgraphError(f"{path} must hold a JSON object, got {type(found).__name__}; download it again")
    return found


def find_weights(folder: Path) -> dict[str, Weight]:
    """All weights of a folder by their key: those of the shards that its index names, or of its one file.

    Raises:
        StgraphError: there are none, shards are missing, or a file is not readable as safetensors.
    """
    index, single = folder / INDEX, folder / SINGLE
    if index.is_file():
        places = read_json(index).get("weight_map")
        if not isinstance(places, dict):
            raise StgraphError(
                f"{index} has no weight_map, which says which shard holds which weight; download it again"
            )
        files = [folder / str(name) for name in sorted(set(places.values()))]
        if missing := [file.name for file in files if not file.is_file()]:
            raise StgraphError(
                f"{folder} lacks {len(missing)} of the {len(files)} weight files that its index names: "
                f"{shortened(missing)}; download them into the folder"
            )
    elif single.is_file():
        files = [single]
    elif pickled := sorted(path.name for pattern in PICKLED for path in folder.glob(pattern)):
        raise StgraphError(
            f"{folder} holds its weights only as pickle ({shortened(pickled)}), which is never read because it can run "
            "code; where you trust it, load it with its own library and save it with save_pretrained, which writes "
            "safetensors"
        )
    else:
        raise StgraphError(f"{folder} holds neither {SINGLE} nor {INDEX}; give the whole folder of a model")
    return {weight.key: weight for file in files for weight in _header(file)}


def _header(file: Path) -> list[Weight]:
    try:
        with safe_open(file, framework="pt") as opened:
            return [Weight(file, key, tuple(opened.get_slice(key).get_shape())) for key in opened.keys()]  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise StgraphError(f"{file} cannot be read as safetensors ({error}); download it again") from error


def check_weights(weights: Mapping[str, Weight], expected: Mapping[str, tuple[int, ...]], folder: Path) -> None:
    """Raise :class:`StgraphError` unless ``weights`` are exactly those ``expected``, in name and shape."""
    missing = [name for name in expected if name not in weights]
    unexpected = [name for name in weights if name not in expected]
    if missing or unexpected:
        parts = [
            f"{word} are {len(names)}: {shortened(names)}"
            for word, names in (("missing", missing), ("unexpected", unexpected))
            if names
        ]
        raise StgraphError(
            f"the weights of {folder} are not those of the model that its config.json describes; {'; '.join(parts)}; "
            "give the folder as it was published"
        )
    wrong = [name for name, shape in expected.items() if weights[name].shape != shape]
    if wrong:
        shapes = [f"{name} is {weights[name].shape}, not {expected[name]}" for name in wrong]
        raise StgraphError(
            f"{len(wrong)} weights of {folder} have other shapes than its config.json says: {shortened(shapes)}; give "
            "the folder as it was published"
        )


def read_weights(weights: Mapping[str, Weight]) -> dict[str, Tensor]:
    """The tensors under the same names, file by file; on the CPU they are mapped from the files, not copied."""
    by_file: dict[Path, list[str]] = defaultdict(list)
    for name, weight in weights.items():
        by_file[weight.file].append(name)
    tensors: dict[str, Tensor] = {}
    for file, names in by_file.items():
        with safe_open(file, framework="pt") as opened:
            tensors |= {name: cast(Tensor, opened.get_tensor(weights[name].key)) for name in names}
    return tensors


def shortened(names: Iterable[str]) -> str:
    """The first few names, and how many more there are."""
    names = list(names)
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")
