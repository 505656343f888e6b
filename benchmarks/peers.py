"""Every selector on the same tokens: its time (default), or its quality on the sample clip (``--quality``).

Run with ``python -m benchmarks.peers``. Attention and keys are random for the times; for the quality the built-in
descriptor gives none, so methods that need them take their substitute from the features.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import timeit
from collections.abc import Callable
from pathlib import Path

import torch

from stgraph import Signals, VideoTokens
from stgraph.compare import markdown
from stgraph.config import resolve
from stgraph.metrics import columns, evaluate
from stgraph.pipeline import encode
from stgraph.sample import render_sample
from stgraph.selectors import SELECTORS, Selector

from .tokens import clip


def without_model(name: str, retention: float) -> tuple[Selector, bool]:
    """A selector that takes what it needs from the features, and whether that is a substitute."""
    fields = {field.name for field in dataclasses.fields(SELECTORS.get(name))}
    asked = {parameter: "features" for parameter in ("signal", "keys") if parameter in fields}
    return SELECTORS.build({"name": name, "retention": retention, **asked}), bool(asked)


def fastest_ms(work: Callable[[], object], repeats: int) -> float:
    """Milliseconds of the fastest run after a warm-up: what a shared machine disturbs least."""
    work()
    return 1000 * min(timeit.repeat(work, number=1, repeat=repeats))


def times(frames: int, dim: int, repeats: int) -> str:
    tokens = VideoTokens.from_grid(clip(frames, dim, 0.6))
    n, g = len(tokens), torch.Generator().manual_seed(0)
    signals = Signals(torch.rand(n, generator=g), torch.randn(n, 64, generator=g), torch.rand(n, generator=g))
    read = fastest_ms(tokens.features.sum, repeats)
    rows = []
    for name in SELECTORS:
        selector = SELECTORS.build(name)
        ms = fastest_ms(lambda selector=selector: selector(tokens, signals), repeats)
        rows.append((name, round(ms), f"{ms / read:.0f}×", "yes" if selector(tokens, signals).merges else "no"))
    return f"{n} tokens of {dim}, one read {read:.1f} ms\n\n" + markdown(
        ["selector", "milliseconds", "over one read", "merges"], rows
    )


def quality(retention: float) -> str:
    with tempfile.TemporaryDirectory() as folder:
        sample = render_sample(Path(folder) / "sample.mp4")
        encoded = encode(sample.path, resolve(), events=sample.events_path)
    names, found = [], []
    for name in SELECTORS:
        selector, substitute = without_model(name, retention)
        names.append(name + (" *" if substitute else ""))
        found.append(evaluate(encoded.tokens, selector(encoded.tokens), encoded.events))
    table = columns(found)
    rows = [[name, *(column.values[row] for column in table)] for row, name in enumerate(names)]
    title = (
        f"sample clip, {len(encoded.tokens)} tokens, retention {retention:g}; * attention and keys from the features"
    )
    return f"{title}\n\n" + markdown(["selector", *(column.title for column in table)], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quality", action="store_true", help="quality on the sample clip instead of times")
    parser.add_argument("--retention", type=float, default=0.3)
    parser.add_argument("--frames", type=int, default=64)
    parser.add_argument("--dim", type=int, default=3584)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    if arguments.quality:
        print(quality(arguments.retention))
    else:
        print(times(arguments.frames, arguments.dim, arguments.repeats))


if __name__ == "__main__":
    main()
