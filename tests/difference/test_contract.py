"""One contract for every registered difference detector, on every kind of graph."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
import torch

from stgraph import StgraphError, VideoTokens, build_graph
from stgraph.difference import DIFFERENCES, DifferenceDetector

from ..strategies import features

OTHER_PARAMETERS = {
    "threshold": {"threshold": 0.9},
    "percentile": {"percentile": 50},
    "robust_z": {"z": 1.0, "floor": 0.0},
    "noise": {"sigmas": 1.0, "floor": 0.0},
    "frame_relative": {"excess": 0.0},
    "drift": {"threshold": 0.9, "window": 5},
    "multiscale": {"distances": [3, 1], "combine": "weighted"},
    "running_mean": {"threshold": 0.9, "memory": 1.5},
    "second_difference": {"bend": 0.1, "causal": True},
    "spatial": {"threshold": 0.9, "connectivity": 4},
    "motion": {"threshold": 0.9, "radius": 2},
    "evs": {"share": 0.5},
}
DETECTORS = [{"name": name} for name in DIFFERENCES] + [
    {"name": name} | parameters for name, parameters in OTHER_PARAMETERS.items()
]


def holes(frames, height, width, share, seed=0):
    x = features(frames, height, width, 9, seed)
    mask = torch.rand(frames, height, width, generator=torch.Generator().manual_seed(seed)) < share
    return VideoTokens.from_grid(x, mask=mask)


def large():
    x = torch.randn(50, 32, 32, 8, generator=torch.Generator().manual_seed(0)).cumsum(0)
    return VideoTokens.from_grid(x)


TOKENS = {
    "nothing": lambda: holes(3, 2, 2, 0.0),
    "one vertex": lambda: VideoTokens.from_grid(torch.randn(1, 1, 1, 4)),
    "one frame": lambda: VideoTokens.from_grid(features(1, 5, 4, 7, 0)),
    "one position": lambda: VideoTokens.from_grid(features(9, 1, 1, 7, 0)),
    "ordinary": lambda: VideoTokens.from_grid(features(9, 4, 5, 17, 1)),
    "newlines": lambda: VideoTokens.from_grid(features(5, 3, 4, 6, 2), newline=True),
    "static": lambda: VideoTokens.from_grid(features(1, 4, 4, 8, 3).expand(7, 4, 4, 8)),
    "ties": lambda: VideoTokens.from_grid(torch.eye(2)[torch.arange(7 * 9).view(7, 3, 3) % 2]),
    "zero vectors": lambda: VideoTokens.from_grid(torch.zeros(4, 2, 3, 5)),
    "missing tokens": lambda: holes(12, 4, 5, 0.6),
    "few tokens": lambda: holes(12, 6, 6, 0.05),
    "float16": lambda: VideoTokens.from_grid(features(6, 3, 3, 17, 4).half()),
    "bfloat16": lambda: VideoTokens.from_grid(features(6, 3, 3, 17, 4).bfloat16()),
    "extreme": lambda: VideoTokens.from_grid(
        features(6, 3, 3, 17, 5) * torch.logspace(-36, 36, 6)[:, None, None, None]
    ),
    "50k": large,
}


@pytest.fixture(scope="module", params=TOKENS)
def graph(request):
    return build_graph(TOKENS[request.param]())


def build(config):
    return DIFFERENCES.build(config)


def label(config):
    return config["name"] + ("*" if len(config) > 1 else "")


every_detector = pytest.mark.parametrize("config", DETECTORS, ids=label)


def assert_same(a, b):
    assert torch.equal(a.score, b.score)
    assert torch.equal(a.marked, b.marked)
    assert a.threshold == b.threshold


@every_detector
def test_gives_valid_scores_and_leaves_the_graph_alone(config, graph):
    detector = build(config)
    before = {
        f.name: v.clone() for f in dataclasses.fields(graph) if isinstance(v := getattr(graph, f.name), torch.Tensor)
    }
    difference = detector(graph)
    assert difference.score.shape == difference.marked.shape == (graph.num_nodes,)
    assert difference.score.dtype == torch.float32
    assert difference.marked.dtype == torch.bool
    assert bool((difference.score.isfinite() & (difference.score >= 0)).all())
    assert len(difference.threshold) == 1
    assert difference.threshold[0] >= 0
    above = difference.score > difference.threshold[0]
    assert bool(difference.marked[above].all()), "what is above the threshold is marked"
    assert bool((difference.score[difference.marked] >= difference.threshold[0]).all()), "what is below it is not"
    for name, value in before.items():
        assert torch.equal(getattr(graph, name), value), name

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert_same(detector(graph), difference)
    finally:
        torch.set_num_threads(threads)


@every_detector
def test_parameters_survive_a_file(config):
    detector = build(config)
    stored = json.loads(json.dumps(DIFFERENCES.config(detector)))
    assert build(stored) == detector
    assert stored["name"] == config["name"]
    assert detector(build_graph(TOKENS["ordinary"]())).method == DIFFERENCES.config(detector)


@every_detector
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_a_batch_is_its_videos_one_by_one(config, order):
    g = torch.Generator().manual_seed(7)
    parts = [VideoTokens.from_grid(features(t, 3, w, 8, t)) for t, w in ((6, 4), (9, 2))]
    kept = torch.rand(len(parts[1]), generator=g) < 0.7
    parts[1] = parts[1].take(kept.nonzero()[:, 0])
    parts.append(parts[0].take(torch.zeros(0, dtype=torch.int64)))  # a video without a token
    parts = [parts[i] for i in order]
    detector = build(config)
    alone = [detector(build_graph(part)) for part in parts]
    together = detector(build_graph(VideoTokens.cat(parts)))
    assert torch.equal(together.score, torch.cat([one.score for one in alone]))
    assert torch.equal(together.marked, torch.cat([one.marked for one in alone]))
    assert together.threshold == tuple(one.threshold[0] for one in alone)


@every_detector
def test_works_without_any_edge(config):
    graph = build_graph(TOKENS["ordinary"](), edges=[])
    assert graph.num_edges == 0
    difference = build(config)(graph)
    assert bool(difference.score.isfinite().all())


@every_detector
def test_scale_of_a_token_does_not_matter(config):
    x = features(8, 3, 3, 17, 11)
    factors = 2.0 ** torch.randint(-8, 8, (8, 3, 3, 1), generator=torch.Generator().manual_seed(0))
    detector = build(config)
    first, second = (detector(build_graph(VideoTokens.from_grid(v))) for v in (x, x * factors))
    assert_same(first, second)


TEMPORAL = [c for c in DETECTORS if c["name"] not in ("spatial", "evs")]


@pytest.mark.parametrize("config", TEMPORAL, ids=label)
def test_nothing_happens_in_a_still_video(config):
    x = torch.randn(1, 4, 4, 32, generator=torch.Generator().manual_seed(1)).expand(12, 4, 4, 32)
    difference = build(config)(build_graph(VideoTokens.from_grid(x)))
    assert not bool(difference.marked.any())
    assert float(difference.score.max()) <= 2e-6


# "none" marks nothing and "spatial" does not look at time; the others must see the plainest event there is.
@pytest.mark.parametrize("config", [c for c in TEMPORAL if c["name"] != "none"], ids=label)
def test_the_plainest_event_is_seen(config):
    x = torch.randn(1, 6, 6, 256, generator=torch.Generator().manual_seed(1)).repeat(12, 1, 1, 1)
    x[6:, 2:4, 2:4] = torch.randn(2, 2, 256, generator=torch.Generator().manual_seed(2))
    difference = build(config)(build_graph(VideoTokens.from_grid(x)))
    marked = difference.marked.view(12, 6, 6)
    assert bool(marked[6, 2:4, 2:4].all())
    outside = marked.clone()
    outside[:, 2:4, 2:4] = False
    assert int(outside.sum()) == 0
    assert int(marked[:5].sum()) == 0


@dataclasses.dataclass(frozen=True)
class Broken(DifferenceDetector):
    score_is: float = 0.0
    threshold_is: float = 0.0
    extra: int = 0

    def score(self, graph):
        return torch.full((graph.num_nodes + self.extra,), self.score_is)

    def threshold_for(self, score, graph):
        return self.threshold_is


@pytest.mark.parametrize(
    "broken",
    [Broken(score_is=math.nan), Broken(score_is=math.inf), Broken(score_is=-0.1), Broken(extra=1)],
    ids=["NaN", "Inf", "negative", "too many"],
)
def test_a_plugin_with_broken_scores_is_named(broken):
    with pytest.raises(StgraphError, match=r"Broken must return one finite score ≥ 0 for each of 180 vertices"):
        broken(build_graph(TOKENS["ordinary"]()))


@pytest.mark.parametrize("threshold", [math.nan, -0.5])
def test_a_plugin_with_a_broken_threshold_is_named(threshold):
    with pytest.raises(StgraphError, match="Broken must return a threshold ≥ 0"):
        Broken(threshold_is=threshold)(build_graph(TOKENS["ordinary"]()))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"name": "threshold", "threshold": 1.5}, "difference threshold must be a number ≥ -1 and ≤ 1, got 1.5"),
        ({"name": "drift", "threshold": -2}, "difference threshold must be a number ≥ -1 and ≤ 1"),
        ({"name": "drift", "window": 0}, "difference window must be a whole number ≥ 1, got 0"),
        ({"name": "drift", "window": 2.5}, "window must be a whole number"),
        ({"name": "percentile", "percentile": 101}, "difference percentile must be a number ≥ 0 and ≤ 100"),
        ({"name": "robust_z", "z": -1}, "difference z must be a number ≥ 0"),
        ({"name": "robust_z", "floor": 2.1}, "difference floor must be a number ≥ 0 and ≤ 2"),
        ({"name": "noise", "sigmas": math.nan}, "difference sigmas must be a number ≥ 0, got nan"),
        ({"name": "noise", "floor": -0.1}, "difference floor must be a number ≥ 0 and ≤ 2"),
        ({"name": "frame_relative", "excess": 3}, "difference excess must be a number ≥ 0 and ≤ 2"),
        ({"name": "multiscale", "distances": []}, "distances must be one or more whole numbers ≥ 1"),
        ({"name": "multiscale", "distances": 3}, "distances must be"),
        ({"name": "multiscale", "distances": [1, 0]}, "difference distance must be a whole number ≥ 1, got 0"),
        ({"name": "multiscale", "combine": "sum"}, "combine must be one of max, weighted"),
        ({"name": "running_mean", "memory": 0.5}, "difference memory must be a number ≥ 1"),
        ({"name": "second_difference", "bend": 9}, "difference bend must be a number ≥ 0 and ≤ 8"),
        ({"name": "second_difference", "causal": 1}, "causal must be true or false"),
        ({"name": "spatial", "connectivity": 6}, "connectivity must be 4 or 8, got 6"),
        ({"name": "motion", "radius": -1}, "difference radius must be a whole number ≥ 0"),
        ({"name": "evs", "share": 1.1}, "difference share must be a number ≥ 0 and ≤ 1"),
    ],
)
def test_parameters_out_of_range_are_refused(config, message):
    with pytest.raises(StgraphError, match=message):
        build(config)
