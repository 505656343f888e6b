"""The chat template of a published folder: how a conversation is written for a model.

Folders keep it in one of several places, which are read in the order of transformers' processors. A tokenizer alone,
which is what is loaded where there is no torchvision, knows only the last of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import StgraphError
from .checkpoint import read_json
from .loading import first_line, model_folder

FILES = ("processor_config.json", "chat_template.json", "chat_template.jinja", "additional_chat_templates/*.jinja")
"""Where a template may be, in that order; in the first two it is the entry ``chat_template``."""


def published_template(name_or_folder: str | Path) -> str | None:
    """The chat template that a folder keeps for its processor; None where only the tokenizer may have one.

    Raises:
        StgraphError: a file is not JSON, or several templates are there and none is called default.
    """
    folder = model_folder(name_or_folder)
    for name in FILES[:2]:
        if (folder / name).is_file() and (found := read_json(folder / name).get("chat_template")) is not None:
            return _default(found, folder / name)
    if (folder / FILES[2]).is_file():
        return (folder / FILES[2]).read_text("utf-8")
    named = {path.stem: path.read_text("utf-8") for path in sorted(folder.glob(FILES[3]))}
    return _default(named, folder / "additional_chat_templates") if named else None


def written(source: Any, messages: Sequence[Mapping[str, Any]]) -> str:
    """A conversation as text, by the chat template of a tokenizer or processor, up to where the answer begins.

    Raises:
        StgraphError: there is no template, or it does not take this conversation.
    """
    template = getattr(source, "chat_template", None)
    if template is None:
        raise StgraphError(
            f"the model has no chat template ({', '.join(FILES)} or tokenizer_config.json), so the format of its "
            "prompts is unknown; give the whole folder of a model tuned for chat"
        )
    _default(template, Path("tokenizer_config.json"))
    try:
        text: str = source.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)
    except Exception as error:  # templates are programs and can raise any exception
        roles = ", ".join(dict.fromkeys(str(message["role"]) for message in messages))
        raise StgraphError(
            f"the chat template of the model does not take a conversation of {roles} with a video "
            f"({first_line(error)}); give a model whose template supports videos, or leave the system prompt out"
        ) from error
    if "'type': 'video'" in text:
        raise StgraphError(
            "the chat template of the model is for text only and has no placeholder for a video; give the whole "
            "folder of a model tuned for video, with its chat_template.json or chat_template.jinja"
        )
    return text


def _default(found: Any, place: Path) -> str:
    """The one template, or the one called default."""
    if isinstance(found, list):  # as older tokenizers keep several
        found = {entry["name"]: entry["template"] for entry in found}
    if isinstance(found, Mapping):
        if "default" not in found:
            raise StgraphError(
                f"{place} holds chat templates called {', '.join(sorted(found))} and none called default; name the one "
                "for questions default"
            )
        found = found["default"]
    if not isinstance(found, str):
        raise StgraphError(f"the chat_template in {place} must be text, got {json.dumps(found)[:60]}; correct it")
    return found
