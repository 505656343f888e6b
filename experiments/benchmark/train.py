"""Train the language model of the small video LLM, on full tokens only; the tower is frozen.

    python -m experiments.benchmark.train --minutes 90

The same command goes on from the last checkpoint, after any interruption. Short clips come first, long ones later.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import signal
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from . import model as small
from .painting import paint
from .questions import Question, ask
from .script import PLACES, Knobs, write_script
from .sequence import END, IDS, logits, pack
from .sprites import COLOURS, KINDS
from .tower import RUNS, encode

Example = tuple[Tensor, list[Question]]

STAGES = ((0.0, ((8, 96, 1.0),)), (0.35, ((16, 128, 0.8), (8, 96, 0.2))), (0.85, ((16, 128, 0.85), (32, 128, 0.15))))
"""From which share of the training on, clips of which (frames, side, share of the batches)."""


def begin(model: Any, heads: dict[str, Tensor]) -> None:
    """Let words and attention begin where they help: retrieval by name is then learnt in minutes, not in hours.

    The linear layers that told kinds, colours, places and flashes from the tower's tokens are reused. A name begins as
    the vector that its layer takes for that name alone, and an answer is read off by the layer's row. Three heads of
    each layer begin by comparing and copying what these layers tell; words share a direction by which these heads look
    past them, at the video. The times of answers begin as the tokens that
    tell the time of a frame. All of it is trained further.
    """
    words: Tensor = model.get_input_embeddings().weight
    head: Tensor = model.lm_head.weight
    names = {"kind": KINDS, "colour": tuple(COLOURS), "place": PLACES}
    told = {asked: heads[f"{asked}.weight"][: len(known)] for asked, known in names.items()}
    told = {asked: rows - rows.mean(0) for asked, rows in told.items()}
    told["flash"] = (heads["flash.weight"][1] - heads["flash.weight"][0])[None]
    told = {asked: rows / rows.norm(dim=1).mean() for asked, rows in told.items()}
    scale = small.WIDTH**0.5
    what, where = torch.cat([told["kind"], told["colour"]]), torch.cat([told["place"], told["flash"]])
    # The direction of words is at right angles to all that the tower's layers tell.
    aside = torch.randn(small.WIDTH, generator=torch.Generator().manual_seed(0))
    known_space = torch.cat([what, where])
    aside = F.normalize(aside - aside @ torch.linalg.pinv(known_space) @ known_space, dim=0)
    with torch.no_grad():
        for asked, known in names.items():
            pure = F.normalize(torch.linalg.pinv(told[asked]).T, dim=1)
            for name, row, vector in zip(known, told[asked], pure, strict=True):
                words[IDS[name]], head[IDS[name]] = vector * scale, row
        for name in ("flash", "flashed"):
            words[IDS[name]] = told["flash"][0] * scale
        for time_ in small.times():
            words[IDS[time_]] = words[IDS[f"<{time_} seconds>"]]
            head[IDS[time_]] = F.normalize(words[IDS[f"<{time_} seconds>"]], dim=0)
        said = [number for word, number in IDS.items() if "seconds>" not in word and "vision" not in word]
        words[said] = 0.8 * words[said] + 0.6 * scale * aside
        compared = (told["kind"], told["colour"], where)
        copied = (torch.cat([where, told["colour"]]), what, what)
        for layer in model.model.language_model.layers:
            attention = layer.self_attn
            size = attention.head_dim
            for number in range(3):
                rows, start = compared[number], number * size
                attention.q_proj.weight[start : start + size] = 0
                attention.q_proj.weight[start : start + len(rows)] = rows
                attention.q_proj.weight[start + size - 1] = 1.3 * aside
                rows = copied[number]
                attention.v_proj.weight[start : start + len(rows)] = rows
                attention.k_proj.weight[start : start + size] = attention.q_proj.weight[start : start + size]
                attention.k_proj.weight[start + size - 1] *= -1
            for start in range(0, 6 * size, size):
                value = attention.v_proj.weight[start : start + size]
                attention.o_proj.weight[:, start : start + size] = 0.5 * torch.linalg.pinv(value, rtol=0.05)
            attention.q_norm.weight.fill_(1.6)
            attention.k_norm.weight.fill_(1.6)


def stage(share: float, chance: random.Random) -> Knobs:
    """What the next batch of clips looks like."""
    choices = [mix for begin, mix in STAGES if share >= begin][-1]
    frames, side, _ = chance.choices(choices, [weight for *_, weight in choices])[0]
    return Knobs(
        frames=frames,
        side=side,
        fps=chance.choice((1, 2, 2, 2, 2, 4)),
        noise=chance.choice((4, 10, 10, 10, 20)),
        clutter=chance.choice((0, 6, 6, 12)),
    )


def example(model: Any, name: str, knobs: Knobs, each: int) -> Example:
    """An encoded clip and its questions."""
    clip = paint(write_script(name, knobs))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        tokens = encode(model, torch.from_numpy(clip.frames))
    return tokens.bfloat16(), ask(clip, each=each)


def validate(model: Any, knobs: Knobs, clips: int) -> dict[str, float]:
    """Accuracy by type on validation clips, among the options."""
    right: dict[str, list[bool]] = defaultdict(list)
    for number in range(clips):
        tokens, questions = example(model, f"validation {number}", knobs, 2)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            found, _ = logits(model, pack(model, tokens[None], knobs.fps, [questions]))
        for question, row in zip(questions, found.float(), strict=True):
            best = row[[IDS[option] for option in question.options]].argmax()
            right[question.type].append(int(best) == question.answer)
    return {kind: sum(values) / len(values) for kind, values in right.items()}


def main(arguments: list[str] | None = None) -> None:
    """Train until the minutes are over, or until a signal asks to stop; then save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=90, help="of training in all, earlier calls included")
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tower", type=Path, default=RUNS / "tower.pt")
    parser.add_argument("--run", type=Path, default=RUNS / "train")
    told = parser.parse_args(arguments)
    torch.set_num_threads(1)
    told.run.mkdir(parents=True, exist_ok=True)
    model = small.build(told.seed)
    tower = torch.load(told.tower)
    kept = {key: value for key, value in tower["model"].items() if key.startswith("model.visual.")}
    model.load_state_dict(kept, strict=False)
    begin(model, tower["heads"])
    model.model.visual.requires_grad_(False)
    model.model.visual.config._attn_implementation = "eager"  # the faster one here
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    decayed = [parameter for parameter in trained if parameter.ndim > 1]
    groups = [
        {"params": decayed, "weight_decay": 0.05},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=told.rate, betas=(0.9, 0.95))
    state: dict[str, Any] = {"step": 0, "clips": 0, "seconds": 0.0}
    path = told.run / "state.pt"
    if path.exists():
        saved = torch.load(path)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        state = saved["state"]

    def keep() -> None:
        whole = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "state": state}
        torch.save(whole, path.with_suffix(".new"))
        path.with_suffix(".new").replace(path)

    stopped: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.append(1))
    log = (told.run / "log.jsonl").open("a")
    pool: dict[tuple[int, int, int], list[Example]] = defaultdict(list)
    seen: dict[str, float] = state.setdefault("seen", {})
    last = saved_at = checked = time.monotonic()
    while (share := state["seconds"] / (60 * told.minutes)) < 1 and not stopped:
        step = state["step"]
        rate = told.rate * min(1, (step + 1) / 200) * (0.03 + 0.97 * (0.5 + 0.5 * math.cos(math.pi * share)))
        for group in optimizer.param_groups:
            group["lr"] = rate
        chance = random.Random(f"stgraph training {told.seed} {step}")
        knobs = stage(share, chance)
        count = {8: 4 if share < 0.1 else 6, 16: 4, 32: 2}[knobs.frames]
        # Each clip is shown twice, the second time some steps later, because painting and encoding take a while.
        held = pool[knobs.frames, knobs.side, knobs.fps]
        again = [held.pop(chance.randrange(len(held))) for _ in range(count // 2)] if len(held) > 12 else []
        names = [f"train {told.seed} {step} {which}" for which in range(count - len(again))]
        fresh = [example(model, name, knobs, 4) for name in names]
        held += fresh
        shown = fresh + again
        state["clips"] += len(fresh)
        questions = [chance.sample(asked, min(len(asked), 26)) for _, asked in shown]
        with torch.autocast("cpu", torch.bfloat16):
            packed = pack(model, torch.stack([tokens for tokens, _ in shown]), knobs.fps, questions)
            answered, after = logits(model, packed)
        each = F.cross_entropy(answered.float(), packed.answers, reduction="none")
        ending = F.cross_entropy(after.float(), torch.full_like(packed.answers, END))
        loss = each.mean() + 0.05 * ending
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        state["step"] += 1
        now = time.monotonic()
        state["seconds"] += now - last
        last = now
        with torch.no_grad():
            for question, row in zip([q for asked in questions for q in asked], answered.float(), strict=True):
                best = row[[IDS[option] for option in question.options]].argmax()
                value = float(int(best) == question.answer)
                seen[question.type] = 0.99 * seen.get(question.type, value) + 0.01 * value
            seen["loss"] = 0.98 * seen.get("loss", float(loss)) + 0.02 * float(loss)
        if state["step"] % 20 == 0:
            line = (
                {key: state[key] for key in ("step", "clips", "seconds")}
                | {"rate": rate, "frames": knobs.frames}
                | {key: round(value, 3) for key, value in seen.items()}
            )
            log.write(json.dumps(line) + "\n")
            log.flush()
        if now - saved_at > 180:
            keep()
            saved_at = now
        if now - checked > 360:
            checked = now
            found = validate(model, Knobs(), 24)
            mean = sum(found.values()) / len(found)
            log.write(
                json.dumps(
                    {"step": state["step"], "validation": {k: round(v, 3) for k, v in found.items()}, "mean": mean}
                )
                + "\n"
            )
            log.flush()
            last = time.monotonic()
    keep()
    small.save(model, told.run / "checkpoint")


if __name__ == "__main__":
    main()
