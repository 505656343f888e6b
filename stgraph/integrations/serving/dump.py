"""Selections of a server as folders that ``stgraph explain`` and ``stgraph draw`` read: why this token stayed."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...app.draw import FEATURES
from ...app.output import new_output
from ...errors import StgraphError
from ...graph import build_graph
from ...selectors import Selection
from ...tokens import VideoTokens
from ...viz.saved import save_graph

if TYPE_CHECKING:
    from .contract import ServingSelector

LOG = logging.getLogger("stgraph.serving")


@dataclass(frozen=True)
class Dump:
    """Writes each selection into a folder of its own, named by the digest of its video's features.

    Attributes:
        folder: holds the folders.
        selector: that chose.
        rate: the server's pruning rate.
    """

    folder: Path
    selector: ServingSelector
    rate: float

    def __call__(self, tokens: VideoTokens, selection: Selection) -> None:
        """Write a selection. On an error, such as a full disk, it is logged and the answer is not affected."""
        name = f"video-{_digest(tokens.features)}"
        if (self.folder / name).exists():
            return
        try:
            self._write(self.folder / name, tokens, selection)
        except (OSError, StgraphError) as error:
            LOG.error("the selection of %s could not be written: %s", name, error)

    def _write(self, path: Path, tokens: VideoTokens, selection: Selection) -> None:
        from safetensors.torch import save

        with new_output(path) as output:
            extra = {
                "grids": [list(grid) for grid in tokens.grids],
                "served": {
                    "selector": self.selector.configuration,
                    "fingerprint": self.selector.fingerprint,
                    "pruning_rate": self.rate,
                },
            }
            selection.save(output.folder, extra)
            save_graph(output.folder, build_graph(tokens), None)
            (output.folder / FEATURES).write_bytes(save({"features": tokens.features.cpu().contiguous()}))


def _digest(features: Tensor) -> str:
    raw = features.cpu().contiguous().view(torch.uint8).numpy().tobytes()
    return hashlib.sha256(raw).hexdigest()[:16]
