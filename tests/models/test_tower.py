"""Signals of the vision tower inside tiny video LLMs, against the weights that an eager tower computes itself."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

from stgraph import StgraphError, STSimDiff, VideoTokens
from stgraph.models import MODELS, Adapter, passes
from stgraph.models.adapter import adapter_of, vision_block
from stgraph.models.tower import AttentionInput, tower_signals
from stgraph.selectors import SELECTORS
from stgraph.selectors.base import Ranking, Selector
from stgraph.selectors.uniform import UniformSelector
from stgraph.signals import DeferredSignals, Signals

from .test_attachment import RETENTION, ROWS, greedy, hidden_columns, model_of
from .zoo import END, FAMILIES, IMAGE, PATCH, START, VIDEO, masked_run

NAMES = ("encoder_attention", "encoder_keys")


@dataclass(frozen=True, kw_only=True)
class Probe(Selector):
    """Ranks by encoder attention and remembers what it was given."""

    seen: list[VideoTokens] = field(default_factory=list)
    given: list[Signals] = field(default_factory=list)

    def rank(self, tokens, signals):
        self.seen.append(tokens)
        self.given.append(signals)
        return Ranking(importance=signals.require("encoder_attention", "probe"))


def probed(model: Any, inputs: dict[str, Tensor], **options: Any) -> Probe:
    probe = Probe(retention=RETENTION)
    with probe.attach(model, trim="before"):
        greedy(model, inputs, 2, **options)
    assert len(probe.seen) == 1
    return probe


# -- the reference -----------------------------------------------------------------------------------------------------


def pool_llava(model: Any, frames: list[Tensor], patch: Any) -> Tensor:
    """With the model's own pooling; a newline after each video."""
    stack = torch.stack(frames)
    if hasattr(model.model, "apply_pooling"):
        pooled = model.model.apply_pooling(stack).unflatten(0, (-1, 4))  # the videos of ROWS have four frames
        return torch.nn.functional.pad(pooled.flatten(1, 2), (0, 0, 0, 1)).flatten(0, 1)
    return model.model.vision_resampler(stack).flatten(0, 1)


def pool_cls(model: Any, frames: list[Tensor], patch: Any) -> Tensor:
    """Nothing is pooled; the [CLS] token of each frame is a separator before it."""
    return torch.nn.functional.pad(torch.stack(frames), (0, 0, 1, 0)).flatten(0, 1)


def pool_shuffled(model: Any, frames: list[Tensor], patch: Any) -> Tensor:
    """With the model's own pixel shuffle, which puts the patches of a token one behind the other."""
    stack = torch.stack(frames)
    if hasattr(model.model, "pixel_shuffle"):
        side = int(stack.shape[1] ** 0.5)
        shuffled = model.model.pixel_shuffle(stack.unflatten(1, (side, side)), model.config.downsample_ratio)
    else:
        shuffled = model.model.connector.pixel_shuffle(stack, model.config.scale_factor)
    return shuffled.reshape(-1, 4, stack.shape[-1]).mean(1)


def pool_packed(tower: str, *untouched: str) -> Callable[[Any, list[Tensor], Any], Tensor]:
    """By the tower itself: the values in the place of its last features, all that follows but the order left out."""

    def pool(model: Any, frames: list[Tensor], patch: Any) -> Tensor:
        values = torch.cat(frames)
        visual = model.model.get_submodule(tower)
        size = model.config.vision_config.hidden_size

        def put(module: Any, args: Any, output: Tensor) -> Tensor:
            assert output.shape == (len(values), size)
            return torch.nn.functional.pad(values, (0, size - values.shape[1]))

        blocks = visual.blocks if hasattr(visual, "blocks") else visual.encoder.layers
        handle = blocks[-1].register_forward_hook(put)
        with patch.context() as inside:
            for name in untouched:
                module = model.model.get_submodule(name)
                merge = 4 if name.endswith("merger") else 1
                inside.setattr(module, "forward", lambda x, m=merge: x.unflatten(0, (-1, m)).mean(1))
            names = ("pixel_values_videos", "video_grid_thw", "video_merge_sizes")
            out = model.model.get_video_features(**{n: model.inputs[n] for n in names if n in model.inputs})
        handle.remove()
        return torch.cat(list(out.pooler_output))[:, : values.shape[1]]

    return pool


def pool_framewise(model: Any, frames: list[Tensor], patch: Any) -> Tensor:
    """By the model itself, its projector replaced by the mean of what it merges; newlines of zeros put in after it."""
    merge = model.model.mm_projector[0]
    size = getattr(merge, "size", 1) ** 2
    run = model.config.token_grid(4)[2 if model.config.separator_layout == "row" else 1 :]
    with patch.context() as inside:
        inside.setattr(model.config, "mm_newline_position", "no_token", raising=False)
        inside.setattr(model.config, "frame_end_token_id", None, raising=False)
        inside.setattr(
            model.model.mm_projector,
            "forward",
            lambda x: (merge(x) if size > 1 else x).unflatten(2, (size, -1)).mean(2),
        )
        tokens = model.model.arrange(torch.stack(frames), 4).flatten(0, 1)  # the videos of ROWS have four frames
    return torch.nn.functional.pad(tokens.unflatten(0, (-1, math.prod(run))), (0, 0, 0, 1)).flatten(0, 1)


