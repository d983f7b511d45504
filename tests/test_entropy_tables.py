"""Integer tables: pinned for ever, close to the distributions they stand for, safe to build."""

import hashlib
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvc.entropy.adaptive_model import first_probabilities
from nvc.entropy.tables import (
    ESCAPE_VALUE,
    MAX_SIZE,
    SCALE_COUNT,
    Tables,
    gaussian_tables,
    laplace_tables,
    scale_grid,
    tables_from_counts,
)

# A change of any of these makes every existing stream undecodable: it needs a new major version.
DIGESTS = {
    "gaussian": "be6e10d90c942b86535db9e55e8e6b9b9a5953af18e6a0ca90dc6016c8abb7ba",
    "laplace": "b700ef336e4a7bc23cf2d8f6caac16ac53e84502a48b245176e273b897f852cf",
    "scale grid": "5f0ae6c9d19234f7dec20a33a9bf30e754239a4e2bcfe000c5dcf3abcebd13e0",
    "adaptive start": "8b3add10204c04756b18adff3352fb467bcd021b5054f7bcdba319c4ce853ff3",
}


def exact_mass(kind: str, k: np.ndarray, scale: float) -> np.ndarray:
    magnitude = np.abs(k)
    if kind == "gaussian":
        tail = np.vectorize(lambda x: math.erfc(x / scale / math.sqrt(2)) / 2)
    else:
        tail = np.vectorize(lambda x: math.exp(-max(x, 0) / scale) / 2)
    at_zero = 1 - 2 * tail(0.5)
    return np.where(magnitude == 0, at_zero, tail(magnitude - 0.5) - tail(magnitude + 0.5))


def test_tables_are_pinned():
    found = {
        "gaussian": gaussian_tables().digest().hex(),
        "laplace": laplace_tables().digest().hex(),
        "scale grid": hashlib.sha256(scale_grid().astype("<i8").tobytes()).hexdigest(),
        "adaptive start": hashlib.sha256(first_probabilities().astype("<i4").tobytes()).hexdigest(),
    }
    assert found == DIGESTS


def test_scale_grid_is_log_spaced_from_0_11_to_64():
    grid = scale_grid()
    assert len(grid) == SCALE_COUNT
    assert grid[-1] == 64 << 20
    exact = 0.11 * (64 / 0.11) ** (np.arange(64) / 63)
    assert np.all(np.abs(grid - exact * 2**20) <= 1.001)


@pytest.mark.parametrize("kind", ["gaussian", "laplace"])
def test_cross_entropy_of_the_tables_is_that_of_the_ideal_bins(kind):
    """Escapes included: at most 0.00014 bit a symbol over the ideal, or 0.03 % if that is more."""
    tables = gaussian_tables() if kind == "gaussian" else laplace_tables()
    for t, scale in enumerate(scale_grid() / 2**20):
        reach = int(tables.sizes[t]) // 2
        k = np.arange(-12 * reach - 20, 12 * reach + 21)
        mass = exact_mass(kind, k, scale)
        ideal = -np.sum(mass * np.log2(np.where(mass > 0, mass, 1)))
        start, size, order = (int(a[t]) for a in (tables.starts, tables.sizes, tables.orders))
        inside = np.abs(k) <= reach
        bits = np.empty(len(k))
        bits[inside] = 14 - np.log2(tables.frequencies[start : start + size])
        distance = np.abs(k[~inside]) - reach - 1
        golomb = 2 * np.floor(np.log2((distance >> order) + 1)) + 1 + order
        bits[~inside] = 14 - np.log2(tables.frequencies[start + size]) + 1 + golomb
        assert 0 <= np.sum(mass * bits) - ideal <= max(1.4e-4, 3e-4 * ideal)


