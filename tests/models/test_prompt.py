"""What video LLMs are given: frames and a question as their inputs, made without torchvision."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from stgraph import StgraphError, Video
from stgraph.models.conversation import Times
from stgraph.models.prompt import ProcessorPrompt, has_torchvision, load_prompt
from stgraph.models.torch_prompt import OWN, TorchPrompt, _fit_frame, _fit_video

from .folders import special, tiny_folder, write_tokenizer
from .prompt_folders import prompt_folder
from .zoo import FAMILIES, PATCH, SIDE

QUESTION = "What happens?"


def film(frames, height, width, step=0.4):
    """Noise, a frame every ``step`` seconds."""
    noise = torch.Generator().manual_seed(frames * height + width)
    pixels = torch.randint(0, 256, (frames, 3, height, width), dtype=torch.uint8, generator=noise)
    return Video(pixels, torch.arange(frames, dtype=torch.float64) * step, duration=frames * step)


@pytest.fixture(scope="module")
def prompts(tmp_path_factory):
    """A prompt of every family that needs no torchvision, with its model, by family."""
    made = {}
    for name in OWN:
        folder = tmp_path_factory.mktemp(name)
        model = prompt_folder(folder, name)
        made[name] = load_prompt(str(folder), model), model
    return made


def test_torchvision_is_no_dependency():
    assert not has_torchvision()


def test_a_torchvision_for_another_torch(tmp_path, monkeypatch):
    (tmp_path / "torchvision").mkdir()
    broken = "raise RuntimeError('operator torchvision::nms does not exist')"
    (tmp_path / "torchvision" / "__init__.py").write_text(broken)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(StgraphError, match=r"torchvision and torch do not fit together \(operator torchvision::nms"):
        has_torchvision()


def test_a_processor_that_refuses_a_video():
    class Picky:
        tokenizer, chat_template = None, "any"

        def apply_chat_template(self, messages, **options):
            return messages[0]["content"][1]["text"]

        def __call__(self, **inputs):
            raise ValueError("t:1 must be larger than temporal_factor:2")

    with pytest.raises(StgraphError, match=r"refuses a video of 1 frames of 8×16: t:1 must be larger"):
        ProcessorPrompt(Picky())(film(1, 8, 16), QUESTION)


@pytest.mark.parametrize("name", OWN)
def test_a_model_takes_what_is_made_for_it(prompts, name):
    prompt, model = prompts[name]
    assert isinstance(prompt, TorchPrompt)
    for frames, height, width in ((5, 16, 16), (2, 24, 40), (4, 33, 18)):
        inputs = prompt(film(frames, height, width), QUESTION)
        assert inputs["input_ids"].shape == inputs["attention_mask"].shape
        words = prompt.words(inputs["input_ids"][0])
        assert words.startswith("user")
        assert words.endswith("assistant")
        assert QUESTION in words
        with torch.no_grad():
            logits = model(**inputs).logits
        assert logits.shape[:2] == inputs["input_ids"].shape
        assert logits.isfinite().all()


@pytest.mark.parametrize("name", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_5"])
def test_patches_of_a_group_of_frames_lie_as_the_model_wants_them(prompts, name):
    """Group by group, block by block of 2 × 2 patches, and in each patch colour, frame, row, column."""
    prompt, _ = prompts[name]
    video = film(3, 8, 16)  # sides that need no resizing; the last frame makes a group with itself
    inputs = prompt(video, QUESTION)
    assert inputs["video_grid_thw"].tolist() == [[2, 2, 4]]
    mean, std = (np.array(prompt.settings[key]) for key in ("image_mean", "image_std"))
    frames = video.frames[[0, 1, 2, 2]].numpy() / 255
    expected = []
    for group, block, row, column in itertools.product(range(2), range(2), range(2), range(2)):
        patch = []
        for colour, frame, y, x in itertools.product(range(3), range(2), range(PATCH), range(PATCH)):
            down, right = row * PATCH + y, (2 * block + column) * PATCH + x
            value = frames[2 * group + frame, colour, down, right]
            patch.append((value - mean[colour]) / std[colour])
        expected.append(patch)
    np.testing.assert_allclose(inputs["pixel_values_videos"].numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("name", ["llava_onevision", "llava_next_video", "video_llava"])
def test_frames_become_pictures_as_pillow_makes_them(prompts, name):
    prompt, _ = prompts[name]
    video = film(2, 40, 56)
    pixels = prompt(video, QUESTION)["pixel_values_videos"]
    assert pixels.shape == (1, 2, 3, SIDE, SIDE)
    mean, std = (torch.tensor(prompt.settings[key]).view(3, 1, 1) for key in ("image_mean", "image_std"))
    levels = (pixels[0] * std + mean) * 255
    width = SIDE if name == "llava_onevision" else SIDE * 56 // 40
    for frame, level in zip(video.frames, levels, strict=True):
        image = Image.fromarray(frame.permute(1, 2, 0).numpy()).resize((width, SIDE), Image.Resampling.BICUBIC)
        left = (width - SIDE) // 2
        expected = torch.from_numpy(np.array(image)).permute(2, 0, 1)[:, :, left : left + SIDE]
        assert (level - expected).abs().max() < 1.01, "half a level of rounding on either side"


def test_a_frame_smaller_than_the_crop_has_black_around_it(prompts):
    prompt, _ = prompts["llava_next_video"]
    small = TorchPrompt(
        prompt.tokenizer,
        prompts["llava_next_video"][1],
        prompt.own,
        {
            "size": {"shortest_edge": 8},
            "crop_size": {"height": SIDE, "width": SIDE},
            "do_normalize": False,
        },
    )
    video = film(1, 8, 8)
    pixels = small(video, QUESTION)["pixel_values_videos"][0, 0]
    torch.testing.assert_close(pixels[:, 4:12, 4:12], video.frames[0] / 255)
    assert pixels.sum() == pytest.approx(float(pixels[:, 4:12, 4:12].sum()), rel=1e-5)


sides = st.integers(8, 300)


@given(sides, sides, st.integers(1, 9), st.integers(1, 40), st.integers(1, 20))
@example(200, 8, 4, 1, 1)
def test_sizes_fit_the_bounds_and_the_aspect_ratio(height, width, frames, low, more):
    """In patches of 4 × 4 with 2 × 2 a token: sides are multiples of 8, the pixels of a frame within the bounds."""
    settings = {"size": {"shortest_edge": 64 * low, "longest_edge": 64 * (low + 40 * more)}}
    h, w = _fit_frame(torch.empty(frames, 3, height, width), 8, 2, settings)
    assert h % 8 == w % 8 == 0
    assert min(h, w) >= 8
    assert h * w >= 64 * low
    if min(h, w) > 8:  # else a side was at its least
        assert h * w <= settings["size"]["longest_edge"]
        assert abs(h / w - height / width) <= (8 / w) * (1 + height / width) + (8 / h) * (height / width)


def test_known_sizes():
    """By hand, for 8 frames of 480 × 854."""
    frames = torch.empty(8, 3, 480, 854)
    two, three = (OWN[name].defaults for name in ("qwen2_5_vl", "qwen3_vl"))
    # Tokens of 28 pixels: 17.1 × 30.5, rounded.
    assert _fit_frame(frames, 28, 2, two) == (17 * 28, 30 * 28)
    # Tokens of 32 pixels: 8 frames of 15 × 26.7 exceed 768, so sides shrink by √(8 · 480 · 854 / (768 · 32²)) = 2.042.
    assert _fit_video(frames, 32, 2, three) == (7 * 32, 13 * 32)
    # Capped: 90 % of 1,000 tokens are 225 for each two of 8 frames: sides shrink by √(480 · 854 / (225 · 28²)) = 1.524.
    capped = {"cap_pixels_per_frame": True, "max_video_tokens": 1000}
    assert _fit_frame(frames, 28, 2, two | capped) == (11 * 28, 20 * 28)
    # Capped: an eighth of 768 tokens is less than 1.05 times the least, 134.4: √(480 · 854 / (134.4 · 32²)) = 1.726.
    assert _fit_video(frames, 32, 2, three | {"cap_pixels_per_frame": True}) == (8 * 32, 15 * 32)


def test_narrow_frames_are_refused():
    settings = OWN["qwen2_vl"].defaults
    with pytest.raises(StgraphError, match=r"factor of 200 at most, got 2×500"):
        _fit_frame(torch.empty(1, 3, 2, 500), 28, 2, settings)


def test_too_few_frames_are_refused(prompts):
    with pytest.raises(StgraphError, match="joins 2 frames into one step, and the video has 1; sample more frames"):
        prompts["qwen3_vl"][0](film(1, 16, 16), QUESTION)
    assert prompts["qwen2_vl"][0](film(1, 16, 16), QUESTION)["video_grid_thw"].tolist() == [[1, 4, 4]]


def test_older_names_of_the_bounds(prompts):
    prompt, model = prompts["qwen2_vl"]
    older = TorchPrompt(prompt.tokenizer, model, prompt.own, prompt.settings | {"min_pixels": 64, "max_pixels": 256})
    assert older.settings["size"] == {"shortest_edge": 64, "longest_edge": 256}
    assert older(film(2, 64, 64), QUESTION)["video_grid_thw"].tolist() == [[1, 4, 4]]


def test_placeholders_and_times(prompts):
    video = film(5, 16, 16, step=0.5)
    prompt, _ = prompts["qwen2_5_vl"]
    inputs = prompt(video, QUESTION)
    places = inputs["input_ids"][0] == special("<|video_pad|>")
    assert places.sum() == 3 * 2 * 2
    assert torch.equal(inputs["mm_token_type_ids"][0], 2 * places.long())
    assert inputs["second_per_grid_ts"].tolist() == [1.0], "two frames of half a second"
    words = prompts["qwen3_vl"][0].words(prompts["qwen3_vl"][0](video, QUESTION)["input_ids"][0])
    assert "<0.2 seconds><1.2 seconds><2.0 seconds>" in words, "midway between the frames of a group"
    assert "second_per_grid_ts" not in prompts["qwen2_vl"][0](video, QUESTION)


def test_times_of_a_lone_frame_are_the_length_of_the_video():
    assert Times.of(film(1, 8, 8, step=4.0)).fps == 0.25
    assert Times.of(Video(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), torch.zeros(1, dtype=torch.float64))).fps == 1.0
    assert Times.of(film(7, 8, 8, step=0.25)).fps == 4.0


# -- bad input --------------------------------------------------------------------------------------------------------


def test_a_question_that_holds_the_placeholder(prompts):
    with pytest.raises(StgraphError, match=r"placeholder '<\|video_pad\|>' of its one video exactly once"):
        prompts["qwen2_5_vl"][0](film(2, 16, 16), "What is <|video_pad|>?")


def test_a_model_without_chat(prompts, tmp_path):
    _, model = prompts["llava_onevision"]
    write_tokenizer(tmp_path, None)
    with pytest.raises(StgraphError, match="no chat template"):
        load_prompt(str(tmp_path), model)(film(2, 16, 16), QUESTION)


PLACES = (
    "processor_config.json",
    "chat_template.json",
    "chat_template.jinja",
    "additional_chat_templates/default.jinja",
)


@pytest.mark.parametrize("count", range(1, len(PLACES) + 1))
def test_a_template_is_read_wherever_folders_keep_one(prompts, tmp_path, count):
    """The first of the last ``count`` places counts, as for the processors of transformers."""
    _, model = prompts["llava_onevision"]
    write_tokenizer(tmp_path, None)
    for number, place in enumerate(PLACES[-count:]):
        template = f"<video>{number}" + "{{ messages[0]['content'][1]['text'] }}"
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_text(json.dumps({"chat_template": template}) if place.endswith("json") else template)
    loaded = load_prompt(str(tmp_path), model)
    assert loaded.tokenizer.chat_template.startswith("<video>0")
    assert loaded.words(loaded(film(2, 16, 16), QUESTION)["input_ids"][0]) == f"0{QUESTION}"


@pytest.mark.parametrize(
    ("template", "sentence"),
    [
        ("{{ messages[0]['content'] + '' }}", r"does not take a conversation of user with a video \("),
        ("{{ raise_exception('no system') }}", r"does not take a conversation of user with a video \(no system\)"),
        ("{{ messages[0]['content'] }}", "for text only and has no placeholder for a video; give the whole folder"),
        ({"tool_use": "x"}, r"holds chat templates called tool_use and none called default"),
        (3, r"the chat_template in .*chat_template\.json must be text, got 3"),
    ],
)
def test_templates_that_do_not_take_a_video(prompts, tmp_path, template, sentence):
    _, model = prompts["llava_onevision"]
    write_tokenizer(tmp_path, None)
    (tmp_path / "chat_template.json").write_text(json.dumps({"chat_template": template}))
    with pytest.raises(StgraphError, match=sentence):
        load_prompt(str(tmp_path), model)(film(2, 16, 16), QUESTION)


def test_sizes_that_mean_nothing(prompts):
    prompt, model = prompts["qwen2_vl"]
    with pytest.raises(StgraphError, match="must hold shortest_edge and longest_edge"):
        TorchPrompt(prompt.tokenizer, model, prompt.own, {"size": {"height": 8, "width": 8}})
    prompt, model = prompts["llava_onevision"]
    with pytest.raises(StgraphError, match="must hold height and width"):
        TorchPrompt(prompt.tokenizer, model, prompt.own, {"size": {"longest_edge": 8}})
    with pytest.raises(StgraphError, match="turn resizing off"):
        TorchPrompt(prompt.tokenizer, model, prompt.own, {"do_resize": False})


def test_sizes_in_one_number(prompts):
    prompt, model = prompts["llava_next_video"]
    older = TorchPrompt(prompt.tokenizer, model, prompt.own, {"size": SIDE, "crop_size": SIDE})
    video = film(2, 40, 24)
    wanted = prompt(video, QUESTION)["pixel_values_videos"]
    assert torch.equal(older(video, QUESTION)["pixel_values_videos"], wanted)


def test_a_filter_that_only_torchvision_has(prompts):
    prompt, model = prompts["llava_onevision"]
    other = TorchPrompt(prompt.tokenizer, model, prompt.own, prompt.settings | {"resample": 1})
    with pytest.raises(StgraphError, match="set the resize filter 1, which needs torchvision"):
        other(film(2, 20, 20), QUESTION)


def test_broken_files(prompts, tmp_path):
    _, model = prompts["llava_onevision"]
    with pytest.raises(StgraphError, match=r"tokenizer and processor files of .* cannot be read"):
        load_prompt(str(tmp_path), model)
    folder = tiny_folder(tmp_path / "folder", "llava_onevision")
    (folder / "video_preprocessor_config.json").write_text("{")
    with pytest.raises(StgraphError, match=r"video_preprocessor_config\.json of .* is not JSON"):
        load_prompt(str(folder), model)
    (folder / "video_preprocessor_config.json").unlink()
    (folder / "preprocessor_config.json").unlink()
    assert load_prompt(str(folder), model).settings["size"] == {"height": 384, "width": 384}


def test_patches_that_do_not_fit_the_weights(tmp_path):
    """A folder without processor files gets the defaults of its family, which these weights were not made for."""
    folder = tiny_folder(tmp_path, "qwen2_5_vl")
    model = FAMILIES["qwen2_5_vl"].build("sdpa")
    for name in ("preprocessor_config.json", "video_preprocessor_config.json"):
        (folder / name).unlink()
    model.config.vision_config.patch_size = 8
    with pytest.raises(StgraphError, match=r"takes patch_size=8, .* with patch_size=14; copy preprocessor_config"):
        load_prompt(str(folder), model)


def test_a_family_that_only_transformers_prepares(tmp_path):
    model = FAMILIES["video_llama_3"].build("sdpa")
    assert isinstance(model, torch.nn.Module)
    with pytest.raises(StgraphError, match="prepares videos for models of type 'video_llama_3' with torchvision"):
        load_prompt(str(tmp_path), model)
