"""The adaptive matrix coder in plain Python: what adaptive.py must match byte for byte.

Slow (some 20 us a binary decision); used by the tests and to read the format.
"""

import numpy as np

from nvc.entropy.adaptive import check_matrix, check_size
from nvc.entropy.adaptive_kernels import (
    CERTAIN,
    FAST_LIMIT,
    FIRST_LOW_BIT,
    FIRST_PREFIX,
    HALF,
    LEVELS,
    PREFIX,
    PRIOR_WEIGHT,
    SLOW_LIMIT,
    STATISTIC_LIMIT,
    UNARY,
    VALUE_LIMIT,
)
from nvc.entropy.adaptive_model import CHOICES, START_COUNT, first_probabilities, low_bits
from nvc.errors import StreamError


class _Probabilities:
    """Two adaptive probabilities a context, with 24 fractional bits, mixed evenly to 16."""

    def __init__(self) -> None:
        self._state = [[int(p) << 8, int(p) << 8, START_COUNT] for p in first_probabilities()]

    def __getitem__(self, context: int) -> int:
        fast, slow, _ = self._state[context]
        return (fast + slow) >> 9

    def adapt(self, context: int, bit: int) -> None:
        state = self._state[context]
        for rate, limit in enumerate((FAST_LIMIT, SLOW_LIMIT)):
            weight = (1 << 17) // (2 * min(state[2], limit) + 3)
            moved = state[rate] + (((bit << 24) - state[rate]) * weight >> 16)
            state[rate] = min(max(moved, CERTAIN), (1 << 24) - CERTAIN)
        state[2] = min(state[2] + 1, SLOW_LIMIT)


class _Encoder:
    """Binary arithmetic coder; low is one number of any length, so carries need no care."""

    def __init__(self) -> None:
        self.probabilities = _Probabilities()
        self.low, self.range, self.shifts = 0, (1 << 32) - 1, 0

    def bit(self, probability: int, bit: int | None) -> int:
        assert bit is not None
        bound = (self.range >> 16) * probability
        if bit:
            self.range = bound
        else:
            self.low += bound
            self.range -= bound
        while self.range < 1 << 24:
            self.range <<= 8
            self.low <<= 8
            self.shifts += 1
        return bit

    def finish(self) -> bytes:
        for bits in (24, 16, 8, 0):
            rounded = -(-self.low >> bits) << bits
            if rounded <= self.low + self.range - 1:
                return rounded.to_bytes(self.shifts + 4, "big").rstrip(b"\0")
        raise AssertionError("the last of the four always fits")


class _Decoder:
    def __init__(self, data: bytes) -> None:
        self.probabilities = _Probabilities()
        self.data, self.position = data, 4
        self.code, self.range = int.from_bytes(data[:4].ljust(4, b"\0"), "big"), (1 << 32) - 1
        if self.code == self.range:
            raise StreamError("matrix payload: it starts as no payload does")

    def bit(self, probability: int, bit: int | None) -> int:
        bound = (self.range >> 16) * probability
        bit = int(self.code < bound)
        if bit:
            self.range = bound
        else:
            self.code -= bound
            self.range -= bound
        while self.range < 1 << 24:
            self.range <<= 8
            byte = self.data[self.position] if self.position < len(self.data) else 0
            self.code = self.code << 8 | byte
            self.position += 1
        return bit


_Coder = _Encoder | _Decoder


def encode_matrix(values: np.ndarray, *, choice: tuple[int, ...]) -> bytes:
    """As adaptive.encode_matrix, with the options given by their positions in CHOICES."""
    matrix = check_matrix(values)
    if not matrix.any():
        return b""
    coder = _Encoder()
    _run(coder, *matrix.shape, known=matrix.tolist(), choice=choice)
    return coder.finish()


def decode_matrix(payload: bytes | memoryview, rows: int, cols: int) -> np.ndarray:
    """As adaptive.decode_matrix."""
    check_size(rows, cols)
    data = bytes(payload)
    if not data:
        return np.zeros((rows, cols), dtype=np.int32)
    if data[-1] == 0:
        raise StreamError("matrix payload: it ends with a zero byte")
    coder = _Decoder(data)
    matrix = _run(coder, rows, cols, known=None, choice=None)
    if coder.position < len(data):
        raise StreamError("matrix payload: bytes left over")
    return np.array(matrix, dtype=np.int32).reshape(rows, cols)


