"""The explorer's data: what the page computes from them is what the library computes."""

from __future__ import annotations

import base64
import json
import re
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stgraph import Selection, StgraphError, STSimDiff, Verdict, Video, VideoTokens, build_graph
from stgraph.community import COMMUNITIES
from stgraph.registry import registry
from stgraph.viz.explorer import asset, data, explore, explorer_data

from ..strategies import features, videos


def unpacked(found: dict[str, Any]) -> dict[str, np.ndarray]:
    """The arrays of the packed block, as the page reads them."""
    block = zlib.decompress(base64.b64decode(found["packed"]))
    arrays, start = {}, 0
    for name, (dtype, count) in found["layout"].items():
        width = np.dtype(dtype).itemsize
        planes = np.frombuffer(block, np.uint8, count * width, start).reshape(width, count)
        arrays[name] = np.ascontiguousarray(planes.T).view(np.dtype(dtype).newbyteorder("<")).reshape(-1)
        start += count * width
    assert start == len(block)
    return arrays


def groups(arrays: dict[str, np.ndarray], level: int) -> list[int]:
    """The smallest vertex of every vertex's community at a level, as the page finds it."""
    leaves, head = np.cumsum(arrays["leaves"]), -1
    group = [-1] * len(leaves)
    for place, (leaf, joined) in enumerate(zip(leaves.tolist(), arrays["joined"].tolist(), strict=True)):
        if place == 0 or joined < level:
            head = leaf
        group[leaf] = head
    return group


def clip(frames: int, height: int = 36, width: int = 64) -> Video:
    g = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (frames, 3, height, width), generator=g, dtype=torch.uint8)
    return Video(pixels, torch.arange(frames, dtype=torch.float64) / 5, source="clips/garden.mp4")


def selected(frames: int = 6, height: int = 4, width: int = 7, **options: Any) -> tuple[VideoTokens, Selection]:
    tokens = VideoTokens.from_grid(features(frames, height, width, 8, 3))
    return tokens, STSimDiff(retention=0.4, **options)(tokens)


@settings(max_examples=30)
@given(videos(), st.integers(-data.LEVELS, data.LEVELS))
def test_communities_and_edges_of_every_threshold(tokens: VideoTokens, level: int) -> None:
    selection = STSimDiff(retention=0.5)(tokens)
    arrays, graph = unpacked(explorer_data(None, selection, tokens)), build_graph(tokens)
    labels = COMMUNITIES.build("components")(graph.prune(level / data.LEVELS)).labels
    first: dict[int, int] = {}
    for vertex, label in enumerate(labels.tolist()):
        first.setdefault(label, vertex)
    assert groups(arrays, level) == [first[label] for label in labels.tolist()]
    ends = np.stack([np.cumsum(arrays["edgeFrom"]), np.cumsum(arrays["edgeFrom"]) + arrays["edgeStep"]])
    stay = {tuple(pair) for pair in ends[:, arrays["edgeLevel"] >= level].T.tolist()}
    assert stay == {tuple(pair) for pair in graph.prune(level / data.LEVELS).edge_index.T.tolist()}


