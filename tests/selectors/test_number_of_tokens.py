"""An exact number of tokens in place of a share, for every selector."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from math import ceil

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stgraph import StgraphError, STSimDiff, VideoTokens
from stgraph.app.config import resolve
from stgraph.budget import ceil_share, share_of
from stgraph.selectors import SELECTORS
from stgraph.selectors.streaming import stream

from ..strategies import features, videos
from .signals import random_signals

names = pytest.mark.parametrize("name", list(SELECTORS))


@given(st.integers(1, 10**6), st.data())
@settings(max_examples=500)
def test_a_share_is_exactly_the_tokens_that_it_comes_from(count, data):
    tokens = data.draw(st.integers(1, count))
    share = share_of(tokens, count)
    assert 0 < share <= 1
    assert ceil_share(share, count) == tokens
    part = data.draw(st.integers(0, count))
    assert ceil_share(share, part) == ceil(Fraction(tokens, count) * part)


def test_all_pairs_of_small_numbers():
    for count in range(1, 300):
        for tokens in range(1, count + 1):
            assert ceil_share(share_of(tokens, count), count) == tokens
    assert ceil_share(5 / 6, 6) == 5, "a plain quotient is what is meant"


@names
@given(
    parts=st.lists(videos(dtypes=False), min_size=1, max_size=3),
    separators=st.sampled_from(["proportional", "keep", "drop", "vertex"]),
    data=st.data(),
)
@settings(max_examples=12)
def test_exactly_so_many_of_every_video(name, parts, separators, data):
    parts = [p for p in parts if p.features.shape[1] == parts[0].features.shape[1]]
    whole = SELECTORS.build({"name": name, "separators": separators})
    counts = [int(whole.visual(part).sum()) for part in parts]
    tokens = data.draw(st.integers(1, min(counts)))
    selector = SELECTORS.build({"name": name, "separators": separators, "tokens": tokens})
    joined = VideoTokens.cat(parts)
    selection = selector(joined, random_signals(joined))
    assert selection.budget == (tokens,) * len(parts)
    assert selection.method["tokens"] == tokens
    visual = selector.visual(joined)
    kept = torch.bincount(joined.batch[selection.mask & visual], minlength=len(parts)).tolist()
    assert kept == [tokens] * len(parts)
    for number, (part, count) in enumerate(zip(parts, counts, strict=True)):
        alone = selector(part, random_signals(part))
        assert selection.video(number).digest == alone.digest
        share = SELECTORS.build({"name": name, "separators": separators, "retention": share_of(tokens, count)})
        assert share(part, random_signals(part)).digest == alone.digest
        assert torch.equal(selection.video(number).apply(part.features), alone.apply(part.features))


@names
def test_a_video_with_fewer_is_refused(name):
    small, large = (VideoTokens.from_grid(features(frames, 2, 2, 8, seed=frames)) for frames in (2, 5))
    selector = SELECTORS.build({"name": name, "tokens": 9})
    assert len(selector(large, random_signals(large))) == 9
    both = VideoTokens.cat([large, small])
    with pytest.raises(StgraphError, match="video 1 has 8 visual tokens, fewer than tokens=9; ask for at most 8"):
        selector(both, random_signals(both))


def test_communities_and_notes_of_a_batch_are_those_of_its_videos():
    parts = [VideoTokens.from_grid(features(frames, 4, 4, 16, seed=frames, noise=0.2)) for frames in (2, 3, 5)]
    selection = STSimDiff(tokens=20)(VideoTokens.cat(parts))
    assert selection.notes == ("candidates are trimmed by novelty",)
    labels = [selection.community[selection.batch == video] for video in range(3)]
    assert all(int(after.min()) > int(before.max()) for before, after in pairwise(labels))
    with pytest.raises(StgraphError, match="needs videos of one size, got 32, 48, 80 visual tokens"):
        STSimDiff(tokens=20).analyse(VideoTokens.cat(parts))


def test_the_analysis_is_that_of_the_selection():
    tokens = VideoTokens.from_grid(features(4, 5, 5, 16, seed=6, noise=0.2))
    selector = STSimDiff(tokens=37, similarity_threshold=0.7)
    found, selection = selector.analyse(tokens), selector(tokens)
    assert torch.equal(found.representative, (selection.candidate & 1).bool())


def test_a_stream_has_no_number_of_tokens():
    with pytest.raises(StgraphError, match="a stream is selected before its length is known"):
        stream([torch.randn(3, 2, 2, 4)], STSimDiff(tokens=4))


@pytest.mark.parametrize("tokens", [0, -1, 1.5, True, "many"])
def test_bad_numbers(tokens):
    with pytest.raises(StgraphError, match="tokens must be a whole number"):
        STSimDiff(tokens=tokens)


def test_settings_of_a_run():
    assert resolve(["tokens=512"]).selector() == STSimDiff(tokens=512)
    assert resolve(["tokens=512", "selector=random"]).selector().tokens == 512
    with pytest.raises(StgraphError, match="retention and tokens both set how many tokens are kept"):
        resolve(["tokens=512", "retention=0.3"])
    saved = resolve(["tokens=512"]).data
    assert resolve((), saved).selector().tokens == 512
    assert resolve(["retention=0.5"], saved).selector() == STSimDiff(retention=0.5)
    assert resolve(["tokens=9"], resolve(["retention=0.5"]).data).selector().tokens == 9
    with pytest.raises(StgraphError, match="tokens must be a whole number"):
        resolve(["tokens=0.5"])