def _run(
    coder: _Coder,
    rows: int,
    columns: int,
    *,
    known: list[list[int]] | None,
    choice: tuple[int, ...] | None,
) -> list[list[int]]:
    """Code ``known``, or decode when it is None: the same decisions in the same order."""
    options = []
    for field, allowed in enumerate(CHOICES):
        position = 0
        for step in range(len(allowed) - 1):
            wanted = None if choice is None else int(step < choice[field])
            if not coder.bit(HALF, wanted):
                break
            position += 1
        options.append(allowed[position])
    matrix: list[list[int]] = []
    column_sums, total = [0] * columns, 0
    for row in range(rows):
        matrix.append([])
        row_sum = 0
        for column in range(columns):
            mean = ((total << 16) + options[0] * PRIOR_WEIGHT * 4096) // (
                row * columns + column + PRIOR_WEIGHT
            )
            expected = _expected(
                max(mean, 1), row_sum, column_sums[column], row, column, options[1:3]
            )
            if options[3]:
                expected = _with_neighbours(expected, matrix, row, column, options[3])
            value = _value(coder, _level(expected), None if known is None else known[row][column])
            matrix[row].append(value)
            row_sum += _clip(value)
            column_sums[column] += _clip(value)
            total += _clip(value)
    return matrix


def _expected(
    mean: int, row_sum: int, column_sum: int, row: int, column: int, weights: list[int]
) -> int:
    """Expected magnitude times 2**16: the row's mean times the column's over the mean of all."""
    expected = mean
    if weights[0]:
        expected = ((row_sum << 16) + weights[0] * mean) // (column + weights[0])
    if weights[1]:
        own = ((column_sum << 16) + weights[1] * mean) // (row + weights[1])
        expected = expected * min((own << 8) // mean, 1 << 16) >> 8
    return expected


def _with_neighbours(
    expected: int, matrix: list[list[int]], row: int, column: int, weight: int
) -> int:
    near = [(2, matrix[row][c]) for c in [column - 1] if c >= 0]
    near += [(1, matrix[row][c]) for c in [column - 2] if c >= 0]
    near += [(2, matrix[r][column]) for r in [row - 1] if r >= 0]
    seen = sum(w * _clip(value) for w, value in near)
    return (expected * weight + (seen << 16)) // (weight + sum(w for w, _ in near))


def _level(expected: int) -> int:
    expected = max(expected, 1 << 10)
    octave = expected.bit_length() - 1
    fraction = (expected << 16) >> octave
    third = sum(fraction >= edge for edge in (82570, 104032))  # 2**(1/3), 2**(2/3)
    return min(3 * (octave - 10) + third, LEVELS - 1)


def _value(coder: _Coder, level: int, value: int | None) -> int:
    low = low_bits(level)
    known = value is not None
    magnitude = abs(value or 0)
    high, steps = magnitude >> low, 0
    while steps < UNARY and _adaptive(
        coder, level * UNARY + steps, int(high > steps) if known else None
    ):
        steps += 1
    if steps == UNARY:
        high = UNARY - 1 + _golomb(coder, high - UNARY + 1 if known else None)
    else:
        high = steps
    bits = high
    for j in range(low - 1, -1, -1):
        wanted = (magnitude >> j) & 1 if known else None
        if j == low - 1:
            context = FIRST_LOW_BIT + level * UNARY + min(steps, UNARY - 1)
            bits = bits << 1 | _adaptive(coder, context, wanted)
        else:
            bits = bits << 1 | coder.bit(HALF, wanted)
    if bits >= VALUE_LIMIT:
        raise StreamError(f"matrix payload: a value is not below {VALUE_LIMIT}")
    sign = coder.bit(HALF, int((value or 0) < 0) if known else None) if bits else 0
    return -bits if sign else bits


def _golomb(coder: _Coder, rest: int | None) -> int:
    """A number from 1 on: adaptive zeros, a one, then the bits below its leading one."""
    length = 0
    wanted = None if rest is None else rest.bit_length() - 1
    while _adaptive(coder, FIRST_PREFIX + length, None if wanted is None else int(length < wanted)):
        length += 1
        if length == PREFIX:
            raise StreamError(f"matrix payload: a value is not below {VALUE_LIMIT}")
    bits = 1
    for j in range(length - 1, -1, -1):
        bits = bits << 1 | coder.bit(HALF, None if rest is None else (rest >> j) & 1)
    return bits


def _adaptive(coder: _Coder, context: int, bit: int | None) -> int:
    coded = coder.bit(coder.probabilities[context], bit)
    coder.probabilities.adapt(context, coded)
    return coded


def _clip(value: int) -> int:
    return min(abs(value), STATISTIC_LIMIT)
