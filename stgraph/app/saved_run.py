"""A finished run in a folder: its selection, configuration, pictures and report."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ..errors import readable
from .output import new_output
from .pipeline import Run, versions
from .progress import Report, silent


def save(
    run: Run,
    folder: str | Path,
    *,
    overwrite: bool = False,
    numbered: bool = False,
    also: Mapping[str, str] | None = None,
    progress: Report = silent,
) -> Path:
    """Write the selection, the configuration, the pictures and the report: after an error nothing is left.

    Args:
        run: what :func:`compress` returned.
        folder: the output folder.
        overwrite: replace another run that it holds.
        numbered: if it is taken, use the first free one of ``folder-2``, ``folder-3``, ...
        also: further text files, by name.
        progress: called with the stage ``drawing``.

    Returns:
        The folder that was written.

    Raises:
        StgraphError: the folder is taken or cannot be written to.
    """
    progress("drawing", 0)
    with new_output(folder, overwrite=overwrite, numbered=numbered) as output:
        for name, text in (also or {}).items():
            (output.folder / name).write_text(text, "utf-8")
        (output.folder / "config.yaml").write_text(run.config.to_yaml(), "utf-8")
        start = time.perf_counter()
        _draw(run, output.folder, progress)
        run.seconds["draw"] = time.perf_counter() - start
        run.selection.save(
            output.folder,
            {
                "video": {
                    "file": readable(Path(run.video.source or "").name),
                    "frames": len(run.video),
                    "height": run.video.height,
                    "width": run.video.width,
                    "stored_size": run.video.stored_size,
                    "timestamps": run.video.timestamps.tolist(),
                },
                "grids": [list(grid) for grid in run.tokens.grids],
                "config": run.config.data,
                "quality": {name: quality.as_dict() for name, quality in run.quality.items()},
                "notes": list(run.notes),
                "stages": run.seconds,
                "cached": list(run.cached),
                "versions": versions(run.tokens.device),
            },
        )
    return output.path


OVERLAY_WIDTH = 640
"""Pixels across the overlay video, or fewer where the video has fewer."""


def _draw(run: Run, folder: Path, progress: Report) -> None:
    """Pictures, overlay and report, the overlay beside the others: both take about as long and use one core each."""
    from ..viz import frame_sheet, overlay_video

    grid = run.tokens.grids[0]
    with ThreadPoolExecutor(1, thread_name_prefix="stgraph-draw") as pool:
        width = min(OVERLAY_WIDTH, run.video.width)
        overlay = pool.submit(
            overlay_video, folder / "overlay.mp4", run.video, run.selection, grid, width=width, preset="superfast"
        )
        try:
            frame_sheet(run.video, run.selection, grid).save(folder / "frames.png", compress_level=1)
            progress("drawing", 0.2)
            _report(run, folder / "report.html")
            progress("drawing", 0.6)
        finally:
            overlay.result()


def _report(run: Run, path: Path) -> None:
    from ..graph import build_graph
    from ..selectors.simdiff import STSimDiff
    from ..viz.report import write_report
    from ..viz.saved import save_graph

    selector = run.config.selector()
    found = selector.analyse(run.tokens) if isinstance(selector, STSimDiff) else None
    graph = found.graph if found else build_graph(run.tokens)
    save_graph(path.parent, graph, run.video)
    write_report(
        path,
        video=run.video,
        tokens=run.tokens,
        selection=run.selection,
        graph=graph,
        partition=found.partition if found else None,
        difference=found.difference if found else None,
        quality=list(run.quality.items()),
        config=run.config.data,
        seconds=run.seconds,
        versions=versions(run.tokens.device),
    )
