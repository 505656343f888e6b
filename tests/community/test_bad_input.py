"""Bad parameters, weights that a method cannot take, libraries that are missing: one sentence each."""

from __future__ import annotations

import random
import sys
import threading
import types

import pytest
import torch

from stgraph import StgraphError
from stgraph.community import COMMUNITIES
from stgraph.optional import install_hint, require

from .graphs import SMALL, graph_of


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"name": "components", "backend": "scipi"}, "backend must be one of auto, scipy"),
        ({"name": "louvain", "resolution": 0}, "resolution must be a number > 0"),
        ({"name": "louvain", "backend": "leidenalg"}, "backend must be one of igraph"),
        ({"name": "louvain", "seed": -1}, "seed must be a whole number ≥ 0"),
        ({"name": "leiden", "resolution": -1.0}, "resolution must be a number > 0"),
        ({"name": "leiden", "objective": "surprise"}, "objective must be one of modularity, cpm"),
        ({"name": "leiden", "iterations": 0}, "iterations must be at least 1, or -1"),
        ({"name": "leiden", "iterations": -2}, "iterations must be a whole number ≥ -1"),
        ({"name": "leiden", "max_size": 0, "backend": "leidenalg"}, "max_size must be a whole number ≥ 1"),
        ({"name": "leiden", "max_size": 5}, "max_size needs backend='leidenalg'"),
        ({"name": "leiden", "objective": "cpm", "backend": "cugraph"}, "has only objective='modularity'"),
        ({"name": "leiden", "seed": 2**32}, "seed must be a whole number ≥ 0 and ≤"),
        ({"name": "multiplex", "spatial": -0.1}, "spatial must be a number ≥ 0"),
        ({"name": "multiplex", "temporal": float("nan")}, "temporal must be a number ≥ 0"),
        ({"name": "label_propagation", "max_sweeps": 0}, "max_sweeps must be a whole number ≥ 1"),
        ({"name": "infomap", "trials": 0}, "trials must be a whole number ≥ 1"),
        ({"name": "infomap", "memory_limit": 0.0}, "memory_limit must be a number > 0"),
        ({"name": "spectral", "clusters": 0}, "clusters must be a whole number ≥ 1"),
        ({"name": "spectral", "clusters": "gap"}, "clusters must be"),
        ({"name": "spectral", "max_clusters": 0}, "max_clusters must be a whole number ≥ 1"),
        ({"name": "spectral", "max_vertices": 0}, "max_vertices must be a whole number ≥ 1"),
        ({"name": "composed", "second": "leidem"}, "did you mean 'leiden'"),
        ({"name": "sqrt_split", "detector": {"name": "louvain", "resolution": 0}}, "resolution must be a number > 0"),
    ],
    ids=str,
)
def test_parameters_out_of_range(spec, message):
    with pytest.raises(StgraphError, match=message):
        COMMUNITIES.build(spec)


NEGATIVE = [(0, 1), (1, 2), (2, 3)], [0.9, -0.4, 0.9]


@pytest.mark.parametrize(
    "spec",
    [
        *("louvain", "leiden", "multiplex", "label_propagation", "infomap", "greedy", "spectral", "composed"),
        {"name": "louvain", "backend": "networkx"},
        {"name": "leiden", "backend": "leidenalg"},
    ],
    ids=str,
)
def test_negative_weights_are_refused_with_their_number(spec):
    with pytest.raises(
        StgraphError, match=r"needs edge weights ≥ 0, but this graph has 1 edges of negative weight; prune it"
    ):
        COMMUNITIES.build(spec)(graph_of(4, *NEGATIVE))


@pytest.mark.parametrize("backend", ["igraph", "leidenalg"])
def test_the_potts_model_takes_negative_weights_as_repulsion(backend):
    spec = {"name": "leiden", "objective": "cpm", "backend": backend}
    assert COMMUNITIES.build(spec)(graph_of(4, *NEGATIVE)).labels.tolist() == [0, 0, 1, 1]
    assert COMMUNITIES.build({"name": "multiplex", "objective": "cpm"})(graph_of(4, *NEGATIVE)).labels.tolist() == [
        0,
        0,
        1,
        1,
    ]


