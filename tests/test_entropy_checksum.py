"""The checksum of sparse symbols is the CRC of the standard library."""

from __future__ import annotations

import binascii

import numpy as np
import pytest

from nvc.entropy.checksum import crc16


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 1.0])
@pytest.mark.parametrize("count", [0, 1, 2, 1000, 70001])
def test_it_is_the_crc_of_the_bytes(share: float, count: int) -> None:
    draw = np.random.default_rng(count)
    symbols = draw.integers(-(1 << 20), 1 << 20, count).astype(np.int32)
    symbols[draw.random(count) >= share] = 0
    for start in (0xFFFF, 0, 0x1234):
        assert crc16(symbols, start) == binascii.crc_hqx(symbols.astype("<i4").tobytes(), start)


def test_parts_follow_each_other() -> None:
    symbols = np.arange(-50, 50, dtype=np.int32)
    assert crc16(symbols[30:], crc16(symbols[:30])) == crc16(symbols)
