"""Every registered selector at work inside tiny video LLMs, merging ones with the features that they merge."""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import Any

import torch
from torch import Tensor

from stgraph.budget import ceil_share
from stgraph.selectors import SELECTORS, Selector

from ..covering import parametrized
from .test_attachment import RETENTION, ROWS, greedy, hidden_columns, model_of
from .zoo import FAMILIES, VIDEO, cache_of, masked_run

methods = parametrized("name, family", list(SELECTORS), ("llava_onevision", "qwen2_5_vl", "qwen3_vl"), strength=1)


def selector_of(name: str, retention: float) -> Selector:
    """The selector, with the features in the place of signals of a vision tower."""
    fields = {field.name for field in dataclasses.fields(SELECTORS.get(name))}
    asked: dict[str, object] = {parameter: "features" for parameter in ("signal", "keys") if parameter in fields}
    # The published shares are less than one of the few tokens of a tiny frame.
    asked |= {parameter: 0.5 for parameter in ("contextual", "picked", "context") if parameter in fields}
    return SELECTORS.build({"name": name, "retention": retention, **asked})


@cache
def unpruned(family: str) -> tuple[dict[str, Tensor], Any]:
    inputs = FAMILIES[family].inputs(ROWS)
    return inputs, greedy(model_of(family), inputs, 2)


@methods
def test_a_batch_sees_the_kept_tokens_with_what_they_took_in(name, family):
    model, (inputs, _) = model_of(family), unpruned(family)
    with selector_of(name, RETENTION).attach(model, trim="before") as attached:
        out = greedy(model, inputs, 2)
    selection = attached.selection
    places, hidden = inputs["input_ids"] == VIDEO, hidden_columns(inputs, selection, "before", 0)
    embeddings = None
    if selection.merges:
        assert bool((selection.merge_target >= 0).any()), "something is merged"
        embeddings = masked_run(model, inputs, out.sequences, hidden).embeddings[:, : places.shape[1]].clone()
        embeddings[places] = selection.invert(selection.apply(embeddings[places]))
    # Nothing but the embeddings is replaced: a token that takes others in stays where it was.
    reference = masked_run(model, inputs, out.sequences, hidden, embeddings=embeddings)
    torch.testing.assert_close(torch.stack(out.logits, 1), reference.logits, atol=1e-4, rtol=0)
    separator = torch.zeros(len(selection.verdict), dtype=torch.bool)
    if family == "llava_onevision":  # one newline behind each video
        separator[torch.bincount(selection.batch).cumsum(0) - 1] = True
    for video, budget in enumerate(selection.budget):
        visual = (selection.batch == video) & ~separator
        assert int((selection.mask & visual).sum()) == budget == ceil_share(RETENTION, int(visual.sum()))
    expected = int((inputs["attention_mask"].bool() & ~hidden[0]).sum(1).max()) + 1
    assert {layer.keys.shape[2] for layer in cache_of(out).layers} == {expected}


@methods
def test_at_full_retention_nothing_changes(name, family):
    model, (inputs, plain) = model_of(family), unpruned(family)
    with selector_of(name, 1.0).attach(model, trim="before") as attached:
        out = greedy(model, inputs, 2)
    assert bool(attached.selection.mask.all())
    assert torch.equal(torch.stack(out.logits), torch.stack(plain.logits))
