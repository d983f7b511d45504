"""Write the golden vectors of the entropy coders to tests/vectors/.

Only for a deliberate change of the format, which makes every existing stream unreadable:

    python tools/make_entropy_vectors.py

Each array is stored as base64 of zlib of its little-endian bytes.
"""

import base64
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from nvc.entropy import adaptive, rans_reference
from nvc.entropy.tables import (
    Tables,
    gaussian_tables,
    laplace_tables,
    scale_grid,
    tables_from_counts,
)

VECTORS = Path(__file__).resolve().parent.parent / "tests" / "vectors"
COUNTS = [[-4, [1, 0, 7, 30, 81, 33, 6, 2]], [100, [5, 5, 1]], [-7, [1]]]


def named_tables(name: str, counts: list[Any]) -> Tables:
    """The tables a vector names; counts: [smallest symbol, [count, ...]] for each histogram."""
    if name == "gaussian":
        return gaussian_tables()
    if name == "laplace":
        return laplace_tables()
    return tables_from_counts([(offset, np.array(values)) for offset, values in counts])


def store(data: bytes) -> str:
    """Bytes as text."""
    return base64.b64encode(zlib.compress(data, 9)).decode()


def rans_case(name: str, count: int, *, spread: float = 1.0, skip_below: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(count)
    tables = named_tables(name, COUNTS)
    indexes = rng.integers(0, len(tables), count).astype(np.uint8)
    scale = scale_grid()[indexes] / 2**20 if len(tables) == 64 else np.full(count, 3.0)
    symbols = np.round(rng.normal(0, spread, count) * scale).astype(np.int32)
    if spread > 1:
        symbols[:2] = (1 << 24) - 1, 1 - (1 << 24)
    symbols[indexes < skip_below] = 0
    payload = rans_reference.encode(symbols, indexes, tables, skip_below=skip_below)
    return {
        "tables": name,
        "counts": COUNTS if name == "counts" else [],
        "skip_below": skip_below,
        "indexes": store(indexes.tobytes()),
        "symbols": store(symbols.astype("<i4").tobytes()),
        "payload": store(payload),
    }


def adaptive_case(rows: int, columns: int, scale: float) -> dict[str, Any]:
    rng = np.random.default_rng(rows)
    sigma = scale * np.exp(rng.normal(0, 0.6, (rows, 1)))
    values = np.round(rng.laplace(0, 1, (rows, columns)) * sigma).astype(np.int32)
    return {
        "rows": rows,
        "columns": columns,
        "values": store(values.astype("<i4").tobytes()),
        "payload": store(adaptive.encode_matrix(values)),
    }


def main() -> None:
    rans_cases = [
        rans_case("gaussian", 3),
        rans_case("gaussian", 500),
        rans_case("gaussian", 501, skip_below=12),
        rans_case("gaussian", 200, spread=20.0),
        rans_case("gaussian", 7_000),
        rans_case("laplace", 12_000),
        rans_case("gaussian", 24_000, skip_below=6),
        rans_case("counts", 300, spread=2.0),
    ]
    adaptive_cases = [
        adaptive_case(1, 1, 40.0),
        adaptive_case(8, 12, 5.0),
        adaptive_case(60, 40, 0.4),
        adaptive_case(40, 90, 30.0),
        adaptive_case(9, 30, 1e5),
    ]
    for name, cases in (("rans", rans_cases), ("adaptive", adaptive_cases)):
        path = VECTORS / f"entropy_{name}.json"
        path.write_text(json.dumps(cases, indent=1) + "\n")
        print(f"{path.name}: {len(cases)} cases, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
