"""Train the language model of the small video LLM, on full tokens only; the tower is frozen.

    python -m experiments.benchmark.train --minutes 90
    python -m experiments.benchmark.train --minutes 90 --start CHECKPOINT --processes 2

The same command continues from the last saved state, after any interruption. Short clips come first, long ones later.
Beside the answers, the model learns the labels of each visual token (see :mod:`.labels`), through linear layers that
are thrown away.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from . import model as small
from .guides import GUIDES, Guided
from .labels import Auxiliary, labels
from .painting import Clip, paint
from .questions import Question, ask
from .script import PLACES, Knobs, write_script
from .sequence import END, IDS, VIDEO, Packed, logits, pack, prefix_ids, use_packed_attention
from .sprites import COLOURS, KINDS
from .tower import RUNS, encode

Example = tuple[Tensor, list[Question], dict[str, Tensor]]
"""The tokens of a clip, its questions, and the labels of the tokens."""

READ = (2, 3)
"""Layers behind which the auxiliary losses read the labels of visual tokens, counted from 0."""

AUXILIARY = 0.6
"""Weight of the auxiliary losses beside that of the questions; it falls to a quarter at the end."""

GUIDING = 1.0
"""Weight of the losses on attention; it falls to a quarter at the end too."""

LAYERS = 6
"""Of the language model."""

STAGES = (
    (0.0, ((8, 128, 0.6), (16, 128, 0.4))),
    (0.35, ((16, 128, 0.85), (8, 128, 0.15))),
    (0.85, ((16, 128, 0.85), (32, 128, 0.15))),
)
"""From which share of the training on, clips of which (frames, side, share of the batches)."""

BATCH = {(8, 128): 6, (16, 128): 3, (32, 128): 2}
"""(frames, side) -> clips of a batch."""

QUESTIONS = 26
"""Most questions of a clip in a batch."""

BALANCED = 0.24
"""Share of the training from a tower from which on each type of question counts the same; before, the frequent ones
count most: where things are, their names and colours. Training from a checkpoint has that behind it."""

PRACTICE = 0.7
"""Share of the clips that are for practice, see :func:`.script.write_script`."""

HARD = {"count": 4.0, "direction": 2.0}
"""Types that count more than the others in the loss: they are learnt last."""


def deepen(model: Any, start: Path) -> None:
    """Load a checkpoint that may have fewer layers.

    The layers that it lacks come behind its second one, as copies of it that add nothing yet.
    """
    from transformers import Qwen3VLForConditionalGeneration

    earlier = Qwen3VLForConditionalGeneration.from_pretrained(start, dtype=torch.float32)
    model.model.visual.load_state_dict(earlier.model.visual.state_dict())
    old, new = earlier.model.language_model, model.model.language_model
    new.embed_tokens.load_state_dict(old.embed_tokens.state_dict())
    new.norm.load_state_dict(old.norm.state_dict())
    model.lm_head.load_state_dict(earlier.lm_head.state_dict())
    fresh = len(new.layers) - len(old.layers)
    order = [0, 1, *[1] * fresh, *range(2, len(old.layers))]
    for layer, number in zip(new.layers, order, strict=True):
        layer.load_state_dict(old.layers[number].state_dict())
    with torch.no_grad():
        for layer in new.layers[2 : 2 + fresh]:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()


NAMES = {"kind": KINDS, "colour": tuple(COLOURS), "place": PLACES}
"""What the tower was asked of each token -> the answers."""


def begin(model: Any, heads: dict[str, Tensor]) -> None:
    """Let words and attention begin where they help: retrieval by name is then learnt in minutes, not in hours.

    The linear layers that told kinds, colours, places and flashes from the tower's tokens are reused. A name begins as
    the vector that its layer takes for that name alone, and an answer is read off by the layer's row. Three heads of
    each layer begin by comparing and copying what these layers tell; words share a direction by which these heads look
    past them, at the video. A fourth head of the first layers looks from each visual token to the time of its frame.
    The times of answers begin as the tokens that tell the time of a frame. All of it is trained further.
    """
    told = _told(heads)
    what, where = torch.cat([told["kind"], told["colour"]]), torch.cat([told["place"], told["flash"]])
    with torch.no_grad(), small.autocast():
        frames = [torch.from_numpy(paint(write_script(f"begin {n}", Knobs(side=96))).frames[:2]) for n in range(8)]
        seen = F.normalize(encode(model, torch.cat(frames)).float().flatten(0, 2).mean(0), dim=0)
    # Directions of words and of times, at right angles to all that the tower's tokens tell.
    known = torch.cat([what, where, seen[None]])
    free = torch.randn(2, small.WIDTH, generator=torch.Generator().manual_seed(0))
    free = torch.linalg.qr((free - free @ torch.linalg.pinv(known) @ known).T).Q.T
    aside, timed = free
    with torch.no_grad():
        _begin_words(model, told, aside, timed)
        for number, layer in enumerate(model.model.language_model.layers):
            attention = layer.self_attn
            size = attention.head_dim
            parts = [
                projection.weight.unflatten(0, (-1, size))
                for projection in (attention.q_proj, attention.k_proj, attention.v_proj)
            ]
            compared = (told["kind"], told["colour"], where)
            copied = (torch.cat([where, told["colour"]]), what, what)
            for query, key, value, rows, copy in zip(*(part[:3] for part in parts), compared, copied, strict=True):
                query.zero_()
                query[: len(rows)] = rows
                query[-1] = 1.3 * aside
                key.copy_(query)
                key[-1] *= -1
                value[: len(copy)] = copy
            if number < 2:
                query, key = parts[0][3].zero_(), parts[1][3].zero_()
                # A rotary frequency of the time axis at which the own frame is near and the one before is far.
                query[TIME_CHANNEL], key[TIME_CHANNEL] = seen, timed
                # What neither of them is goes where the other one has nothing.
                query[-1], key[-2] = aside, seen
            for head, value in enumerate(parts[2]):
                attention.o_proj.weight[:, head * size : (head + 1) * size] = 0.5 * torch.linalg.pinv(value, rtol=0.05)
            attention.q_norm.weight.fill_(1.6)
            attention.k_norm.weight.fill_(1.6)


TIME_CHANNEL = 3
"""Of a head; 0.12 radians for each step in time."""


def _told(heads: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rows of the tower's linear layers, without what all of a layer share, and of norm 1 on average."""
    told = {}
    for asked, known in NAMES.items():
        rows = heads[f"{asked}.weight"][: len(known)]
        told[asked] = rows - rows.mean(0)
    told["flash"] = (heads["flash.weight"][1] - heads["flash.weight"][0])[None]
    return {asked: rows / rows.norm(dim=1).mean() for asked, rows in told.items()}


