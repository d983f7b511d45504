"""Integer frequency tables of the entropy coder, and the grid of scales they stand for.

Everything here is computed with Python integers of any size, so every machine builds the same
bytes; a test pins the digests. docs/entropy.md gives the construction.
"""

import hashlib
import heapq
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np

PRECISION = 14
SCALE_COUNT = 64
SCALE_BITS = 20  # fractional bits of scale_grid()
SYMBOL_LIMIT = 1 << 24  # every coded symbol k satisfies |k| < SYMBOL_LIMIT
MAX_TABLES = 256
MAX_SIZE = 1 << 12  # symbols a table: the forced frequencies of 1 then cost at most 0.42 bit
MAX_ORDER = 16
ESCAPE_VALUE = -(1 << 31)  # marks the escape entry among the decoder's values

_TOTAL = 1 << PRECISION
FRACTION_BITS = 128  # fractional bits of the cumulative distributions
_ONE = 1 << FRACTION_BITS
_PI = 0x3243F6A8885A308D313198A2E03707344  # pi with 128 fractional bits
_INV_SQRT_2PI = math.isqrt((1 << (3 * FRACTION_BITS - 1)) // _PI)


@dataclass(frozen=True, eq=False)
class Tables:
    """Up to 256 integer frequency tables, stored end to end.

    Table t codes the symbols ``offsets[t] .. offsets[t] + sizes[t] - 1`` and, as its last entry,
    the escape. All frequencies are at least 1 and each table's add up to ``2**PRECISION``.

    offsets, sizes: int32 (tables,); orders: uint8 (tables,), order of the Exp-Golomb code of
    escaped symbols; frequencies: uint16 (sum(sizes) + tables,). Raises ValueError when they do
    not fit together. The arrays are made read-only.
    """

    offsets: np.ndarray
    sizes: np.ndarray
    orders: np.ndarray
    frequencies: np.ndarray

    def __post_init__(self) -> None:
        for name, dtype in _FIELDS.items():
            array = np.ascontiguousarray(getattr(self, name))
            if array.dtype != dtype or array.ndim != 1:
                raise ValueError(f"{name} must be a flat array of {np.dtype(dtype).name}")
            object.__setattr__(self, name, _read_only(array))
        count = len(self.offsets)
        if not 1 <= count <= MAX_TABLES:
            raise ValueError(f"{count} tables: between 1 and {MAX_TABLES} are allowed")
        if len(self.sizes) != count or len(self.orders) != count:
            raise ValueError("offsets, sizes and orders must have one entry a table")
        if self.sizes.min() < 1 or self.sizes.max() > MAX_SIZE:
            raise ValueError(f"a table has between 1 and {MAX_SIZE} symbols")
        if self.orders.max() > MAX_ORDER:
            raise ValueError(f"the order of an escape is at most {MAX_ORDER}")
        first, last = self.offsets.astype(np.int64), self.offsets.astype(np.int64) + self.sizes - 1
        if first.min() <= -SYMBOL_LIMIT or last.max() >= SYMBOL_LIMIT:
            raise ValueError(f"symbols lie strictly between -{SYMBOL_LIMIT} and {SYMBOL_LIMIT}")
        if len(self.frequencies) != int(self.sizes.sum()) + count:
            raise ValueError("frequencies must have one entry a symbol and one for each escape")
        if self.frequencies.min() < 1:
            raise ValueError("every frequency must be at least 1")
        sums = np.add.reduceat(self.frequencies.astype(np.int64), self.starts)
        if (sums != _TOTAL).any():
            raise ValueError(f"the frequencies of each table must add up to {_TOTAL}")

    def __len__(self) -> int:
        return len(self.offsets)

    @cached_property
    def starts(self) -> np.ndarray:
        """Position of each table's first entry in ``frequencies``; int32 (tables,)."""
        ends = np.cumsum(self.sizes.astype(np.int64) + 1)
        return _read_only(np.concatenate([[0], ends[:-1]]).astype(np.int32))

    @cached_property
    def cumulative(self) -> np.ndarray:
        """Sum of the frequencies before each entry within its table; uint16, as frequencies."""
        sums = np.cumsum(self.frequencies.astype(np.int64)) - self.frequencies
        sums -= np.repeat(sums[self.starts], self.sizes + 1)
        return _read_only(sums.astype(np.uint16))

    @cached_property
    def layout(self) -> np.ndarray:
        """What the encoder needs of each table: offset, size, start; int32 (tables, 4)."""
        zero = np.zeros_like(self.offsets)
        return _read_only(np.stack([self.offsets, self.sizes, self.starts, zero], axis=1))

    @cached_property
    def encoder(self) -> np.ndarray:
        """The encoder's entries; uint64 (entries, 2).

        Column 0 is ceil(2**46 / frequency), which makes ``x * column >> 46`` the exact quotient of
        any state below ``frequency << 18`` (docs/entropy.md); column 1 is
        ``frequency | cumulative << 16``.
        """
        frequency = self.frequencies.astype(np.uint64)
        power = np.uint64(1 << 46)
        reciprocal = (power + frequency - np.uint64(1)) // frequency
        both = frequency | self.cumulative.astype(np.uint64) << np.uint64(16)
        return _read_only(np.stack([reciprocal, both], axis=1))

    @cached_property
    def decoder(self) -> np.ndarray:
        """The decoder's entries ``frequency | cumulative << 16 | value << 32``; int64 (entries,).

        The value of an escape is ESCAPE_VALUE.
        """
        within = np.arange(len(self.frequencies)) - np.repeat(self.starts, self.sizes + 1)
        value = within + np.repeat(self.offsets.astype(np.int64), self.sizes + 1)
        value[self.starts + self.sizes] = ESCAPE_VALUE
        low = self.frequencies.astype(np.int64) | self.cumulative.astype(np.int64) << 16
        return _read_only(low | value << 32)

    @cached_property
    def buckets(self) -> np.ndarray:
        """Entry that holds slot ``64 * b`` of table t, at ``[t * 256 + b]``; int32."""
        slots = np.arange(256) << (PRECISION - 8)
        found = [
            start + np.searchsorted(self.cumulative[start : start + size + 1], slots, "right") - 1
            for start, size in zip(self.starts, self.sizes, strict=True)
        ]
        return _read_only(np.concatenate(found).astype(np.int32))

    @cached_property
    def costs(self) -> np.ndarray:
        """Code length of each entry in 1/16 bit, rounded up, by integers; uint16 (entries,)."""
        powers = [16 * PRECISION - ((int(f) ** 16).bit_length() - 1) for f in self.frequencies]
        return _read_only(np.array(powers, dtype=np.uint16))

    def digest(self) -> bytes:
        """SHA-256 (32 bytes) of the tables, in little-endian order whatever the machine."""
        state = hashlib.sha256(len(self).to_bytes(4, "little"))
        for name in _FIELDS:
            array = getattr(self, name)
            state.update(array.astype(array.dtype.newbyteorder("<")).tobytes())
        return state.digest()


_FIELDS: dict[str, type[np.generic]] = {
    "offsets": np.int32,
    "sizes": np.int32,
    "orders": np.uint8,
    "frequencies": np.uint16,
}


def _read_only(array: np.ndarray) -> np.ndarray:
    array = array.view() if array.flags.writeable else array
    array.flags.writeable = False
    return array


@cache
def scale_grid() -> np.ndarray:
    """The 64 scales, log-spaced from 0.11 to 64, times 2**20 and rounded down; int64 (64,).

    scale[i]**63 == 0.11**(63 - i) * 64**i, so each is an integer 63rd root: no float, no series.
    """
    last = SCALE_COUNT - 1
    grid = [
        integer_root(((11 ** (last - i) * 6400**i) << (SCALE_BITS * last)) // 100**last, last)
        for i in range(SCALE_COUNT)
    ]
    return _read_only(np.array(grid, dtype=np.int64))


@cache
def gaussian_tables() -> Tables:
    """Tables of a rounded zero-mean Gaussian for each scale of scale_grid() as its sigma."""
    return _symmetric_tables(gaussian_inside, order_shift=2)


@cache
def laplace_tables() -> Tables:
    """Tables of a rounded zero-mean Laplace for each scale of scale_grid() as its b."""
    return _symmetric_tables(laplace_inside, order_shift=0)


def tables_from_counts(counts: Sequence[tuple[int, np.ndarray]]) -> Tables:
    """Tables from integer histograms: each (smallest symbol, counts of it and those after it).

    Zero counts get the frequency 1 like the escape, so trim the ends of a histogram first. Raises
    ValueError when a histogram is empty, negative, sums to 0, or is longer than MAX_SIZE.
    """
    offsets, frequencies, orders = [], [], []
    for offset, histogram in counts:
        values = [int(c) for c in histogram]
        if not 1 <= len(values) <= MAX_SIZE or min(values) < 0 or sum(values) == 0:
            raise ValueError(f"a histogram has 1 to {MAX_SIZE} counts, none negative, not all 0")
        offsets.append(int(offset))
        frequencies.append(_apportion([*values, 0]))
        orders.append(len(values).bit_length() // 2)
    return _join(offsets, orders, frequencies)


def _symmetric_tables(inside: Callable[[int, int], int], *, order_shift: int) -> Tables:
    offsets, frequencies, orders = [], [], []
    for scale in scale_grid():
        masses = _half_masses(inside, int(scale))
        rest = _ONE - masses[0] - 2 * sum(masses[1:])
        offsets.append(1 - len(masses))
        frequencies.append(_apportion([*masses[:0:-1], *masses, rest]))
        # The tail beyond the table falls off over about scale >> order_shift symbols.
        orders.append(max(0, int(scale >> (SCALE_BITS + order_shift)).bit_length() - 1))
    return _join(offsets, orders, frequencies)


def _half_masses(inside: Callable[[int, int], int], scale: int) -> list[int]:
    """Masses of 0, 1, 2 ... while a symbol has at least half a unit of frequency."""
    previous = inside(1, scale)
    masses = [previous]
    while len(masses) < MAX_SIZE // 2:
        current = inside(2 * len(masses) + 1, scale)
        mass = (current - previous) // 2
        if mass < _ONE >> (PRECISION + 1):
            break
        masses.append(mass)
        previous = current
    return masses


def _join(offsets: list[int], orders: list[int], frequencies: list[list[int]]) -> Tables:
    return Tables(
        offsets=np.array(offsets, dtype=np.int32),
        sizes=np.array([len(f) - 1 for f in frequencies], dtype=np.int32),
        orders=np.array(orders, dtype=np.uint8),
        frequencies=np.array([f for table in frequencies for f in table], dtype=np.uint16),
    )


def gaussian_inside(odd: int, scale: int) -> int:
    """P(|X| < odd / 2) for sigma = scale / 2**20, with 128 fractional bits, by its power series."""
    x = (odd << (FRACTION_BITS + SCALE_BITS - 1)) // scale
    half_square = (x * x) >> (FRACTION_BITS + 1)
    term, total, n = x, 0, 0
    while term:
        total += term // (2 * n + 1) if n % 2 == 0 else -(term // (2 * n + 1))
        n += 1
        term = (term * half_square >> FRACTION_BITS) // n
    return 2 * total * _INV_SQRT_2PI >> FRACTION_BITS


def laplace_inside(odd: int, scale: int) -> int:
    """P(|X| < odd / 2) for b = scale / 2**20, with 128 fractional bits."""
    return _ONE - _exp_negative((odd << (FRACTION_BITS + SCALE_BITS - 1)) // scale)


def _exp_negative(x: int) -> int:
    """exp(-x) with 128 fractional bits: the series of x / 2**n below 1/256, squared n times."""
    halvings = max(0, x.bit_length() - (FRACTION_BITS - 8))
    small = x >> halvings
    term, total, n = _ONE, 0, 0
    while term:
        total += term if n % 2 == 0 else -term
        n += 1
        term = (term * small >> FRACTION_BITS) // n
    for _ in range(halvings):
        total = total * total >> FRACTION_BITS
    return total


def integer_root(value: int, degree: int) -> int:
    """Largest integer whose power ``degree`` is at most ``value``, by bisection."""
    low, high = 0, 1 << (value.bit_length() // degree + 1)
    while high - low > 1:
        middle = (low + high) // 2
        if middle**degree <= value:
            low = middle
        else:
            high = middle
    return low


def _apportion(weights: list[int]) -> list[int]:
    """Frequencies of at least 1 adding up to 2**14, in proportion (Webster's method).

    From the rounded-down shares, one unit at a time goes to the largest weight / (2 f + 1), or
    comes from the smallest weight / (2 f - 1) among f > 1; on a tie, to the first entry.
    """
    total = sum(weights)
    frequencies = [max(1, weight * _TOTAL // total) for weight in weights]
    missing = _TOTAL - sum(frequencies)
    step = 1 if missing > 0 else -1

    def key(i: int) -> tuple[int, int]:
        return -step * (weights[i] << 32) // (2 * frequencies[i] + step), i

    movable = range(len(weights))
    heap = [key(i) for i in movable if step > 0 or frequencies[i] > 1]
    heapq.heapify(heap)
    for _ in range(abs(missing)):
        i = heapq.heappop(heap)[1]
        frequencies[i] += step
        if step > 0 or frequencies[i] > 1:
            heapq.heappush(heap, key(i))
    return frequencies
