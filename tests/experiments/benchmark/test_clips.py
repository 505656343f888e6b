"""Clips and questions: the same on every run, and nothing to guess."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from experiments.benchmark import painting, sprites
from experiments.benchmark.model import vocabulary
from experiments.benchmark.painting import Clip, paint, unpainted
from experiments.benchmark.questions import TYPES, VISIBLE, Question, ask
from experiments.benchmark.script import SHORTEST, Knobs, write_script
from experiments.benchmark.splits import QUESTIONS, SPLITS, digest, load_clip
from stgraph import StgraphError

SMALL = Knobs(frames=8, side=96)


def bytes_of_clips() -> str:
    """A digest of some clips: of pixels, cover and questions."""
    found = hashlib.sha256()
    for knobs in (Knobs(), SMALL, Knobs(frames=20, fps=4, size=1.2, compression=0, noise=0)):
        for number in range(2):
            clip = paint(write_script(f"digest {number}", knobs))
            found.update(clip.frames.tobytes())
            found.update(clip.shares.tobytes())
            for question in (*ask(clip), *ask(clip, most=QUESTIONS)):
                found.update(repr(question[:4]).encode())
                found.update(np.packbits(question.evidence).tobytes())
    return found.hexdigest()


DIGEST = "182eae8322e126f22d3c7571f5f2dd283355a28d4275acce7e37bd5b2831f8c2"


def test_the_bytes_are_those_of_every_machine() -> None:
    assert bytes_of_clips() == DIGEST


@pytest.mark.parametrize("threads", ["1", "2"])
def test_the_bytes_depend_on_no_thread_count_and_no_hash_seed(threads: str) -> None:
    code = "from tests.experiments.benchmark.test_clips import bytes_of_clips; print(bytes_of_clips())"
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    environment = os.environ | dict.fromkeys(names, threads) | {"PYTHONHASHSEED": threads}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == DIGEST


def test_kinds_look_different() -> None:
    assert len(sprites.KINDS) == 24
    shapes = [sprites.cover(kind, 24).astype(float).ravel() for kind in sprites.KINDS]
    for number, shape in enumerate(shapes):
        for other in shapes[:number]:
            assert shape @ other < 0.93 * np.linalg.norm(shape) * np.linalg.norm(other)


def test_an_ellipse_covers_its_area() -> None:
    size = 48
    covered = sprites.cover("ball", size).sum() / sprites.FINE**2
    assert covered == pytest.approx(np.pi * 22**2, rel=0.01)


def test_polygons_agree_with_a_plain_test_of_every_point() -> None:
    from matplotlib.path import Path as Outline

    polygon = sprites.SHAPES["star"][0].polygon
    at = (np.arange(96) + 0.5) / 2
    y, x = np.meshgrid(at, at, indexing="ij")
    inside = Outline(np.reshape(polygon, (-1, 2))).contains_points(np.stack([x.ravel(), y.ravel()], 1)).reshape(96, 96)
    counted = (2 * np.arange(96) + 1) * sprites.UNIT
    found = sprites._inside(polygon, counted[None, :], counted[:, None], 2 * 96)
    assert (found != inside).mean() < 0.001


def test_the_transform_is_its_own_inverse() -> None:
    planes = np.random.default_rng(0).integers(-300, 300, (2, 16, 24)).astype(np.float32)
    assert (painting._hadamard(painting._hadamard(planes)) == 64 * planes).all()


def test_a_fine_quantiser_changes_little_and_a_coarse_one_more() -> None:
    frames = paint(write_script("quantiser", Knobs(frames=8, side=96, compression=0))).frames.astype(np.int32)
    errors = [np.abs(painting.compressed(frames, step)[..., 1] - frames[..., 1]).mean() for step in (1, 6, 40)]
    assert errors[0] < errors[1] < errors[2]
    assert errors[0] < 3


def test_looks_leave_what_happens_as_it_is() -> None:
    plain = write_script("looks", Knobs())
    noisy = write_script("looks", Knobs(noise=40, clutter=0, compression=20))
    assert plain.scenes == noisy.scenes
    assert not (paint(plain).frames == paint(noisy).frames).all()


def test_noise_has_the_amplitude_asked_for() -> None:
    frames = np.zeros((2, 64, 64, 3), np.int32)
    painting.add_noise(frames, "noise", 30)
    assert -30 <= frames.min() < -25
    assert 25 < frames.max() <= 30
    assert abs(frames.mean() + 0.5) < 0.5


@pytest.mark.parametrize(
    ("knobs", "said"),
    [
        ({"frames": 7}, "frames of a clip must be between 8 and 64, got 7"),
        ({"side": 100}, "multiple of 16 pixels, got 100"),
        ({"fps": 3}, "fps of a clip must be 1, 2 or 4, got 3"),
        ({"noise": 61}, "noise of a clip must be between 0 and 60"),
    ],
)
def test_knobs_out_of_range_are_told(knobs: dict[str, int], said: str) -> None:
    with pytest.raises(StgraphError, match=said):
        Knobs(**knobs)  # type: ignore[arg-type]


def test_splits_are_known_by_name_and_size() -> None:
    assert SPLITS["test"] >= 2000
    assert SPLITS["test"] * QUESTIONS >= 12000
    with pytest.raises(StgraphError, match="no split 'training'"):
        load_clip("training", 0)
    with pytest.raises(StgraphError, match="clips 0 to 299, got 300"):
        load_clip("validation", 300)


def test_no_clip_of_a_split_is_trained_on() -> None:
    trained = {
        digest(write_script(f"train {seed} {step} {n}", knobs, practice=practice))
        for seed in range(2)
        for step in range(150)
        for n in range(2)
        for knobs in (SMALL, Knobs())
        for practice in (False, True)
    }
    judged = {
        digest(write_script(f"{split} {n}", knobs)) for split in SPLITS for n in range(60) for knobs in (Knobs(), SMALL)
    }
    assert len(judged) == 360
    assert not trained & judged


# -- what happens -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clips() -> list[Clip]:
    return [unpainted(write_script(f"asked {number}", Knobs())) for number in range(250)]


@pytest.fixture(scope="module")
def questions(clips: list[Clip]) -> list[list[Question]]:
    return [ask(clip) for clip in clips]


def test_scenes_fill_the_clip(clips: list[Clip]) -> None:
    for clip in clips:
        bounds = [(scene.start, scene.stop) for scene in clip.script.scenes]
        assert bounds[0][0] == 0
        assert bounds[-1][1] == 16
        assert all(a[1] == b[0] for a, b in pairwise(bounds))
        assert all(stop - start >= SHORTEST for start, stop in bounds)
        kinds = [thing.kind for _, thing in clip.script.things]
        assert len(set(kinds)) == len(kinds)


def test_the_middle_frame_shows_no_event(clips: list[Clip]) -> None:
    for clip in clips:
        for scene, thing in clip.script.things:
            if thing.event is None:
                continue
            assert not thing.first <= 8 < thing.last
            if scene.start <= 8 < scene.stop:
                assert thing.event not in ("leave", "fade") or thing.first > 8
                assert thing.event != "enter" or thing.last <= 8


def test_objects_are_seen_where_the_script_says(clips: list[Clip]) -> None:
    for clip in clips[:50]:
        for number, (scene, thing) in enumerate(clip.script.things):
            shown = clip.shares[number] >= VISIBLE
            outside = np.ones(16, bool)
            outside[scene.start : scene.stop] = False
            assert not shown[outside].any()
            if thing.event in (None, "flash") and not thing.small:
                row, column = divmod(thing.place, 3)
                for frame in range(scene.start, scene.stop):
                    y, x = np.nonzero(shown[frame])
                    assert abs((y.mean() + 0.5) / 8 - (2 * row + 1) / 6) < 0.14
                    assert abs((x.mean() + 0.5) / 8 - (2 * column + 1) / 6) < 0.14


def test_cover_is_what_is_painted() -> None:
    """Without noise and compression, the pixels that differ from the empty scene are those that are covered."""
    script = write_script("cover 2", Knobs(noise=0, compression=0))
    empty = replace(script, scenes=tuple(replace(scene, things=()) for scene in script.scenes))
    clip = paint(script)
    differs = (clip.frames != paint(empty).frames).any(-1).reshape(16, 8, 16, 8, 16).mean((2, 4))
    covered = clip.shares.max(0) / 255
    glows = {frame for _, thing in script.things if thing.event == "flash" for frame in range(thing.first, thing.last)}
    calm = [frame for frame in range(16) if frame not in glows]
    assert covered[calm].max() > 0.9
    assert (covered[calm] <= differs[calm] + 0.01).all()
    assert (differs[calm] <= 0.15 + 1.6 * covered[calm]).all()


def test_questions_are_well_formed(questions: list[list[Question]]) -> None:
    known = vocabulary()
    for question in (question for asked in questions for question in asked):
        assert question.type in TYPES
        assert list(question.options) == sorted(set(question.options))
        assert len(question.options) in (2, 4)
        assert all(word in known for word in (*question.text.split(), *question.options))
        assert question.evidence.shape == (16, 8, 8)
        assert question.evidence.any()
        assert not set(question.options) & (set(question.text.split()) - set(sprites.COLOURS))


def test_every_type_is_asked_about_equally_often(clips: list[Clip]) -> None:
    counts = Counter(question.type for clip in clips for question in ask(clip, most=QUESTIONS))
    assert sum(counts.values()) == QUESTIONS * len(clips)
    share = {kind: counts[kind] / len(clips) for kind in TYPES}
    assert min(share.values()) > 0.15
    assert max(share.values()) < 0.65


def _assert_balanced(questions: Iterable[Question]) -> None:
    """Each option is equally often right, by a chi-square test of each type, with the level shared among them."""
    from scipy.stats import chisquare

    places: dict[str, Counter[int]] = defaultdict(Counter)
    for question in questions:
        places[question.type][question.answer] += 1
    for kind, counted in places.items():
        expected = 4 if max(counted) > 1 else 2
        assert chisquare([counted[n] for n in range(expected)]).pvalue > 0.05 / len(TYPES) / 5, (kind, counted)


def test_the_right_option_is_any_of_them(questions: list[list[Question]]) -> None:
    _assert_balanced(question for asked in questions for question in asked)


def test_the_right_option_is_any_of_them_where_few_types_are_asked(clips: list[Clip]) -> None:
    """A clip without cuts allows fewer types; it must not be asked for its cuts more often than others are."""
    _assert_balanced(question for clip in clips for question in ask(clip, most=QUESTIONS))
    asked, cuts = Counter[int](), Counter[int]()
    for number in range(600):
        clip = unpainted(write_script(f"cuts {number}", Knobs()))
        cuts[len(clip.script.cuts)] += 1
        asked[len(clip.script.cuts)] += any(question.type == "cuts" for question in ask(clip, most=QUESTIONS))
    assert all(abs(asked[n] / cuts[n] - 0.38) < 0.1 for n in range(4)), (asked, cuts)


@pytest.mark.slow
def test_the_right_option_is_any_of_them_in_the_test_split() -> None:
    clips = (unpainted(write_script(f"test {number}", Knobs())) for number in range(SPLITS["test"]))
    _assert_balanced(question for clip in clips for question in ask(clip, most=QUESTIONS))


def _texts(clips: Iterator[Clip]) -> dict[str, set[str]]:
    answers: dict[str, set[str]] = defaultdict(set)
    for clip in clips:
        for question in ask(clip, most=QUESTIONS):
            answers[question.text].add(question.word)
    return answers


@pytest.mark.slow
def test_every_question_of_the_test_split_has_different_answers() -> None:
    clips = (unpainted(write_script(f"test {number}", Knobs())) for number in range(SPLITS["test"]))
    assert {text for text, answers in _texts(clips).items() if len(answers) < 2} == set()


def test_frequent_questions_have_different_answers(questions: list[list[Question]]) -> None:
    answers: dict[str, list[str]] = defaultdict(list)
    for question in (question for asked in questions for question in asked):
        answers[question.text].append(question.word)
    assert all(len(set(words)) > 1 for words in answers.values() if len(words) >= 12)


def test_longer_and_faster_clips_ask_everything_too() -> None:
    for knobs in (Knobs(frames=32, fps=4), Knobs(frames=64, fps=1), SMALL):
        kinds = {question.type for n in range(60) for question in ask(unpainted(write_script(f"more {n}", knobs)))}
        assert kinds == set(TYPES)
