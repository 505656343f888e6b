"""What the environment says of the selector that serves.

Servers start processes of their own, which inherit environment variables and nothing else. So all settings are there.
"""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path

from ...app.config_file import presets
from ...errors import StgraphError
from .contract import ServingSelector

_YES = {"": False, "0": False, "1": True}


@dataclass(frozen=True)
class Settings:
    """Settings of a server.

    Attributes:
        selector: chooses the tokens.
        dump: a folder to write every selection into, or None.
    """

    selector: ServingSelector
    dump: Path | None = None

    @classmethod
    def from_environment(cls, name: str) -> Settings:
        """Read the variables ``name``, ``name_STRICT`` and ``name_DUMP``.

        The first holds overrides as on the command line (``selector=simdiff community=leiden``), the path of a YAML
        file, or the name of a preset.

        Raises:
            StgraphError: what they say cannot be served; the sentence names the variable.
        """
        strict = os.environ.get(f"{name}_STRICT", "").strip()
        if strict not in _YES:
            raise StgraphError(f"{name}_STRICT must be 1 or 0, got {strict!r}")
        dump = os.environ.get(f"{name}_DUMP", "").strip()
        if dump:
            try:
                Path(dump).mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise StgraphError(f"{name}_DUMP={dump} is no folder to write into: {error.strerror}") from error
        text = os.environ.get(name, "").strip()
        try:
            if text in presets() or (text.endswith((".yaml", ".yml")) and "=" not in text):
                selector = ServingSelector.from_file(text, strict=_YES[strict])
            else:
                selector = ServingSelector.from_overrides(_words(text), strict=_YES[strict])
        except StgraphError as error:
            raise StgraphError(f"{name}: {error}") from error
        return cls(selector, Path(dump) if dump else None)


def _words(text: str) -> list[str]:
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise StgraphError(f"{text!r} cannot be split into words: {error}") from error
    for word in words:
        if "=" not in word:
            raise StgraphError(
                f"{word!r} is not a setting; write settings as selector=simdiff, or name a .yaml file or one of "
                f"{', '.join(presets())}"
            )
    return words
