"""PyramidDrop, SparseVLM and methods one after the other inside tiny video LLMs, against literal loops."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from stgraph import VideoTokens
from stgraph.budget import ceil_share
from stgraph.models.adapter import adapter_of
from stgraph.selectors import SELECTORS
from stgraph.selectors.pyramiddrop import PyramidDrop
from stgraph.selectors.sparsevlm import SparseVLM

from .literal import LiteralRun, PyramidDropVideo, SequenceVideo, SparseVLMVideo
from .test_attachment import greedy
from .test_rounds import ROWS, check, dropped_separators, model_of
from .zoo import FAMILIES, VIDEO, cache_of, masked_run

RETENTION = 0.4

families = pytest.mark.parametrize("family", ["llava_onevision", "qwen2_5_vl", "qwen3_vl"])


def compared(family: str, selector: Any, kind: Any, rounds: list[int], **options: Any) -> tuple[Any, LiteralRun]:
    """The attachment and the literal run, whose logits are equal in every step."""
    model, inputs = model_of(family), FAMILIES[family].inputs(ROWS)
    with selector.attach(model) as attached:
        out = greedy(model, inputs, 3)
    run = LiteralRun(model_of(family, "eager"), inputs, kind, rounds, **options)
    expected = run(out.sequences, dropped_separators(inputs, attached.selection, run))
    torch.testing.assert_close(torch.stack(out.logits, 1), expected.logits, atol=1e-4, rtol=0)
    return attached, run


@families
@pytest.mark.parametrize("count", ["exact", "published"])
def test_pyramiddrop_in_three_rounds(family, count):
    selector = PyramidDrop(retention=RETENTION, count=count)
    published = count == "published"
    attached, run = compared(family, selector, PyramidDropVideo, [1, 2, 3], retention=RETENTION, published=published)
    check(run, attached)
    for video, counts in zip(run.videos, attached.tokens_per_layer, strict=True):
        assert len(set(counts)) == 4, "every layer has fewer"
        last = round(video.count / 8) if published else ceil_share(RETENTION, video.count)
        assert counts[-1] == last


@families
@pytest.mark.parametrize("count", ["exact", "published"])
@pytest.mark.parametrize("retention", [0.4, 0.15])
def test_sparsevlm_in_three_rounds_rated_by_text(family, count, retention):
    selector = SparseVLM(retention=retention, count=count)
    options: dict[str, Any] = {"retention": retention, "published": count == "published"}
    if options["published"] and retention == 0.15:
        options["numbers"] = (238, 48, 26)
    attached, run = compared(family, selector, SparseVLMVideo, [0, 1, 2, 3], **options)
    selection, start = attached.selection, 0
    for number, video in enumerate(run.videos):
        assert video.raters or not video.text
        assert len(video.raters) < len(video.text), "only some of the text rates"
        there = [i for i in range(len(video.columns)) if selection.mask[start + i] and not video.separator[i]]
        assert there == video.alive
        if count == "exact":
            assert len(there) == ceil_share(retention, video.count)
        for i in range(len(video.columns)):
            if not video.separator[i] and i not in video.alive:
                head = video.head(i)
                assert int(selection.merge_target[start + i]) == (start + head if head >= 0 else -1)
        start += len(video.columns)
        assert attached.tokens_per_layer[number] == tuple(layer[number] for layer in run.per_layer)
    assert any(size > 1 for video in run.videos for sizes in video.sizes for size in sizes), "something is merged"


def test_sparsevlm_has_the_numbers_of_its_paper():
    """576 tokens at the shares of their list of 192."""
    exact, published = SparseVLM(retention=110 / 576), SparseVLM(retention=1 / 3, count="published")
    assert [exact._budget(576, stage, 32) for stage in range(3)] == [300, 200, 110]
    assert [published._budget(576, stage, 32) for stage in range(3)] == [300, 200, 110]
    assert [SparseVLM(retention=0.11, count="published")._budget(576, stage, 32) for stage in range(3)] == [66, 30, 17]
    assert [exact.last_round(layers) for layers in (32, 28, 2)] == [16, 14, 1]


@families
def test_an_exact_number_of_tokens_in_rounds(family):
    model, inputs = model_of(family), FAMILIES[family].inputs(ROWS)
    for name in ("pyramiddrop", "sparsevlm", "framefusion", "fastv"):
        with SELECTORS.build({"name": name, "tokens": 9}).attach(model) as attached:
            greedy(model, inputs, 1)
        assert [counts[-1] for counts in attached.tokens_per_layer] == [9, 9, 9]
        assert attached.selection.budget == (9, 9, 9)


# -- one after the other ----------------------------------------------------------------------------------------------


def entry_of(first: str, share: float) -> Any:
    """What the first method makes of a video at the entry: who stays, what they become, and who went where."""

    def entry(video: Any, rows: torch.Tensor) -> tuple[list[int], torch.Tensor, dict[int, int]]:
        coords = [video.place[i] for i in video.alive]
        frames, height, width = (max(axis) + 1 for axis in zip(*coords, strict=True))
        tokens = VideoTokens.from_grid(rows.view(frames, height, width, -1))
        asked = {"signal": "features"} if first == "fastervlm" else {}
        selection = SELECTORS.build({"name": first, "retention": share, **asked})(tokens)
        target = {}
        if selection.merges:
            target = {video.alive[i]: video.alive[j] for i, j in enumerate(selection.merge_target.tolist()) if j >= 0}
        return [video.alive[i] for i in selection.indices.tolist()], selection.apply(rows), target

    return entry


@families
@pytest.mark.parametrize("first", ["evs", "divprune", "pooled_frames", "llava_scissor"])
def test_encoder_side_then_fastv(family, first):
    """The first method at the entry, merging included; FastV in layer 2 on what is left; exactly ⌈r·N⌉ stay."""
    spec = {"name": "sequence", "first": first, "second": "fastv", "first_retention": 0.7, "retention": RETENTION}
    attached, run = compared(
        family, SELECTORS.build(spec), SequenceVideo, [0, 2], retention=RETENTION, entry=entry_of(first, 0.7)
    )
    start = 0
    for number, video in enumerate(run.videos):
        counts = attached.tokens_per_layer[number]
        assert counts == (ceil_share(0.7, video.count),) * 2 + (ceil_share(RETENTION, video.count),) * 2
        kept = [i for i in range(len(video.columns)) if attached.selection.mask[start + i]]
        assert [i for i in kept if not video.separator[i]] == video.alive
        start += len(video.columns)


@families
@pytest.mark.parametrize("second", ["pyramiddrop", "sparsevlm", "framefusion"])
@pytest.mark.parametrize("first", ["evs", "pooled_frames"])
def test_encoder_side_then_rounds(family, first, second):
    """A batch of videos of several sizes: exact counts, rounds that go on, and a cache that holds just these."""
    model, inputs = model_of(family), FAMILIES[family].inputs(ROWS)
    spec = {"name": "sequence", "first": first, "second": second, "first_retention": 0.7, "retention": RETENTION}
    with SELECTORS.build(spec).attach(model) as attached:
        out = greedy(model, inputs, 2)
    sizes = [
        int((~layout.tokens(torch.zeros(layout.size, 1)).separator).sum())
        for layout in adapter_of(model).layouts(model, inputs)
    ]
    for size, counts in zip(sizes, attached.tokens_per_layer, strict=True):
        assert counts[0] <= ceil_share(0.7, size)
        assert list(counts) == sorted(counts, reverse=True)
        assert counts[-1] == ceil_share(RETENTION, size)
    kept = torch.zeros_like(inputs["input_ids"], dtype=torch.bool)
    kept[inputs["input_ids"] == VIDEO] = attached.selection.mask
    longest = int(((inputs["input_ids"] != VIDEO) & inputs["attention_mask"].bool() | kept).sum(1).max())
    assert cache_of(out).layers[-1].keys.shape[2] == longest + 1


def test_a_sequence_that_keeps_all_changes_nothing():
    family = "qwen3_vl"
    model, inputs = model_of(family), FAMILIES[family].inputs(ROWS)
    plain = greedy(model, inputs, 2)
    for second in ("fastv", "pyramiddrop", "framefusion", "sparsevlm"):
        spec = {"name": "sequence", "first": "evs", "second": second, "first_retention": 1.0, "retention": 1.0}
        with SELECTORS.build(spec).attach(model) as attached:
            wrapped = greedy(model, inputs, 2)
        assert bool(attached.selection.mask.all())
        torch.testing.assert_close(torch.stack(plain.logits), torch.stack(wrapped.logits), atol=1e-5, rtol=0)


# -- the question -----------------------------------------------------------------------------------------------------


@families
@pytest.mark.parametrize("name", ["dart", "cdpruner"])
def test_the_text_behind_a_video_is_its_question(family, name):
    """What is selected in the model is what the method selects of the embeddings and of the text behind them."""
    model, inputs = model_of(family), FAMILIES[family].inputs(ROWS)
    asked = {"keys": "features"} if name == "dart" else {}
    selector = SELECTORS.build({"name": name, "retention": RETENTION, **asked})
    with selector.attach(model) as attached:
        out = greedy(model, inputs, 1)
    nothing = [torch.zeros_like(inputs["input_ids"], dtype=torch.bool)] * 4
    embeddings = masked_run(model, inputs, out.sequences, nothing).embeddings
    places = inputs["input_ids"] == VIDEO
    rows, columns = places.nonzero(as_tuple=True)
    start = 0
    for number, layout in enumerate(adapter_of(model).layouts(model, inputs)):
        part = slice(start, start := start + layout.size)
        row, last = int(rows[part][0]), int(columns[part][-1])
        text = [c for c in range(last + 1, places.shape[1]) if not places[row, c]]
        first = int(columns[part][0]) - int((inputs["attention_mask"][row] == 0).sum())
        question = selector_question(embeddings[row, text], first)
        tokens = layout.tokens(embeddings[row, columns[part]])
        alone = selector(tokens, question)
        assert torch.equal(attached.selection.video(number).indices, alone.indices)
        assert alone.budget == (ceil_share(RETENTION, int((~tokens.separator).sum())),)
        assert not any("no question" in note for note in alone.notes)


def selector_question(states: torch.Tensor, first: int) -> Any:
    from stgraph.signals import Question, Signals

    return Signals(question=(Question(states, first=first),))


@families
@pytest.mark.parametrize("name", ["dart", "cdpruner", "sparsevlm"])
def test_another_question_selects_anew(family, name):
    model, inputs = model_of(family), FAMILIES[family].inputs([[16]])
    other = dict(inputs)
    other["input_ids"] = torch.cat([inputs["input_ids"][:, :-3], inputs["input_ids"].new_tensor([[40, 51, 33]])], 1)
    asked = {"keys": "features", "text_pivots": 50} if name == "dart" else {}
    digests = []
    for retention in (0.2, 0.3, 0.4, 0.5):
        selector = SELECTORS.build({"name": name, "retention": retention, **asked})
        for given in (inputs, other):
            with selector.attach(model) as attached:
                greedy(model, given, 1)
            digests.append(attached.selection.digest)
    assert any(a != b for a, b in zip(digests[::2], digests[1::2], strict=True))