@pytest.mark.parametrize("tables", [gaussian_tables(), laplace_tables()])
def test_views_for_the_kernels_agree_with_the_frequencies(tables):
    assert len(tables) == SCALE_COUNT
    for t in range(len(tables)):
        start, size = int(tables.starts[t]), int(tables.sizes[t])
        rows = slice(start, start + size + 1)
        frequency, cumulative = tables.frequencies[rows], tables.cumulative[rows]
        assert frequency.sum() == 1 << 14
        np.testing.assert_array_equal(cumulative, np.cumsum(frequency) - frequency)
        assert tables.offsets[t] == -(size // 2)
        decoder = tables.decoder[rows]
        np.testing.assert_array_equal(decoder & 0xFFFF, frequency)
        np.testing.assert_array_equal((decoder >> 16) & 0xFFFF, cumulative)
        np.testing.assert_array_equal(decoder[:-1] >> 32, np.arange(size) + tables.offsets[t])
        assert decoder[-1] >> 32 == ESCAPE_VALUE
        for bucket in (0, 1, 100, 255):
            entry = int(tables.buckets[t * 256 + bucket]) - start
            assert cumulative[entry] <= 64 * bucket < cumulative[entry] + frequency[entry]


def test_costs_are_the_code_lengths_rounded_up():
    tables = gaussian_tables()
    exact = 16 * (14 - np.log2(tables.frequencies.astype(np.float64)))
    assert np.all((tables.costs >= exact - 1e-9) & (tables.costs < exact + 1))


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(-1000, 1000),
            st.lists(st.integers(0, 10**7), min_size=1, max_size=80).filter(any),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_histograms_become_tables_within_a_unit_of_their_share(histograms):
    tables = tables_from_counts([(o, np.array(c)) for o, c in histograms])
    for t, (offset, counts) in enumerate(histograms):
        start, size = int(tables.starts[t]), int(tables.sizes[t])
        assert (tables.offsets[t], size) == (offset, len(counts))
        frequency = tables.frequencies[start : start + size + 1].astype(np.int64)
        assert frequency.min() >= 1
        assert frequency.sum() == 1 << 14
        share = np.array([*counts, 0]) * 2**14 / sum(counts)
        lifted = np.sum(np.maximum(1 - share, 0))  # given to shares below 1, taken from the others
        assert np.all(frequency >= np.maximum(1, share * (1 - lifted / 2**13) - 1.5))
        assert np.all(frequency <= np.maximum(1, share + 1.5))


def test_histogram_costs_what_it_says():
    rng = np.random.default_rng(3)
    values = np.round(rng.laplace(0, 9, 20_000)).astype(int)
    low = values.min()
    counts = np.bincount(values - low)
    tables = tables_from_counts([(low, counts)])
    used = counts > 0
    entropy = -np.sum(counts[used] * np.log2(counts[used] / len(values)))
    bits = np.sum(counts * (14 - np.log2(tables.frequencies[:-1])))
    assert entropy <= bits <= 1.004 * entropy


def test_histograms_and_tables_out_of_bounds_are_named():
    for counts in ([], [0, 0], [3, -1], np.ones(MAX_SIZE + 1, dtype=int)):
        with pytest.raises(ValueError, match="a histogram has 1 to 4096 counts"):
            tables_from_counts([(0, np.array(counts, dtype=int))])
    with pytest.raises(ValueError, match="0 tables"):
        tables_from_counts([])
    with pytest.raises(ValueError, match="strictly between"):
        tables_from_counts([((1 << 24) - 1, np.ones(2, dtype=int))])
    good = {
        "offsets": np.array([0], dtype=np.int32),
        "sizes": np.array([1], dtype=np.int32),
        "orders": np.array([0], dtype=np.uint8),
        "frequencies": np.array([16383, 1], dtype=np.uint16),
    }
    assert len(Tables(**good)) == 1
    for name, wrong, message in (
        ("frequencies", np.array([16383, 2], dtype=np.uint16), "add up"),
        ("frequencies", np.array([16384, 0], dtype=np.uint16), "at least 1"),
        ("frequencies", np.array([16384], dtype=np.uint16), "one entry a symbol"),
        ("frequencies", np.array([16383, 1]), "flat array of uint16"),
        ("sizes", np.array([0], dtype=np.int32), "between 1 and 4096"),
        ("orders", np.array([17], dtype=np.uint8), "at most 16"),
        ("orders", np.array([1, 1], dtype=np.uint8), "one entry a table"),
    ):
        with pytest.raises(ValueError, match=message):
            Tables(**{**good, name: wrong})


def test_tables_cannot_be_changed_by_accident():
    with pytest.raises(ValueError, match="read-only"):
        gaussian_tables().frequencies[0] = 5
