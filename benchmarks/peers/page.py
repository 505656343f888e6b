"""The tables of docs/peers.md, between marks in its text."""

from __future__ import annotations

import re
import statistics
from pathlib import Path
from typing import Any

from stgraph.app.compare import markdown

from .facts import FACTS, FLOORS, Facts

PAGE = Path(__file__).parents[2] / "docs" / "peers.md"


def methods(outcomes: dict[str, Any]) -> str:
    """The table of methods."""
    heads = ["selector", "published", "needs", "merges", '`count="published"`', "departures", "golden", "time"]
    rows = [
        [
            f"`{name}`",
            facts.published,
            facts.needs,
            "yes" if facts.merges else "no",
            facts.count,
            facts.departures,
            _golden(outcomes, facts),
            _time(outcomes, name),
        ]
        for name, facts in FACTS.items()
    ]
    cases = outcomes["golden"].values()
    total = f"{sum(case['equal'] for case in cases)} of {sum(case['cases'] for case in cases)} golden outputs agree."
    own = outcomes["times"]
    if not own:
        return f"{total}\n\n{markdown(heads, rows)}"
    slow = [name for name, row in own["rows"].items() if row["runs"] == 1]
    setting = (
        f"Times: {own['tokens']} tokens of {own['dim']} in float32, retention {own['retention']:g}, "
        f"{100 * own['similar']:.0f} % of the edges similar, random signals, "
        + ("processor time of one thread" if own["clock"] == "cpu" else f"{own['threads']} threads")
        + f", {own['kernels']} kernels, torch {own['torch'].split('+')[0]}; medians"
        + (f", of one run each for {', '.join(f'`{name}`' for name in slow)}" if slow else "")
        + ". × is the factor over `simdiff`, which is measured in turns with each method."
    )
    return f"{total} {setting}\n\n{markdown(heads, rows)}"


def _golden(outcomes: dict[str, Any], facts: Facts) -> str:
    if facts.golden is None:
        return "no outputs" if "http" in facts.published else "–"
    found = outcomes["golden"].get(facts.golden)
    if found is None:
        return "?"
    what = "release" if facts.golden == "stsimdiff_release" else "rows" if found["rows"] else "tokens"
    return f"{found['equal']} of {found['cases']} ({what})"


def _time(outcomes: dict[str, Any], name: str) -> str:
    row = outcomes["times"].get("rows", {}).get(name)
    if row is None:
        return "not measured yet"
    amount = f"{row['ms'] / 1000:.1f} s" if row["ms"] >= 1000 else f"{row['ms']:.0f} ms"
    digits = 1 if row["over_simdiff"] < 10 else 0
    return f"{amount}, {row['over_simdiff']:.{digits}f}×"


def clips(outcomes: dict[str, Any]) -> str:
    """A table for each clip."""
    return "\n".join(_clip(name, own) for name, own in outcomes["clips"].items())


def _clip(title: str, own: dict[str, Any]) -> str:
    retentions = sorted({key for row in own["rows"].values() for key in row if key != "substitute"}, key=float)
    known = any(row.get(r, {}).get("recall") is not None for row in own["rows"].values() for r in retentions)
    figures = ["coverage", "error", *(["recall"] if known else [])]
    heads = [f"{figure} {r}" if r == retentions[0] else r for figure in figures for r in retentions]

    whole = [name for name, row in own["rows"].items() if all(r in row for r in retentions)]
    missing = [f"`{name}`" for name in FACTS if name not in whole]

    def mean(name: str) -> float:
        return statistics.fmean(own["rows"][name][r]["coverage"] for r in retentions)

    rows = []
    for name in sorted(whole, key=lambda name: -mean(name)):
        row = own["rows"][name]
        shown = f"**{name}**" if name in FLOORS else name
        cells = [f"{row[r][figure]:.3f}" for figure in figures for r in retentions]
        rows.append([f"{shown} *" if row["substitute"] else shown, *cells])
    table = markdown(["selector", *heads], rows)
    note = f"\nNot measured yet: {', '.join(missing)}.\n" if missing else ""
    return f"### {title}: {own['frames']} frames, {own['tokens']} tokens of {own['dim']}\n\n{table}{note}"


TABLES = {"methods": methods, "clips": clips}


def written(text: str, outcomes: dict[str, Any]) -> str:
    """The page with its tables made anew."""
    for name, table in TABLES.items():
        begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
        pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
        text, count = pattern.subn(lambda _: f"{begin}\n{table(outcomes)}\n{end}", text)  # noqa: B023
        if count != 1:
            raise ValueError(f"docs/peers.md must hold the marks of {name} once; put <!-- {name} --> back")
    return text
