"""A small stream of known units, and the server of it in a thread, for the tests of the page."""

from __future__ import annotations

import asyncio
import shutil
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from clips import write_clip
from predictive_weights import write_weights

import nvc

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# What of the picture is seen, as one number that any change of it changes.
PRINT = """() => {
  const { width, height } = document.getElementById("picture");
  const copy = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  copy.drawImage(document.getElementById("picture"), 0, 0);
  const data = copy.getImageData(0, 0, width, height).data;
  let hash = 0;
  for (const value of data) hash = (Math.imul(hash, 31) + value) | 0;
  return hash;
}"""

WIDTH, HEIGHT, FRAMES, GOP = 80, 48, 16, 8


@dataclass(frozen=True)
class Made:
    """A stream of two layers and two GOPs, and the clip it was encoded from."""

    stream: Path
    clip: Path


@contextmanager
def made_stream(folder: Path, **options: Any) -> Iterator[Made]:
    """Encode a clip with tiny weights, which stay known as long as this is open."""
    weights = write_weights(folder / "weights")
    clip = write_clip(folder / "clip.mkv", width=WIDTH, height=HEIGHT, frames=FRAMES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NVC_WEIGHTS", str(weights.parent))
        given = {"gop": GOP, "reset": 2, "weights": weights.stem, "pack": False, **options}
        nvc.encode(clip, folder / "clip.nvc", "dhvc", qp=16, device="cpu", **given)
        yield Made(folder / "clip.nvc", clip)


@dataclass(frozen=True)
class Answer:
    """A response of the server."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


class Served:
    """A server in a thread of this process."""

    def __init__(self, path: Path, **options: Any) -> None:
        from nvc.serve.engine import Engine
        from nvc.serve.running import listen, make_server

        self._socket = listen("127.0.0.1", 0)
        self.port = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/"
        self.engine: Any = None
        self._server: Any = None
        started = threading.Event()

        async def main() -> None:
            self.engine = Engine(path, **options)
            self._server = make_server(self.engine)
            started.set()
            await self._server.serve(sockets=[self._socket])

        self._thread = threading.Thread(target=lambda: asyncio.run(main()), daemon=True)
        self._thread.start()
        assert started.wait(20)

    def get(self, path: str, headers: dict[str, str] | None = None) -> Answer:
        """Ask for a path; errors are answers too."""
        request = urllib.request.Request(self.url + path, headers=headers or {})
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return Answer(response.status, response.read(), dict(response.headers))
        except urllib.error.HTTPError as error:
            return Answer(error.code, error.read(), dict(error.headers))

    def close(self) -> None:
        """Stop it, as ctrl-C does."""
        self._server.should_exit = True
        self._thread.join(20)
        assert not self._thread.is_alive()


@contextmanager
def served(path: Path, **options: Any) -> Iterator[Served]:
    """A server that is there until the end of the block."""
    server = Served(path, **options)
    try:
        yield server
    finally:
        server.close()


@contextmanager
def open_browser() -> Iterator[Any]:
    """Headless Chromium, Playwright's own or the system's; skips the test where there is none."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as engine:
        own = Path(engine.chromium.executable_path)
        found = next(filter(None, map(shutil.which, BROWSERS)), None)
        if found is None and not own.is_file():
            pytest.skip("there is no browser: install Debian's chromium, or playwright's")
        browser = engine.chromium.launch(
            executable_path=None if own.is_file() else found, args=["--no-sandbox"]
        )
        try:
            yield browser
        finally:
            browser.close()


class View:
    """A page and what went on in it."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.problems: list[str] = []
        self.requests: list[str] = []
        page.on("console", lambda message: self.problems.append(message.text))
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))

    def open(self, url: str) -> View:
        self.page.goto(url)
        self.page.wait_for_selector("main[aria-busy=false]")
        return self

    def picture(self) -> int:
        return self.page.evaluate(PRINT)

    def text(self, name: str) -> str:
        return self.page.inner_text(f"#{name}")

    def slide(self, name: str, value: int) -> None:
        script = """(input, value) => {
          input.value = value;
          input.dispatchEvent(new Event("input", { bubbles: true }));
        }"""
        self.page.locator(f"#{name}").evaluate(script, str(value))

    def wait(self, expression: str) -> None:
        """Until it holds; asked from here, since the page's policy forbids to evaluate strings."""
        until = time.monotonic() + 30
        while not self.page.evaluate(f"Boolean({expression})"):
            assert time.monotonic() < until, f"it never came to be that {expression}"
            self.page.wait_for_timeout(20)

    def settle(self, expression: str) -> None:
        """Until it holds and the picture that is asked for is shown."""
        self.wait(f"({expression}) && !nvc.app.busy && !nvc.app.player.pending")
