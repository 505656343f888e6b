"""Options that several commands share, and what they say of the settings."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

Overrides = Annotated[
    Optional[list[str]],  # noqa: UP045 - typer reads this annotation at run time
    typer.Argument(
        help="Settings such as retention=0.3 community=leiden difference.threshold=0.15", show_default=False
    ),
]

ConfigFile = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--config", "-c", help="YAML file with settings, or the name of a preset."),
]
EventsFile = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--events", help="File of known events (.events.json), as `stgraph sample` writes it."),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the results that are in the output folder.")]
AllowCorrupt = Annotated[
    bool, typer.Option("--allow-corrupt", help="Use the frames of a damaged file that can be decoded.")
]
Trust = Annotated[
    bool, typer.Option("--trust", help="Allow the --config file to import classes, which runs their code.")
]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Do not read or write the cache of frames and tokens.")]
Exact = Annotated[bool, typer.Option("--exact", help="Measure coverage on all tokens, not on a random sample of them.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print only errors.")]


def settings_of(overrides: list[str], config: Path | None, *, trust: bool) -> tuple[list[str], dict[str, Any] | None]:
    """The overrides of a command and the data of its configuration file.

    A class of the working folder is found where a word names it as ``module:Class``.
    """
    from ..config import names_foreign
    from ..config_file import load_config

    if trust or any(names_foreign(value) for word in overrides for value in word.partition("=")[2].split(",")):
        sys.path.append(str(Path.cwd()))
    return overrides, load_config(config) if config else None
