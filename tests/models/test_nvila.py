"""NVILA from a folder as it is published, against plain torch."""

from __future__ import annotations

import pytest
import torch

from stgraph import StgraphError, STSimDiff, Video
from stgraph.models import load_model
from stgraph.models.frame_prompt import FramePrompt
from stgraph.models.nvila import Merge, NvilaConfig

from . import folders, plain
from .folders import (
    NVILA,
    NVILA_LLM,
    NVILA_SIDE,
    NVILA_TOWER,
    VOCABULARY,
    read_back,
    tiny_folder,
    write_json,
    write_nvila,
)

NEWLINE = 198
"""What the tokenizer makes of a line break."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_folder(tmp_path_factory.mktemp("nvila"), "nvila")


@pytest.fixture(scope="module")
def model(folder):
    return load_model(folder)


def film(videos=1, frames=4, seed=0):
    return torch.randn(videos, frames, 3, NVILA_SIDE, NVILA_SIDE, generator=torch.Generator().manual_seed(seed))


def merged(patches, k):
    """k × k patches side by side, zeros beyond the edge: (n, side, side, c) → (n, ⌈side/k⌉, ⌈side/k⌉, k² · c)."""
    side = -(-patches.shape[1] // k)
    out = []
    for y in range(side):
        for x in range(side):
            places = [(k * y + i, k * x + j) for i in range(k) for j in range(k)]
            inside = patches.shape[1]
            zero = torch.zeros_like(patches[:, 0, 0])
            out.append(torch.cat([patches[:, a, b] if max(a, b) < inside else zero for a, b in places], -1))
    return torch.stack(out, 1).unflatten(1, (side, side))


def video_tokens(folder, pixels, *, scales=3, pool=(1, 1, 1), newline=True):
    """What the video becomes, (videos, tokens, d), from the files of a folder."""
    tower, projector, llm = (read_back(folder / part) for part in ("vision_tower", "mm_projector", "llm"))
    layers = plain.part(projector, "layers.")
    wide = "7.weight" in layers
    end = llm["model.embed_tokens.weight"][NEWLINE]
    videos = []
    for video in pixels:
        patches = plain.siglip(video, plain.part(tower, "vision_model."), layers=2, heads=2).unflatten(1, (6, 6))
        x = merged(torch.cat([patches] * scales, -1), 3 if wide else 2)
        x = plain.gelu(plain.linear(plain.normed(x, layers, "1", 1e-5), layers, "2"))
        if wide:
            x = plain.gelu(plain.linear(plain.normed(x, layers, "4", 1e-5), layers, "5"))
        x = plain.linear(x, layers, "7" if wide else "4")
        t, h, w = pool
        frames = []
        for start in range(0, len(x), t):
            block = x[start : start + t].mean(0)
            rows = [
                block[h * i : h * (i + 1), w * j : w * (j + 1)].mean((0, 1))
                for i in range(block.shape[0] // h)
                for j in range(block.shape[1] // w)
            ]
            frames += [*rows, *([end] if newline else [])]
        videos.append(torch.stack(frames))
    return torch.stack(videos)


def features(model, pixels):
    with torch.no_grad():
        return model.model.get_video_features(pixels).pooler_output


def test_every_weight_is_where_it_belongs(folder, model):
    pixels = film()
    expected = video_tokens(folder, pixels)
    assert expected.shape[1] == 4 * (3 * 3 + 1)
    torch.testing.assert_close(features(model, pixels), expected, atol=1e-5, rtol=1e-5)
    ids = torch.tensor([[65, *[model.config.video_token_id] * 40, 66, 67]])
    with torch.no_grad():
        logits = model(input_ids=ids, pixel_values_videos=pixels).logits
    llm = read_back(folder / "llm")
    embeddings = llm["model.embed_tokens.weight"][ids.clamp(max=VOCABULARY - 1)]
    embeddings[0, 1:41] = expected[0]
    config = {
        key: value for key, value in NVILA_LLM.items() if key not in ("rope_theta", "rope_scaling", "torch_dtype")
    }
    config["rope_parameters"] = {"rope_type": "default", "rope_theta": NVILA_LLM["rope_theta"]}
    reference = plain.language_model(llm, embeddings, config)
    torch.testing.assert_close(logits[..., :-1], reference, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("projector", ["mlp_downsample_2x2_fix", "mlp_downsample_3x3_fix"])
@pytest.mark.parametrize("dynamic", [True, False])
def test_projectors_and_scales(tmp_path, projector, dynamic):
    write_nvila(tmp_path, projector, dynamic_s2=dynamic)
    expected = video_tokens(tmp_path, film(2), scales=3 if dynamic else 1)
    torch.testing.assert_close(features(load_model(tmp_path), film(2)), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("encoder", "pool", "newline"),
    [
        ('{"_target_": "llava.model.encoders.BasicVideoEncoder"}', (1, 1, 1), True),
        ({"_target_": "llava.model.encoders.TSPVideoEncoder", "pool_sizes": [[2, 1, 1]]}, (2, 1, 1), True),
        ({"_target_": "llava.model.encoders.TSPVideoEncoder", "pool_sizes": [[4, 3, 3]]}, (4, 3, 3), True),
        ({"_target_": "llava.model.encoders.BasicVideoEncoder", "end_tokens": None}, (1, 1, 1), False),
    ],
)
def test_video_encoders(tmp_path, encoder, pool, newline):
    write_nvila(tmp_path, video_encoder=encoder)
    model, pixels = load_model(tmp_path), film(2)
    expected = video_tokens(tmp_path, pixels, pool=pool, newline=newline)
    torch.testing.assert_close(features(model, pixels), expected, atol=1e-5, rtol=1e-5)
    count = expected.shape[1]
    ids = torch.tensor([[65, *[model.config.video_token_id] * count, 66]] * 2)
    with STSimDiff(retention=0.5).attach(model) as attached:
        model.generate(input_ids=ids, pixel_values_videos=pixels, max_new_tokens=1)
    grid = model.config.token_grid(4)
    assert tuple(grid) == (4 // pool[0], 3 // pool[1], 3 // pool[2])
    assert attached.selection.budget == (-(-grid.size // 2),) * 2
    assert len(attached.selection.mask) == 2 * count


@pytest.mark.parametrize(("side", "k"), [(6, 2), (5, 2), (5, 3), (7, 3), (1, 2)])
def test_patches_are_merged_with_zeros_beyond_the_edge(side, k):
    patches = torch.randn(2, side, side, 3, generator=torch.Generator().manual_seed(side))
    assert torch.equal(Merge(k)(patches.flatten(1, 2)), merged(patches, k).flatten(1, 2))


def test_the_real_dimensions():
    config = NvilaConfig(vision_config={"image_size": 448}, scales=3, frame_end_token_id=198)
    assert tuple(config.token_grid(8)) == (8, 16, 16)
    assert config.separator_layout == "frame"
    lite = NvilaConfig(vision_config={"image_size": 448}, mm_projector_type="mlp_downsample_3x3_fix")
    assert tuple(lite.token_grid(8)) == (8, 11, 11)


def test_the_placeholder_is_a_row_of_zeros_of_its_own(folder, model):
    assert model.config.video_token_id == VOCABULARY
    for weight in (model.model.language_model.embed_tokens.weight, model.lm_head.weight):
        assert weight.shape[0] == VOCABULARY + 1
        assert not bool(weight[VOCABULARY].any())
    assert VOCABULARY in model.generation_config.suppress_tokens
    ids = torch.tensor([[65, *[VOCABULARY] * 40, 66, 67]])
    out = model.generate(input_ids=ids, pixel_values_videos=film(), max_new_tokens=3, repetition_penalty=1.1)
    assert not bool((out[:, 43:] == VOCABULARY).any())


def test_it_is_saved_and_loaded_as_a_model_of_transformers(model, tmp_path):
    model.save_pretrained(tmp_path)
    again = load_model(tmp_path)
    assert type(again) is type(model)
    assert torch.equal(features(again, film()), features(model, film()))


@pytest.mark.parametrize("template", [True, False])
def test_the_prompt_of_a_question(tmp_path, template):
    write_nvila(tmp_path)
    if not template:
        (tmp_path / "llm" / "chat_template.jinja").unlink()
    model = load_model(tmp_path)
    prompt = FramePrompt.from_folder(tmp_path, model)
    made = prompt(Video(torch.zeros(2, 3, 8, 9, dtype=torch.uint8), torch.arange(2).double()), "Who is it?")
    assert made["pixel_values_videos"].shape == (1, 2, 3, NVILA_SIDE, NVILA_SIDE)
    assert bool((made["pixel_values_videos"] == -1).all())
    ids = made["input_ids"][0]
    places = (ids == model.config.video_token_id).nonzero()[:, 0]
    assert len(places) == 2 * (9 + 1)
    text = prompt.tokenizer.decode(ids)
    start = "" if template else "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    assert text == f"{start}<|im_start|>user\nWho is it?<|im_end|>\n<|im_start|>assistant\n"
    before = prompt.tokenizer.decode(ids[: places[0]])
    assert before == f"{start}<|im_start|>user\n"
    with STSimDiff(retention=0.3).attach(model):
        assert model.generate(**made, max_new_tokens=2).shape[1] == len(ids) + 2


def test_a_number_of_frames_that_cannot_be_averaged(tmp_path):
    encoder = {"_target_": "TSPVideoEncoder", "pool_sizes": [[8, 1, 1]]}
    write_nvila(tmp_path, video_encoder=encoder)
    with pytest.raises(StgraphError, match="does not divide 4 × 3 × 3; give it a multiple of 8 frames"):
        features(load_model(tmp_path), film())


@pytest.mark.parametrize(
    ("entries", "sentence"),
    [
        ({"s2": True}, "s2 of .* is True, and only False can be loaded"),
        ({"ps3": True}, "ps3 of .* is True"),
        ({"mm_vision_select_feature": "patch"}, "mm_vision_select_feature of .* is 'patch', and only 'cls_patch'"),
        ({"mm_vision_select_layer": -1}, "mm_vision_select_layer of .* is -1"),
        ({"video_encoder": {"pool_sizes": [[1, 1, 1], [2, 1, 1]]}}, "only one pool size"),
        ({"video_encoder": {"end_tokens": "\n\n"}}, "splits into 2 tokens"),
        ({"video_encoder": "{"}, "video_encoder of .* is not JSON"),
    ],
)
def test_variants_that_cannot_be_loaded(tmp_path, entries, sentence):
    write_nvila(tmp_path, **entries)
    with pytest.raises(StgraphError, match=sentence):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("part", "entries", "sentence"),
    [
        ("llm", NVILA_LLM | {"model_type": "llama"}, "the language model of .* is 'llama', and only 'qwen2'"),
        ("vision_tower", NVILA_TOWER | {"model_type": "clip_vision_model"}, "the vision tower of .* is 'clip_vision"),
        ("mm_projector", {"mm_projector_type": "resampler"}, "mm_projector_type must be one of mlp_downsample"),
    ],
)
def test_parts_that_cannot_be_loaded(tmp_path, part, entries, sentence):
    write_nvila(tmp_path)
    write_json(tmp_path / part / "config.json", entries)
    with pytest.raises(StgraphError, match=sentence):
        load_model(tmp_path)


@pytest.mark.parametrize("kind", ["llava_llama", "vila", "llava"])
def test_published_folders_are_told_by_class_and_entries(tmp_path, kind):
    write_nvila(tmp_path, model_type=kind)
    assert load_model(tmp_path).config.model_type == "nvila"
    write_json(tmp_path / "config.json", {**NVILA, "model_type": kind, "architectures": None})
    model = load_model(tmp_path, rope_theta=5e5, video_encoder={"pool_sizes": [[1, 3, 3]]})
    assert model.config.text_config.rope_parameters["rope_theta"] == 5e5
    assert model.config.pool_size == [1, 3, 3]
    with pytest.raises(StgraphError, match="'pool_size' is neither an option of load_model nor an entry"):
        load_model(tmp_path, pool_size=[1, 1, 1])


def test_parts_that_are_missing(tmp_path):
    write_json(tmp_path / "config.json", NVILA)
    (tmp_path / "llm").mkdir()
    with pytest.raises(StgraphError, match="has no folder vision_tower, mm_projector"):
        load_model(tmp_path)
    write_nvila(tmp_path)
    weights = read_back(tmp_path / "mm_projector")
    folders.write_shards(
        tmp_path / "mm_projector", {name: x for name, x in weights.items() if name != "layers.2.bias"}, 1
    )
    with pytest.raises(StgraphError, match=r"missing are 1: mm_projector/layers\.2\.bias;"):
        load_model(tmp_path)
