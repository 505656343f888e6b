"""Columns: what a selection adds to the vertices of an exported graph, with the colours of all pictures."""

from __future__ import annotations

from typing import Any

import torch

from ..errors import StgraphError
from ..graph import SpatioTemporalGraph
from ..selectors.selection import Selection, Verdict
from .colours import community_colours


def selection_columns(graph: SpatioTemporalGraph, selection: Selection) -> dict[str, list[Any]]:
    """Values of a selection for each vertex of the graph of its tokens.

    Returns:
        ``community`` (−1 where there is none), ``verdict`` (its name), ``event`` and ``kept``, and ``r``, ``g``, ``b``:
        the colour that the community has in all pictures.

    Raises:
        StgraphError: the selection is of other tokens.
    """
    token = graph.token
    if int(token[-1]) >= len(selection.verdict) or not torch.equal(selection.coords[token], graph.coords):
        raise StgraphError(
            "the selection and the graph have different tokens; export the graph of the selection's tokens"
        )
    community = selection.community[token].cpu()
    sizes = torch.bincount(community.clamp(min=0))
    alone = (community < 0) | (sizes[community.clamp(min=0)] == 1)
    colours = community_colours(community.clamp(min=0).numpy(), alone.numpy())
    columns = {
        "community": community.tolist(),
        "verdict": [Verdict(code).name.lower() for code in selection.verdict[token].tolist()],
        "event": ((selection.candidate[token] & 2) > 0).tolist(),
        "kept": selection.mask[token].tolist(),
    }
    return columns | {name: colours[:, channel].tolist() for channel, name in enumerate("rgb")}
