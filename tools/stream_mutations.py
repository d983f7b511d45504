"""Ways to damage a stream for tools/fuzz_decode.py: as bytes, or as units with sound checksums."""

from __future__ import annotations

import contextlib
import io
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nvc.bitstream.container import StreamHeader, StreamReader, StreamWriter, Unit, UnitType
from nvc.bitstream.units import pack_unit

NUMBERS = (0, 1, 2, 3, 7, 127, 128, 255, 256, 1000, 65535, 65536, 2**31 - 1, 2**32, 2**63)

Mutation = Callable[[random.Random, "Seed"], bytes]


class Seed:
    """An intact stream, as bytes and as units."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.data = path.read_bytes()
        reader = StreamReader(io.BytesIO(self.data), name=str(path))
        self.header = reader.header
        self.units = list(reader.all_units())


# Bytes: checksums go wrong with them.


def flip_bits(rng: random.Random, seed: Seed) -> bytes:
    """One to eight bits anywhere."""
    out = bytearray(seed.data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
    return bytes(out)


def cut_off(rng: random.Random, seed: Seed) -> bytes:
    """The beginning only."""
    return seed.data[: rng.randrange(len(seed.data))]


def patch(rng: random.Random, seed: Seed) -> bytes:
    """A stretch overwritten, deleted, doubled, or put in."""
    data = seed.data
    start = rng.randrange(len(data))
    stop = min(len(data), start + rng.choice((1, 2, 8, 64, 1024)))
    middle = {
        "noise": rng.randbytes(stop - start),
        "zeros": bytes(stop - start),
        "ones": b"\xff" * (stop - start),
        "gone": b"",
        "double": data[start:stop] * 2,
        "more": data[start:stop] + rng.randbytes(rng.randrange(1, 40)),
    }
    return data[:start] + middle[rng.choice(list(middle))] + data[stop:]


def splice(rng: random.Random, seed: Seed) -> bytes:
    """The beginning of the file, and the end of it from some other place on."""
    return seed.data[: rng.randrange(len(seed.data))] + seed.data[rng.randrange(len(seed.data)) :]


# Streams: checksums are right.


def _rewrite(
    rng: random.Random, header: StreamHeader, units: Sequence[Unit], *, trailer: bool = True
) -> bytes:
    file = io.BytesIO()
    writer = StreamWriter(file, header)
    for unit in units:
        # A unit that the format cannot hold cannot be in a file with right checksums.
        with contextlib.suppress(ValueError):
            writer.write(unit)
    if trailer:
        writer.close()
    else:
        file.write(rng.randbytes(rng.randrange(3)))
    return file.getvalue()


def _mutate_payload(rng: random.Random, payload: bytes) -> bytes:
    """Bits, bytes, numbers and lengths inside a payload; more often near its start."""
    out = bytearray(payload or b"\x00")
    place = rng.randrange(min(len(out), rng.choice((8, 64, len(out)))))
    kind = rng.randrange(7)
    if kind == 0:
        out[place] ^= 1 << rng.randrange(8)
    elif kind == 1:
        out[place] = rng.choice((0, 1, 127, 128, 254, 255))
    elif kind == 2:
        del out[place:]
    elif kind == 3:
        out += rng.randbytes(rng.randrange(1, 50))
    elif kind == 4:
        number = rng.choice(NUMBERS) + rng.choice((-1, 0, 1))
        size = rng.choice((1, 2, 4, 8))
        out[place : place + size] = (number % (1 << 8 * size)).to_bytes(size, "little")
    elif kind == 5:
        del out[place : place + rng.randrange(1, 9)]
    else:
        length = rng.randrange(1, min(len(out), 64) + 1)
        out[place : place + length] = rng.randbytes(length)
    return bytes(out)


def change_payloads(rng: random.Random, seed: Seed) -> bytes:
    """One to three payloads; CONFIG as often as all others together."""
    units = list(seed.units)
    configs = [i for i, unit in enumerate(units) if unit.type == UnitType.CONFIG]
    for _ in range(rng.choice((1, 1, 3))):
        place = rng.choice(configs) if configs and rng.random() < 0.5 else rng.randrange(len(units))
        units[place] = replace(units[place], payload=_mutate_payload(rng, units[place].payload))
    return _rewrite(rng, seed.header, units)


def change_fields(rng: random.Random, seed: Seed) -> bytes:
    """Type, range, layer, key or track of a unit."""
    units = list(seed.units)
    place = rng.randrange(len(units))
    change: dict[str, Any] = rng.choice(
        (
            {"type": rng.randrange(1, 12)},
            {"frame_start": rng.choice(NUMBERS)},
            {"frame_count": rng.choice(NUMBERS)},
            {"frame_start": rng.randrange(20), "frame_count": rng.randrange(20)},
            {"layer": rng.randrange(256)},
            {"key": not units[place].key},
            {"track": rng.randrange(3)},
            {"critical": True, "type": rng.randrange(1, 64)},
        )
    )
    units[place] = replace(units[place], **change)
    return _rewrite(rng, seed.header, units)


def change_order(rng: random.Random, seed: Seed) -> bytes:
    """Units deleted, doubled or swapped."""
    units = list(seed.units)
    for _ in range(rng.choice((1, 1, 4))):
        if not units:
            break
        place, other = rng.randrange(len(units)), rng.randrange(len(units))
        kind = rng.randrange(3)
        if kind == 0:
            del units[place]
        elif kind == 1:
            units.insert(other, units[place])
        else:
            units[place], units[other] = units[other], units[place]
    return _rewrite(rng, seed.header, units, trailer=rng.random() < 0.8)


def change_header(rng: random.Random, seed: Seed) -> bytes:
    """A field of the file header."""
    ranges: dict[str, Sequence[Any]] = {
        "width": (1, 2, 17, 64, 1000, 16384, seed.header.width + 1),
        "height": (1, 2, 17, 64, 1000, 16384, seed.header.height + 1),
        "chroma": ("400", "420", "422", "444"),
        "bit_depth": (8, 9, 10, 12, 16),
        "frame_count": (None, 0, 1, 5, 2**31 - 1),
        "start_pts": (-5, 1 << 36, -(1 << 36), 1 << 61),
        "rotation": (0, 90, 180, 270),
        "crop_right": (1, 64, 8000),
        "matrix": (0, 1, 3, 9, 255),
        "chroma_location": range(8),
        "weights_hash": (b"12345678",),
        "audio": (True, False),
        "codec": ("dhvc", "nerv", "pfnr", "hnerv"),
    }
    name = rng.choice(list(ranges))
    try:
        header = replace(seed.header, **{name: rng.choice(ranges[name])})
    except ValueError:
        return flip_bits(rng, seed)
    return _rewrite(rng, header, seed.units)


def lie_about_length(rng: random.Random, seed: Seed) -> bytes:
    """A unit whose header has a right check and a wrong length."""

    class Sized(bytes):
        def __len__(self) -> int:
            return length

    place = rng.randrange(len(seed.units))
    unit = seed.units[place]
    length = rng.choice((0, 1, len(unit.payload) // 2, len(unit.payload) + 1, 100_000, 1 << 28))
    head = pack_unit(replace(unit, payload=Sized()))[:-4]
    before = seed.header.pack() + b"".join(pack_unit(each) for each in seed.units[:place])
    after = b"".join(pack_unit(each) for each in seed.units[place + 1 :])
    return before + head + unit.payload + rng.randbytes(4) + after


MUTATIONS: dict[str, tuple[int, Mutation]] = {
    "flip_bits": (3, flip_bits),
    "cut_off": (2, cut_off),
    "patch": (3, patch),
    "splice": (1, splice),
    "change_payloads": (8, change_payloads),
    "change_fields": (3, change_fields),
    "change_order": (3, change_order),
    "change_header": (2, change_header),
    "lie_about_length": (1, lie_about_length),
}
