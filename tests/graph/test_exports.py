"""Exports and imports: round trips, shared memory, and any weighted graph."""

from __future__ import annotations

import dataclasses
import warnings

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stgraph import SpatialEdges, StgraphError, STSimDiff, TemporalEdges, Verdict, VideoTokens, build_graph
from stgraph.community import ConnectedComponents
from stgraph.graph import SpatioTemporalGraph
from stgraph.graph.edges import MotionEdges
from stgraph.graph.merge_tree import merge_tree

from ..strategies import features, videos


@pytest.fixture(scope="module")
def pyg():
    with warnings.catch_warnings(action="ignore"):  # its import may warn of deprecated parts of torch
        import torch_geometric.data

    return torch_geometric.data


def small_graph():
    return build_graph(VideoTokens.from_grid(features(3, 4, 5, 8, seed=0)))


def assert_same(graph, other):
    for field in dataclasses.fields(SpatioTemporalGraph):
        a, b = getattr(graph, field.name), getattr(other, field.name)
        assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b, field.name


# -- PyTorch Geometric ------------------------------------------------------------------------------------------------


def test_to_pyg_shares_every_tensor(pyg):
    graph = small_graph()
    data = graph.to_pyg()
    assert isinstance(data, pyg.Data)
    assert data.validate(raise_on_error=True)
    for name, tensor in {
        "x": graph.features,
        "edge_index": graph.edge_index,
        "edge_weight": graph.edge_weight,
        "edge_kind": graph.edge_kind,
        "pos": graph.coords,
        "batch": graph.batch,
    }.items():
        assert data[name].data_ptr() == tensor.data_ptr(), name
        assert data[name].shape == tensor.shape
    assert data.num_nodes == graph.num_nodes
    back = SpatioTemporalGraph.from_pyg(data)
    assert back.features.data_ptr() == graph.features.data_ptr()


@given(st.lists(videos(separators=False), min_size=1, max_size=3), st.booleans())
def test_round_trip(pyg, parts, motion):
    first = parts[0].features
    parts = [p for p in parts if (p.features.shape[1], p.features.dtype) == (first.shape[1], first.dtype)]
    builders = (SpatialEdges(connectivity=8), MotionEdges() if motion else TemporalEdges())
    graph = build_graph(VideoTokens.cat(parts), builders)
    assert_same(graph, SpatioTemporalGraph.from_pyg(graph.to_pyg()))


def test_separators_that_are_no_vertices_are_left_out(pyg):
    tokens = VideoTokens.from_grid(torch.randn(2, 3, 4, 5), newline=True)
    graph = build_graph(tokens)
    data = graph.to_pyg()
    assert torch.equal(data.x, tokens.features[~tokens.separator])
    back = SpatioTemporalGraph.from_pyg(data)
    assert torch.equal(back.similarity(back.edge_index), graph.edge_weight)


def test_any_weighted_graph_has_defaults(pyg):
    index = torch.tensor([[0, 1, 1, 2, 3, 4], [1, 0, 2, 1, 4, 3]])
    graph = SpatioTemporalGraph.from_pyg(pyg.Data(edge_index=index, num_nodes=6))
    assert graph.edge_index.tolist() == [[0, 1, 3], [1, 2, 4]]
    assert graph.edge_weight.tolist() == [1, 1, 1]
    assert graph.edge_kind.tolist() == [0, 0, 0]
    assert graph.coords.tolist() == [[0, 0, i] for i in range(6)]
    assert (graph.num_videos, graph.batch.tolist()) == (1, [0] * 6)
    assert ConnectedComponents()(graph).labels.tolist() == [0, 0, 0, 1, 1, 2]
    with pytest.raises(StgraphError, match="centrality needs features, but this graph was imported without them"):
        graph.centrality(torch.zeros(6, dtype=torch.int64), torch.tensor([6]))
    with pytest.raises(StgraphError, match="similarity needs features"):
        graph.similarity(graph.edge_index)


def test_edge_attr_of_one_column_is_the_weight_and_is_rounded(pyg):
    index = torch.tensor([[1, 0, 2], [0, 2, 0]])
    weight = torch.tensor([[0.7], [0.1], [0.1]], dtype=torch.float64)
    graph = SpatioTemporalGraph.from_pyg(pyg.Data(edge_index=index, edge_attr=weight, num_nodes=3))
    assert graph.edge_index.tolist() == [[0, 0], [1, 2]]
    assert graph.prune(0.7).num_edges == 1, "equal to the threshold stays"
    assert merge_tree(graph).components(0.7).tolist() == [0, 0, 1]


def test_a_batch_of_graphs_keeps_its_parts_apart(pyg):
    parts = [
        pyg.Data(x=torch.randn(3, 4), edge_index=torch.tensor([[0, 1], [1, 2]]), edge_weight=torch.rand(2)),
        pyg.Data(x=torch.randn(2, 4), edge_index=torch.tensor([[1], [0]]), edge_weight=torch.rand(1)),
    ]
    graph = SpatioTemporalGraph.from_pyg(pyg.Batch.from_data_list(parts))
    assert graph.num_videos == 2
    assert graph.batch.tolist() == [0, 0, 0, 1, 1]
    for number, part in enumerate(parts):
        alone, inside = SpatioTemporalGraph.from_pyg(part), graph.video(number)
        assert torch.equal(alone.edge_index, inside.edge_index)
        assert torch.equal(alone.edge_weight, inside.edge_weight)
        assert torch.equal(alone.coords, inside.coords)


