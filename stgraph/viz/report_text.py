"""Sentences and tables of a report, as HTML."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..errors import StgraphError
from ..selectors.metrics import Quality, columns
from ..selectors.selection import Verdict
from .report_data import MIN_EVENT_SIZE, Run, listed_events


def lead_sentence(run: Run) -> str:
    """The text below the title: frames, tokens and separators before and after."""
    video, (frames, height, width) = run.video, run.grid
    visual, kept = _visual(run)
    first, last = (float(video.timestamps[t]) for t in (0, -1))
    size = f" of {video.width} × {video.height} pixels, {first:.2f} to {last:.2f} s" if run.frames_known else ""
    text = (
        f"{_many(frames, 'frame')}{size}. "
        f"Of {_many(visual, 'token')} ({height} × {width} a frame) {kept:,} stay: {_percent(kept, visual)}."
    )
    separators = run.tokens.num_separators
    if separators:
        left = int(run.selection.mask[run.tokens.separator].sum())
        seen = f"{kept + left:,} of {visual + separators:,}"
        text += f" Of {_many(separators, 'separator')} {left:,} stay, so that the language model sees {seen}."
    return text


def card_list(run: Run, quality: Sequence[tuple[str, Quality]]) -> str:
    """The headline figures, as HTML."""
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
        f'<div class="card"><b>{escaped(number)}</b><span>{escaped(what)}</span><small>{escaped(more)}</small></div>'
        for number, what, more in cards
    )


def table_sections(run: Run, quality: Sequence[tuple[str, Quality]], seconds: Mapping[str, float]) -> str:
    """All tables of the report, as HTML."""
    parts = []
    if quality:
        parts.append(_panel("Quality", _quality_table(quality), wide=True))
    if run.events:
        listed, large = len(listed_events(run.events)), sum(event.size >= MIN_EVENT_SIZE for event in run.events)
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
        return f"{escaped(name)} covers the video better than {escaped(best_name)} tokens do. "
    return (
        f"{escaped(name)} covers the video less well than {escaped(best_name)} tokens do ({own.coverage:.3f} against "
        f"{best.coverage:.3f}): it spends its budget where something happens, which coverage does not reward. "
    )


def _event_table(run: Run) -> str:
    rows, attributes = [], []
    for number, event in enumerate(listed_events(run.events)):
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


def _budget(run: Run) -> list[tuple[str, str]]:
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


def _visual(run: Run) -> tuple[int, int]:
    """Number of tokens that are no separators, and of those kept."""
    visual = ~run.tokens.separator
    return int(visual.sum()), int(run.selection.mask[visual].sum())


def subset_note(run: Run) -> str:
    """How many frames are shown where not all are; else nothing."""
    shown = len(run.embedded)
    return "" if shown == run.grid.frames else f" {shown} of the {run.grid.frames:,} frames are shown, evenly chosen."


def _panel(title: str, body: str, *, wide: bool = False) -> str:
    css_class = "panel wide" if wide else "panel"
    more = '<p class="more">Scroll sideways for more columns →</p>'
    area = f'<div class="scroll" tabindex="0" role="group" aria-label="{escaped(title)}">{body}</div>'
    return f'<section class="{css_class}"><h2>{escaped(title)}</h2>{more}{area}</section>'


def _rows(rows: Iterable[tuple[str, str]]) -> str:
    body = "".join(f"<tr>{_cell(name)}{_cell(value)}</tr>" for name, value in rows)
    return f"<table><tbody>{body}</tbody></table>"


def _table(head: Iterable[str], rows: Sequence[str], attributes: Sequence[str] = ()) -> str:
    titles = "".join(f'<th scope="col">{escaped(title)}</th>' for title in head)
    opened = attributes or [""] * len(rows)
    body = "".join(f"<tr{attribute}>{cells}</tr>" for attribute, cells in zip(opened, rows, strict=True))
    return f"<table><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table>"


def _cell(text: str, *, best: bool = False) -> str:
    return f"<td><b>{escaped(text)}</b></td>" if best else f"<td>{escaped(text)}</td>"


def note_list(sentences: Sequence[str], css_class: str) -> str:
    """Sentences as an HTML list; nothing without any."""
    if not sentences:
        return ""
    return f'<ul class="{css_class}">' + "".join(f"<li>{escaped(sentence)}</li>" for sentence in sentences) + "</ul>"


def escaped(text: str) -> str:
    """Text that may stand in HTML."""
    return html.escape(text, quote=True)


def _many(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def _span(first: int, last: int) -> str:
    return f"{first}" if first == last else f"{first} – {last}"


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f}\N{NO-BREAK SPACE}%" if whole else "0\N{NO-BREAK SPACE}%"


def _duration(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.3g} ms"


def yaml_text(config: Mapping[str, Any]) -> str:
    """A configuration as YAML.

    Raises:
        StgraphError: values that YAML cannot hold.
    """
    import yaml

    try:
        return yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True, width=100)
    except yaml.YAMLError as error:
        raise StgraphError(f"config must be plain data that YAML can hold: {error}") from error
