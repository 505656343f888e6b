"""Compare methods with ``count="published"`` to their golden outputs, token by token and row by row."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from stgraph import Selection, Signals, STSimDiff, VideoTokens
from stgraph.selectors import SELECTORS
from stgraph.selectors.rounds import LayerBudget

from . import inputs

DATA = Path(__file__).parent / "data"
METHODS = tuple(sorted(path.stem for path in DATA.glob("*.json")))

LAYERS = 28
"""Decoder layers of the model that the outputs of FrameFusion and of the release stand for."""


class Case(NamedTuple):
    """One golden output: its method, name, settings and numbers."""

    method: str
    name: str
    numbers: dict[str, Any]

    @property
    def settings(self) -> dict[str, Any]:
        """Of the authors' code."""
        settings: dict[str, Any] = self.numbers["settings"]
        return settings

    def tokens(self, key: str, count: int) -> set[int]:
        """The tokens of a bit mask over ``count`` of them."""
        bits = int(self.numbers[key], 16)
        return {token for token in range(count) if bits >> (count - 1 - token) & 1}


def cases(method: str) -> list[Case]:
    """All golden outputs of a method."""
    record = json.loads((DATA / f"{method}.json").read_text("utf-8"))
    for name, digest in record["features"].items():
        if video(name).digest() != digest:
            raise AssertionError(f"input {name} is not the one that the golden outputs are of")
    return [Case(method, case["name"], case) for case in record["cases"]]


@cache
def video(name: str) -> inputs.Video:
    """An input, made once."""
    return inputs.video(name)


def difference(case: Case) -> str:
    """What our method does otherwise in one case; nothing where it agrees."""
    return "; ".join(CHECKS.get(case.method, _plain)(case))


class Agreement(NamedTuple):
    """How many golden outputs of a method agree, and what is compared."""

    method: str
    equal: int
    cases: int
    rows: bool


def agreement(method: str) -> Agreement:
    """Compare all cases of a method."""
    found = cases(method)
    return Agreement(method, sum(not difference(c) for c in found), len(found), any("norm" in c.numbers for c in found))


# -- settings of the authors' code in our words -----------------------------------------------------------------------

PICKING = {"attn_div_v2": "attention_diversity_event", "attn_div": "attention_diversity"}
NAMES: dict[str, dict[str, Callable[[Any], dict[str, Any]]]] = {
    "llava_scissor": {"tau": lambda x: {"similarity_threshold": x}},
    "forestprune": {"tau": lambda x: {"similarity_threshold": x}, "tau_spatial": lambda x: {"nearness": x}},
    "flashvid": {
        "expansion": lambda x: {"expansion": x},
        "min_segment_num": lambda x: {"least_segments": x},
        "token_selection_method": lambda x: {"picking": PICKING[x]},
    },
    "holitom": {"tau": lambda x: {"similarity_threshold": x}},
    "dycoke": {"k": lambda x: {"dropped": x}},
    "prunevid": {"tau": lambda x: {"similarity_threshold": x}},
    "sttm": {
        "tree_thresh": lambda x: {"spatial_threshold": x},
        "temporal_thresh": lambda x: {"temporal_threshold": x},
        "root_level": lambda x: {"root": x},
    },
}


def select(case: Case, tokens: VideoTokens, signals: Signals, **more: Any) -> Selection:
    """What our method keeps with the settings of a case."""
    spec: dict[str, Any] = {"name": case.method, "count": "published"}
    for key, value in case.settings.items():
        if key == "retention" and value is not None:
            spec["retention"] = value
        elif key in NAMES.get(case.method, {}):
            spec |= NAMES[case.method][key](value)
    return SELECTORS.build(spec | more)(tokens, signals)


# -- comparisons ------------------------------------------------------------------------------------------------------


