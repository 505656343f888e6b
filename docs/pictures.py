"""The pictures of README and site: ``python docs/pictures.py``; with ``--browser`` also those of the explorer."""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from stgraph import Selection, STSimDiff, Video, VideoTokens, read_video, viz
from stgraph.encoders import ENCODERS
from stgraph.registry import registry
from stgraph.sample import render_sample

IMAGES = Path(__file__).parent / "images"
INK, FAINT = "#1A1D21", "#5B626B"


def clip() -> tuple[Video, VideoTokens, Selection]:
    """The sample clip, its tokens, and the selection of 30 %."""
    with TemporaryDirectory() as folder:
        video = read_video(render_sample(Path(folder) / "sample.mp4").path, frames=64)
    tokens, signals = ENCODERS.build("descriptor")(video)
    return video, tokens, STSimDiff(retention=0.3)(tokens, signals)


def before_graph_kept(video: Video, tokens: VideoTokens, selection: Selection) -> None:
    """Before → graph → kept: the picture of the README."""
    grid = tokens.grids[0]
    frames = [12, 13, 14]
    raw = _column([_token_grid(_image(video.frames[t]), grid.height, grid.width) for t in frames])
    kept = _column([_image(f) for f in viz.overlay_frames(video, selection, grid, frames=frames, width=448)])
    figure = selection.draw("graph", video, tokens, frames=frames)
    figure.legends[0].remove()
    graph = _figure(figure, 200)
    height = raw.height
    graph = graph.resize((round(graph.width * height / graph.height), height), Image.Resampling.LANCZOS)
    titles = (
        f"before: {len(tokens):,} tokens",
        "graph: alike tokens joined, orange where it breaks",
        f"kept: {len(selection):,} tokens",
    )
    gap, top, font = 36, 54, ImageFont.load_default(27)
    sheet = Image.new("RGB", (raw.width + graph.width + kept.width + 4 * gap, height + top + gap), "white")
    pen, x = ImageDraw.Draw(sheet), gap
    for picture, title in zip((raw, graph, kept), titles, strict=True):
        sheet.paste(picture, (x, top))
        pen.text((x, 14), title, fill=INK, font=font)
        x += picture.width + gap
    sheet.resize((1500, round(1500 * sheet.height / sheet.width)), Image.Resampling.LANCZOS).save(
        IMAGES / "before_graph_kept.jpg", quality=84, optimize=True
    )


def figures(video: Video, tokens: VideoTokens, selection: Selection) -> None:
    """One picture of each kind."""
    for kind in viz.KINDS:
        _figure(selection.draw(kind, video, tokens), 110).save(IMAGES / f"draw_{kind}.jpg", quality=84, optimize=True)
    other = registry("selector").build({"name": "simdiff", "retention": 0.3, "difference": "drift"})(tokens)
    pair = {"threshold": selection, "drift": other}
    figure = viz.compare_selections(pair, tokens.grids[0], video=video)
    _figure(figure, 110).save(IMAGES / "draw_compare.jpg", quality=84, optimize=True)


def explorer(video: Video, tokens: VideoTokens, selection: Selection) -> None:
    """The explorer as a browser draws it."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for word in ("headless=new", "no-sandbox", "hide-scrollbars", "use-angle=swiftshader", "enable-unsafe-swiftshader"):
        options.add_argument(f"--{word}")
    browser = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    api = "document.querySelector('.stx').explorer"
    views: dict[str, Callable[[Any], Any]] = {
        "explorer": lambda b: None,
        "explorer_token": lambda b: b.execute_script(
            f"{api}.set({{colour: 'verdicts', from: 26, to: 36}}); {api}.pick({31 * 198 + 40})"
        ),
        "explorer_cut": lambda b: b.execute_script(f"{api}.set({{from: 29, to: 33, edgeColour: 'kind', cut: true}})"),
    }
    with TemporaryDirectory() as folder:
        page = selection.show(video, tokens).save(Path(folder) / "explorer.html")
        browser.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": 1280, "height": 900, "deviceScaleFactor": 1, "mobile": False},
        )
        for name, change in views.items():
            browser.get(page.as_uri())
            while not browser.execute_script("return document.querySelector('.stx')?.dataset.ready"):
                time.sleep(0.2)
            change(browser)
            time.sleep(3)
            shot = Image.open(BytesIO(browser.get_screenshot_as_png())).convert("RGB")
            shot.save(IMAGES / f"{name}.jpg", quality=84, optimize=True)
    browser.quit()


def _image(frame: Any) -> Image.Image:
    return Image.fromarray(frame.permute(1, 2, 0).numpy()).resize((448, 256))


def _token_grid(picture: Image.Image, rows: int, columns: int) -> Image.Image:
    pen = ImageDraw.Draw(picture, "RGBA")
    for k in range(1, columns):
        pen.line(
            [(k * picture.width / columns, 0), (k * picture.width / columns, picture.height)], (255, 255, 255, 110)
        )
    for k in range(1, rows):
        pen.line([(0, k * picture.height / rows), (picture.width, k * picture.height / rows)], (255, 255, 255, 110))
    return picture


def _column(pictures: list[Image.Image]) -> Image.Image:
    gap = 14
    sheet = Image.new("RGB", (pictures[0].width, sum(p.height + gap for p in pictures) - gap), "white")
    y = 0
    for picture in pictures:
        sheet.paste(picture, (0, y))
        y += picture.height + gap
    return sheet


def _figure(figure: Any, dpi: int) -> Image.Image:
    buffer = BytesIO()
    figure.savefig(buffer, dpi=dpi, bbox_inches="tight", pad_inches=0.06)
    return Image.open(buffer).convert("RGB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--browser", action="store_true", help="also the explorer; needs Chromium and selenium")
    wanted = parser.parse_args()
    shown = clip()
    before_graph_kept(*shown)
    figures(*shown)
    if wanted.browser:
        explorer(*shown)
