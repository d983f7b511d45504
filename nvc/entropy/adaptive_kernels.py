"""The compiled loops of the adaptive matrix coder; everything in int64.

adaptive_reference.py says the same in plain Python. What is written here are digits of base 256
that may each still hold a carry of one, uint16; carries go where they belong at the end.
"""

import numpy as np

from nvc.entropy.jit import inlined, kernel

# Here, not in adaptive_model.py: see the note in jit.py on constants.
LEVELS = 60  # expected magnitudes from 2**-6 on, three to the octave
LOW_BITS_BIAS = 7  # octaves of levels in which a magnitude is all unary
UNARY = 24  # steps of the unary code before the Exp-Golomb escape
PREFIX = 25  # leading zeros an escape may have
VALUE_LIMIT = 1 << 24  # every value v satisfies |v| < VALUE_LIMIT
STATISTIC_LIMIT = (1 << 16) - 1  # magnitudes count at most this much in the statistics
PRIOR_WEIGHT = 8  # values the first guess of the mean magnitude counts for
FAST_LIMIT, SLOW_LIMIT = 128, 1024  # observations after which a rate stops falling
CERTAIN = 1 << 12  # adaptive probabilities stay within CERTAIN .. 2**24 - CERTAIN
HALF = 1 << 15
FIRST_LOW_BIT = LEVELS * UNARY  # contexts before it: the unary code, by level and step
FIRST_PREFIX = 2 * LEVELS * UNARY
CONTEXTS = FIRST_PREFIX + PREFIX

_SHARES = (1 << 17) // (2 * np.arange(SLOW_LIMIT + 1) + 3)  # of a new bit by count, times 2**16
_TOP = 1 << 24  # the range is kept at or above this
_FULL = (1 << 32) - 1
_CUBE_ROOT_2, _CUBE_ROOT_4 = 82570, 104032  # times 2**16
_LOW, _RANGE, _POSITION = 0, 1, 2  # encoder state
_CODE = 0  # decoder state, with _RANGE and _POSITION
CODER_SIZE = 3

BAD_VALUE = -1


@kernel
def _clip(value):  # type: ignore[no-untyped-def]
    """What a value adds to the statistics."""
    return min(abs(int(value)), STATISTIC_LIMIT)


