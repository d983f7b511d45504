"""The integer scale path: exact on every route of arithmetic, and trainable."""

import itertools

import pytest
import torch

from nvc.predictive.scales import (
    INDEX_MAX,
    ScaleNet,
    checkerboard,
    first_half_codes,
    magnitude_code,
    magnitude_table,
    rounded,
)


def make(latent: int = 12, coarse: int = 6, width: int = 16) -> ScaleNet:
    torch.manual_seed(3)
    net = ScaleNet(latent, coarse, width)
    with torch.no_grad():  # wide weights, so that clamps and rounding are met
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.5)
    return net


def inputs(latent: int = 12, coarse: int = 6, size: tuple[int, int] = (7, 9)):
    torch.manual_seed(4)
    return (
        torch.randint(0, 256, (2, latent, *size)).float(),
        torch.randint(0, 256, (2, coarse, *size)).float(),
        torch.randint(0, 256, (2, 2, *size)).float(),
        torch.randint(0, 256, (2, latent, *size)).float(),
    )


QP, PAST_QP, KIND = torch.tensor([5, 40]), torch.tensor([5, 37]), torch.tensor([0, 2])


def indices(net: ScaleNet, dtype: torch.dtype = torch.float32, layout=torch.contiguous_format):
    past, coarse, motion, first = (
        part.to(dtype).contiguous(memory_format=layout) for part in inputs()
    )
    shared = net.prepare(past, coarse, motion)
    return [
        net.index(shared, None, QP, PAST_QP, KIND, step=0),
        net.index(shared, first, QP, PAST_QP, KIND, step=1),
    ]


def test_magnitude_codes_are_the_floor_of_a_logarithm() -> None:
    table = magnitude_table()
    assert table[:4].tolist() == [0, 48, 76, 96]
    assert (table.diff() >= 0).all() and table.max() == 255
    assert magnitude_code(torch.tensor([-3, 3, 1000])).tolist() == [96, 96, 255]


def test_every_route_gives_the_same_integers() -> None:
    """float64 has 29 spare bits: equality with it proves no float32 sum was rounded."""
    net = make()
    plain = indices(net)
    for step, other in itertools.chain(
        enumerate(indices(net, layout=torch.channels_last)),
        enumerate(part.float() for part in indices(net.double(), torch.float64)),
    ):
        assert torch.equal(plain[step], other)
    # An index is a whole number of 1/256 before rounding: integers went in, integers came out.
    assert torch.equal(plain[0] * 256, (plain[0] * 256).round())


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_do_not_matter(threads: int) -> None:
    net, before = make(), torch.get_num_threads()
    expected = indices(net)
    torch.set_num_threads(threads)
    try:
        assert all(torch.equal(a, b) for a, b in zip(expected, indices(net), strict=True))
    finally:
        torch.set_num_threads(before)


def test_order_of_summation_does_not_matter() -> None:
    """The same network with its input channels in another order."""
    net = make()
    past, coarse, motion, _ = inputs()
    order = torch.randperm(past.shape[1])
    expected = net.index(net.prepare(past, coarse, motion), None, QP, PAST_QP, KIND, step=0)
    with torch.no_grad():
        net.known[:, : past.shape[1]] = net.known[:, : past.shape[1]][:, order]
    shuffled = net.index(
        net.prepare(past[:, order], coarse, motion), None, QP, PAST_QP, KIND, step=0
    )
    assert torch.equal(expected, shuffled)


def test_more_inputs_than_an_exact_accumulator_holds_are_refused() -> None:
    with pytest.raises(ValueError, match="overflow"):
        ScaleNet(300, 0, 8)


def test_rounding_is_exact_and_bounded() -> None:
    index = torch.tensor([0.0, 0.49609375, 0.5, 62.5, 63.0])
    assert rounded(index).tolist() == [0, 0, 1, INDEX_MAX, INDEX_MAX]


def test_second_step_sees_its_four_neighbours() -> None:
    mask = checkerboard(3, 3, torch.device("cpu"))
    codes = torch.tensor([[8.0, 0, 4], [0, 2, 0], [16, 0, 1]])[None, None]
    seen = first_half_codes(codes * mask, mask)
    assert seen[0, 0].tolist() == [[8, (8 + 4 + 2) // 4, 4], [(8 + 2 + 16) // 4, 2, 1], [16, 4, 1]]


def test_gradients_reach_every_weight() -> None:
    net = ScaleNet(6, 3, 8)
    past, coarse, motion, first = inputs(6, 3)
    shared = net.prepare(past, coarse, motion)
    index = net.index(shared, first, QP, PAST_QP, KIND, step=1) + net.index(
        shared, None, QP, PAST_QP, KIND, step=0
    )
    index.sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
