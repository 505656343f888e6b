"""The one exception that stgraph raises for bad input."""

from __future__ import annotations

import difflib
import numbers
from collections.abc import Iterable
from pathlib import Path
from typing import Any


class StgraphError(ValueError):
    """Bad input, told in one sentence: what is wrong, what was expected, what to do.

    The command line prints the sentence and exits with code 2; from Python it is an ordinary ``ValueError``.
    """


def readable(name: str | Path) -> str:
    """A file name as text that can be printed and written anywhere.

    Bytes that are not UTF-8 and control characters become escapes such as ``\\xe9`` and ``\\n``.
    """

    def escaped(letter: str) -> str:
        if "\udc80" <= letter <= "\udcff":  # how Python holds a byte that is not UTF-8
            return f"\\x{ord(letter) - 0xDC00:02x}"
        return letter.encode("unicode_escape").decode()

    return "".join(letter if letter.isprintable() else escaped(letter) for letter in str(name))


def nearest(word: str, known: Iterable[str], *, cutoff: float = 0.5, otherwise: str | None = None) -> str:
    """A hint that names the closest of ``known``: ``"; did you mean 'leiden'?"``.

    When none is as close as ``cutoff``, it is ``otherwise``, or all of them.
    """
    known = sorted(set(known))
    close = difflib.get_close_matches(word, known, n=1, cutoff=cutoff)
    if close:
        return f"; did you mean {close[0]!r}?"
    if otherwise is not None:
        return otherwise
    return f"; known are {', '.join(known)}" if known else ""


def check_number(
    name: str,
    value: object,
    *,
    above: float | None = None,
    at_least: float | None = None,
    below: float | None = None,
    at_most: float | None = None,
    integer: bool = False,
) -> None:
    """Raise :class:`StgraphError` naming the range unless ``value`` is a finite number inside it."""
    bounds = [
        f"{sign} {bound:g}"
        for sign, bound in ((">", above), ("≥", at_least), ("<", below), ("≤", at_most))
        if bound is not None
    ]
    expected = ("a whole number" if integer else "a number") + (" " + " and ".join(bounds) if bounds else "")
    number = not isinstance(value, bool) and isinstance(value, numbers.Integral if integer else numbers.Real)
    if not (
        number
        and value == value
        and abs(value) != float("inf")  # type: ignore[arg-type]
        and (above is None or value > above)  # type: ignore[operator]
        and (at_least is None or value >= at_least)  # type: ignore[operator]
        and (below is None or value < below)  # type: ignore[operator]
        and (at_most is None or value <= at_most)  # type: ignore[operator]
    ):
        raise StgraphError(f"{name} must be {expected}, got {value!r}")


def plain_number(value: Any) -> Any:
    """A number of numpy's as the Python number that it prints as (float32 0.3 is 0.3); all else as it is."""
    if isinstance(value, numbers.Real) and type(value).__module__ == "numpy":
        return int(value) if isinstance(value, numbers.Integral) else float(str(value))
    return value


def check_choice(name: str, value: object, known: Iterable[str]) -> None:
    """Raise :class:`StgraphError` with the nearest name unless ``value`` is one of ``known``."""
    known = list(known)
    if value not in known:
        hint = nearest(str(value), known, otherwise="")
        raise StgraphError(f"{name} must be one of {', '.join(known)}, got {value!r}{hint}")
