"""What questions can be answered without: each type must be at chance where it needs more than it is given.

    python -m experiments.benchmark.gates --clips 300

All tokens are shown beside the question alone, the middle frame, frames in another order, a random forest on the
question and its options, and, the other way round, only the tokens that are known to show the answer.
"""

from __future__ import annotations

import argparse
import json
import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from stgraph import Selector, Signals, StgraphError, VideoTokens
from stgraph.selectors.base import Ranking

from .answering import CHECKPOINT, Outcome, Reader
from .painting import Clip, unpainted
from .questions import TYPES, Question, ask
from .script import Knobs, write_script
from .splits import SPLITS, load_clip

GIVEN = ("full", "question", "frame", "shuffled", "forest", "oracle")
TRAINED = 3000
"""Training clips whose questions the forest sees."""


@dataclass(frozen=True, kw_only=True)
class Chosen(Selector):
    """Keeps named tokens of one video, and no others; ``retention`` must be their share.

    Attributes:
        which: numbers of the tokens.
    """

    which: tuple[int, ...] = ()

    @classmethod
    def of(cls, mask: np.ndarray) -> Chosen:
        """From (T, h, w) bool, at least one of which is true."""
        which = tuple(int(number) for number in np.flatnonzero(mask))
        return cls(which=which, retention=len(which) / mask.size)

    def rank(self, tokens: VideoTokens, signals: Signals) -> Ranking:
        """The named ones first."""
        importance = torch.zeros(len(tokens))
        importance[list(self.which)] = 1
        return Ranking(importance, budget=[len(self.which)])


def shuffled(clip: Clip) -> Clip:
    """The same frames in another order, none of which stays where it was."""
    chance = random.Random(f"stgraph shuffle {clip.script.name}")
    order = list(range(len(clip.frames)))
    while any(number == place for place, number in enumerate(order)):
        chance.shuffle(order)
    return clip._replace(frames=clip.frames[order])


def outcomes(reader: Reader, clip: Clip, questions: Sequence[Question], given: str) -> list[Outcome]:
    """Answers from what is given, one of ``GIVEN`` but the forest."""
    if given == "full":
        return reader.answer(clip, questions)
    if given == "question":
        return reader.answer_blind(questions)
    if given == "shuffled":
        return reader.answer(shuffled(clip), questions)
    if given == "frame":
        mask = np.zeros(clip.shares.shape[1:], bool)
        mask[len(mask) // 2] = True
        return reader.answer(clip, questions, Chosen.of(mask))
    if given == "oracle":
        return [reader.answer(clip, [one], Chosen.of(one.evidence))[0] for one in questions]
    raise StgraphError(f"there is no gate {given!r}; take one of {', '.join(GIVEN)}")


# -- the random forest ------------------------------------------------------------------------------------------------


def _rows(question: Question, words: dict[str, int]) -> Iterator[np.ndarray]:
    """A row for each option: the question's words, all options, this option, its rank and how many there are."""
    size = len(words)
    for rank, option in enumerate(question.options):
        row = np.zeros(3 * size + 2, np.float32)
        row[[words[word] for word in question.text.split()]] = 1
        row[[size + words[word] for word in question.options]] = 1
        row[2 * size + words[option]] = 1
        row[3 * size :] = rank, len(question.options)
        yield row


def forest(asked: Sequence[Sequence[Question]], seed: int = 0) -> list[list[bool]]:
    """Whether a random forest that has read ``TRAINED`` training clips' questions answers each question right."""
    from sklearn.ensemble import RandomForestClassifier

    known = [ask(unpainted(write_script(f"train forest {number}", Knobs())), each=1) for number in range(TRAINED)]
    said = {word for each in (*known, *asked) for one in each for word in (*one.text.split(), *one.options)}
    words = {word: number for number, word in enumerate(sorted(said))}
    rows = [row for each in known for one in each for row in _rows(one, words)]
    right = [number == one.answer for each in known for one in each for number in range(len(one.options))]
    trees = RandomForestClassifier(200, min_samples_leaf=3, random_state=seed, n_jobs=1)
    trees.fit(np.stack(rows), right)
    shown = np.stack([row for each in asked for one in each for row in _rows(one, words)])
    chance = iter(trees.predict_proba(shown)[:, 1])
    return [[int(np.argmax([next(chance) for _ in one.options])) == one.answer for one in each] for each in asked]


# -- the table --------------------------------------------------------------------------------------------------------


def main(arguments: list[str] | None = None) -> None:
    """Print the table, and write what each question was answered to ``--out``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT)
    parser.add_argument("--split", choices=list(SPLITS), default="validation")
    parser.add_argument("--clips", type=int, default=300)
    parser.add_argument("--given", nargs="+", choices=GIVEN, default=list(GIVEN))
    parser.add_argument("--out", type=Path, help="JSON lines, one for each clip")
    told = parser.parse_args(arguments)
    torch.set_num_threads(1)
    reader = Reader.from_pretrained(told.checkpoint)
    right: dict[tuple[str, str], list[bool]] = defaultdict(list)
    chance: dict[str, list[float]] = defaultdict(list)
    asked, lines = [], []
    for number in range(told.clips):
        clip, questions = load_clip(told.split, number)
        asked.append(questions)
        line: dict[str, object] = {"clip": f"{told.split} {number}", "types": [one.type for one in questions]}
        for one in questions:
            chance[one.type].append(1 / len(one.options))
        for given in told.given:
            if given != "forest":
                found = [one.correct for one in outcomes(reader, clip, questions, given)]
                line[given] = [int(value) for value in found]
                for one, value in zip(questions, found, strict=True):
                    right[one.type, given].append(value)
        lines.append(line)
    if "forest" in told.given:
        for line, questions, values in zip(lines, asked, forest(asked), strict=True):
            line["forest"] = [int(value) for value in values]
            for one, value in zip(questions, values, strict=True):
                right[one.type, "forest"].append(value)
    if told.out:
        told.out.write_text("".join(json.dumps(line) + "\n" for line in lines))
    print(f"{'type':10} {'asked':>5} {'chance':>6} " + " ".join(f"{given:>8}" for given in told.given))
    present = [kind for kind in TYPES if chance[kind]]
    for kind in [*present, "all"]:
        kinds = present if kind == "all" else [kind]
        guess = np.mean([value for each in kinds for value in chance[each]])
        row = []
        for given in told.given:
            values = [value for each in kinds for value in right[each, given]]
            row.append(f"{np.mean(values):8.3f}" if values else " " * 8)
        count = sum(len(chance[each]) for each in kinds)
        print(f"{kind:10} {count:5} {guess:6.3f} " + " ".join(row))


if __name__ == "__main__":
    main()
