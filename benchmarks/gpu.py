"""The selection on a GPU against three reads of the features at its memory speed: ``python -m benchmarks.gpu``."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from stgraph.kernels import gpu
from stgraph.selectors.device import select_on_device

from .tokens import clip

WARM_UP = 3


def milliseconds(work: Callable[[], object], repeats: int) -> float:
    """Median time on the device."""
    times = []
    for index in range(WARM_UP + repeats):
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        work()
        stop.record()
        stop.synchronize()
        if index >= WARM_UP:
            times.append(start.elapsed_time(stop))
    return statistics.median(times)


def captured(work: Callable[[], object]) -> Callable[[], None]:
    """The same work as one CUDA graph; capturing fails where the host would have to wait for the device."""
    work()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    replay: Callable[[], None] = graph.replay
    return replay


def measure(x: Tensor, repeats: int) -> dict[str, float]:
    """Milliseconds of one read, of the whole selection, captured and not, and of its stages, captured."""
    words = x.flatten().view(torch.float32)
    frames = x.shape[0]
    norm, *weights = gpu.lattice(x, frames)
    labels, sizes = gpu.lattice_components(*weights, 0.8, frames)
    rows = torch.arange(len(labels), device=x.device)
    flat = x.flatten(0, 2)
    found = {"read": milliseconds(captured(words.sum), repeats)}
    stages: dict[str, Callable[[], object]] = {
        "edges": lambda: gpu.lattice(x, frames),
        "components": lambda: gpu.lattice_components(*weights, 0.8, frames),
        "centrality": lambda: gpu.community_centrality(flat, norm.flatten(), rows, labels, sizes),
        "selection": lambda: select_on_device(x),
    }
    found |= {name: milliseconds(captured(work), repeats) for name, work in stages.items()}
    found["selection, not captured"] = milliseconds(stages["selection"], repeats)
    found["over three reads"] = found["selection"] / (3 * found["read"])
    found["gigabytes per second of a read"] = x.numel() * x.element_size() / found["read"] / 1e6
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("This benchmark needs a CUDA device, and there is none; `make bench` is for the CPU.")
    torch.cuda.set_device(0)
    results = []
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}; medians of {arguments.repeats} in ms\n")
    for frames in (64, 512):
        for share in (0.3, 0.6, 0.9, 1.0):
            whole = clip(frames, 3584, share).cuda()
            for dtype in (torch.bfloat16, torch.float32):
                figures = measure(whole.to(dtype), arguments.repeats)
                kind = str(dtype).removeprefix("torch.")
                if not results:
                    heads = ("tokens", "share", "dtype", *figures)
                    print("| " + " | ".join(heads) + " |\n" + "|---" * len(heads) + "|")
                results.append({"tokens": frames * 196, "share": share, "dtype": kind, **figures})
                print(
                    "| "
                    + " | ".join(f"{v:.3g}" if isinstance(v, float) else str(v) for v in results[-1].values())
                    + " |"
                )
    if arguments.json:
        arguments.json.write_text(json.dumps({"device": torch.cuda.get_device_name(), "results": results}, indent=2))


if __name__ == "__main__":
    main()
