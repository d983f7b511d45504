"""Golden vectors: the bytes of both coders never change, on any machine or version of anything."""

import base64
import json
import zlib
from pathlib import Path

import numpy as np
import pytest

from nvc.entropy import adaptive, adaptive_reference, rans, rans_reference
from nvc.entropy.tables import gaussian_tables, laplace_tables, tables_from_counts

VECTORS = Path(__file__).parent / "vectors"


def load(text: str, dtype: str) -> np.ndarray:
    array = np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype=dtype)
    return array.astype(array.dtype.newbyteorder("="))


@pytest.mark.parametrize("coder", [rans, rans_reference])
@pytest.mark.parametrize("case", json.loads((VECTORS / "entropy_rans.json").read_text()))
def test_rans_bytes(case, coder):
    tables = {
        "gaussian": gaussian_tables,
        "laplace": laplace_tables,
        "counts": lambda: tables_from_counts([(o, np.array(c)) for o, c in case["counts"]]),
    }[case["tables"]]()
    indexes, symbols = load(case["indexes"], "u1"), load(case["symbols"], "<i4")
    payload, skip_below = load(case["payload"], "u1").tobytes(), case["skip_below"]
    assert coder.encode(symbols, indexes, tables, skip_below=skip_below) == payload
    decoded = coder.decode(payload, indexes, tables, skip_below=skip_below)
    np.testing.assert_array_equal(decoded, symbols)


@pytest.mark.parametrize("coder", [adaptive, adaptive_reference])
@pytest.mark.parametrize("case", json.loads((VECTORS / "entropy_adaptive.json").read_text()))
def test_adaptive_bytes(case, coder):
    shape = case["rows"], case["columns"]
    values, payload = load(case["values"], "<i4").reshape(shape), load(case["payload"], "u1")
    np.testing.assert_array_equal(coder.decode_matrix(payload.tobytes(), *shape), values)
    if coder is adaptive:  # the reference does not choose its options
        assert coder.encode_matrix(values) == payload.tobytes()


def test_vectors_cover_every_number_of_lanes():
    cases = json.loads((VECTORS / "entropy_rans.json").read_text())
    heads = {int(load(case["payload"], "u1")[0]) & 3 for case in cases}
    assert heads == {0, 1, 2, 3}
