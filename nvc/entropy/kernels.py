"""The compiled loops of the rANS coder. rans.py calls them; rans_reference.py says what they do.

Arithmetic on states is in uint64 throughout: numba turns a mix of int64 and uint64 into floats.
"""

import numpy as np

from nvc.entropy.jit import kernel

# Copies of those in tables.py: see the note in jit.py on constants.
PRECISION = 14
SYMBOL_LIMIT = 1 << 24
ESCAPE_VALUE = -(1 << 31)

_U = np.uint64
_0, _1, _2, _4, _8 = _U(0), _U(1), _U(2), _U(4), _U(8)
_PRECISION = _U(PRECISION)
_TOTAL = _U(1 << PRECISION)
_SLOT_MASK = _U((1 << PRECISION) - 1)
_BUCKET_SHIFT = _U(PRECISION - 8)
_RENORM = _U(32 - PRECISION)
_RECIPROCAL = _U(46)
_16, _63 = _U(16), _U(63)
_WORD_MASK = _U(0xFFFF)
_LOWEST = _U(1 << 16)
_MAX_ZEROS = 25  # leading zeros of the longest Exp-Golomb code a symbol can need

TRUNCATED, BAD_ESCAPE = -1, -2  # what get_escapes returns instead of a position


@kernel
def select(symbols, indexes, skip_below, coded_symbols, coded_indexes):  # type: ignore[no-untyped-def]
    """Keep the positions that are coded; their count, or -1 when a skipped symbol is not 0."""
    count = np.int64(0)
    skipped = np.int64(0)
    for i in range(len(indexes)):
        keep = np.int64(indexes[i] >= skip_below)
        coded_symbols[count] = symbols[i]
        coded_indexes[count] = indexes[i]
        count += keep
        skipped |= symbols[i] & (keep - 1)  # masks, not branches: they could not be predicted
    return count if skipped == 0 else -1


@kernel
def locate(indexes, skip_below, positions, coded_indexes):  # type: ignore[no-untyped-def]
    """Positions that are coded and their indexes; their count."""
    count = np.int64(0)
    for i in range(len(indexes)):
        positions[count] = i
        coded_indexes[count] = indexes[i]
        count += np.int64(indexes[i] >= skip_below)
    return count


@kernel
def spread(coded, positions, symbols):  # type: ignore[no-untyped-def]
    """Put the decoded symbols where they belong."""
    for i in range(len(coded)):
        symbols[positions[i]] = coded[i]


@kernel
def estimate(symbols, indexes, layout, costs, step):  # type: ignore[no-untyped-def]
    """Code length of every ``step``-th symbol in 1/16 bit; an escape counts 16 bits more."""
    total = 0
    for i in range(0, len(symbols), step):
        offset, size, start = layout[indexes[i], 0], layout[indexes[i], 1], layout[indexes[i], 2]
        entry = symbols[i] - offset
        if 0 <= entry < size:
            total += costs[start + entry]
        else:
            total += costs[start + size] + 256
    return total


@kernel
def encode(symbols, indexes, layout, entries, states, words, escaped):  # type: ignore[no-untyped-def]
    """Code symbols from last to first; ``words`` has room for one a symbol.

    Returns the words written and how many positions went to ``escaped`` (last one first).
    """
    count = len(symbols)
    lane_mask = len(states) - 1
    position = _0
    escapes = 0
    for i in range(count - 1, -1, -1):
        table = _U(indexes[i])
        size = np.uint32(layout[table, _1])
        entry = np.uint32(symbols[i] - layout[table, _0])  # below the table wraps round to large
        if entry >= size:
            entry = size
            escaped[escapes] = i
            escapes += 1
        row = _U(layout[table, _2]) + _U(entry)
        reciprocal = entries[row, _0]
        both = entries[row, _1]
        frequency = both & _WORD_MASK
        lane = _U(i & lane_mask)
        state = states[lane]
        # 1 when state >= frequency << 18: a branch here would be mispredicted at every word.
        full = ((frequency << _RENORM) - _1 - state) >> _63
        words[position] = np.uint16(state)
        position += full
        state = state >> (full << _4)
        quotient = (state * reciprocal) >> _RECIPROCAL
        states[lane] = state + quotient * (_TOTAL - frequency) + (both >> _16)
    return np.int64(position), escapes


