"""FLOPs from dimensions against those that torch counts while tiny models run."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import DynamicCache

from benchmarks import efficiency
from stgraph import STSimDiff
from stgraph.models.flops import MODELS, Decoder, VideoLLM, VisionTower, projector, selection

from .zoo import CACHE, FAMILIES, PATCH, SIDE, VISION, cache_of

LLM = Decoder(layers=28, width=3584, heads=28, key_value_heads=4, head_size=128, mlp=18944, vocabulary=152064)


def counted(model: Any, *names: str, work: Any) -> int:
    """FLOPs of the submodules ``names`` of ``model`` while ``work`` runs, as torch counts them."""
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        work()
    counts = counter.get_flop_counts()
    root = type(model).__name__
    return sum(sum(counts[f"{root}.{name}"].values()) for name in names)


@pytest.mark.parametrize("family", ["llava_onevision", "qwen2_5_vl", "qwen3_vl", "smolvlm"])
def test_prefill_and_decode_equal_what_torch_counts(family):
    model = FAMILIES[family].build("eager")  # torch does not count what its fused kernels for the CPU do
    decoder = Decoder.of(model.config.get_text_config())
    path = "model.text_model" if family == "smolvlm" else "model.language_model"
    layers = [f"{path}.layers.{i}" for i in range(decoder.layers)]
    cache = DynamicCache()

    def run(tokens: int) -> int:
        ids = torch.full((1, tokens), 20)
        known = cache.get_seq_length()
        positions = torch.arange(known, known + tokens)[None]
        return counted(
            model,
            *layers,
            "lm_head",
            work=lambda: model(
                input_ids=ids,
                position_ids=positions,
                attention_mask=torch.ones(1, known + tokens, dtype=torch.int64),
                **{CACHE: cache},
                logits_to_keep=1,
            ),
        )

    assert run(37) == decoder.prefill([37] * decoder.layers, causal=False)
    assert run(1) == decoder.decode([37] * decoder.layers)
    assert run(5) == sum(decoder.layer(5, 38, causal=False) for _ in layers) + decoder.head
    stored = sum(layer.keys.numel() + layer.values.numel() for layer in cache.layers)
    assert decoder.cache_bytes([43] * decoder.layers, value=4) == 4 * stored


@pytest.mark.parametrize("trim", ["before", "inside"])
def test_a_pruned_prompt_takes_what_its_tokens_in_each_layer_take(trim):
    family = FAMILIES["llava_onevision"]
    model, inputs = family.build("eager"), family.inputs([[6]])
    decoder = Decoder.of(model.config.get_text_config())
    # The attention and the MLP of each layer: what reads the attention of the last token is outside of these.
    parts = [f"model.language_model.layers.{i}.{part}" for i in range(decoder.layers) for part in ("self_attn", "mlp")]
    found: list[Any] = []
    with STSimDiff(retention=0.3).attach(model, trim=trim):
        work = lambda: found.append(model(**inputs, use_cache=True, logits_to_keep=1))  # noqa: E731
        total = counted(model, *parts, work=work)
    lengths = [layer.keys.shape[2] for layer in cache_of(found[0]).layers]
    assert (len(set(lengths)) > 1) == (trim == "inside")
    assert total + decoder.head == decoder.prefill(lengths, causal=False)


@pytest.mark.parametrize("name", ["LLaVA-Video-7B", "NVILA-8B"])
def test_published_dimensions_equal_what_torch_counts_without_data(name):
    expected, meta = MODELS[name], torch.device("meta")
    model = efficiency.build(name.lower(), meta)
    model.set_attn_implementation("eager")
    assert Decoder.of(model.config.get_text_config()) == expected.decoder
    side = model.config.vision_config.image_size
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        features = model.model.get_video_features(torch.empty(1, 2, 3, side, side, device=meta)).pooler_output
    assert features.shape[1] == expected.video_tokens(2)
    assert counter.get_total_flops() == expected.encoder(2)
    with torch.no_grad(), counter:
        embeddings = torch.empty(1, 100, expected.decoder.width, device=meta, dtype=model.dtype)
        model.model.language_model(inputs_embeds=embeddings, position_ids=torch.arange(100, device=meta)[None])
    prefill = expected.decoder.prefill([100] * expected.decoder.layers, causal=False)
    assert counter.get_total_flops() == prefill - expected.decoder.head


def test_causal_attention_counts_the_pairs_that_are_seen():
    pairs = sum(9 + i + 1 for i in range(7))  # each of 7 tokens sees the 9 cached ones, those before it, and itself
    dense = LLM.layer(7, 9, causal=False) - LLM.layer(7, 9, causal=True)
    assert dense == 4 * 28 * 128 * (7 * 16 - pairs)
    assert LLM.layer(1, 9) == LLM.layer(1, 9, causal=False)


def test_the_tower_and_the_projector_equal_what_torch_counts():
    model = FAMILIES["llava_onevision"].build("eager")
    size, patches = VISION["hidden_size"], (SIDE // PATCH) ** 2
    tower = VisionTower(VISION["num_hidden_layers"], size, VISION["intermediate_size"], 3 * PATCH**2)
    pixels = torch.randn(3, 3, SIDE, SIDE)
    vision = model.model.vision_tower
    parts = ["embeddings", "encoder"]
    assert counted(vision, *parts, work=lambda: vision(pixels)) == 3 * tower.frame(patches)
    inner = model.model.multi_modal_projector
    flops = counted(inner, "linear_1", "linear_2", work=lambda: inner(torch.randn(3, patches, size)))
    assert flops == 3 * projector((size, 32, 32), patches)


def test_a_tower_with_windows_and_a_gated_mlp_equals_what_torch_counts():
    model, inputs = FAMILIES["qwen2_5_vl"].build("eager"), FAMILIES["qwen2_5_vl"].inputs([[2]])
    config = model.config.vision_config
    frames, height, width = inputs["video_grid_thw"][0].tolist()
    tower = VisionTower(3, 32, 32, 2 * 3 * PATCH**2, gated=True, window=16, full=1)
    visual = model.model.visual
    work = lambda: visual(inputs["pixel_values_videos"], grid_thw=inputs["video_grid_thw"])  # noqa: E731
    blocks = [f"blocks.{i}" for i in range(3)]
    # This frame of 4 × 6 patches has a window of 16 and one of 8, which attend to fewer than the formula's 16.
    assert (height, width, config.window_size) == (4, 6, 4 * PATCH)
    fewer = 2 * 4 * 32 * (24 * 16 - 16 * 16 - 8 * 8)
    assert counted(visual, "patch_embed", *blocks, work=work) == frames * (tower.frame(height * width) - fewer)


def test_parts_of_the_published_models():
    llava = MODELS["LLaVA-Video-7B"]
    assert llava.decoder == LLM
    assert llava.video_tokens(128) == 26880
    assert MODELS["Qwen2.5-VL-7B"].video_tokens(7) == 4 * 256  # two frames become one
    assert llava.encoder(2) == 2 * llava.encoder(1)
    assert selection(10, 3) == 330
    full = llava.schedule(1000, 40)
    assert full == [1040] * 28
    assert llava.schedule(300, 40, entering=700, layer=2) == [740] * 2 + [340] * 26
    assert llava.decoder.cache_bytes(full) == 28 * 1040 * 2 * 4 * 128 * 2
    # Each weight is used once for a token: 7.62 billion of them with head and embeddings, as published.
    weights = 28 * (llava.decoder.layer(1) - 4 * 28 * 128) // 2 + llava.decoder.head
    assert round(weights / 1e9, 2) == 7.62


@pytest.mark.parametrize("name", list(MODELS))
def test_less_is_spent_on_less(name):
    model: VideoLLM = MODELS[name]
    costs = [model.decoder.prefill(model.schedule(visual, 40)) for visual in (16, 160, 1600)]
    assert costs == sorted(costs)
    assert model.encoder(4) > 0


def test_the_benchmark_says_what_the_decoder_was_given():
    model = efficiency.build("small", torch.device("cpu"))
    decoder = Decoder.of(model.config.get_text_config())
    settings = [efficiency.Setting(4, *case) for case in ((1.0, None), (0.3, "before"), (0.3, "inside"))]
    rows = efficiency.measure(model, settings, 2)
    for setting, row in zip(settings, rows, strict=True):
        inputs = efficiency.FilmPrompt(model, 4)(None, "")
        selector = STSimDiff(retention=setting.retention)
        attached = selector.attach(model, trim=setting.trim) if setting.trim else nullcontext()
        with attached:
            out = model.generate(**inputs, max_new_tokens=1, do_sample=False, return_dict_in_generate=True)
        lengths = [layer.keys.shape[2] for layer in cache_of(out).layers]
        assert row["cache_bytes"] == decoder.cache_bytes(lengths, value=4)
        assert row["prefill_flops"] == decoder.prefill(lengths)
    text = efficiency.table(rows)
    assert len(text.splitlines()) == 2 + len(rows)
    assert "| 4 | 30 % | before | 25 |" in text  # ⌈0.3 · 64⌉ tokens and ⌈0.3 · 16⌉ newlines
    assert "26,880 → 8,064" in efficiency.flops_table(128, 0.3)


def test_a_prompt_in_two_parts_costs_what_it_costs_whole():
    """So a session saves exactly what it does not do again."""
    decoder = MODELS["LLaVA-Video-7B"].decoder
    layers = decoder.layers
    begun, rest = 8084, 20
    parts = decoder.prefill([begun] * layers) + decoder.extend(rest, [begun] * layers)
    assert parts - decoder.head == decoder.prefill([begun + rest] * layers)
    assert decoder.extend(1, [begun] * layers) == decoder.decode([begun] * layers)


def test_a_session_is_measured_beside_single_questions():
    single, session = efficiency.session(efficiency.build("small", torch.device("cpu")), 4, 0.3, 2, 2)
    assert single["kept"] == session["kept"]
    assert single["flops"]["encoder"] == 2 * session["flops"]["encoder"]
    assert session["flops"]["prefill"] < single["flops"]["prefill"] < 2 * session["flops"]["prefill"]
    assert session["seconds"]["encoder"]["median"] < single["seconds"]["encoder"]["median"]
    assert "a session of them" in efficiency.session_table([single, session])
