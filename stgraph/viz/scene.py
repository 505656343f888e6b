"""Scene: one video with its selection and graph, ready to be drawn by one word or shown as the explorer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch

from ..community.partition import Partition
from ..difference.base import Difference
from ..difference.events import Event, group_events
from ..errors import StgraphError, check_choice, check_number
from ..graph import SpatioTemporalGraph, build_graph
from ..graph.merge_tree import MergeTree, merge_tree
from ..selectors.selection import Selection
from ..tokens import Grid, VideoTokens
from ..video import Video

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .explorer import Explorer


@dataclass(frozen=True, eq=False)
class Scene:
    """What pictures of one video are drawn from. Make one with :func:`scene`.

    Attributes:
        selection: of this one video.
        grid: (T, h, w) of its tokens.
        video: its T frames, or None where there are only features.
        graph: of its tokens, or None where their features are gone.
        known_events: events to show instead of those that the selection's event tokens form.
    """

    selection: Selection
    grid: Grid
    video: Video | None = None
    graph: SpatioTemporalGraph | None = None
    known_events: tuple[Event, ...] | None = None

    @property
    def timestamps(self) -> list[float] | None:
        """Seconds of the frames, where they are known."""
        return None if self.video is None else self.video.timestamps.tolist()

    @property
    def threshold(self) -> float | None:
        """τ_sim of the selection, where it is a fixed number."""
        value = self.selection.method.get("similarity_threshold")
        return float(value) if isinstance(value, (int, float)) else None

    @cached_property
    def partition(self) -> Partition:
        """Communities of the graph's vertices.

        Raises:
            StgraphError: the method has no communities, or there is no graph.
        """
        labels = self.selection.community[self._graph("communities").token]
        if bool((labels < 0).any()):
            name = self.selection.method.get("name", "this method")
            raise StgraphError(f"{name} finds no communities, so there are none to draw; choose another kind")
        return Partition(torch.unique(labels, return_inverse=True)[1], dict(self.selection.method))

    @cached_property
    def difference(self) -> Difference:
        """Difference scores and event tokens of the graph's vertices, as the selection holds them."""
        token = self._graph("differences").token
        marked = (self.selection.candidate[token] & 2) > 0
        return Difference(self.selection.difference[token], marked, (float("inf"),))

    @cached_property
    def events(self) -> list[Event]:
        """The events, in order of time."""
        if self.known_events is not None:
            return list(self.known_events)
        return group_events(self._graph("events"), self.difference.score, self.difference.marked)

    @cached_property
    def tree(self) -> MergeTree:
        """The merge tree of the graph."""
        return merge_tree(self._graph("the merge tree"))

    def _graph(self, needed_by: str) -> SpatioTemporalGraph:
        if self.graph is None:
            raise StgraphError(f"{needed_by} need the graph: give the tokens that were selected from")
        return self.graph

    def _video(self, kind: str) -> Video:
        if self.video is None:
            raise StgraphError(f"the picture {kind!r} is drawn on frames: give the video")
        return self.video

    def draw(self, kind: str, **options: Any) -> Figure:
        """One picture as a matplotlib figure.

        Args:
            kind: a name of :data:`KINDS`.
            options: of the function behind it.

        Raises:
            StgraphError: no such kind, an option that it does not have, or something that it needs is missing.
        """
        check_choice("kind", kind, KINDS)
        try:
            return KINDS[kind](self, **options)
        except TypeError as error:
            if "keyword argument" not in str(error):
                raise
            raise StgraphError(f"the picture {kind!r} has no such option: {error}") from error

    def explore(self, **options: Any) -> Explorer:
        """The explorer of this video; options are those of :func:`~stgraph.viz.explorer.explore`."""
        from .explorer import explore

        events = self.events if self.graph is not None else None
        return explore(self.video, self.selection, None, self.graph, **{"events": events, **options})


