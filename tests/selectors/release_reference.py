"""The first stage of the authors' release, dense and in loops, from its description alone."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor


def fine(value: float) -> float:
    """Numbers are compared in steps of 2⁻³⁶."""
    return round(value * 2**36) / 2**36


def cos(a: Tensor, b: Tensor) -> float:
    a, b = a.double(), b.double()
    length = float(a.norm() * b.norm())
    return float(a @ b) / length if length else 0.0


def top(items: list[int], value: Any, count: int) -> list[int]:
    return sorted(items, key=lambda i: (-value(i), i))[:count]


def near(a: float, b: float) -> bool:
    """Whether rounding may decide between two numbers: less than two steps apart, or the same between two steps."""
    between = abs(a * 2**36 % 1 - 0.5) < 0.1
    return abs(a - b) < 2 * 2**-36 and (abs(a - b) > 1e-14 or between)


class FirstStage(NamedTuple):
    """What the first stage of the release leaves; ``clear`` where no rounding could have decided otherwise."""

    kept: list[int]
    events: list[int]
    clear: bool


def first_stage(x: list[Tensor], place: list[tuple[int, ...]], retention: float) -> FirstStage:
    """Dense and slow."""
    n, goes = len(x), 1 - (28 * retention) / (28 * 1.0)  # 0.30000000000000004 for 0.7, as theirs
    unit = torch.stack([v.double() for v in x])
    unit = unit / unit.norm(dim=1, keepdim=True).where(unit.norm(dim=1, keepdim=True) > 0, 1)
    cosine = unit @ unit.T
    edges, events, clear = [], [], True
    for i, (t, y, c) in enumerate(place):
        for j, (u, z, d) in enumerate(place):
            weight = float(cosine[i, j])
            spatial, temporal = (u, z, d) in ((t, y, c + 1), (t, y + 1, c)), (u, z, d) == (t + 1, y, c)
            if (spatial and weight > 0.8) or (temporal and weight >= 0.8):
                edges.append((i, j))
            if temporal and weight < 0.2:
                events.append(j)
            clear &= not (spatial or temporal) or min(abs(weight - 0.8), abs(weight - 0.2)) > 2e-6
    components = []
    left = sorted({i for edge in edges for i in edge})
    while left:
        group = [left[0]]
        for member in group:  # grows while it is walked
            ends = [i + j - member for i, j in edges if member in (i, j)]
            group += [i for i in dict.fromkeys(ends) if i not in group]
        components.append(tuple(sorted(group)))
        left = [i for i in left if i not in group]
    score, mean = {}, {}
    for c in components:
        matrix = cosine[list(c)][:, list(c)]
        score[c] = float((matrix.sum() - len(c)) / (len(c) * (len(c) - 1)))
        clear &= not any(near(score[c], score[other]) for other in score)
        mean |= {i: float(row.mean()) for i, row in zip(c, matrix, strict=True)}
    dropped: list[int] = []
    for c in sorted(components, key=lambda c: (-fine(score[c]), c)):
        wanted = math.ceil(len(c) * goes)
        if (len(dropped) + wanted) / n > goes:
            break
        central = top(list(c), lambda i: fine(mean[i]), len(c))
        least = central[len(c) - wanted :]
        clear &= not any(near(mean[i], mean[j]) for i in least for j in central[: len(c) - wanted])
        dropped += [i for i in least if i not in events]
    return FirstStage([i for i in range(n) if i not in dropped], events, clear)
