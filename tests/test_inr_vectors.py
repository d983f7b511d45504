"""Golden payloads: written once, decoded for ever, and written the same by every machine."""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest

from nvc.inr.coding import decode_config, decode_group, encode_config, encode_group

VECTORS = json.loads((Path(__file__).parent / "vectors/inr_v2.json").read_text())


@pytest.mark.parametrize(
    "case", VECTORS["cases"], ids=lambda case: f"{case['codec']}-{case['prior']}"
)
def test_golden_payload(case):
    """The symbols are those the vector was made of, and coding them gives its bytes."""
    payload = bytes.fromhex(case["payload"])
    written = bytes.fromhex(case["config"])
    config = decode_config(written, height=VECTORS["height"], width=VECTORS["width"])
    assert encode_config(config) == written
    group = decode_group(payload, config, VECTORS["frames"])
    value = 0
    for symbols in (*group.symbols, group.embedding):
        value = zlib.crc32(np.ascontiguousarray(symbols, dtype="<i4").tobytes(), value)
    assert value == case["crc"]
    assert encode_group(group, prior=case["prior"]) == payload