class Rows(NamedTuple):
    """(K,) lengths of rows and their products with the probe, float64."""

    norm: Tensor
    dot: Tensor

    @classmethod
    def of(cls, selection: Selection, tokens: VideoTokens) -> Rows:
        """What the kept tokens have become."""
        x = selection.apply(tokens.features.double())
        return cls(torch.linalg.vector_norm(x, dim=1), x @ torch.from_numpy(inputs.probe(x.shape[1])).double())

    @classmethod
    def golden(cls, case: Case) -> Rows:
        """What theirs have become, five digits."""
        norm, dot = (torch.tensor(case.numbers[key], dtype=torch.float64) for key in ("norm", "dot"))
        return cls(norm, dot)

    def take(self, which: Tensor) -> Rows:
        """Some of them."""
        return Rows(self.norm[which], self.dot[which])

    def like(self, golden: Rows) -> Rows:
        """The same in the order of the golden rows that they are nearest to, for rows without places."""
        if len(self.norm) != len(golden.norm):
            return self
        apart = (golden.norm[:, None] - self.norm).abs() + (golden.dot[:, None] - self.dot).abs()
        return self.take(torch.from_numpy(linear_sum_assignment(apart.numpy())[1]))

    def off(self, golden: Rows) -> int:
        """How many rows differ by more than 1e-5 of their length and half a unit in the fifth digit."""
        if len(self.norm) != len(golden.norm):
            return max(len(self.norm), len(golden.norm))
        wrong = torch.zeros(len(self.norm), dtype=torch.bool)
        for ours, theirs in ((self.norm, golden.norm), (self.dot, golden.dot)):
            unit = 10 ** (theirs.abs().clamp(min=1e-9).log10().floor() - 4)
            wrong |= (ours - theirs).abs() > 1.01 * (1e-5 * golden.norm + unit / 2)
        return int(wrong.sum())


def _tokens_differ(ours: set[int], theirs: set[int], what: str = "tokens") -> Iterator[str]:
    if ours != theirs:
        yield f"{len(ours - theirs)} {what} of ours and {len(theirs - ours)} of theirs"


def _rows_differ(ours: Rows, theirs: Rows) -> Iterator[str]:
    if off := ours.off(theirs):
        yield f"{off} rows differ"


