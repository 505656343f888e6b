"""The pictures of README and site: ``python docs/pictures.py``; with ``--browser`` also those of explorer and report.

It ends with 1 where a picture came out unlike the stored one, which it replaces.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from badges import badges
from gallery import draw_all
from PIL import Image, ImageDraw, ImageFont
from saving import changed, figure_picture, save

from stgraph import Selection, Signals, STSimDiff, Video, VideoTokens, read_video, viz
from stgraph.encoders import ENCODERS
from stgraph.registry import registry
from stgraph.sample import render_sample

IMAGES = Path(__file__).parent / "images"
INK, FAINT = "#1A1D21", "#5B626B"


def clip() -> tuple[Video, VideoTokens, Signals, Selection]:
    """The sample clip, its tokens with their signals, and the selection of 30 %."""
    with TemporaryDirectory() as folder:
        video = read_video(render_sample(Path(folder) / "sample.mp4").path, frames=64)
    tokens, signals = ENCODERS.build("descriptor")(video)
    return video, tokens, signals, STSimDiff(retention=0.3)(tokens, signals)


def before_graph_kept(video: Video, tokens: VideoTokens, selection: Selection) -> None:
    """Before → graph → kept: the picture of the README."""
    grid = tokens.grids[0]
    frames = [12, 13, 14]
    raw = _column([_token_grid(_image(video.frames[t]), grid.height, grid.width) for t in frames])
    kept = _column([_image(f) for f in viz.overlay_frames(video, selection, grid, frames=frames, width=448)])
    figure = selection.draw("graph", video, tokens, frames=frames)
    figure.legends[0].remove()
    graph = figure_picture(figure, 200)
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
    size = (1500, round(1500 * sheet.height / sheet.width))
    save(sheet.resize(size, Image.Resampling.LANCZOS), IMAGES / "before_graph_kept.jpg")


def figures(video: Video, tokens: VideoTokens, selection: Selection) -> None:
    """One picture of each kind."""
    for kind in viz.KINDS:
        save(figure_picture(selection.draw(kind, video, tokens), 110), IMAGES / f"draw_{kind}.jpg")
    other = registry("selector").build({"name": "simdiff", "retention": 0.3, "difference": "drift"})(tokens)
    pair = {"threshold": selection, "drift": other}
    figure = viz.compare_selections(pair, tokens.grids[0], video=video)
    save(figure_picture(figure, 110), IMAGES / "draw_compare.jpg")


def pages(video: Video, tokens: VideoTokens, selection: Selection, report: Path) -> None:
    """Explorer and report as a browser draws them."""
    from tests.browser import headless, resize

    browser = headless()
    api = "document.querySelector('.stx').explorer"
    views: dict[str, tuple[tuple[int, int], bool, str]] = {
        "explorer": ((1280, 900), False, ""),
        "explorer_phone": ((390, 844), True, ""),
        "explorer_token": (
            (1280, 900),
            False,
            f"{api}.set({{colour: 'verdicts', from: 26, to: 36}}); {api}.pick({31 * 198 + 40})",
        ),
        "explorer_cut": ((1280, 900), False, f"{api}.set({{from: 29, to: 33, edgeColour: 'kind', weak: true}})"),
    }
    try:
        with TemporaryDirectory() as folder:
            page = selection.show(video, tokens).save(Path(folder) / "explorer.html")
            for name, (size, dark, change) in views.items():
                resize(browser, *size, dark=dark)
                browser.get(page.as_uri())
                while not browser.execute_script("return document.querySelector('.stx')?.dataset.ready"):
                    time.sleep(0.1)
                browser.execute_script(change)
                time.sleep(2)
                save(Image.open(BytesIO(browser.get_screenshot_as_png())), IMAGES / f"{name}.jpg")
        resize(browser, 1280, 900)
        browser.get(report.as_uri())
        time.sleep(2)
        save(Image.open(BytesIO(browser.get_screenshot_as_png())), IMAGES / "report.jpg")
    finally:
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


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--browser", action="store_true", help="also explorer and report; needs Chromium and selenium")
    wanted = parser.parse_args()
    shown, its_tokens, its_signals, kept = clip()
    for file, svg in badges().items():
        (IMAGES / file).write_text(svg, "utf-8")
    before_graph_kept(shown, its_tokens, kept)
    figures(shown, its_tokens, kept)
    draw_all([], shown, its_tokens, its_signals)
    if wanted.browser:
        with TemporaryDirectory() as made:
            sample, folder = render_sample(Path(made) / "sample.mp4"), Path(made) / "run"
            words = ["retention=0.3", "--events", sample.events_path, "--output", folder, "--quiet"]
            subprocess.run([sys.executable, "-m", "stgraph", "compress", sample.path, *words], check=True)
            pages(shown, its_tokens, kept, folder / "report.html")
    if changed:
        sys.exit(f"drawn anew, because they were unlike what was stored: {', '.join(changed)}")
