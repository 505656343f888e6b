"""What commands print with: one console, and whether a progress bar is shown."""

from __future__ import annotations

import sys
from typing import Any


def shows_bar(quiet: bool) -> bool:
    """Whether a progress bar is shown."""
    return not quiet and sys.stderr is not None and sys.stderr.isatty()


def console() -> Any:
    """A console of rich for standard output."""
    from rich.console import Console

    # Redirected output is not cut at 80 columns, so that tables in files can be searched. Brackets are not markup:
    # they occur in file names and in the extras of a package.
    return Console(width=None if sys.stdout.isatty() else 200, markup=False, emoji=False)
