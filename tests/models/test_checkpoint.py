"""Folders of weights, whole and broken in every way."""

from __future__ import annotations

import json
import shutil

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import load_file, save_file

from stgraph import StgraphError
from stgraph.models import MODELS, load_model
from stgraph.models.checkpoint import INDEX, check_weights, find_weights, read_weights, shortened
from stgraph.models.loading import COMPOSED, input_device, is_placed

from ..memory import peak_growth
from .folders import (
    HIDDEN,
    LLAVA_VIDEO,
    llava_video_shapes,
    random_weights,
    read_back,
    tiny_folder,
    write_json,
    write_llava_video,
    write_shards,
)

WEIGHTS = random_weights(llava_video_shapes())
SECOND = "model-00002-of-00003.safetensors"


@pytest.fixture
def folder(tmp_path):
    write_llava_video(tmp_path)
    return tmp_path


@pytest.mark.parametrize("shards", [1, 2, 5])
def test_shards_hold_together_what_one_file_holds(tmp_path, shards):
    write_shards(tmp_path, WEIGHTS, shards)
    found = find_weights(tmp_path)
    assert len({weight.file for weight in found.values()}) == shards
    assert {name: weight.shape for name, weight in found.items()} == llava_video_shapes()
    read = read_weights(found)
    assert read.keys() == WEIGHTS.keys()
    assert all(torch.equal(x, WEIGHTS[name]) for name, x in read.items())


def test_an_index_is_believed_before_other_files(folder):
    save_file({"model.image_newline": torch.zeros(1)}, folder / "model.safetensors")
    save_file({"stray": torch.zeros(1)}, folder / "stray.safetensors")
    assert find_weights(folder).keys() == WEIGHTS.keys()


def test_missing_shards_are_named(folder):
    (folder / SECOND).unlink()
    with pytest.raises(StgraphError, match=f"lacks 1 of the 3 weight files that its index names: {SECOND};"):
        load_model(folder)


def test_a_folder_without_config(folder):
    (folder / "config.json").unlink()
    with pytest.raises(StgraphError, match=r"has no readable config\.json \(No such file or directory\)"):
        load_model(folder)


@pytest.mark.parametrize("content", ["{", '["llava_qwen"]', "\x00"])
def test_a_config_that_is_not_an_object(folder, content):
    (folder / "config.json").write_text(content)
    with pytest.raises(StgraphError, match=r"config\.json (is not JSON|must hold a JSON object, got list)"):
        load_model(folder)


def test_an_index_without_a_map(folder):
    write_json(folder / INDEX, {"metadata": {}})
    with pytest.raises(StgraphError, match="has no weight_map"):
        load_model(folder)


def test_a_folder_without_weights(tmp_path):
    write_json(tmp_path / "config.json", LLAVA_VIDEO)
    with pytest.raises(StgraphError, match=r"holds neither model\.safetensors nor model\.safetensors\.index\.json"):
        load_model(tmp_path)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "consolidated.00.pth", "model.ckpt"])
@pytest.mark.parametrize("kind", ["llava_qwen", "qwen2_5_vl"])
def test_pickle_is_refused_and_never_opened(tmp_path, name, kind):
    write_json(tmp_path / "config.json", LLAVA_VIDEO | {"model_type": kind})
    torch.save(Bomb(tmp_path / "exploded"), tmp_path / name)
    with pytest.raises(StgraphError, match=f"only as pickle .{name}.*, which is never read .* save_pretrained"):
        load_model(tmp_path)
    assert not (tmp_path / "exploded").exists()


