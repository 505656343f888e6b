"""The report: valid, self-contained HTML whose data are those of the selection."""

from __future__ import annotations

import base64
import dataclasses
import json
import re
import struct
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from stgraph import Selection, StgraphError, STSimDiff, Verdict, Video, VideoTokens, build_graph
from stgraph.registry import registry
from stgraph.selectors.metrics import evaluate
from stgraph.viz.report import write_report
from stgraph.viz.report_data import MAX_EVENTS, MAX_FRAMES

from ..strategies import features

VOID = {"meta", "link", "img", "input", "br", "hr", "source"}


class Page(HTMLParser):
    """Checks that elements nest, and collects text and attributes."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: dict[str, str] = {}
        self.ids: list[str] = []
        self.feed(source)
        self.close()
        assert not self.stack, f"left open: {self.stack}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.elements.append((tag, attributes))
        if attributes.get("id"):
            self.ids.append(str(attributes["id"]))
        if tag not in VOID:
            self.stack.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        tag, attributes = self.elements[-1] if self.elements else ("", {})
        key = str(attributes.get("id") or tag)
        self.text[key] = self.text.get(key, "") + data


def run(tokens: VideoTokens, source: str = "clips/garden.mp4", index: int = 0, **options: Any) -> dict[str, Any]:
    """All arguments of ``write_report`` for these tokens."""
    selector = STSimDiff(**options)
    graph = build_graph(tokens)
    frames = tokens.grids[index].frames
    g = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (frames, 3, 36, 64), generator=g, dtype=torch.uint8)
    return {
        "video": Video(pixels, torch.arange(frames, dtype=torch.float64) / 5, source=source),
        "tokens": tokens,
        "selection": selector(tokens),
        "graph": graph,
        "partition": selector.community(graph.prune(0.8)),
        "difference": selector.difference(graph),
        "video_index": index,
    }


def dense(frames: int = 6, height: int = 4, width: int = 7, seed: int = 3, **layout: Any) -> VideoTokens:
    return VideoTokens.from_grid(features(frames, height, width, 8, seed), **layout)


def written(path: Path, arguments: dict[str, Any]) -> tuple[Page, dict[str, Any], str]:
    write_report(path / "report.html", **arguments)
    assert [entry.name for entry in path.iterdir()] == ["report.html"], "nothing half-written is left"
    source = (path / "report.html").read_text("utf-8")
    page = Page(source)
    return page, json.loads(page.text["data"]), source


def unpacked(packed: dict[str, str]) -> np.ndarray:
    return np.frombuffer(base64.b64decode(packed["base64"]), dtype=np.dtype(packed["dtype"]).newbyteorder("<"))


def test_page_is_whole_and_loads_nothing(tmp_path: Path) -> None:
    page, _, source = written(tmp_path, run(dense()))
    assert len(page.ids) == len(set(page.ids))
    assert source.startswith("<!doctype html>")
    for tag, attributes in page.elements:
        assert tag not in {"link", "iframe", "object", "embed", "base"}
        for name in ("src", "href", "srcset", "action", "data", "poster"):
            assert (attributes.get(name) or "data:").startswith("data:")
        assert not any(name.startswith("on") for name in attributes)
    assert not re.search(r"https?://|url\(|@import|\bfetch\(|XMLHttpRequest|import\(", source)
    policy = next(a["content"] for _, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert "default-src 'none'" in policy


def test_script_uses_only_elements_and_data_that_exist(tmp_path: Path) -> None:
    page, data, source = written(tmp_path, run(dense()))
    script = source.rsplit("<script>", 1)[1]
    assert set(re.findall(r'\$\("(\w+)"\)', script)) <= set(page.ids)
    assert set(re.findall(r"\bdata\.([a-zA-Z]+)", script)) <= set(data)
    assert set(re.findall(r"\btoken\.(\w+)\[", script)) <= set(data["tokens"])
    assert {v["name"] for v in data["verdicts"]} == set(re.findall(r"^    (\w+): \"", script, re.MULTILINE))


@pytest.mark.parametrize("layout", [{}, {"newline": True}])
def test_data_match_the_selection(tmp_path: Path, layout: dict[str, bool]) -> None:
    arguments = run(dense(**layout), retention=0.4)
    _, data, _ = written(tmp_path, arguments)
    selection: Selection = arguments["selection"]
    tokens: VideoTokens = arguments["tokens"]
    for name in ("verdict", "community", "centrality", "difference", "importance", "margin"):
        assert (unpacked(data["tokens"][name]) == getattr(selection, name).numpy()).all(), name
    columns = tokens.grids[0].width + 1
    cell = unpacked(data["tokens"]["cell"]).astype(np.int64)
    assert (cell == (selection.coords[:, 1] * columns + selection.coords[:, 2]).numpy()).all()
    assert data["grid"] == list(tokens.grids[0])
    for entry in data["frames"]:
        rows = (selection.coords[:, 0] == entry["frame"]).nonzero()[:, 0]
        assert (entry["first"], entry["last"]) == (int(rows[0]), int(rows[-1]) + 1)
        assert entry["token"] == int(rows[0])
    assert data["sizes"] == torch.bincount(selection.community[selection.community >= 0]).tolist()
    assert [v["count"] for v in data["verdicts"]] == [selection.counts[v.name.lower()] for v in Verdict]
    assert np.array(data["kept"]).sum() == len(tokens)
    difference = arguments["difference"]
    frame = arguments["graph"].coords[:, 0]
    marked = torch.bincount(frame[difference.marked], minlength=len(data["frames"]))
    assert data["difference"]["marked"] == marked.tolist()
    assert data["difference"]["threshold"] == pytest.approx(0.8)
    assert {line["label"]: line["value"] for line in data["weights"]["lines"]} == pytest.approx(
        {"τ_sim": 0.8, "τ_diff": 0.2}
    )


def test_frames_are_small_jpegs_of_the_video(tmp_path: Path) -> None:
    arguments = run(dense(2))
    frames = torch.zeros(2, 3, 300, 1000, dtype=torch.uint8)
    frames[1, 0] = 200
    arguments["video"] = Video(frames, torch.tensor([0.0, 1.0], dtype=torch.float64))
    _, data, _ = written(tmp_path, arguments)
    images = [Image.open(BytesIO(base64.b64decode(e["image"].partition(",")[2]))) for e in data["frames"]]
    assert [(image.format, image.size) for image in images] == [("JPEG", (480, 144))] * 2
    assert np.abs(np.asarray(images[1], dtype=int).mean((0, 1)) - (200, 0, 0)).max() < 4


def test_hostile_strings_are_text(tmp_path: Path) -> None:
    name = "</script><script>alert(1)</script><img src=x onerror=alert(2)>&quot;.mp4"
    arguments = run(dense(), source=name)
    arguments["video"] = dataclasses.replace(arguments["video"], notes=("<b>note</b>",))
    quality = evaluate(arguments["tokens"], arguments["selection"])
    arguments |= {
        "config": {"video": name, "other": "$name ${css} </pre>"},
        "versions": {"<i>x</i>": "<u>1</u>"},
        "seconds": {"<s>": 1.0},
        "quality": [("<em>", quality)],
    }
    page, data, source = written(tmp_path, arguments)
    tags = [tag for tag, _ in page.elements]
    assert tags.count("script") == 4, "data and code of the report and of the explorer"
    assert not {"i", "u", "em", "s"} & set(tags)
    assert source.count("<img") == 1, "the sheet alone"
    assert "&lt;img src=x" in source
    assert "&lt;b&gt;note" in source
    assert yaml.safe_load(page.text["config"]) == arguments["config"]
    assert data["grid"] == [6, 4, 7]


def test_many_frames_are_thinned_and_it_is_said(tmp_path: Path) -> None:
    frames = MAX_FRAMES + 40
    _, data, source = written(tmp_path, run(dense(frames, 2, 2)))
    shown = [entry["frame"] for entry in data["frames"]]
    assert len(shown) == MAX_FRAMES
    assert (shown[0], shown[-1]) == (0, frames - 1)
    assert max(np.diff(shown)) <= 2
    assert len(data["kept"]) == len(data["difference"]["mean"]) == frames
    assert len(unpacked(data["tokens"]["verdict"])) == MAX_FRAMES * 4
    assert f"{MAX_FRAMES} of the {frames} frames are shown" in source
    (tmp_path / "report.html").unlink()
    _, _, few = written(tmp_path, run(dense()))
    assert "frames are shown, evenly chosen" not in few


def test_many_events_are_cut_to_the_largest(tmp_path: Path) -> None:
    arguments = run(dense())
    event = registry("difference").build({"name": "threshold", "threshold": 0.9})(arguments["graph"])
    one = event.events(arguments["graph"])[0]
    events = [dataclasses.replace(one, mass=float(n)) for n in range(MAX_EVENTS + 50)]
    page, data, source = written(tmp_path, arguments | {"events": events})
    assert min(entry["mass"] for entry in data["events"]) == 50
    assert len(data["events"]) == sum("data-event" in attributes for _, attributes in page.elements) == MAX_EVENTS
    assert f"Events ({MAX_EVENTS + 50}), the {MAX_EVENTS} with the largest mass" in source


def test_budget_and_separators_add_up(tmp_path: Path) -> None:
    arguments = run(dense(newline=True), retention=0.3)
    _, _, source = written(tmp_path, arguments)
    selection: Selection = arguments["selection"]
    cells = dict(re.findall(r"<tr><td>([^<]*)</td><td>([^<]*)</td></tr>", source))
    count = {name: int(cells[name].replace(",", "")) for name in cells if cells[name].replace(",", "").isdigit()}
    assert count["Tokens N"] == 6 * 4 * 6
    assert count["Budget"] == selection.budget[0]
    assert count["Kept in all"] == len(selection)
    assert cells["Separators"] == f"{selection.counts['separator']} of 24"
    overlap = int((selection.candidate == 3).sum())
    union = count["Representatives |T_rep|"] + count["Events |T_event|"] - overlap
    assert count["Candidates, their union"] == union
    assert count["Trimmed by importance"] + count["Budget"] - count["Filled by importance"] == union
    assert f"the language model sees {len(selection)} of {len(arguments['tokens'])}" in source


def test_quality_table_marks_the_best(tmp_path: Path) -> None:
    arguments = run(dense())
    tokens = arguments["tokens"]
    rows = [("simdiff", evaluate(tokens, arguments["selection"]))]
    for name in ("random", "uniform"):
        rows.append((name, evaluate(tokens, registry("selector").build({"name": name})(tokens))))
    _, _, source = written(tmp_path, arguments | {"quality": rows})
    best = max(quality.coverage for _, quality in rows)
    assert f"<td><b>{best:.4f}</b></td>" in source
    assert "Event recall" not in source, "no events are known"


@pytest.mark.parametrize(
    "video",
    [
        torch.ones(1, 1, 1, 4),
        torch.ones(3, 2, 2, 4),
        torch.zeros(2, 3, 3, 4),
        features(1, 5, 5, 8, seed=0),
        torch.eye(4)[:, None, None].expand(4, 1, 3, 4).contiguous(),
    ],
    ids=["one token", "all alike", "zero vectors", "one frame", "all change"],
)
def test_degenerate_videos(tmp_path: Path, video: torch.Tensor) -> None:
    for number, difference in enumerate(("threshold", "none", "percentile")):
        folder = tmp_path / str(number)
        folder.mkdir()
        spec = {"name": "simdiff", "difference": difference}
        selector = registry("selector").build(spec)
        tokens = VideoTokens.from_grid(video)
        arguments = run(tokens)
        arguments |= {"selection": selector(tokens), "difference": selector.difference(arguments["graph"])}
        _, data, _ = written(folder, arguments)
        assert len(data["frames"]) == len(video)


def test_methods_without_a_graph(tmp_path: Path) -> None:
    arguments = run(dense())
    tokens = arguments["tokens"]
    selection = registry("selector").build({"name": "random", "retention": 0.5})(tokens)
    page, data, _ = written(tmp_path, {"video": arguments["video"], "tokens": tokens, "selection": selection})
    assert data["sizes"] == []
    assert data["weights"] is None
    assert data["events"] == []
    assert not any("data-event" in attributes for _, attributes in page.elements)


def test_scores_that_are_no_similarity_have_no_line_among_edge_weights(tmp_path: Path) -> None:
    arguments = run(dense())
    difference = arguments["difference"]
    arguments["difference"] = dataclasses.replace(difference, score=difference.score * 3, threshold=(2.4,))
    _, data, _ = written(tmp_path, arguments)
    assert [line["label"] for line in data["weights"]["lines"]] == ["τ_sim"]


def test_a_video_of_a_batch_is_reported_as_if_alone(tmp_path: Path) -> None:
    first, second = dense(3, 2, 4, seed=1), dense(5, 3, 3, seed=2)
    (tmp_path / "alone").mkdir()
    (tmp_path / "batch").mkdir()
    _, alone, _ = written(tmp_path / "alone", run(second))
    _, batch, _ = written(tmp_path / "batch", run(VideoTokens.cat([first, second]), index=1))
    for entry in batch["frames"]:
        entry["token"] -= len(first)
    assert batch == alone


def test_what_does_not_fit_is_told_and_nothing_is_written(tmp_path: Path) -> None:
    arguments = run(dense())
    other = run(dense(6, 4, 6))
    path = tmp_path / "report.html"
    for changes, message in (
        ({"selection": other["selection"]}, "the selection was made from 144 tokens, got 168"),
        ({"video": run(dense(2))["video"]}, "video 0 has 6 frames of tokens, but 2 frames"),
        ({"partition": other["partition"]}, "the partition has 144 vertices, the graph has 168"),
        ({"difference": other["difference"]}, "the difference has 144 vertices, the graph has 168"),
        ({"graph": None}, "give the graph too"),
        ({"video_index": 1}, "video_index must be"),
        ({"config": {"x": object()}}, "config must be plain data"),
    ):
        with pytest.raises(StgraphError, match=message):
            write_report(path, **(arguments | changes))
    with pytest.raises(StgraphError, match="cannot be written"):
        write_report(tmp_path / "missing" / "report.html", **arguments)
    assert not list(tmp_path.iterdir())


def test_sixty_four_frames_stay_small(tmp_path: Path) -> None:
    arguments = run(dense(64, 14, 25))
    ramp = (np.indices((270, 480)).sum(0) // 3 % 256).astype(np.uint8)
    frame = torch.from_numpy(np.stack([ramp, ramp.T[:, :1].repeat(480, 1)[:270], 255 - ramp]))
    arguments["video"] = Video(frame.expand(64, -1, -1, -1), arguments["video"].timestamps)
    _, data, source = written(tmp_path, arguments)
    per_token = sum(len(packed["base64"]) for packed in data["tokens"].values())
    assert per_token <= 4 / 3 * 64 * 14 * 25 * struct.calcsize("<IBi4f") + 64
    assert len(source) < 2_000_000
