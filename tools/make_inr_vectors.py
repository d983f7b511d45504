"""Golden streams of the INR codecs with groups or tracks, and the integers they stand for.

  python tools/make_inr_vectors.py

Writes tests/vectors/inr_{hnerv,nirvana,pfnr}.nvc and inr_groups.json. Run it again only together
with a new version of a codec's format: tests/test_inr_group_vectors.py reads these for ever.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nvc.bitstream.reader import StreamReader
from nvc.bitstream.units import Unit, UnitType
from nvc.bitstream.writer import StreamWriter
from nvc.codecs import make_decoder, make_encoder
from nvc.inr.pfnr import decode_body
from nvc.stream import header_of, info_of
from nvc.video.frames import Frame, VideoInfo

VECTORS = Path(__file__).parent.parent / "tests" / "vectors"
COMMON: dict[str, Any] = {"epochs": 4, "size_params": 6000, "precision": "float32"}
CODECS: dict[str, dict[str, Any]] = {
    "hnerv": {"group": 2, "anchor_every": 2},
    "nirvana": {"group": 2, "anchor_every": 2, "network": {"patch": 16}},
    "pfnr": {},
}


def clip(turn: int) -> tuple[list[Frame], VideoInfo]:
    """Four frames of 24x32 with a moving wave, mirrored for an odd `turn`."""
    info = VideoInfo(
        width=32, height=24, frame_rate=Fraction(25), time_base=Fraction(1, 25), frame_count=4
    )
    frames = []
    for number in range(4):
        planes = []
        for rows, columns in info.plane_shapes():
            y = torch.arange(rows)[:, None] / rows
            x = torch.arange(columns)[None] / columns
            wave = 128 + 90 * torch.sin(5 * x + 3 * y + 0.3 * number)
            planes.append((wave.flip(1) if turn % 2 else wave).round().to(torch.uint8))
        frames.append(Frame(tuple(planes), pts=number))
    return frames, info


def units_of(codec: str) -> tuple[list[Unit], VideoInfo]:
    """The units of a short fit; of two videos for pfnr."""
    units: list[Unit] = []
    for turn in range(2 if codec == "pfnr" else 1):
        frames, info = clip(turn)
        encoder: Any = make_encoder(codec, info, **COMMON, **CODECS[codec])
        earlier = {"earlier": list(units)} if codec == "pfnr" else {}
        units += encoder.encode(frames, info, **earlier)
    return units, info


def integers(path: Path) -> Iterator[np.ndarray]:
    """Every coded integer of a stream, in order: symbols, steps, reused weights."""
    with path.open("rb") as file:
        reader = StreamReader(file, name=path.name)
        info, name = info_of(reader.header), reader.header.codec
        decoder: Any = make_decoder(name)
        scheme = body = group = None
        for unit in reader.units():
            if name == "pfnr" and unit.type == UnitType.CONFIG:
                body = decode_body(unit.payload, body, height=info.height, width=info.width)
                yield from body.reuse
            elif name == "pfnr":
                group = body.with_head(unit.payload, unit.frame_count)
            elif unit.type == UnitType.CONFIG:
                scheme = decoder.scheme_of(unit.payload, info)
                continue
            else:
                base = None if unit.key else group
                group = scheme.decode(unit.payload, scheme.network, unit.frame_count, base)
                yield group.embedding
            if group is not None and unit.type == UnitType.PARAMETERS:
                yield from group.symbols
                yield np.array(group.step_codes)


def describe(path: Path) -> dict[str, Any]:
    """What is to stay: a digest of the integers, and the mean of every plane of every track."""
    digest = hashlib.sha256()
    for array in integers(path):
        digest.update(np.ascontiguousarray(array.astype("<i4")).tobytes())
    means = []
    with path.open("rb") as file:
        reader = StreamReader(file, name=path.name)
        info = info_of(reader.header)
        tracks = 2 if reader.header.codec == "pfnr" else 1
        for track in range(tracks):
            chosen = {"track": track} if tracks > 1 else {}
            decoder: Any = make_decoder(reader.header.codec)
            for frame in decoder.decode(reader.units(), info, **chosen):
                means += [round(float(plane.float().mean()), 3) for plane in frame.planes]
    return {"integers": digest.hexdigest(), "means": means}


def main() -> None:
    """Write the streams and what they stand for."""
    torch.set_num_threads(1)
    found = {}
    for codec in CODECS:
        path = VECTORS / f"inr_{codec}.nvc"
        units, info = units_of(codec)
        with (
            path.open("wb") as file,
            StreamWriter(file, header_of(info, codec, weights_hash=bytes(8))) as writer,
        ):
            for unit in units:
                writer.write(unit)
        found[codec] = describe(path)
        print(path.name, path.stat().st_size)
    (VECTORS / "inr_groups.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