@kernel
def _level(values, row, column, row_sum, column_sum, total, count, options):  # type: ignore[no-untyped-def]
    """Context of a value: the log of the magnitude expected from those before it."""
    mean = ((total << 16) + options[0] * PRIOR_WEIGHT * 4096) // (count + PRIOR_WEIGHT)
    mean = max(mean, 1)
    expected = mean
    if options[1]:
        expected = ((row_sum << 16) + options[1] * mean) // (column + options[1])
    if options[2]:
        own = ((column_sum << 16) + options[2] * mean) // (row + options[2])
        expected = expected * min((own << 8) // mean, 1 << 16) >> 8
    if options[3]:
        weight = options[3]
        seen = np.int64(0)
        if column > 0:
            seen += 2 * _clip(values[row, column - 1])
            weight += 2
        if column > 1:
            seen += _clip(values[row, column - 2])
            weight += 1
        if row > 0:
            seen += 2 * _clip(values[row - 1, column])
            weight += 2
        expected = (expected * options[3] + (seen << 16)) // weight
    expected = max(expected, 1 << 10)
    octave = 0
    for shift in (32, 16, 8, 4, 2, 1):
        if expected >> (octave + shift):
            octave += shift
    fraction = (expected << 16) >> octave
    third = int(fraction >= _CUBE_ROOT_2) + int(fraction >= _CUBE_ROOT_4)
    return min(3 * (octave - 10) + third, LEVELS - 1)


@inlined
def _probability(model, context):  # type: ignore[no-untyped-def]
    return (int(model[context, 0]) + int(model[context, 1])) >> 9


@inlined
def _moved(old, bit, share):  # type: ignore[no-untyped-def]
    """A probability after a bit."""
    new = old + ((((bit << 24) - old) * share) >> 16)
    return min(max(new, CERTAIN), (1 << 24) - CERTAIN)


@inlined
def _adapt(model, context, bit):  # type: ignore[no-untyped-def]
    count = int(model[context, 2])
    fast, slow = np.uint64(min(count, FAST_LIMIT)), np.uint64(count)  # no index from the end
    model[context, 0] = _moved(int(model[context, 0]), bit, _SHARES[fast])
    model[context, 1] = _moved(int(model[context, 1]), bit, _SHARES[slow])
    model[context, 2] = min(count + 1, SLOW_LIMIT)


@inlined
def _shift(coder, digits):  # type: ignore[no-untyped-def]
    """Move the top byte of low out, and with it the carry, which is the digit's before."""
    low = coder[_LOW]
    position = coder[_POSITION]
    digits[np.uint64(position)] = low >> 24
    coder[_POSITION] = position + 1
    coder[_LOW] = (low & 0x00FFFFFF) << 8


@inlined
def put(coder, digits, probability, bit):  # type: ignore[no-untyped-def]
    bound = (coder[_RANGE] >> 16) * probability
    if bit:
        coder[_RANGE] = bound
    else:
        coder[_LOW] += bound
        coder[_RANGE] -= bound
    while coder[_RANGE] < _TOP:
        coder[_RANGE] <<= 8
        _shift(coder, digits)


@inlined
def get(coder, data, probability):  # type: ignore[no-untyped-def]
    bound = (coder[_RANGE] >> 16) * probability
    bit = np.int64(coder[_CODE] < bound)
    if bit:
        coder[_RANGE] = bound
    else:
        coder[_CODE] -= bound
        coder[_RANGE] -= bound
    while coder[_RANGE] < _TOP:
        coder[_RANGE] <<= 8
        position = coder[_POSITION]
        byte = np.int64(data[position]) if position < len(data) else np.int64(0)
        coder[_CODE] = coder[_CODE] << 8 | byte
        coder[_POSITION] = position + 1
    return bit


@kernel
def start_writing(coder):  # type: ignore[no-untyped-def]
    """Make a coder of zeros ready for ``put``."""
    coder[_RANGE] = _FULL


@kernel
def finish_writing(coder, digits):  # type: ignore[no-untyped-def]
    """The bytes of these digits, after the number of the range that ends in the most zero bytes."""
    highest = coder[_LOW] + coder[_RANGE] - 1
    for bits in (24, 16, 8, 0):
        rounded = (coder[_LOW] + (1 << bits) - 1) >> bits << bits
        if rounded <= highest:
            coder[_LOW] = rounded
            break
    for _ in range(4):
        _shift(coder, digits)
    result = np.empty(coder[_POSITION], np.uint8)
    carry = np.int64(0)
    for i in range(len(result) - 1, -1, -1):
        digit = np.int64(digits[i]) + carry
        result[i] = digit & 0xFF
        carry = digit >> 8
    return result


@kernel
def start_reading(coder, data):  # type: ignore[no-untyped-def]
    """Make a coder of zeros ready for ``get``; False when no encoder starts like this."""
    coder[_RANGE] = _FULL
    for i in range(4):
        coder[_CODE] = coder[_CODE] << 8 | (np.int64(data[i]) if i < len(data) else np.int64(0))
    coder[_POSITION] = 4
    return coder[_CODE] != _FULL


@kernel
def bytes_read(coder):  # type: ignore[no-untyped-def]
    """How far a reading coder has looked into its data, zeros past the end included."""
    return coder[_POSITION]


@inlined
def put_adaptive(coder, digits, model, context, bit):  # type: ignore[no-untyped-def]
    put(coder, digits, _probability(model, context), bit)
    _adapt(model, context, bit)


@inlined
def get_adaptive(coder, data, model, context):  # type: ignore[no-untyped-def]
    bit = get(coder, data, _probability(model, context))
    _adapt(model, context, bit)
    return bit


@kernel
def encode(values, choice, options, choices, model, digits):  # type: ignore[no-untyped-def]
    """The bytes, (n,) uint8; none where there is no room for their digits."""
    rows, columns = values.shape
    coder = np.zeros(CODER_SIZE, dtype=np.int64)
    start_writing(coder)
    for field in range(len(choice)):
        for step in range(choice[field] + 1):
            if step < choices[field] - 1:
                put(coder, digits, HALF, np.int64(step < choice[field]))
    column_sums = np.zeros(columns, dtype=np.int64)
    total = np.int64(0)
    for row in range(rows):
        row_sum = np.int64(0)
        for column in range(columns):
            if coder[_POSITION] + 128 > len(digits):
                return np.empty(0, np.uint8)
            value = int(values[row, column])
            count = row * columns + column
            level = _level(values, row, column, row_sum, column_sums[column], total, count, options)
            magnitude = abs(value)
            low = max(0, level // 3 - LOW_BITS_BIAS)
            steps = min(magnitude >> low, UNARY)
            for step in range(min(steps + 1, UNARY)):
                put_adaptive(coder, digits, model, level * UNARY + step, np.int64(step < steps))
            if steps == UNARY:
                rest = (magnitude >> low) - UNARY + 1
                length = 0
                while rest >> (length + 1):
                    length += 1
                for zero in range(length + 1):
                    put_adaptive(coder, digits, model, FIRST_PREFIX + zero, np.int64(zero < length))
                for j in range(length - 1, -1, -1):
                    put(coder, digits, HALF, (rest >> j) & 1)
            if low:
                context = FIRST_LOW_BIT + level * UNARY + min(steps, UNARY - 1)
                put_adaptive(coder, digits, model, context, (magnitude >> (low - 1)) & 1)
                for j in range(low - 2, -1, -1):
                    put(coder, digits, HALF, (magnitude >> j) & 1)
            if magnitude:
                put(coder, digits, HALF, np.int64(value < 0))
            clipped = _clip(value)
            row_sum += clipped
            column_sums[column] += clipped
            total += clipped
    return finish_writing(coder, digits)


@kernel
def decode_choice(coder, data, choices, choice):  # type: ignore[no-untyped-def]
    """Start ``coder`` on ``data`` and read the options; False when no encoder starts like this."""
    if not start_reading(coder, data):
        return False
    for field in range(len(choice)):
        while choice[field] < choices[field] - 1 and get(coder, data, HALF):
            choice[field] += 1
    return True


@kernel
def decode(coder, data, options, model, values):  # type: ignore[no-untyped-def]
    """Fill ``values``; the bytes looked at, or BAD_VALUE. Past its end, data reads as zeros."""
    rows, columns = values.shape
    column_sums = np.zeros(columns, dtype=np.int64)
    total = np.int64(0)
    for row in range(rows):
        row_sum = np.int64(0)
        for column in range(columns):
            count = row * columns + column
            level = _level(values, row, column, row_sum, column_sums[column], total, count, options)
            low = max(0, level // 3 - LOW_BITS_BIAS)
            steps = 0
            while steps < UNARY and get_adaptive(coder, data, model, level * UNARY + steps):
                steps += 1
            magnitude = np.int64(steps)
            if steps == UNARY:
                length = 0
                while get_adaptive(coder, data, model, FIRST_PREFIX + length):
                    length += 1
                    if length == PREFIX:
                        return BAD_VALUE
                rest = np.int64(1)
                for _ in range(length):
                    rest = rest << 1 | get(coder, data, HALF)
                magnitude += rest - 1
            if low:
                context = FIRST_LOW_BIT + level * UNARY + min(steps, UNARY - 1)
                magnitude = magnitude << 1 | get_adaptive(coder, data, model, context)
                for _ in range(low - 1):
                    magnitude = magnitude << 1 | get(coder, data, HALF)
            if magnitude >= VALUE_LIMIT:
                return BAD_VALUE
            negative = magnitude > 0 and get(coder, data, HALF)
            values[row, column] = -magnitude if negative else magnitude
            clipped = _clip(magnitude)
            row_sum += clipped
            column_sums[column] += clipped
            total += clipped
    return coder[_POSITION]
