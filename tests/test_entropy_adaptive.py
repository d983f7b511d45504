"""The adaptive matrix coder: exact, the same bytes from both, and close to ideal."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvc.entropy import adaptive, adaptive_reference
from nvc.entropy.adaptive_kernels import VALUE_LIMIT
from nvc.entropy.adaptive_model import CHOICES, COUNT_LIMIT, first_probabilities
from nvc.errors import StreamError

EXTREME = VALUE_LIMIT - 1


def weights(
    rows: int, columns: int, *, scale: float, row_spread: float, column_spread: float = 0.0
) -> tuple[np.ndarray, float]:
    """Rounded Gaussian values whose rows and columns differ in scale, and their exact bits."""
    rng = np.random.default_rng(rows * columns)
    sigma = (
        scale
        * np.exp(rng.normal(0, row_spread, (rows, 1)))
        * np.exp(rng.normal(0, column_spread, (1, columns)))
    )
    values = np.round(rng.normal(0, 1, (rows, columns)) * sigma).astype(np.int32)
    inside = np.vectorize(math.erf)
    mass = (
        inside((values + 0.5) / sigma / math.sqrt(2))
        - inside((values - 0.5) / sigma / math.sqrt(2))
    ) / 2
    return values, float(-np.log2(mass).sum())


def tensor_entropy(values: np.ndarray) -> float:
    """Bits of all values under their own histogram, with nothing counted for sending it."""
    counts = np.unique(values, return_counts=True)[1]
    return float(-(counts * np.log2(counts / values.size)).sum())


entries = st.one_of(st.integers(-2, 2), st.integers(-100, 100), st.integers(-EXTREME, EXTREME))


@settings(max_examples=80, deadline=None)
@given(data=st.data(), rows=st.integers(1, 6), columns=st.integers(1, 6))
def test_any_matrix_comes_back_and_both_coders_give_the_same_bytes(data, rows, columns):
    size = rows * columns
    flat = data.draw(st.lists(entries, min_size=size, max_size=size))
    matrix = np.array(flat, dtype=np.int32).reshape(rows, columns)
    payload = adaptive.encode_matrix(matrix)
    choice = tuple(data.draw(st.integers(0, len(options) - 1)) for options in CHOICES)
    other = adaptive_reference.encode_matrix(matrix, choice=choice)
    if matrix.any():
        assert other == adaptive._encode(adaptive.check_matrix(matrix), list(choice))
    for coded in (payload, other):
        for coder in (adaptive, adaptive_reference):
            decoded = coder.decode_matrix(coded, rows, columns)
            assert decoded.dtype == np.int32
            np.testing.assert_array_equal(decoded, matrix)


@pytest.mark.parametrize("scale", [0.2, 6.0, 300.0, 40_000.0])
def test_learning_and_long_carries_agree_with_the_reference(scale):
    """Enough values for every rate to reach its limit, at scales with and without low bits."""
    matrix, _ = weights(30, 40, scale=scale, row_spread=0.7)
    for choice in ((0, 0, 0, 0), (3, 1, 2, 2)):
        payload = adaptive._encode(adaptive.check_matrix(matrix), list(choice))
        assert payload == adaptive_reference.encode_matrix(matrix, choice=choice)
        np.testing.assert_array_equal(adaptive.decode_matrix(payload, 30, 40), matrix)
    np.testing.assert_array_equal(adaptive_reference.decode_matrix(payload, 30, 40), matrix)


def test_constant_and_alternating_matrices_come_back():
    """Values that push every probability to its bound, and the range to its smallest."""
    for matrix in (
        np.full((200, 300), 7),
        np.tile([[0, EXTREME], [-EXTREME, 0]], (40, 40)),
        np.eye(150, dtype=np.int64) * -3,
        np.full((1, 1), 1),
    ):
        payload = adaptive.encode_matrix(matrix)
        np.testing.assert_array_equal(adaptive.decode_matrix(payload, *matrix.shape), matrix)
    constant = adaptive.encode_matrix(np.full((200, 300), 7))
    assert len(constant) < 60_000 * 1.03 / 8  # the sign alone is a bit


def test_nothing_costs_nothing():
    for shape in ((0, 0), (0, 5), (4, 0), (30, 40)):
        assert adaptive.encode_matrix(np.zeros(shape, dtype=np.int32)) == b""
        for coder in (adaptive, adaptive_reference):
            decoded = coder.decode_matrix(b"", *shape)
            assert decoded.shape == shape
            assert not decoded.any()


@pytest.mark.parametrize(
    ("rows", "columns", "scale", "row_spread", "column_spread", "over_ideal", "under_entropy"),
    [
        (64, 144, 6.0, 0.5, 0.0, 1.015, 0.985),
        (96, 432, 8.0, 0.3, 0.3, 1.015, 0.985),
        (96, 432, 0.5, 0.5, 0.0, 1.025, 0.96),
        (16, 64, 8.0, 0.5, 0.0, 1.04, 1.0),
        (96, 432, 50.0, 0.5, 0.2, 1.012, 0.985),
    ],
)
def test_rows_of_differing_scale_cost_less_than_the_entropy_of_the_tensor(
    rows, columns, scale, row_spread, column_spread, over_ideal, under_entropy
):
    values, ideal = weights(
        rows, columns, scale=scale, row_spread=row_spread, column_spread=column_spread
    )
    bits = 8 * len(adaptive.encode_matrix(values))
    assert bits <= over_ideal * ideal
    assert bits <= under_entropy * tensor_entropy(values)


def test_rows_of_one_scale_cost_hardly_more_than_their_entropy():
    values, ideal = weights(64, 256, scale=6.0, row_spread=0.0)
    assert 8 * len(adaptive.encode_matrix(values)) <= 1.004 * ideal


def test_few_values_cost_little_more_than_their_entropy():
    """Ten bits and 4 % over what is possible with the scale known, on average over tensors."""
    extra = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        values = np.round(rng.normal(0, 6, (8, 12))).astype(np.int32)
        ideal = 96 * math.log2(6 * math.sqrt(2 * math.pi * math.e))
        extra.append(8 * len(adaptive.encode_matrix(values)) - 1.04 * ideal)
    assert np.mean(extra) <= 10


def test_arguments_out_of_bounds_are_named():
    with pytest.raises(ValueError, match="magnitude"):
        adaptive.encode_matrix(np.array([[VALUE_LIMIT]]))
    with pytest.raises(ValueError, match="magnitude"):
        adaptive.encode_matrix(np.array([[-(2**31)]], dtype=np.int32))
    for wrong in (np.zeros((2, 2)), np.zeros(3, dtype=np.int32)):
        with pytest.raises(ValueError, match="a matrix of integers"):
            adaptive.encode_matrix(wrong)
    for size in ((-1, 3), (COUNT_LIMIT, 2)):
        with pytest.raises(ValueError, match="values: at most"):
            adaptive.decode_matrix(b"", *size)


def outcome(coder, payload: bytes, rows: int, columns: int):
    try:
        return coder.decode_matrix(payload, rows, columns).tolist()
    except StreamError as error:
        return str(error)


@settings(max_examples=150, deadline=None)
@given(
    payload=st.one_of(st.binary(max_size=60), st.builds(lambda n: b"\xff" * n, st.integers(0, 60))),
    rows=st.integers(0, 6),
    columns=st.integers(0, 6),
)
def test_random_bytes_give_a_matrix_or_a_stream_error(payload, rows, columns):
    assert outcome(adaptive, payload, rows, columns) == outcome(
        adaptive_reference, payload, rows, columns
    )


def test_payloads_that_no_encoder_writes_are_refused():
    payload = adaptive.encode_matrix(np.arange(20).reshape(4, 5))
    for data, message in (
        (payload + b"\1" * 6, "left over"),
        (payload + b"\0", "zero byte"),
        (b"\xff" * 8, "starts as no payload"),
        (bytes(90) + b"\1", "a value is not below"),
    ):
        with pytest.raises(StreamError, match=message):
            adaptive.decode_matrix(data, 4, 5)


def test_first_probabilities_fall_with_the_scale():
    """A larger expected magnitude makes every next step of the unary code more likely."""
    zero_steps = first_probabilities()[: 21 * 24 : 24].tolist()
    assert zero_steps == sorted(zero_steps)
    assert zero_steps[0] < 1500 < 50_000 < zero_steps[-1]
