"""How values show themselves in a notebook: a line of words and one small chart, as HTML that needs no script."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ..community.partition import Partition
    from ..difference.base import Difference
    from ..graph import SpatioTemporalGraph
    from ..selectors.selection import Selection
    from ..tokens import VideoTokens

_INK = "var(--jp-ui-font-color1, currentColor)"
_STYLE = (
    "display:inline-grid;grid-template-columns:auto auto;gap:2px 18px;align-items:center;"
    "font:13px/1.5 system-ui,sans-serif;font-variant-numeric:tabular-nums"
)


def tokens_card(tokens: VideoTokens) -> str:
    """Videos, grids, features, separators."""
    grids = ", ".join(" × ".join(map(str, grid)) for grid in tokens.grids[:4]) + (
        ", …" if tokens.num_videos > 4 else ""
    )
    dtype = str(tokens.features.dtype).removeprefix("torch.")
    facts = [
        ("tokens", f"{len(tokens):,}"),
        ("features", f"{tokens.features.shape[1]:,} {dtype} on {tokens.device}"),
        ("grid (frames × rows × columns)", grids),
        ("separators", f"{tokens.num_separators:,}"),
    ]
    return _card("VideoTokens", facts)


def graph_card(graph: SpatioTemporalGraph) -> str:
    """Vertices, edges of each kind, and a histogram of the weights."""
    from .colours import SPATIAL_COLOUR, TEMPORAL_COLOUR
    from .summary import weight_histogram

    counts = weight_histogram(graph, 40)
    facts = [
        ("vertices", f"{graph.num_nodes:,}"),
        ("spatial edges", f"{int(counts.spatial.sum()):,}"),
        ("temporal edges", f"{int(counts.temporal.sum()):,}"),
        (
            f"weights from {counts.edges[0]:.2g} to 1",
            _bars([(counts.spatial, SPATIAL_COLOUR), (counts.temporal, TEMPORAL_COLOUR)], root=True),
        ),
    ]
    return _card("SpatioTemporalGraph", facts)


def partition_card(partition: Partition) -> str:
    """How many communities, how large, and their sizes by rank."""
    from .colours import community_palette, hexadecimal

    sizes = partition.sizes.cpu().numpy()
    order = np.argsort(-sizes, kind="stable")[:40]
    palette = [hexadecimal(colour) for colour in community_palette()]
    chart = _stacks([[(int(sizes[c]), palette[c % len(palette)])] for c in order], root=True)
    alone = int((sizes == 1).sum())
    facts = [
        ("communities", f"{len(sizes):,}, {alone:,} of one token"),
        ("largest", f"{int(sizes.max(initial=0)):,} of {len(partition.labels):,} tokens"),
        ("method", _method(partition.method)),
        ("sizes of the 40 largest", chart),
    ]
    return _card("Partition", facts)


def difference_card(difference: Difference) -> str:
    """Event tokens, threshold, and a histogram of the scores."""
    from .colours import EVENT_COLOUR

    score, marked = difference.score.cpu().numpy(), difference.marked.cpu().numpy()
    edges = np.linspace(0, max(1e-6, float(score.max(initial=0))), 41)
    quiet, events = np.histogram(score[~marked], edges)[0], np.histogram(score[marked], edges)[0]
    thresholds = ", ".join(f"{value:.3g}" for value in difference.threshold[:4])
    facts = [
        ("event tokens", f"{int(marked.sum()):,} of {len(marked):,}"),
        ("threshold of the difference", thresholds),
        ("method", _method(difference.method)),
        (f"scores from 0 to {edges[-1]:.2g}", _bars([(quiet, "#8A93A0"), (events, EVENT_COLOUR)], root=True)),
    ]
    return _card("Difference", facts)


def selection_card(selection: Selection) -> str:
    """How many tokens are kept, for which reasons, and when."""
    from ..selectors.selection import KEPT, Verdict
    from .colours import VERDICT_COLOURS

    n = len(selection.verdict)
    counts = selection.counts
    reasons = ", ".join(
        f'<span style="color:{VERDICT_COLOURS[v]}">■</span> {count:,} {v.name.lower()}'
        for v in Verdict
        if (count := counts[v.name.lower()])
    )
    facts = [
        ("kept", f"{len(selection):,} of {n:,} ({100 * len(selection) / n:.1f} %)" if n else "no tokens"),
        ("reasons", reasons or "–"),
        ("method", _method(selection.method)),
    ]
    if len(selection.budget) == 1 and n:
        frames = int(selection.coords[:, 0].max()) + 1
        code = (selection.coords[:, 0] * len(Verdict) + selection.verdict.long()).cpu().numpy()
        per_frame = np.bincount(code, minlength=frames * len(Verdict)).reshape(frames, len(Verdict))
        width = -(-frames // 120)
        groups = np.add.reduceat(per_frame, np.arange(0, frames, width))
        stacks = [[(int(row[v]), VERDICT_COLOURS[v]) for v in VERDICT_COLOURS if v in KEPT] for row in groups]
        facts.append((f"kept in each of {frames:,} frames", _stacks(stacks)))
    facts.append(("see it", "<code>selection.show(video, tokens)</code>"))
    return _card("Selection", facts)


def _card(title: str, facts: Iterable[tuple[str, str]]) -> str:
    rows = "".join(f'<span style="opacity:.65">{name}</span><span>{value}</span>' for name, value in facts)
    return f'<div style="color:{_INK}"><b>{title}</b><br><div style="{_STYLE}">{rows}</div></div>'


def _method(method: dict[str, object]) -> str:
    name = method.get("name", "–")
    named = {key: value.get("name", value) if isinstance(value, dict) else value for key, value in method.items()}
    words = [f"{key}={value}" for key, value in named.items() if key != "name" and value is not None]
    more = ", …" if len(words) > 6 else ""
    return html.escape(f"{name} ({', '.join(words[:6])}{more})" if words else str(name))


def _bars(series: Sequence[tuple[np.ndarray, str]], *, root: bool = False) -> str:
    """Bars that stand on each other, one column for each place of the series."""
    return _stacks(
        [[(int(counts[i]), colour) for counts, colour in series] for i in range(len(series[0][0]))], root=root
    )


def _stacks(columns: Sequence[Sequence[tuple[int, str]]], *, root: bool = False) -> str:
    """A small chart of stacked bars; with ``root`` the height is the square root, so that small bars are seen."""
    width, height = 320, 44
    totals = [sum(count for count, _ in column) for column in columns]
    most = max([1, *totals])
    slot = width / max(1, len(columns))
    shapes = []
    for place, (column, total) in enumerate(zip(columns, totals, strict=True)):
        tall = height * ((total / most) ** (0.5 if root else 1.0))
        y = float(height)
        for count, colour in column:
            part = tall * count / total if total else 0
            y -= part
            if part > 0.2:
                box = f'x="{place * slot:.1f}" y="{y:.1f}" width="{max(1, slot - 0.6):.1f}" height="{part:.1f}"'
                shapes.append(f'<rect {box} fill="{colour}"/>')
    area = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    return f'<svg {area} role="img">{"".join(shapes)}</svg>'