POOLS: dict[str, Callable[[Any, list[Tensor], Any], Tensor]] = {
    "llava_onevision": pool_llava,
    "llava_next_video": pool_llava,
    "qwen2_vl": pool_packed("visual", "visual.merger"),
    "qwen2_5_vl": pool_packed("visual", "visual.merger"),
    "qwen3_vl": pool_packed("visual", "visual.merger"),
    "qwen3_vl_moe": pool_packed("visual", "visual.merger"),
    "qwen3_5": pool_packed("visual", "visual.merger"),
    "video_llava": pool_cls,
    "internvl": pool_shuffled,
    "smolvlm": pool_shuffled,
    "video_llama_3": pool_packed("vision_model", "vision_model.post_layernorm", "projector"),
    "llava_video": pool_framewise,
    "nvila": pool_framewise,
}


def reference(family: str, inputs: dict[str, Tensor], patch: Any) -> dict[str, Tensor]:
    """What an eager tower computes in its block, pooled by the model's own code."""
    model = model_of(family, "eager")
    attention = MODELS.get(family)().vision_attention(model)
    modeling = sys.modules[type(attention).__module__]
    eager = modeling.eager_attention_forward
    weights: list[Tensor] = []
    keys: list[Tensor] = []

    def spy(module: Any, query: Tensor, key: Tensor, *args: Any, **kwargs: Any) -> Any:
        output = eager(module, query, key, *args, **kwargs)
        if module is attention:
            weights.extend(output[1].mean(1).unbind())
            keys.extend(key.mean(1).unbind())
        return output

    with patch.context() as inside, torch.no_grad():
        inside.setattr(modeling, "eager_attention_forward", spy)
        model(**inputs)
    model.inputs = inputs
    cls = family in ("llava_next_video", "video_llava", "internvl")
    received = [w[0, 1:, None] if cls else w.mean(0)[:, None] for w in weights]
    with torch.no_grad():
        found = {
            "encoder_attention": POOLS[family](model, received, patch)[:, 0],
            "encoder_keys": POOLS[family](model, [k[1:] for k in keys] if cls else keys, patch),
        }
    del model.inputs
    return found


# -- tests -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", list(POOLS))
def test_signals_equal_those_of_an_eager_tower(family, monkeypatch):
    inputs = FAMILIES[family].inputs(ROWS)
    expected = reference(family, inputs, monkeypatch)
    for attention in ("sdpa", "eager"):
        probe = probed(model_of(family, attention), inputs)
        tokens, signals = probe.seen[0], probe.given[0]
        for name in NAMES:
            found = getattr(signals, name)
            assert len(found) == len(tokens)
            torch.testing.assert_close(found, expected[name], atol=1e-5, rtol=1e-4)
            assert not bool(found[tokens.separator].any())
            assert bool((found[~tokens.separator] != 0).any(-1).all() if found.ndim == 2 else (found > 0).any())


@pytest.mark.parametrize("way", ["beams", "no cache", "images", "plain call"])
@pytest.mark.parametrize("family", ["llava_next_video", "qwen2_5_vl"])
def test_however_the_model_is_called(family, way):
    family = "qwen3_vl" if way == "images" and family == "llava_next_video" else family
    model, inputs = model_of(family), FAMILIES[family].inputs(ROWS)
    expected = probed(model, inputs).given[0]
    if way == "plain call":
        probe = Probe(retention=RETENTION)
        with probe.attach(model, trim="before"), torch.no_grad():
            model(**inputs)
    elif way == "images":
        probe = probed(model, with_images(inputs))
    else:
        probe = probed(model, inputs, num_beams=2 if way == "beams" else 1, use_cache=way != "no cache")
    for name in NAMES:
        torch.testing.assert_close(getattr(probe.given[0], name), getattr(expected, name))


