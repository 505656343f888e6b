"""The report of one run: a single HTML file with the frames, the tokens and every reason, readable offline."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any
from uuid import uuid4

import torch

from ..community.partition import Partition
from ..difference.base import Difference
from ..difference.events import Event
from ..errors import StgraphError, check_number, readable
from ..graph import SpatioTemporalGraph
from ..selectors.metrics import Quality
from ..selectors.selection import Selection
from ..tokens import Grid, VideoTokens
from ..video import Video
from .explorer import asset, explorer_data, json_for_script
from .images import data_uri
from .overlay import frame_sheet
from .report_data import NO_FRAMES, Run, one_video, viewer_data
from .report_text import card_list, escaped, lead_sentence, note_list, subset_note, table_sections, yaml_text


def write_report(
    path: str | Path,
    *,
    video: Video | None,
    tokens: VideoTokens,
    selection: Selection,
    graph: SpatioTemporalGraph | None = None,
    partition: Partition | None = None,
    difference: Difference | None = None,
    events: Sequence[Event] | None = None,
    similarity_threshold: float | None = None,
    quality: Sequence[tuple[str, Quality]] = (),
    config: Mapping[str, Any] | None = None,
    seconds: Mapping[str, float] | None = None,
    versions: Mapping[str, str] | None = None,
    video_index: int = 0,
) -> None:
    """Write the report of one video as one HTML file that loads nothing from anywhere.

    The file appears under its name only when it is complete. Sections for which nothing is given are left out.

    Args:
        path: of the file, replaced if it exists.
        video: T frames of this one video. None where only features are known, as for what a server selected: tokens are
            then shown on grey.
        tokens: what was selected from, possibly a batch.
        selection: of these tokens.
        graph: of these tokens, with all its edges.
        partition: of the graph's vertices.
        difference: of the graph's vertices.
        events: of the difference, computed when not given; those of at least
            :data:`~stgraph.viz.report_data.MIN_EVENT_SIZE` tokens are listed.
        similarity_threshold: τ_sim of this video; when not given, that of the selector if it is a fixed number.
        quality: (name, figures) of the method and of the methods it is compared with.
        config: full configuration, plain data that YAML can hold.
        seconds: time of each stage; the parts of the selection's time are known from the selection.
        versions: of the software.
        video_index: which video of the batch.

    Raises:
        StgraphError: inputs that do not fit together, no such video, or a file that cannot be written.
    """
    check_number("video_index", video_index, at_least=0, below=tokens.num_videos, integer=True)
    if similarity_threshold is None and isinstance(given := selection.method.get("similarity_threshold"), (int, float)):
        similarity_threshold = float(given)
    if video is None:
        video = _grey_frames(tokens.grids[video_index])
    run = one_video(video, tokens, selection, graph, partition, difference, events, similarity_threshold, video_index)
    page = Template(_asset("html")).substitute(
        css=_asset("css"),
        js=_asset("js"),
        data=json.dumps(viewer_data(run), separators=(",", ":"), allow_nan=False).replace("<", "\\u003c"),
        name=escaped(readable(Path(video.source).name) if video.source else "video"),
        method=escaped(str(selection.method.get("name", "selection"))),
        lead=escaped(lead_sentence(run)),
        notes=note_list((*video.notes, *selection.notes), "notes"),
        cards=card_list(run, quality),
        sheet=data_uri(frame_sheet(video, run.selection, run.grid, frames=12, width=280)),
        subset=subset_note(run),
        explorer_css=asset("css") if run.graph is not None else "",
        explorer_js=asset("js") if run.graph is not None else "",
        explorer=_explorer(run),
        tables=table_sections(run, quality, seconds or {}),
        config=escaped(yaml_text(config or {})),
        digest=selection.digest,
        versions=escaped(" · ".join(f"{name} {version}" for name, version in (versions or {}).items())),
    )
    _write(Path(path), page)


def _grey_frames(grid: Grid) -> Video:
    """Stands for frames that are not known: 16 × 16 pixels for each token."""
    frames = torch.full((grid.frames, 3, 16 * grid.height, 16 * grid.width), 96, dtype=torch.uint8)
    return Video(frames, torch.arange(grid.frames, dtype=torch.float64), notes=(NO_FRAMES,))


def _explorer(run: Run) -> str:
    """The data of the explorer, whose pictures are those of the report; ``null`` where there is no graph."""
    if run.graph is None:
        return "null"
    graph = replace(run.graph, token=run.graph.token - run.first_token)
    found = explorer_data(run.video, run.selection, run.tokens, graph, events=run.events, images=False)
    return json_for_script(found)


# -- files ------------------------------------------------------------------------------------------------------------


def _asset(kind: str) -> str:
    return resources.files("stgraph.viz").joinpath(f"report.{kind}").read_text("utf-8").rstrip("\n")


def _write(path: Path, page: str) -> None:
    unfinished = path.with_name(f".{uuid4().hex}.part")
    try:
        unfinished.write_text(page, "utf-8")
        unfinished.replace(path)
    except OSError as error:
        reason = error.strerror or error
        raise StgraphError(
            f"{readable(path)} cannot be written ({reason}); check the folder and the free space"
        ) from None
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink()
