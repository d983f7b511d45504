"""Vectors in units of a quarter, a half or a whole sample: coded, chosen, and what a bit costs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvc.predictive.checkpoint import load_network
from nvc.predictive.contexts import VectorForm, vector_contexts, vector_probabilities, vector_row
from nvc.predictive.motion_price import ERROR_SLOPE, Price, weight_at, what_errors_cost
from nvc.predictive.motion_search import search_motion
from nvc.predictive.motion_units import search_units
from nvc.predictive.vector_conditions import CONTEXTS, octave
from nvc.predictive.vector_rates import code_lengths
from nvc.predictive.vectors import decode_vectors, encode_vectors
from nvc.weights import by_name

EVEN = vector_contexts().model(0)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([1, 2, 4]), st.booleans())
def test_fields_in_units_come_back(seed: int, unit: int, second: bool) -> None:
    rng = np.random.default_rng(seed)
    rows, columns = rng.integers(1, 12, 2)
    wide = rng.choice([2, 30, 1000])

    def some() -> np.ndarray:
        drawn = rng.integers(-wide, wide + 1, (rows, columns, 2))
        return (drawn * (rng.random((rows, columns, 1)) < 0.5) * unit).astype(np.int32)

    field, first = some(), some() if second else None
    payload = encode_vectors(field.copy(), EVEN, first=first, unit=unit)
    assert np.array_equal(decode_vectors(payload, rows, columns, EVEN, first=first), field)


def test_a_coarser_unit_takes_fewer_bytes() -> None:
    field = 4 * np.random.default_rng(2).integers(-20, 21, (20, 30, 2)).astype(np.int32)
    sizes = [len(encode_vectors(field, EVEN, unit=unit)) for unit in (1, 2, 4)]
    assert sizes[0] > 1.05 * sizes[1] > 1.1 * sizes[2]


def test_a_vector_between_units_is_refused() -> None:
    field = np.full((2, 2, 2), 6, np.int32)
    with pytest.raises(ValueError, match="no multiple of 4"):
        encode_vectors(field, EVEN, unit=4)


def _scene(noise: float, zoom: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Two pictures of many waves that move by 3.25 and 1.5 samples and grow, with noise or none."""
    rng = np.random.default_rng(4)
    y, x = np.mgrid[:128, :160].astype(np.float64)
    kinds = rng.uniform(-0.7, 0.7, (24, 2)), rng.uniform(0, 6, 24)

    def waves(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        parts = (np.sin(a * x + b * y + c) for (a, b), c in zip(*kinds, strict=True))
        return 128 + 15 * sum(parts) + rng.normal(0, noise, x.shape)

    moved = waves(x + 3.25 + zoom * (x - 80), y + 1.5 + zoom * (y - 64))
    rounded = (np.rint(part).clip(0, 255).astype(np.uint8) for part in (moved, waves(x, y)))
    current, reference = rounded
    return current, reference


@pytest.mark.parametrize(("noise", "weight", "fine"), [(0.0, 20.0, True), (40.0, 900.0, False)])
def test_the_unit_is_as_fine_as_it_pays(noise: float, weight: float, fine: bool) -> None:
    """A zoom, in which every square moves in its own way."""
    costs = code_lengths(load_network(by_name("dhvc_s")).motion_contexts.model(0))
    current, reference = _scene(noise, 0.06)
    field, unit = search_units(current, reference, previous=None, weight=weight, costs=costs)
    assert (unit == 1) == fine
    assert field.any() and not (field % unit).any()


def test_the_search_keeps_to_its_unit() -> None:
    current, reference = _scene(2.0)
    expected = np.full((16, 20, 2), 3, np.int32)
    for unit in (1, 2, 4):
        field = search_motion(current, reference, weight=30.0, expected=expected, unit=unit)
        assert not ((field - expected) % unit).any()
        assert np.abs(field[4:-4, 4:-4] - (13, 6)).max() <= unit


def test_far_movements_are_found() -> None:
    """150 samples to the side: out of reach but where the search is told to look."""
    rng = np.random.default_rng(9)
    rough = rng.integers(0, 256, (40, 100)).repeat(8, axis=0).repeat(8, axis=1)
    current, reference = rough[:256, 150 : 150 + 448], rough[:256, :448]
    current, reference = (part.astype(np.uint8).copy() for part in (current, reference))
    middle = np.s_[8:-8, 2:20]
    near = search_motion(current, reference, weight=30.0)
    far = search_motion(current, reference, weight=30.0, reach=256)
    assert (far[middle] == (600, 0)).all()
    assert not (near[middle] == (600, 0)).all()


def test_errors_cost_what_a_bit_is_weighed_against() -> None:
    """The slope of what an error costs is the plain weight of a bit over that where it is."""
    weight = 70.0
    price = Price(np.float32(weight), np.float32(ERROR_SLOPE), 1)
    assert what_errors_cost(np.array([0.0, 1.0]), weight) == pytest.approx([0, 1], rel=1e-3)
    for error in (100.0, 3e4, 1e6):
        costs = what_errors_cost(np.array([error * 0.999, error * 1.001]), weight)
        slope = (costs[1] - costs[0]) / (0.002 * error)
        assert slope == pytest.approx(weight / weight_at(price, error, 16), rel=1e-3)


def test_octaves_are_numbers_of_bits() -> None:
    assert [octave(value) for value in (0, 1, -1, 2, 3, 4, -8)] == [0, 1, 1, 2, 2, 3, 4]


def test_forms_have_probabilities_of_their_own_by_qp() -> None:
    rows = {vector_row(form, qp) for form in VectorForm for qp in range(-12, 76)}
    assert rows == set(range(20))
    assert vector_row(VectorForm.FIRST, 39) != vector_row(VectorForm.FIRST, 40)


def test_probabilities_lean_on_those_of_the_form() -> None:
    """What was not seen at a QP is what was seen at others; a form never seen is left as it is."""
    counts = np.zeros((CONTEXTS, 2), np.int64)
    counts[0], counts[1] = (900, 100), (0, 0)
    own = np.zeros((CONTEXTS, 2), np.int64)
    own[0] = (0, 1000)
    found = vector_probabilities({0: counts, 1: own})
    assert set(found) == {0, 1, 2, 3, 4}
    assert found[0][0] == pytest.approx(0.1, abs=0.01)
    assert found[1][0] == pytest.approx(1.0, abs=0.01)
    assert found[2][0] == pytest.approx(0.55, abs=0.01)
    assert found[0][1] == 0.5
