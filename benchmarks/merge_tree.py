"""Communities at many thresholds: one merge tree against recomputing them, and how the tree grows.

    python benchmarks/merge_tree.py
    python benchmarks/merge_tree.py --thresholds 20 --repeats 9

Seconds are medians of CPU time on one thread, so that other work on the machine matters little.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable

import torch

from stgraph import SpatioTemporalGraph, VideoTokens, build_graph, kernels
from stgraph.community import ConnectedComponents
from stgraph.graph.merge_tree import merge_tree

BACKENDS = ("scipy", "fused")
"""What finds components: scipy beside the reference kernels, the fused kernels' own union-find."""


def video_like(frames: int, height: int = 14, width: int = 14, dim: int = 64) -> SpatioTemporalGraph:
    """The graph of smooth, slowly changing random features: weights spread over all of [−1, 1]."""
    g = torch.Generator().manual_seed(0)
    coarse = torch.randn(1, dim, max(2, frames // 8), 4, 4, generator=g)
    smooth = torch.nn.functional.interpolate(coarse, size=(frames, height, width), mode="trilinear")[0]
    noise = (
        0.4 * torch.rand(frames, height, width, 1, generator=g) * torch.randn(frames, height, width, dim, generator=g)
    )
    return build_graph(VideoTokens.from_grid(smooth.permute(1, 2, 3, 0) + noise))


def recomputed(graph: SpatioTemporalGraph, threshold: float) -> torch.Tensor:
    return ConnectedComponents()(graph.prune(threshold)).labels


def seconds(run: Callable[[], object], repeats: int) -> float:
    taken = []
    for _ in range(repeats):
        start = time.process_time()
        run()
        taken.append(time.process_time() - start)
    return statistics.median(taken)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--thresholds", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--frames", type=int, nargs="+", default=[16, 64, 256, 1024])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    thresholds = torch.linspace(0, 1, arguments.thresholds, dtype=torch.float64).tolist()
    columns = ["vertices", "edges", "build", "components", "sweep"]
    for backend in BACKENDS:
        columns += [f"recompute, {backend}", "ratio", "ratio of counts only"]
    print("| " + " | ".join(columns) + " |\n|" + " --- |" * len(columns))
    builds = []
    for frames in arguments.frames:
        graph = video_like(frames)
        tree = merge_tree(graph)
        for threshold in thresholds:
            assert torch.equal(tree.components(threshold), ConnectedComponents()(graph.prune(threshold)).labels)
        build = seconds(lambda graph=graph: merge_tree(graph), arguments.repeats)
        cuts = seconds(lambda tree=tree: [tree.components(t) for t in thresholds], arguments.repeats)
        sweep = seconds(lambda tree=tree: tree.sweep(thresholds), arguments.repeats)
        builds.append((graph.num_nodes, build))
        cells = [f"{1000 * value:.1f} ms" for value in (build, cuts, sweep)]
        for backend in BACKENDS:
            with kernels.using("fused" if backend == "fused" else "reference"):
                again = seconds(lambda graph=graph: [recomputed(graph, t) for t in thresholds], arguments.repeats)
            cells += [f"{1000 * again:.1f} ms", f"{again / (build + cuts):.1f}", f"{again / (build + sweep):.1f}"]
        print("| " + " | ".join([str(graph.num_nodes), str(graph.num_edges), *cells]) + " |", flush=True)
    (small, fast), (large, slow) = builds[0], builds[-1]
    if large > small:
        print(f"\nBuilding grows as V^{math.log(slow / fast) / math.log(large / small):.2f}.")


if __name__ == "__main__":
    main()
