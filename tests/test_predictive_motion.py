"""Motion: the search finds a known movement, the field survives its coding, the gather is right."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nvc.errors import StreamError
from nvc.predictive.contexts import vector_contexts
from nvc.predictive.motion import align_codes, compensate, motion_codes, warp
from nvc.predictive.motion_search import search_motion
from nvc.predictive.vectors import decode_vectors, encode_vectors

EVEN = vector_contexts().model(0)


def texture(height: int, width: int) -> np.ndarray:
    """A smooth random picture, so that motion has one answer."""
    rng = np.random.default_rng(5)
    noise = torch.from_numpy(rng.random((1, 1, height // 4, width // 4), dtype=np.float32))
    smooth = torch.nn.functional.interpolate(noise, scale_factor=4, mode="bicubic")
    return (smooth[0, 0].clamp(0, 1) * 255).to(torch.uint8).numpy()


@pytest.mark.parametrize(("dx", "dy"), [(0, 0), (3, -2), (-17, 9), (30, 24)])
def test_search_finds_a_shift(dx: int, dy: int) -> None:
    picture = texture(160, 192)
    reference, current = picture[32:128, 32:160], picture[32 + dy : 128 + dy, 32 + dx : 160 + dx]
    field = search_motion(np.ascontiguousarray(current), np.ascontiguousarray(reference))
    inside = field[4:-4, 4:-4].reshape(-1, 2)
    found = np.all(inside == [4 * dx, 4 * dy], axis=1).mean()
    assert found > 0.9


def test_search_finds_half_samples() -> None:
    picture = texture(128, 128)
    plane = torch.from_numpy(picture)[None, None].float()
    flow = torch.full((1, 2, 128, 128), 0.5)
    moved = warp(plane, flow)[0, 0].clamp(0, 255).round().to(torch.uint8).numpy()
    field = search_motion(moved, picture)
    assert np.all(field[2:-2, 2:-2].reshape(-1, 2) == [2, 2], axis=1).mean() > 0.9


def test_search_refuses_sizes_it_cannot_tile() -> None:
    with pytest.raises(ValueError, match="multiples of 16"):
        search_motion(np.zeros((24, 16), np.uint8), np.zeros((24, 16), np.uint8))


def test_compensation_moves_every_plane_of_every_scale() -> None:
    """A whole-sample shift by (8, 16) of luma is exact in all of them, away from edges."""
    vectors = torch.tensor([8 * 4, 16 * 4]).view(1, 2, 1, 1).expand(1, 2, 16, 16).int()
    for shrink in (1, 4):
        size = 128 // shrink
        planes = [torch.rand(1, 1, size, size), *torch.rand(2, 1, 1, size // 2, size // 2)]
        for plane, moved in zip(planes, compensate(planes, vectors, shrink), strict=True):
            step = 128 // plane.shape[-1]
            dx, dy = 8 // step, 16 // step
            if dx * step != 8:
                continue
            rows, columns = slice(0, plane.shape[-2] - dy), slice(0, plane.shape[-1] - dx)
            assert torch.allclose(moved[..., rows, columns], plane[..., dy:, dx:], atol=1e-5)


def test_motion_codes_mark_disagreement() -> None:
    vectors = torch.zeros(1, 2, 4, 4, dtype=torch.int32)
    assert motion_codes(vectors, 2).eq(0).all()
    vectors[0, 0, :, 2:] = 3
    codes = motion_codes(vectors, 2)
    assert codes.shape == (1, 2, 2, 2)
    assert codes[0, 0, 0].tolist() == [0.0, 96.0]


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 9),
    st.integers(1, 9),
    st.integers(0, 2**32 - 1),
    st.sampled_from([0, 2, 40, 4000]),
)
def test_fields_survive_coding(rows: int, columns: int, seed: int, reach: int) -> None:
    field = np.random.default_rng(seed).integers(-reach, reach + 1, (rows, columns, 2), np.int32)
    assert np.array_equal(decode_vectors(encode_vectors(field, EVEN), rows, columns, EVEN), field)


def test_a_still_field_is_free_and_a_smooth_one_cheap() -> None:
    assert encode_vectors(np.zeros((40, 60, 2), np.int32), EVEN) == b""
    pan = np.tile(np.array([13, -6], np.int32), (40, 60, 1))
    assert len(encode_vectors(pan, EVEN)) < 40


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=60))
def test_damaged_fields_are_refused_or_bounded(data: bytes) -> None:
    try:
        field = decode_vectors(data, 5, 7, EVEN)
    except StreamError:
        return
    assert field.shape == (5, 7, 2) and np.abs(field).max() <= 4096


def test_codes_come_from_where_the_motion_came_from() -> None:
    """Against a loop over cells in exact integers: mean vector, nearest cell, edges held."""
    rng = np.random.default_rng(5)
    cell, rows, columns = 2, 5, 7
    vectors = rng.integers(-300, 300, (1, 2, rows * cell, columns * cell))
    codes = torch.from_numpy(rng.integers(0, 256, (1, 3, rows, columns)).astype(np.float32))
    moved = align_codes(codes, torch.from_numpy(vectors), cell)
    unit = cell * cell * 4 * 8 * cell
    for row in range(rows):
        for column in range(columns):
            block = vectors[0, :, row * cell :, column * cell :][:, :cell, :cell]
            x, y = ((int(part.sum()) * 2 + unit) // (2 * unit) for part in block)
            at = min(max(row + y, 0), rows - 1), min(max(column + x, 0), columns - 1)
            assert torch.equal(moved[0, :, row, column], codes[0, :, at[0], at[1]])


def test_squares_that_move_as_one_cost_a_fraction_of_a_bit() -> None:
    """Two regions of 1,024 blocks each: bytes for the border, almost none for the insides."""
    field = np.zeros((32, 64, 2), np.int32)
    field[:, 32:] = (13, -7)
    assert len(encode_vectors(field, EVEN)) < 30


@pytest.mark.parametrize("vector", [4096, -4096])
def test_the_longest_vector_is_coded(vector: int) -> None:
    field = np.zeros((3, 5, 2), np.int32)
    field[1, 2] = (vector, -vector)
    field[2, 4] = (-vector, 1)
    assert np.array_equal(decode_vectors(encode_vectors(field, EVEN), 3, 5, EVEN), field)
    field[0, 0, 0] = 4097
    with pytest.raises(ValueError, match="longer than 4096"):
        encode_vectors(field, EVEN)


def test_halves_of_a_large_picture_are_searched_alike() -> None:
    """1,024 lines are searched as two bands: a shift is found in both, and every time the same."""
    picture = texture(1120, 96)
    reference, current = picture[32:1056, 16:80], picture[38:1062, 13:77]
    pair = np.ascontiguousarray(current), np.ascontiguousarray(reference)
    field = search_motion(*pair)
    assert np.array_equal(field, search_motion(*pair))
    for band in (field[4:60], field[68:-4]):
        assert np.all(band[:, 2:-2] == [-12, 24], axis=-1).mean() > 0.9
