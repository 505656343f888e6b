"""Training: goes on where it stopped, moves what it should and nothing else; and what similarities are compared."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from experiments.benchmark import guides, tower, train
from experiments.benchmark import model as small
from experiments.benchmark.answering import Reader
from experiments.benchmark.labels import EVENTS, LABELS, Auxiliary, labels
from experiments.benchmark.painting import paint, unpainted
from experiments.benchmark.questions import VISIBLE, Question, ask
from experiments.benchmark.script import DIRECTIONS, Knobs, write_script
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
    train.main([*told, str(first["state"]["seconds"] / 60 + 0.02)])
    second = torch.load(tmp_path / "state.pt")
    assert second["state"]["step"] > first["state"]["step"]
    assert second["state"]["seconds"] > first["state"]["seconds"]
    moved = {key for key, value in second["model"].items() if not torch.equal(value, first["model"][key])}
    assert not any(key.startswith("model.visual.") for key in moved)
    assert any("language_model" in key for key in moved)
    assert Reader.from_pretrained(tmp_path / "checkpoint").model.dtype == torch.float32
    assert Reader.from_pretrained(tmp_path / "checkpoint", dtype="auto").model.dtype == torch.bfloat16
    size = sum(path.stat().st_size for path in (tmp_path / "checkpoint").glob("*.safetensors"))
    assert size < 20e6


@pytest.mark.slow
def test_two_processes_train_one_model(towered: Path, tmp_path: Path) -> None:
    told = ["--tower", str(towered / "tower.pt"), "--run", str(tmp_path), "--processes", "2", "--minutes"]
    train.main([*told, "0.05"])
    first = torch.load(tmp_path / "state.pt")["state"]
    train.main([*told, str(first["seconds"] / 60 + 0.05)])
    second = torch.load(tmp_path / "state.pt")["state"]
    assert second["step"] > first["step"] >= 1
    assert second["clips"] > first["clips"]


def test_gradients_are_averaged_over_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    import torch.distributed as distributed

    other = torch.arange(6.0)
    monkeypatch.setattr(distributed, "all_reduce", lambda flat: flat.add_(other / 2))
    one, two = torch.nn.Parameter(torch.zeros(2, 2)), torch.nn.Parameter(torch.zeros(2))
    one.grad, two.grad = torch.ones(2, 2), torch.full((2,), 3.0)
    unused = torch.nn.Parameter(torch.zeros(3))
    trainer = SimpleNamespace(trained=[one, unused, two], processes=2)
    train.Trainer._average(trainer)  # type: ignore[arg-type]
    assert one.grad.tolist() == [[0.5, 1.0], [1.5, 2.0]]
    assert two.grad.tolist() == [3.5, 4.0]


def test_stages_follow_the_clock() -> None:
    import random

    chance = random.Random(0)
    assert {train.stage(0.0, chance).frames for _ in range(60)} == {8, 16}
    assert 32 not in {train.stage(0.7, chance).frames for _ in range(60)}
    assert 32 in {train.stage(0.95, chance).frames for _ in range(60)}


@pytest.mark.parametrize("fresh", [0, 2])
def test_a_deeper_model_begins_as_the_checkpoint_it_starts_from(tmp_path: Path, fresh: int) -> None:
    old = small.build(1, layers=4)
    small.save(old, tmp_path, dtype=torch.float32)
    new = small.build(2, layers=4 + fresh)
    train.deepen(new, tmp_path)
    ids = torch.tensor([[IDS["what"], IDS["flashed"], IDS["<|im_start|>"]]])
    with torch.no_grad():
        torch.testing.assert_close(new(input_ids=ids).logits, old(input_ids=ids).logits)
    pixels, grid = tower.patches(torch.from_numpy(paint(write_script("deeper", Knobs(side=96))).frames[:1]))
    with torch.no_grad():
        seen = [model.model.visual(pixels, grid_thw=grid).pooler_output for model in (old, new)]
    torch.testing.assert_close(*seen)


def test_labels_tell_what_happens() -> None:
    for number in range(12):
        clip = paint(write_script(f"labels {number}", Knobs()))
        found, shown = labels(clip), (clip.shares >= VISIBLE)
        names = {"flash", "enter", "leave", "fade", "move"}
        for which, (scene, thing) in enumerate(clip.script.things):
            mine = found["subject"] == KINDS.index(thing.kind)
            told = {EVENTS[int(event)].split()[0] for event in found["event"][mine].unique()}
            if thing.event is None:
                assert not mine.any()
                continue
            assert told <= {thing.event}
            assert told & names or not shown[which, thing.first :].any()
            assert not mine[: thing.first].any()
            assert not mine[scene.stop :].any()
            if thing.event == "move":
                directions = {EVENTS[int(event)] for event in found["event"][mine].unique()}
                assert directions == {f"move {thing.direction}"}
            if thing.event == "leave":  # the place is remembered
                assert mine[thing.last : scene.stop].any() or not shown[which, thing.first - 1].any()


def test_labels_count_objects_and_shots() -> None:
    for number in range(12):
        script = write_script(f"labels {number}", Knobs())
        clip = paint(script)
        found = labels(clip)
        visible = (clip.shares.max(0) >= VISIBLE) * (clip.shares.argmax(0) + 1)
        assert found["scene"][:, 0, 0].tolist() == [sum(cut <= frame for cut in script.cuts) for frame in range(16)]
        assert found["frame"][:, 3, 4].tolist() == list(range(16))
        assert ((found["kind"] < len(KINDS)).numpy() == (visible > 0)).all()
        assert ((found["colour"] < len(COLOURS)) == (found["kind"] < len(KINDS))).all()
        kinds = found["kind"].flatten().tolist()
        colours, met = found["colour"].flatten().tolist(), defaultdict(list)
        for kind, colour, told in zip(kinds, colours, found["alike"].flatten().tolist(), strict=True):
            if kind < len(KINDS) and kind not in met[colour]:
                met[colour].append(kind)
            assert told == (min(len(met[colour]), 5) if kind < len(KINDS) else 0)
        for kind in set(kinds) - {len(KINDS)}:  # the first frame that shows it, and how its tokens share it
            mine = found["kind"] == kind
            begin = int(mine.flatten(1).any(1).nonzero()[0])
            assert torch.equal(found["first"].bool() & mine, mine & (torch.arange(16) == begin)[:, None, None])
            parts = found["part"][mine]
            assert abs(int(parts.sum()) - 255) <= len(parts)
            which = next(n for n, (_, thing) in enumerate(script.things) if thing.kind == KINDS[kind])
            shown = torch.from_numpy(clip.shares[which, begin])[mine[begin]].float()
            torch.testing.assert_close(found["part"][begin][mine[begin]] / 255, shown / shown.sum(), rtol=0, atol=0.003)
        assert not found["part"][found["first"] == 0].any()


def test_labels_tell_where_objects_came_from() -> None:
    moved = 0
    for number in range(12):
        script = write_script(f"moves {number}", Knobs(motion=0))
        found = labels(paint(script))
        for _, thing in script.things:
            mine = found["kind"] == KINDS.index(thing.kind)
            if not mine.any():
                continue
            if thing.event in (None, "flash", "fade"):  # it stands still, but for the shaking of the camera
                assert set(found["origin"][mine].tolist()) == {thing.place}
                assert not found["across"][mine].any()
                assert not found["down"][mine].any()
            if thing.event == "move":
                later = mine.clone()
                later[: thing.last] = False
                if not later.any() or not mine[: thing.first].any():
                    continue
                assert set(found["origin"][mine].tolist()) == {thing.place}
                along, across = ("across", "down") if thing.direction in ("left", "right") else ("down", "across")
                assert set(found[along][later].tolist()) == {1 if thing.direction in ("left", "up") else 2}
                assert not found[across][later].any()
                moved += 1
    assert moved > 5


def test_guided_heads_look_where_objects_begin() -> None:
    truth = labels(paint(write_script("guides 1", Knobs())))
    kind, part = truth["kind"].flatten(), truth["part"].flatten()
    rows, looked = guides.begin_of_object(truth)
    assert 0 < len(rows) <= guides.ROWS
    for row, there in zip(rows.tolist(), looked, strict=True):
        same = (kind == kind[row]).nonzero()[:, 0]
        wanted = [n for n in same.tolist() if n // 64 == int(same[0]) // 64 and n <= row]
        assert there.nonzero()[:, 0].tolist() == wanted
    rows, looked = guides.objects_alike(truth)
    colour = truth["colour"].flatten()
    for row, weights in zip(rows.tolist(), looked, strict=True):
        seen = (colour == colour[row]) & (torch.arange(len(colour)) <= row)
        torch.testing.assert_close(weights, torch.where(seen, part / 255, 0.0))
    for question in ask(paint(write_script("guides 1", Knobs())), each=9, practice=True):
        firsts, moved = guides.counted(truth, question), guides.displaced(truth, question)
        assert (firsts is not None) == (question.type == "count")
        if firsts is not None:
            assert abs(float(firsts.sum()) - int(question.word)) < 0.1
        if moved is not None:
            assert question.type == "direction"
            assert set(kind[moved].tolist()) == {KINDS.index(question.text.split()[4])}
            side = {"left": ("across", 1), "right": ("across", 2), "up": ("down", 1), "down": ("down", 2)}
            label, told = side[question.word]
            assert set(truth[label].flatten()[moved].tolist()) == {told}


def test_guides_find_the_words_that_look() -> None:
    truth = {name: torch.zeros(1, 1, 4, dtype=torch.uint8) for name in ("kind", "colour", "part", "across", "down")}
    truth["across"][0, 0, 2:] = 1
    names = {
        "count": f"how many {next(iter(COLOURS))} objects were there",
        "direction": f"which way did the {KINDS[0]} move",
    }
    asked = [(20, Question("count", names["count"], ("1", "2"), 0, truth["kind"].numpy()))]
    asked.append((40, Question("direction", names["direction"], ("up", "down"), 0, truth["kind"].numpy())))
    truth["part"][0, 0, 1] = 255
    model, deep = small.build(3, layers=5), small.build(3, layers=6)
    columns = torch.tensor([3, 4, 5, 6])
    told = guides.GUIDES["alike"]._replace(tokens=None)
    rows, target = guides.Guided(model, told).targets(truth, columns, 50, asked)
    assert rows.tolist() == [20 - 4]
    assert target.nonzero().tolist() == [[0, 0], [0, 4]]
    assert target.sum().item() == 1
    rows, target = guides.Guided(model, guides.GUIDES["moved"]).targets(truth, columns, 50, asked)
    assert rows.tolist() == [40 - 2]
    assert target.nonzero().tolist() == [[0, 5], [0, 6]]
    rows, target = guides.Guided(deep, guides.GUIDES["answer"]).targets(truth, columns, 50, asked)
    assert rows.tolist() == [20, 40]
    assert target.nonzero().tolist() == [[0, 16], [1, 38]]
    ids = torch.randint(10, 60, (1, 50), generator=torch.Generator().manual_seed(0))
    guided = guides.Guided(model, guides.GUIDES["moved"])
    model(input_ids=ids)
    assert float(guided.loss([torch.zeros(0, dtype=torch.long)], [torch.zeros(0, 50)])) == 0


def test_the_loss_on_attention_is_that_of_the_head_s_attention() -> None:
    model = small.build(3, layers=2)
    model.model.language_model.config._attn_implementation = "eager"
    guided = guides.Guided(model, guides.Guide(1, 2, guides.objects_alike))
    ids = torch.randint(10, 60, (2, 9), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        chances = model(input_ids=ids, output_attentions=True).attentions[1][:, 2]
        rows = [torch.tensor([4, 8]), torch.tensor([6])]
        targets = [torch.zeros(2, 9), torch.zeros(1, 9)]
        targets[0][0, [0, 3]], targets[0][1, 8], targets[1][0, [1, 2, 5, 6]] = 0.5, 1.0, 0.25
        loss = guided.loss(rows, targets)
    wanted = [
        -torch.xlogy(target, chances[n, row]).sum(1).mean()
        for n, (row, target) in enumerate(zip(rows, targets, strict=True))
    ]
    torch.testing.assert_close(loss, torch.stack(wanted).mean())


def test_practice_counts_every_colour_and_shows_more_movement() -> None:
    asked: dict[bool, Counter[tuple[str, str]]] = {}
    for practice in (False, True):
        scripts = [write_script(f"practice {n}", Knobs(), practice=practice) for n in range(40)]
        questions = [question for script in scripts for question in ask(unpainted(script), each=9, practice=practice)]
        asked[practice] = Counter((question.type, question.word) for question in questions)
    numbers = [asked[True]["count", word] for word in "1234"]
    assert min(numbers) > 20
    assert max(numbers) < 3 * min(numbers)
    assert asked[True].total() > asked[False].total()
    for direction in DIRECTIONS:
        assert asked[True]["direction", direction] > asked[False]["direction", direction]


def test_common_classes_count_less() -> None:
    read = Auxiliary(8)
    hidden = torch.randn(50, 8)
    truth = {name: torch.randint(0, label.classes, (50,), dtype=torch.uint8) for name, label in LABELS.items()}
    loss, right = read(hidden, truth)
    wanted = 0.0
    for name, head in read.heads.items():
        rows = head(read.norm(hidden)).log_softmax(1).detach()
        weight = torch.ones(LABELS[name].classes)
        if LABELS[name].common is not None:
            weight[LABELS[name].common] = LABELS[name].rare
            weight[(LABELS[name].common + 1) % LABELS[name].classes] = LABELS[name].frequent
        picked, each = rows[range(50), truth[name].long()], weight[truth[name].long()]
        wanted = wanted + float(-(picked * each).sum() / each.sum()) * LABELS[name].weight
        chosen, asked = (
            rows.argmax(1) == truth[name],
            truth[name] != (255 if LABELS[name].common is None else LABELS[name].common),
        )
        assert right[name] == pytest.approx(float(chosen[asked].float().mean()))
    assert float(loss.detach()) == pytest.approx(wanted, rel=1e-5)


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