def with_images(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """The prompts of a Qwen model, each with an image behind its videos."""
    ids = inputs["input_ids"]
    images = torch.tensor([[START, *[IMAGE] * 4, END]] * len(ids))
    ids = torch.cat([ids[:, :-1], images, ids[:, -1:]], 1)
    return inputs | {
        "input_ids": ids,
        "attention_mask": torch.cat([inputs["attention_mask"], torch.ones_like(images)], 1),
        "mm_token_type_ids": (ids == IMAGE).int() + 2 * (ids == VIDEO).int(),
        "pixel_values": torch.randn(16 * len(ids), 6 * PATCH * PATCH, generator=torch.Generator().manual_seed(5)),
        "image_grid_thw": torch.tensor([[1, 4, 4]] * len(ids)),
    }


METHODS = {
    "fastervlm": {},
    "visionzip": {},
    "prumerge": {},
    "dart": {},
    "simdiff": {"importance": {"name": "encoder_attention"}},
}


@pytest.mark.parametrize("name", list(METHODS))
@pytest.mark.parametrize("family", ["llava_onevision", "qwen2_5_vl"])
def test_attached_methods_choose_what_they_choose_alone(family, name):
    model, inputs = model_of(family), FAMILIES[family].inputs(ROWS)
    probe = probed(model, inputs)
    method = SELECTORS.build({"name": name, "retention": RETENTION, **METHODS[name]})
    alone = method(
        probe.seen[0], Signals(**{signal: getattr(probe.given[0], signal) for signal in (*NAMES, "question")})
    )
    with method.attach(model, trim="before") as attached:
        greedy(model, inputs, 2)
    assert torch.equal(attached.selection.indices, alone.indices)
    assert attached.selection.digest == alone.digest


@pytest.mark.parametrize("family", ["llava_next_video", "qwen3_vl"])
def test_pruning_by_encoder_attention_is_exact(family):
    model, inputs = model_of(family), FAMILIES[family].inputs(ROWS)
    fastervlm = SELECTORS.build({"name": "fastervlm", "retention": RETENTION})
    with fastervlm.attach(model, trim="before") as attached:
        out = greedy(model, inputs)
    hidden = hidden_columns(inputs, attached.selection, "before", 0)
    torch.testing.assert_close(
        torch.stack(out.logits, 1), masked_run(model, inputs, out.sequences, hidden).logits, atol=1e-4, rtol=0
    )


def test_inside_the_model_a_method_may_use_both_attentions():
    family = "qwen2_5_vl"
    model, inputs = model_of(family), FAMILIES[family].inputs(ROWS)
    expected = probed(model, inputs).given[0].encoder_attention

    @dataclass(frozen=True, kw_only=True)
    class Both(Selector):
        def rank(self, tokens, signals):
            assert torch.equal(signals.require("encoder_attention", "both"), expected)
            return Ranking(importance=signals.require("llm_attention", "both"))

    with Both(retention=RETENTION).attach(model, trim="inside", layer=2) as attached:
        greedy(model, inputs, 2)
    assert bool((attached.selection.importance > 0).any())


def test_nothing_is_computed_for_methods_that_do_not_ask(monkeypatch):
    family = "qwen2_vl"
    model, inputs = model_of(family), FAMILIES[family].inputs(ROWS)

    def refuse(*args: Any) -> Signals:
        raise ZeroDivisionError

    monkeypatch.setattr(passes, "tower_signals", refuse)
    for method in (
        UniformSelector(),
        SELECTORS.build({"name": "simdiff", "importance": {"name": "novelty"}}),
        SELECTORS.build({"name": "visionzip", "signal": "features", "keys": "features"}),
    ):
        with method.attach(model, trim="before"):
            greedy(model, inputs, 1)
    with STSimDiff().attach(model, trim="before"), pytest.raises(ZeroDivisionError):
        greedy(model, inputs, 1)


def test_signals_are_computed_once(monkeypatch):
    family = "qwen2_vl"
    model, inputs = model_of(family), FAMILIES[family].inputs(ROWS)
    calls: list[int] = []

    def count(*args: Any) -> Signals:
        calls.append(len(args))
        return tower_signals(*args)

    monkeypatch.setattr(passes, "tower_signals", count)
    with SELECTORS.build({"name": "visionzip"}).attach(model, trim="before"):
        greedy(model, inputs)
    assert len(calls) == 1, "for three videos, attention and keys"


def test_deferred_signals_stay_deferred():
    made: list[Signals] = []

    def make() -> Signals:
        made.append(Signals(encoder_attention=torch.arange(4.0), encoder_keys=torch.arange(8.0).view(4, 2)))
        return made[-1]

    rows = torch.tensor([1, 3])
    part = DeferredSignals(make).with_llm_attention(torch.ones(4)).take(rows)
    part.check(2)
    assert not made
    assert part.llm_attention.tolist() == [1, 1]
    assert part.encoder_attention.tolist() == [1, 3]
    assert part.take(torch.tensor([1])).encoder_keys.tolist() == [[6, 7]]
    assert len(made) == 1
    with pytest.raises(StgraphError, match="signal llm_attention has shape"):
        part.check(3)


def test_auto_takes_the_attention_of_the_tower_before_the_model_has_any():
    family = "llava_onevision"
    model, inputs = model_of(family), FAMILIES[family].inputs(ROWS)
    with STSimDiff(retention=RETENTION).attach(model, trim="before") as attached:
        greedy(model, inputs, 1)
    assert attached.selection.notes[0] == "candidates are trimmed by encoder_attention"


def test_tokens_that_the_model_left_out_have_no_signals():
    family = "video_llama_3"
    model, inputs = model_of(family), FAMILIES[family].inputs([[4]])
    whole = probed(model, inputs)
    present = torch.ones(len(whole.seen[0]), dtype=torch.bool)
    present[5:9] = False
    keep = torch.ones(inputs["input_ids"].shape[1], dtype=torch.bool)
    keep[(inputs["input_ids"][0] == VIDEO).nonzero()[5:9, 0]] = False
    inputs |= {key: inputs[key][:, keep] for key in ("input_ids", "attention_mask")}
    part = probed(model, inputs | {"video_compression_mask": present})
    for name in NAMES:
        torch.testing.assert_close(getattr(part.given[0], name), getattr(whole.given[0], name)[present])


def test_a_tower_that_cannot_be_read_is_told(monkeypatch):
    family = "llava_onevision"
    model, inputs = model_of(family), FAMILIES[family].inputs(ROWS)
    monkeypatch.setattr(MODELS.get(family), "vision_attention", Adapter.vision_attention)
    faster = SELECTORS.build({"name": "fastervlm"})
    message = "needs the signal encoder_attention, .* whose vision tower can be read; none was given; .*signal=features"
    with faster.attach(model, trim="before"), pytest.raises(StgraphError, match=message):
        greedy(model, inputs, 1)
    with SELECTORS.build({"name": "fastervlm", "signal": "features"}).attach(model, trim="before") as attached:
        greedy(model, inputs, 1)
    assert attached.selection is not None
    with STSimDiff().attach(model, trim="before") as attached:
        greedy(model, inputs, 1)
    assert "encoder_attention" not in attached.selection.notes[0]


def test_a_layout_without_patches_has_no_signals():
    family = "llava_onevision"
    model, inputs = model_of(family), FAMILIES[family].inputs(ROWS)
    adapter = adapter_of(model)
    layouts = adapter.layouts(model, inputs)
    seen: list[AttentionInput] = []
    handle = adapter.vision_attention(model).register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(AttentionInput(args, kwargs)), with_kwargs=True
    )
    with torch.no_grad():
        model.get_video_features(inputs["pixel_values_videos"])
    handle.remove()
    tokens = VideoTokens.cat([layout.tokens(torch.zeros(layout.size, 2)) for layout in layouts])
    unknown = [layout._replace(patches=None) for layout in layouts]
    found = tower_signals(adapter, model, seen[-1], tokens, unknown)
    assert found.encoder_attention is None
    assert found.encoder_keys is None
    for wrong in (layouts[:2], [*layouts, layouts[0]]):
        with pytest.raises(
            StgraphError, match=f"given 12 frames, but the videos have {4 * len(wrong)}; signal=features"
        ):
            tower_signals(adapter, model, seen[-1], tokens, wrong)
    # The frames of two videos among those of three.
    some = [layouts[0]._replace(images=(4, 5, 6, 7)), layouts[0]._replace(images=(8, 9, 10, 11))]
    rest = tower_signals(adapter, model, seen[-1], tokens.take((tokens.batch < 2).nonzero()[:, 0]), some)
    whole = tower_signals(adapter, model, seen[-1], tokens, layouts)
    torch.testing.assert_close(rest.encoder_keys, whole.encoder_keys[tokens.batch > 0])


