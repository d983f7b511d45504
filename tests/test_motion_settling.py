"""A second look at a motion field: its bits are the coder's, and what it costs goes down."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvc.predictive.block_error import MARGIN
from nvc.predictive.checkpoint import load_network
from nvc.predictive.contexts import VectorForm, fixed_model, vector_row
from nvc.predictive.motion import VECTOR_BLOCK
from nvc.predictive.motion_price import what_errors_cost
from nvc.predictive.motion_search import search_motion
from nvc.predictive.plane_kernels import move
from nvc.predictive.vector_conditions import CONTEXTS, FIRST_UNIT, beside_of
from nvc.predictive.vector_rates import code_lengths, field_bits
from nvc.predictive.vectors import encode_vectors
from nvc.weights import by_name

ROW = vector_row(VectorForm.NEARER, 40)


def lengths(seed: int) -> np.ndarray:
    """Costs of a model with other odds in every context."""
    odds = np.random.default_rng(seed).uniform(0.05, 0.95, CONTEXTS)
    return code_lengths(fixed_model(tuple(odds), 20))


def bits_of(
    costs: np.ndarray, field: np.ndarray, first: np.ndarray | None = None, unit: int = 1
) -> float:
    beside = beside_of(first, field.shape[:2])
    return field_bits(costs, field, np.zeros_like(field), beside, unit)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.booleans(), st.sampled_from([1, 2, 4]))
def test_rates_are_those_of_the_decisions_that_the_coder_makes(
    seed: int, second: bool, unit: int
) -> None:
    """With a price on every context apart: a decision missed or put elsewhere would show."""
    rng = np.random.default_rng(seed)
    rows, columns = 2 * rng.integers(1, 5, 2)
    wide = rng.choice([1, 3, 12, 90])

    def some(odds: float) -> np.ndarray:
        squares = rng.integers(-wide, wide + 1, (rows // 2, columns // 2, 2))
        blocks = squares.repeat(2, axis=0).repeat(2, axis=1)
        moved = rng.integers(-wide, wide + 1, blocks.shape) * (rng.random(blocks.shape) < odds)
        return np.ascontiguousarray(blocks + moved, dtype=np.int32)

    field, first = some(0.2) * unit, some(0.1) if second else None
    costs, counts = lengths(seed), np.zeros((CONTEXTS, 2), np.int64)
    encode_vectors(field, fixed_model((0.5,) * CONTEXTS, 20), first=first, counts=counts, unit=unit)
    counts[FIRST_UNIT:] = 0  # once a field
    free = np.zeros_like(costs)  # leaves the last bits of magnitudes, which have no context
    decided = bits_of(costs, field, first, unit) - bits_of(free, field, first, unit)
    if field.any():
        assert decided == pytest.approx(float((counts * costs).sum()), rel=1e-4)


@pytest.mark.parametrize(
    ("vector", "unit", "bits"),
    [((7, 0), 1, 0), ((8, 0), 1, 1), ((-3, 40), 1, 3), ((-12, 40), 4, 1)],
)
def test_last_bits_of_magnitudes_cost_whole_bits(
    vector: tuple[int, int], unit: int, bits: int
) -> None:
    """All under the first three; of a magnitude in units."""
    field = np.full((2, 2, 2), vector, np.int32)
    assert bits_of(np.zeros_like(lengths(0)), field, unit=unit) == bits


def scene() -> tuple[np.ndarray, np.ndarray]:
    """A noisy picture of two parts that move apart, and what it moved from."""
    rng = np.random.default_rng(7)
    waves = np.add.outer(np.sin(np.arange(160) / 5), np.cos(np.arange(160) / 7))
    picture = 128 + 20 * waves + rng.normal(0, 2, waves.shape)
    current = np.concatenate((picture[16:144, 20:84], picture[22:150, 80:144]), axis=1)
    current = current + rng.normal(0, 8, current.shape)
    clipped = (part.clip(0, 255).astype(np.uint8) for part in (current, picture[16:144, 16:144]))
    first, second = map(np.ascontiguousarray, clipped)
    return first, second


def cost_of(field: np.ndarray, costs: np.ndarray, weight: float) -> float:
    current, reference = scene()
    moved = np.empty(current.shape, np.float32)
    move(reference, field, 1, moved)
    squares = np.square(current - moved).reshape(8, 16, 8, 16).sum(axis=(1, 3))
    return float(what_errors_cost(squares, weight).sum()) + weight * bits_of(costs, field)


@pytest.mark.parametrize("weight", [30.0, 300.0])
def test_what_a_field_costs_goes_down(weight: float) -> None:
    current, reference = scene()
    costs = code_lengths(load_network(by_name("dhvc_s")).motion_contexts.model(ROW))
    found = search_motion(current, reference, weight=weight)
    settled = search_motion(current, reference, weight=weight, costs=costs)
    before, after = (cost_of(field, costs, weight) for field in (found, settled))
    assert after < before - 10 * weight
    assert np.array_equal(settled, search_motion(current, reference, weight=weight, costs=costs))
    y, x = np.mgrid[: len(settled), : len(settled[0])] * VECTOR_BLOCK
    for place, axis in ((x, 0), (y, 1)):
        at = place + settled[..., axis] / 4
        assert at.min() >= -MARGIN and at.max() + VECTOR_BLOCK <= 128 + MARGIN
