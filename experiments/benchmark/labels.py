"""What each visual token shows and what has happened there: targets of the auxiliary losses in training.

A question tells the model one word about a thousand tokens. These labels tell it something about each token, so that
the features which questions need are learnt from far fewer clips. All labels follow from the frames up to the token's
own: a causal model can know them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .painting import Clip
from .questions import VISIBLE
from .script import DIRECTIONS
from .sprites import COLOURS, KINDS

EVENTS = ("none", "flash", "enter", "leave", "fade", *(f"move {direction}" for direction in DIRECTIONS))
"""What has happened so far to the object at a token; ``flash`` only in the frames of the flash."""

CLASSES = {
    "kind": len(KINDS) + 1,
    "colour": len(COLOURS) + 1,
    "event": len(EVENTS),
    "subject": len(KINDS) + 1,
    "scene": 4,
    "first": 2,
    "small": 2,
    "frame": 64,
}
"""Label -> number of its classes.

``kind`` and ``colour`` are those of the object that covers most of the token; the last class is the background.
``event`` tells what has happened to it, and ``subject`` names it again where something has: also at the tokens that an
object has left. ``scene`` counts the shot boundaries so far. ``first`` marks the first token of each object, frame by
frame and row by row: to count these is to count objects. ``frame`` is the number of the frame.
"""

WEIGHTS = {
    "kind": 0.3,
    "colour": 0.1,
    "event": 1.0,
    "subject": 0.6,
    "scene": 0.3,
    "first": 0.5,
    "small": 0.2,
    "frame": 0.3,
}
"""Label -> weight of its cross-entropy in the auxiliary loss."""

RARE = {"kind": 0.15, "colour": 0.15, "event": 0.1, "subject": 0.05, "first": 0.05, "small": 0.1}
"""Label -> weight of the class that nearly all tokens have; the others count 1."""

COMMON = {"kind": len(KINDS), "colour": len(COLOURS), "event": 0, "subject": len(KINDS), "first": 0, "small": 0}
"""Label -> that class."""


def labels(clip: Clip) -> dict[str, Tensor]:
    """Label -> (T, h, w) uint8 classes of each token, see :data:`CLASSES`."""
    shares = torch.from_numpy(clip.shares)
    count, height, width = shares.shape[1:]
    none, background = len(COLOURS), len(KINDS)
    blank = torch.zeros(count, height, width, dtype=torch.uint8)
    found = {name: blank.clone() for name in CLASSES}
    found["kind"] += background
    found["subject"] += background
    found["colour"] += none
    most, owner = shares.max(0)
    covered = most >= VISIBLE
    for number, (scene, thing) in enumerate(clip.script.things):
        here = covered & (owner == number)
        kind = KINDS.index(thing.kind)
        found["kind"][here] = kind
        found["colour"][here] = list(COLOURS).index(thing.colour)
        found["small"][here] = int(thing.small)
        seen = here.flatten().nonzero()
        if len(seen):
            found["first"].view(-1)[seen[0]] = 1
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
    for cut in clip.script.cuts:
        found["scene"][cut:] += 1
    found["frame"] += torch.arange(count, dtype=torch.uint8)[:, None, None]
    return found


class Auxiliary(nn.Module):
    """Linear layers that read the labels from hidden states; they are thrown away after training."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(width)
        self.heads = nn.ModuleDict({name: nn.Linear(width, classes) for name, classes in CLASSES.items()})

    def forward(self, hidden: Tensor, truth: dict[str, Tensor]) -> tuple[Tensor, dict[str, float]]:
        """The weighted loss of (N, d) hidden states, and the share of right classes where one is not the common one."""
        total, right = hidden.new_zeros((), dtype=torch.float32), {}
        normed = self.norm(hidden)
        for name, head in self.heads.items():
            rows, classes = head(normed).float(), truth[name].long()
            weight = torch.ones(CLASSES[name])
            if name in COMMON:
                weight[COMMON[name]] = RARE[name]
            total = total + WEIGHTS[name] * F.cross_entropy(rows, classes, weight)
            asked = classes != COMMON[name] if name in COMMON else torch.ones_like(classes, dtype=torch.bool)
            right[name] = float((rows.detach().argmax(1) == classes)[asked].float().mean()) if asked.any() else 1.0
        return total, right