@kernel
def decode(  # type: ignore[no-untyped-def]
    words, position, floor, number, indexes, entries, buckets, states, symbols, escaped
):
    """Decode into ``symbols``, taking words from ``position`` downwards to ``floor + 1``.

    ``number`` is how many symbols came before. Returns where the next word is, or -1 when there
    are too few, and the escapes found. The entry at ``floor`` (0 or more) may be read, though not
    used: a word is read before it is known to be needed.
    """
    lane_mask = len(states) - 1
    next_lane = number & lane_mask  # carried along: number + i in the loop is 8 % slower
    escapes = 0
    for i in range(len(indexes)):
        lane = _U(next_lane)
        next_lane = (next_lane + 1) & lane_mask
        state = states[lane]
        slot = state & _SLOT_MASK
        row = _U(buckets[(_U(indexes[i]) << _8) + (slot >> _BUCKET_SHIFT)])
        entry = _U(entries[row])
        frequency = entry & _WORD_MASK
        within = slot - ((entry >> _16) & _WORD_MASK)
        while within >= frequency:  # ends in the table: its frequencies add up to every slot
            row += _1
            entry = _U(entries[row])
            frequency = entry & _WORD_MASK
            within = slot - ((entry >> _16) & _WORD_MASK)
        state = frequency * (state >> _PRECISION) + within
        empty = state < _LOWEST
        word = _U(words[_U(position)])
        states[lane] = (state << _16) | word if empty else state
        position -= np.int64(empty)
        if position < floor:
            return -1, escapes
        value = np.int32(np.int64(entry) >> 32)
        symbols[i] = value
        if value == ESCAPE_VALUE:
            escaped[escapes] = i
            escapes += 1
    return position, escapes


@kernel
def put_escapes(symbols, indexes, layout, orders, escaped, output):  # type: ignore[no-untyped-def]
    """Write the escaped symbols at ``escaped[::-1]``; the bytes used, or -1 when one is too large.

    ``output`` is zeroed and holds 8 bytes an escape.
    """
    bit = np.int64(0)
    for r in range(len(escaped) - 1, -1, -1):
        i = escaped[r]
        table = indexes[i]
        symbol = np.int64(symbols[i])
        if symbol >= SYMBOL_LIMIT or symbol <= -SYMBOL_LIMIT:
            return -1
        offset, size = np.int64(layout[table, 0]), np.int64(layout[table, 1])
        below = symbol < offset
        distance = offset - 1 - symbol if below else symbol - offset - size
        order = np.int64(orders[table])
        code = distance + (1 << order)
        length = np.int64(orders[table])
        while code >> (length + 1):
            length += 1
        zeros = length - order
        # Side bit, zeros, then the code from its leading 1 on.
        if below:
            output[bit >> 3] |= 128 >> (bit & 7)
        bit += 1 + zeros
        for j in range(length, -1, -1):
            if (code >> j) & 1:
                output[bit >> 3] |= 128 >> (bit & 7)
            bit += 1
    return (bit + 7) >> 3


@kernel
def get_escapes(data, bit, symbols, indexes, layout, orders, escaped):  # type: ignore[no-untyped-def]
    """Read the symbols at ``escaped`` from position ``bit`` of ``data`` on.

    Returns the position of the bit after them, TRUNCATED, or BAD_ESCAPE (too long or too large).
    """
    limit = 8 * len(data)
    for r in range(len(escaped)):
        i = escaped[r]
        table = indexes[i]
        order = np.int64(orders[table])
        side = -1
        zeros = np.int64(0)
        code = np.int64(0)
        remaining = np.int64(-1)  # bits of the code still to read, once its leading 1 has been seen
        while remaining != 0:
            if bit >= limit:
                return TRUNCATED
            value = (data[bit >> 3] >> (7 - (bit & 7))) & 1
            bit += 1
            if side < 0:
                side = value
            elif remaining > 0:
                code = code << 1 | value
                remaining -= 1
            elif value:
                code = np.int64(1)
                remaining = zeros + order
            else:
                zeros += 1
                if zeros > _MAX_ZEROS:
                    return BAD_ESCAPE
        distance = code - (1 << order)
        offset, size = np.int64(layout[table, 0]), np.int64(layout[table, 1])
        symbol = offset - 1 - distance if side else offset + size + distance
        if symbol >= SYMBOL_LIMIT or symbol <= -SYMBOL_LIMIT:
            return BAD_ESCAPE
        symbols[i] = symbol
    return bit