def test_blocks_are_counted_like_hidden_states():
    tower = torch.nn.Module()
    tower.blocks = torch.nn.ModuleList(torch.nn.ModuleDict({"attn": torch.nn.Identity()}) for _ in range(3))
    for block in tower.blocks:
        block.attn = block["attn"]
    for layer, index in ((-1, 2), (-2, 1), (1, 0), (3, 2), ([1, -2], 1)):
        assert vision_block(tower, layer) is tower.blocks[index].attn


def test_every_family_is_tested():
    assert set(POOLS) == set(FAMILIES)


def test_threads_do_not_mix_up_their_videos():
    family = "qwen2_5_vl"
    model = model_of(family)
    prompts = [FAMILIES[family].inputs(rows) for rows in (ROWS, ROWS[:1], ROWS[1:])]
    faster = SELECTORS.build({"name": "fastervlm", "retention": RETENTION})
    with faster.attach(model, trim="before"):
        expected = [torch.stack(greedy(model, inputs, 2).logits) for inputs in prompts]
        with ThreadPoolExecutor(3) as pool:
            found = list(pool.map(lambda inputs: torch.stack(greedy(model, inputs, 2).logits), prompts * 3))
    for index, logits in enumerate(found):
        assert torch.equal(logits, expected[index % 3])
