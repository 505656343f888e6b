"""Every peer as slow, literal loops over float64 numbers, from its description; one video without separators.

Cosines are rounded to multiples of 2⁻¹⁶ and ties go to the smaller index, as the package promises; nothing else of it
is used.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise

import numpy as np

from stgraph import Signals, VideoTokens


@dataclass
class Expected:
    """The kept tokens, and for every merged one the token it went into and its factor; ``own`` factors of kept ones."""

    kept: set[int]
    target: dict[int, int] = field(default_factory=dict)
    factor: dict[int, float] = field(default_factory=dict)
    own: dict[int, float] = field(default_factory=dict)


class Case:
    """One video as plain numbers."""

    def __init__(self, tokens: VideoTokens, signals: Signals, retention: float) -> None:
        self.x = tokens.features.double().numpy()
        self.place = [tuple(c) for c in tokens.coords.tolist()]
        self.n = len(self.place)
        self.retention = Fraction(repr(retention))
        self.budget = math.ceil(self.retention * self.n)
        self.encoder = signals.encoder_attention.double().tolist()
        self.llm = signals.llm_attention.double().tolist()
        self.keys = signals.encoder_keys.double().numpy()
        self.frames = [[i for i in range(self.n) if self.place[i][0] == t] for t in sorted({p[0] for p in self.place})]

    def cos(self, i: int, j: int) -> float:
        return rounded(dot(unit(self.x[i]), unit(self.x[j])))

    def key_cos(self, i: int, j: int) -> float:
        return rounded(dot(unit(self.keys[i]), unit(self.keys[j])))

    def quota(self, parts: list[list[int]]) -> list[int]:
        """Running totals, each rounded up."""
        totals = [math.ceil(self.retention * sum(map(len, parts[:k]))) for k in range(len(parts) + 1)]
        return [b - a for a, b in pairwise(totals)]

    def before(self, i: int) -> int | None:
        t, y, x = self.place[i]
        return self.place.index((t - 1, y, x)) if (t - 1, y, x) in self.place else None


def rounded(value: float) -> float:
    return round(value * 2**16) / 2**16


def dot(a, b) -> float:
    return float((a * b).sum())


def unit(v):
    length = math.sqrt(dot(v, v))
    return v / length if length else v


def top(items, value, count: int) -> list[int]:
    return sorted(items, key=lambda i: (-value(i), i))[:count]


def best(items, value) -> int:
    return top(items, value, 1)[0]


def means(kept: set[int], target: dict[int, int]) -> Expected:
    """Every kept token is the mean of its group."""
    groups = {h: 1 + sum(t == h for t in target.values()) for h in kept}
    factor = {i: 1 / groups[h] for i, h in target.items()}
    return Expected(kept, target, factor, {h: 1 / size for h, size in groups.items()})


def fastv(c: Case) -> Expected:
    return Expected(set(top(range(c.n), c.llm.__getitem__, c.budget)))


def fastervlm(c: Case) -> Expected:
    kept = set()
    for frame, count in zip(c.frames, c.quota(c.frames), strict=True):
        kept |= set(top(frame, c.encoder.__getitem__, count))
    return Expected(kept)


def visionzip(c: Case) -> Expected:
    out = Expected(set())
    for frame, count in zip(c.frames, c.quota(c.frames), strict=True):
        contextual = math.floor(count * 10 / 64 + 0.5)
        dominant = top(frame, c.encoder.__getitem__, count - contextual)
        rest = [i for i in frame if i not in dominant]
        targets = rest[:: max(1, len(rest) // contextual)][:contextual] if contextual else []
        out.kept |= set(dominant) | set(targets)
        assigned: dict[int, list[int]] = {h: [] for h in targets}
        for i in rest:
            if targets and i not in targets:
                assigned[best(targets, lambda h, i=i: c.key_cos(i, h))].append(i)
        for head, others in assigned.items():
            for i in others:
                out.target[i], out.factor[i] = head, 1 / len(others)
    out.own = dict.fromkeys(out.kept, 1.0)
    return out


def prumerge(c: Case, plus: bool = False) -> Expected:
    out = Expected(set())
    for frame, count in zip(c.frames, c.quota(c.frames), strict=True):
        spread = [frame[(2 * k + 1) * len(frame) // (2 * (count // 2))] for k in range(count // 2)] if plus else []
        order = top(spread, c.encoder.__getitem__, count)
        order += top([i for i in frame if i not in spread], c.encoder.__getitem__, len(frame))
        kept, dropped = order[:count], sorted(order[count:])
        extra = kept[-1] if 1 < count < len(frame) else None
        heads = [i for i in kept if i != extra]
        out.kept |= set(kept)
        out.own |= dict.fromkeys(heads, 1.0)
        if extra is not None:
            out.own[extra] = c.encoder[extra]
        near = {h: top(dropped, lambda i, h=h: c.key_cos(h, i), 32) for h in heads}
        for i in dropped:
            takers = [h for h in heads if i in near[h]]
            # Of equally similar heads the one that comes first in the ranking.
            head = max(takers, key=lambda h, i=i: c.key_cos(h, i)) if takers else extra
            if head is not None:
                out.target[i], out.factor[i] = head, c.encoder[i]
    return out


def prumerge_plus(c: Case) -> Expected:
    return prumerge(c, plus=True)


def framefusion(c: Case) -> Expected:
    same = {i: c.cos(i, c.before(i)) for i in range(c.n) if c.before(i) is not None}
    flagged = [i for i in same if same[i] >= rounded(0.6)]
    merged = top(flagged, same.__getitem__, c.n - c.budget)
    kept = set(top([i for i in range(c.n) if i not in merged], c.llm.__getitem__, c.budget))
    target = {}
    for i in merged:
        head = i
        while head in merged:
            head = c.before(head)
        if head in kept:
            target[i] = head
    return means(kept, target)


def evs(c: Case) -> Expected:
    def score(i: int) -> float:
        if i in c.frames[0]:
            return 4
        return 3 if c.before(i) is None else 1 - c.cos(i, c.before(i))

    return Expected(set(top(range(c.n), score, c.budget)))


def vidcom2(c: Case) -> Expected:
    scaled = c.x / (np.abs(c.x).max() or 1)
    variance = [float(scaled[:, k].var()) for k in range(c.x.shape[1])]
    calm = sorted(top(range(len(variance)), lambda k: -variance[k], (len(variance) + 1) // 2))
    u = [unit(row) for row in c.x[:, calm]]

    def distinct(i: int, mean) -> float:
        gap = dot(u[i] - mean, u[i] - mean)
        return -sum(math.exp(-gap / (2 * 2.0**a)) for a in (-3, -2, -1, 0, 1))

    video_mean = sum(u) / c.n
    frame_mean = [sum(u[i] for i in frame) / len(frame) for frame in c.frames]
    level = [rounded(sum(distinct(i, video_mean) for i in frame) / len(frame)) for frame in c.frames]
    power = [math.exp((value - max(level)) / 0.01) for value in level]
    weight = [p / sum(power) for p in power]
    wanted = [
        float(c.retention) * (1 + w - sum(weight) / len(weight)) * len(frame)
        for w, frame in zip(weight, c.frames, strict=True)
    ]
    counts = [min(math.floor(w), len(frame)) for w, frame in zip(wanted, c.frames, strict=True)]
    while sum(counts) < c.budget:
        open_frames = [k for k in range(len(counts)) if counts[k] < len(c.frames[k])]
        counts[best(open_frames, lambda k: wanted[k] - counts[k])] += 1
    while sum(counts) > c.budget:
        counts[best([k for k in range(len(counts)) if counts[k]], lambda k: counts[k] - wanted[k])] -= 1
    kept = set()
    for frame, mean, count in zip(c.frames, frame_mean, counts, strict=True):
        kept |= set(top(frame, lambda i, m=mean: rounded(distinct(i, video_mean) + distinct(i, m)), count))
    return Expected(kept)


def divprune(c: Case) -> Expected:
    mean = unit(sum(unit(row) for row in c.x) / c.n)
    picked = [best(range(c.n), lambda i: -rounded(dot(unit(c.x[i]), mean)))]
    while len(picked) < c.budget:
        rest = [i for i in range(c.n) if i not in picked]
        picked.append(best(rest, lambda i: min(1 - c.cos(i, p) for p in picked)))
    return Expected(set(picked))


def dart(c: Case) -> Expected:
    pivots = top(range(c.n), lambda i: math.sqrt(dot(c.keys[i], c.keys[i])), min(8, c.budget))
    rest = [i for i in range(c.n) if i not in pivots]
    least = top(rest, lambda i: -max(c.cos(i, p) for p in pivots), c.budget - len(pivots))
    return Expected({*pivots, *least})


def fastvid(c: Case) -> Expected:
    mean = [unit(sum(unit(c.x[i]) for i in frame) / len(frame)) for frame in c.frames]
    runs = [[0]]
    for k in range(1, len(c.frames)):
        if rounded(dot(mean[k - 1], mean[k])) >= rounded(0.9):
            runs[-1].append(k)
        else:
            runs.append([k])
    segments = []
    for run in runs:
        pieces = math.ceil(len(run) / 8)
        for p in range(pieces):
            part = run[len(run) * p // pieces : len(run) * (p + 1) // pieces]
            segments.append([i for k in part for i in c.frames[k]])
    kept, target = set(), {}
    for segment, count in zip(segments, c.quota(segments), strict=True):
        apart = {(i, j): math.sqrt(max(0, 2 - 2 * c.cos(i, j))) for i in segment for j in segment}
        density = {}
        for i in segment:
            near = sorted(apart[i, j] for j in segment if j != i)[:5] or [0]
            density[i] = rounded(math.exp(-sum(d * d for d in near) / len(near)))
        score = {}
        for i in segment:
            denser = [j for j in segment if density[j] > density[i] or (density[j] == density[i] and j < i)]
            gap = min(apart[i, j] for j in denser) if denser else max(apart[i, j] for j in segment)
            score[i] = rounded(density[i] * gap)
        anchors = top(segment, score.__getitem__, count)
        kept |= set(anchors)
        for i in segment:
            if anchors and i not in anchors:
                target[i] = best(anchors, lambda a, i=i: c.cos(i, a))
    return means(kept, target)


def matches(c: Case, radius: int | None) -> dict[int, int]:
    """The best match of every token in the frame before."""
    found = {}
    for i in range(c.n):
        t, y, x = c.place[i]
        near = [
            j
            for j in range(c.n)
            if c.place[j][0] == t - 1
            and (radius is None or max(abs(c.place[j][1] - y), abs(c.place[j][2] - x)) <= radius)
        ]
        if near:
            found[i] = best(near, lambda j, i=i: c.cos(i, j))
    return found


def flashvid(c: Case) -> Expected:
    match = {i: j for i, j in matches(c, None).items() if c.cos(i, j) > rounded(0.8)}
    linked = top(match, lambda i: c.cos(i, match[i]), c.n - c.budget)
    root = {}
    for i in range(c.n):  # a match comes before its token
        root[i] = root[match[i]] if i in linked else i
    size = {h: sum(r == h for r in root.values()) for h in set(root.values())}
    kept = set(top(size, size.__getitem__, c.budget))
    return means(kept, {i: root[i] for i in linked if root[i] in kept})


def forestprune(c: Case) -> Expected:
    parent = {i: j for i, j in matches(c, 1).items() if c.cos(i, j) >= rounded(0.9)}
    children: dict[int, list[int]] = {i: [k for k in parent if parent[k] == i] for i in range(c.n)}

    def depth(i: int) -> int:
        return 1 + depth(parent[i]) if i in parent else 0

    def height(i: int) -> int:
        return max((1 + height(k) for k in children[i]), default=0)

    def standing(i: int) -> tuple[int, int]:
        if i not in parent:
            return (2, height(i))
        return (1 if children[i] else 0, -depth(i))

    order = sorted(range(c.n), key=lambda i: (-standing(i)[0], -standing(i)[1], i))
    return Expected(set(order[: c.budget]))


def components(items: list[int], joined) -> list[list[int]]:
    left, found = list(items), []
    while left:
        group = [left.pop(0)]
        for member in group:
            new = [i for i in left if joined(member, i)]
            group += new
            left = [i for i in left if i not in new]
        found.append(sorted(group))
    return found


def llava_scissor(c: Case) -> Expected:
    groups = [g for frame in c.frames for g in components(frame, lambda i, j: c.cos(i, j) > rounded(0.8))]
    mean = [unit(sum(unit(c.x[i]) for i in group)) for group in groups]
    joined = components(list(range(len(groups))), lambda a, b: rounded(dot(mean[a], mean[b])) > rounded(0.8))
    whole = [sorted(i for k in group for i in groups[k]) for group in joined]
    members = {min(group): group for group in whole}
    if len(members) >= c.budget:
        kept = set(top(members, lambda h: len(members[h]), c.budget))
    else:
        rest = {i: h for h, group in members.items() for i in group if i != h}
        kept = set(members) | set(top(rest, lambda i: -c.cos(i, rest[i]), c.budget - len(members)))
    target = {i: h for h in members if h in kept for i in members[h] if i not in kept}
    return means(kept, target)


REFERENCES = {
    function.__name__: function
    for function in (
        fastv,
        fastervlm,
        visionzip,
        prumerge,
        prumerge_plus,
        framefusion,
        evs,
        vidcom2,
        divprune,
        dart,
        fastvid,
        flashvid,
        forestprune,
        llava_scissor,
    )
}
