"""A small stream of known units, and the server of it in a thread, for the tests of the page."""

from __future__ import annotations

import asyncio
import threading
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
