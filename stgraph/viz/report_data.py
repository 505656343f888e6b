"""What a report shows of one run, and the plain data that its script draws."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..community.partition import Partition
from ..difference.base import Difference, temporal_difference
from ..difference.events import Event
from ..errors import StgraphError
from ..graph import SpatioTemporalGraph
from ..selectors.selection import KEPT, Selection, Verdict
from ..tokens import VideoTokens
from ..video import Video
from .charts import threshold_name
from .colours import ALONE_COLOUR, VERDICT_COLOURS, community_palette, heat_colours, hexadecimal
from .explorer.data import largest_events
from .images import data_uri, image_of
from .summary import difference_per_frame, verdicts_per_frame, weight_histogram

MAX_FRAMES = 128
"""Frames that a report shows at most; of more, this many are chosen evenly."""

FRAME_WIDTH = 480
"""Pixels across a frame of the report, or fewer where the video has fewer."""

MAX_EVENTS = 200
"""Events that a report lists at most, those with the largest mass."""

MIN_EVENT_SIZE = 3
"""Tokens of the smallest event that is listed; smaller ones are counted in one sentence."""

NO_FRAMES = "The frames are not known: tokens are shown on grey, as if there were one frame a second."
"""The note of a report whose frames are not known."""


# -- what is shown ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Run:
    """One video of a run; everything per token has one row for each of its N tokens, separators too."""

    video: Video
    tokens: VideoTokens
    selection: Selection
    graph: SpatioTemporalGraph | None
    difference: Difference | None
    community: Tensor
    sizes: Tensor
    score: Tensor
    events: list[Event]
    similarity_threshold: float | None
    first_token: int

    @property
    def grid(self) -> Any:
        """(T, H, W) of the tokens."""
        return self.tokens.grids[0]

    @property
    def embedded(self) -> list[int]:
        """Numbers of the frames that the report shows."""
        frames = self.grid.frames
        if frames <= MAX_FRAMES:
            return list(range(frames))
        return [int(t) for t in np.linspace(0, frames - 1, MAX_FRAMES).round()]

    @property
    def frames_known(self) -> bool:
        """Whether the frames are those of the video, not grey ones in their place."""
        return NO_FRAMES not in self.video.notes

    @property
    def retention(self) -> float | None:
        """Of the selector, where it goes by one and not by a number of tokens."""
        value = None if self.selection.method.get("tokens") else self.selection.method.get("retention")
        return float(value) if isinstance(value, (int, float)) else None

    def count(self, *verdicts: Verdict) -> int:
        """Number of tokens with one of these verdicts."""
        return sum(self.selection.counts[verdict.name.lower()] for verdict in verdicts)


def one_video(
    video: Video,
    tokens: VideoTokens,
    selection: Selection,
    graph: SpatioTemporalGraph | None,
    partition: Partition | None,
    difference: Difference | None,
    events: Sequence[Event] | None,
    similarity_threshold: float | None,
    index: int,
) -> Run:
    """One video of a batch, after a check that all parts fit together.

    Raises:
        StgraphError: parts that do not fit together.
    """
    if len(selection.verdict) != len(tokens) or len(selection.budget) != tokens.num_videos:
        raise StgraphError(
            f"the selection was made from {len(selection.verdict)} tokens, got {len(tokens)}; give those tokens"
        )
    if tokens.grids[index].frames != len(video):
        raise StgraphError(f"video {index} has {tokens.grids[index].frames} frames of tokens, but {len(video)} frames")
    if graph is None and (partition is not None or difference is not None):
        raise StgraphError("a partition and a difference need the graph that they belong to; give the graph too")
    if graph is not None:
        lengths = {
            "partition": graph.num_nodes if partition is None else len(partition.labels),
            "difference": graph.num_nodes if difference is None else len(difference.score),
        }
        for name, length in lengths.items():
            if length != graph.num_nodes:
                raise StgraphError(
                    f"the {name} has {length} vertices, the graph has {graph.num_nodes}; give the {name} of this graph"
                )
    part, chosen = tokens.video(index), selection.video(index)
    community, score = chosen.community, chosen.difference
    first_token = tokens.offsets[index]
    if graph is not None:
        vertices = graph.batch == index
        token = graph.token[vertices] - first_token
        if partition is not None:
            labels = partition.labels[vertices]
            labels = labels - labels.min() if len(labels) else labels
            community = torch.full_like(chosen.community, -1).index_copy(0, token, labels)
        if difference is not None:
            if events is None:
                events = difference.events(graph)
            difference = Difference(
                difference.score[vertices],
                difference.marked[vertices],
                difference.threshold[index : index + 1],
                difference.method,
            )
            score = torch.zeros_like(chosen.difference).index_copy(0, token, difference.score)
        graph = graph.video(index)
    return Run(
        video=video,
        tokens=part,
        selection=chosen,
        graph=graph,
        difference=difference,
        community=community,
        sizes=torch.bincount(community[community >= 0]),
        score=score,
        events=[event for event in events or () if event.video == index],
        similarity_threshold=similarity_threshold,
        first_token=first_token,
    )


# -- data for the viewer ----------------------------------------------------------------------------------------------


def viewer_data(run: Run) -> dict[str, Any]:
    """Everything that the script draws, as plain data; docs/report.md lists it."""
    embedded, selection = run.embedded, run.selection
    frame_of = selection.coords[:, 0].contiguous()
    bounds = torch.searchsorted(frame_of, torch.arange(run.grid.frames + 1, device=frame_of.device)).tolist()
    rows = torch.cat([torch.arange(bounds[t], bounds[t + 1], device=frame_of.device) for t in embedded])
    counts = np.cumsum([0, *(bounds[t + 1] - bounds[t] for t in embedded)]).tolist()
    cell = selection.coords[:, 1] * (run.grid.width + 1) + selection.coords[:, 2]
    per_token = {
        "cell": (cell[rows], "uint32"),
        "verdict": (selection.verdict[rows], "uint8"),
        "community": (run.community[rows], "int32"),
        "centrality": (selection.centrality[rows], "float32"),
        "difference": (run.score[rows], "float32"),
        "importance": (selection.importance[rows], "float32"),
        "margin": (selection.margin[rows], "float32"),
    }
    return {
        "grid": list(run.grid),
        "size": [run.video.width, run.video.height],
        "seconds": [round(second, 3) for second in run.video.timestamps.tolist()],
        "frames": [
            {
                "frame": t,
                "first": first,
                "last": last,
                "token": run.first_token + bounds[t],
                "image": data_uri(image_of(run.video.frames[t], FRAME_WIDTH)),
            }
            for t, first, last in zip(embedded, counts, counts[1:], strict=False)
        ],
        "tokens": {name: _packed(values, dtype) for name, (values, dtype) in per_token.items()},
        "sizes": run.sizes.tolist(),
        "verdicts": [
            {"name": v.name.lower(), "colour": VERDICT_COLOURS[v], "kept": v in KEPT, "count": run.count(v)}
            for v in Verdict
        ],
        "legend": [int(verdict) for verdict in VERDICT_COLOURS],
        "communityColours": [hexadecimal(colour) for colour in community_palette()],
        "aloneColour": ALONE_COLOUR,
        "heat": [hexadecimal(colour) for colour in heat_colours(np.linspace(0, 1, 64))],
        "kept": verdicts_per_frame(selection, run.grid.frames).tolist(),
        "difference": _difference_data(run),
        "weights": _weight_data(run),
        "events": [_event_data(event) for event in listed_events(run.events)],
        "start": _first_frame(run),
        "mode": "kept" if run.frames_known else "verdicts",
    }


def _difference_data(run: Run) -> dict[str, Any]:
    if run.difference is None or run.graph is None:
        frame = run.selection.coords[:, 0]
        marked = torch.bincount(frame[run.selection.candidate >= 2], minlength=run.grid.frames)
        return {"mean": None, "high": None, "marked": marked.tolist(), "threshold": None, "name": None}
    per_frame = difference_per_frame(run.difference, run.graph, run.grid.frames)
    threshold = run.difference.threshold[0]
    return {
        "mean": [round(float(value), 5) for value in per_frame.mean],
        "high": [round(float(value), 5) for value in per_frame.high],
        "marked": per_frame.marked.tolist(),
        "threshold": threshold if np.isfinite(threshold) else None,
        "name": threshold_name(run.difference),
    }


def _weight_data(run: Run) -> dict[str, Any] | None:
    if run.graph is None or not run.graph.num_edges:
        return None
    histogram = weight_histogram(run.graph)
    lines = []
    if run.similarity_threshold is not None:
        lines.append({"value": run.similarity_threshold, "label": "τ_sim"})
    # Only where scores are 1 − w does the threshold of the scores stand for an edge weight.
    difference = run.difference
    if (
        difference is not None
        and np.isfinite(difference.threshold[0])
        and torch.equal(difference.score, temporal_difference(run.graph))
    ):
        lines.append({"value": round(1 - difference.threshold[0], 6), "label": "τ_diff"})
    return {
        "edges": histogram.edges.round(4).tolist(),
        "spatial": histogram.spatial.tolist(),
        "temporal": histogram.temporal.tolist(),
        "lines": lines,
    }


def _first_frame(run: Run) -> int:
    """The frame that the report opens on: the peak of the first listed event, else the one with most kept tokens."""
    listed = listed_events(run.events)
    if listed:
        return listed[0].peak_frame
    kept = verdicts_per_frame(run.selection, run.grid.frames)[:, list(KEPT)].sum(1)
    return int(kept.argmax())


def _event_data(event: Event) -> dict[str, Any]:
    return {
        "kind": event.kind,
        "first": event.first_frame,
        "last": event.last_frame,
        "peak": event.peak_frame,
        "box": list(event.box),
        "size": event.size,
        "mass": round(event.mass, 4),
    }


def listed_events(events: Iterable[Event]) -> list[Event]:
    """The listed events: of those that are large enough the ones with the largest mass, in order of time."""
    return largest_events([event for event in events if event.size >= MIN_EVENT_SIZE], MAX_EVENTS)


def _packed(values: Tensor, dtype: str) -> dict[str, str]:
    array = values.detach().cpu().numpy().astype(np.dtype(dtype).newbyteorder("<"))
    return {"dtype": dtype, "base64": base64.b64encode(array.tobytes()).decode()}
