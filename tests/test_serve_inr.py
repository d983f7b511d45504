"""The page of a fitted network: groups as they arrive, bytes by tensor, frames between frames."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from clips import write_clip
from serving import Served, View, open_browser, served

import nvc
from nvc.bitstream.reader import StreamReader
from nvc.errors import UsageError
from nvc.serve.layout import BLENDS, Layout, read_layout
from nvc.serve.scene import Scene
from nvc.serve.tensors import REST, group_tensors
from nvc.stream import StreamFrames
from nvc.video.stills import encode_still

FRAMES, GROUP = 4, 2


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two groups, hardly fitted."""
    folder = tmp_path_factory.mktemp("fitted")
    clip = write_clip(folder / "clip.mkv", width=48, height=32, frames=FRAMES)
    options = {"gop": GROUP, "epochs": 1, "size": 4000}
    nvc.encode(clip, folder / "fit.nvc", "hnerv", device="cpu", frames=FRAMES, **options)
    return folder / "fit.nvc"


@pytest.fixture(scope="module")
def layout(fitted: Path) -> Layout:
    with fitted.open("rb") as file:
        return read_layout(StreamReader(file, name=fitted.name, partial=True))


@pytest.fixture(scope="module")
def server(fitted: Path) -> Iterator[Served]:
    pytest.importorskip("starlette", reason="the extra 'demo' is not installed")
    pytest.importorskip("uvicorn", reason="the extra 'demo' is not installed")
    with served(fitted) as server:
        yield server


def test_groups_arrive_one_after_the_other(layout: Layout) -> None:
    assert not layout.layered and layout.layers == 1 and layout.blends == BLENDS
    assert [(packet.start, packet.count) for packet in layout.packets] == [(0, 2), (2, 2)]
    assert [Scene(rate=rate).states(layout) for rate in (1, 60, 100)] == ["uu", "au", "aa"]


def test_bytes_of_tensors_are_those_of_the_unit(fitted: Path, layout: Layout) -> None:
    for group, packet in enumerate(layout.packets):
        rows = group_tensors(fitted, group)
        assert 0 <= packet.bytes - sum(row.bytes for row in rows) < 20
        assert rows[-1].name == REST and 0 < rows[-1].bytes < packet.bytes
        assert all(row.values and row.bytes > 0 for row in rows[:-1])
    with pytest.raises(UsageError, match="group 2 of a file of 2 groups"):
        group_tensors(fitted, 2)


def test_pictures_between_frames_are_those_of_decode(fitted: Path, server: Served) -> None:
    version = json.loads(server.get("api/stream").body)["version"]
    with fitted.open("rb") as file:
        stream = StreamFrames(StreamReader(file), device="cpu", fps=f"{BLENDS}x")
        made = {number: encode_still(frame, stream.info) for number, frame in stream.frames()}
    for number in (0, 1, BLENDS + 2, FRAMES * BLENDS - 1):
        assert server.get(f"picture/{version}/blend/{number}.png").body == made[number]
    for number in range(FRAMES):
        shown = server.get(f"picture/{version}/nvc/{number}.png").body
        assert shown == made[number * BLENDS]
    beyond = server.get(f"picture/{version}/blend/{FRAMES * BLENDS}.png")
    assert beyond.status == 400


def test_the_page_waits_for_groups_and_shows_frames_between(server: Served) -> None:
    pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with open_browser() as browser:
        view = View(browser.new_page()).open(server.url + f"#frame={FRAMES - 1}")
        view.wait("document.querySelectorAll('#shares tbody tr').length > 3")
        assert "Group 2 of 2" in view.text("bytes-note") and REST in view.text("shares")
        assert view.page.is_hidden("#layers") and view.page.is_visible("#blend")
        view.slide("blend", 2)
        view.settle("nvc.app.player.tracks[0].kind === 'blend'")
        assert any("/blend/" in url for url in view.requests)
        view.slide("rate", 60)
        view.settle("nvc.app.figures.counts.u === 1")
        assert "Group 2 of 2 has not arrived" in view.text("veil")
        assert view.text("rate-out") == "1 of 2 groups"
        view.page.keyboard.press("Home")
        view.settle("nvc.app.player.frame === 0")
        assert view.page.is_hidden("#veil")
        assert view.problems == []
