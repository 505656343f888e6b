"""Every number of docs/peers.md: ``python -m benchmarks.peers [CLIP ...] [--json FILE]``.

Agreement with the authors' outputs; coverage and reconstruction error on clips, and recall of known events; and the
time of every selector on the same tokens, against one read of them.

On clips, methods that need attention or keys take them from the features (*). In the timing they are random; every
round runs all selectors once, so that all see the same machine, and the first round warms up and is not counted.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from stgraph import Signals, VideoTokens, kernels, read_video
from stgraph.app.compare import markdown
from stgraph.encoders.descriptor import Descriptor
from stgraph.sample import event_tokens, load_events
from stgraph.selectors import SELECTORS
from stgraph.selectors.metrics import evaluate
from tests.selectors.golden.agreement import METHODS, agreement, table

from .tokens import clip, similar_share

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def timed_ms(work: Callable[[], object], clock: Callable[[], float]) -> float:
    start = clock()
    work()
    return 1000 * (clock() - start)


def measure(
    names: list[str], retention: float, frames: int, dim: int, share: float, rounds: int, clock: str
) -> dict[str, Any]:
    """Medians over the rounds, in milliseconds, and their ratios to one read of the features and to simdiff."""
    x = clip(frames, dim, share)
    tokens = VideoTokens.from_grid(x)
    n, g = len(tokens), torch.Generator().manual_seed(0)
    signals = Signals(torch.rand(n, generator=g), torch.randn(n, 64, generator=g), torch.rand(n, generator=g))
    asked = dict.fromkeys(["simdiff", *names])
    selectors = {name: SELECTORS.build({"name": name, "retention": retention}) for name in asked}
    reads: list[float] = []
    taken: dict[str, list[float]] = {name: [] for name in selectors}
    for _ in range(rounds + 1):
        reads.append(timed_ms(tokens.features.sum, CLOCKS[clock]))
        for name, selector in selectors.items():
            taken[name].append(timed_ms(partial(selector, tokens, signals), CLOCKS[clock]))
    read = statistics.median(reads[1:])
    median = {name: statistics.median(times[1:]) for name, times in taken.items()}
    return {
        "tokens": n,
        "dim": dim,
        "retention": retention,
        "similar_edges": similar_share(x),
        "rounds": rounds,
        "clock": clock,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "kernels": kernels.active(),
        "read_ms": read,
        "selectors": {
            name: {
                "ms": median[name],
                "reads": median[name] / read,
                "over_simdiff": median[name] / median["simdiff"],
            }
            for name in names
        },
    }


def described(found: dict[str, Any]) -> str:
    """The result in Markdown, the fastest first."""
    title = ", ".join(
        [
            f"{found['tokens']} tokens of {found['dim']}",
            f"{100 * found['similar_edges']:.0f} % of the edges similar",
            f"retention {found['retention']:g}",
            f"medians of {found['rounds']} rounds of {found['clock']} time",
            f"{found['threads']} threads",
            f"torch {found['torch']}",
            f"{found['kernels']} kernels",
            f"one read of the features {found['read_ms']:.1f} ms",
        ]
    )
    ranked = sorted(found["selectors"].items(), key=lambda item: item[1]["ms"])
    rows = [(name, f"{own['ms']:.0f}", f"{own['reads']:.1f}×", f"{own['over_simdiff']:.1f}×") for name, own in ranked]
    return f"{title}\n\n" + markdown(["selector", "milliseconds", "over one read", "over simdiff"], rows)


def quality(path: Path, names: list[str], retentions: list[float], frames: int, events: Path | None) -> str:
    """The figures of every selector on one clip in Markdown, by falling mean coverage."""
    video = read_video(path, frames=frames)
    tokens, _ = Descriptor()(video)
    size = (video.frames.shape[-2], video.frames.shape[-1])
    known = event_tokens(load_events(events), tokens, size) if events else None
    rows: list[tuple[float, tuple[str, ...]]] = []
    for name in names:
        fields = {field.name for field in dataclasses.fields(SELECTORS.get(name))}
        asked = {key: "features" for key in ("signal", "keys") if key in fields}
        found = []
        for retention in retentions:
            selection = SELECTORS.build({"name": name, "retention": retention, **asked})(tokens)
            found.append(evaluate(tokens, selection, known))
            print(path.name, name, retention, file=sys.stderr, flush=True)
        figures = [f"{q.coverage:.3f}" for q in found] + [f"{q.reconstruction_error:.3f}" for q in found]
        figures += [f"{q.event_recall:.3f}" for q in found if q.event_recall is not None]
        mean = statistics.fmean(q.coverage for q in found)
        rows.append((mean, (f"{name} *" if asked else name, *figures)))
    rows.sort(key=lambda row: -row[0])
    titles = ["coverage", "error", *(["recall"] if known is not None else [])]
    header = [f"{title} {r:g}" if r == retentions[0] else f"{r:g}" for title in titles for r in retentions]
    title = f"{path.name}: {len(tokens)} tokens of {tokens.features.shape[1]}, {frames} frames"
    return f"{title}\n\n" + markdown(["selector", *header], [row for _, row in rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--selectors", nargs="+", default=list(SELECTORS), metavar="NAME")
    parser.add_argument("--retention", type=float, default=0.3)
    parser.add_argument("--frames", type=int, default=64)
    parser.add_argument("--dim", type=int, default=3584)
    parser.add_argument("--share", type=float, default=0.6, help="of the edges with a cosine of at least 0.8")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--clock", choices=CLOCKS, default="wall", help="cpu: of this process, for a busy machine; with one thread"
    )
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("clips", nargs="*", type=Path, help="videos to measure coverage and error on")
    parser.add_argument("--events", type=Path, help="known events of the clips, as stgraph sample writes them")
    parser.add_argument("--retentions", nargs="+", type=float, default=[0.1, 0.3, 0.5])
    parser.add_argument("--clip-frames", type=int, default=32)
    parser.add_argument("--only", choices=["golden", "quality", "time"], help="a part of it")
    given = parser.parse_args()
    if given.only in (None, "golden"):
        print(table([agreement(method) for method in METHODS]), flush=True)
    if given.only in (None, "quality"):
        for clip_path in given.clips:
            print(quality(clip_path, given.selectors, given.retentions, given.clip_frames, given.events), flush=True)
    if given.only not in (None, "time"):
        return
    found = measure(given.selectors, given.retention, given.frames, given.dim, given.share, given.rounds, given.clock)
    if given.json:
        given.json.write_text(json.dumps(found, indent=2) + "\n", "utf-8")
    print(described(found))


if __name__ == "__main__":
    main()
