"""Ending: how every command of the experiments ends when its input is bad or somebody interrupts it."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence

from stgraph.errors import StgraphError

Main = Callable[[Sequence[str] | None], int]


def ends_well(main: Main) -> Callable[..., int]:
    """A ``main`` whose errors become exit codes.

    Bad input ends with one sentence and code 2. Ctrl-C ends with code 130; the same command then continues the run.
    """

    @functools.wraps(main)
    def ended(arguments: Sequence[str] | None = None) -> int:
        try:
            return main(arguments)
        except StgraphError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print("interrupted; finished cells are kept; run the same command again to continue", file=sys.stderr)
            return 130

    return ended
