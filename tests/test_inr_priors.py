"""Priors of weights: what each one is good at, that it comes back, and what its side costs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvc.errors import StreamError
from nvc.inr.coding import (
    decode_config,
    decode_group,
    encode_config,
    encode_group,
    side_information,
)
from nvc.inr.config import network_for_size
from nvc.inr.huffman import code_lengths, decode_bytes, encode_bytes
from nvc.inr.matrices import Candidate, MatrixWriter, PayloadReader, decode_matrices
from nvc.inr.models import choose_model, dual_model, histogram_model
from nvc.inr.network import parameter_shapes
from nvc.inr.published import MinMaxGroup, decode_published, encode_published, min_max_group
from nvc.inr.quantised import QuantisedGroup

PRIORS = ("auto", "tensor", "histogram", "dual", "adaptive")


def round_trip(matrices, prior):
    """The payload of matrices under a prior, after checking that they come back."""
    writer = MatrixWriter()
    head = b"".join(writer.add(Candidate(matrix, prior)) for matrix in matrices)
    payload = head + writer.to_bytes()
    reader = PayloadReader(payload)
    codings = [reader.coding() for _ in matrices]
    found = decode_matrices(reader, [matrix.shape for matrix in matrices], codings)
    for one, two in zip(matrices, found, strict=True):
        np.testing.assert_array_equal(one, two)
    return payload


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    prior=st.sampled_from(PRIORS),
    spread=st.sampled_from([0.0, 0.05, 1.0, 30.0, 3000.0]),
    shape=st.sampled_from([(1, 1), (1, 9), (7, 3), (30, 40)]),
)
def test_matrices_come_back(seed, prior, spread, shape):
    """Two matrices under each prior, whatever they hold."""
    rng = np.random.default_rng(seed)
    draw = [np.rint(rng.laplace(scale=spread, size=shape)).astype(np.int32) for _ in range(2)]
    draw[1][rng.random(shape) < 0.3] = 0
    round_trip(draw, prior)


def test_each_prior_has_its_matrix():
    """Scales of rows and columns want the dual prior, odd distributions a histogram."""
    rng = np.random.default_rng(0)
    scales = np.exp(rng.normal(size=(40, 1)) + rng.normal(size=(1, 90)))
    both = np.rint(3 * rng.normal(size=(40, 90)) * scales).astype(np.int32)
    assert dual_model(both).bits < 0.95 * choose_model(both).bits
    assert len(round_trip([both], "dual")) < 0.95 * len(round_trip([both], "tensor"))
    comb = (4 * rng.integers(-3, 4, size=(40, 90))).astype(np.int32)
    assert histogram_model(comb).bits < 0.8 * choose_model(comb).bits
    assert len(round_trip([comb], "histogram")) < 0.8 * len(round_trip([comb], "dual"))
    assert (
        len(round_trip([both, comb], "auto"))
        <= min(len(round_trip([both, comb], prior)) for prior in PRIORS) + 8
    )


def test_histogram_codes_near_the_entropy():
    rng = np.random.default_rng(2)
    matrix = np.rint(rng.normal(scale=5, size=(60, 90))).astype(np.int32)
    _, counts = np.unique(np.abs(matrix), return_counts=True)
    shares = counts / counts.sum()
    entropy = -(shares * np.log2(shares)).sum() + (matrix != 0).mean()  # and a sign
    assert 8 * len(round_trip([matrix], "histogram")) < 1.02 * entropy * matrix.size


@pytest.mark.parametrize("prior", PRIORS)
def test_side_information_is_small(prior):
    """Widths, steps and models take under 3 % of the payload of 70,000 weights."""
    rng = np.random.default_rng(1)
    config = network_for_size(320, 640).with_width(18)
    symbols = tuple(
        np.rint(rng.laplace(scale=12, size=shape)).astype(np.int32)
        for shape in parameter_shapes(config).values()
    )
    embedding = np.rint(rng.laplace(scale=12, size=(16, 16, *config.grid))).astype(np.int32)
    group = QuantisedGroup(config, symbols, (0,) * len(symbols), embedding, 0)
    payload = encode_group(group, prior=prior)
    assert side_information(group, prior=prior) < 0.03 * len(payload)
    read = decode_config(encode_config(config), height=320, width=640)
    again = decode_group(payload, read, 16)
    for one, two in zip(again.symbols, symbols, strict=True):
        np.testing.assert_array_equal(one, two)


def test_bad_histograms_are_refused():
    """Levels out of range, and more levels than there may be, are no histogram."""
    matrix = (3 * np.ones((4, 9))).astype(np.int32)
    payload = bytearray(round_trip([matrix], "histogram"))
    for position in range(len(payload)):
        damaged = payload.copy()
        damaged[position] ^= 0x55
        reader = PayloadReader(bytes(damaged))
        try:
            found = decode_matrices(reader, [matrix.shape], [reader.coding()])
        except StreamError:
            continue
        assert found[0].shape == matrix.shape


@settings(max_examples=40, deadline=None)
@given(st.binary(min_size=1, max_size=400))
def test_huffman_comes_back(data):
    values = np.frombuffer(data, dtype=np.uint8)
    np.testing.assert_array_equal(decode_bytes(encode_bytes(values), len(values)), values)


def test_huffman_is_a_huffman_code():
    """Lengths satisfy Kraft's equality and cost under entropy + 1; 31 bits are never passed."""
    rng = np.random.default_rng(0)
    values = np.clip(np.rint(rng.normal(128, 20, size=20_000)), 0, 255).astype(np.uint8)
    counts = np.bincount(values, minlength=256)
    lengths = code_lengths(counts)
    assert sum(2.0 ** -int(n) for n in lengths if n) == 1
    shares = counts[counts > 0] / counts.sum()
    entropy = -(shares * np.log2(shares)).sum()
    assert entropy <= (counts * lengths).sum() / counts.sum() < entropy + 0.06
    steep = np.array([2 ** min(i, 60) for i in range(256)], dtype=np.int64) >> 3
    assert 0 < code_lengths(steep).max() <= 31


def test_damaged_huffman_is_refused():
    payload = encode_bytes(np.arange(200, dtype=np.uint8))
    for bad in (payload[:100], payload[:-1], payload + b"\0", b"\xff" * len(payload)):
        with pytest.raises(StreamError, match="Huffman payload"):
            decode_bytes(bad, 200)
    with pytest.raises(StreamError, match="too short"):
        decode_bytes(payload, 10**9)


def test_published_group_comes_back():
    """Rounding to 256 levels keeps every value within half a step, through the payload too."""
    import torch

    torch.manual_seed(0)
    config = network_for_size(40, 60).with_width(4)
    parameters = [torch.randn(shape) for shape in parameter_shapes(config).values()]
    codes = torch.randn(3, config.code_channels, *config.grid)
    group = min_max_group(config, parameters, codes)
    read = decode_config(encode_config(config), height=40, width=60)
    again = decode_published(encode_published(group), read, 3)
    assert isinstance(again, MinMaxGroup) and again.frames == 3
    weights = list(again.network("cpu").state_dict().values())
    for one, two, (_, step) in zip(
        [*weights, again.codes("cpu")], [*parameters, codes], again.ranges, strict=True
    ):
        assert float((one - two).abs().max()) <= step / 2 + 1e-5
    with pytest.raises(StreamError):
        decode_published(encode_published(group)[:-30], read, 3)
