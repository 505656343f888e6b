"""Time and memory of every community detector as videos grow, on Linux: ``python -m benchmarks.community``."""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stgraph import StgraphError, VideoTokens, build_graph
from stgraph.community import COMMUNITIES
from stgraph.graph import SpatioTemporalGraph

from .tokens import clip

FRAMES = (64, 256, 1020)
"""Of 14 × 14 tokens: 12.5k, 50k and 200k vertices."""

VARIANTS = [
    {"name": "components", "backend": "torch"},
    {"name": "louvain", "backend": "networkx"},
    {"name": "leiden", "backend": "leidenalg"},
    {"name": "leiden", "objective": "cpm"},
]
"""Measured beside every detector at its defaults."""


def sample(frames: int) -> dict[str, Any]:
    """The fields of a token graph pruned at 0.8, about 60 % of whose edges stay."""
    return dict(vars(build_graph(VideoTokens.from_grid(clip(frames, 64, 0.6))).prune(0.8)))


def measure(path: str, spec: dict[str, Any]) -> dict[str, Any]:
    """Seconds and peak memory of one call above what the graph takes, for a process of its own."""
    detector = COMMUNITIES.build(spec)
    detector(build_graph(VideoTokens.from_grid(torch.ones(2, 3, 3, 4))))  # imports what it needs
    graph = SpatioTemporalGraph(**torch.load(path))
    seconds: list[float] = []
    resident = memory("VmRSS", reset=True)
    try:
        while len(seconds) < 3 and sum(seconds) < 5:  # the best of three, unless it is slow
            partition = detector(graph)
            seconds.append(partition.seconds)
            peak = memory("VmHWM")
    except StgraphError as error:
        return {"refused": str(error)}
    return {
        "seconds": min(seconds),
        "megabytes": peak - resident,
        "communities": partition.num_communities,
        "largest": partition.largest_share,
        "modularity": partition.modularity(graph),
    }


def memory(field: str, *, reset: bool = False) -> float:
    """Megabytes of this process by Linux's account: VmRSS now, VmHWM at most since the last reset."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1024


def in_a_process(path: Path, spec: dict[str, Any], limit: float) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.community", "--measure", str(path), json.dumps(spec)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=True)
    except subprocess.TimeoutExpired:
        return {"refused": f"over {limit:.0f} s"}
    return dict(json.loads(done.stdout))


def exponent(sizes: list[int], seconds: list[float]) -> str:
    """Slope of log seconds over log vertices."""
    if len(sizes) < 2:
        return ""
    return f"{np.polyfit([math.log(n) for n in sizes], [math.log(s) for s in seconds], 1)[0]:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=float, default=120, help="seconds for one detector on one graph")
    parser.add_argument("--measure", nargs=2, metavar=("GRAPH", "DETECTOR"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure[0], json.loads(arguments.measure[1]))))
        return
    with tempfile.TemporaryDirectory() as folder:
        graphs = {}
        for frames in FRAMES:
            fields = sample(frames)
            path = Path(folder, f"{frames}.pt")
            torch.save(fields, path)
            graphs[path] = len(fields["token"]), len(fields["edge_weight"])
        print("| detector |" + "".join(f" {n:,} vertices, {e:,} edges |" for n, e in graphs.values()), end="")
        print(" time grows as | communities | largest | modularity |")
        print("|---|" + "---|" * len(graphs) + "---|---|---|---|")
        for spec in [*({"name": name} for name in COMMUNITIES), *VARIANTS]:
            cells, sizes, seconds, last = [], [], [], None
            for path, (vertices, _) in graphs.items():
                result = in_a_process(path, spec, arguments.limit)
                if "refused" in result:
                    cells.append(result["refused"])
                    continue
                last = last or result  # quality on the smallest graph
                sizes.append(vertices)
                seconds.append(result["seconds"])
                cells.append(f"{result['seconds']:.2f} s, {result['megabytes']:.0f} MB")
            label = ", ".join([spec["name"], *(f"{k}={v}" for k, v in spec.items() if k != "name")])
            quality = [f"{last['communities']}", f"{100 * last['largest']:.0f} %", f"{last['modularity']:.3f}"]
            print("| " + " | ".join([label, *cells, f"V^{exponent(sizes, seconds)}", *quality]) + " |", flush=True)


if __name__ == "__main__":
    main()