def _begin_words(model: Any, told: dict[str, Tensor], aside: Tensor, timed: Tensor) -> None:
    """Write the first values of embeddings and of the rows that answers are read off by."""
    words, head, scale = model.get_input_embeddings().weight, model.lm_head.weight, small.WIDTH**0.5
    for asked, known in NAMES.items():
        pure = F.normalize(torch.linalg.pinv(told[asked]).T, dim=1)
        for name, row, vector in zip(known, told[asked], pure, strict=True):
            words[IDS[name]], head[IDS[name]] = vector * scale, row
    for name in ("flash", "flashed"):
        words[IDS[name]] = told["flash"][0] * scale
    said = [number for word, number in IDS.items() if "seconds>" not in word and "vision" not in word]
    words[said] = 0.8 * words[said] + 0.6 * scale * aside
    for moment in small.times():
        stamp = words[IDS[f"<{moment} seconds>"]]
        head[IDS[moment]] = F.normalize(stamp, dim=0)
        stamp.mul_(0.7).add_(0.7 * scale * timed)


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


def shown(
    model: Any, name: str, knobs: Knobs, each: int, practice: bool = False
) -> tuple[Tensor, list[Question], Clip]:
    """The tokens of a clip, its questions, and the clip."""
    clip = paint(write_script(name, knobs, practice=practice))
    with torch.no_grad(), small.autocast():
        tokens = encode(model, torch.from_numpy(clip.frames))
    return tokens.bfloat16(), ask(clip, each=each, practice=practice), clip


