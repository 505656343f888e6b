"""Optional libraries: looked for when a method needs them, never before, and missed in one sentence."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .errors import StgraphError


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
            f'{needed_by} needs the library {module}, {reason}; install it with: pip install "stgraph-simdiff[{extra}]"'
        ) from error


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """No reports and progress bars from transformers: what matters of them is raised as an error."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