class Bomb:
    """Makes a file when it is read from pickle."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return type(self.path).touch, (self.path,)


def test_a_shard_that_is_cut_off(folder):
    whole = (folder / SECOND).read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"\xff" * 100):
        (folder / SECOND).write_bytes(content)
        with pytest.raises(StgraphError, match=f"{SECOND} cannot be read as safetensors .*; download it again"):
            load_model(folder)


def test_missing_and_unexpected_weights_are_listed_with_their_counts(tmp_path):
    renamed = {name.replace("self_attn", "attention"): x for name, x in WEIGHTS.items()}
    write_shards(tmp_path, renamed)
    write_json(tmp_path / "config.json", LLAVA_VIDEO)
    with pytest.raises(StgraphError) as caught:
        load_model(tmp_path)
    sentence = str(caught.value)
    count = sum("self_attn" in name for name in WEIGHTS)
    assert f"missing are {count}: model.vision_tower.vision_tower.vision_model.encoder.layers.0.self_attn" in sentence
    assert f"unexpected are {count}: model.layers.0.attention" in sentence or "unexpected are" in sentence
    assert sentence.count(f"and {count - 4} more") == 2
    assert len(sentence) < 1500


def test_layers_behind_the_last_that_is_used_are_left_out(tmp_path):
    tower = "model.vision_tower.vision_tower.vision_model."
    extra = {
        name.replace("layers.1.", "layers.2."): x.clone()
        for name, x in WEIGHTS.items()
        if f"{tower}encoder.layers.1." in name
    }
    head = {f"{tower}head.probe": torch.zeros(1, 1, 16)}
    norm = {name: x for name, x in WEIGHTS.items() if "post_layernorm" in name}
    assert len(norm) == 2
    write_shards(tmp_path, {name: x for name, x in (WEIGHTS | extra | head).items() if name not in norm})
    write_json(tmp_path / "config.json", LLAVA_VIDEO)
    assert len(load_model(tmp_path).model.vision_tower.encoder.layers) == 2


def test_wrong_shapes_are_told(tmp_path):
    write_shards(tmp_path, WEIGHTS)
    write_json(tmp_path / "config.json", LLAVA_VIDEO | {"intermediate_size": 40})
    with pytest.raises(
        StgraphError, match=r"12 weights .* model\.layers\.0\.mlp\.\w+\.weight is \(\d+, \d+\), not \(\d+, \d+\)"
    ):
        load_model(tmp_path)


def test_nothing_is_read_before_all_is_checked(folder, monkeypatch):
    monkeypatch.setattr("stgraph.models.siglip_qwen.read_weights", lambda weights: pytest.fail("read"))
    weights = load_file(folder / SECOND)
    name = next(iter(weights))
    save_file({key: x for key, x in weights.items() if key != name}, folder / SECOND)
    with pytest.raises(StgraphError, match=f"missing are 1: {name}"):
        load_model(folder)


@pytest.mark.parametrize("kind", ["bert", None, "llava_mistral"])
def test_a_model_of_another_kind(folder, kind):
    write_json(folder / "config.json", LLAVA_VIDEO | {"model_type": kind, "architectures": ["LlavaMistralForCausalLM"]})
    message = rf"is a model of type {kind!r} and class LlavaMistralForCausalLM, which stgraph does not support"
    with pytest.raises(StgraphError, match=message) as caught:
        load_model(folder)
    assert "qwen2_5_vl" in str(caught.value)
    assert "llava_qwen" in str(caught.value)


# -- models of transformers --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def qwen(tmp_path_factory):
    return tiny_folder(tmp_path_factory.mktemp("qwen"), "qwen2_5_vl")


def test_models_of_transformers_are_loaded_too(qwen):
    model = load_model(qwen, dtype="bfloat16", attn_implementation="eager")
    assert model.config.model_type == "qwen2_5_vl"
    assert model.dtype == torch.bfloat16
    assert model.model.language_model.config._attn_implementation == "eager"
    assert not model.training
    stored = read_back(qwen)
    assert all(torch.equal(x, stored[name].bfloat16()) for name, x in model.state_dict().items() if name in stored)


@pytest.mark.parametrize("family", ["llava_video", "qwen2_5_vl"])
@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"attn_implementation": "none"}, r"cannot be loaded \(.*none.*\); check the options"),
        ({"no_such_option": 1}, "'no_such_option' is neither an option of load_model nor an entry of the configura"),
        ({"device_mop": "auto"}, "'device_mop' is neither .* did you mean 'device_map'"),
        ({"model_type": "llava"}, "'model_type' is neither an option of load_model nor an entry"),
        ({"torch_dtype": "float99"}, "torch_dtype must be auto or a dtype of torch such as bfloat16, got 'float99'"),
        ({"dtype": "bfloat16", "torch_dtype": torch.float16}, "dtype is torch.bfloat16 and torch_dtype torch.float16"),
        ({"dtype": "float99"}, "dtype must be auto or a dtype of torch such as bfloat16, got 'float99'"),
        ({"dtype": 16}, "dtype must be auto"),
    ],
)
def test_options_that_are_not_known(qwen, folder, family, options, sentence):
    with pytest.raises(StgraphError, match=sentence):
        load_model(qwen if family == "qwen2_5_vl" else folder, **options)


def test_entries_of_the_configuration_and_the_older_name_of_dtype(qwen):
    model = load_model(qwen, torch_dtype="bfloat16", text_config={"rms_norm_eps": 0.5}, device_map="cpu")
    assert model.dtype == torch.bfloat16
    assert model.config.text_config.rms_norm_eps == 0.5
    assert not is_placed(model), "a model on one device may be moved"
    plain = load_model(qwen)
    assert not is_placed(plain)
    assert input_device(plain) == torch.device("cpu")


def test_weights_of_another_architecture(qwen, tmp_path):
    mixed = shutil.copytree(qwen, tmp_path / "mixed")
    for file in mixed.glob("*.safetensors"):
        file.unlink()
    (mixed / INDEX).unlink()
    write_shards(mixed, WEIGHTS, 1)
    with pytest.raises(StgraphError, match=r"lacks \d+ weights of the model that its config\.json describes: .*; give"):
        load_model(mixed)


def test_their_missing_weights_are_not_made_up(qwen, tmp_path):
    broken = shutil.copytree(qwen, tmp_path / "broken")
    weights = read_back(broken)
    gone = next(name for name in weights if "up_proj" in name)
    for file in broken.glob("*.safetensors"):
        file.unlink()
    (broken / INDEX).unlink()
    write_shards(broken, {name: x for name, x in weights.items() if name != gone}, 1)
    with pytest.raises(StgraphError, match=r"lacks 1 weights .*up_proj\.weight"):
        load_model(broken)
    write_shards(broken, weights | {gone: torch.zeros(3, 5)}, 1)
    with pytest.raises(StgraphError, match=r"has other shapes for 1 weights .*up_proj\.weight"):
        load_model(broken)
    (broken / "model.safetensors").unlink()
    with pytest.raises(StgraphError, match="holds neither"):
        load_model(broken)


@pytest.mark.parametrize("part", ["text_config", "vision_config"])
@pytest.mark.parametrize("family", ["qwen2_5_vl", "llava_onevision"])
def test_a_configuration_with_fewer_layers_than_the_weights(tmp_path, family, part):
    folder = tiny_folder(tmp_path, family)
    config = json.loads((folder / "config.json").read_text())
    layers = next(name for name in ("num_hidden_layers", "depth") if name in config[part])
    config[part][layers] -= 1
    config[part].pop("layer_types", None)
    (folder / "config.json").write_text(json.dumps(config))
    gone = rf"(layers|blocks)\.{config[part][layers]}\."
    with pytest.raises(StgraphError, match=rf"holds \d+ weights that have no place in the model .*{gone}"):
        load_model(folder)


@pytest.mark.parametrize("family", ["llava_video", "nvila"])
def test_a_published_configuration_with_fewer_layers_than_the_weights(tmp_path, family):
    folder = tiny_folder(tmp_path, family)
    place = folder / ("config.json" if family == "llava_video" else "llm/config.json")
    config = json.loads(place.read_text())
    config["num_hidden_layers"] -= 1
    place.write_text(json.dumps(config))
    with pytest.raises(StgraphError, match=rf"unexpected are \d+: .*layers\.{config['num_hidden_layers']}\."):
        load_model(folder)


def test_what_older_files_hold_beside_the_weights_is_left_out(qwen, tmp_path):
    older = shutil.copytree(qwen, tmp_path / "older")
    weights = read_back(older)
    for file in older.glob("*.safetensors"):
        file.unlink()
    (older / INDEX).unlink()
    write_shards(older, weights | {"model.language_model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}, 1)
    load_model(older)
    write_shards(older, weights | {"model.language_model.layers.0.self_attn.o_proj.bias": torch.ones(4)}, 1)
    with pytest.raises(StgraphError, match=r"holds 1 weights that have no place in .*o_proj\.bias"):
        load_model(older)


def test_code_that_comes_with_a_model_is_never_run(folder):
    auto = {"AutoConfig": "evil.EvilConfig", "AutoModelForImageTextToText": "evil.EvilModel"}
    write_json(folder / "config.json", LLAVA_VIDEO | {"auto_map": auto})
    (folder / "evil.py").write_text(f"open({str(folder / 'exploded')!r}, 'w')\n")
    load_model(folder)
    assert not (folder / "exploded").exists()


def test_every_family_of_ours_has_an_adapter():
    assert set(COMPOSED) <= set(MODELS)


# -- the Hub -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["./nothing", "/no/such/folder", "a b", "a/b/c"])
def test_no_such_folder(name):
    with pytest.raises(StgraphError, match=f"there is no folder {name}; give a folder, or the name of a model"):
        load_model(name)


def test_the_hub_cannot_be_reached(monkeypatch):
    def unreachable(*args, **kwargs):
        raise LocalEntryNotFoundError("Cannot find an appropriate cached snapshot folder.\nMore lines.")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    with pytest.raises(StgraphError, match=r"no folder nobody/nothing, .* \(Cannot find an .* folder\); give a folder"):
        load_model("nobody/nothing")


def test_a_model_of_the_hub_is_loaded_from_the_cache(folder, monkeypatch):
    asked = []

    def download(name, *, allow_patterns):
        asked.append((name, allow_patterns))
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert load_model("lmms-lab/LLaVA-Video-7B-Qwen2").config.model_type == "llava_video"
    assert asked[0] == ("lmms-lab/LLaVA-Video-7B-Qwen2", ["config.json"])
    assert not any(pattern.endswith((".py", ".bin", ".pt")) or pattern == "*" for pattern in asked[1][1])


# -- parts -------------------------------------------------------------------------------------------------------------


def test_names_are_shortened():
    assert shortened("ab") == "a, b"
    assert shortened("abcd") == "a, b, c, d"
    assert shortened("abcdefg") == "a, b, c, d and 3 more"


def test_weights_that_fit_pass(tmp_path):
    write_shards(tmp_path, WEIGHTS, 2)
    check_weights(find_weights(tmp_path), llava_video_shapes(), tmp_path)


def test_weights_are_not_in_memory_twice(tmp_path):
    rows = 400_000
    folders = tmp_path / "small", tmp_path / "large"
    for path, count in zip(folders, (WEIGHTS["lm_head.weight"].shape[0], rows), strict=True):
        large = {name: torch.zeros(count, HIDDEN) for name in ("model.embed_tokens.weight", "lm_head.weight")}
        write_shards(path, WEIGHTS | large)
        write_json(path / "config.json", LLAVA_VIDEO | {"vocab_size": count})
    load = "from stgraph.models import load_model; model = load_model({!r}); [x.sum() for x in model.parameters()]"
    growth, _ = peak_growth(*(load.format(str(path)) for path in folders))
    size = 2 * rows * HIDDEN * 4
    assert 0.9 * size < growth < 1.3 * size
