"""Precision and recall of the difference detectors on rendered clips with known events, one kind of event each.

    python benchmarks/difference.py
    python benchmarks/difference.py --time

Every kind is painted from several seeds, sampled to a few frames a second as a video LLM would, encoded by the built-in
descriptor, and given to every registered detector at its defaults. Precision and recall are taken over the tokens of
all seeds together. ``--time`` prints the seconds of every detector against the number of tokens instead.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence

import torch
from torch import Tensor

from stgraph import SpatioTemporalGraph, VideoTokens, build_graph
from stgraph.difference import DIFFERENCES, DifferenceDetector
from stgraph.encoders.descriptor import Descriptor
from stgraph.sample import KINDS, Kind, event_tokens, render_events

Clip = tuple[SpatioTemporalGraph, Tensor]

FRAMES_PER_SECOND = 24
TIMED = (12_544, 50_176, 200_704)


def clips(kind: Kind, rates: Sequence[int], seeds: int) -> dict[int, list[Clip]]:
    """Graph and (V,) bool known event tokens of every seed's clip, by frames a second."""
    found: dict[int, list[Clip]] = {rate: [] for rate in rates}
    for seed in range(seeds):
        video, events = render_events(kind, fps=FRAMES_PER_SECOND, seed=seed)
        size = video.frames.shape[2], video.frames.shape[3]
        whole = Descriptor()(video).tokens
        x = whole.features.view(*whole.grids[0], -1)
        for rate, sampled in found.items():
            every = slice(None, None, FRAMES_PER_SECOND // rate)
            tokens = VideoTokens.from_grid(x[every].contiguous(), timestamps=video.timestamps[every])
            sampled.append((build_graph(tokens), event_tokens(events, tokens, size)))
    return found


def score(name: str, found: Sequence[Clip]) -> tuple[int, int, int]:
    """How many marked tokens are events, how many tokens are marked, how many are events."""
    marked = [DIFFERENCES.build(name)(graph).marked for graph, _ in found]
    hits = sum(int((mark & truth).sum()) for mark, (_, truth) in zip(marked, found, strict=True))
    return hits, sum(int(mark.sum()) for mark in marked), sum(int(truth.sum()) for _, truth in found)


def cell(kind: str, hits: int, marked: int, events: int) -> str:
    if kind == "noise":
        return str(marked)
    precision = f"{hits / marked:.2f}" if marked else "–"
    return f"{precision} / {hits / events:.2f}" if events else f"{precision} / –"


def print_row(*cells: str) -> None:
    print("| " + " | ".join(cells) + " |", flush=True)


def print_tables(rates: Sequence[int], seeds: int) -> None:
    names = [name for name in DIFFERENCES if name != "none"]
    rows: dict[int, dict[str, list[str]]] = {rate: {name: [] for name in ("", *names)} for rate in rates}
    for kind in KINDS:
        for rate, found in clips(kind, rates, seeds).items():
            tokens = sum(len(truth) for _, truth in found)
            rows[rate][""].append(f"*{sum(int(truth.sum()) for _, truth in found)} of {tokens}*")
            for name in names:
                rows[rate][name].append(cell(kind, *score(name, found)))
    for rate, cells in rows.items():
        print(f"\n{rate} frames a second, {seeds} clips of 4 s of each kind:\n")
        print_row("detector", *(kind.replace("_", " ") for kind in KINDS))
        print_row("---", *["---"] * len(KINDS))
        for name, values in cells.items():
            print_row(f"`{name}`" if name else "*event tokens*", *values)


def print_times(dimension: int) -> None:
    torch.set_num_threads(1)  # so that what else runs on the machine disturbs the least
    print(f"\nSeconds on one thread, tokens of {dimension} numbers, 196 a frame:\n")
    print_row("detector", *(f"{count} tokens" for count in TIMED), "growth exponent")
    print_row("---", *["---"] * (len(TIMED) + 1))
    graphs = []
    for count in TIMED:
        x = torch.randn(count // 196, 14, 14, dimension, generator=torch.Generator().manual_seed(0))
        graphs.append(build_graph(VideoTokens.from_grid(x)))
    for name in DIFFERENCES:
        detector = DIFFERENCES.build(name)
        seconds = [min(timed(detector, graph) for _ in range(3)) for graph in graphs]
        exponent = math.log(seconds[-1] / seconds[0]) / math.log(TIMED[-1] / TIMED[0])
        print_row(f"`{name}`", *(f"{value:.3f}" for value in seconds), f"{exponent:.2f}")


def timed(detector: DifferenceDetector, graph: SpatioTemporalGraph) -> float:
    started = time.perf_counter()
    detector(graph)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--rates", type=int, nargs="*", default=[8, 4, 24], choices=[24, 12, 8, 6, 4, 3, 2, 1], help="frames a second"
    )
    parser.add_argument("--seeds", type=int, default=3, help="clips of every kind")
    parser.add_argument("--time", action="store_true", help="print times instead")
    parser.add_argument("--dimension", type=int, default=256, help="of the tokens that are timed")
    arguments = parser.parse_args()
    if arguments.time:
        print_times(arguments.dimension)
    else:
        print_tables(arguments.rates, arguments.seeds)


if __name__ == "__main__":
    main()
