"""The golden stream: what was written once is read for ever, symbol by symbol."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

from predictive_weights import symbol_digests

from nvc.bitstream.units import CRC_SIZE, Unit, UnitType, parse_head
from nvc.predictive.codec import CONFIG_VERSION
from nvc.video.frames import VideoInfo
from nvc.weights import hash_of

VECTORS = Path(__file__).parent / "vectors"


def golden_units() -> list[Unit]:
    data = (VECTORS / "dhvc_tiny.units").read_bytes()
    units, position = [], 0
    while position < len(data):
        head = parse_head(data, position, len(data))
        start = position + head.size
        units.append(head.with_payload(data[start : start + head.length]))
        position = start + head.length + CRC_SIZE
    return units


def test_the_golden_stream_gives_its_symbols() -> None:
    info = VideoInfo(width=72, height=56, frame_count=18, frame_rate=Fraction(25))
    expected = json.loads((VECTORS / "dhvc_tiny.json").read_text())
    assert len(set(expected)) == 18
    digests = symbol_digests(VECTORS / "dhvc_tiny.safetensors", golden_units(), info)
    assert digests == expected


def test_the_golden_stream_names_its_weights_and_version() -> None:
    config = golden_units()[0]
    assert config.type == UnitType.CONFIG
    digest = hash_of(VECTORS / "dhvc_tiny.safetensors")
    assert config.payload == bytes([CONFIG_VERSION]) + digest
