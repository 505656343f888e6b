"""Questions about a clip whose answers, options and tokens are known from its script.

A question is answered with one word. Which words it is scored among, its options, is no part of the question's text, so
that nothing can be read off their order.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from .painting import Clip
from .script import DIRECTIONS, PLACES, Scene, Script, Thing
from .sprites import COLOURS, KINDS

VISIBLE = 26
"""Least share of a token, in 255ths, that an object covers where the token is said to show it."""


class Gates(NamedTuple):
    """What a type of question cannot be answered from, so that accuracy must be at chance there.

    Attributes:
        frame: the middle frame alone.
        shuffled: all frames in another order.
    """

    frame: bool
    shuffled: bool


TYPES: dict[str, Gates] = {
    "where": Gates(False, False),
    "at": Gates(False, False),
    "colour": Gates(False, False),
    "exists": Gates(False, False),
    "small": Gates(False, False),
    "count": Gates(False, False),
    "cuts": Gates(True, False),
    "flashed": Gates(True, False),
    "entered": Gates(True, False),
    "left": Gates(True, False),
    "faded": Gates(True, False),
    "moved": Gates(True, False),
    "when": Gates(True, True),
    "order": Gates(True, True),
    "direction": Gates(True, True),
    "before": Gates(True, True),
}
"""Type of question -> its gates. The question alone tells nothing for any type."""


class Question(NamedTuple):
    """A question about a clip.

    Attributes:
        type: one of ``TYPES``.
        text: in lower-case words.
        options: words to choose from, sorted; the same clip may be asked the same text with other options.
        answer: index of the right option.
        evidence: (T, h, w) bool, the tokens that show the answer.
    """

    type: str
    text: str
    options: tuple[str, ...]
    answer: int
    evidence: np.ndarray

    @property
    def word(self) -> str:
        """The right option."""
        return self.options[self.answer]


def second(frame: int, script: Script) -> str:
    """How the time of a frame is written, in the prompt and in answers."""
    return f"{script.seconds(frame):.1f}"


def ask(clip: Clip, *, most: int | None = None, each: int = 1, practice: bool = False) -> list[Question]:
    """Questions about a clip, drawn at random, with its name as the seed.

    Args:
        clip: asked about.
        most: questions of as many different types as can be; all that there are when None.
        each: most questions of a type where several things could be asked about.
        practice: for training: also count objects of every colour.
    """
    chance = random.Random(f"stgraph questions {clip.script.name}")
    asker = _Asker(clip, chance, practice)
    found: list[Question] = []
    for kind in TYPES:
        made = list(getattr(asker, kind)())
        chance.shuffle(made)
        found += made[:each]
    if most is None:
        return found
    # Types that clips seldom allow are preferred, so that over many clips all are asked about equally often.
    rank = {question.type: chance.random() ** (1 / _PREFERRED.get(question.type, 1)) for question in found}
    # A clip without cuts allows fewer types. Cuts are asked about in the same share of all clips, else "0" were the
    # most frequent answer.
    rank["cuts"] = 2.0 if chance.random() < _CUTS else -1.0
    kept = sorted(rank, key=lambda kind: -rank[kind])[:most]
    firsts = {question.type: question for question in reversed(found)}
    return [question for kind, question in sorted(firsts.items(), key=lambda item: _ORDER[item[0]]) if kind in kept]


_ORDER = {kind: number for number, kind in enumerate(TYPES)}
_PREFERRED = {
    "small": 3.4,
    "flashed": 2.2,
    "entered": 1.6,
    "left": 1.2,
    "faded": 2.0,
    "moved": 3.0,
    "order": 3.0,
    "direction": 1.6,
    "before": 24.0,
}
"""Type -> how strongly it is preferred; the others 1."""

_CUTS = 0.38
"""Share of the clips that are asked how many cuts there were."""


class _Asker:
    """Makes the questions of a clip, type by type."""

    def __init__(self, clip: Clip, chance: random.Random, practice: bool = False) -> None:
        self.script, self.chance, self.practice = clip.script, chance, practice
        # A small object between four tokens covers little of each: the one that shows most of it counts in any case.
        most = clip.shares.max((2, 3), keepdims=True)
        self.shown = (clip.shares >= VISIBLE) | ((clip.shares == most) & (most > 0))
        self.things = clip.script.things
        self.number = {thing.kind: n for n, (_, thing) in enumerate(self.things)}

    # -- parts ---------------------------------------------------------------------------------------------------------

    def tokens(self, *kinds: str, first: int = 0, last: int | None = None) -> np.ndarray:
        """The tokens that show objects from frame ``first`` up to frame ``last``."""
        found = np.asarray(self.shown[[self.number[kind] for kind in kinds]].any(0))
        inside = np.zeros(len(found), bool)
        inside[max(first, 0) : last] = True
        return found & inside[:, None, None]

    def around(self, *things: Thing) -> np.ndarray:
        """The tokens of events, with a frame before and behind each; where an object has left, its place stays."""
        parts = [self.tokens(thing.kind, first=thing.first - 1, last=thing.last + 1) for thing in things]
        for thing in things:
            if thing.event == "leave":
                place = self.tokens(thing.kind, first=thing.first - 1, last=thing.first).any(0)
                parts.append(np.zeros_like(parts[0]))
                parts[-1][thing.first : thing.last + 1] = place
        found: np.ndarray = np.any(parts, 0)
        return found

    def made(
        self, kind: str, text: str, right: str, others: Sequence[str], evidence: np.ndarray, options: int = 4
    ) -> Iterator[Question]:
        """A question with ``options`` options, where there are enough."""
        wrong = sorted(set(others) - {right})
        if len(wrong) >= options - 1:
            shown = sorted([right, *self.chance.sample(wrong, options - 1)])
            yield Question(kind, text, tuple(shown), shown.index(right), evidence)

    def happened(self, event: str) -> list[tuple[Scene, Thing]]:
        return [(scene, thing) for scene, thing in self.things if thing.event == event]

    def only(self, kind: str, event: str, text: str) -> Iterator[Question]:
        """What did this, where one object did; options are the objects of the same scene."""
        did = self.happened(event)
        if len(did) == 1:
            scene, thing = did[0]
            others = [other.kind for other in scene.things if not other.small]
            whole = event == "fade"
            yield from self.made(
                kind, text, thing.kind, others, self.tokens(thing.kind) if whole else self.around(thing)
            )

    @property
    def standing(self) -> list[tuple[Scene, Thing]]:
        """Objects that stand at one place."""
        return [(scene, thing) for scene, thing in self.things if thing.event != "move"]

    # -- types ---------------------------------------------------------------------------------------------------------

    def where(self) -> Iterator[Question]:
        for _, thing in self.standing:
            text, right = f"where is the {thing.kind}", PLACES[thing.place]
            yield from self.made("where", text, right, PLACES, self.tokens(thing.kind))

    def at(self) -> Iterator[Question]:
        visited = [place for _, thing in self.things for place in {thing.place, thing.target} if place >= 0]
        for _, thing in self.standing:
            if visited.count(thing.place) == 1:
                text, others = f"what stands at the {PLACES[thing.place]}", [other.kind for _, other in self.things]
                yield from self.made("at", text, thing.kind, others, self.tokens(thing.kind))

    def colour(self) -> Iterator[Question]:
        for _, thing in self.things:
            text = f"what colour is the {thing.kind}"
            yield from self.made("colour", text, thing.colour, list(COLOURS), self.tokens(thing.kind))

    def exists(self) -> Iterator[Question]:
        absent = [kind for kind in KINDS if kind not in self.number]
        for _ in range(2):
            there = self.chance.random() < 0.5
            kind = self.chance.choice(list(self.number) if there else absent)
            evidence = self.tokens(kind) if there else self.tokens(*self.number)
            yield Question("exists", f"was there a {kind}", ("no", "yes"), int(there), evidence)

    def small(self) -> Iterator[Question]:
        for _, thing in self.things:
            if thing.small:
                text = "what colour is the small object"
                yield from self.made("small", text, thing.colour, list(COLOURS), self.tokens(thing.kind))

    def count(self) -> Iterator[Question]:
        options = ("1", "2", "3", "4")
        for colour in list(COLOURS) if self.practice else [self.script.counted]:
            kinds = [thing.kind for _, thing in self.things if thing.colour == colour]
            if 0 < len(kinds) <= len(options):
                text = f"how many {colour} objects were there"
                yield Question("count", text, options, len(kinds) - 1, self.tokens(*kinds))

    def cuts(self) -> Iterator[Question]:
        # The first and the last frame, and those on both sides of each cut.
        evidence = np.zeros_like(self.shown[0])
        evidence[[0, -1, *(frame for cut in self.script.cuts for frame in (cut - 1, cut))]] = True
        yield Question("cuts", "how many cuts were there", ("0", "1", "2", "3"), len(self.script.cuts), evidence)

    def flashed(self) -> Iterator[Question]:
        yield from self.only("flashed", "flash", "what flashed")

    def entered(self) -> Iterator[Question]:
        yield from self.only("entered", "enter", "what entered")

    def left(self) -> Iterator[Question]:
        yield from self.only("left", "leave", "what left")

    def faded(self) -> Iterator[Question]:
        yield from self.only("faded", "fade", "what faded")

    def moved(self) -> Iterator[Question]:
        yield from self.only("moved", "move", "what moved")

    def when(self) -> Iterator[Question]:
        middle = self.script.knobs.frames // 2
        times = [frame for frame in range(1, self.script.knobs.frames - 1) if frame != middle]
        for _, thing in self.happened("flash"):
            # Options lie on a wheel, as far apart as can be, and the right one is any of them: nothing gives it away.
            steps = [len(times) * number // 4 for number in range(4)]
            turn = times.index(thing.first) - self.chance.choice(steps)
            shown = [second(times[(turn + step) % len(times)], self.script) for step in steps]
            text, right = f"when did the {thing.kind} flash", second(thing.first, self.script)
            yield from self.made("when", text, right, shown, self.around(thing))

    def order(self) -> Iterator[Question]:
        for event, word in (("flash", "flashed"), ("enter", "entered"), ("move", "moved")):
            did = sorted((thing.first, n) for n, (_, thing) in enumerate(self.things) if thing.event == event)
            if len(did) == 2 and did[0][0] < did[1][0]:
                first, last = (self.things[n][1] for _, n in did)
                which, right = self.chance.choice((("first", first), ("last", last)))
                others = [first.kind, last.kind]
                evidence = self.around(first, last)
                yield from self.made("order", f"what {word} {which}", right.kind, others, evidence, options=2)

    def direction(self) -> Iterator[Question]:
        opposite = {"left": "right", "right": "left", "up": "down", "down": "up"}
        for _, thing in self.happened("move"):
            text, right = f"which way did the {thing.kind} move", str(thing.direction)
            yield from self.made("direction", text, right, [opposite[right]], self.around(thing), options=2)

    def before(self) -> Iterator[Question]:
        if len(self.script.scenes) != 2:
            return
        old, new = ({t.place: t for t in scene.things if t.event in (None, "flash")} for scene in self.script.scenes)
        visited = [t.target for _, t in self.things if t.event == "move"] + [
            t.place for _, t in self.things if t.event not in (None, "flash")
        ]
        for place in sorted(old.keys() & new.keys() - set(visited)):
            which, right = self.chance.choice((("before", old[place]), ("after", new[place])))
            text = f"what was at the {PLACES[place]} {which} the cut"
            both = [old[place].kind, new[place].kind]
            yield from self.made("before", text, right.kind, both, self.tokens(*both), options=2)


def words() -> list[str]:
    """All words of questions and answers, sorted; times are not among them."""
    said = {
        "where is the what stands at colour was there a small object how many objects were cuts flashed entered left "
        "faded moved when did flash first last which way move before after cut no yes 0 1 2 3 4"
    }
    found = {word for text in said for word in text.split()}
    return sorted(found | set(PLACES) | set(COLOURS) | set(KINDS) | set(DIRECTIONS))
