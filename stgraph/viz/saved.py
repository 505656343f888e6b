"""What pictures need of a finished run: its graph and its frames, in one small file of the run's folder."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import StgraphError
from ..graph import SpatioTemporalGraph
from ..selectors.selection import Selection
from ..tokens import Grid
from ..video import Video
from .images import image_of, jpeg
from .scene import Scene

FILE = "graph.safetensors"
"""The file in a run's folder."""

FRAME_WIDTH = 320
"""Pixels across a stored frame, or fewer where the video has fewer."""


def save_graph(folder: str | Path, graph: SpatioTemporalGraph, video: Video | None) -> None:
    """Write edges, weights, kinds and vertices of one video's graph, and its frames as JPEG, into ``folder``."""
    from safetensors.torch import save

    jpegs = [] if video is None else [jpeg(image_of(frame, FRAME_WIDTH), 70) for frame in video.frames]
    tensors = {
        "edge_index": graph.edge_index.cpu().int().contiguous(),
        "edge_weight": graph.edge_weight.cpu().contiguous().clone(),
        "edge_kind": graph.edge_kind.cpu().contiguous().clone(),
        "token": graph.token.cpu().int().contiguous(),
        "jpeg": torch.from_numpy(np.frombuffer(b"".join(jpegs), dtype=np.uint8).copy()),
        "jpeg_end": torch.tensor([len(data) for data in jpegs], dtype=torch.int64).cumsum(0),
        "timestamps": torch.zeros(0, dtype=torch.float64) if video is None else video.timestamps.cpu().clone(),
    }
    (Path(folder) / FILE).write_bytes(save(tensors))


def load_scene(folder: str | Path) -> Scene:
    """The pictures of a finished run, from its folder alone.

    Raises:
        StgraphError: the folder holds no run, one without its graph, or a damaged one.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder = Path(folder)
    selection = Selection.load(folder)
    try:
        tensors = load_file(folder / FILE)
        record = json.loads((folder / "selection.json").read_text("utf-8"))
        grid = Grid(*record["grids"][0]) if "grids" in record else None
        video = _video(tensors, record.get("video", {}).get("file"))
        graph = _graph(tensors, selection)
    except FileNotFoundError:
        raise StgraphError(f"{folder} holds a selection but not its graph ({FILE}); run compress again") from None
    except (SafetensorError, KeyError, IndexError, OSError, ValueError) as error:
        raise StgraphError(f"{folder / FILE} is damaged ({error}); run compress again") from error
    if grid is None:
        grid = Grid(*(int(n) + 1 for n in graph.coords.amax(0))) if graph.num_nodes else Grid(1, 1, 1)
    return Scene(selection, grid, video, graph)


def _graph(tensors: dict[str, Tensor], selection: Selection) -> SpatioTemporalGraph:
    token = tensors["token"].long()
    return SpatioTemporalGraph(
        edge_index=tensors["edge_index"].long(),
        edge_weight=tensors["edge_weight"],
        edge_kind=tensors["edge_kind"],
        coords=selection.coords[token],
        batch=torch.zeros(len(token), dtype=torch.int64),
        num_videos=1,
        features=torch.zeros(len(selection.verdict), 0, dtype=torch.float32),
        token=token,
        norm=torch.zeros(len(token), dtype=torch.float64),
    )


def _video(tensors: dict[str, Tensor], source: str | None) -> Video | None:
    from PIL import Image

    ends = tensors["jpeg_end"].tolist()
    if not ends:
        return None
    data = tensors["jpeg"].numpy().tobytes()
    frames = [
        np.asarray(Image.open(BytesIO(data[start:end])).convert("RGB"))
        for start, end in zip([0, *ends[:-1]], ends, strict=True)
    ]
    return Video(torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).contiguous(), tensors["timestamps"], source)
