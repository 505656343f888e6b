"""Every difference detector against loops in float64, and on videos whose answer is known by hand."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stgraph import VideoTokens, build_graph
from stgraph.difference import DIFFERENCES
from stgraph.difference.noise import half_sample_mode

from ..strategies import features, videos
from .reference import Reference

any_video = videos(separators=False)


def build(name, **parameters):
    return DIFFERENCES.build({"name": name} | parameters)


def assert_scores(detector, tokens, expected, tolerance=1e-5):
    score = detector.score(build_graph(tokens)).tolist()
    assert score == pytest.approx(Reference(tokens).scores(expected), abs=tolerance)


# -- brute force ------------------------------------------------------------------------------------------------------


@given(any_video)
@pytest.mark.parametrize("name", ["threshold", "percentile", "robust_z", "noise", "none"])
def test_temporal_difference(name, tokens):
    assert_scores(build(name), tokens, Reference(tokens).temporal)


@given(any_video)
def test_frame_relative(tokens):
    assert_scores(build("frame_relative"), tokens, Reference(tokens).frame_relative)


@given(any_video, st.integers(1, 9))
def test_drift(tokens, window):
    assert_scores(build("drift", window=window), tokens, lambda p: Reference(tokens).drift(p, window), 4e-5)


@given(st.integers(0, 1000), st.integers(1, 20), st.floats(0.3, 1.0))
def test_drift_over_longer_videos_with_gaps(seed, frames, share):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(frames, 2, 1, 4, generator=g).cumsum(0)
    tokens = VideoTokens.from_grid(x, mask=torch.rand(frames, 2, 1, generator=g) < share)
    reference = Reference(tokens)
    # rounding to 1e-6, times four for each doubling of the distance
    assert_scores(build("drift", window=16), tokens, lambda p: reference.drift(p, 16), 3e-4)


@given(any_video, st.lists(st.integers(1, 6), min_size=1, max_size=4), st.booleans())
def test_multiscale(tokens, distances, weighted):
    detector = build("multiscale", distances=distances, combine="weighted" if weighted else "max")
    reference = Reference(tokens)
    assert_scores(detector, tokens, lambda p: reference.multiscale(p, tuple(distances), weighted=weighted))


@given(any_video, st.floats(1, 20))
def test_running_mean(tokens, memory):
    reference = Reference(tokens)
    assert_scores(build("running_mean", memory=memory), tokens, lambda p: reference.running_mean(p, memory))


@given(any_video, st.booleans())
def test_second_difference(tokens, causal):
    reference = Reference(tokens)
    detector = build("second_difference", causal=causal)
    assert_scores(detector, tokens, lambda p: reference.second_difference(p, causal=causal))


@given(any_video, st.sampled_from([4, 8]))
def test_spatial(tokens, connectivity):
    reference = Reference(tokens)
    assert_scores(build("spatial", connectivity=connectivity), tokens, lambda p: reference.spatial(p, connectivity))


@given(any_video, st.integers(0, 3))
def test_motion(tokens, radius):
    reference = Reference(tokens)
    assert_scores(build("motion", radius=radius), tokens, lambda p: reference.motion(p, radius))


@given(any_video, st.floats(0, 1))
def test_evs(tokens, share):
    detector = build("evs", share=share)
    assert_scores(detector, tokens, Reference(tokens).evs)
    difference = detector(build_graph(tokens))
    score = difference.score.tolist()
    first = sum(s == 3.0 for s in score)
    count = max(first, math.floor(share * len(score)))
    best = sorted(range(len(score)), key=lambda i: (-score[i], i))[:count]
    assert difference.marked.nonzero()[:, 0].tolist() == sorted(best)


@given(any_video)
def test_the_whole_of_radius_and_window_one_is_the_papers(tokens):
    graph = build_graph(tokens)
    paper = build("threshold")(graph)
    for detector in (build("drift", window=1), build("motion", radius=0), build("multiscale", distances=[1])):
        same = detector(graph)
        assert torch.equal(same.score, paper.score)
        assert torch.equal(same.marked, paper.marked)


@given(any_video)
def test_drift_marks_whatever_the_paper_marks(tokens):
    graph = build_graph(tokens)
    assert bool((build("drift")(graph).score >= build("threshold")(graph).score).all())


# -- thresholds -------------------------------------------------------------------------------------------------------


def threshold_of(detector, drops):
    """Threshold of a detector for a video whose temporal differences are these: two frames of plane vectors."""
    angle = torch.acos(1 - torch.tensor(drops, dtype=torch.float64))
    x = torch.zeros(2, 1, len(drops), 2)
    x[0, 0, :, 0] = 1
    x[1, 0, :, 0], x[1, 0, :, 1] = angle.cos(), angle.sin()
    return detector(build_graph(VideoTokens.from_grid(x))).threshold[0]


@given(st.lists(st.floats(0, 2), min_size=1, max_size=30), st.floats(0, 10))
def test_robust_z_is_median_and_deviation(drops, z):
    median = statistics.median(drops)
    away = [abs(d - median) for d in drops]
    spread = 1.4826 * statistics.median(away)
    if 0 < spread < 1e-4:
        return  # rounded to a grid of 1e-6, such a spread may be exactly zero
    expected = median + z * (spread or 1.2533 * statistics.mean(away))
    assert threshold_of(build("robust_z", z=z, floor=0), drops) == pytest.approx(expected, abs=2e-5 * (1 + z))


def test_robust_z_known_answers():
    # median 0.2, deviations 0.1 0 0 0.1 0.6 → 0.1
    drops = [0.1, 0.2, 0.2, 0.3, 0.8]
    assert threshold_of(build("robust_z", z=2), drops) == pytest.approx(0.2 + 2 * 0.14826, abs=1e-5)
    # more than half equal: the mean deviation 0.8 / 5
    drops = [0.2, 0.2, 0.2, 0.2, 1.0]
    assert threshold_of(build("robust_z", z=2), drops) == pytest.approx(0.2 + 2 * 1.2533 * 0.16, abs=1e-5)
    assert threshold_of(build("robust_z"), [0.01] * 5) == 0.05, "never below the floor"
    assert threshold_of(build("robust_z", floor=0.0), [0.5] * 5) == pytest.approx(0.5, abs=1e-6)


def test_noise_known_answer():
    # Densest: 0.10 0.10; left of it 0.04 0.07 0.10 0.10 lie 0.06 0.03 0 0 below, median 0.015.
    drops = [0.04, 0.07, 0.1, 0.1, 0.9, 1.0]
    assert threshold_of(build("noise", sigmas=2, floor=0), drops) == pytest.approx(0.1 + 2 * 1.4826 * 0.015, abs=1e-5)
    assert threshold_of(build("noise"), [0.0] * 9) == 0.05


@pytest.mark.parametrize("events", [0.0, 0.2, 0.45])
def test_noise_is_found_under_many_events(events):
    g = torch.Generator().manual_seed(0)
    n = 4000
    drops = (0.1 + 0.02 * torch.randn(n, generator=g)).clamp(0, 2)
    late = int(n * (1 - events))
    drops[late:] = 0.3 + 0.7 * torch.rand(n - late, generator=g)
    threshold = threshold_of(build("noise", sigmas=6, floor=0), drops.tolist())
    assert 0.1 + 3 * 0.02 < threshold < 0.3
    if events > 0.4:
        assert threshold_of(build("robust_z", z=6, floor=0), drops.tolist()) > 0.5, "which the median does not stand"


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_half_sample_mode_lies_among_the_values(values):
    ordered = np.sort(np.array(values))
    assert ordered[0] <= half_sample_mode(ordered) <= ordered[-1]


def test_half_sample_mode_by_hand():
    assert half_sample_mode(np.array([0.3])) == 0.3
    assert half_sample_mode(np.array([0.0, 1.0])) == 0.5
    assert half_sample_mode(np.array([0.0, 0.4, 0.5])) == pytest.approx(0.45)
    assert half_sample_mode(np.array([0.0, 0.1, 0.5, 0.51, 0.52, 0.9])) == pytest.approx(0.505)
    assert half_sample_mode(np.array([0.2, 0.2, 0.7, 0.7])) == pytest.approx(0.2), "the lower of two equal peaks"


# -- known answers ----------------------------------------------------------------------------------------------------

A, B, C = torch.eye(8)[:3]


def line(*vectors):
    """A video of one token per frame."""
    return build_graph(VideoTokens.from_grid(torch.stack(vectors)[:, None, None]))


def turn(degrees):
    """Unit vector at an angle in the plane of A and B."""
    return math.cos(math.radians(degrees)) * A + math.sin(math.radians(degrees)) * B


def scores(graph, name, **parameters):
    return [round(v, 4) for v in build(name, **parameters).score(graph).tolist()]


def marks(graph, name, **parameters):
    return build(name, **parameters)(graph).marked.nonzero()[:, 0].tolist()


CUT = line(A, A, A, A, B, B, B, B)
FLASH = line(A, A, A, B, A, A, A, A)
FADE = line(*([turn(0)] * 6), *(turn(90 * i / 16) for i in range(17)), *([turn(90)] * 8))


def test_cut():
    assert marks(CUT, "threshold") == [4]
    assert marks(CUT, "drift") == [4], "no echo"
    assert marks(CUT, "multiscale") == [4, 5, 6, 7], "echo until the longest distance has passed"
    assert marks(CUT, "running_mean") == [4, 5], "until the mean has followed"
    assert marks(CUT, "running_mean", memory=1) == [4]
    assert marks(CUT, "second_difference") == [3, 4], "on both sides"
    assert marks(CUT, "second_difference", causal=True) == [4, 5]
    assert scores(CUT, "second_difference") == [0, 0, 0, 1, 1, 0, 0, 0]
    assert marks(CUT, "evs", share=0.25) == [0, 4]
    assert marks(CUT, "motion") == [4]


def test_flash():
    assert marks(FLASH, "threshold") == [3, 4]
    assert marks(FLASH, "drift") == [3, 4]
    assert scores(FLASH, "second_difference") == [0, 0, 1, 4, 1, 0, 0, 0]
    assert marks(FLASH, "running_mean") == [3], "the mean remembers A"


def test_slow_fade():
    assert marks(FADE, "threshold") == []
    assert marks(FADE, "second_difference") == []
    assert marks(FADE, "running_mean") == []
    # 1 − cos passes 0.8 at 78.5°, in frame 20; there the first half of the way, from 0° to 34°, is still too short.
    assert marks(FADE, "drift") == [21, 22]
    assert marks(FADE, "multiscale", distances=[16]) == [20, 21, 22, 23, 24], "with the echo"
    assert marks(FADE, "drift", window=8) == [], "longer than the window"
    assert scores(FADE, "drift", window=16)[22] == pytest.approx(1, abs=1e-3)
    assert scores(FADE, "drift")[25:] == [0] * 6, "over is over"


def test_a_return_is_no_drift():
    away_and_back = [turn(d) for d in (0, 20, 40, 20, 0)]
    assert max(scores(line(*away_and_back), "drift")) == pytest.approx(1 - math.cos(math.radians(40)), abs=1e-4)


def test_noise_is_no_drift():
    x = torch.randn(1, 5, 5, 64, generator=torch.Generator().manual_seed(0)).repeat(40, 1, 1, 1)
    x += 0.3 * torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    graph = build_graph(VideoTokens.from_grid(x))
    assert not bool(build("drift")(graph).marked.any())
    x[20:] = torch.randn(1, 5, 5, 64, generator=torch.Generator().manual_seed(2))
    x[20:] += 0.3 * torch.randn(20, 5, 5, 64, generator=torch.Generator().manual_seed(3))
    graph = build_graph(VideoTokens.from_grid(x))
    paper, drift = (build(name)(graph) for name in ("threshold", "drift"))
    assert bool(paper.marked.view(40, 25)[20].any())
    assert torch.equal(drift.marked, paper.marked)
    shots = (build_graph(VideoTokens.from_grid(shot)) for shot in (x[:20], x[20:]))
    noise = max(float(build("multiscale", distances=[1, 2, 4, 8, 16]).score(shot).max()) for shot in shots)
    echo = float(drift.score.view(40, 25)[21:].max())
    assert 0.05 < noise < echo <= 4 * noise + 1e-6


def test_multiscale_weights():
    assert scores(CUT, "multiscale", distances=[1, 2], combine="weighted")[3:7] == [0, 1, round(1 / 3, 4), 0]


def test_running_mean_by_hand():
    # after A, B with memory 2 the mean is (A + B) / 2: cosine to A is 1 / √2
    assert scores(line(A, B, A), "running_mean", memory=2) == [0, 1, round(1 - math.sqrt(0.5), 4)]


def picture(*rows):
    return torch.stack([torch.stack([{"a": A, "b": B, "c": C}[token] for token in row]) for row in rows])


def test_spatial_sees_the_odd_one_and_no_time():
    graph = build_graph(
        VideoTokens.from_grid(torch.stack([picture("aaa", "aba", "aaa"), picture("ccc", "ccc", "ccc")]))
    )
    assert (
        scores(graph, "spatial")
        == [round(1 / 3, 4), 0.2, round(1 / 3, 4), 0.2, 1, 0.2, round(1 / 3, 4), 0.2] + [round(1 / 3, 4)] + [0] * 9
    )
    assert marks(graph, "spatial") == [4]
    assert scores(graph, "spatial", connectivity=4)[:5] == [0, round(1 / 3, 4), 0, round(1 / 3, 4), 1]
    assert marks(graph, "threshold") == list(range(9, 18))


def test_frame_relative_discounts_the_whole_frame():
    still, flash = picture("aaa", "aab"), picture("bbb", "bba")
    local = picture("aca", "aab")
    assert marks(build_graph(VideoTokens.from_grid(torch.stack([still, flash]))), "frame_relative") == []
    assert marks(build_graph(VideoTokens.from_grid(torch.stack([still, local]))), "frame_relative") == [7]


def test_motion_follows_what_moves():
    pan = torch.randn(4, 16, 1024, generator=torch.Generator().manual_seed(0))
    frames = torch.stack([pan[:, t : t + 8] for t in range(4)])  # the camera moves right by one token a frame
    graph = build_graph(VideoTokens.from_grid(frames))
    place = graph.coords[marks(graph, "motion")]
    assert {(t, x) for t, _, x in place.tolist()} == {(t, 7) for t in (1, 2, 3)}, "what comes into view"
    assert len(place) == 3 * 4
    assert len(marks(graph, "motion", radius=0)) == 3 * 32


def test_evs_ties_and_the_first_frame():
    same = build_graph(VideoTokens.from_grid(torch.ones(4, 1, 5, 3)))
    assert marks(same, "evs", share=0.5) == list(range(10)), "among equals the first"
    assert marks(same, "evs", share=0.0) == list(range(5)), "never less than the first frame"
    assert marks(same, "evs", share=1.0) == list(range(20))
    exact = build_graph(VideoTokens.from_grid(torch.ones(10, 1, 10, 3)))
    assert len(marks(exact, "evs", share=0.29)) == 29, "0.29 · 100 is 28.999… in binary"


def test_scores_of_random_tokens_differ_between_methods():
    graph = build_graph(VideoTokens.from_grid(features(9, 4, 4, 17, 0)))
    found = {name: tuple(build(name).score(graph).tolist()) for name in DIFFERENCES}
    temporal = {"threshold", "none", "percentile", "robust_z", "noise"}
    assert len(set(found.values())) == len(found) - len(temporal) + 1


def test_a_percentile_between_two_scores_stays_between_them():
    """Rounded to float32, the threshold became the largest score, above which there is nothing."""
    score = torch.tensor([0.5, 0.5 + 2**-24, 0.25])
    detector = DIFFERENCES.build({"name": "percentile", "percentile": 99.99})
    for low in (0.1, 0.3, 0.5):
        score = torch.tensor([low, float(np.nextafter(np.float32(low), np.float32(1)))])
        threshold = float(np.percentile(score.double().numpy(), 99.99))
        assert float(score[0]) < threshold < float(score[1])
        assert detector.mark(score, threshold, None).tolist() == [False, True]
