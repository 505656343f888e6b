"""The explorer: the space-time graph of a video as an interactive picture, in one page that needs no network.

One bundle of JavaScript and CSS serves three places: a page of its own, a tab of the report, and a widget in notebooks.
"""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from ...errors import StgraphError
from .data import MAX_VERTICES, explorer_data

if TYPE_CHECKING:
    from ...difference.events import Event
    from ...graph import SpatioTemporalGraph
    from ...selectors.selection import Selection
    from ...tokens import VideoTokens
    from ...video import Video

__all__ = ["MAX_VERTICES", "Explorer", "asset", "explore", "explorer_data", "json_for_script"]


def explore(
    video: Video | None,
    selections: Selection | Mapping[str, Selection],
    tokens: VideoTokens | None = None,
    graph: SpatioTemporalGraph | None = None,
    *,
    title: str | None = None,
    events: Sequence[Event] | None = None,
    video_index: int = 0,
    frames: tuple[int, int] | None = None,
) -> Explorer:
    """The explorer of one video: an interactive graph with a choice of frames, a slider for τ_sim, and the reason for
    each token.

    Args:
        video: T frames, or None where there are only features.
        selections: one selection, or two by name to be compared side by side and as a difference.
        tokens: what was selected from; edges and the slider of τ_sim need it, or ``graph``.
        graph: of these tokens, with all its edges. Built from ``tokens`` when not given.
        title: above the picture; the name of the video's file when not given.
        events: of the first selection; found when not given.
        video_index: which video of a batch.
        frames: (first, last) frame to show, both included; chosen where the graph is too large to be shown whole.

    Raises:
        StgraphError: values that do not belong together, or no such video or frames.
    """
    data = explorer_data(video, selections, tokens, graph, events=events, video_index=video_index, frames=frames)
    name = Path(video.source).name if video is not None and video.source else "Space-time graph"
    return Explorer(data, title or name)


@dataclass(frozen=True, eq=False)
class Explorer:
    """An explorer that shows itself in a notebook and saves itself as a page.

    Attributes:
        data: what :func:`explorer_data` returned.
        title: above the picture.
    """

    data: dict[str, Any]
    title: str

    def __repr__(self) -> str:
        frames, height, width = self.data["grid"]
        return f"Explorer({self.title!r}, {self.data['vertices']} vertices, {frames}×{height}×{width})"

    @property
    def lead(self) -> str:
        """One sentence on what is shown."""
        kept = "; ".join(
            f"{run['name']} keeps {run['kept']:,} of {run['tokens']:,} tokens" for run in self.data["runs"]
        )
        frames, height, width = self.data["grid"]
        if len(self.data["runs"]) == 1:
            run = self.data["runs"][0]
            kept = f"{run['kept']:,} of {run['tokens']:,} tokens are kept by {run['method']}"
        return f"{frames} frames of {height} × {width} tokens: {kept}."

    def page(self) -> str:
        """The whole page as HTML, which loads nothing from anywhere."""
        return Template(asset("html")).substitute(
            css=asset("css"),
            js=asset("js"),
            data=json_for_script(self.data),
            title=html.escape(self.title),
            lead=html.escape(self.lead),
        )

    def save(self, path: str | Path) -> Path:
        """Write the page to ``path``, which is replaced if it exists.

        Raises:
            StgraphError: the file cannot be written.
        """
        path = Path(path)
        try:
            path.write_text(self.page(), "utf-8")
        except OSError as error:
            reason = error.strerror or error
            raise StgraphError(f"{path} cannot be written ({reason}); check the folder and the free space") from None
        return path

    def widget(self) -> Any:
        """The explorer as an anywidget, for Jupyter, VS Code, Colab and marimo.

        Raises:
            StgraphError: anywidget is not installed.
        """
        return _widget_class()(data=self.data)

    def _repr_mimebundle_(self, **options: Any) -> Any:
        # A notebook that runs shows the widget; one that is only read (GitHub, a site) shows the page in a frame.
        try:
            import anywidget  # noqa: F401
        except ImportError:
            return {"text/html": self._frame(), "text/plain": repr(self)}
        found = self.widget()._repr_mimebundle_(**options)
        bundle, metadata = found if isinstance(found, tuple) else (found, {})
        return {**(bundle or {}), "text/html": self._frame(), "text/plain": repr(self)}, metadata

    def _frame(self) -> str:
        page = html.escape(self.page(), quote=True)
        return (
            f'<iframe srcdoc="{page}" title="{html.escape(self.title)}" loading="lazy" sandbox="allow-scripts" '
            'style="width:100%;height:860px;border:0"></iframe>'
        )


@cache
def _widget_class() -> Any:
    """The class of the widget, made once: its code is the bundle itself."""
    from ...optional import require

    anywidget = require("anywidget", extra="notebook", needed_by="the explorer as a widget")
    traitlets = require("traitlets", extra="notebook", needed_by="the explorer as a widget")
    render = "\nexport default { render({ model, el }) { return stgraphExplorer(el, model.get('data')); } };\n"

    class ExplorerWidget(anywidget.AnyWidget):  # type: ignore[misc, name-defined]
        """The explorer in a notebook's cell."""

        _esm = asset("js") + render
        _css = asset("css")
        data = traitlets.Dict().tag(sync=True)

    return ExplorerWidget


@cache
def asset(kind: str) -> str:
    """The text of the bundle: ``"html"``, ``"css"`` or ``"js"``."""
    names = ("raster", "explorer") if kind == "js" else ("explorer",)
    files = resources.files(__name__)
    return "\n".join(files.joinpath(f"{name}.{kind}").read_text("utf-8").rstrip("\n") for name in names)


def json_for_script(data: Any) -> str:
    """JSON that may stand inside a script element of HTML."""
    return json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
