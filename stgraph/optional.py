"""Optional libraries: looked for when a method needs them, never before, and missed in one sentence."""

from __future__ import annotations

import importlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

from .errors import StgraphError

DISTRIBUTION = "stgraph-simdiff"


def require(module: str, *, extra: str, needed_by: str) -> Any:
    """The optional ``module``, imported now.

    Args:
        module: import name.
        extra: the extra of stgraph that installs it.
        needed_by: what asks for it, the subject of the error.

    Raises:
        StgraphError: it cannot be imported; names the install command and, for a broken library, what is wrong with it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        absent = (
            isinstance(error, ModuleNotFoundError)
            and (error.name or module).partition(".")[0] == module.partition(".")[0]
        )
        reason = "which is not installed" if absent else f"which cannot be imported ({error})"
        raise StgraphError(
            f"{needed_by} needs the library {module}, {reason}; install it with: {install_hint(extra)}"
        ) from error


def install_hint(extra: str | None = None) -> str:
    """The command that installs stgraph again with an extra, from where this one was installed."""
    name = f"{DISTRIBUTION}[{extra}]" if extra else DISTRIBUTION
    checkout = Path(__file__).resolve().parents[1]
    try:
        source = json.loads(metadata.distribution(DISTRIBUTION).read_text("direct_url.json") or "{}")
    except (metadata.PackageNotFoundError, ValueError):
        source = {}
    if url := source.get("url"):
        vcs = source.get("vcs_info", {}).get("vcs")
        return f'pip install "{name} @ {f"{vcs}+" if vcs else ""}{url}"'
    if (checkout / "pyproject.toml").is_file():
        return f'pip install "{name} @ {checkout.as_uri()}"'
    return f'pip install "{name}"'


class _Quiet:
    """Number of open blocks that silence transformers, and its settings before the first of them."""

    lock = threading.Lock()
    blocks = 0
    before: tuple[int, bool] = (0, False)


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """No reports and progress bars from transformers: what matters of them is raised as an error.

    Its settings are those of the process, so of several threads the first sets them and the last puts them back.
    """
    from transformers.utils import logging

    with _Quiet.lock:
        if not _Quiet.blocks:
            _Quiet.before = logging.get_verbosity(), logging.is_progress_bar_enabled()
            logging.set_verbosity_error()
            logging.disable_progress_bar()
        _Quiet.blocks += 1
    try:
        yield
    finally:
        with _Quiet.lock:
            _Quiet.blocks -= 1
            if not _Quiet.blocks:
                verbosity, bars = _Quiet.before
                logging.set_verbosity(verbosity)
                if bars:
                    logging.enable_progress_bar()
