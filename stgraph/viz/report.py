"""The report of one run: a single HTML file with the frames, the tokens and every reason, readable offline."""

from __future__ import annotations

import base64
import contextlib
import html
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any
from uuid import uuid4

import numpy as np
import torch
from torch import Tensor

from ..community.partition import Partition
from ..difference.base import Difference, temporal_difference
from ..difference.events import Event
from ..errors import StgraphError, check_number, readable
from ..graph import SpatioTemporalGraph
from ..selectors.metrics import Quality, columns
from ..selectors.selection import KEPT, Selection, Verdict
from ..tokens import VideoTokens
from ..video import Video
from .charts import threshold_name
from .colours import ALONE_COLOUR, VERDICT_COLOURS, community_palette, heat_colours, hexadecimal
from .explorer import asset, explorer_data, json_for_script
from .explorer.data import largest_events
from .images import data_uri, image_of
from .overlay import frame_sheet
from .summary import difference_per_frame, verdicts_per_frame, weight_histogram

MAX_FRAMES = 128
"""Frames that a report shows at most; of more, this many are chosen evenly."""

FRAME_WIDTH = 480
"""Pixels across a frame of the report, or fewer where the video has fewer."""

MAX_EVENTS = 200
"""Events that a report lists at most, those with the largest mass."""

MIN_EVENT_SIZE = 3
"""Tokens of the smallest event that is listed; smaller ones are counted in one sentence."""


