"""LLaVA-Video from a folder as it is published, against plain torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stgraph import StgraphError, STSimDiff, Video
from stgraph.models import load_model
from stgraph.models.frame_prompt import FramePrompt
from stgraph.models.llava_video import LlavaVideoConfig, LlavaVideoForConditionalGeneration, LlavaVideoModel

from . import folders, plain
from .folders import FRAME_SIDE, HIDDEN, LLAVA_VIDEO, WIDTH, tiny_folder, write_json, write_llava_video

WEIGHTS = folders.random_weights(folders.llava_video_shapes())
QWEN2 = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
SIDES = {"bilinear": 3, "average": 2, "max": 2}
"""Of a frame of 5 × 5 patches."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_folder(tmp_path_factory.mktemp("llava_video"), "llava_video")


@pytest.fixture(scope="module")
def model(folder):
    return load_model(folder)


def film(videos=1, frames=3, seed=0):
    return torch.randn(videos, frames, 3, FRAME_SIDE, FRAME_SIDE, generator=torch.Generator().manual_seed(seed))


def video_tokens(pixels, mode="bilinear", newlines="grid"):
    """What the video becomes, (videos, tokens, d), frame by frame and row by row."""
    tower = plain.part(WEIGHTS, "model.vision_tower.vision_tower.vision_model.")
    projector, newline = plain.part(WEIGHTS, "model.mm_projector."), WEIGHTS["model.image_newline"]
    videos = []
    for video in pixels:
        patches = plain.siglip(video, tower, layers=2, heads=2)
        maps = plain.linear(plain.gelu(plain.linear(patches, projector, "0")), projector, "2").unflatten(1, (5, 5))
        if mode == "bilinear":
            pooled = plain.bilinear(maps, 3)
        else:
            blocks = maps[:, :4, :4].unflatten(2, (2, 2)).unflatten(1, (2, 2))
            pooled = blocks.mean((2, 4)) if mode == "average" else blocks.amax((2, 4))
        rows = []
        for frame in pooled:
            for row in frame:
                rows += [*row, *([newline] if newlines == "grid" else [])]
            rows += [newline] if newlines == "frame" else []
        rows += [newline] if newlines == "one_token" else []
        videos.append(torch.stack(rows))
    return torch.stack(videos)