def test_components_follow_edges_of_any_weight():
    for backend in ("scipy", "torch"):
        graph = graph_of(5, [(0, 1), (1, 2), (3, 4)], [0.9, -0.4, 0.0])
        assert COMMUNITIES.build({"name": "components", "backend": backend})(graph).labels.tolist() == [0, 0, 0, 1, 1]


@pytest.mark.parametrize(
    ("spec", "library", "extra"),
    [
        ("louvain", "igraph", "graph"),
        ({"name": "louvain", "backend": "networkx"}, "networkx", "graph"),
        ("leiden", "igraph", "graph"),
        ({"name": "leiden", "backend": "leidenalg"}, "leidenalg", "graph"),
        ("multiplex", "leidenalg", "graph"),
        ("infomap", "infomap", "graph"),
        ("greedy", "igraph", "graph"),
        ({"name": "components", "backend": "cugraph"}, "pylibcugraph", "cugraph"),
        ({"name": "louvain", "backend": "cugraph"}, "pylibcugraph", "cugraph"),
        ({"name": "leiden", "backend": "cugraph"}, "pylibcugraph", "cugraph"),
    ],
    ids=str,
)
def test_a_missing_library_is_one_sentence_with_the_command(spec, library, extra, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(StgraphError) as error:
        COMMUNITIES.build(spec)(SMALL["planted"]())
    message = str(error.value)
    assert f"needs the library {library}, which is not installed" in message
    assert message.endswith(install_hint(extra))


def test_a_broken_library_says_what_is_wrong(tmp_path, monkeypatch):
    (tmp_path / "half_installed.py").write_text("import a_part_that_is_missing")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(StgraphError, match=r"cannot be imported \(No module named 'a_part_that_is_missing'\)"):
        require("half_installed", extra="graph", needed_by="this test")


def test_cugraph_without_a_gpu_says_so(monkeypatch):
    def no_device():
        raise RuntimeError("no CUDA-capable device is detected")

    runtime = types.SimpleNamespace(getDeviceCount=no_device, CUDARuntimeError=RuntimeError)
    cupy = types.ModuleType("cupy")
    cupy.cuda = types.SimpleNamespace(runtime=runtime)
    monkeypatch.setitem(sys.modules, "pylibcugraph", types.ModuleType("pylibcugraph"))
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    for count in (no_device, lambda: 0):
        runtime.getDeviceCount = count
        with pytest.raises(StgraphError, match="needs an NVIDIA GPU and this machine has none"):
            COMMUNITIES.build({"name": "components", "backend": "cugraph"})(SMALL["planted"]())


def test_threads_do_not_disturb_each_other():
    graph = SMALL["one giant component"]()
    detectors = [COMMUNITIES.build({"name": "leiden", "seed": seed}) for seed in range(6)]
    expected = [d(graph).labels for d in detectors]
    found: list[torch.Tensor] = [torch.empty(0)] * 6

    def work(number):
        for _ in range(5):
            found[number] = detectors[number](graph).labels

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_the_generator_that_igraph_had_is_put_back():
    """Of Python in the state that it was in, so that the program around goes on as if nothing had happened."""
    import igraph

    def drawn():
        return igraph.Graph.Erdos_Renyi(40, 0.3).get_edgelist()

    state = random.getstate()
    expected = [drawn(), drawn()]
    random.setstate(state)
    found = [drawn()]
    COMMUNITIES.build("leiden")(SMALL["planted"]())
    found.append(drawn())
    assert found == expected


def test_the_generator_that_a_user_gave_igraph_is_put_back():
    import igraph

    own = random.Random(5)
    igraph.set_random_number_generator(own)
    try:
        COMMUNITIES.build("leiden")(SMALL["planted"]())
        before = own.getstate()
        igraph.Graph.Erdos_Renyi(40, 0.3)
        assert own.getstate() != before, "igraph draws from it again"
    finally:
        igraph.set_random_number_generator(random)
