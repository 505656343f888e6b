"""Pages driven in a real browser: no error in its console, every control does what it says.

They need Chromium and its driver (Debian: ``chromium chromium-driver``); run them with ``make test-browser``.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from stgraph import STSimDiff, Video, VideoTokens, build_graph
from stgraph.community import COMMUNITIES
from stgraph.registry import registry
from stgraph.viz.explorer import explore

from ..browser import headless, resize
from ..strategies import features

pytestmark = pytest.mark.browser

FRAMES, HEIGHT, WIDTH = 24, 6, 9
SIZES = [(1280, 900), (390, 844)]
EXPLORER = "document.querySelector('.stx').explorer"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    started = headless()
    yield started
    started.quit()


class Shown:
    """A page in the browser."""

    def __init__(self, browser: Any, path: Path, size: tuple[int, int], *, dark: bool = False, query: str = "") -> None:
        self.browser = browser
        resize(browser, *size, dark=dark)
        browser.get("about:blank")
        browser.get_log("browser")
        browser.get(path.as_uri() + query)

    def run(self, script: str, *arguments: Any) -> Any:
        return self.browser.execute_script(script, *arguments)

    def wait(self, condition: str) -> Any:
        for _ in range(600):
            if found := self.run(f"return {condition}"):
                return found
            time.sleep(0.05)
        raise AssertionError(f"waited in vain for {condition}: {self.console()}")

    def console(self) -> list[str]:
        messages = [entry["message"] for entry in self.browser.get_log("browser")]
        return [text for text in messages if "GPU stall due to ReadPixels" not in text]  # the test itself reads pixels

    def find(self, selector: str) -> Any:
        return self.browser.find_element("css selector", selector)


@pytest.fixture(scope="module")
def tokens() -> VideoTokens:
    return VideoTokens.from_grid(features(FRAMES, HEIGHT, WIDTH, 16, 5, kinds=4, noise=0.5))


@pytest.fixture(scope="module")
def video() -> Video:
    g = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (FRAMES, 3, 48, 72), generator=g, dtype=torch.uint8)
    return Video(pixels, torch.arange(FRAMES, dtype=torch.float64) / 5, source="garden.mp4")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, tokens: VideoTokens, video: Video) -> Path:
    folder = tmp_path_factory.mktemp("explorer")
    return explore(video, STSimDiff(retention=0.3)(tokens), tokens).save(folder / "one.html")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, tokens: VideoTokens, video: Video) -> Path:
    other = registry("selector").build({"name": "uniform", "retention": 0.3})(tokens)
    both = {"paper": STSimDiff(retention=0.3)(tokens), "uniform": other}
    return explore(video, both, tokens).save(tmp_path_factory.mktemp("explorer") / "two.html")


def pixels(shown: Shown) -> list[int]:
    """The drawn scene as a few numbers; equal for equal pictures."""
    return shown.browser.execute_async_script(
        f"""const done = arguments[0], scene = document.querySelector('.stx-scene');
        {EXPLORER}.set({{}});
        requestAnimationFrame(() => requestAnimationFrame(() => {{
          const copy = document.createElement('canvas'); copy.width = copy.height = 48;
          const pen = copy.getContext('2d');
          {EXPLORER}.draw(); pen.drawImage(scene, 0, 0, 48, 48);
          done(Array.from(pen.getImageData(0, 0, 48, 48).data));
        }}));"""
    )


@pytest.mark.parametrize("query", ["?webgl", ""], ids=["webgl", "processor"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", SIZES, ids=["desktop", "phone"])
def test_it_draws_and_its_sliders_and_clicks_work(
    browser: Any, page: Path, size: tuple[int, int], dark: bool, query: str
) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    shown = Shown(browser, page, size, dark=dark, query=query)
    assert shown.wait("document.querySelector('.stx').dataset.ready") == (query[1:] or "processor")
    assert shown.run("return document.documentElement.scrollWidth <= innerWidth")
    drawn = pixels(shown)
    background = shown.run("return getComputedStyle(document.querySelector('.stx')).getPropertyValue('--stx-paper')")
    assert background.strip() == ("#13171c" if dark else "#ffffff")
    assert len(set(zip(drawn[::4], drawn[1::4], drawn[2::4], strict=True))) > 100

    # The slider of τ_sim recolours the communities, in the data and in the picture.
    before = shown.run(f"return {EXPLORER}.colours()")
    slider = "const s = document.querySelector('.stx-tau'); s.value = arguments[0]; s.dispatchEvent(new Event('input'))"
    shown.run(slider, 9900)
    assert shown.run(f"return {EXPLORER}.colours()") != before
    assert pixels(shown) != drawn
    assert shown.find(".stx-tautext").text == "0.990"
    shown.find(".stx-asrun").click()
    assert shown.run(f"return {EXPLORER}.colours()") == before

    # The brush of frames changes what is drawn, and says so.
    shown.run("const s = document.querySelector('.stx-to'); s.value = 7; s.dispatchEvent(new Event('input'))")
    assert shown.find(".stx-brushtext").text == "8 frames: 0 to 7, 0.00 s to 1.40 s"
    assert pixels(shown) != drawn

    # A click on a token explains it. Its place on the screen is where it is drawn.
    target = 5 * HEIGHT * WIDTH + 2
    shown.run("document.querySelector('.stx-stage').scrollIntoView()")
    shown.run(f"{EXPLORER}.set({{ from: 5, to: 5, yaw: 1.2, pitch: 0.1 }})")
    time.sleep(0.3)
    x, y = shown.run(f"return {EXPLORER}.screen({target})")
    stage = shown.find(".stx-overlay")
    half = shown.run("const o = document.querySelector('.stx-overlay'); return [o.clientWidth / 2, o.clientHeight / 2]")
    ActionChains(browser).move_to_element_with_offset(stage, x - half[0], y - half[1]).click().perform()
    text = shown.find(".stx-why").text
    assert f"Token {target}: " in text
    assert "5, 0, 2" in text
    assert "cosine" in text
    assert shown.console() == []


def test_the_slider_shows_the_components_of_its_threshold(browser: Any, page: Path, tokens: VideoTokens) -> None:
    shown = Shown(browser, page, SIZES[0])
    shown.wait("document.querySelector('.stx').dataset.ready")
    graph = build_graph(tokens)
    for level in (3000, 8000, 9500):
        shown.run(f"{EXPLORER}.set({{ level: {level} }})")
        partition = COMMUNITIES.build("components")(graph.prune(level / 10_000))
        first: dict[int, int] = {}
        for vertex, label in enumerate(partition.labels.tolist()):
            first.setdefault(label, vertex)
        assert shown.run(f"return {EXPLORER}.groups()") == [first[label] for label in partition.labels.tolist()]
        assert f"{partition.num_communities:,} communit" in shown.find(".stx-groups").text


def test_a_token_can_be_asked_with_the_keyboard_alone(browser: Any, page: Path) -> None:
    from selenium.webdriver.common.keys import Keys

    shown = Shown(browser, page, SIZES[0])
    shown.wait("document.querySelector('.stx').dataset.ready")
    stage = shown.find(".stx-overlay")
    turned = shown.run(f"return {EXPLORER}.state.yaw")
    stage.send_keys(Keys.ARROW_RIGHT)
    assert shown.run(f"return {EXPLORER}.state.yaw") > turned
    stage.send_keys(Keys.PAGE_DOWN)  # takes a token in the middle of the frame
    first = shown.run(f"return {EXPLORER}.state.picked")
    stage.send_keys(Keys.PAGE_DOWN)
    assert shown.run(f"return {EXPLORER}.state.picked") == first + HEIGHT * WIDTH
    stage.send_keys(Keys.SHIFT + Keys.ARROW_RIGHT)
    assert shown.run(f"return {EXPLORER}.state.picked") == first + HEIGHT * WIDTH + 1
    stage.send_keys(Keys.ESCAPE)
    assert shown.run(f"return {EXPLORER}.state.picked") == -1
    shown.find(".stx-place summary").click()
    for name, value in (("frame", 3), ("row", 1), ("column", 4)):
        field = shown.find(f".stx-ask input[name={name}]")
        field.clear()
        field.send_keys(str(value))
    shown.find(".stx-ask button").click()
    assert shown.run(f"return {EXPLORER}.state.picked") == 3 * HEIGHT * WIDTH + WIDTH + 4


def test_every_control_has_a_name(browser: Any, page: Path) -> None:
    shown = Shown(browser, page, SIZES[0])
    shown.wait("document.querySelector('.stx').dataset.ready")
    tree = browser.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    roles = {"slider", "checkbox", "radio", "button", "combobox", "spinbutton", "application", "img"}
    controls = [node for node in tree if node.get("role", {}).get("value") in roles and not node.get("ignored")]
    assert len(controls) > 15
    assert [node for node in controls if not node.get("name", {}).get("value")] == []


def test_two_selections_side_by_side_and_as_a_difference(browser: Any, pair: Path) -> None:
    shown = Shown(browser, pair, SIZES[0])
    shown.wait("document.querySelector('.stx').dataset.ready")
    assert len(browser.find_elements("css selector", ".stx-names span")) == 2
    side = pixels(shown)
    shown.run("document.querySelector('.stx input[value=difference]').click()")
    legend = shown.find(".stx-legend").text
    assert "only uniform" in legend
    assert pixels(shown) != side
    assert shown.console() == []


def test_without_webgl_a_sentence_says_so(browser: Any, page: Path) -> None:
    shown = Shown(browser, page, SIZES[0], query="?nowebgl")
    assert shown.wait("document.querySelector('.stx').dataset.ready") == "processor"
    assert shown.find(".stx-warning").text.startswith("WebGL2 is missing in this browser")


@pytest.mark.parametrize(
    "change",
    [
        "from: 9, to: 12, weak: true, edgeColour: 'kind', pitch: 0.2",
        "edgeColour: 'weight', colour: 'verdicts', zoom: 3",
        "colour: 'difference', kept: false, pan: [0.6, -0.4], zoom: 2",
        "picked: 300",
    ],
)
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_processor_draws_the_picture_of_the_graphics_card(
    browser: Any, page: Path, pair: Path, change: str, dark: bool
) -> None:
    for shown_page in (page, pair):
        drawn = []
        for query in ("?webgl", ""):
            shown = Shown(browser, shown_page, SIZES[0], dark=dark, query=query)
            shown.wait("document.querySelector('.stx').dataset.ready")
            shown.run(f"{EXPLORER}.set({{ {change} }})")
            drawn.append(torch.tensor(pixels(shown), dtype=torch.float))
        far = (drawn[0] - drawn[1]).abs()
        paper = (drawn[0] - drawn[0][:4].repeat(48 * 48)).abs()
        assert far.mean() < 0.12 * paper.mean(), "another picture"
        assert (far > 40).float().mean() < 0.08


def test_recolouring_is_quick_beside_drawing(browser: Any, page: Path) -> None:
    shown = Shown(browser, page, SIZES[0])
    shown.wait("document.querySelector('.stx').dataset.ready")
    rate = browser.execute_async_script(f"{EXPLORER}.dragging(1000).then(arguments[0])")
    recolour = shown.run(f"return {EXPLORER}.recolouring(20)")
    assert recolour < 1000 / rate  # milliseconds: less than one frame of a drag


@pytest.mark.parametrize("size", SIZES, ids=["desktop", "phone"])
def test_the_report_opens_on_an_event_and_holds_the_explorer(
    browser: Any, tmp_path: Path, tokens: VideoTokens, video: Video, size: tuple[int, int]
) -> None:
    from stgraph.viz.report import write_report

    selector = STSimDiff(retention=0.3)
    found, path = selector.analyse(tokens), tmp_path / "report.html"
    write_report(
        path,
        video=video,
        tokens=tokens,
        selection=selector(tokens),
        graph=found.graph,
        partition=found.partition,
        difference=found.difference,
    )
    shown = Shown(browser, path, size)
    start = shown.wait("JSON.parse(document.getElementById('data').textContent)")["start"]
    assert f"frame {start} " in shown.find("#clock").text
    assert shown.run("return document.documentElement.scrollWidth <= innerWidth")
    shown.find("#tab-graph").click()
    assert shown.wait("document.querySelector('.stx').dataset.ready")
    assert len(set(pixels(shown))) > 20
    assert shown.find("#tab-graph").get_attribute("aria-selected") == "true"
    shown.find("#tab-frames").click()
    assert shown.find("#picture").is_displayed()
    assert shown.console() == []
