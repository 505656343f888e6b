"""What the folder of a model says of its prompts: tokenizer and processor files, settings of videos, chat template."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import StgraphError


def read_auto(auto: Any, folder: str) -> Any:
    """What one of transformers' Auto classes reads from a folder.

    Raises:
        StgraphError: files are missing or broken.
    """
    try:
        return auto.from_pretrained(folder)
    except Exception as error:  # broken files can raise any exception
        reason = " ".join(str(error).split()) or type(error).__name__
        raise StgraphError(
            f"the tokenizer and processor files of {folder} cannot be read: {reason[:200]}; give a folder that holds "
            "them beside the weights, as transformers saves it"
        ) from error


def video_settings(folder: str) -> dict[str, Any]:
    """The video settings of a folder, in the order in which transformers looks for them."""
    from transformers.utils import cached_file

    for name in ("processor_config.json", "video_preprocessor_config.json", "preprocessor_config.json"):
        path = cached_file(folder, name, _raise_exceptions_for_missing_entries=False)
        if path is None:
            continue
        try:
            found = json.loads(Path(path).read_text("utf-8"))
        except ValueError as error:
            raise StgraphError(f"{name} of {folder} is not JSON: {error}") from error
        if name == "processor_config.json":
            found = found.get("video_processor")
        if found is not None:
            return dict(found)
    return {}
