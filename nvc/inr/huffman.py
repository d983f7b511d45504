"""Canonical Huffman coding of bytes, as the published pipelines code quantised weights."""

from __future__ import annotations

import heapq

import numpy as np

from nvc.entropy.jit import kernel
from nvc.errors import StreamError

ALPHABET = 256
LENGTH_BITS = 5
LONGEST = (1 << LENGTH_BITS) - 1
TABLE_BYTES = ALPHABET * LENGTH_BITS // 8


def encode_bytes(values: np.ndarray) -> bytes:
    """uint8 values of any shape: 160 bytes of code lengths, then the codes, padded to a byte."""
    flat = np.ascontiguousarray(values, dtype=np.uint8).ravel()
    lengths = code_lengths(np.bincount(flat, minlength=ALPHABET))
    codes = _canonical_codes(lengths)
    table = (lengths[:, None] >> np.arange(LENGTH_BITS - 1, -1, -1)) & 1
    count = int(lengths[flat].sum())
    bits = np.zeros(count, dtype=np.uint8)
    _write(flat, codes, lengths, bits)
    return np.packbits(table.astype(np.uint8)).tobytes() + np.packbits(bits).tobytes()


def decode_bytes(payload: bytes, count: int) -> np.ndarray:
    """The (count,) uint8 values encode_bytes() was given.

    Raises StreamError when the lengths are no Huffman code, or bits are missing or left over. At
    least one bit a value is needed, so `count` is bounded by the payload before anything is made.
    """
    if len(payload) < TABLE_BYTES or count > 8 * (len(payload) - TABLE_BYTES):
        raise StreamError("Huffman payload: it is too short")
    raw = np.frombuffer(payload, dtype=np.uint8)
    table = np.unpackbits(raw[:TABLE_BYTES]).reshape(ALPHABET, LENGTH_BITS)
    lengths = table.astype(np.int64) @ (1 << np.arange(LENGTH_BITS - 1, -1, -1))
    used = lengths[lengths > 0]
    if not len(used) or (np.left_shift(1, LONGEST - used).sum() > 1 << LONGEST):
        raise StreamError("Huffman payload: its lengths are no code")
    order = np.lexsort((np.arange(ALPHABET), lengths))
    order = order[lengths[order] > 0].astype(np.uint8)
    counts = np.bincount(used, minlength=LONGEST + 1)
    counts[0] = 0
    bits = np.unpackbits(raw[TABLE_BYTES:])
    values = np.empty(count, dtype=np.uint8)
    end = _read(bits, counts, order, values)
    if end < 0 or len(bits) - end >= 8 or bits[end:].any():
        raise StreamError("Huffman payload: bits are missing or left over")
    return values


def code_lengths(counts: np.ndarray) -> np.ndarray:
    """(256,) int64: the length of each byte's code, 0 where it does not occur; 1 for a lone one."""
    counts = counts.astype(np.int64)
    while True:
        heap = [(int(n), value, (value,)) for value, n in enumerate(counts) if n]
        heapq.heapify(heap)
        lengths = np.zeros(ALPHABET, dtype=np.int64)
        if len(heap) == 1:
            lengths[heap[0][1]] = 1
        while len(heap) > 1:
            one, two = heapq.heappop(heap), heapq.heappop(heap)
            members = one[2] + two[2]
            lengths[list(members)] += 1
            heapq.heappush(heap, (one[0] + two[0], min(one[1], two[1]), members))
        if lengths.max(initial=0) <= LONGEST:
            return lengths
        counts = (counts + 1) // 2


def _canonical_codes(lengths: np.ndarray) -> np.ndarray:
    codes = np.zeros(ALPHABET, dtype=np.int64)
    code, previous = 0, 0
    for value in np.lexsort((np.arange(ALPHABET), lengths)):
        if lengths[value]:
            code <<= int(lengths[value]) - previous
            previous = int(lengths[value])
            codes[value] = code
            code += 1
    return codes


@kernel
def _write(values: np.ndarray, codes: np.ndarray, lengths: np.ndarray, bits: np.ndarray) -> None:
    place = 0
    for value in values:
        length = lengths[value]
        for bit in range(length):
            bits[place + bit] = (codes[value] >> (length - 1 - bit)) & 1
        place += length


@kernel
def _read(bits: np.ndarray, counts: np.ndarray, order: np.ndarray, values: np.ndarray) -> int:
    """The position behind the last code, or -1 where none fits."""
    place = 0
    for number in range(len(values)):
        code = first = index = 0
        length = 1
        while True:
            if place >= len(bits) or length >= len(counts):
                return -1
            code |= bits[place]
            place += 1
            count = counts[length]
            if code - first < count:
                values[number] = order[index + code - first]
                break
            index += count
            first = (first + count) << 1
            code <<= 1
            length += 1
    return place
