"""What the explorer shows, as plain data: a few kilobytes of JSON and one packed block of numbers."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...difference.events import Event, group_events
from ...errors import StgraphError, check_number
from ...graph import SpatioTemporalGraph, build_graph
from ...graph.edges import TEMPORAL
from ...graph.merge_tree import merge_tree
from ...kernels import GRID, community_ranks
from ...selectors.selection import KEPT, Selection, Verdict
from ...tokens import VideoTokens
from ...video import Video
from ..colours import (
    ALONE_COLOUR,
    COMPARISON_COLOURS,
    EDGE_COLOURS,
    VERDICT_COLOURS,
    community_palette,
    heat_colours,
    hexadecimal,
)
from ..images import data_uri, image_of
from ..summary import verdicts_per_frame

MAX_VERTICES = 60_000
"""Vertices that the explorer shows at most. Of a larger graph it shows as many whole frames in a row."""

LEVELS = 10_000
"""Steps of a weight from 0 to 1. The explorer compares weights and thresholds exactly at each of these steps."""

MAX_EVENTS = 200
"""Events that are listed at most, those with the largest mass."""

THUMBNAIL_WIDTH = 160
"""Pixels across a frame of the film strip."""


@dataclass
class _Packer:
    """Joins arrays into one compressed block. Bytes of equal place lie together, which compresses far better."""

    parts: list[bytes] = field(default_factory=list)
    layout: dict[str, list[Any]] = field(default_factory=dict)

    def add(self, name: str, values: Tensor | NDArray[Any], dtype: str) -> None:
        array = np.ascontiguousarray(values.detach().cpu().numpy() if isinstance(values, Tensor) else values)
        array = array.astype(np.dtype(dtype).newbyteorder("<"))
        planes = array.view(np.uint8).reshape(array.size, array.itemsize).T
        self.parts.append(planes.tobytes())
        self.layout[name] = [dtype, array.size]

    def whole(self, name: str, values: Tensor) -> None:
        """Whole numbers ≥ −1 in the smallest type that holds them, −1 as the largest number of that type."""
        wide = int(values.max()) >= 2**16 - 1 if values.numel() else False
        self.add(name, values.cpu().numpy().astype(np.int64) & (2**32 - 1 if wide else 2**16 - 1),
                 "uint32" if wide else "uint16")  # fmt: skip

    def scores(self, name: str, values: Tensor) -> list[float]:
        """Real numbers in 65,536 steps from the least to the largest, which are returned."""
        array = values.detach().cpu().double().numpy()
        low, high = (float(array.min()), float(array.max())) if array.size else (0.0, 0.0)
        step = (high - low) or 1.0
        self.add(name, ((array - low) / step * 65535).round(), "uint16")
        return [low, high]

    def block(self) -> str:
        return base64.b64encode(zlib.compress(b"".join(self.parts))).decode()


def explorer_data(
    video: Video | None,
    selections: Selection | Mapping[str, Selection],
    tokens: VideoTokens | None = None,
    graph: SpatioTemporalGraph | None = None,
    *,
    events: Sequence[Event] | None = None,
    video_index: int = 0,
    frames: tuple[int, int] | None = None,
    images: bool = True,
) -> dict[str, Any]:
    """The data of one explorer: plain Python values that JSON can hold.

    Args:
        video: T frames, or None where there are only features.
        selections: one selection, or two by name that are to be compared. Both of the same tokens.
        tokens: what was selected from, possibly a batch.
        graph: of these tokens, with all its edges. Built from ``tokens`` when not given. Without both there are no
            edges and no slider for τ_sim.
        events: of the first selection; found when not given.
        video_index: which video of the batch.
        frames: (first, last) frame to show, both included. By default all, or, where there are more than
            :data:`MAX_VERTICES` vertices, the part with the most event tokens.
        images: whether to include the frames as pictures.

    Raises:
        StgraphError: selections, tokens, graph and video that do not belong together, or no such frames.
    """
    runs = {"selection": selections} if isinstance(selections, Selection) else dict(selections)
    if not 1 <= len(runs) <= 2:
        raise StgraphError(f"the explorer shows one or two selections, got {len(runs)}; choose two of them")
    first_run = next(iter(runs.values()))
    check_number("video_index", video_index, at_least=0, below=len(first_run.budget), integer=True)
    for name, selection in runs.items():
        _check_same(name, selection, first_run, tokens)
    if graph is None and tokens is not None:
        graph = build_graph(tokens)
    elif graph is not None and tokens is None and len(graph.token) and int(graph.token[-1]) >= len(first_run.verdict):
        raise StgraphError("the graph has more vertices than the selection has tokens; give the graph of its tokens")
    if len(first_run.budget) > 1:
        start = int((first_run.batch < video_index).sum())
        runs = {name: selection.video(video_index) for name, selection in runs.items()}
        if graph is not None:
            graph = graph.video(video_index)
            graph = replace(graph, token=graph.token - start)
    first_run = next(iter(runs.values()))
    separator = first_run.verdict == int(Verdict.SEPARATOR)
    if graph is not None:
        token = graph.token
    elif tokens is not None:
        token = (~tokens.video(video_index).separator).nonzero()[:, 0]
    else:  # dropped separators cannot be distinguished from tokens here: both have no community
        token = ((first_run.community >= 0) | ~separator).nonzero()[:, 0]
    coords = first_run.coords[token]
    total = len(video) if video is not None else (int(coords[:, 0].max()) + 1 if len(coords) else 1)
    if len(coords) and int(coords[:, 0].max()) >= total:
        raise StgraphError(
            f"the selection has tokens in frame {int(coords[:, 0].max())}, the video has {total} frames; "
            "give the video that was selected from"
        )
    notes: list[str] = []
    span = _span(first_run, coords, total, frames, notes)
    inside = ((coords[:, 0] >= span[0]) & (coords[:, 0] <= span[1])).nonzero()[:, 0]
    token, coords = token[inside], coords[inside]
    if events is None:
        events = found_events(first_run, graph)
    height, width = _area(tokens, video_index, coords)

    pack = _Packer()
    place = ((coords[:, 0] - span[0]) * (height + 1) + coords[:, 1].clamp(min=0)) * (width + 1) + coords[:, 2]
    pack.add("place", np.diff(place.cpu().numpy(), prepend=0), "int32")
    pack.add("token", np.diff(token.cpu().numpy(), prepend=0), "int32")
    if graph is not None:
        _pack_graph(pack, graph, inside)
    data: dict[str, Any] = {
        "grid": [total, height, width],
        "span": list(span),
        "vertices": len(token),
        "size": [video.width, video.height] if video is not None else [width, height],
        "seconds": [round(s, 3) for s in video.timestamps.tolist()] if video is not None else None,
        "hasGraph": graph is not None,
        "levels": LEVELS,
        "runs": [_run(pack, number, name, run, token) for number, (name, run) in enumerate(runs.items())],
        "events": [_event(event) for event in largest_events(events, MAX_EVENTS)],
        "verdicts": [{"name": v.name.lower(), "colour": VERDICT_COLOURS[v], "kept": v in KEPT} for v in Verdict],
        "palette": [hexadecimal(colour) for colour in community_palette()],
        "alone": ALONE_COLOUR,
        "heat": [hexadecimal(colour) for colour in heat_colours(np.linspace(0, 1, 32))],
        "edgeColours": EDGE_COLOURS,
        "comparison": COMPARISON_COLOURS,
        "images": _thumbnails(video, span) if video is not None and images else None,
        "notes": notes,
    }
    if graph is None:
        data["notes"].append("Edges and the τ_sim slider need the tokens: give them to show, or draw a finished run.")
    data["layout"], data["packed"] = pack.layout, pack.block()
    return data


def found_events(selection: Selection, graph: SpatioTemporalGraph | None) -> list[Event]:
    """The events of one selection of one video, from the event tokens that it holds."""
    if graph is None:
        return []
    marked = (selection.candidate[graph.token] & 2) > 0
    return group_events(graph, selection.difference[graph.token], marked)


def largest_events(events: Sequence[Event], count: int) -> list[Event]:
    """The events with the largest mass, in order of time."""
    largest = sorted(events, key=lambda event: -event.mass)[:count]
    return sorted(largest, key=lambda event: (event.first_frame, event.box))


def _check_same(name: str, selection: Selection, other: Selection, tokens: VideoTokens | None) -> None:
    if tokens is not None and len(selection.verdict) != len(tokens):
        raise StgraphError(
            f"{name} was made from {len(selection.verdict)} tokens, got {len(tokens)}; "
            "give the tokens that were selected from"
        )
    if not torch.equal(selection.coords.cpu(), other.coords.cpu()) or len(selection.budget) != len(other.budget):
        raise StgraphError(f"{name} and the first selection have different tokens; compare selections of one video")


def _area(tokens: VideoTokens | None, index: int, coords: Tensor) -> tuple[int, int]:
    """Rows and columns of the grid."""
    if tokens is not None:
        grid = tokens.grids[index]
        return grid.height, grid.width
    if not len(coords):
        return 1, 1
    return int(coords[:, 1].max()) + 1, int(coords[:, 2].max()) + 1


def _span(
    selection: Selection, coords: Tensor, total: int, frames: tuple[int, int] | None, notes: list[str]
) -> tuple[int, int]:
    """First and last frame to show."""
    if frames is not None:
        first, last = frames
        check_number("the first frame", first, at_least=0, at_most=last, integer=True)
        check_number("the last frame", last, at_least=first, below=total, integer=True)
        return first, last
    counts = torch.bincount(coords[:, 0].cpu(), minlength=total)
    if int(counts.sum()) <= MAX_VERTICES:
        return 0, total - 1
    many = max(1, MAX_VERTICES // max(1, int(counts.max())))
    marked = ((selection.candidate & 2) > 0).cpu()
    per_frame = torch.bincount(selection.coords.cpu()[marked, 0], minlength=total)[:total]
    sums = torch.cat([per_frame.new_zeros(1), per_frame.cumsum(0)])
    first = int((sums[many:] - sums[:-many]).argmax())
    notes.append(
        f"The graph has {int(counts.sum()):,} vertices. Frames {first} to {first + many - 1} of {total:,} are shown: "
        "the part with the most event tokens. Communities are shown only as far as these frames."
    )
    return first, first + many - 1


def _pack_graph(pack: _Packer, graph: SpatioTemporalGraph, inside: Tensor) -> None:
    """Edges by weight level, and the merge forest as leaves in order, each with its level of joining the one before."""
    if len(inside) < graph.num_nodes:
        chosen = torch.zeros(graph.num_nodes, dtype=torch.bool, device=graph.token.device)
        chosen[inside] = True
        number = torch.cumsum(chosen, 0) - 1
        edges = chosen[graph.edge_index].all(0)
        ends, weight = number[graph.edge_index[:, edges]], graph.edge_weight[edges]
        kind = graph.edge_kind[edges]
        graph = replace(
            graph,
            edge_index=ends,
            edge_weight=weight,
            edge_kind=kind,
            coords=graph.coords[inside],
            batch=graph.batch[inside],
            token=graph.token[inside],
            norm=graph.norm[inside],
        )
    pairs = graph.edge_index.cpu().numpy()
    order = np.lexsort((pairs[1], pairs[0]))
    pairs = pairs[:, order]
    pack.add("edgeFrom", np.diff(pairs[0], prepend=0), "int32")
    pack.add("edgeStep", pairs[1] - pairs[0], "int32")
    pack.add("edgeKind", (graph.edge_kind == TEMPORAL).cpu().numpy()[order], "uint8")
    pack.add("edgeLevel", weight_level(graph.edge_weight)[order], "int16")
    tree = merge_tree(graph)
    level = np.append(weight_level(tree.weight), -32768)  # below every threshold: never joined
    joined = level[tree.joined.numpy()]
    pack.add("leaves", np.diff(tree.leaves.numpy(), prepend=0), "int32")
    pack.add("joined", joined, "int16")


def weight_level(weight: Tensor) -> NDArray[np.int64]:
    """The highest step k of a threshold k / :data:`LEVELS` at which an edge of this weight stays: (E,) int64.

    An edge stays at a threshold exactly as in :meth:`SpatioTemporalGraph.prune`, which compares on the grid of weights.
    """
    steps = (weight.detach().cpu().double() / GRID).floor().numpy()
    thresholds = np.round(np.arange(-LEVELS, LEVELS + 1) / LEVELS / GRID)
    return np.searchsorted(thresholds, steps, side="right") - 1 - LEVELS


def _run(pack: _Packer, number: int, name: str, selection: Selection, token: Tensor) -> dict[str, Any]:
    """One selection: its arrays go into the block, the rest is returned."""
    community = selection.community[token]
    key = f"{number}."
    pack.add(key + "verdict", selection.verdict[token].int() + 16 * selection.candidate[token].int(), "uint8")
    pack.whole(key + "community", community)
    pack.whole(key + "rank", _ranks(selection)[token])
    ranges = {
        score: pack.scores(key + score, getattr(selection, score)[token])
        for score in ("centrality", "difference", "importance")
    }
    threshold = selection.method.get("similarity_threshold")
    known = selection.importance - selection.margin
    sizes = torch.bincount(selection.community[selection.community >= 0])
    stay = torch.bincount(
        selection.community[selection.community >= 0],
        weights=(selection.candidate[selection.community >= 0] & 1).double(),
    )
    pack.whole(key + "sizes", sizes)
    pack.whole(key + "stay", stay.long())
    total = int(selection.coords[:, 0].max()) + 1 if len(selection.coords) else 1
    return {
        "name": name,
        "method": str(selection.method.get("name", "selection")),
        "community": _word(selection.method.get("community")),
        "threshold": float(threshold) if isinstance(threshold, (int, float)) else None,
        "retention": _number(selection.method.get("retention")),
        "kept": len(selection),
        "tokens": len(selection.verdict),
        "ranges": ranges,
        "lowestKept": float(known[0]) if len(known) else 0.0,
        "hasCandidates": bool(selection.candidate.any()),
        "perFrame": verdicts_per_frame(selection, total).tolist(),
        "digest": selection.digest,
    }


def _ranks(selection: Selection) -> Tensor:
    """(N,) int64 place of each token in its community by centrality, 0 = most central; −1 without a community."""
    rank = torch.full_like(selection.community, -1)
    inside = (selection.community >= 0).nonzero()[:, 0]
    if len(inside):
        labels = torch.unique(selection.community[inside], return_inverse=True)[1]
        rank[inside] = community_ranks(labels, torch.bincount(labels), selection.centrality[inside])
    return rank


def _word(value: Any) -> str | None:
    if isinstance(value, Mapping):
        return str(value.get("name"))
    return None if value is None else str(value)


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None


def _event(event: Event) -> dict[str, Any]:
    return {
        "first": event.first_frame,
        "last": event.last_frame,
        "peak": event.peak_frame,
        "box": list(event.box),
        "size": event.size,
        "mass": round(event.mass, 3),
    }


def _thumbnails(video: Video, span: tuple[int, int]) -> list[str]:
    return [data_uri(image_of(video.frames[t], THUMBNAIL_WIDTH)) for t in range(span[0], span[1] + 1)]
