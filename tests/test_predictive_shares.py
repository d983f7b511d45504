"""Two references of a frame: which of them predicts a square, coded, chosen and put to use."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nvc.errors import StreamError
from nvc.predictive import vector_conditions
from nvc.predictive.bidirectional import followed
from nvc.predictive.contexts import vector_contexts
from nvc.predictive.frame_units import pack_frame, read_frame
from nvc.predictive.network import KIND_BI, KIND_INTER, Memory, blend
from nvc.predictive.records import Record, Records, onward
from nvc.predictive.row_planes import blended
from nvc.predictive.shares import (
    BOTH,
    FIRST,
    SECOND,
    SQUARE,
    choose_shares,
    decode_shares,
    encode_shares,
    part_of_second,
    uses,
    usual,
)
from nvc.predictive.vectors import decode_vectors, encode_vectors

MODEL = vector_contexts().model(2)


@pytest.mark.parametrize("between", [False, True])
@pytest.mark.parametrize("size", [(1, 1), (3, 5), (17, 30)])
@pytest.mark.parametrize("seed", range(4))
def test_shares_are_read_as_they_were_written(
    between: bool, size: tuple[int, int], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    odds = rng.dirichlet((0.4, 0.4, 0.4))
    shares = rng.choice(3, size=size, p=odds).astype(np.uint8)
    payload = encode_shares(shares, between=between)
    assert np.array_equal(decode_shares(payload, *size, between=between), shares)


@pytest.mark.parametrize("between", [False, True])
def test_what_is_usual_costs_next_to_nothing(between: bool) -> None:
    shares = np.full((68, 120), usual(between), np.uint8)
    assert len(encode_shares(shares, between=between)) < 24


@pytest.mark.parametrize("seed", range(20))
def test_damaged_shares_are_refused_or_read(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shares = rng.integers(0, 3, (6, 8)).astype(np.uint8)
    payload = bytearray(encode_shares(shares, between=True))
    payload[rng.integers(0, len(payload))] = int(rng.integers(0, 256))
    payload = payload[: rng.integers(0, len(payload) + 1)] + bytes(rng.integers(0, 3))
    try:
        found = decode_shares(bytes(payload), 6, 8, between=True)
    except StreamError as error:
        assert "shares of references" in str(error)
    else:
        assert found.shape == (6, 8) and set(np.unique(found)) <= {BOTH, FIRST, SECOND}


def test_bytes_left_over_are_refused() -> None:
    payload = encode_shares(np.full((2, 2), SECOND, np.uint8), between=True)
    with pytest.raises(StreamError, match="left over"):
        decode_shares(payload + b"\1" * 8, 2, 2, between=True)


def test_a_square_takes_the_reference_that_is_like_it() -> None:
    """Noise that is not the same in both: their mean where both show the square, else the one."""
    rng = np.random.default_rng(1)
    source = rng.integers(60, 190, (32, 48)).astype(np.uint8)
    first, second = (source + rng.normal(0, 6, source.shape).astype(np.float32) for _ in "ab")
    first[:SQUARE, :SQUARE] += 80
    second[:SQUARE, SQUARE : 2 * SQUARE] -= 80
    for between in (False, True):
        shares, saved = choose_shares(source, first, second, weight=40.0, between=between)
        assert shares.tolist() == [[SECOND, FIRST, BOTH], [BOTH, BOTH, BOTH]]
        assert saved > 0
        dear, saved = choose_shares(source, first, second, weight=1e9, between=between)
        assert (dear == usual(between)).all() and saved == 0


@pytest.mark.parametrize("seed", range(3))
def test_squares_that_use_no_vector_have_none(seed: int) -> None:
    """They cost nothing, and both sides know the same vectors in their place."""
    rng = np.random.default_rng(seed)
    rows, columns = 9, 13
    used = rng.random((5, 7)) < 0.4
    field = rng.integers(-40, 40, (rows, columns, 2)).astype(np.int32)
    mine = field.copy()
    payload = encode_vectors(mine, MODEL, used=used)
    spread = used.repeat(2, axis=0).repeat(2, axis=1)[:rows, :columns]
    assert np.array_equal(mine[spread], field[spread])
    assert np.array_equal(decode_vectors(payload, rows, columns, MODEL, used=used), mine)
    assert len(payload) < 0.6 * len(encode_vectors(field, MODEL))


def test_nothing_used_is_nothing_sent() -> None:
    field = np.full((4, 4, 2), 9, np.int32)
    assert encode_vectors(field, MODEL, used=np.zeros((2, 2), np.bool_)) == b""
    assert not field.any()


def test_unused_vectors_are_what_is_expected_there() -> None:
    field = np.full((2, 6, 2), 7, np.int32)
    encode_vectors(field, MODEL, used=np.array([[True, False, True]]))
    assert (field == 7).all()
    # A bit says of a vector that it is its predictor, and none is spent in between.
    counts = np.zeros((vector_conditions.CONTEXTS, 2), np.int64)
    encode_vectors(field, MODEL, used=np.array([[True, False, False]]), counts=counts)
    one = counts.sum()
    encode_vectors(field, MODEL, used=np.array([[True, False, True]]), counts=counts)
    assert counts.sum() == 2 * one + 2  # split or not, predictor or not


def test_motion_goes_on_where_it_leads() -> None:
    """8 samples to the right, to blocks that came from 3 below from the third on."""
    field = np.zeros((4, 6, 2), np.int32)
    field[..., 0] = 32
    before = np.zeros((4, 6, 2), np.int32)
    before[:, 2:, 1] = 12
    expected = followed(field, before)
    assert (expected[:, :2] == (32, 6)).all()  # half of the square leads there
    assert (expected[:, 2:] == (32, 12)).all()
    earlier = Record(number=4, memory=Memory(), references=(0,), fields=(before,))
    older = Record(number=0, memory=Memory())
    assert np.array_equal(onward(8, field, earlier, older), expected)
    intra = Record(number=4, memory=Memory())
    assert (onward(8, field, intra, older) == (64, 0)).all()


@pytest.mark.parametrize("factor", [1, 4, 8])
def test_blocks_are_blended_alike_in_both_networks(factor: int) -> None:
    torch.manual_seed(factor)
    size = (128, 64)
    share = torch.from_numpy(
        part_of_second(np.random.default_rng(0).integers(0, 3, (8, 4)).astype(np.uint8))
    )[None, None]

    def planes() -> tuple[torch.Tensor, ...]:
        sides = [side // factor for side in size]
        return tuple(torch.rand(1, 1, *(s // by for s in sides)) for by in (1, 2, 2))

    first, second = planes(), planes()
    for part in (None, share):
        expected = blend(first, second, part)
        found = blended(tuple(p.clone() for p in first), second, part)
        for a, b in zip(found, expected, strict=True):
            assert torch.allclose(a, b, atol=1e-6)
    whole = blend(first, second, torch.ones_like(share))
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(whole, second, strict=True))


def test_which_squares_use_which() -> None:
    shares = np.array([[BOTH, FIRST, SECOND]], np.uint8)
    assert uses(shares, FIRST).tolist() == [[True, True, False]]
    assert uses(shares, SECOND).tolist() == [[True, False, True]]


def test_the_last_two_anchors_are_kept() -> None:
    """In the order 0, 4, 2, 1, 3, 8, 6, 5: frame 8 may refer to 4 and 0."""
    records = Records()
    order = [(0, ()), (4, (0,)), (2, (0, 4)), (1, (0, 2)), (3, (2, 4))]
    for number, references in order:
        records.tidy(number, references)
        records.put(Record(number=number, memory=Memory(), references=references))
    assert [records.get(n) is not None for n in range(5)] == [True, False, True, True, True]
    records.tidy(8, (4, 0))
    records.put(Record(number=8, memory=Memory(), references=(4, 0)))
    assert [records.get(n) is not None for n in (0, 2, 3, 4, 8)] == [False] * 3 + [True] * 2


@pytest.mark.parametrize(
    ("kind", "base", "message"),
    [
        (KIND_INTER, bytes([0, 0, 0x84]), "layer 0 is cut off"),
        (KIND_INTER, bytes([0, 0, 0x84, 4]), "its references would be frames 5 and 5"),
        (KIND_INTER, bytes([0, 0, 0x84, 2]), "its references would be frames 5 and 7"),
        (KIND_INTER, bytes([0, 0, 0x84, 10]), "its reference would be frame -1"),
        (KIND_INTER, bytes([0, 64, 4, 0, 0]), "of which there are not two"),
        (KIND_INTER, bytes([0, 64, 0x84, 8, 5, 0]), "a share of references is cut off"),
        (KIND_BI, bytes([192, 64, 0x33, 9]), "a number is 9, over its limit"),
    ],
)
def test_layouts_that_cannot_be(kind: int, base: bytes, message: str) -> None:
    with pytest.raises(StreamError, match=message):
        read_frame(9, {0: base}, sends=True)


def test_one_reference_is_all_that_weights_without_motion_have() -> None:
    (base, *_) = pack_frame([b""], 3, KIND_INTER, distances=(-1, -2), fields=(b"", b""))
    assert base is not None
    assert read_frame(9, {0: base}, sends=True).references == (8, 7)
    with pytest.raises(StreamError, match="two references"):
        read_frame(9, {0: base}, sends=False)