def scene(
    selection: Selection,
    video: Video | None = None,
    tokens: VideoTokens | None = None,
    graph: SpatioTemporalGraph | None = None,
    *,
    grid: Grid | None = None,
    events: tuple[Event, ...] | None = None,
    video_index: int = 0,
) -> Scene:
    """One video of a selection, ready to be drawn.

    Args:
        selection: of one or many videos.
        video: T frames of the chosen one, or None.
        tokens: what was selected from. The graph is built from them unless it is given.
        graph: of these tokens, with all its edges.
        grid: (T, h, w), where there are no tokens to read it from; else the smallest that holds all tokens.
        events: to show, where they are not those of the event tokens.
        video_index: which video of the batch.

    Raises:
        StgraphError: values that do not belong together, or no such video.
    """
    from dataclasses import replace

    check_number("video_index", video_index, at_least=0, below=len(selection.budget), integer=True)
    if tokens is not None and len(tokens) != len(selection.verdict):
        raise StgraphError(
            f"the selection was made from {len(selection.verdict)} tokens, got {len(tokens)}; "
            "give the tokens that were selected from"
        )
    if graph is None and tokens is not None:
        graph = build_graph(tokens)
    if graph is not None and graph.num_nodes and int(graph.token[-1]) >= len(selection.verdict):
        raise StgraphError("the graph has more vertices than the selection has tokens; give the graph of its tokens")
    if tokens is not None:
        grid = tokens.grids[video_index]
    if len(selection.budget) > 1:
        start = int((selection.batch < video_index).sum())
        selection = selection.video(video_index)
        if graph is not None:
            graph = graph.video(video_index)
            graph = replace(graph, token=graph.token - start)
    if grid is None:
        places = selection.coords if graph is None else selection.coords[graph.token]
        frames, height, width = (int(v) + 1 for v in places.amax(0)) if len(places) else (1, 1, 1)
        grid = Grid(len(video) if video is not None else frames, height, width)
    if video is not None and len(video) != grid.frames:
        raise StgraphError(
            f"the selection has {grid.frames} frames, the video has {len(video)}; give the video of the selection"
        )
    return Scene(selection, grid, video, graph, events)


def _space_time(found: Scene, **options: Any) -> Figure:
    from .space_time import space_time_graph

    marked = None if found.graph is None else found.difference
    threshold = found.threshold
    if threshold is not None:
        options.setdefault("similarity_threshold", threshold)
    if "frames" not in options:
        options["frames"] = _telling(found)
    graph, partition = found._graph("the space-time graph"), found.partition
    return space_time_graph(found._video("graph"), graph, partition, found.grid, difference=marked, **options)


def _telling(found: Scene) -> list[int]:
    """Two frames: the peak of the largest event and the one before it, else the first two."""
    frames = found.grid.frames
    if frames == 1:
        return [0]
    peak = max(found.events, key=lambda e: e.mass).peak_frame if found.events else 1
    peak = max(1, peak)
    return [peak - 1, peak]


def _kinds() -> dict[str, Callable[..., Figure]]:
    from . import charts, communities, maps, merges, strips

    return {
        "graph": _space_time,
        "river": lambda s, **o: communities.community_river(
            s.partition, s.graph, s.grid.frames, **{"timestamps": s.timestamps, "events": s.events, **o}
        ),
        "communities": lambda s, **o: communities.community_graph(
            s._graph("communities"), s.partition, **{"timestamps": s.timestamps, **o}
        ),
        "dendrogram": lambda s, **o: merges.merge_dendrogram(s.tree, **{"threshold": s.threshold, **o}),
        "barcode": lambda s, **o: merges.persistence_barcode(s.tree, **{"threshold": s.threshold, **o}),
        "events": lambda s, **o: strips.event_strip(s.events, s.grid, video=s.video, **o),
        "filmstrip": lambda s, **o: strips.filmstrip(s._video("filmstrip"), s.selection, s.grid, **o),
        "difference": lambda s, **o: maps.difference_map(s.selection, s.grid, **{"timestamps": s.timestamps, **o}),
        "kept": lambda s, **o: charts.kept_chart(s.selection, s.grid, **{"timestamps": s.timestamps, **o}),
        "sizes": lambda s, **o: charts.community_size_chart(s.partition, **o),
        "weights": lambda s, **o: charts.edge_weight_chart(
            s._graph("edge weights"), **{"similarity_threshold": s.threshold, **o}
        ),
    }


class _Kinds(Mapping[str, Callable[..., "Figure"]]):
    """The pictures by name; their modules are imported when one is drawn."""

    _names = ("graph", "river", "communities", "dendrogram", "barcode", "events", "filmstrip", "difference", "kept",
              "sizes", "weights")  # fmt: skip

    def __getitem__(self, name: str) -> Callable[..., Figure]:
        return _kinds()[name]

    def __iter__(self) -> Any:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


KINDS: Mapping[str, Callable[..., Figure]] = _Kinds()
"""Every picture that :meth:`Scene.draw` and ``stgraph draw`` know, by name."""
