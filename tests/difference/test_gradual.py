"""On rendered clips: a slow fade that the paper's threshold misses is found, without more false events on noise."""

from __future__ import annotations

import pytest
import torch

from stgraph import Video, build_graph
from stgraph.difference import DIFFERENCES
from stgraph.encoders.descriptor import Descriptor
from stgraph.sample import event_tokens, render_events

SIZE = (96, 160)


@pytest.fixture(scope="module")
def clips():
    """Graph and known event tokens of 4 s clips at 8 frames a second; the fade takes 2 s."""
    found = {}
    for kind in ("fade", "noise", "cut"):
        clip = render_events(kind, size=SIZE, fps=8, seconds=4)
        assert isinstance(clip.video, Video)
        tokens = Descriptor(tokens_per_frame=60)(clip.video).tokens
        found[kind] = build_graph(tokens), event_tokens(clip.events, tokens, SIZE)
    (fade,) = clip_events("fade")
    assert fade.end_seconds - fade.start_seconds == 2
    return found


def clip_events(kind):
    return render_events(kind, size=SIZE, fps=8, seconds=4).events


def precision_and_recall(name, graph, truth):
    marked = DIFFERENCES.build(name)(graph).marked
    hits = int((marked & truth).sum())
    return hits / max(int(marked.sum()), 1), hits / int(truth.sum())


def test_drift_finds_the_fade_that_the_paper_misses(clips):
    assert int(clips["fade"][1].sum()) > 100
    assert precision_and_recall("threshold", *clips["fade"])[1] == 0
    precision, recall = precision_and_recall("drift", *clips["fade"])
    assert precision > 0.8
    assert recall > 0.7


def test_drift_has_no_more_false_events_on_noise(clips):
    graph, truth = clips["noise"]
    assert not bool(truth.any())
    false = {name: int(DIFFERENCES.build(name)(graph).marked.sum()) for name in ("threshold", "drift")}
    assert false["drift"] <= false["threshold"] == 0
    assert float(DIFFERENCES.build("drift")(graph).score.max()) > 0, "there is noise"


def test_drift_finds_a_cut_as_the_paper_does(clips):
    graph, truth = clips["cut"]
    drift, paper = (DIFFERENCES.build(name)(graph).marked for name in ("drift", "threshold"))
    assert torch.equal(drift, paper)
    assert precision_and_recall("drift", graph, truth)[1] > 0.9
