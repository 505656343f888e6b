"""``stgraph methods`` and ``stgraph doctor``: what can be plugged in, and what is installed."""

from __future__ import annotations

from typing import Annotated, Any, Optional

import typer

from ...errors import StgraphError
from .printing import console


def methods(
    group: Annotated[Optional[str], typer.Argument(help="One group, such as selector.", show_default=False)] = None,  # noqa: UP045
) -> None:
    """List everything that can be plugged in, with its parameters."""
    import inspect

    from rich.table import Table

    from ...errors import check_choice
    from ...registry import GROUPS, registry

    if group is not None:
        check_choice("group", group, GROUPS)
    for name in [group] if group else GROUPS:
        table = Table(title=f"{name}=…", title_justify="left", box=None, padding=(0, 2, 0, 0), header_style="bold")
        for column in ("method", "parameters", "what it does"):
            table.add_column(column, overflow="fold")
        for method in registry(name):
            parameters = registry(name).default_config(method)
            words = ", ".join(f"{key}={_word(value)}" for key, value in parameters.items() if key != "name")
            doc = inspect.getdoc(registry(name).get(method)) or ""
            table.add_row(method, words, doc.split("\n\n")[0].replace("\n", " "))
        console().print(table)
        console().print()


def doctor() -> None:
    """Show what is installed and usable on this machine."""
    from rich.table import Table
    from rich.text import Text

    from ...optional import install_hint
    from ..doctor import checks

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for column in ("part", "state", "what for"):
        table.add_column(column, overflow="fold")
    rows = checks()
    for check in rows:
        table.add_row(check.name, Text(check.state, "green" if check.usable else "yellow"), check.purpose)
    console().print(table)
    if any(check.required and not check.usable for check in rows):
        raise StgraphError(f"a required part is missing; install again with: {install_hint()}")


def _word(value: Any) -> str:
    if isinstance(value, dict):
        return str(value["name"])
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
