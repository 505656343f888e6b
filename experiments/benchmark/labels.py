"""What each visual token shows and what has happened there: targets of the auxiliary losses in training.

A question tells the model one word about a thousand tokens. These labels tell it something about each token, so that
the features which questions need are learnt from far fewer clips. All labels follow from the frames up to the token's
own: a causal model can know them.
"""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .painting import Clip
from .questions import VISIBLE
from .script import DIRECTIONS, PLACES
from .sprites import COLOURS, KINDS

EVENTS = ("none", "flash", "enter", "leave", "fade", *(f"move {direction}" for direction in DIRECTIONS))
"""What has happened so far to the object at a token; ``flash`` only in the frames of the flash."""


class Label(NamedTuple):
    """What one linear layer reads from each visual token.

    Attributes:
        classes: how many there are.
        weight: of its cross-entropy in the auxiliary loss.
        common: the class that nearly all tokens have, if there is one.
        rare: how much that class counts in the cross-entropy.
        frequent: how much the class behind it counts, the most frequent of the others; all others count 1.
    """

    classes: int
    weight: float
    common: int | None = None
    rare: float = 1.0
    frequent: float = 1.0


LABELS = {
    "kind": Label(len(KINDS) + 1, 0.3, len(KINDS), 0.15),
    "colour": Label(len(COLOURS) + 1, 0.1, len(COLOURS), 0.15),
    "event": Label(len(EVENTS), 1.0, 0, 0.1),
    "subject": Label(len(KINDS) + 1, 0.6, len(KINDS), 0.05),
    "scene": Label(4, 0.3),
    "first": Label(2, 0.5, 0, 0.2),
    "alike": Label(6, 1.0, 0, 0.05, 0.3),
    "origin": Label(len(PLACES) + 1, 0.3, len(PLACES), 0.1),
    "across": Label(3, 0.7, 0, 0.05),
    "down": Label(3, 0.7, 0, 0.05),
    "small": Label(2, 0.2, 0, 0.1),
    "frame": Label(64, 0.3),
}
"""``kind`` and ``colour`` are those of the object that covers most of the token; the last class is the background.
``event`` tells what has happened to it, and ``subject`` names it again where something has: also at the tokens that an
object has left. ``scene`` counts the shot boundaries so far. ``first`` marks the tokens of each object in the
first frame that shows it. ``alike`` is how many objects of this colour have been seen so
far, this one with them, 5 for five and more; 0 is the background. ``origin`` is the cell of the frame in which the
object was first seen. ``across`` and ``down`` tell whether the object is a token or more from there: 1 to the left or
up, 2 to the right or down. ``frame`` is the number of the frame.
"""


def labels(clip: Clip) -> dict[str, Tensor]:
    """Label -> (T, h, w) uint8 classes of each token, see :data:`LABELS`.

    ``part`` is added: of what the first frame of an object shows of it, how much this token shows, in 255ths. These
    parts add up to about 255 for each object: to add them up is to count objects.
    """
    shares = torch.from_numpy(clip.shares)
    count, height, width = shares.shape[1:]
    none, background = len(COLOURS), len(KINDS)
    blank = torch.zeros(count, height, width, dtype=torch.uint8)
    found = {name: blank.clone() for name in (*LABELS, "part")}
    found["kind"] += background
    found["subject"] += background
    found["colour"] += none
    found["origin"] += len(PLACES)
    most, owner = shares.max(0)
    covered = most >= VISIBLE
    begins: dict[str, list[int]] = defaultdict(list)
    for number, (scene, thing) in enumerate(clip.script.things):
        here = covered & (owner == number)
        kind = KINDS.index(thing.kind)
        found["kind"][here] = kind
        found["colour"][here] = list(COLOURS).index(thing.colour)
        found["small"][here] = int(thing.small)
        seen = here.flatten().nonzero()
        if len(seen):
            frame = int(seen[0]) // (height * width)
            cover = shares[number, frame] * here[frame]
            found["first"][frame][here[frame]] = 1
            found["part"][frame] += (255 * cover.float() / cover.sum()).round().to(torch.uint8)
            begins[thing.colour].append(int(seen[0]))
            _write_moves(found, here, shares[number])
        if thing.event is None:
            continue
        happened = here.clone()
        happened[: thing.first] = False
        if thing.event == "flash":
            happened[thing.last :] = False
        elif thing.event == "leave":
            gone = here[thing.first - 1] & ~covered[thing.last : scene.stop]
            happened[thing.last : scene.stop] |= gone
        name = f"move {thing.direction}" if thing.event == "move" else thing.event
        found["event"][happened] = EVENTS.index(name)
        found["subject"][happened] = kind
    place = torch.arange(covered.numel()).view_as(covered)
    for colour, firsts in begins.items():
        here = found["colour"] == list(COLOURS).index(colour)
        found["alike"][here] = (place[here, None] >= torch.tensor(firsts)).sum(1).clamp(max=5).to(torch.uint8)
    for cut in clip.script.cuts:
        found["scene"][cut:] += 1
    found["frame"] += torch.arange(count, dtype=torch.uint8)[:, None, None]
    return found


def _write_moves(found: dict[str, Tensor], here: Tensor, shares: Tensor) -> None:
    """Write the labels that compare where an object is with where it was first seen.

    Args:
        found: the labels so far, changed in place.
        here: (T, h, w) bool, the tokens of the object, at least one.
        shares: (T, h, w) how much of each token it covers.
    """
    grid = shares.shape[1]
    mass, steps = shares.float(), torch.arange(grid) + 0.5
    sums = mass.sum((1, 2)).clamp(min=1)
    seen = here.flatten(1).any(1)
    start = int(seen.nonzero()[0])
    places = {"down": (mass.sum(2) @ steps) / sums, "across": (mass.sum(1) @ steps) / sums}
    cells = [min(2, int(3 * float(place[start]) / grid)) for place in places.values()]
    found["origin"][here] = 3 * cells[0] + cells[1]
    for name, place in places.items():
        far = place - place[start]
        classes = (far <= -1).byte() + 2 * (far >= 1).byte()
        found[name][here] = classes[:, None, None].expand_as(here)[here]


class Auxiliary(nn.Module):
    """Linear layers that read the labels from hidden states; they are thrown away after training."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(width)
        self.heads = nn.ModuleDict({name: nn.Linear(width, label.classes) for name, label in LABELS.items()})

    def forward(self, hidden: Tensor, truth: dict[str, Tensor]) -> tuple[Tensor, dict[str, float]]:
        """The weighted loss of (N, d) hidden states, and the share of right classes where one is not the common one."""
        total, right = hidden.new_zeros((), dtype=torch.float32), {}
        normed = self.norm(hidden)
        for name, head in self.heads.items():
            label, rows, classes = LABELS[name], head(normed).float(), truth[name].long()
            counts, asked = torch.ones(label.classes), torch.ones_like(classes, dtype=torch.bool)
            if label.common is not None:
                counts[label.common], asked = label.rare, classes != label.common
                counts[(label.common + 1) % label.classes] = label.frequent
            total = total + label.weight * F.cross_entropy(rows, classes, counts)
            right[name] = float((rows.detach().argmax(1) == classes)[asked].float().mean()) if asked.any() else 1.0
        return total, right