def answered(questions: Sequence[Question], rows: Tensor) -> list[bool]:
    """Whether the likeliest option is the right one, by the (A, V) logits behind each question."""
    found = []
    for question, row in zip(questions, rows, strict=True):
        best = row[[IDS[option] for option in question.options]].argmax()
        found.append(int(best) == question.answer)
    return found


def validate(model: Any, knobs: Knobs, clips: int) -> dict[str, float]:
    """Accuracy by type on validation clips, among the options."""
    right: dict[str, list[bool]] = defaultdict(list)
    for number in range(clips):
        tokens, questions, _ = shown(model, f"validation {number}", knobs, 2)
        with torch.no_grad(), small.autocast():
            rows, _ = logits(model, pack(model, tokens[None], knobs.fps, [questions]))
        for question, correct in zip(questions, answered(questions, rows), strict=True):
            right[question.type].append(correct)
    return {kind: sum(values) / len(values) for kind, values in right.items()}


class Trainer:
    """A model in training, and how far it is.

    Attributes:
        model: in training; its tower is frozen.
        rank: which of ``processes`` processes this is. All have the same weights, and clips of their own.
        state: ``step``, ``clips`` that were painted, ``seconds`` of training, moving averages in ``seen``,
            and whether it began from a tower, ``fresh``.
    """

    def __init__(
        self,
        tower: Path,
        run: Path,
        *,
        seed: int,
        rate: float,
        minutes: float,
        start: Path | None = None,
        rank: int = 0,
        processes: int = 1,
    ) -> None:
        """Begin with a trained tower or with the checkpoint ``start``, or continue with what ``run`` holds."""
        self.seed, self.rate, self.seconds = seed, rate, 60 * minutes
        self.rank, self.processes = rank, processes
        torch.manual_seed(seed)
        self.path = run / "state.pt"
        self.model = small.build(seed, layers=LAYERS)
        self.model.model.visual.requires_grad_(False)
        self.model.model.visual.config._attn_implementation = "eager"  # the faster one on a CPU
        use_packed_attention(self.model)
        self.auxiliary = torch.nn.ModuleList(Auxiliary(small.WIDTH) for _ in READ)
        self.hidden: dict[int, Tensor] = {}
        for number in READ:
            self.model.model.language_model.layers[number].register_forward_hook(self._note(number))
        self.guided = {name: Guided(self.model, guide) for name, guide in GUIDES.items()}
        self.trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.trained += self.auxiliary.parameters()
        groups = [
            {"params": [parameter for parameter in self.trained if parameter.ndim > 1], "weight_decay": 0.05},
            {"params": [parameter for parameter in self.trained if parameter.ndim < 2], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.95))
        self.state: dict[str, Any] = {"step": 0, "clips": 0, "seconds": 0.0, "seen": {}, "fresh": start is None}
        self._pool: dict[tuple[int, int, int], list[Example]] = defaultdict(list)
        if self.path.exists():
            saved = torch.load(self.path)
            self.model.load_state_dict(saved["model"])
            self.auxiliary.load_state_dict(saved["auxiliary"])
            self.optimizer.load_state_dict(saved["optimizer"])
            self.state |= saved["state"]
        elif start is not None:
            deepen(self.model, start)
        else:
            taught = torch.load(tower)
            kept = {key: value for key, value in taught["model"].items() if key.startswith("model.visual.")}
            self.model.load_state_dict(kept, strict=False)
            begin(self.model, taught["heads"])

    @property
    def share(self) -> float:
        """Of the training that is done."""
        return float(self.state["seconds"] / self.seconds)

    def keep(self) -> None:
        """Save all that going on needs; a crash while saving leaves what was saved before."""
        parts = {"model": self.model, "auxiliary": self.auxiliary, "optimizer": self.optimizer}
        whole = {name: part.state_dict() for name, part in parts.items()} | {"state": self.state}
        torch.save(whole, self.path.with_suffix(".new"))
        self.path.with_suffix(".new").replace(self.path)

    def step(self) -> dict[str, Any]:
        """One batch.

        Returns:
            a line of the log.
        """
        begun, number = time.monotonic(), self.state["step"]
        rate = self.rate * min(1, (number + 1) / 100) * (0.03 + 0.97 * (0.5 + 0.5 * math.cos(math.pi * self.share)))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        chance = random.Random(f"stgraph training {self.seed} {number}")
        knobs = stage(self.share, chance)
        if self.rank:
            chance = random.Random(f"stgraph training {self.seed} {number} {self.rank}")
        batch = self._examples(knobs, chance)
        questions = [chance.sample(asked, min(len(asked), QUESTIONS)) for _, asked, _ in batch]
        flat = [question for asked in questions for question in asked]
        with small.autocast():
            packed = pack(self.model, torch.stack([tokens for tokens, *_ in batch]), knobs.fps, questions)
            rows, after = (found.float() for found in logits(self.model, packed))
            visual = prefix_ids(knobs.frames, knobs.grid, knobs.fps) == VIDEO
            truth = {name: torch.stack([told[name] for *_, told in batch]).flatten() for name in batch[0][2]}
            read = [
                auxiliary(self.hidden.pop(number)[:, : packed.prefix][:, visual].flatten(0, 1), truth)
                for number, auxiliary in zip(READ, self.auxiliary, strict=True)
            ]
            guided = self._guide([told for *_, told in batch], packed, visual, questions)
        aside = sum(loss for loss, _ in read) / len(read)
        ending = F.cross_entropy(after, torch.full_like(packed.answers, END))
        each = F.cross_entropy(rows, packed.answers, reduction="none")
        loss = (each * self._weights(flat)).mean() + 0.05 * ending
        value = float(loss.detach())
        loss = loss + (1 - 0.75 * self.share) * (AUXILIARY * aside + GUIDING * sum(guided.values()))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if self.processes > 1:
            self._average()
        torch.nn.utils.clip_grad_norm_(self.trained, 1.0)
        self.optimizer.step()
        seen = self.state["seen"]
        for question, correct in zip(flat, answered(flat, rows.detach()), strict=True):
            seen[question.type] = 0.99 * seen.get(question.type, float(correct)) + 0.01 * correct
        for name, correct in read[-1][1].items():
            seen[f"label {name}"] = 0.98 * seen.get(f"label {name}", correct) + 0.02 * correct
        for name, lost in guided.items():
            now = float(lost.detach())
            seen[f"guide {name}"] = 0.98 * seen.get(f"guide {name}", now) + 0.02 * now
        seen["loss"] = 0.98 * seen.get("loss", value) + 0.02 * value
        self.state["step"] += 1
        self.state["seconds"] += time.monotonic() - begun
        far = {key: self.state[key] for key in ("step", "clips", "seconds")}
        return far | {"rate": rate, "frames": knobs.frames} | {key: round(value, 3) for key, value in seen.items()}

    def _average(self) -> None:
        """Replace the gradients by their mean over all processes."""
        import torch.distributed as distributed

        given = [parameter.grad for parameter in self.trained if parameter.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in given]) / self.processes
        distributed.all_reduce(flat)
        for gradient, part in zip(given, flat.split([gradient.numel() for gradient in given]), strict=True):
            gradient.copy_(part.view_as(gradient))

    def agree(self, stop: bool) -> bool:
        """Whether any process was asked to stop; the clocks of all are set alike, so that all take the same steps."""
        if self.processes > 1:
            import torch.distributed as distributed

            told = torch.tensor([float(stop), self.state["seconds"]], dtype=torch.float64)
            distributed.all_reduce(told, distributed.ReduceOp.MAX)
            stop, self.state["seconds"] = bool(told[0]), float(told[1])
        return stop

    def _guide(
        self,
        told: Sequence[dict[str, Tensor]],
        packed: Packed,
        visual: Tensor,
        questions: Sequence[Sequence[Question]],
    ) -> dict[str, Tensor]:
        """The losses on attention, by the name of the guide."""
        columns, length = visual.nonzero()[:, 0], packed.embeddings.shape[1]
        marks = iter(packed.asked[:, 1].tolist())
        marked = [[(next(marks), question) for question in asked] for asked in questions]
        losses = {}
        for name, guided in self.guided.items():
            found = [guided.targets(truth, columns, length, asked) for truth, asked in zip(told, marked, strict=True)]
            losses[name] = guided.loss([rows for rows, _ in found], [target for _, target in found])
        return losses

    def _note(self, number: int) -> Callable[..., None]:
        """A hook that keeps what a layer gives."""

        def hook(_module: Any, _inputs: Any, output: Any) -> None:
            self.hidden[number] = output if isinstance(output, Tensor) else output[0]

        return hook

    def _weights(self, questions: Sequence[Question]) -> Tensor:
        """(A,) of the questions in the loss, 1 on average."""
        if self.state["fresh"] and self.share < BALANCED:
            return torch.ones(len(questions))
        counts = Counter(question.type for question in questions)
        weights = torch.tensor([HARD.get(question.type, 1.0) / counts[question.type] for question in questions])
        return weights / weights.mean()

    def _examples(self, knobs: Knobs, chance: random.Random) -> list[Example]:
        """A batch; each clip is shown twice, some steps apart, because painting and encoding take a while."""
        count, number = BATCH[knobs.frames, knobs.side], self.state["step"]
        held = self._pool[knobs.frames, knobs.side, knobs.fps]
        again = [held.pop(chance.randrange(len(held))) for _ in range(count // 2)] if len(held) > 12 else []
        first = self.rank * count
        names = [f"train {self.seed} {number} {which}" for which in range(first, first + count - len(again))]
        painted = [shown(self.model, name, knobs, 4, practice=chance.random() < PRACTICE) for name in names]
        fresh = [(tokens, questions, labels(clip)) for tokens, questions, clip in painted]
        held += fresh
        self.state["clips"] += len(fresh)
        return fresh + again


def main(arguments: list[str] | None = None) -> None:
    """Train until the minutes are over, or until a signal asks to stop; then save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=52.5, help="of training in all, earlier calls included")
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1, help="each has clips of its own; gradients are averaged")
    parser.add_argument("--tower", type=Path, default=RUNS / "tower.pt")
    parser.add_argument("--start", type=Path, help="folder of a checkpoint to start from, of as many layers or fewer")
    parser.add_argument("--run", type=Path, default=RUNS / "train")
    told = parser.parse_args(arguments)
    told.run.mkdir(parents=True, exist_ok=True)
    if told.processes == 1:
        _train(0, told)
        return
    (told.run / MEETING).unlink(missing_ok=True)
    spawning: Any = torch.multiprocessing
    context = spawning.start_processes(_train, (told,), told.processes, join=False)

    def forward(number: int, _frame: object) -> None:
        for process in context.pids():
            os.kill(process, number)

    with _handled(forward):
        while not context.join():
            pass


MEETING = "meeting"
"""The file by which the processes of a run find each other."""


@contextmanager
def _handled(handler: Callable[[int, Any], object]) -> Iterator[None]:
    """Handle the signals that ask to stop."""
    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


def _train(rank: int, told: argparse.Namespace) -> None:
    """One process of a run; the first one writes."""
    torch.set_num_threads(1)
    if told.processes > 1:
        import torch.distributed as distributed

        meeting = f"file://{(told.run / MEETING).resolve()}"
        distributed.init_process_group("gloo", meeting, rank=rank, world_size=told.processes)
    trainer = Trainer(
        told.tower,
        told.run,
        seed=told.seed,
        rate=told.rate,
        minutes=told.minutes,
        start=told.start,
        rank=rank,
        processes=told.processes,
    )
    stopped: list[int] = []
    saved = checked = time.monotonic()
    with _handled(lambda *_: stopped.append(1)), (told.run / "log.jsonl").open("a") as log:
        while not trainer.agree(bool(stopped)) and trainer.share < 1:
            line = trainer.step()
            if rank:
                continue
            if line["step"] % 20 == 0:
                log.write(json.dumps(line) + "\n")
                log.flush()
            if time.monotonic() - saved > 180:
                trainer.keep()
                saved = time.monotonic()
            if time.monotonic() - checked > 360:
                found = validate(trainer.model, Knobs(), 24)
                log.write(json.dumps({"step": line["step"], "validation": found}) + "\n")
                small.save(trainer.model, told.run / "checkpoint")
                checked = time.monotonic()
    if not rank:
        trainer.keep()
        small.save(trainer.model, told.run / "checkpoint")
    if told.processes > 1:
        distributed.destroy_process_group()


if __name__ == "__main__":
    main()
