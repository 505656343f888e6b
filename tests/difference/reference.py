"""Every difference score by brute force: Python loops over (frame, row, column), in float64."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable

import numpy as np

from stgraph import VideoTokens

Place = tuple[int, int, int]


class Reference:
    """Unit vectors by place, and what each detector should score there."""

    def __init__(self, tokens: VideoTokens) -> None:
        self.unit: dict[Place, np.ndarray] = {}
        for coords, vector in zip(tokens.coords.tolist(), tokens.features.double().numpy(), strict=True):
            length = np.linalg.norm(vector)
            self.unit[tuple(coords)] = vector / length if length else vector
        self.first_frame = min((t for t, _, _ in self.unit), default=0)

    def difference(self, a: Place, b: Place) -> float | None:
        if a not in self.unit or b not in self.unit:
            return None
        return 1 - float(np.clip(self.unit[a] @ self.unit[b], -1, 1))

    def before(self, place: Place, frames: int = 1) -> float | None:
        t, y, x = place
        return self.difference((t - frames, y, x), place)

    def scores(self, score: Callable[[Place], float]) -> list[float]:
        return [score(place) for place in self.unit]

    # -- one method per score -----------------------------------------------------------------------------------------

    def temporal(self, place: Place) -> float:
        return self.before(place) or 0.0

    def evs(self, place: Place) -> float:
        return 3.0 if place[0] == self.first_frame else self.temporal(place)

    def frame_relative(self, place: Place) -> float:
        own = self.before(place)
        if own is None:
            return 0.0
        frame = [d for other in self.unit if other[0] == place[0] and (d := self.before(other)) is not None]
        return max(own - statistics.median(frame), 0.0)

    def multiscale(self, place: Place, distances: tuple[int, ...], *, weighted: bool) -> float:
        found = [(d, h) for h in distances if (d := self.before(place, h)) is not None]
        if not found:
            return 0.0
        return sum(d / h for d, h in found) / sum(1 / h for _, h in found) if weighted else max(d for d, _ in found)

    def steady(self, place: Place, frames: int) -> float:
        whole = self.before(place, frames)
        if whole is None:
            return math.inf
        if frames == 1:
            return whole
        t, y, x = place
        first_half = self.before((t - frames // 2, y, x), frames // 2)
        return min(whole, 4 * self.steady(place, frames // 2), math.inf if first_half is None else 4 * first_half)

    def drift(self, place: Place, window: int) -> float:
        distances = (2**k for k in range(20) if 2**k <= window)
        return max((s for h in distances if (s := self.steady(place, h)) < math.inf), default=0.0)

    def running_mean(self, place: Place, memory: float) -> float:
        t, y, x = place
        past = [self.unit[f, y, x] for f in range(t) if (f, y, x) in self.unit]
        if not past:
            return 0.0
        mean = past[0]
        for vector in past[1:]:
            mean = (1 - 1 / memory) * mean + vector / memory
        length = np.linalg.norm(mean)
        return 1 - float(np.clip(self.unit[place] @ mean / length, -1, 1)) if length else 1.0

    def second_difference(self, place: Place, *, causal: bool) -> float:
        t, y, x = place
        frames = [t - 2, t - 1, t] if causal else [t - 1, t, t + 1]
        into = self.difference((frames[0], y, x), (frames[1], y, x))
        out_of = self.difference((frames[1], y, x), (frames[2], y, x))
        if into is None or out_of is None:
            return 0.0
        a, b, c = (self.unit[f, y, x] for f in frames)
        if all(vector.any() for vector in (a, b, c)):
            return float(((a - 2 * b + c) ** 2).sum()) / 2
        return 2 * into + 2 * out_of - (1 - float(a @ c))

    def spatial(self, place: Place, connectivity: int) -> float:
        t, y, x = place
        around = [
            self.difference(place, (t, y + dy, x + dx))
            for dy, dx in itertools.product((-1, 0, 1), repeat=2)
            if (dy or dx) and (connectivity == 8 or not (dy and dx))
        ]
        known = [d for d in around if d is not None]
        return sum(known) / len(known) if known else 0.0

    def motion(self, place: Place, radius: int) -> float:
        t, y, x = place
        reach = range(-radius, radius + 1)
        known = [
            d for dy in reach for dx in reach if (d := self.difference((t - 1, y + dy, x + dx), place)) is not None
        ]
        return min(known) if known else 0.0
