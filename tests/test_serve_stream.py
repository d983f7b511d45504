"""What arrives of a stream in a scene; the page shows what a decoder makes of just that."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from serving import FRAMES, GOP, Made, made_stream

import nvc
from nvc.bitstream.container import StreamReader, StreamWriter, UnitType
from nvc.errors import StreamError, UsageError
from nvc.serve.cache import ByteCache
from nvc.serve.decoder import Abandoned, Decoder
from nvc.serve.layout import MAX_FRAMES, Layout, read_layout
from nvc.serve.scene import Scene
from nvc.serve.sources import StreamSource
from nvc.video.frames import Frame

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))

import lossy_channel


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    with made_stream(tmp_path_factory.mktemp("serve")) as made:
        yield made


def layout_of(path: Path) -> Layout:
    with path.open("rb") as file:
        return read_layout(StreamReader(file, name=path.name, partial=True))


def shown(made: Made, scene: Scene) -> list[Frame]:
    source = StreamSource.of(made.stream, layout_of(made.stream), scene, device="cpu")
    return [frame for _, frame in source.frames(0)]


def equal(a: list[Frame], b: list[Frame]) -> bool:
    pairs = zip(a, b, strict=True)
    return all(
        torch.equal(p, q)
        for one, other in pairs
        for p, q in zip(one.planes, other.planes, strict=True)
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("layers", n) for n in (0, 17)),
        *(("rate", n) for n in (0, 101)),
        *(("loss", n) for n in (-1, 51)),
        *(("burst", n) for n in (0, 17)),
        *(("seed", n) for n in (-1, 10000)),
    ],
)
def test_fields_of_a_scene_are_bounded(field: str, value: int) -> None:
    with pytest.raises(UsageError, match=f"{field} is {value}; allowed: "):
        Scene(**{field: value})


@pytest.mark.parametrize("text", ["-1", "1e3", "", "99999", "²", "1 ", "0x1", "one"])
def test_a_query_is_whole_numbers(made: Made, text: str) -> None:
    with pytest.raises(UsageError, match=r"rate is .*; allowed: a whole number"):
        Scene.parse({"rate": text}, layout_of(made.stream))


def test_scenes_that_receive_alike_are_one(made: Made) -> None:
    layout = layout_of(made.stream)
    whole = Scene(layers=2)
    assert Scene.parse({}, layout) == whole
    assert Scene.parse({"seed": "7", "burst": "4", "protect": "1", "layers": "9"}, layout) == whole
    assert whole.states(layout) == "a" * len(layout.packets)


def test_the_layout_is_that_of_the_file(made: Made) -> None:
    layout = layout_of(made.stream)
    assert (layout.frames, layout.layers, layout.strides) == (FRAMES, 2, (32, 16))
    assert layout.keys == (0, GOP) and layout.layered and layout.damage is None
    assert layout.size == made.stream.stat().st_size > layout.picture_bytes
    assert sum(layout.gop_bytes) == layout.picture_bytes
    assert layout.layer_bytes(2) == layout.size
    finest = sum(packet.bytes for packet in layout.packets if packet.layer == 1)
    assert layout.layer_bytes(1) == layout.size - finest
    assert not any(packet.packed for packet in layout.packets)


def test_packed_frames_are_told_apart(tmp_path: Path) -> None:
    with made_stream(tmp_path, pack=True, frames=4, gop=2) as made:
        layout = layout_of(made.stream)
        packed = [packet.start for packet in layout.packets if packet.packed]
        alone = [packet.start for packet in layout.packets if packet.layer]
    assert packed and not set(packed) & set(alone)


@pytest.mark.parametrize("layers", [1, 2])
def test_fewer_layers_are_what_decode_gives(made: Made, layers: int) -> None:
    with nvc.open(made.stream, device="cpu", layers=layers) as video:
        assert equal(shown(made, Scene(layers=layers)), list(video))


@pytest.mark.parametrize(("loss", "burst"), [(10, 1), (30, 4)])
def test_losses_are_those_of_the_tool(made: Made, tmp_path: Path, loss: int, burst: int) -> None:
    """The same seed loses the same units, and the page shows what decode makes of the rest."""
    out = tmp_path / "lossy.nvc"
    arguments = [str(made.stream), str(out), "--loss", str(loss / 100), "--seed", "5"]
    arguments += ["--burst", str(burst)] if burst > 1 else []
    assert lossy_channel.main(arguments) == 0
    scene = Scene(layers=2, loss=loss, burst=burst, seed=5)
    with out.open("rb") as file:
        arrived = [u for u in StreamReader(file).all_units() if u.type == UnitType.FRAME]
    states = scene.states(layout_of(made.stream))
    assert states.count("a") == len(arrived) and states.count("l") > 0
    with nvc.open(out, device="cpu") as video:
        assert equal(shown(made, scene), list(video))


def test_the_coarsest_layer_can_be_protected(made: Made) -> None:
    layout = layout_of(made.stream)
    states = Scene(layers=2, loss=50, seed=1, protect=True).states(layout)
    lost = [p.layer for p, state in zip(layout.packets, states, strict=True) if state == "l"]
    assert lost and set(lost) == {1}


def test_a_budget_goes_to_coarse_layers_first(made: Made) -> None:
    layout = layout_of(made.stream)
    received = []
    for rate in range(1, 101):
        states = Scene(layers=2, rate=rate).states(layout)
        here = [
            packet for packet, state in zip(layout.packets, states, strict=True) if state == "a"
        ]
        received.append(sum(packet.bytes for packet in here))
        for gop, key in enumerate(layout.keys):
            mine = [packet for packet in here if key <= packet.start < key + GOP]
            budget = layout.peak_rate * rate / 100 * layout.gop_seconds(gop)
            assert sum(packet.bytes for packet in mine) <= budget + 1e-6
            base = [packet for packet in mine if packet.layer == 0]
            assert len(base) == GOP or len(base) == len(mine)
    assert received == sorted(received) and received[-1] == layout.picture_bytes
    assert received[0] < received[49] < received[-1]


def test_what_is_shown_does_not_depend_on_what_was_shown_before(made: Made) -> None:
    """Every frame on its own, from its entry, is the frame of a run through all of them."""
    scene = Scene(layers=2, loss=30, seed=2)
    layout = layout_of(made.stream)
    source = StreamSource.of(made.stream, layout, scene, device="cpu")

    async def watch(numbers: list[int]) -> list[Frame]:
        decoder = Decoder(ByteCache(1 << 14), name="test")  # holds two frames
        try:
            return [await decoder.frame("key", lambda: source, number) for number in numbers]
        finally:
            decoder.close()

    forth = asyncio.run(watch(list(range(FRAMES))))
    back = asyncio.run(watch([12, 3, 9, 0]))
    assert equal(back, [forth[12], forth[3], forth[9], forth[0]])


def test_a_viewer_who_is_gone_costs_no_decoding(made: Made) -> None:
    source = StreamSource.of(made.stream, layout_of(made.stream), Scene(layers=2), device="cpu")
    cache: ByteCache[Frame] = ByteCache(1 << 20)

    async def leave() -> None:
        async def gone() -> bool:
            return True

        decoder = Decoder(cache, name="test")
        try:
            await decoder.frame("key", lambda: source, 3, gone=gone)
        finally:
            decoder.close()

    with pytest.raises(Abandoned):
        asyncio.run(leave())
    assert cache.bytes == 0


def test_a_cache_stays_within_its_bytes() -> None:
    cache: ByteCache[str] = ByteCache(100)
    for number in range(30):
        cache.put(number, str(number), 7 * (number % 5) + 1)
        assert cache.bytes <= 100
        cache.get(25)
    assert cache.get(0) is None and cache.get(29) == "29"
    cache.put("large", "large", 101)
    assert "large" not in cache and cache.get(29) == "29"
    assert not cache.has_room(101) and cache.has_room(0)


def test_damage_is_told_and_the_rest_is_shown(made: Made, tmp_path: Path) -> None:
    data = bytearray(made.stream.read_bytes())
    layout = layout_of(made.stream)
    last = max(layout.packets, key=lambda packet: packet.place)
    place = layout.size - last.bytes - 60
    data[place] ^= 255
    broken = tmp_path / "broken.nvc"
    broken.write_bytes(data)
    damaged = layout_of(broken)
    assert damaged.damage is not None and f"frame {last.start}, layer " in damaged.damage
    assert damaged.frames == FRAMES
    assert Scene(layers=2).states(damaged).count("d") == 1
    assert len(shown(Made(broken, made.clip), Scene(layers=2))) == FRAMES


def test_a_length_that_lies_is_cut(made: Made, tmp_path: Path) -> None:
    liar = tmp_path / "liar.nvc"
    with made.stream.open("rb") as file, liar.open("wb") as out:
        reader = StreamReader(file)
        with StreamWriter(out, reader.header) as writer:
            for unit in reader.all_units():
                writer.write(unit)
            writer.frame_count = (1 << 31) - 1
    layout = layout_of(liar)
    assert layout.frames == MAX_FRAMES and layout.left_out == (1 << 31) - 1 - MAX_FRAMES


def test_a_size_that_lies_is_refused(made: Made, tmp_path: Path) -> None:
    giant = tmp_path / "giant.nvc"
    with made.stream.open("rb") as file, giant.open("wb") as out:
        reader = StreamReader(file)
        with StreamWriter(out, replace(reader.header, width=16384, height=16384)) as writer:
            for unit in reader.all_units():
                writer.write(unit)
    with pytest.raises(StreamError, match="16384x16384; the page shows up to 35 million pixels"):
        layout_of(giant)


def test_a_stream_without_frames_is_an_error(made: Made, tmp_path: Path) -> None:
    empty = tmp_path / "empty.nvc"
    with (
        made.stream.open("rb") as file,
        empty.open("wb") as out,
        StreamWriter(out, StreamReader(file).header),
    ):
        pass
    with pytest.raises(StreamError, match=r"empty\.nvc: there are no frames in it"):
        layout_of(empty)
