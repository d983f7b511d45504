"""rANS: exact round trips, the same bytes from both implementations, and no harm from any bytes."""

import ast
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvc.entropy import adaptive_kernels, jit, kernels, rans, rans_reference
from nvc.entropy import tables as tables_module
from nvc.entropy.payload import START, lane_count
from nvc.entropy.tables import (
    MAX_SIZE,
    SYMBOL_LIMIT,
    Tables,
    gaussian_tables,
    laplace_tables,
    scale_grid,
    tables_from_counts,
)
from nvc.errors import StreamError

EXTREME = SYMBOL_LIMIT - 1


def draw(count: int, *, seed: int = 0, spread: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Symbols and indexes over every scale; spread > 1 makes outliers of many symbols."""
    rng = np.random.default_rng(seed)
    indexes = rng.integers(0, 64, count).astype(np.uint8)
    sigma = scale_grid()[indexes] / 2**20
    return np.round(rng.normal(0, 1, count) * sigma * spread).astype(np.int32), indexes


def tables_with_escapes() -> Tables:
    """Small tables away from zero, so that most symbols escape on one side or the other."""
    return tables_from_counts(
        [(5, np.array([3, 0, 9])), (-40, np.array([1])), (-EXTREME, np.ones(MAX_SIZE, int))]
    )


values = st.one_of(st.integers(-3, 3), st.integers(-300, 300), st.integers(-EXTREME, EXTREME))
symbol_lists = st.lists(st.tuples(values, st.integers(0, 2)), max_size=60)


@settings(max_examples=150, deadline=None)
@given(pairs=symbol_lists, skip_below=st.integers(0, 3), which=st.sampled_from("gle"))
def test_any_symbols_come_back_and_both_coders_give_the_same_bytes(pairs, skip_below, which):
    tables = {"g": gaussian_tables, "l": laplace_tables, "e": tables_with_escapes}[which]()
    indexes = np.array([i for _, i in pairs], dtype=np.uint8)
    symbols = np.array([s for s, _ in pairs], dtype=np.int32)
    symbols[indexes < skip_below] = 0
    payload = rans.encode(symbols, indexes, tables, skip_below=skip_below)
    assert payload == rans_reference.encode(symbols, indexes, tables, skip_below=skip_below)
    for coder in (rans, rans_reference):
        decoded = coder.decode(payload, indexes, tables, skip_below=skip_below)
        assert decoded.dtype == np.int32
        np.testing.assert_array_equal(decoded, symbols)


@pytest.mark.parametrize(("count", "lanes"), [(400, 1), (7_000, 2), (12_000, 4), (40_000, 8)])
@pytest.mark.parametrize("spread", [1.0, 5.0])
def test_every_lane_count_agrees_with_the_reference(count, lanes, spread):
    symbols, indexes = draw(count if spread == 1 else count // 3, spread=spread)
    for skip_below in (0, 10):
        symbols[indexes < skip_below] = 0
        payload = rans.encode(symbols, indexes, gaussian_tables(), skip_below=skip_below)
        assert 1 << (payload[0] & 3) == lanes
        assert payload == rans_reference.encode(
            symbols, indexes, gaussian_tables(), skip_below=skip_below
        )
        for coder in (rans, rans_reference):
            decoded = coder.decode(payload, indexes, gaussian_tables(), skip_below=skip_below)
            np.testing.assert_array_equal(decoded, symbols)


@settings(max_examples=150, deadline=None)
@given(
    pairs=symbol_lists,
    cuts=st.lists(st.integers(0, 60), max_size=4),
    skip_below=st.integers(0, 3),
    which=st.sampled_from("gle"),
)
def test_any_split_into_parts_decodes_to_the_same_symbols(pairs, cuts, skip_below, which):
    tables = {"g": gaussian_tables, "l": laplace_tables, "e": tables_with_escapes}[which]()
    indexes = np.array([i for _, i in pairs], dtype=np.uint8)
    symbols = np.array([s for s, _ in pairs], dtype=np.int32)
    symbols[indexes < skip_below] = 0
    payload = rans.encode(symbols, indexes, tables, skip_below=skip_below)
    for coder in (rans, rans_reference):
        decoder = coder.Decoder(memoryview(payload), tables, skip_below=skip_below)
        for part, expected in zip(parts(indexes, cuts), parts(symbols, cuts), strict=True):
            decoded = decoder.decode(part)
            assert decoded.dtype == np.int32
            np.testing.assert_array_equal(decoded, expected)  # escapes too, before the end
        decoder.finish()


def parts(array: np.ndarray, cuts: list[int]) -> list[np.ndarray]:
    return np.split(array, sorted(min(cut, len(array)) for cut in cuts))


@pytest.mark.parametrize("spread", [1.0, 5.0])
def test_lanes_continue_from_part_to_part(spread):
    symbols, indexes = draw(40_000, spread=spread)
    symbols[indexes < 10] = 0
    payload = rans.encode(symbols, indexes, gaussian_tables(), skip_below=10)
    assert payload[0] & 3 == 3  # 8 lanes
    for coder in (rans, rans_reference):
        decoder = coder.Decoder(payload, gaussian_tables(), skip_below=10)
        for begin, end in ((0, 1), (1, 4), (4, 20_001), (20_001, 20_001), (20_001, 40_000)):
            decoded = decoder.decode(indexes[begin:end].reshape(1, -1))
            np.testing.assert_array_equal(decoded, symbols[None, begin:end])
        decoder.finish()


@pytest.mark.parametrize("coder", [rans, rans_reference])
def test_decoder_that_is_not_done_says_so(coder):
    symbols, indexes = draw(50, seed=3)
    decoder = coder.Decoder(rans.encode(symbols, indexes, gaussian_tables()), gaussian_tables())
    with pytest.raises(StreamError, match="nothing is coded"):
        decoder.finish()
    decoder.decode(indexes[:49])
    with pytest.raises(StreamError, match="does not match"):
        decoder.finish()
    decoder.decode(indexes[49:])
    decoder.finish()
    with pytest.raises(ValueError, match="between 0 and 63"):
        decoder.decode(np.array([64]))


def test_shape_dtype_and_readonly_inputs_are_taken_as_they_come():
    symbols, indexes = draw(600)
    payload = rans.encode(symbols, indexes, gaussian_tables())
    shaped = np.asfortranarray(symbols.reshape(20, 30).astype(np.int64))
    read_only = indexes.reshape(20, 30).copy()
    read_only.flags.writeable = False
    assert rans.encode(shaped, read_only, gaussian_tables()) == payload
    decoded = rans.decode(memoryview(payload), read_only, gaussian_tables())
    np.testing.assert_array_equal(decoded, shaped)


def test_payload_without_information_is_empty():
    nothing = np.zeros(0, dtype=np.int32)
    assert rans.encode(nothing, nothing.astype(np.uint8), gaussian_tables()) == b""
    zeros, indexes = np.zeros(500, dtype=np.int32), np.full(500, 9, dtype=np.uint8)
    assert rans.encode(zeros, indexes, gaussian_tables()) == b""
    assert rans.encode(zeros, indexes, gaussian_tables(), skip_below=64) == b""
    np.testing.assert_array_equal(rans.decode(b"", indexes, gaussian_tables()), zeros)
    for coder in (rans, rans_reference):
        decoder = coder.Decoder(b"", gaussian_tables())
        for shape in ((20, 25), (500,), (0,)):
            decoded = decoder.decode(np.full(shape, 9, dtype=np.uint8))
            np.testing.assert_array_equal(decoded, np.zeros(shape, dtype=np.int32))
        decoder.finish()
    with pytest.raises(StreamError, match="nothing is coded"):
        rans.decode(b"\x04\0\0\x01", indexes, gaussian_tables(), skip_below=64)


def exact_bits(symbols: np.ndarray, indexes: np.ndarray, tables: Tables) -> float:
    rows = tables.starts[indexes] + symbols - tables.offsets[indexes]
    return float(np.sum(14 - np.log2(tables.frequencies[rows])))


def test_small_payload_costs_four_bytes_over_its_entropy():
    extra = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        indexes = rng.integers(15, 45, 30).astype(np.uint8)
        sigma = scale_grid()[indexes] / 2**20
        symbols = np.clip(np.round(rng.normal(0, 1, 30) * sigma), -3, 3).astype(np.int32)
        symbols = np.where(np.abs(symbols) > 2 * sigma, 0, symbols)
        payload = rans.encode(symbols, indexes, gaussian_tables())
        extra.append(len(payload) - exact_bits(symbols, indexes, gaussian_tables()) / 8)
    assert max(extra) <= 4.5
    assert np.mean(extra) <= 3.6


def test_large_payload_stays_within_a_quarter_percent():
    for count in (3_000, 9_000, 60_000):
        symbols, indexes = draw(count)
        inside = (symbols >= gaussian_tables().offsets[indexes]) & (
            symbols <= -gaussian_tables().offsets[indexes]
        )
        symbols = np.where(inside, symbols, 0)
        size = len(rans.encode(symbols, indexes, gaussian_tables()))
        assert size <= exact_bits(symbols, indexes, gaussian_tables()) / 8 * 1.0030


def test_lane_overhead_is_bounded():
    assert [lane_count(n) for n in (0, 2399, 2400, 4800, 9600, 10**9)] == [1, 1, 2, 4, 8, 8]


@pytest.mark.parametrize("coder", [rans, rans_reference])
def test_arguments_out_of_bounds_are_named(coder):
    one, zero = np.ones(2, dtype=np.int32), np.zeros(2, dtype=np.uint8)
    tables = gaussian_tables()
    with pytest.raises(ValueError, match="less than 16777216"):
        coder.encode(one * SYMBOL_LIMIT, zero, tables)
    with pytest.raises(ValueError, match="less than 16777216"):
        coder.encode(one * -(2**31), zero, tables)
    with pytest.raises(ValueError, match="less than 16777216"):
        coder.encode(one.astype(np.int64) << 40, zero, tables)
    with pytest.raises(ValueError, match="skipped must be 0"):
        coder.encode(one, zero, tables, skip_below=1)
    with pytest.raises(ValueError, match="between 0 and 63"):
        coder.encode(one, zero + 64, tables)
    with pytest.raises(ValueError, match="do not match"):
        coder.encode(one, zero[:1], tables)
    with pytest.raises(ValueError, match="must be integers"):
        coder.encode(one * 0.5, zero, tables)
    with pytest.raises(ValueError, match="must be integers"):
        coder.decode(b"", zero * 0.5, tables)
    with pytest.raises(ValueError, match="skip_below"):
        coder.decode(b"", zero, tables, skip_below=65)


def outcome(coder, payload: bytes, split: list[np.ndarray], tables: Tables, skip_below: int = 0):
    """What each part decodes to, and the error that ends it, if any."""
    decoded = []
    try:
        decoder = coder.Decoder(payload, tables, skip_below=skip_below)
        for indexes in split:
            decoded.append(decoder.decode(indexes).tolist())
        decoder.finish()
    except StreamError as error:
        decoded.append(str(error))
    return decoded


@settings(max_examples=300, deadline=None)
@given(
    payload=st.binary(max_size=80),
    head=st.sampled_from([None, 0, 1, 2, 3, 4, 5, 6, 7]),
    indexes=st.lists(st.integers(0, 2), max_size=40),
    cuts=st.lists(st.integers(0, 40), max_size=4),
    skip_below=st.integers(0, 2),
    escapes=st.booleans(),
)
def test_random_bytes_give_symbols_or_a_stream_error(
    payload, head, indexes, cuts, skip_below, escapes
):
    tables = tables_with_escapes() if escapes else gaussian_tables()
    data = payload if head is None else bytes([head]) + payload
    split = parts(np.array(indexes, dtype=np.uint8), cuts)
    first = outcome(rans, data, split, tables, skip_below)
    assert first == outcome(rans_reference, data, split, tables, skip_below)


@settings(max_examples=200, deadline=None)
@given(
    pairs=st.lists(st.tuples(values, st.integers(0, 2)), min_size=1, max_size=30),
    cuts=st.lists(st.integers(0, 30), max_size=3),
    edits=st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), min_size=1, max_size=4),
    change=st.integers(-3, 3),
)
def test_damaged_bytes_fare_alike_in_both_coders(pairs, cuts, edits, change):
    """Deeper than random bytes: many parts decode before words and escapes collide."""
    tables = tables_with_escapes()
    indexes = np.array([i for _, i in pairs], dtype=np.uint8)
    data = bytearray(rans.encode(np.array([s for s, _ in pairs]), indexes, tables))
    data = data[:change] if change < 0 else data + bytes(change)
    for at, value in edits:
        if data:
            data[at % len(data)] = value
    split = parts(indexes, cuts)
    first = outcome(rans, bytes(data), split, tables)
    assert first == outcome(rans_reference, bytes(data), split, tables)


def test_damage_is_noticed():
    """Truncation, extension, wrong tables and wrong indexes never pass; flipped bits hardly do."""
    rng = np.random.default_rng(1)
    for spread in (1.0, 6.0):
        symbols, indexes = draw(300, spread=spread)
        payload = rans.encode(symbols, indexes, gaussian_tables())
        damaged = [payload[:n] for n in range(1, len(payload))] + [payload + b"\0"]
        for data in damaged:
            with pytest.raises(StreamError):
                rans.decode(data, indexes, gaussian_tables())
        with pytest.raises(StreamError):
            rans.decode(payload, indexes, laplace_tables())
        off = indexes.copy()
        off[150] ^= 1
        with pytest.raises(StreamError):
            rans.decode(payload, off, gaussian_tables())
        slipped = 0
        for _ in range(300):
            data = bytearray(payload)
            data[rng.integers(len(data))] ^= 1 << rng.integers(8)
            result = outcome(rans, bytes(data), [indexes], gaussian_tables())
            slipped += not isinstance(result[-1], str)
        # A flipped bit of an escaped symbol is another escaped symbol: only rANS checks itself.
        assert spread > 1 or slipped == 0


@pytest.mark.parametrize("coder", [rans, rans_reference])
def test_escape_that_never_ends_is_refused(coder):
    tables = tables_with_escapes()
    symbols, indexes = np.array([EXTREME], dtype=np.int32), np.zeros(1, dtype=np.uint8)
    payload = rans.encode(symbols, indexes, tables)
    start = payload[:5]  # head and a state of 4 bytes; the symbol needs no word
    assert payload[0] == 0
    with pytest.raises(StreamError, match="escaped symbol is out of bounds"):
        coder.decode(start + bytes(8), indexes, tables)
    with pytest.raises(StreamError, match="escaped symbol is cut off"):
        coder.decode(start + bytes(1), indexes, tables)
    with pytest.raises(StreamError, match="bytes left over"):
        coder.decode(payload + b"\0", indexes, tables)
    assert payload[-1] & 1 == 0
    with pytest.raises(StreamError, match="padding is not zero"):
        coder.decode(payload[:-1] + bytes([payload[-1] | 1]), indexes, tables)


@pytest.mark.parametrize("coder", [rans, rans_reference])
def test_words_and_escapes_never_overlap(coder):
    """Whichever comes second in a byte is refused, in a later part as in the same one."""
    tables = tables_with_escapes()
    symbols = np.array([EXTREME, *[5, 7] * 40, EXTREME], dtype=np.int32)
    indexes = np.zeros(len(symbols), dtype=np.uint8)
    payload = rans.encode(symbols, indexes, tables)
    begin = 5 - (payload[0] >> 2)
    end = begin + (2 * len(rans_reference._escape_bits(tables, EXTREME, 0)) + 7) // 8
    assert end + 4 <= len(payload)  # two words at least
    last = len(symbols) - 1
    for split in ([indexes], [indexes[:1], indexes[1:]], [indexes[:last], indexes[last:]]):
        fewer_escapes = outcome(coder, payload[: end - 1] + payload[end:], split, tables)
        assert fewer_escapes[-1] == "entropy payload: an escaped symbol is cut off"
        assert len(fewer_escapes) == len(split)  # noticed before finish()
    only_escapes = payload[:end]
    result = outcome(coder, only_escapes, [indexes[:1], indexes[1:]], tables)
    assert result[0] == [EXTREME]
    assert result[1:] == ["entropy payload: it ends too early"]


def test_quotient_by_reciprocal_is_exact():
    """encode() divides by multiplying: exact for every frequency at the ends of its state range."""
    frequencies = np.arange(1, 1 << 14, dtype=np.uint64)
    reciprocals = ((1 << 46) + frequencies - np.uint64(1)) // frequencies
    largest = (frequencies << np.uint64(18)) - np.uint64(1)
    multiples = largest - largest % frequencies
    for state in (largest, multiples, multiples - np.uint64(1), np.full_like(largest, START)):
        state = np.minimum(state, largest)
        np.testing.assert_array_equal((state * reciprocals) >> np.uint64(46), state // frequencies)


def test_kernels_own_constants_are_those_of_the_tables():
    for name in ("PRECISION", "SYMBOL_LIMIT", "ESCAPE_VALUE"):
        assert getattr(kernels, name) == getattr(tables_module, name)


@pytest.mark.parametrize("module", [kernels, adaptive_kernels])
def test_kernels_use_nothing_from_other_files(module):
    """numba's cache would not notice a change there."""
    tree = ast.parse(Path(module.__file__).read_text())
    imported = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {alias.name for node in imported for alias in node.names}
    assert names - {"inlined"} == {"numpy", "kernel"}


def test_kernels_work_where_numba_cannot_keep_a_cache(monkeypatch):
    def refuse_cache(*, nogil: bool, cache: bool = False):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        assert nogil
        return lambda function: ("compiled", function)

    monkeypatch.setattr(jit, "njit", refuse_cache)
    assert jit.kernel(len) == ("compiled", len)
