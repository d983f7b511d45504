"""Speed and overhead of the entropy coder beside constriction, in one run on one thread.

    python tools/bench_entropy.py [--json] [--symbols 1000000] [--rounds 7]

Sparse: scales log-normal around 0.2 (about half of them under it), some 0.42 bit a symbol; dense:
around 2.7, 3.5 bit. Symbols are drawn from a rounded Gaussian of the table's own scale. Overhead is
the whole payload over the exact cross-entropy of these very symbols, under the integer tables and
under the ideal Gaussian bins. constriction codes the same symbols with its parametrised
QuantizedGaussian on AnsCoder, its support just what the symbols need. Times are the best of the
rounds, the two coders taking turns.

Matrices: synthetic weights whose rows and columns differ in scale, through the adaptive coder,
beside the entropy of the whole tensor (its histogram free of charge) and of each value with its
scale known.
"""

import argparse
import json
import math
import platform
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import constriction
import numpy as np

from nvc.entropy import rans
from nvc.entropy.adaptive import decode_matrix, encode_matrix
from nvc.entropy.tables import Tables, gaussian_tables, scale_grid

KINDS = {"sparse": (0.2, 0.75), "dense": (2.7, 0.6)}  # median scale, spread of its logarithm

# Name, rows, columns, scale, spread of its logarithm over rows and over columns.
MATRICES = [
    ("laplace", 64, 144, 5.0, 0.5, 0.0),
    ("gaussian", 96, 432, 8.0, 0.3, 0.3),
    ("gaussian", 96, 432, 8.0, 0.2, 0.0),
    ("laplace", 96, 432, 3.0, 0.0, 0.0),
    ("laplace", 96, 432, 0.4, 0.3, 0.0),
    ("gaussian", 96, 432, 50.0, 0.5, 0.2),
    ("gaussian", 16, 64, 8.0, 0.5, 0.0),
    ("gaussian", 16, 16, 8.0, 0.0, 0.0),
]


