"""Pictures of the merge tree: how communities merge as τ_sim falls."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ..errors import check_number
from ..graph.merge_tree import MergeTree
from .colours import (
    SPATIAL_COLOUR,
    heat_colours,
)
from .drawing import (
    FAINT,
    INK,
    LINE,
    add_note,
    new_chart,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def merge_dendrogram(tree: MergeTree, *, threshold: float | None = None, leaves: int = 40) -> Figure:
    """How communities merge as τ_sim falls: the last merges as a tree, with the number of tokens below each leaf.

    Args:
        tree: the merge tree of one graph.
        threshold: a τ_sim to be marked.
        leaves: how many branches are drawn, ≥ 2; what is below is folded into them.
    """
    check_number("leaves", leaves, at_least=2, integer=True)
    figure, axes = new_chart(width=9.0, height=3.6)
    nodes, merges = tree.num_nodes, tree.num_merges
    first = max(0, merges - leaves + 1)
    # Before the drawn merges: each community is one leaf, in the order in which none of their stretches cross.
    order = tree.leaves.numpy()
    starts = np.flatnonzero(tree.joined.numpy() >= first)
    size = {int(order[a]): int(b - a) for a, b in zip(starts, np.append(starts[1:], nodes), strict=True)}
    if len(size) > 2 * leaves:  # parts that never merge: only those of the drawn merges
        touched = set(tree.first[:, first:].flatten().tolist())
        kept = [head for head in size if head in touched]
    else:
        kept = list(size)
    spot = {head: (float(place), 1.0) for place, head in enumerate(kept)}
    for merge in range(first, merges):
        one, two = (int(v) for v in tree.first[:, merge])
        weight = float(tree.weight[merge])
        (xa, ya), (xb, yb) = spot[one], spot[two]
        axes.plot(
            [xa, xa, xb, xb], [ya, weight, weight, yb], color=SPATIAL_COLOUR, linewidth=1.2, solid_joinstyle="round"
        )
        spot[one] = ((xa + xb) / 2, weight)
    low = float(tree.weight[-1]) if merges else 0.0
    for place, head in enumerate(kept):
        axes.annotate(
            f"{size[head]:,}",
            (place, 1.0),
            (0, 3),
            textcoords="offset points",
            rotation=90,
            ha="center",
            va="bottom",
            fontsize=7.5,
            color=FAINT,
        )
    if threshold is not None:
        axes.axhline(threshold, color=INK, linewidth=1, linestyle=(0, (4, 3)))
        told = f"τ_sim {threshold:g}: {int(tree.num_communities(threshold)):,} communities"
        add_note(axes, told, (1, threshold), (-2, 3),
              xycoords=("axes fraction", "data"), ha="right", fontsize=8.5, color=INK,
              bbox={"facecolor": "white", "linewidth": 0, "pad": 1})  # fmt: skip
    axes.set_xlim(-1, max(1, len(kept)))
    axes.set_ylim(min(low, threshold or 1.0) - 0.03, 1.0 + 0.16 * max(0.05, 1.0 - low))
    axes.set_xticks([])
    axes.set_ylabel("τ_sim at which they merge")
    folded = f"the last {merges - first:,} of {merges:,} merges" if first else f"{merges:,} merges"
    axes.set_title(f"{folded} of {nodes:,} tokens; above each branch its tokens", loc="left", fontsize=9.5, color=INK)
    return figure


def persistence_barcode(
    tree: MergeTree, *, threshold: float | None = None, bars: int = 40, smallest: int = 2
) -> Figure:
    """How long communities live as τ_sim falls: one bar from birth to death each, the longest-lived on top.

    Args:
        tree: the merge tree of one graph.
        threshold: a τ_sim to be marked.
        bars: how many are drawn at most.
        smallest: communities of fewer tokens are left out, ≥ 1.
    """
    check_number("bars", bars, at_least=1, integer=True)
    lives = tree.persistence(smallest)
    floor = float(tree.weight[-1]) - 0.02 if tree.num_merges else 0.0
    birth = lives.birth.numpy()[:bars]
    death = np.maximum(lives.death.numpy()[:bars], floor)
    size = lives.size.numpy()[:bars]
    figure, axes = new_chart(width=9.0, height=max(1.8, 1.0 + 0.11 * len(birth)))
    place = np.arange(len(birth))
    if len(birth):
        level = np.log(size) / max(1e-9, math.log(max(2, int(size.max()))))
        axes.barh(place, birth - death, 0.72, left=death, color=heat_colours(0.9 - 0.75 * level) / 255, linewidth=0)
        for y in place:
            end = "" if np.isfinite(lives.death.numpy()[y]) else "never merges, "
            axes.annotate(
                f"{end}{size[y]:,}",
                (birth[y], y),
                (3, 0),
                textcoords="offset points",
                va="center",
                fontsize=6.5,
                color=FAINT,
            )
    if threshold is not None:
        axes.axvline(threshold, color=INK, linewidth=1, linestyle=(0, (4, 3)), label=f"τ_sim {threshold:g}")
    axes.set_ylim(len(birth) - 0.4, -0.6)
    axes.set_yticks([])
    axes.grid(axis="x", color=LINE, linewidth=0.5)
    axes.set_xlabel("τ_sim")
    many = len(lives.birth)
    shown = f"the {len(birth)} longest-lived of {many:,} communities" if many > len(birth) else f"{many:,} communities"
    axes.set_title(
        f"{shown} of at least {smallest} tokens; beside each bar its tokens, darker bars have more",
        loc="left",
        fontsize=9.5,
        color=INK,
    )
    if threshold is not None:
        axes.legend(loc="lower left", frameon=False, fontsize=8.5, labelcolor=INK)
    return figure
