"""Speed and overhead of the entropy coder beside constriction, in one run on one thread.

    python tools/bench_entropy.py [--json] [--symbols 1000000] [--rounds 7]

Sparse: scales log-normal around 0.2 (about half of them under it), some 0.42 bit a symbol; dense:
around 2.7, 3.5 bit. Symbols are drawn from a rounded Gaussian of the table's own scale. Overhead is
the whole payload over the exact cross-entropy of these very symbols, under the integer tables and
under the ideal Gaussian bins. constriction codes the same symbols with its parametrised
QuantizedGaussian on AnsCoder, its support just what the symbols need. Times are the best of the
rounds, the two coders taking turns.
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
from nvc.entropy.tables import Tables, gaussian_tables, scale_grid

KINDS = {"sparse": (0.2, 0.75), "dense": (2.7, 0.6)}  # median scale, spread of its logarithm


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
    total = 0.0
    for magnitude, index, count in zip(*pairs, counts, strict=True):
        low, high = ((magnitude + side) / scales[index] / math.sqrt(2) for side in (-0.5, 0.5))
        mass = math.erf(high) if magnitude == 0 else (math.erfc(low) - math.erfc(high)) / 2
        total -= count * math.log2(mass)
    return float(total)


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--symbols", type=int, default=1_000_000, help="symbols of each kind")
    parser.add_argument("--rounds", type=int, default=7, help="times each is run; the best counts")
    arguments = parser.parse_args()
    rows = [measure(kind, arguments.symbols, arguments.rounds) for kind in KINDS]
    if arguments.json:
        print(json.dumps({"machine": platform.processor() or platform.machine(), "results": rows}))
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


if __name__ == "__main__":
    main()
