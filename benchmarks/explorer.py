"""The explorer of the sample clip in Chromium without a graphics card: ``python -m benchmarks.explorer``.

Printed for a desktop and a phone: size of the page, time to the first picture, frames a second while the graph turns
and while τ_sim is dragged. ``--webgl`` measures WebGL2 drawn by the processor, which the explorer itself does not use.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from stgraph import STSimDiff, read_video
from stgraph.encoders import ENCODERS
from stgraph.sample import render_sample
from tests.browser import headless, resize

EXPLORER = "document.querySelector('.stx').explorer"

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--webgl", action="store_true")
    parser.add_argument("--seconds", type=float, default=3)
    wanted = parser.parse_args()
    with TemporaryDirectory() as folder:
        video = read_video(render_sample(Path(folder) / "sample.mp4").path, frames=64)
        tokens, signals = ENCODERS.build("descriptor")(video)
        page = STSimDiff(retention=0.3)(tokens, signals).show(video, tokens).save(Path(folder) / "explorer.html")
        print(f"page {page.stat().st_size / 1e6:.2f} MB, load of the machine {os.getloadavg()[0]:.1f}")
        browser = headless()
        try:
            for size in ((1280, 900), (390, 844)):
                resize(browser, *size)
                browser.get(page.as_uri() + ("?webgl" if wanted.webgl else ""))
                while not (drawn_by := browser.execute_script("return document.querySelector('.stx')?.dataset.ready")):
                    time.sleep(0.1)
                time.sleep(1)
                first = browser.execute_script(f"return {EXPLORER}.stats.firstPicture")
                recolour = browser.execute_script(f"return {EXPLORER}.recolouring(50)")
                rates = [
                    browser.execute_async_script(f"{EXPLORER}.{what}({1000 * wanted.seconds}).then(arguments[0])")
                    for what in ("turning", "dragging")
                ]
                # The least of many: what a frame takes where nothing else runs.
                browser.execute_script(f"for (let i = 0; i < 40; i++) {EXPLORER}.draw()")
                least = browser.execute_script(f"return {EXPLORER}.stats.least")
                print(
                    f"{size[0]} px, drawn by {drawn_by}: first picture {first:.0f} ms, turning {rates[0]:.0f} and "
                    f"dragging τ_sim {rates[1]:.0f} frames a second, recolouring {recolour:.1f} ms, the whole graph in "
                    f"{least:.1f} ms"
                )
        finally:
            browser.quit()