def draw(kind: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Symbols (int32) and indexes (uint8) of one kind, from a fixed seed."""
    median, spread = KINDS[kind]
    rng = np.random.default_rng(2024)
    wanted = rng.normal(math.log(median), spread, count)
    grid = np.log(scale_grid() / 2**20)
    indexes = np.clip(np.round((wanted - grid[0]) / (grid[1] - grid[0])), 0, 63).astype(np.uint8)
    scales = scale_grid()[indexes] / 2**20
    return np.round(rng.normal(0, 1, count) * scales).astype(np.int32), indexes


def table_bits(symbols: np.ndarray, indexes: np.ndarray, tables: Tables) -> float:
    """Exact cross-entropy under the integer tables, with the Exp-Golomb bits of the escapes."""
    entry, size = symbols - tables.offsets[indexes], tables.sizes[indexes]
    escaped = (entry < 0) | (entry >= size)
    rows = tables.starts[indexes] + np.where(escaped, size, entry)
    bits = float(np.sum(14 - np.log2(tables.frequencies[rows])))
    order = tables.orders[indexes][escaped].astype(np.int64)
    distance = (np.abs(symbols) - size // 2 - 1)[escaped]
    return bits + float(np.sum(2 + 2 * np.floor(np.log2((distance >> order) + 1)) + order))


def ideal_bits(symbols: np.ndarray, indexes: np.ndarray) -> float:
    """Exact cross-entropy under the Gaussian's bins, of unlimited range and precision."""
    pairs, counts = np.unique(np.stack([np.abs(symbols), indexes]), axis=1, return_counts=True)
    scales = scale_grid() / 2**20
    costs = [gaussian_cost(magnitude, scales[index]) for magnitude, index in pairs.T]
    return float(np.dot(costs, counts))


def gaussian_cost(magnitude: int, sigma: float) -> float:
    """Bits of a symbol of this magnitude under the rounded Gaussian."""
    low, high = ((magnitude + side) / sigma / math.sqrt(2) for side in (-0.5, 0.5))
    mass = math.erf(high) if magnitude == 0 else (math.erfc(low) - math.erfc(high)) / 2
    return -math.log2(mass)


def laplace_cost(magnitude: int, b: float) -> float:
    """Bits of a symbol of this magnitude under the rounded Laplace distribution."""
    low, high = (math.exp(-(magnitude + side) / b) / 2 for side in (-0.5, 0.5))
    return -math.log2(1 - 2 * high if magnitude == 0 else low - high)


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def measure(kind: str, count: int, rounds: int) -> dict[str, Any]:
    """One row: ours and constriction's Msymbol/s, bytes and overheads."""
    symbols, indexes = draw(kind, count)
    tables = gaussian_tables()
    reach = int(np.abs(symbols).max())  # a wider support would cost it bits
    model = constriction.stream.model.QuantizedGaussian(-reach, reach)
    means, scales = np.zeros(count), scale_grid()[indexes] / 2**20

    def their_encode() -> np.ndarray:
        coder = constriction.stream.stack.AnsCoder()
        coder.encode_reverse(symbols, model, means, scales)
        return np.asarray(coder.get_compressed())

    def their_decode(words: np.ndarray) -> np.ndarray:
        coder = constriction.stream.stack.AnsCoder(words)
        return np.asarray(coder.decode(model, means, scales))

    def our_encode() -> bytes:
        return rans.encode(symbols, indexes, tables)

    def our_decode(payload: bytes) -> np.ndarray:
        return rans.decode(payload, indexes, tables)

    our_decode(our_encode())  # compile first
    best = dict.fromkeys(("encode", "decode", "their_encode", "their_decode"), math.inf)
    coders: list[tuple[str, Callable[[], Any], Callable[[Any], Any]]] = [
        ("", our_encode, our_decode),
        ("their_", their_encode, their_decode),
    ]
    sizes = {}
    for _ in range(rounds):
        for name, encode, decode in coders:
            seconds, payload = timed(encode)
            best[f"{name}encode"] = min(best[f"{name}encode"], seconds)
            sizes[name] = memoryview(payload).nbytes
            seconds, decoded = timed(partial(decode, payload))
            best[f"{name}decode"] = min(best[f"{name}decode"], seconds)
            if not np.array_equal(decoded, symbols):
                raise SystemExit(f"{kind}: decoded symbols differ")
    our_size, their_size = sizes[""], sizes["their_"]
    exact, ideal = table_bits(symbols, indexes, tables) / 8, ideal_bits(symbols, indexes) / 8
    speed = {name: count / seconds / 1e6 for name, seconds in best.items()}
    return {
        "kind": kind,
        "symbols": count,
        "ideal_bits_per_symbol": 8 * ideal / count,
        "bytes": our_size,
        "encode_msymbol_s": speed["encode"],
        "decode_msymbol_s": speed["decode"],
        "overhead_tables_percent": 100 * (our_size / exact - 1),
        "overhead_ideal_percent": 100 * (our_size / ideal - 1),
        "constriction_bytes": their_size,
        "constriction_encode_msymbol_s": speed["their_encode"],
        "constriction_decode_msymbol_s": speed["their_decode"],
        "constriction_overhead_ideal_percent": 100 * (their_size / ideal - 1),
        "encode_ratio": speed["encode"] / speed["their_encode"],
        "decode_ratio": speed["decode"] / speed["their_decode"],
    }


def measure_matrix(
    kind: str, rows: int, columns: int, scale: float, row_spread: float, column_spread: float
) -> dict[str, Any]:
    """One row: bits a value of the adaptive coder beside two entropies, and its speed."""
    rng = np.random.default_rng(2024)
    scales = (
        scale
        * np.exp(rng.normal(0, row_spread, (rows, 1)))
        * np.exp(rng.normal(0, column_spread, (1, columns)))
    )
    noise, cost = (rng.normal, gaussian_cost) if kind == "gaussian" else (rng.laplace, laplace_cost)
    values = np.round(noise(0, 1, (rows, columns)) * scales).astype(np.int32)
    decode_matrix(encode_matrix(values), rows, columns)  # compile first
    encode_seconds, payload = timed(lambda: encode_matrix(values))
    decode_seconds, decoded = timed(lambda: decode_matrix(payload, rows, columns))
    if not np.array_equal(decoded, values):
        raise SystemExit(f"{kind} matrix: decoded values differ")
    counts = np.unique(values, return_counts=True)[1]
    known = sum(map(cost, np.abs(values).ravel().tolist(), scales.ravel().tolist()))
    return {
        "kind": f"{kind} {rows}x{columns}, scale {scale}, spread {row_spread} / {column_spread}",
        "tensor_entropy": float(-np.sum(counts * np.log2(counts / values.size)) / values.size),
        "scales_known": known / values.size,
        "coded": 8 * len(payload) / values.size,
        "encode_us_a_value": 1e6 * encode_seconds / values.size,
        "decode_us_a_value": 1e6 * decode_seconds / values.size,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--symbols", type=int, default=1_000_000, help="symbols of each kind")
    parser.add_argument("--rounds", type=int, default=7, help="times each is run; the best counts")
    arguments = parser.parse_args()
    rows = [measure(kind, arguments.symbols, arguments.rounds) for kind in KINDS]
    matrices = [measure_matrix(*matrix) for matrix in MATRICES]
    if arguments.json:
        machine = platform.processor() or platform.machine()
        print(json.dumps({"machine": machine, "results": rows, "matrices": matrices}))
        return
    for row in rows:
        print(
            f"{row['kind']}: {row['ideal_bits_per_symbol']:.3f} bit a symbol, {row['bytes']} bytes,"
            f" {row['overhead_tables_percent']:.3f} % over the tables,"
            f" {row['overhead_ideal_percent']:.3f} % over the ideal bins"
            f" (constriction {row['constriction_overhead_ideal_percent']:.3f} %)\n"
            f"  encode {row['encode_msymbol_s']:.0f} Msymbol/s, {row['encode_ratio']:.1f} times"
            f" constriction's {row['constriction_encode_msymbol_s']:.1f};"
            f" decode {row['decode_msymbol_s']:.0f}, {row['decode_ratio']:.1f} times"
            f" {row['constriction_decode_msymbol_s']:.1f}"
        )
    print("matrices, bits a value: tensor entropy, with scales known, coded (us to encode, decode)")
    for row in matrices:
        print(
            f"  {row['kind']}: {row['tensor_entropy']:.3f}, {row['scales_known']:.3f},"
            f" {row['coded']:.3f} ({row['encode_us_a_value']:.2f}, {row['decode_us_a_value']:.2f})"
        )


if __name__ == "__main__":
    main()