def prompt_ids(counts, video_token):
    """A row for each list of video lengths, padded on the left."""
    rows = [
        [65, 66 + row, *(x for count in videos for x in [video_token] * count + [67])]
        for row, videos in enumerate(counts)
    ]
    longest = max(map(len, rows))
    ids = torch.tensor([[0] * (longest - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
    return ids, mask


def test_every_weight_is_where_it_belongs(model):
    pixels = film()
    expected = video_tokens(pixels)
    ids, _ = prompt_ids([[expected.shape[1]]], model.config.video_token_id)
    seen = []
    handle = model.model.language_model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["inputs_embeds"]), with_kwargs=True
    )
    with torch.no_grad():
        logits = model(input_ids=ids, pixel_values_videos=pixels).logits
    handle.remove()
    embeddings = WEIGHTS["model.embed_tokens.weight"][ids]
    embeddings[0, 2:-1] = expected[0]
    torch.testing.assert_close(seen[0], embeddings, atol=1e-5, rtol=1e-5)
    text = {
        name: x for name, x in WEIGHTS.items() if name.startswith(("model.embed_tokens", "model.layers", "model.norm"))
    }
    config = {key: LLAVA_VIDEO[key] for key in QWEN2} | {
        "vocab_size": WIDTH,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
    }
    reference = plain.language_model(text | {"lm_head.weight": WEIGHTS["lm_head.weight"]}, embeddings, config)
    torch.testing.assert_close(logits, reference, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("mode", list(SIDES))
@pytest.mark.parametrize("newlines", ["grid", "frame", "one_token", "no_token"])
def test_pooling_and_newlines(tmp_path, mode, newlines):
    write_llava_video(tmp_path, mm_spatial_pool_mode=mode, mm_newline_position=newlines)
    model, pixels = load_model(tmp_path), film(2)
    with torch.no_grad():
        found = model.model.get_video_features(pixels).pooler_output
    expected = video_tokens(pixels, mode, newlines)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    ids, mask = prompt_ids([[expected.shape[1]]] * 2, model.config.video_token_id)
    with STSimDiff(retention=0.5).attach(model) as attached:
        model.generate(input_ids=ids, attention_mask=mask, pixel_values_videos=pixels, max_new_tokens=1)
    tokens = SIDES[mode] ** 2 * 3
    newline = {"grid": SIDES[mode] * 3, "frame": 3, "one_token": 1, "no_token": 0}[newlines]
    selection = attached.selection
    assert len(selection.mask) == 2 * (tokens + newline)
    assert selection.budget == (-(-tokens // 2),) * 2


@pytest.mark.parametrize(
    ("entries", "rope"),
    [
        ({"rope_theta": 5e5}, {"rope_type": "default", "rope_theta": 5e5}),
        ({"rope_scaling": None}, {"rope_type": "default", "rope_theta": 1e6}),
        (
            {"rope_scaling": {"type": "linear", "factor": 2.0}},
            {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e6},
        ),
        (
            {"rope_scaling": {"rope_type": "linear", "factor": 4.0}},
            {"rope_type": "linear", "factor": 4.0, "rope_theta": 1e6},
        ),
    ],
)
def test_rotary_positions_are_those_of_the_config(tmp_path, entries, rope):
    write_llava_video(tmp_path, **entries)
    model = load_model(tmp_path)
    assert model.config.text_config.rope_parameters == rope
    inverse = model.model.language_model.rotary_emb.inv_freq
    torch.testing.assert_close(inverse, rope["rope_theta"] ** (-torch.arange(0, 8, 2) / 8) / rope.get("factor", 1))


@pytest.mark.parametrize("side", [1, 2, 3, 4, 7, 9, 27])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_bilinear_pooling_of_any_side(side, stride):
    vision = LLAVA_VIDEO["vision_config"] | {"image_size": 4 * side, "num_hidden_layers": 1}
    text = {key: LLAVA_VIDEO[key] for key in QWEN2} | {"vocab_size": 8, "num_hidden_layers": 1}
    options = {"mm_newline_position": "no_token", "mm_spatial_pool_stride": stride}
    model = LlavaVideoModel(LlavaVideoConfig(vision_config=vision, text_config=text, **options))
    model.mm_projector = torch.nn.Identity()
    maps = torch.randn(2, side, side, 3, generator=torch.Generator().manual_seed(side))
    grid = model.config.token_grid(2)
    assert tuple(grid) == (2, -(-side // stride), -(-side // stride))
    found = model.arrange(maps.flatten(1, 2), 2)
    torch.testing.assert_close(found, plain.bilinear(maps, grid.height).reshape(1, grid.size, 3))


def test_the_real_dimensions():
    config = LlavaVideoConfig(text_config={"vocab_size": 152064})
    assert tuple(config.token_grid(64)) == (64, 14, 14)
    assert config.separator_layout == "row"
    assert config.patches == 27
    assert config.video_token_id == 152063


def test_videos_and_rows_do_not_disturb_each_other(model):
    pixels = film(3, 2)
    count = video_tokens(pixels).shape[1]
    ids, mask = prompt_ids([[count, count], [count]], model.config.video_token_id)
    with torch.no_grad():
        both = model(input_ids=ids, attention_mask=mask, pixel_values_videos=pixels).logits
        alone = model(input_ids=ids[1:, -count - 3 :], pixel_values_videos=pixels[2:]).logits
    torch.testing.assert_close(both[1, -count - 3 :], alone[0], atol=1e-4, rtol=1e-4)


def test_beams_see_the_videos_of_their_own_prompt(model):
    pixels = film(3, 2)
    count = video_tokens(pixels).shape[1]
    ids, mask = prompt_ids([[count, count], [count]], model.config.video_token_id)
    options = {"max_new_tokens": 3, "num_beams": 2, "do_sample": False}
    together = model.generate(input_ids=ids, attention_mask=mask, pixel_values_videos=pixels, **options)
    alone = model.generate(input_ids=ids[:1], pixel_values_videos=pixels[:2], **options)
    assert torch.equal(together[0], alone[0])


def test_it_is_saved_and_loaded_as_a_model_of_transformers(model, tmp_path):
    model.save_pretrained(tmp_path)
    again = load_model(tmp_path)
    assert type(again) is LlavaVideoForConditionalGeneration
    place = {"_name_or_path": ""}
    assert again.config.to_dict() | place == model.config.to_dict() | place
    assert all(torch.equal(x, again.state_dict()[name]) for name, x in model.state_dict().items())
    assert again.generation_config.suppress_tokens == model.generation_config.suppress_tokens


@pytest.mark.parametrize("dtype", ["auto", "bfloat16", torch.float16])
def test_dtypes(folder, dtype):
    loaded = load_model(folder, dtype=dtype)
    assert loaded.dtype == (torch.float32 if dtype == "auto" else getattr(torch, str(dtype).removeprefix("torch.")))
    assert not loaded.training
    out = loaded.model.get_video_features(film()).pooler_output
    assert out.dtype == loaded.dtype
    assert bool(out.isfinite().all())


def test_tied_embeddings_need_no_head(tmp_path):
    weights = {name: x for name, x in WEIGHTS.items() if name != "lm_head.weight"}
    folders.write_shards(tmp_path, weights)
    write_json(tmp_path / "config.json", LLAVA_VIDEO | {"tie_word_embeddings": True})
    model = load_model(tmp_path)
    assert model.lm_head.weight is model.model.language_model.embed_tokens.weight
    assert torch.equal(model.lm_head.weight, weights["model.embed_tokens.weight"])


def test_the_placeholder_is_never_generated(model):
    with torch.no_grad():
        model.lm_head.weight.data[-1] += 100
        out = model.generate(input_ids=torch.tensor([[65, 66]]), max_new_tokens=4, do_sample=False)
        model.lm_head.weight.data[-1] -= 100
    assert model.config.video_token_id == WIDTH - 1
    assert not bool((out == WIDTH - 1).any())


def test_the_output_can_be_a_tuple(model):
    ids = torch.tensor([[65, 66, 67]])
    logits, *_ = model(input_ids=ids, return_dict=False)
    assert torch.equal(logits, model(input_ids=ids).logits)


def test_labels_give_a_loss(model):
    ids = torch.tensor([[65, 66, 67]])
    out = model(input_ids=ids, labels=ids)
    expected = torch.nn.functional.cross_entropy(out.logits[0, :-1], ids[0, 1:])
    torch.testing.assert_close(out.loss, expected)


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        (
            {"pixel_values_videos": torch.zeros(1, 2, 3, 24, 24)},
            "must be .videos, frames, 3, 20, 20., got .1, 2, 3, 24, 24.",
        ),
        ({"pixel_values_videos": torch.zeros(2, 3, 20, 20)}, "must be .videos, frames, 3, 20, 20."),
        ({"pixel_values_videos": torch.zeros(1, 1, 3, 20, 20)}, "have 12 tokens, but input_ids hold 0 placeholders"),
        ({"inputs_embeds": torch.zeros(1, 3, HIDDEN)}, "pass either input_ids or inputs_embeds"),
    ],
)
def test_inputs_that_do_not_fit(model, inputs, sentence):
    with pytest.raises(StgraphError, match=sentence):
        model(input_ids=torch.tensor([[65, 66, 67]]), **inputs)


@pytest.mark.parametrize(
    ("entries", "sentence"),
    [
        ({"add_faster_video": True}, "slow-fast model .add_faster_video."),
        ({"mm_projector_type": "perceiver"}, "mm_projector_type must be mlpNx_gelu"),
        ({"mm_spatial_pool_mode": "area"}, "mm_spatial_pool_mode must be one of bilinear, average, max"),
        ({"mm_newline_position": "row"}, "mm_newline_position must be one of"),
    ],
)
def test_variants_that_cannot_be_loaded(tmp_path, entries, sentence):
    write_llava_video(tmp_path, **entries)
    with pytest.raises(StgraphError, match=sentence):
        load_model(tmp_path)


# -- folders as they are published ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["llava", "llava_qwen"])
@pytest.mark.parametrize("named", [True, False])
def test_published_folders_are_told_by_class_and_entries(tmp_path, kind, named):
    """LLaVA-Video-7B-Qwen2 says ``llava``, as the models of another family do; others of its authors ``llava_qwen``."""
    write_llava_video(tmp_path, model_type=kind, **({} if named else {"architectures": None}))
    assert load_model(tmp_path).config.model_type == "llava_video"


def test_another_family_of_the_same_type_is_refused(tmp_path):
    write_llava_video(tmp_path, model_type="llava", architectures=["LlavaForConditionalGeneration"])
    with pytest.raises(StgraphError, match=r"and class LlavaForConditionalGeneration, which stgraph does not support"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("entries", "position"),
    [
        ({}, "grid"),
        ({"mm_newline_position": None}, "one_token"),
        ({"mm_newline_position": "one_token", "mm_patch_merge_type": "spatial"}, "no_token"),
        ({"mm_patch_merge_type": "flat"}, "no_token"),
        ({"mm_patch_merge_type": None}, "no_token"),
    ],
)
def test_newlines_are_where_the_original_puts_them(tmp_path, entries, position):
    write_llava_video(tmp_path, **entries)
    assert load_model(tmp_path).config.mm_newline_position == position


def test_what_the_original_does_whatever_the_configuration_says(tmp_path):
    write_llava_video(tmp_path, mm_spatial_pool_stride=4)
    model, pixels = load_model(tmp_path), film()
    assert model.config.mm_spatial_pool_stride == 2
    with torch.no_grad():
        found = model.model.get_video_features(pixels).pooler_output
    torch.testing.assert_close(found, video_tokens(pixels), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("said", [True, False])
def test_whether_times_are_told_is_read(tmp_path, said):
    write_llava_video(tmp_path, add_time_instruction=said)
    model = load_model(tmp_path)
    prompt = FramePrompt.from_folder(tmp_path, model)
    assert model.config.add_time_instruction is said
    assert prompt.time_instruction is said
    assert FramePrompt.from_folder(tmp_path, model, time_instruction=not said).time_instruction is not said


def test_entries_are_replaced_by_keyword(folder):
    model, pixels = load_model(folder, mm_spatial_pool_mode="average", rope_theta=5e5, torch_dtype="float64"), film()
    assert model.config.text_config.rope_parameters["rope_theta"] == 5e5
    assert model.dtype == torch.float64
    with torch.no_grad():
        found = model.model.get_video_features(pixels.double()).pooler_output
    torch.testing.assert_close(found.float(), video_tokens(pixels, "average"), atol=1e-5, rtol=1e-5)
    assert load_model(folder, mm_spatial_pool_stride=3).config.mm_spatial_pool_stride == 3
    with pytest.raises(StgraphError, match=r"'mm_spatial_pool' is neither .*; did you mean 'mm_spatial_pool_"):
        load_model(folder, mm_spatial_pool="average")
    with pytest.raises(StgraphError, match="mm_spatial_pool_mode must be one of bilinear, average, max"):
        load_model(folder, mm_spatial_pool_mode="area")


# -- prompts -----------------------------------------------------------------------------------------------------------


def clip(frames=3, height=30, width=50):
    pixels = torch.randint(0, 256, (frames, 3, height, width), generator=torch.Generator().manual_seed(1))
    return Video(pixels.to(torch.uint8), torch.arange(frames).double() / 2, duration=7.25)


def test_the_prompt_of_a_question(folder, model):
    prompt = FramePrompt.from_folder(folder, model)
    made = prompt(clip(), "Who is it?")
    shown = made["input_ids"][0] == model.config.video_token_id
    assert int(shown.sum()) == 3 * 3 * 4
    text = [
        prompt.tokenizer.decode(ids)
        for ids in (made["input_ids"][0, : shown.nonzero()[0]], made["input_ids"][0, shown.nonzero()[-1] + 1 :])
    ]
    assert text[0] == "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
    assert text[1].startswith("\nThe video lasts for 7.25 seconds, and 3 frames are uniformly sampled from it.")
    assert "located at 0.00s,0.50s,1.00s." in text[1]
    assert text[1].endswith("\nWho is it?<|im_end|>\n<|im_start|>assistant\n")
    plainly = FramePrompt.from_folder(folder, model, time_instruction=False)(clip(), "Who is it?")
    asked = plainly["input_ids"][0, shown.nonzero()[-1] + 1 :]
    assert prompt.tokenizer.decode(asked) == "\nWho is it?<|im_end|>\n<|im_start|>assistant\n"


def test_pixels_are_squeezed_and_scaled(folder, model):
    from PIL import Image

    video = clip()
    pixels = FramePrompt.from_folder(folder, model)(video, "Who?")["pixel_values_videos"]
    assert pixels.shape == (1, 3, 3, FRAME_SIDE, FRAME_SIDE)
    picture = Image.fromarray(video.frames[1].permute(1, 2, 0).numpy()).resize(
        (FRAME_SIDE, FRAME_SIDE), Image.Resampling.BICUBIC
    )
    expected = (torch.from_numpy(np.array(picture)) / 255 - 0.5) / 0.5
    torch.testing.assert_close(pixels[0, 1].permute(1, 2, 0), expected)


def test_a_batch_is_padded_on_the_left_and_answers_as_one_by_one(folder, model):
    prompt = FramePrompt.from_folder(folder, model)
    questions = ["Who is it?", "And what is that behind the tree?"]
    batch = prompt.batch([clip(), clip()], questions)
    assert batch["attention_mask"][0, 0] == 0
    assert bool((batch["attention_mask"][1] == 1).all())
    with STSimDiff(retention=0.3).attach(model):
        together = model.generate(**batch, max_new_tokens=4, do_sample=False)[:, -4:]
        for row, question in enumerate(questions):
            alone = model.generate(**prompt(clip(), question), max_new_tokens=4, do_sample=False)[0, -4:]
            assert torch.equal(together[row], alone)


def test_prompts_that_cannot_be_made(folder, model, tmp_path):
    prompt = FramePrompt.from_folder(folder, model)
    with pytest.raises(StgraphError, match="one question for each of 2 videos, got 1"):
        prompt.batch([clip(), clip()], ["Who?"])
    with pytest.raises(StgraphError, match="equally many frames, got 3, 4"):
        prompt.batch([clip(), clip(4)], ["Who?", "What?"])
    with pytest.raises(StgraphError, match="has no tokenizer"):
        FramePrompt.from_folder(tmp_path, model)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(StgraphError, match=r"the tokenizer in .* cannot be read"):
        FramePrompt.from_folder(tmp_path, model)