def test_edges_are_sorted_by_video_and_kinds_follow_frames(pyg):
    pos = torch.tensor([[0, 0, 0], [1, 0, 0], [0, 0, 0], [0, 0, 1]])
    data = pyg.Data(
        edge_index=torch.tensor([[3, 1], [2, 0]]), pos=pos.float(), batch=torch.tensor([0, 0, 1, 1]), num_nodes=4
    )
    graph = SpatioTemporalGraph.from_pyg(data)
    assert graph.edge_index.tolist() == [[0, 2], [1, 3]]
    assert graph.edge_kind.tolist() == [1, 0]
    assert graph.num_videos == 2
    assert torch.equal(graph.coords, pos)


PATH = torch.tensor([[0, 1], [1, 2]])


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"edge_index": None}, "needs data.edge_index"),
        ({"edge_index": PATH.float()}, "needs data.edge_index"),
        ({"edge_index": PATH + 5}, "vertices outside 0 to 2"),
        ({"edge_index": torch.tensor([[0, 1], [0, 2]])}, "self-loops"),
        ({"edge_weight": torch.ones(3)}, "must be 2 finite numbers"),
        ({"edge_weight": torch.tensor([1.0, float("nan")])}, "must be 2 finite numbers"),
        (
            {"edge_index": torch.tensor([[0, 1], [1, 0]]), "edge_weight": torch.tensor([0.1, 0.2])},
            "vertices 0 and 1 more than once, with different weights",
        ),
        ({"edge_kind": torch.tensor([0, 7])}, "edge_kind must be 0"),
        ({"batch": torch.tensor([0, 0, 1])}, "joins vertices of different videos"),
        ({"batch": torch.tensor([1, 0, 0])}, "sort the vertices by video"),
        ({"batch": torch.tensor([0, 0])}, r"data.batch must be a tensor of shape \(3,\), got \(2,\)"),
        ({"pos": torch.randn(3, 3)}, "whole numbers"),
        ({"pos": torch.zeros(3, 2)}, "whole numbers"),
        ({"pos": torch.zeros(3, 3)}, "raster order"),
        ({"pos": torch.tensor([[0, 1, 0], [0, 0, 5], [1, 0, 0]])}, "raster order"),
        ({"x": torch.ones(2, 4)}, r"data.x must be \(3, d\)"),
        ({"x": torch.ones(3, 4, dtype=torch.int64)}, "floating-point"),
        ({"x": torch.full((3, 4), float("inf"))}, "hold NaN or Inf"),
    ],
)
def test_bad_data(pyg, attributes, message):
    data = pyg.Data(**{"edge_index": PATH, "num_nodes": 3, **attributes})
    with pytest.raises(StgraphError, match=message):
        SpatioTemporalGraph.from_pyg(data)


# -- networkx, GraphML, igraph, scipy ---------------------------------------------------------------------------------


@given(videos())
def test_networkx_holds_everything(tokens):
    graph = build_graph(tokens)
    other = graph.to_networkx()
    assert list(other.nodes) == list(range(graph.num_nodes))
    assert [[d["frame"], d["row"], d["column"]] for _, d in other.nodes(data=True)] == graph.coords.tolist()
    assert [d["video"] for _, d in other.nodes(data=True)] == graph.batch.tolist()
    assert other.number_of_edges() == graph.num_edges
    for a, b, weight, kind in zip(
        *graph.edge_index.tolist(), graph.edge_weight.tolist(), graph.edge_kind.tolist(), strict=True
    ):
        assert other[a][b] == {"weight": weight, "kind": ("spatial", "temporal")[kind]}


def test_graphml_carries_what_a_picture_needs(tmp_path):
    tokens = VideoTokens.from_grid(features(4, 3, 5, 8, 1))
    graph, selection = build_graph(tokens), STSimDiff(retention=0.4)(tokens)
    graph.to_graphml(tmp_path / "graph.graphml", selection)
    read = nx.read_graphml(tmp_path / "graph.graphml", node_type=int)
    for vertex, data in read.nodes(data=True):
        frame, row, column = graph.coords[vertex].tolist()
        assert (data["x"], data["y"]) == (frame * 7 + column, -row)
        assert data["community"] == int(selection.community[vertex])
        assert data["verdict"] == Verdict(int(selection.verdict[vertex])).name.lower()
        assert data["event"] == bool(selection.candidate[vertex] & 2)
        assert data["kept"] == bool(selection.mask[vertex])
        assert all(0 <= data[channel] <= 255 for channel in "rgb")
    with pytest.raises(StgraphError, match="the selection and the graph have different tokens"):
        graph.to_networkx(STSimDiff(retention=0.4)(VideoTokens.from_grid(features(4, 5, 3, 8, 1))))