def write_report(
    path: str | Path,
    *,
    video: Video,
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
        video: T frames of this one video.
        tokens: what was selected from, possibly a batch.
        selection: of these tokens.
        graph: of these tokens, with all its edges.
        partition: of the graph's vertices.
        difference: of the graph's vertices.
        events: of the difference, computed when not given; those of at least :data:`MIN_EVENT_SIZE` tokens are listed.
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
    run = _one_video(video, tokens, selection, graph, partition, difference, events, similarity_threshold, video_index)
    page = Template(_asset("html")).substitute(
        css=_asset("css"),
        js=_asset("js"),
        data=json.dumps(_data(run), separators=(",", ":"), allow_nan=False).replace("<", "\\u003c"),
        name=_escape(readable(Path(video.source).name) if video.source else "video"),
        method=_escape(str(selection.method.get("name", "selection"))),
        lead=_escape(_lead(run)),
        notes=_list((*video.notes, *selection.notes), "notes"),
        cards=_cards(run, quality),
        sheet=data_uri(frame_sheet(video, run.selection, run.grid, frames=12, width=280)),
        subset=_subset(run),
        explorer_css=asset("css") if run.graph is not None else "",
        explorer_js=asset("js") if run.graph is not None else "",
        explorer=_explorer(run),
        tables=_tables(run, quality, seconds or {}),
        config=_escape(_yaml(config or {})),
        digest=selection.digest,
        versions=_escape(" · ".join(f"{name} {version}" for name, version in (versions or {}).items())),
    )
    _write(Path(path), page)


def _explorer(run: _Run) -> str:
    """The data of the explorer, whose pictures are those of the report; ``null`` where there is no graph."""
    if run.graph is None:
        return "null"
    graph = replace(run.graph, token=run.graph.token - run.first_token)
    found = explorer_data(run.video, run.selection, run.tokens, graph, events=run.events, images=False)
    return json_for_script(found)


# -- what is shown ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Run:
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
        return self.tokens.grids[0]

    @property
    def embedded(self) -> list[int]:
        """Numbers of the frames that the report shows."""
        frames = self.grid.frames
        if frames <= MAX_FRAMES:
            return list(range(frames))
        return [int(t) for t in np.linspace(0, frames - 1, MAX_FRAMES).round()]

    @property
    def retention(self) -> float | None:
        """Of the selector, where it goes by one and not by a number of tokens."""
        value = None if self.selection.method.get("tokens") else self.selection.method.get("retention")
        return float(value) if isinstance(value, (int, float)) else None

    def count(self, *verdicts: Verdict) -> int:
        return sum(self.selection.counts[verdict.name.lower()] for verdict in verdicts)


def _one_video(
    video: Video,
    tokens: VideoTokens,
    selection: Selection,
    graph: SpatioTemporalGraph | None,
    partition: Partition | None,
    difference: Difference | None,
    events: Sequence[Event] | None,
    similarity_threshold: float | None,
    index: int,
) -> _Run:
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
    return _Run(
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


def _data(run: _Run) -> dict[str, Any]:
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
        "events": [_event_data(event) for event in _largest(run.events)],
        "start": _first_frame(run),
    }


def _difference_data(run: _Run) -> dict[str, Any]:
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


def _weight_data(run: _Run) -> dict[str, Any] | None:
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


def _first_frame(run: _Run) -> int:
    """The frame that the report opens on: the peak of the first listed event, else the one with most kept tokens."""
    listed = _largest(run.events)
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


def _largest(events: Iterable[Event]) -> list[Event]:
    """The listed events: of those that are large enough the ones with the largest mass, in order of time."""
    return largest_events([event for event in events if event.size >= MIN_EVENT_SIZE], MAX_EVENTS)


def _packed(values: Tensor, dtype: str) -> dict[str, str]:
    array = values.detach().cpu().numpy().astype(np.dtype(dtype).newbyteorder("<"))
    return {"dtype": dtype, "base64": base64.b64encode(array.tobytes()).decode()}


# -- text and tables --------------------------------------------------------------------------------------------------


def _lead(run: _Run) -> str:
    video, (frames, height, width) = run.video, run.grid
    visual, kept = _visual(run)
    span = f"{float(video.timestamps[0]):.2f} to {float(video.timestamps[-1]):.2f} s"
    text = (
        f"{_many(frames, 'frame')} of {video.width} × {video.height} pixels, {span}. "
        f"Of {_many(visual, 'token')} ({height} × {width} a frame) {kept:,} stay: {_percent(kept, visual)}."
    )
    separators = run.tokens.num_separators
    if separators:
        left = int(run.selection.mask[run.tokens.separator].sum())
        seen = f"{kept + left:,} of {visual + separators:,}"
        text += f" Of {_many(separators, 'separator')} {left:,} stay, so that the language model sees {seen}."
    return text


def _cards(run: _Run, quality: Sequence[tuple[str, Quality]]) -> str:
    visual, kept = _visual(run)
    cards = [(f"{kept:,}", "tokens kept", f"of {visual:,}, {_percent(kept, visual)}")]
    if len(run.sizes):
        alone = int((run.sizes == 1).sum())
        more = f"{alone:,} of one token, largest {int(run.sizes.max()):,}"
        cards.append((f"{len(run.sizes):,}", "communities", more))
    if run.difference is not None:
        marked, stayed = int(run.difference.marked.sum()), run.count(Verdict.EVENT, Verdict.BOTH)
        large = sum(event.size >= MIN_EVENT_SIZE for event in run.events)
        cards.append((f"{large:,}", "events", f"{marked:,} event tokens, {stayed:,} kept"))
    if quality:
        (_, own), others = quality[0], quality[1:]
        for name, field in (("coverage", "coverage"), ("reconstruction error", "reconstruction_error")):
            floors = ", ".join(f"{other} {getattr(figures, field):.3f}" for other, figures in others)
            cards.append((f"{getattr(own, field):.3f}", name, f"floor: {floors}" if floors else ""))
    if "selection" in run.selection.seconds:
        cards.append((_duration(run.selection.seconds["selection"]), "to select", _many(len(run.tokens), "token")))
    return "\n".join(
        f'<div class="card"><b>{_escape(number)}</b><span>{_escape(what)}</span><small>{_escape(more)}</small></div>'
        for number, what, more in cards
    )


def _tables(run: _Run, quality: Sequence[tuple[str, Quality]], seconds: Mapping[str, float]) -> str:
    parts = []
    if quality:
        parts.append(_panel("Quality", _quality_table(quality), wide=True))
    if run.events:
        listed, large = len(_largest(run.events)), sum(event.size >= MIN_EVENT_SIZE for event in run.events)
        title = f"Events ({large:,})"
        if large > listed:
            title += f", the {listed} with the largest mass"
        parts.append(_panel(title, _event_table(run), wide=True))
    parts.append(_panel("Budget", _rows(_budget(run))))
    if seconds or run.selection.seconds:
        parts.append(_panel("Time", _time_table(seconds, run.selection.seconds)))
    return "\n".join(parts)


def _time_table(stages: Mapping[str, float], parts: Mapping[str, float]) -> str:
    """Stages one below the other; below "select" its parts, indented."""
    rows = []
    inner = {name: value for name, value in parts.items() if name not in (*stages, "selection")}
    for name, value in stages.items():
        rows.append(f"<tr>{_cell(name)}{_cell(_duration(value))}</tr>")
        if name == "select":
            rows += _part_rows(inner)
    if "select" not in stages:
        rows += _part_rows(inner)
    if stages:
        rows.append(f"<tr>{_cell('together', best=True)}{_cell(_duration(sum(stages.values())), best=True)}</tr>")
    note = '<p class="caption">Indented: parts of the selection.</p>' if inner and stages else ""
    return f"<table><tbody>{''.join(rows)}</tbody></table>{note}"


def _part_rows(parts: Mapping[str, float]) -> list[str]:
    return [f'<tr class="part">{_cell(name)}{_cell(_duration(value))}</tr>' for name, value in parts.items()]


def _quality_table(quality: Sequence[tuple[str, Quality]]) -> str:
    body = [[_cell(name)] for name, _ in quality]
    table = columns([figures for _, figures in quality])
    for column in table:
        known = [value for value in column.values if value is not None]
        best = {"higher": max, "lower": min}[column.better](known) if column.better and known else None
        for row, value in zip(body, column.values, strict=True):
            row.append(_cell("–" if value is None else f"{value:.4f}", best=best is not None and value == best))
    arrows = {"higher": " ↑", "lower": " ↓", None: ""}
    head = ["Method", *(column.title.capitalize() + arrows[column.better] for column in table)]
    caption = (
        "Coverage: mean similarity of a token to the most similar kept one. Reconstruction error: share of the energy "
        "that is lost when every token is projected on that one. "
    )
    caption = _verdict_on_coverage(quality) + caption
    if any(column.title == "event recall" for column in table):
        caption += "Event recall: share of the known event tokens that were kept, the mean over the kinds of events. "
    return _table(head, ["".join(row) for row in body]) + f'<p class="caption">{caption}Best in bold.</p>'


def _verdict_on_coverage(quality: Sequence[tuple[str, Quality]]) -> str:
    """One sentence on what the coverage means beside that of the floors."""
    (name, own), floors = quality[0], quality[1:]
    if not floors:
        return ""
    best_name, best = max(floors, key=lambda floor: floor[1].coverage)
    if own.coverage >= best.coverage:
        return f"{_escape(name)} covers the video better than {_escape(best_name)} tokens do. "
    return (
        f"{_escape(name)} covers the video less well than {_escape(best_name)} tokens do ({own.coverage:.3f} against "
        f"{best.coverage:.3f}): it spends its budget where something happens, which coverage does not reward. "
    )


def _event_table(run: _Run) -> str:
    rows, attributes = [], []
    for number, event in enumerate(_largest(run.events)):
        first, last, peak = (
            float(run.video.timestamps[t]) for t in (event.first_frame, event.last_frame, event.peak_frame)
        )
        top, left, bottom, right = event.box
        cells = (
            f'<canvas data-thumb="{number}" width="96" height="54" aria-hidden="true"></canvas>',
            _KIND_WORDS[event.kind],
            f"{first:.2f} s" if first == last else f"{first:.2f} – {last:.2f} s",
            _span(event.first_frame, event.last_frame),
            f"{_span(top, bottom - 1)}, {_span(left, right - 1)}",
            f"{event.size:,}",
            f"{event.mass:.2f}",
            f"{peak:.2f} s",
        )
        rows.append(f"<td>{cells[0]}</td>" + "".join(_cell(cell) for cell in cells[1:]))
        attributes.append(f' data-event="{number}" tabindex="0"')
    small = sum(event.size < MIN_EVENT_SIZE for event in run.events)
    rest = f" {_many(small, 'event')} of fewer than {MIN_EVENT_SIZE} tokens not listed." if small else ""
    return _table(
        ("At its peak", "Kind", "Time", "Frames", "Rows, columns", "Tokens", "Mass", "Peak"), rows, attributes
    ) + (
        '<p class="caption">Marked tokens that touch in space and time. A frame in which most tokens are marked is a '
        "cut, several in a row are a transition, and no other event passes through them. Mass: sum of the differences. "
        f"A click shows the event at its peak.{rest}</p>"
    )


_KIND_WORDS = {"local": "in a part", "cut": "cut", "transition": "transition"}


def _budget(run: _Run) -> list[tuple[str, str]]:
    visual, _ = _visual(run)
    candidate = run.selection.candidate.long()
    union = int((candidate > 0).sum())
    rows = [("Tokens N", f"{visual:,}")]
    if run.retention is not None:
        rows.append(("Retention r", f"{run.retention:g}"))
    rows.append(("Budget", f"{run.selection.budget[0]:,}"))
    if union:
        rows.append(("Representatives |T_rep|", f"{int((candidate & 1).sum()):,}"))
        rows.append(("Events |T_event|", f"{int((candidate >> 1).sum()):,}"))
        rows.append(("Candidates, their union", f"{union:,}"))
        rows.append(("Trimmed by importance", f"{run.count(Verdict.TRIMMED):,}"))
    rows.append(("Filled by importance", f"{run.count(Verdict.FILLED):,}"))
    if run.tokens.num_separators:
        left = int(run.selection.mask[run.tokens.separator].sum())
        rows.append(("Separators", f"{left:,} of {run.tokens.num_separators:,}"))
    rows.append(("Kept in all", f"{len(run.selection):,}"))
    return rows


def _visual(run: _Run) -> tuple[int, int]:
    """Number of tokens that are no separators, and of those kept."""
    visual = ~run.tokens.separator
    return int(visual.sum()), int(run.selection.mask[visual].sum())


def _subset(run: _Run) -> str:
    shown = len(run.embedded)
    return "" if shown == run.grid.frames else f" {shown} of the {run.grid.frames:,} frames are shown, evenly chosen."


def _panel(title: str, body: str, *, wide: bool = False) -> str:
    css_class = "panel wide" if wide else "panel"
    more = '<p class="more">Scroll sideways for more columns →</p>'
    area = f'<div class="scroll" tabindex="0" role="group" aria-label="{_escape(title)}">{body}</div>'
    return f'<section class="{css_class}"><h2>{_escape(title)}</h2>{more}{area}</section>'


def _rows(rows: Iterable[tuple[str, str]]) -> str:
    body = "".join(f"<tr>{_cell(name)}{_cell(value)}</tr>" for name, value in rows)
    return f"<table><tbody>{body}</tbody></table>"


def _table(head: Iterable[str], rows: Sequence[str], attributes: Sequence[str] = ()) -> str:
    titles = "".join(f'<th scope="col">{_escape(title)}</th>' for title in head)
    opened = attributes or [""] * len(rows)
    body = "".join(f"<tr{attribute}>{cells}</tr>" for attribute, cells in zip(opened, rows, strict=True))
    return f"<table><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table>"


def _cell(text: str, *, best: bool = False) -> str:
    return f"<td><b>{_escape(text)}</b></td>" if best else f"<td>{_escape(text)}</td>"


def _list(sentences: Sequence[str], css_class: str) -> str:
    if not sentences:
        return ""
    return f'<ul class="{css_class}">' + "".join(f"<li>{_escape(sentence)}</li>" for sentence in sentences) + "</ul>"


def _escape(text: str) -> str:
    return html.escape(text, quote=True)


def _many(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def _span(first: int, last: int) -> str:
    return f"{first}" if first == last else f"{first} – {last}"


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f}\N{NO-BREAK SPACE}%" if whole else "0\N{NO-BREAK SPACE}%"


def _duration(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.3g} ms"


def _yaml(config: Mapping[str, Any]) -> str:
    import yaml

    try:
        return yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True, width=100)
    except yaml.YAMLError as error:
        raise StgraphError(f"config must be plain data that YAML can hold: {error}") from error


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