@settings(max_examples=20)
@given(videos())
def test_what_a_click_tells_is_what_why_tells(tokens: VideoTokens) -> None:
    selection = STSimDiff(retention=0.4)(tokens)
    found = explorer_data(None, selection, tokens)
    arrays, run = unpacked(found), found["runs"][0]
    token = np.cumsum(arrays["token"])
    assert torch.equal(torch.from_numpy(token), build_graph(tokens).token)
    _, height, width = tokens.grids[0]
    place = np.cumsum(arrays["place"])
    across, area = width + 1, (height + 1) * (width + 1)
    coords = np.stack([place // area, place % area // across, place % across], 1)
    assert coords.tolist() == selection.coords[token].tolist()
    assert (arrays["0.verdict"] & 15).tolist() == selection.verdict[token].tolist()
    assert (arrays["0.verdict"] >> 4).tolist() == selection.candidate[token].tolist()
    community = [c if c < 2**16 - 1 else -1 for c in arrays["0.community"].tolist()]
    assert community == selection.community[token].tolist()
    for name in ("centrality", "difference", "importance"):
        low, high = run["ranges"][name]
        steps = arrays[f"0.{name}"] / 65535 * (high - low) + low
        np.testing.assert_allclose(steps, selection_of(selection, name)[token], atol=(high - low) / 65535 + 1e-6)
    for vertex in range(0, len(token), 7):
        rank, size = int(arrays["0.rank"][vertex]), int(arrays["0.sizes"][community[vertex]])
        if size > 1:
            stay = int(arrays["0.stay"][community[vertex]])
            why = selection.why(int(token[vertex]))
            assert (
                f"has {size} tokens, of which the {stay} most central represent it, and it is number {rank + 1} " in why
            )


def selection_of(selection: Selection, name: str) -> np.ndarray:
    values: np.ndarray = getattr(selection, name).double().numpy()
    return values


def test_a_whole_clip_is_small() -> None:
    tokens = VideoTokens.from_grid(features(64, 11, 18, 16, 3))
    found = explorer_data(clip(64, 180, 320), STSimDiff(retention=0.3)(tokens), tokens, images=False)
    assert len(json.dumps(found)) + len(asset("js")) + len(asset("css")) < 400_000  # noise: of real clips about 220,000


def test_two_selections_and_what_they_have_in_common() -> None:
    tokens, one = selected()
    two = registry("selector").build({"name": "random", "retention": 0.4})(tokens)
    page = explore(clip(6), {"paper": one, "<random>": two}, tokens).page()
    assert "&lt;random&gt; keeps" in page
    assert "<random>" not in page
    with pytest.raises(StgraphError, match="one or two selections, got 3"):
        explorer_data(clip(6), {"a": one, "b": two, "c": one}, tokens)
    other = STSimDiff(retention=0.4)(VideoTokens.from_grid(features(6, 7, 4, 8, 3)))
    with pytest.raises(StgraphError, match="have different tokens"):
        explorer_data(clip(6), {"a": one, "b": other})


def test_the_page_loads_nothing_and_holds_its_data(tmp_path: Path) -> None:
    tokens, selection = selected()
    path = explore(clip(6), selection, tokens, title="a & b").save(tmp_path / "explorer.html")
    page = path.read_text("utf-8")
    assert "<title>a &amp; b" in page
    assert not re.search(r"(?:src|href)\s*=\s*[\"']?(?:https?:)?//", page)
    found = json.loads(page.split('id="data">')[1].split("</script>")[0])
    assert found["vertices"] == len(tokens)
    assert len(found["images"]) == 6


def test_without_tokens_it_says_what_is_missing() -> None:
    _, selection = selected()
    found = explorer_data(clip(6), selection)
    assert not found["hasGraph"]
    assert "need the tokens" in found["notes"][0]


def test_large_graphs_show_the_part_with_the_most_events(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "MAX_VERTICES", 4 * 28)
    tokens, selection = selected(frames=20)
    found = explorer_data(clip(20), selection, tokens)
    first, last = found["span"]
    per_frame = torch.bincount(selection.coords[selection.candidate >= 2, 0], minlength=20)
    most = max(int(per_frame[t : t + 4].sum()) for t in range(17))
    assert (last - first + 1, int(per_frame[first : last + 1].sum())) == (4, most)
    assert found["notes"] == [
        f"The graph has 560 vertices. Frames {first} to {last} of 20 are shown: the part with the most event tokens. "
        "Communities are shown only as far as these frames."
    ]
    graph = build_graph(tokens)
    inside = [(first <= graph.coords[v, 0] <= last) for v in range(graph.num_nodes)]
    expected = sum(inside[a] and inside[b] for a, b in graph.edge_index.T.tolist())
    assert found["layout"]["edgeFrom"][1] == expected
    chosen = explorer_data(clip(20), selection, tokens, frames=(2, 3))
    assert chosen["vertices"] == 56


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 3, 3), (5, 1, 1)])
def test_the_smallest_videos(shape: tuple[int, int, int]) -> None:
    tokens = VideoTokens.from_grid(features(*shape, 8, 3))
    found = explorer_data(clip(shape[0]), STSimDiff(retention=0.5)(tokens), tokens)
    assert len(groups(unpacked(found), 0)) == found["vertices"] == len(tokens)


def test_a_video_of_a_batch_is_shown_as_if_alone() -> None:
    parts = [VideoTokens.from_grid(features(t, 3, 4, 8, t)) for t in (4, 6)]
    batch = VideoTokens.cat(parts)
    selector = STSimDiff(retention=0.5)
    of_batch = explorer_data(clip(6), selector(batch), batch, video_index=1)
    alone = explorer_data(clip(6), selector(parts[1]), parts[1])
    assert {**of_batch, "runs": 0} == {**alone, "runs": 0}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"video": clip(3)}, "tokens in frame 5, the video has 3 frames; give the video that was selected from"),
        ({"tokens": VideoTokens.from_grid(features(2, 2, 2, 8, 0))}, "was made from 168 tokens, got 8"),
        ({"video_index": 1}, "video_index must be a whole number ≥ 0 and < 1"),
        ({"frames": (4, 2)}, "the first frame must be a whole number ≥ 0 and ≤ 2"),
        ({"frames": (4, 9)}, "the last frame must be a whole number ≥ 4 and < 6"),
    ],
)
def test_what_does_not_belong_together_is_told(change: dict[str, Any], sentence: str) -> None:
    tokens, selection = selected()
    given_values = {"video": clip(6), "selections": selection, "tokens": tokens} | change
    with pytest.raises(StgraphError, match=re.escape(sentence)):
        explorer_data(**given_values)


def test_a_page_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    tokens, selection = selected()
    with pytest.raises(StgraphError, match="cannot be written"):
        explore(clip(6), selection, tokens).save(tmp_path / "missing" / "page.html")


def test_in_a_notebook_it_is_a_widget_with_a_page_to_fall_back_on(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens, selection = selected()
    explorer = explore(clip(6), selection, tokens)
    monkeypatch.setitem(sys.modules, "anywidget", None)  # not installed
    bundle = explorer._repr_mimebundle_()
    assert set(bundle) == {"text/html", "text/plain"}
    assert 'sandbox="allow-scripts"' in bundle["text/html"]
    with pytest.raises(StgraphError, match="needs the library anywidget"):
        explorer.widget()


def test_every_verdict_has_a_reason_in_the_page() -> None:
    reasons = asset("js").split("const REASONS = {")[1].split("};")[0]
    assert [line.split(":")[0].strip() for line in reasons.strip().splitlines()] == [v.name.lower() for v in Verdict]
