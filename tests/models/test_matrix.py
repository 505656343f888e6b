"""Families × ways to run a model: what is pruned gives the logits of the full-length run in which it is masked."""

from __future__ import annotations

import itertools
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from stgraph import STSimDiff
from stgraph.models.adapter import adapter_of
from stgraph.models.loading import input_device, is_placed

from ..test_default_dtype import default
from .test_attachment import RETENTION, ROWS, TRIM_LAYER, greedy, hidden_columns, model_of, two_turns
from .zoo import FAMILIES, masked_run

Answer = tuple[Any, dict[str, Tensor], Any, Tensor | None]
"""The output, its inputs, the selection, and the positions where they are not those of one prompt."""


@contextmanager
def attached_to(model: Any, trim: str) -> Iterator[Any]:
    with STSimDiff(retention=RETENTION).attach(model, trim=trim) as attached:
        yield attached


def padded_batch(family: str, trim: str) -> Answer:
    model, inputs = model_of(family), FAMILIES[family].inputs(ROWS)
    with attached_to(model, trim) as attached:
        return greedy(model, inputs), inputs, attached.selection, None


def second_turn(family: str, trim: str) -> Answer:
    model, inputs = model_of(family), FAMILIES[family].inputs(ROWS)
    with attached_to(model, trim) as attached:
        second, positions = two_turns(model, inputs)
    return second, inputs, attached.selection, positions


def beams(family: str, trim: str) -> Answer:
    """Of a batch; what is compared are the scores of the best."""
    model, inputs = model_of(family), FAMILIES[family].inputs(ROWS)
    with attached_to(model, trim) as attached:
        return greedy(model, inputs, num_beams=2, output_scores=True), inputs, attached.selection, None


def prompt_lookup(family: str, trim: str) -> Answer:
    model, inputs = model_of(family), FAMILIES[family].inputs(ROWS[1:2])
    guess = {} if family == "qwen3_5" else {"prompt_lookup_num_tokens": 3, "max_matching_ngram_size": 1}
    with attached_to(model, trim) as attached:
        return greedy(model, inputs, **guess), inputs, attached.selection, None


def dispatched(family: str, trim: str, attention: str = "eager") -> Answer:
    """By accelerate, with all weights on disk but those that transformers reads where accelerate does not see it."""
    from accelerate import disk_offload, dispatch_model

    model, inputs = FAMILIES[family].build(attention), FAMILIES[family].inputs(ROWS)
    with tempfile.TemporaryDirectory() as folder:
        if loose := adapter_of(model).loose:
            parts = [f"model.{name}" for name, _ in model.model.named_children()] + ["lm_head"]
            places = dict.fromkeys(loose, "cpu") | dict.fromkeys(parts, "disk")
            with warnings.catch_warnings(action="ignore"):  # of parameters in the map, which are heeded
                dispatch_model(model, places, main_device="cpu", offload_dir=folder)
            assert is_placed(model)
        else:
            disk_offload(model, folder, torch.device("cpu"))
        assert next(model.lm_head.parameters()).is_meta
        assert input_device(model) == torch.device("cpu")
        with attached_to(model, trim) as attached:
            out = greedy(model, inputs)
    if trim == "before":
        assert attached.selection.notes[0] == "candidates are trimmed by encoder_attention"
    return out, inputs, attached.selection, None


def another_default_dtype(family: str, trim: str) -> Answer:
    model, inputs = model_of(family), FAMILIES[family].inputs(ROWS)
    with default(torch.bfloat16), attached_to(model, trim) as attached:
        return greedy(model, inputs), inputs, attached.selection, None


def two_threads(family: str, trim: str) -> Answer:
    """Two prompts at once; that of the second is compared."""
    model, found = model_of(family), {}
    prompts = [FAMILIES[family].inputs(rows) for rows in (ROWS[:1], ROWS)]
    with attached_to(model, trim) as attached:

        def ask(number: int) -> None:
            found[number] = greedy(model, prompts[number]), attached.selection

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return found[1][0], prompts[1], found[1][1], None


def compiled(family: str, trim: str) -> Answer:
    """Compiled once the selector is attached; compiling the model before is refused, see test_misuse.py."""
    model, inputs = FAMILIES[family].build("sdpa"), FAMILIES[family].inputs(ROWS[:1])
    with attached_to(model, trim) as attached, torch.no_grad():
        model.compile(backend="eager")
        out = greedy(model, inputs, 2)
    torch.compiler.reset()
    return out, inputs, attached.selection, None


WAYS: tuple[Callable[..., Answer], ...] = (
    *(padded_batch, second_turn, beams, prompt_lookup),
    *(dispatched, another_default_dtype, two_threads, compiled),
)


TRIMS = ("before", "inside")

QUICK = {
    # Three ways of each family, in turn; to compile takes seconds, so only two families do by default.
    *(
        (family, WAYS[(number + step) % (len(WAYS) - 1)], TRIMS[(number + step // 2) % 2])
        for number, family in enumerate(FAMILIES)
        for step in (0, 2, 4)
    ),
    *((family, compiled, trim) for family, trim in zip(("qwen2_5_vl", "llava_video"), TRIMS, strict=True)),
}
"""The default cases; all others are slow."""


def cases() -> Iterator[Any]:
    for case in itertools.product(FAMILIES, WAYS, TRIMS):
        family, way, trim = case
        marks = () if case in QUICK else (pytest.mark.slow,)
        yield pytest.param(family, way, trim, id=f"{family}-{way.__name__}-{trim}", marks=marks)


def test_the_default_cases_hold_every_family_and_every_way_with_both_trims():
    assert {(family, trim) for family, _, trim in QUICK} == set(itertools.product(FAMILIES, TRIMS))
    assert {(way, trim) for _, way, trim in QUICK} == set(itertools.product(WAYS, TRIMS))
    assert len({(family, way) for family, way, _ in QUICK}) == len(QUICK), "no pair twice"


@pytest.mark.parametrize(("family", "way", "trim"), list(cases()))
def test_every_way_equals_the_masked_run(family, way, trim):
    out, inputs, selection, positions = way(family, trim)
    hidden = hidden_columns(inputs, selection, trim, TRIM_LAYER)
    reference = masked_run(model_of(family), inputs, out.sequences, hidden, positions=positions).logits
    if way is beams:
        chosen = out.sequences[:, inputs["input_ids"].shape[1] :, None]
        score = reference.log_softmax(-1).gather(2, chosen)[..., 0].sum(1) / chosen.shape[1]
        torch.testing.assert_close(out.sequences_scores, score, atol=1e-4, rtol=0)
        return
    logits = torch.stack(out.logits, 1)
    torch.testing.assert_close(logits, reference[:, -logits.shape[1] :], atol=1e-4, rtol=0)
