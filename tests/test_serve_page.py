"""The page in headless Chromium: it plays, every control changes what is seen, all from here.

Skipped where there is no browser: Debian's chromium, or one that Playwright installed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from serving import FRAMES, GOP, Made, Served, View, made_stream, open_browser, served

from nvc.serve.export import export_page

pytest.importorskip("starlette", reason="the extra 'demo' is not installed")
pytest.importorskip("uvicorn", reason="the extra 'demo' is not installed")
pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with open_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    with made_stream(tmp_path_factory.mktemp("page")) as made:
        yield made


@pytest.fixture(scope="module")
def server(made: Made) -> Iterator[Served]:
    with served(made.stream, reference=str(made.clip)) as server:
        yield server


Opener = Callable[..., View]


@pytest.fixture
def opened(browser: Any) -> Iterator[Opener]:
    """Opens pages that must end without a word on the console, or a request to another place."""
    views = []
    contexts = []

    def opened(url: str, **options: Any) -> View:
        contexts.append(browser.new_context(**{"viewport": DESKTOP, **options}))
        page = contexts[-1].new_page()
        page.set_default_timeout(30000)
        views.append((View(page), url.split("#")[0].rpartition("/")[0]))
        return views[-1][0].open(url)

    yield opened
    for view, home in views:
        assert view.problems == []
        outside = [u for u in view.requests if not u.startswith((home, "blob:" + home))]
        assert outside == []
    for context in contexts:
        context.close()


def test_it_loads_and_plays(opened: Opener, server: Served) -> None:
    view = opened(server.url)
    assert "clip.nvc" in view.page.title()
    assert "80 × 48" in view.text("facts") and f"{FRAMES} frames" in view.text("facts")
    view.wait("nvc.app.player.playing && nvc.app.player.frame > 2")
    view.page.keyboard.press("Space")
    assert view.page.get_attribute("#play", "aria-pressed") == "false"
    stopped = view.page.evaluate("nvc.app.player.frame")
    before = view.picture()
    view.page.keyboard.press("ArrowRight")
    view.settle(f"nvc.app.player.frame === {(stopped + 1) % FRAMES}")
    assert view.picture() != before
    assert view.text("place").startswith(f"{(stopped + 1) % FRAMES + 1} / {FRAMES}")


def test_every_slider_changes_pictures_and_figures(opened: Opener, server: Served) -> None:
    view = opened(server.url + "#frame=10&seed=2")
    seen = {"whole": (view.picture(), view.text("figures"))}
    view.page.wait_for_timeout(100)  # a viewer who does nothing sees nothing change
    assert seen["whole"] == (view.picture(), view.text("figures"))
    for name, value, back in (("layers", 1, 2), ("rate", 30, 100), ("loss", 40, 0)):
        view.slide(name, value)
        view.settle(f"nvc.app.controls.scene.{name} === {value}")
        view.wait("/dB/.test(document.getElementById('figures').innerText)")
        view.page.wait_for_timeout(50)
        seen[name] = (view.picture(), view.text("figures"))
        if name == "loss":
            break
        view.slide(name, back)
        view.settle(f"nvc.app.controls.scene.{name} === {back}")
    assert len({picture for picture, _ in seen.values()}) == len(seen)
    assert len({figures for _, figures in seen.values()}) == len(seen)
    # The losses: how they fall, another draw, the base protected; all marked in the table.
    assert "lost before the decoder" in view.text("loss-note")
    assert "lost" in view.text("shares") and view.page.locator("#bar .missing").count() > 0
    draws = {view.page.evaluate("nvc.app.figures.states")}
    for action in ("b", "n"):
        view.page.keyboard.press(action)
        view.settle(f"![{', '.join(map(repr, draws))}].includes(nvc.app.figures.states)")
        draws.add(view.page.evaluate("nvc.app.figures.states"))
    view.page.check("#protect")
    view.settle("nvc.app.controls.scene.protect === 1")
    states = view.page.evaluate("nvc.app.figures.states")
    layers = view.page.evaluate("nvc.app.layout.packets.map((packet) => packet[2])")
    assert all(layer for state, layer in zip(states, layers, strict=True) if state == "l")
    assert "protect=1" in view.page.url


def test_bytes_are_watched_arriving(opened: Opener, server: Served) -> None:
    view = opened(server.url + "#frame=11")
    view.page.keyboard.press("a")
    view.wait("nvc.app.arriving && nvc.app.controls.scene.rate < 100")
    assert view.page.evaluate("nvc.app.player.frame") == GOP
    pictures, received = [], []
    while view.page.evaluate("nvc.app.arriving"):
        pictures.append(view.picture())
        received.append(view.page.evaluate("nvc.app.figures.received"))
    view.settle("nvc.app.controls.scene.rate === 100")
    assert len({*pictures, view.picture()}) > 1
    assert received == sorted(received) and received[0] < received[-1]
    assert view.page.get_attribute("#arrive", "aria-pressed") == "false"


def test_the_picture_is_split_against_original_and_x265(opened: Opener, server: Served) -> None:
    view = opened(server.url + "#layers=1&frame=5")
    alone = view.picture()
    assert view.page.is_hidden("#split")
    pictures = {alone}
    for kind in ("reference", "x265"):
        view.page.keyboard.press("c")
        view.wait(f"nvc.app.player.tracks[1]?.kind === '{kind}' && nvc.app.stage.right")
        view.settle("true")
        assert view.page.is_visible("#split")
        pictures.add(view.picture())
        if kind == "x265":
            note = view.text("compare-note")
            assert "x265 medium, crf" in note and "B" in note
    view.page.focus("#split")
    view.page.keyboard.press("Home")
    pictures.add(view.picture())
    view.page.keyboard.press("End")
    assert view.picture() == alone
    assert len(pictures) == 4
    assert view.page.evaluate("[...nvc.app.figures.psnr.keys()].length") == 2


def test_keys_reach_everything(opened: Opener, server: Served) -> None:
    view = opened(server.url + "#still")
    press = view.page.keyboard.press
    press("1")
    view.wait("nvc.app.controls.scene.layers === 1")
    press("2")
    press("[")
    view.wait("nvc.app.controls.scene.rate === 95")
    press("+")
    view.wait("nvc.app.controls.scene.loss === 1")
    press("Shift+ArrowRight")
    view.wait("nvc.app.player.frame === 8")
    press("End")
    view.wait(f"nvc.app.player.frame === {FRAMES - 1}")
    press("p")
    assert view.page.get_attribute("#sharp", "aria-pressed") == "true"
    press("t")
    press("t")
    assert view.page.evaluate("document.documentElement.dataset.theme") == "dark"
    press("?")
    assert view.page.is_visible("#keys")
    press("Escape")
    assert view.page.is_hidden("#keys")
    # Every control can be reached by the keyboard alone, and says what it is.
    unnamed = view.page.evaluate("""() => [...document.querySelectorAll("button, input")]
      .filter((item) => item.offsetParent && item.tabIndex >= 0)
      .filter((item) => !(item.getAttribute("aria-label") || item.innerText || item.labels?.length))
      .map((item) => item.outerHTML)""")
    assert unnamed == []


def test_it_fits_a_phone(opened: Opener, server: Served) -> None:
    view = opened(server.url + "#still&compare=reference", viewport=PHONE, has_touch=True)
    assert view.page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    view.page.locator("#loss").scroll_into_view_if_needed()
    plate = view.page.locator("#plate").bounding_box()
    assert plate["y"] >= 0 and plate["y"] + plate["height"] < PHONE["height"] / 2
    assert view.page.is_visible("#loss")


def test_what_is_wrong_is_said_on_the_page(browser: Any, tmp_path: Path) -> None:
    path = tmp_path / "broken.nvc"
    path.write_bytes(b"no stream")
    with served(path) as server:
        page = browser.new_page()
        page.goto(server.url)
        page.wait_for_selector("#banner:visible")
        assert "not an nvc file" in page.inner_text("#banner")
        assert "no picture" in page.inner_text("#veil") and page.is_hidden(".panel")
        page.close()


def test_the_server_going_away_is_said_on_the_page(browser: Any, made: Made) -> None:
    with served(made.stream) as server:
        page = browser.new_page()
        page.goto(server.url + "#still")
        page.wait_for_selector("main[aria-busy=false]")
        assert page.is_disabled("input[value=x265]")
    page.keyboard.press("1")
    page.wait_for_selector("#veil:visible")
    assert "nvc serve" in page.inner_text("#veil")
    page.close()


def test_the_exported_page_needs_no_server(opened: Opener, made: Made, tmp_path: Path) -> None:
    folder = tmp_path / "page"
    export_page(made.stream, folder, reference=str(made.clip))
    view = opened((folder / "index.html").as_uri() + "#frame=9")
    whole = view.text("figures")
    view.slide("layers", 1)
    view.settle("nvc.app.controls.scene.layers === 1")
    coarse = view.text("figures")
    view.slide("loss", 17)  # the nearest that was exported
    view.settle("nvc.app.controls.scene.loss === 20")
    assert view.page.evaluate("nvc.app.controls.scene.layers") == 2
    assert len({whole, coarse, view.text("figures")}) == 3
    view.page.keyboard.press("c")
    view.wait("nvc.app.stage.right")
    view.page.keyboard.press("Space")
    view.wait("nvc.app.player.playing && nvc.app.player.frame !== 9")
