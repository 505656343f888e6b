"""Training: goes on where it stopped, moves what it should and nothing else; and what similarities are compared."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from experiments.benchmark import model as small
from experiments.benchmark import tower, train
from experiments.benchmark.answering import Reader
from experiments.benchmark.painting import paint
from experiments.benchmark.script import Knobs, write_script
from experiments.benchmark.sequence import IDS
from experiments.benchmark.similarity import describe, small_tokens, teacher_tokens
from experiments.benchmark.sprites import COLOURS, KINDS
from stgraph import VideoTokens


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny DINOv2 with random weights."""
    from transformers import Dinov2Config, Dinov2Model

    folder = tmp_path_factory.mktemp("teacher")
    torch.manual_seed(0)
    config = Dinov2Config(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, patch_size=14, image_size=112)
    Dinov2Model(config).save_pretrained(folder)
    settings = {"image_processor_type": "BitImageProcessor", "image_mean": [0.5] * 3, "image_std": [0.25] * 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return folder


@pytest.fixture(scope="module")
def towered(teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tower that was trained for a moment."""
    path = tmp_path_factory.mktemp("tower")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tower, "TAUGHT_CLIPS", 2)
        told = ["--teacher", str(teacher), "--out", str(path / "tower.pt"), "--taught", str(path / "teacher.pt")]
        tower.main([*told, "--minutes", "0.03"])
    return path


def test_labels_of_the_tower_are_what_is_painted() -> None:
    frames, truth = tower.batch(3, backgrounds=1, each=4)
    again, same = tower.batch(3, backgrounds=1, each=4)
    assert (frames == again).all()
    assert all((truth[key] == same[key]).all() for key in truth)
    assert frames.shape == (4, 96, 96, 3)
    there = truth["kind"] < len(KINDS)
    assert (there == (truth["colour"] < len(COLOURS))).all()
    assert 0.2 < there.float().mean() < 0.9


def test_edges_are_cosines_of_neighbours() -> None:
    tokens = torch.randn(2, 3, 4, 5, 6)
    near, later = tower.cosines(tokens)
    assert len(near) == 2 * 3 * (4 * 4 + 3 * 5)
    assert len(later) == 2 * 2 * 4 * 5
    assert float(later[0]) == pytest.approx(float(F.cosine_similarity(tokens[0, 0, 0, 0], tokens[0, 1, 0, 0], dim=0)))
    assert float(near[0]) == pytest.approx(float(F.cosine_similarity(tokens[0, 0, 0, 0], tokens[0, 0, 0, 1], dim=0)))


def test_the_tower_is_trained_and_its_teacher_asked_once(teacher: Path, towered: Path) -> None:
    saved = torch.load(towered / "tower.pt")
    begun = small.build(0).state_dict()
    moved = {key for key, value in saved["model"].items() if not torch.equal(value, begun[key])}
    assert moved
    assert all(key.startswith("model.visual.") for key in moved)
    assert (towered / "teacher.pt").exists()


def test_names_begin_as_what_the_tower_tells(towered: Path) -> None:
    saved = torch.load(towered / "tower.pt")
    model = small.build(0)
    train.begin(model, saved["heads"])
    words = model.get_input_embeddings().weight.detach()
    told = saved["heads"]["kind.weight"][: len(KINDS)]
    told = told - told.mean(0)
    chosen = (words[[IDS[kind] for kind in KINDS]] @ told.T).argmax(1)
    assert chosen.tolist() == list(range(len(KINDS)))


def test_training_goes_on_where_it_stopped(towered: Path, tmp_path: Path) -> None:
    told = ["--tower", str(towered / "tower.pt"), "--run", str(tmp_path), "--minutes"]
    train.main([*told, "0.02"])
    first = torch.load(tmp_path / "state.pt")
    assert first["state"]["step"] >= 1
    train.main([*told, "0.08"])
    second = torch.load(tmp_path / "state.pt")
    assert second["state"]["step"] > first["state"]["step"]
    assert second["state"]["seconds"] >= 3
    moved = {key for key, value in second["model"].items() if not torch.equal(value, first["model"][key])}
    assert not any(key.startswith("model.visual.") for key in moved)
    assert any("language_model" in key for key in moved)
    reader = Reader.from_pretrained(tmp_path / "checkpoint")
    assert str(reader.model.dtype) == "torch.bfloat16"
    size = sum(path.stat().st_size for path in (tmp_path / "checkpoint").glob("*.safetensors"))
    assert size < 20e6


def test_stages_follow_the_clock() -> None:
    import random

    chance = random.Random(0)
    assert {train.stage(0.0, chance).frames for _ in range(30)} == {8}
    assert 16 in {train.stage(0.7, chance).frames for _ in range(30)}
    assert 32 in {train.stage(0.95, chance).frames for _ in range(60)}


def test_similarities_by_hand() -> None:
    features = torch.tensor([[[1.0, 0], [1, 0.1]], [[0, 1], [1, 0]]]).view(2, 1, 2, 2)
    found = describe(VideoTokens.from_grid(features))
    spatial = F.cosine_similarity(features[:, 0, 0], features[:, 0, 1], dim=-1)
    temporal = F.cosine_similarity(features[0, 0], features[1, 0], dim=-1)
    assert found["spatial"]["mean"] == pytest.approx(float(spatial.mean()), abs=1e-4)
    assert found["temporal"]["mean"] == pytest.approx(float(temporal.mean()), abs=1e-4)
    assert found["spatial"]["share"] == found["temporal"]["share"] == 0.5
    assert sum(found["temporal"]["histogram"]) == pytest.approx(1)
    assert found["components"] == 0.75  # both tokens of the first frame, and the last one


def test_both_towers_give_a_grid(teacher: Path, tmp_path: Path) -> None:
    small.save(small.build(0, layers=1), tmp_path, dtype=torch.float32)
    reader = Reader.from_pretrained(tmp_path)
    clip = paint(write_script("grids", Knobs(frames=8, side=112)))
    assert tuple(teacher_tokens(str(teacher), clip.video).grids[0]) == (8, 8, 8)
    clip = paint(write_script("grids", Knobs(frames=8, side=96)))
    torch.testing.assert_close(small_tokens(reader, clip.video).features, reader.tokens(clip)[0].features)