def _plain(case: Case) -> Iterator[str]:
    """Kept tokens, and rows in their order; in frames where rounding decides, their number alone."""
    if case.settings.get("newline"):
        tokens, signals = video(case.numbers["input"]).with_newlines()
    else:
        tokens, signals = video(case.numbers["input"]).tokens(case.settings.get("frames"))
    selection = select(case, tokens, signals)
    count = len(tokens)
    if case.settings.get("frames"):
        count = len(video(case.numbers["input"]).tokens()[0])
    ours, theirs = selection.indices.tolist(), sorted(case.tokens("kept", count))
    free = set(case.numbers.get("free_frames", ()))
    area = tokens.grids[0].height * (tokens.grids[0].width + bool(case.settings.get("newline")))
    if free:
        counts = torch.bincount(selection.indices // area, minlength=tokens.grids[0].frames).tolist()
        if counts != case.numbers["per_frame"]:
            yield f"{counts} tokens in the frames, theirs {case.numbers['per_frame']}"
    clear = [[i for i in side if i // area not in free] for side in (ours, theirs)]
    yield from _tokens_differ(set(clear[0]), set(clear[1]))
    if "norm" in case.numbers and clear[0] == clear[1]:
        here, there = (torch.tensor([i // area not in free for i in side]) for side in (ours, theirs))
        yield from _rows_differ(Rows.of(selection, tokens).take(here), Rows.golden(case).take(there))


def _without_places(case: Case) -> Iterator[str]:
    """Rows alone, in their order."""
    tokens, signals = video(case.numbers["input"]).tokens()
    yield from _rows_differ(Rows.of(select(case, tokens, signals), tokens), Rows.golden(case))


def _any_order(case: Case) -> Iterator[str]:
    """Rows alone, in any order."""
    tokens, signals = video(case.numbers["input"]).tokens()
    golden = Rows.golden(case)
    yield from _rows_differ(Rows.of(select(case, tokens, signals), tokens).like(golden), golden)


def _flashvid(case: Case) -> Iterator[str]:
    """As plain, but a token whose place theirs gives out twice has a second one beside it in ours."""
    tokens, signals = video(case.numbers["input"]).tokens()
    selection = select(case, tokens, signals)
    area = tokens.grids[0].height * tokens.grids[0].width
    doubled = case.numbers.get("duplicates", [])
    theirs = sorted([*case.tokens("kept", len(tokens)), *doubled])
    frame = torch.tensor(theirs) // area
    counts = torch.bincount(selection.indices // area, minlength=tokens.grids[0].frames).tolist()
    if counts != case.numbers["per_frame"]:
        yield f"{counts} tokens in the frames, theirs {case.numbers['per_frame']}"
        return
    ours_rows, golden = Rows.of(selection, tokens), Rows.golden(case)
    for t in range(tokens.grids[0].frames):
        if t in case.numbers.get("free_frames", ()):
            continue
        here, there = selection.indices // area == t, frame == t
        ours, expected = set(selection.indices[here].tolist()), {i for i in theirs if i // area == t}
        if expected - ours or len(ours - expected) != sum(i // area == t for i in doubled):
            yield f"frame {t}: {len(ours - expected)} tokens of ours and {len(expected - ours)} of theirs"
        elif off := ours_rows.take(here).like(golden.take(there)).off(golden.take(there)):
            yield f"frame {t}: {off} rows differ"


def _prumerge(case: Case) -> Iterator[str]:
    """Heads and their rows; the row more, whose place is ours alone, by itself."""
    clip = video(case.numbers["input"])
    tokens, signals = clip.tokens()
    signals = Signals(clip.attention_of_the_query(), signals.encoder_keys)
    selection = select(case, tokens, signals, adaptive=case.settings["retention"] is None)
    area = tokens.grids[0].height * tokens.grids[0].width
    heads, rows = case.tokens("kept", len(tokens)), Rows.of(selection, tokens)
    is_head = torch.tensor([i in heads for i in selection.indices.tolist()])
    yield from _tokens_differ(set(selection.indices[is_head].tolist()), heads, "heads")
    yield from _rows_differ(rows.take(is_head), Rows.golden(case))
    here = torch.isin(selection.indices // area, torch.tensor(case.numbers["frames"]))
    more = torch.tensor(case.numbers["extra_rows"], dtype=torch.float64)
    yield from _rows_differ(rows.take(here & ~is_head), Rows(more[:, 0], more[:, 1]))


def _release(case: Case) -> Iterator[str]:
    """Both stages; of two equally central tokens of a pair theirs leaves it to rounding which one goes."""
    clip = video(case.numbers["input"])
    tokens, signals = clip.with_newlines() if case.settings.get("newline") else clip.tokens()
    retention, count = case.settings["retention"], len(tokens)
    ranking = STSimDiff(preset="release", retention=retention).rank(tokens, Signals())
    left = (ranking.candidate > 0).nonzero()[:, 0]
    unsure = set(case.numbers.get("unsure", ()))
    newline = set(tokens.separator.nonzero()[:, 0].tolist())
    first = set(left.tolist())
    if newline and len(first & newline) != case.numbers["newlines_after_first_stage"]:
        yield f"{len(first & newline)} newline tokens are left of the first stage"
    yield from _tokens_differ(
        first - newline - unsure, case.tokens("after_first_stage", count) - unsure, "tokens of the first stage"
    )
    budget = LayerBudget("mean_over_layers", retention, count, LAYERS)
    budget.at(0, count)
    order = torch.sort(signals.llm_attention[left], stable=True, descending=True).indices
    kept = set(left[order[: budget.at(2, len(left))]].tolist())
    if len(kept) != case.numbers["count"] + case.numbers.get("newlines_kept", 0):
        yield f"{len(kept)} tokens stay"
    yield from _tokens_differ(kept - newline - unsure, case.tokens("kept", count) - unsure)


CHECKS: dict[str, Callable[[Case], Iterator[str]]] = {
    "flashvid": _flashvid,
    "llava_scissor": _without_places,
    "prumerge": _prumerge,
    "prumerge_plus": _prumerge,
    "prunevid": _any_order,
    "stsimdiff_release": _release,
}


def table(found: list[Agreement]) -> str:
    """The agreement of all methods in Markdown."""
    lines = ["| method | cases that agree | compared |", "|---|---|---|"]
    for method, equal, count, rows in found:
        lines.append(f"| `{method}` | {equal} of {count} | {'tokens and rows' if rows else 'tokens'} |")
    return "\n".join(lines)


def main() -> None:
    """Print the table, and what differs."""
    print(table([agreement(method) for method in METHODS]))
    for method in METHODS:
        for case in cases(method):
            if found := difference(case):
                print(f"{method} {case.name}: {found}")


if __name__ == "__main__":
    main()
