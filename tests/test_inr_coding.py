"""Weights and codes survive the PARAMETERS payload, and a damaged payload is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvc.errors import StreamError
from nvc.inr.coding import decode_config, decode_group, encode_config, encode_group
from nvc.inr.config import network_for_size
from nvc.inr.models import choose_model, weight_tables
from nvc.inr.network import parameter_shapes
from nvc.inr.quantised import QuantisedGroup, symbol_count


def make_group(seed=0, *, spread=4.0, row_spread=0.0, drift=False, frames=5):
    """A group of random symbols; drift makes the embedding change slowly over the frames."""
    rng = np.random.default_rng(seed)
    config = network_for_size(40, 60).with_width(5)
    symbols = []
    for shape in parameter_shapes(config).values():
        rows = np.exp(row_spread * rng.normal(size=(shape[0], *[1] * (len(shape) - 1))))
        symbols.append(np.rint(rng.laplace(scale=spread, size=shape) * rows).astype(np.int32))
    embedding = rng.laplace(scale=8, size=(frames, config.embedding_channels, *config.grid))
    if drift:
        embedding = embedding[:1] + np.cumsum(rng.laplace(size=embedding.shape), axis=0)
    return QuantisedGroup(
        config=config,
        symbols=tuple(symbols),
        step_codes=tuple(range(-3, len(symbols) - 3)),
        embedding=np.rint(embedding + 11).astype(np.int32),
        embedding_step_code=-700,
    )


def assert_same(one, two):
    assert one.config == two.config
    assert (one.step_codes, one.embedding_step_code) == (two.step_codes, two.embedding_step_code)
    for left, right in zip(one.symbols, two.symbols, strict=True):
        np.testing.assert_array_equal(left, right)
    np.testing.assert_array_equal(one.embedding, two.embedding)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    spread=st.sampled_from([0.0, 0.05, 1.0, 30.0, 3000.0]),
    row_spread=st.sampled_from([0.0, 1.0]),
    drift=st.booleans(),
)
def test_round_trip(seed, spread, row_spread, drift):
    """Every symbol and step comes back, whatever their distribution, zeros and escapes included."""
    group = make_group(seed, spread=spread, row_spread=row_spread, drift=drift)
    config = decode_config(encode_config(group.config), height=40, width=60)
    assert_same(group, decode_group(encode_group(group), config, group.frames))


def test_rows_and_differences_pay():
    """Row scales and temporal differences are used where they make the payload smaller."""
    matrix = np.random.default_rng(3).laplace(scale=6, size=(40, 50))
    rough = matrix * np.linspace(0.3, 3, 40)[:, None]
    assert choose_model(np.rint(matrix).astype(np.int32)).row_steps is None
    model = choose_model(np.rint(rough).astype(np.int32))
    assert model.row_steps is not None and len(model.row_steps) == 40
    assert model.row_steps[0] < 0 < model.row_steps[-1]
    jumping = encode_group(make_group(frames=60))
    drifting = encode_group(make_group(frames=60, drift=True))
    assert len(drifting) < 0.8 * len(jumping)


def test_close_to_the_entropy():
    """Coded bytes are within 3 % of the empirical entropy of each tensor."""
    config = network_for_size(320, 640).with_width(16)
    rng = np.random.default_rng(1)
    symbols = tuple(
        np.rint(rng.laplace(scale=5, size=shape)).astype(np.int32)
        for shape in parameter_shapes(config).values()
    )
    embedding = np.rint(rng.laplace(scale=5, size=(2, 16, *config.grid))).astype(np.int32)
    group = QuantisedGroup(config, symbols, (0,) * len(symbols), embedding, 0)
    values = np.concatenate([s.ravel() for s in (*symbols, embedding)])
    _, counts = np.unique(values, return_counts=True)
    entropy = -(counts * np.log2(counts / counts.sum())).sum()
    assert 8 * len(encode_group(group)) < 1.03 * entropy
    assert len(values) == symbol_count(config, 2)


def test_damage_is_refused_or_harmless():
    """Any cut or changed byte gives StreamError or a group of the same shapes, never anything
    else."""
    group = make_group()
    payload = encode_group(group)
    config = decode_config(encode_config(group.config), height=40, width=60)
    refused = 0
    rng = np.random.default_rng(2)
    for _ in range(150):
        damaged = bytearray(payload)
        if rng.random() < 0.3:
            del damaged[rng.integers(len(damaged)) :]
        else:
            damaged[rng.integers(min(len(damaged), 200))] ^= 1 << rng.integers(8)
        try:
            other = decode_group(bytes(damaged), config, group.frames)
        except StreamError:
            refused += 1
        else:
            assert other.embedding.shape == group.embedding.shape
    assert refused > 50


def test_lies_about_size_allocate_nothing():
    """Counts that the payload cannot hold are refused before anything is made for them."""
    group = make_group()
    config = decode_config(encode_config(group.config), height=40, width=60)
    payload = encode_group(group)
    with pytest.raises(StreamError, match="cannot be in"):
        decode_group(payload[:50], config, 65_536)
    huge = b"\xff\x1f\xff\x1f" + payload[2:]  # width 4095
    with pytest.raises(StreamError, match=r"cannot be in|feature maps"):
        decode_group(huge, config, group.frames)


def test_config_refusals():
    """A configuration of another version, size, or with data left over is refused in one line."""
    payload = encode_config(network_for_size(40, 60))
    for bad, message in [
        (b"\x01" + payload[1:], "configuration 1 is not known"),
        (payload + b"\0", "data after its end"),
        (payload[:-1] + b"\x09", "knows no INR coding number 9"),
        (payload[:1] + b"\x00" + payload[2:], "grid side 0"),
    ]:
        with pytest.raises(StreamError, match=message):
            decode_config(bad, height=40, width=60)
    with pytest.raises(StreamError, match="the video has"):
        decode_config(payload, height=400, width=600)


def test_tables_hold_both_families():
    tables = weight_tables()
    assert len(tables) == 128
    np.testing.assert_array_equal(tables.sizes % 2, 1)
