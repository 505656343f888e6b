"""The ``hf`` encoder against transformers itself, on tiny random models of every family."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from stgraph.encoders import ENCODERS
from stgraph.encoders.attention import received
from stgraph.encoders.hf import HuggingFace
from stgraph.errors import StgraphError
from stgraph.video import Video
from tests.encoders.towers import GRID, IMAGE, PATCH, SIDE, TOWERS, Tower

Saved = Callable[[str], Path]


@pytest.fixture(scope="module", autouse=True)
def _offline() -> Any:
    import huggingface_hub.constants as constants
    from transformers.utils import logging as reports

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "HF_HUB_OFFLINE", True)
        reports.set_verbosity_error()
        yield
        reports.set_verbosity_warning()


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    folders: dict[str, Path] = {}

    def save(name: str) -> Path:
        if name not in folders:
            folders[name] = tmp_path_factory.mktemp("tower")
            TOWERS[name].save(folders[name])
        return folders[name]

    return save


def frames_of(tower: Tower, count: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(count)
    return torch.randint(0, 256, (count, 3, *tower.frame_size), dtype=torch.uint8, generator=generator)


def clip_of(frames: Tensor) -> Video:
    return Video(frames, torch.arange(len(frames), dtype=torch.float64) / 2)


def encoder_of(name: str, folder: Path, **parameters: Any) -> HuggingFace:
    return HuggingFace(str(folder), **({"size": SIDE} if TOWERS[name].any_size else {}) | parameters)


def changed(folder: Path, target: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> Path:
    """A copy of a saved model with other weights."""
    target.mkdir()
    (target / "config.json").write_text((folder / "config.json").read_text())
    save_file(change(load_file(folder / "model.safetensors")), target / "model.safetensors", {"format": "pt"})
    return target


def seen_by_transformers(tower: Tower, folder: Path, frames: Tensor, block: int) -> tuple[Tensor, Tensor, Tensor]:
    """Hidden states, received attention and head-mean keys of one block, from eager attention in the whole model."""
    module = tower.load(folder, "eager")
    modeling = sys.modules[type(module).__module__]
    calls: dict[torch.nn.Module, list[tuple[Tensor, Tensor]]] = {}
    eager = modeling.eager_attention_forward  # type: ignore[attr-defined]

    def spy(attention: torch.nn.Module, query: Tensor, key: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        output, weights = eager(attention, query, key, *args, **kwargs)
        calls.setdefault(attention, []).append((key, weights))
        return output, weights

    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(modeling, "eager_attention_forward", spy)
        states = module(**tower.feed(frames), output_hidden_states=True).hidden_states[block + 1]
    height, width = tower.grid
    received, keys = [], []
    for key, weights in list(calls.values())[block]:
        mean = weights.mean(1)
        received.append((mean[:, 0] if tower.leading else mean.sum(1) / (height * width)).flatten())
        keys.append(key.mean(1).flatten(0, 1))
    raster = [tower.raster(part, len(frames)) for part in (states, torch.cat(received)[:, None], torch.cat(keys))]
    return raster[0].flatten(0, 2), raster[1].flatten(), raster[2].flatten(0, 2)


@pytest.mark.parametrize("name", TOWERS)
def test_features_attention_and_keys_are_those_of_transformers(name: str, saved: Saved) -> None:
    tower, folder = TOWERS[name], saved(name)
    frames = frames_of(tower)
    for layer, block in ((None, 3 + tower.layer), (1, 0)):
        states, received, keys = seen_by_transformers(tower, folder, frames, block)
        tokens, signals = encoder_of(name, folder, layer=layer)(clip_of(frames))
        assert tokens.grids == ((3, *tower.grid),)
        assert signals.encoder_attention is not None
        assert signals.encoder_keys is not None
        torch.testing.assert_close(tokens.features, states, atol=3e-5, rtol=1e-4)
        torch.testing.assert_close(signals.encoder_attention, received, atol=1e-6, rtol=1e-4)
        torch.testing.assert_close(signals.encoder_keys, keys, atol=1e-5, rtol=1e-4)
        signals.check(len(tokens.features))
        assert received.std() > 0.01 * received.mean(), "attention so uniform that the comparison would prove nothing"


def test_layers_count_from_both_ends_and_later_blocks_are_not_kept(saved: Saved) -> None:
    clip = clip_of(frames_of(TOWERS["clip"]))
    for front, back in ((1, -3), (2, -2), (3, -1)):
        first, second = (encoder_of("clip", saved("clip"), layer=layer) for layer in (front, back))
        assert torch.equal(first(clip).tokens.features, second(clip).tokens.features)
        assert len(first._tower.module.encoder.layers) == front  # type: ignore[union-attr, arg-type]


@pytest.mark.parametrize("name", ["clip", "siglip2", "qwen2.5 vl"])
def test_same_tokens_on_every_call_and_for_every_batch_size(name: str, saved: Saved) -> None:
    clip = clip_of(frames_of(TOWERS[name], 5))
    encoder = encoder_of(name, saved(name), batch_size=5)
    once, again = encoder(clip), encoder(clip)
    assert torch.equal(once.tokens.features, again.tokens.features)
    for batch_size in (1, 2, 8):
        other = encoder_of(name, saved(name), batch_size=batch_size)(clip)
        for one, two in zip((once.tokens.features, *vars(once.signals).values()),
                            (other.tokens.features, *vars(other.signals).values()), strict=True):  # fmt: skip
            if one is not None:
                torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-5)


def test_tokens_carry_the_timestamps_and_need_no_gradient(saved: Saved) -> None:
    clip = clip_of(frames_of(TOWERS["qwen3 vl"], 3))
    tokens, signals = encoder_of("qwen3 vl", saved("qwen3 vl"), attention=False)(clip)
    assert tokens.timestamps is not None
    assert torch.equal(tokens.timestamps[0], clip.timestamps)
    assert not tokens.features.requires_grad
    assert signals.encoder_attention is None
    assert signals.encoder_keys is None


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", ["clip", "siglip2", "dinov3", "qwen2.5 vl", "video llama 3"])
def test_half_precision_stays_close_to_single(name: str, dtype: Any, saved: Saved) -> None:
    clip = clip_of(frames_of(TOWERS[name]))
    single, half = (encoder_of(name, saved(name), dtype=kind)(clip) for kind in ("float32", dtype))
    assert half.tokens.features.dtype == getattr(torch, dtype)
    assert F.cosine_similarity(single.tokens.features, half.tokens.features.float()).min() > 0.99
    attention = half.signals.encoder_attention
    assert attention is not None
    assert attention.dtype == torch.float32
    torch.testing.assert_close(attention, single.signals.encoder_attention, atol=0.05, rtol=0.2)


def test_pooling_by_two_is_the_mean_of_four(saved: Saved) -> None:
    clip = clip_of(frames_of(TOWERS["siglip"]))
    fine, coarse = (encoder_of("siglip", saved("siglip"), pool=pool)(clip) for pool in (1, 2))
    assert coarse.tokens.grids == ((3, 3, 3),)
    for one, two in ((fine.tokens.features, coarse.tokens.features),
                     (fine.signals.encoder_attention, coarse.signals.encoder_attention),
                     (fine.signals.encoder_keys, coarse.signals.encoder_keys)):  # fmt: skip
        assert one is not None
        assert two is not None
        mean = one.view(3, 3, 2, 3, 2, -1).mean((2, 4)).reshape(two.shape)
        torch.testing.assert_close(two, mean, atol=1e-5, rtol=1e-5)
    assert encoder_of("siglip", saved("siglip"), pool=4)(clip).tokens.grids == ((3, 2, 2),), "rounded up"


@pytest.mark.parametrize("name", ["clip", "siglip", "vit", "dinov2", "dinov3", "internvl", "smolvlm"])
def test_square_towers_take_another_size(name: str, saved: Saved) -> None:
    tower, side = TOWERS[name], 3 * PATCH * 3
    frames = torch.randint(0, 256, (2, 3, side, side), dtype=torch.uint8)
    inputs: dict[str, Any] = tower.feed(frames)
    if name in ("clip", "siglip", "vit"):
        inputs["interpolate_pos_encoding"] = True
    with torch.no_grad():
        states = tower.load(saved(name), "sdpa")(**inputs, output_hidden_states=True).hidden_states[1]
    features = encoder_of(name, saved(name), size=side, layer=1)(clip_of(frames)).tokens.features
    expected = states[:, tower.leading :].flatten(0, 1)
    assert len(features) == 2 * 9 * 9
    torch.testing.assert_close(features, expected, atol=3e-5, rtol=1e-4)


def test_towers_of_any_size_keep_the_aspect_ratio(saved: Saved) -> None:
    wide = Video(torch.zeros(1, 3, 90, 160, dtype=torch.uint8), torch.zeros(1, dtype=torch.float64))
    grid = HuggingFace(str(saved("qwen2 vl")), size=50)(wide).tokens.grids[0]
    assert grid == (1, 10, 16)
    assert grid.height % 2 == grid.width % 2 == 0, "whole tokens of the LLM"
    square = Video(torch.zeros(1, 3, 50, 50, dtype=torch.uint8), torch.zeros(1, dtype=torch.float64))
    assert HuggingFace(str(saved("siglip2")))(square).tokens.grids == ((1, 6, 6),), "its 36 positions"
    assert HuggingFace(str(saved("video llama 3")))._tower.frame_size(50, 50, None) == (448, 448), "it names no size"
    thin = Video(torch.zeros(1, 3, 2, 400, dtype=torch.uint8), torch.zeros(1, dtype=torch.float64))
    assert HuggingFace(str(saved("qwen2 vl")), size=16)(thin).tokens.grids[0].height == 2


# -- pixels -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(60, 60), (17, 17), (37, 91)])
def test_pixels_equal_those_of_the_image_processors(shape: tuple[int, int], saved: Saved, tmp_path: Path) -> None:
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    size = {"height": IMAGE, "width": IMAGE}
    processors = {
        "siglip": SiglipImageProcessorPil(size=size),
        "vit": ViTImageProcessorPil(size=size),
        # CLIP's own crops the longer side away; video LLMs do not, and a square frame tells no difference.
        "clip": CLIPImageProcessorPil(size={"shortest_edge": IMAGE}, crop_size=size),
    }
    frames = torch.randint(0, 256, (2, 3, *shape), dtype=torch.uint8)
    for name, processor in processors.items():
        if name == "clip" and shape[0] != shape[1]:
            continue
        pictures = [Image.fromarray(np.asarray(frame.permute(1, 2, 0))) for frame in frames]
        expected = processor(images=pictures, return_tensors="pt")["pixel_values"]
        pixels = encoder_of(name, saved(name))._tower.pixels(frames, None)
        torch.testing.assert_close(pixels, expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("layout", ["preprocessor_config.json", "processor_config.json"])
def test_the_folder_says_how_pixels_are_prepared(layout: str, saved: Saved, tmp_path: Path) -> None:
    folder = changed(saved("siglip"), tmp_path / "own", dict)
    own = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.5, 0.6, 0.7], "rescale_factor": 1 / 128, "resample": 0}
    (folder / layout).write_text(json.dumps(own if layout[0:3] == "pre" else {"image_processor": own}))
    frames = torch.randint(0, 256, (1, 3, 2 * IMAGE, 2 * IMAGE), dtype=torch.uint8)
    pixels = encoder_of("siglip", folder)._tower.pixels(frames, None)
    nearest = frames[..., 1::2, 1::2] / 128
    expected = (nearest - torch.tensor(own["image_mean"]).view(3, 1, 1)) / torch.tensor(own["image_std"]).view(3, 1, 1)
    torch.testing.assert_close(pixels, expected)


def test_pixels_may_be_left_as_they_are(saved: Saved, tmp_path: Path) -> None:
    folder = changed(saved("siglip"), tmp_path / "raw", dict)
    (folder / "preprocessor_config.json").write_text(json.dumps({"do_rescale": False, "do_normalize": False}))
    frames = torch.randint(0, 256, (1, 3, IMAGE, IMAGE), dtype=torch.uint8)
    assert torch.equal(encoder_of("siglip", folder)._tower.pixels(frames, None), frames.float())


# -- what is loaded, and what is left behind --------------------------------------------------------------------------


def test_only_the_tower_is_loaded_and_kept_for_the_next_clip(saved: Saved) -> None:
    encoder = encoder_of("llava onevision", saved("llava onevision"))
    names = [name for name, _ in encoder._tower.module.named_parameters()]
    assert names
    assert not any("language" in name or "projector" in name for name in names)
    assert encoder._tower is encoder._tower
    assert encoder == encoder_of("llava onevision", saved("llava onevision")), "a loaded encoder is the same value"


def test_checkpoints_from_before_transformers_5_are_read(saved: Saved, tmp_path: Path) -> None:
    def older(weights: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name.replace("vision_tower.", "vision_tower.vision_model."): value for name, value in weights.items()}

    old = changed(saved("llava onevision"), tmp_path / "old", older)
    clip = clip_of(frames_of(TOWERS["llava onevision"]))
    new_features, old_features = (
        HuggingFace(str(path))(clip).tokens.features for path in (saved("llava onevision"), old)
    )
    assert torch.equal(new_features, old_features)


def hooks(module: torch.nn.Module) -> int:
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in module.modules())


def test_nothing_stays_on_the_model_also_after_an_exception(saved: Saved, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = clip_of(frames_of(TOWERS["clip"]))
    encoder = encoder_of("clip", saved("clip"))
    expected = encoder(clip).tokens.features
    assert hooks(encoder._tower.module) == 0

    def fail(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("in the middle")

    with monkeypatch.context() as patch:
        patch.setattr(encoder._tower.block.mlp, "forward", fail)  # type: ignore[union-attr]
        with pytest.raises(RuntimeError, match="in the middle"):
            encoder(clip)
    assert hooks(encoder._tower.module) == 0
    assert torch.overrides._get_current_function_mode() is None
    assert torch.equal(encoder(clip).tokens.features, expected)


def test_transformers_stays_silent_and_keeps_its_settings(
    saved: Saved, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    from transformers.utils import logging as reports

    reports.set_verbosity_warning()
    with caplog.at_level(logging.WARNING):
        encoder_of("llava onevision", saved("llava onevision"))(clip_of(frames_of(TOWERS["llava onevision"])))
    assert reports.get_verbosity() == reports.WARNING
    assert reports.is_progress_bar_enabled()
    reports.set_verbosity_error()
    assert capfd.readouterr() == ("", "")
    assert caplog.text == ""


def test_importing_the_encoder_does_not_import_transformers() -> None:
    code = "import sys, stgraph.encoders.hf; assert 'transformers' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_registry_builds_it_from_its_own_configuration() -> None:
    encoder = ENCODERS.build({"name": "hf", "model": "some/model", "pool": 2, "layer": -1})
    assert encoder == HuggingFace("some/model", pool=2, layer=-1)
    assert ENCODERS.build(ENCODERS.config(encoder)) == encoder
    assert ENCODERS.default_config("hf")["layer"] is None


def test_received_attention_in_blocks_equals_all_at_once() -> None:
    generator = torch.Generator().manual_seed(0)
    query, key = torch.randn(2, 1, 2, 3000, 4, generator=generator)
    weights = (query @ key.transpose(-1, -2) * 0.7).softmax(-1).mean(1)
    attention = received(query, key, 0.7, 3000)
    torch.testing.assert_close(attention, weights.mean(1), atol=1e-8, rtol=1e-4)
    torch.testing.assert_close(received(query, key, 0.7, 2999), weights[:, 0], atol=1e-8, rtol=1e-4)
    assert attention.sum() == pytest.approx(1, abs=1e-4)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["clip", "siglip2", "dinov3", "qwen2.5 vl", "video llama 3"])
def test_cuda_gives_the_tokens_of_the_cpu(name: str, saved: Saved) -> None:
    clip = clip_of(frames_of(TOWERS[name]))
    cpu, cuda = (encoder_of(name, saved(name), device=device)(clip) for device in ("cpu", "cuda"))
    assert cuda.tokens.features.is_cuda
    torch.testing.assert_close(cuda.tokens.features.cpu(), cpu.tokens.features, atol=1e-2, rtol=1e-2)


# -- bad input --------------------------------------------------------------------------------------------------------


def refused(encoder: HuggingFace, *words: str, video: Video | None = None) -> None:
    """The encoder refuses in one sentence with all of ``words``."""
    with pytest.raises(StgraphError) as caught:
        encoder(video or Video(torch.zeros(1, 3, IMAGE, IMAGE, dtype=torch.uint8), torch.zeros(1, dtype=torch.float64)))
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"model": ""}, "encoder.model"),
        ({"layer": 1.5}, "encoder.layer"),
        ({"size": 0}, "encoder.size"),
        ({"pool": 0}, "encoder.pool"),
        ({"batch_size": -1}, "encoder.batch_size"),
        ({"dtype": "float64"}, "encoder.dtype"),
        ({"device": "tpu"}, "encoder.device"),
    ],
)
def test_parameters_out_of_range(parameters: dict[str, Any], words: str) -> None:
    with pytest.raises(StgraphError, match=words):
        HuggingFace(**{"model": "some/model"} | parameters)


def test_models_that_are_not_there(tmp_path: Path) -> None:
    refused(HuggingFace(str(tmp_path / "missing")), "there is no folder", "missing")
    refused(HuggingFace("./missing"), "there is no folder")
    refused(HuggingFace("nobody/nothing-of-this-name"), "nobody/nothing-of-this-name", "cannot be read", "model id")
    refused(HuggingFace(str(tmp_path)), "cannot be read", "config.json")


def test_models_without_a_vision_tower_that_is_known(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    refused(HuggingFace(str(tmp_path)), "'bert'", "supported are", "siglip_vision_model", "qwen2_5_vl_vision")


def test_pickled_checkpoints_and_code_are_refused(saved: Saved, tmp_path: Path) -> None:
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    (pickled / "config.json").write_text((saved("clip") / "config.json").read_text())
    torch.save(load_file(saved("clip") / "model.safetensors"), pickled / "pytorch_model.bin")
    refused(HuggingFace(str(pickled)), "cannot be read", "pickled checkpoints are refused")

    trap = tmp_path / "trap"
    trap.mkdir()
    (trap / "config.json").write_text(json.dumps({"model_type": "own", "auto_map": {"AutoConfig": "own.Config"}}))
    (trap / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Config: pass\n")
    refused(HuggingFace(str(trap)), "cannot be read")
    assert not (tmp_path / "ran").exists()


def test_weights_that_do_not_hold_the_tower(saved: Saved, tmp_path: Path) -> None:
    def without_first_block(weights: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: value for name, value in weights.items() if "layers.0." not in name}

    def without_last_block(weights: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: value for name, value in weights.items() if "layers.2." not in name}

    def other_shape(weights: dict[str, Tensor]) -> dict[str, Tensor]:
        return weights | {"embeddings.class_embedding": torch.zeros(8)}

    holes = changed(saved("clip"), tmp_path / "holes", without_first_block)
    refused(HuggingFace(str(holes)), "no weights that fit 16 tensors", "encoder.layers.0.")
    assert "layers.2." in "".join(load_file(saved("clip") / "model.safetensors"))
    fewer = changed(saved("clip"), tmp_path / "fewer", dict)
    config = json.loads((fewer / "config.json").read_text())
    (fewer / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 2}))
    refused(HuggingFace(str(fewer)), "says 2 blocks in the vision tower", "layers.2.")
    shape = changed(saved("clip"), tmp_path / "shape", other_shape)
    refused(HuggingFace(str(shape)), "no weights that fit 1 tensors", "embeddings.class_embedding")
    unused = changed(saved("clip"), tmp_path / "unused", without_last_block)
    clip = clip_of(frames_of(TOWERS["clip"]))
    whole = HuggingFace(str(saved("clip")))(clip)
    assert torch.equal(HuggingFace(str(unused))(clip).tokens.features, whole.tokens.features), "never needed"
    refused(HuggingFace(str(unused), layer=-1), "encoder.layers.2.")


def test_files_that_are_damaged(saved: Saved, tmp_path: Path) -> None:
    folder = changed(saved("clip"), tmp_path / "damaged", dict)
    config, weights = folder / "config.json", folder / "model.safetensors"
    whole, values = weights.read_bytes(), json.loads(config.read_text())

    preprocessor = folder / "preprocessor_config.json"
    for text in ("{", '{"resample": 9}', '{"image_mean": "x"}', '{"image_std": [1, 1]}'):
        preprocessor.write_text(text)
        refused(HuggingFace(str(folder)), "the preprocessor configuration of", "cannot be read")
    preprocessor.unlink()

    for kept in (0, 3, 2000):
        weights.write_bytes(whole[:kept])
        refused(HuggingFace(str(folder)), "the vision tower of", "cannot be read")
    weights.write_bytes(whole)

    for change in ({"hidden_size": "x"}, {"num_attention_heads": 5}, {"patch_size": 0}):
        config.write_text(json.dumps(values | change))
        refused(HuggingFace(str(folder)), "cannot be read")
    config.write_text("{")
    refused(HuggingFace(str(folder)), "cannot be read", "config.json")


@pytest.mark.parametrize("layer", [0, 4, -4])
def test_layers_that_do_not_exist(layer: int, saved: Saved) -> None:
    refused(encoder_of("clip", saved("clip"), layer=layer), "from 1 to 3, or from -3 to -1", f"got {layer}")


def test_models_that_read_several_layers_ask_for_one(saved: Saved, tmp_path: Path) -> None:
    folder = changed(saved("llava next video"), tmp_path / "several", dict)
    config = json.loads((folder / "config.json").read_text()) | {"vision_feature_layer": [-2, -1]}
    (folder / "config.json").write_text(json.dumps(config))
    refused(HuggingFace(str(folder)), "encoder.layer must be", "[-2, -1]")
    assert len(HuggingFace(str(folder), layer=-2)(clip_of(frames_of(TOWERS["clip"]))).tokens.features) == 3 * 36


def test_frames_smaller_than_a_patch(saved: Saved) -> None:
    refused(HuggingFace(str(saved("siglip")), size=PATCH - 1), "encoder.size must be at least 4", "got 3")
    refused(HuggingFace(str(saved("qwen2 vl")), size=2 * PATCH - 1), "encoder.size must be at least 8", "got 7")


def test_features_that_are_not_finite_name_the_frame(saved: Saved) -> None:
    encoder = encoder_of("siglip", saved("siglip"), batch_size=2, layer=1)

    def spoil(block: torch.nn.Module, inputs: Any, output: Tensor) -> Tensor:
        spoiled = output.clone()
        spoiled[-1, 4, 7] = float("inf")
        return spoiled

    with torch.no_grad():
        encoder._tower.block.register_forward_hook(spoil)
    refused(encoder, "frame 1 (at 0.50 s)", "not finite", video=clip_of(frames_of(TOWERS["siglip"], 5)))


def test_cuda_that_is_not_there(saved: Saved, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    refused(encoder_of("clip", saved("clip"), device="cuda"), "encoder.device=cuda", "no CUDA device")
    assert encoder_of("clip", saved("clip"), device="auto")._tower.module.device.type == "cpu"


def test_without_transformers_the_install_command_is_said(saved: Saved, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = saved("clip")
    monkeypatch.setitem(sys.modules, "transformers", None)
    refused(HuggingFace(str(folder)), 'pip install "stgraph-simdiff[models]')


def test_the_grid_constants_fit_the_towers() -> None:
    assert GRID[0] % 2 == GRID[1] % 2 == 0
    assert all(size % 4 for size in GRID), "cut-off windows are part of the test"