def test_graphml_is_read_back_equal(tmp_path):
    graph = build_graph(VideoTokens.cat([VideoTokens.from_grid(features(2, 3, 4, 8, seed=s)) for s in range(2)]))
    graph.to_graphml(tmp_path / "graph.graphml")
    read, written = nx.read_graphml(tmp_path / "graph.graphml", node_type=int), graph.to_networkx()
    assert read.nodes == written.nodes
    assert read.adj == written.adj
    assert not read.is_directed()
    with pytest.raises(StgraphError, match="cannot be written"):
        graph.to_graphml(tmp_path / "missing" / "graph.graphml")


@given(videos())
def test_igraph_keeps_the_order_of_edges(tokens):
    graph = build_graph(tokens)
    other = graph.to_igraph()
    assert other.vcount() == graph.num_nodes
    assert [list(e) for e in other.get_edgelist()] == graph.edge_index.T.tolist()
    assert other.es["weight"] == graph.edge_weight.tolist()
    assert [("spatial", "temporal").index(kind) for kind in other.es["kind"]] == graph.edge_kind.tolist()
    assert [
        list(c) for c in zip(other.vs["frame"], other.vs["row"], other.vs["column"], strict=True)
    ] == graph.coords.tolist()
    assert other.vs["video"] == graph.batch.tolist()


@given(videos())
@settings(max_examples=30)
def test_scipy_upper_and_symmetric(tokens):
    graph = build_graph(tokens)
    dense = np.zeros((graph.num_nodes, graph.num_nodes), dtype=np.float32)
    dense[tuple(graph.edge_index.numpy())] = graph.edge_weight.numpy()
    assert np.array_equal(graph.to_scipy().toarray(), dense)
    assert np.array_equal(graph.to_scipy(symmetric=True).toarray(), dense + dense.T)
    assert graph.to_scipy().nnz == graph.num_edges, "explicit zeros are kept"
    assert graph.to_scipy(symmetric=True).nnz == 2 * graph.num_edges


# -- optional libraries -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("export", "library"), [("to_pyg", "torch_geometric"), ("to_networkx", "networkx"), ("to_igraph", "igraph")]
)
def test_missing_library_is_one_sentence(monkeypatch, export, library):
    def absent(name):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr("importlib.import_module", absent)
    with pytest.raises(
        StgraphError, match=rf'{export} needs the library {library}.*pip install "stgraph-simdiff\[graph\]'
    ):
        getattr(small_graph(), export)()


@pytest.mark.gpu
def test_cugraph_components_are_those_of_scipy():
    plc = pytest.importorskip("pylibcugraph")
    graph = small_graph().prune(0.8)
    handle = plc.ResourceHandle()
    vertices, labels = plc.weakly_connected_components(handle, graph.to_cugraph(handle), None, None, None, None, False)
    found = torch.empty(graph.num_nodes, dtype=torch.int64)
    found[torch.as_tensor(vertices, device="cuda").cpu().long()] = torch.as_tensor(labels, device="cuda").cpu().long()
    expected = ConnectedComponents(backend="scipy")(graph).labels
    assert (
        len(set(zip(found.tolist(), expected.tolist(), strict=True))) == len(expected.unique()) == len(found.unique())
    )


@given(videos(), st.booleans())
@settings(max_examples=30)
def test_a_round_trip_through_networkx_and_pytorch_geometric_loses_nothing(tokens, vertices):
    """PyG's from_networkx calls weights ``weight``: they were all taken for 1 once."""
    from torch_geometric.utils import from_networkx

    graph = build_graph(tokens, separators_as_vertices=vertices)
    if not graph.num_edges:
        return
    again = SpatioTemporalGraph.from_pyg(from_networkx(graph.to_networkx()))

    def edges(g):
        return sorted(zip(*g.edge_index.tolist(), g.edge_weight.tolist(), g.edge_kind.tolist(), strict=True))

    assert edges(again) == edges(graph)
    assert torch.equal(again.coords, graph.coords)
    assert torch.equal(again.batch, graph.batch)
    for threshold in (0.5, 0.8):
        one, two = (ConnectedComponents()(g.prune(threshold)) for g in (graph, again))
        assert torch.equal(one.labels, two.labels)


@pytest.mark.parametrize("name", ["edge_weight", "weight", "edge_attr"])
def test_weights_under_any_name_of_pytorch_geometric(name):
    from torch_geometric.data import Data

    data = Data(edge_index=torch.tensor([[0, 1], [1, 2]]), num_nodes=3)
    data[name] = torch.tensor([0.25, 0.75])
    assert SpatioTemporalGraph.from_pyg(data).edge_weight.tolist() == [0.25, 0.75]
    data[name] = torch.ones(2, 3)
    with pytest.raises(StgraphError, match=r"must be 2 finite numbers, one for each edge, got \(2, 3\)"):
        SpatioTemporalGraph.from_pyg(data)
