"""The integer scale path: exact on every route of arithmetic, and trainable."""

import itertools

import pytest
import torch

from nvc.predictive.scales import (
    INDEX_MAX,
    KIND_INTER,
    KIND_INTRA,
    KIND_RESET,
    ScaleNet,
    checkerboard,
    first_half_codes,
    magnitude_code,
    magnitude_table,
    rounded,
    running_average,
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
        torch.randint(0, 256, (2, latent, *size)).float(),
        torch.randint(0, 256, (2, coarse, *size)).float(),
        torch.randint(0, 256, (2, 2, *size)).float(),
        torch.randint(0, 256, (2, latent, *size)).float(),
    )


QP, PAST_QP, KIND = torch.tensor([5, 40]), torch.tensor([5, 37]), torch.tensor([0, 2])


def indices(net: ScaleNet, dtype: torch.dtype = torch.float32, layout=torch.contiguous_format):
    past, average, coarse, motion, first = (
        part.to(dtype).contiguous(memory_format=layout) for part in inputs()
    )
    shared = net.prepare(past, average, coarse, motion)
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
    past, average, coarse, motion, _ = inputs()
    order = torch.randperm(past.shape[1])
    expected = net.index(
        net.prepare(past, average, coarse, motion), None, QP, PAST_QP, KIND, step=0
    )
    with torch.no_grad():
        net.known[:, : past.shape[1]] = net.known[:, : past.shape[1]][:, order]
    shuffled = net.index(
        net.prepare(past[:, order], average, coarse, motion), None, QP, PAST_QP, KIND, step=0
    )
    assert torch.equal(expected, shuffled)


def test_weights_that_an_exact_accumulator_cannot_hold_are_refused() -> None:
    net = make(latent=300)
    net.check_exact()
    with torch.no_grad():
        net.known.fill_(2.0)
    with pytest.raises(ValueError, match="2\\^24"):
        net.check_exact()
    net = make(latent=300)
    with torch.no_grad():
        net.bias_in.knots[:, :, 1].fill_(
            300.0
        )  # fits, but not 33 times, as QPs out of range mix it
    with pytest.raises(ValueError, match="2\\^24"):
        net.check_exact()


def test_rounding_is_exact_and_bounded() -> None:
    index = torch.tensor([0.0, 0.49609375, 0.5, 62.5, 63.0])
    assert rounded(index).tolist() == [0, 0, 1, INDEX_MAX, INDEX_MAX]


def test_second_step_sees_its_four_neighbours() -> None:
    mask = checkerboard(1, 3, 3, torch.device("cpu"))
    codes = torch.tensor([[8.0, 0, 4], [0, 2, 0], [16, 0, 1]])[None, None]
    seen = first_half_codes(codes * mask, mask)
    assert seen[0, 0].tolist() == [[8, (8 + 4 + 2) // 4, 4], [(8 + 2 + 16) // 4, 2, 1], [16, 4, 1]]


def test_every_place_has_both_halves_among_its_channels() -> None:
    mask = checkerboard(4, 5, 6, torch.device("cpu"))
    assert (mask.sum(dim=1) == 2).all()
    assert torch.equal(mask[:, ::2, :, 1:], mask[:, 1::2, :, :-1])


def test_average_goes_on_only_in_frames_that_use_the_past() -> None:
    average, codes = torch.full((3, 1, 1, 1), 48.0), torch.full((3, 1, 1, 1), 3.0)
    kinds = torch.tensor([KIND_INTRA, KIND_INTER, KIND_RESET])
    assert running_average(average, codes, kinds).flatten().tolist() == [3, (3 * 48 + 3) // 4, 3]


def test_gradients_reach_every_weight() -> None:
    net = ScaleNet(6, 3, 8)
    past, average, coarse, motion, first = inputs(6, 3)
    shared = net.prepare(past, average, coarse, motion)
    index = net.index(shared, first, QP, PAST_QP, KIND, step=1) + net.index(
        shared, None, QP, PAST_QP, KIND, step=0
    )
    index.sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
