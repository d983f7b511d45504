"""The rate is the coder's, rounding has its gradients, and the controller holds its target."""

import math

import pytest
import torch

from nvc.inr.parameters import (
    EmbeddingQuantiser,
    Quantiser,
    RateController,
    laplace_entropy,
    step_code,
    step_value,
)
from nvc.inr.quantised import dequantise, quantise
from nvc.nn.optimisers import Muon, orthogonalise


@pytest.mark.parametrize("scale", [0.1, 0.3, 1.0, 3.0, 20.0])
def test_entropy_is_that_of_rounded_samples(scale):
    """The closed form is within 2 % of the empirical entropy of rounded Laplace samples."""
    torch.manual_seed(0)
    samples = torch.distributions.Laplace(0.0, scale).sample((200_000,)).round()
    _, counts = samples.unique(return_counts=True)
    shares = counts / counts.sum()
    empirical = float(-(shares * shares.log2()).sum())
    assert float(laplace_entropy(torch.tensor(scale))) == pytest.approx(
        empirical, rel=0.02, abs=5e-3
    )


def test_entropy_has_finite_gradients_everywhere():
    means = torch.tensor([0.0, 1e-6, 0.02, 0.5, 1e4], requires_grad=True)
    laplace_entropy(means).sum().backward()
    assert torch.isfinite(means.grad).all()
    assert (means.grad[2:] > 0).all()


def test_rounding_passes_gradients_to_values_and_steps():
    """Straight-through: 1 to values, the rounding error to steps (LSQ); noise: the noise."""
    quantiser = Quantiser([3, 2])
    quantiser.log2_steps.data = torch.tensor([0.0, 1.0])
    flat = torch.tensor([0.3, 1.8, -2.4, 3.0, 0.5], requires_grad=True)
    output = quantiser(flat, None)
    assert torch.equal(output, torch.tensor([0.0, 2.0, -2.0, 4.0, 0.0]))
    output.sum().backward()
    torch.testing.assert_close(flat.grad, torch.ones(5))
    log_step = torch.tensor([-0.3 + 0.2 + 0.4, (0.5 - 0.25) * 2]) * math.log(2)
    torch.testing.assert_close(quantiser.log2_steps.grad, log_step)
    noise = torch.full((5,), 0.25)
    torch.testing.assert_close(quantiser(flat, noise)[3:], flat[3:] + 0.5)


def test_steps_start_at_the_bits_asked_for():
    torch.manual_seed(0)
    flat = torch.cat(
        [torch.distributions.Laplace(0.0, scale).sample((5000,)) for scale in (1e-3, 0.2)]
    )
    quantiser = Quantiser([5000, 5000])
    quantiser.start(flat, 5.0)
    assert float(quantiser.bits(flat).detach()) / 10_000 == pytest.approx(5.0, abs=0.05)
    codes = flat[5000:].view(5, 10, 10, 10) + torch.arange(10.0)[:, None, None]
    embedding = EmbeddingQuantiser()
    embedding.start(codes, 4.0)
    assert float(embedding.bits(codes).detach()) == pytest.approx(4.0, abs=0.1)


def test_controller_meets_its_target():
    """Against a rate that answers to lambda as a fit does, it ends within 2 % of the target."""
    controller = RateController()
    bits = torch.tensor(1000.0)
    controller.start(torch.tensor(1e-3), bits)
    assert float(controller.log_lambda) == pytest.approx(math.log(0.3e-6))
    for step in range(600):
        multiplier = controller.update(bits, 700.0, step / 600)
        bits = bits + 0.05 * (-150 * (torch.log(multiplier / 0.3e-6)) + 900 - bits)
    assert float(bits) == pytest.approx(700, rel=0.02)
    controller.correction.fill_(1.25)  # the coder writes a quarter more than estimated
    for _ in range(600):
        multiplier = controller.update(bits, 700.0, 1.0)
        bits = bits + 0.05 * (-150 * (torch.log(multiplier / 0.3e-6)) + 900 - bits)
    assert float(bits) == pytest.approx(700 / 1.25, rel=0.02)


def test_quantise_and_back():
    """Symbols times the stored step are within half a step, and steps survive their 16-bit code."""
    values = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    symbols, code = quantise(values, -3.217)
    step = step_value(code)
    assert step == pytest.approx(2**-3.217, rel=2e-3)
    assert step_code(math.log2(step)) == code
    assert float((dequantise(symbols, code, "cpu") - values).abs().max()) <= step / 2 + 1e-6
    assert step_code(1e9) == -step_code(-1e9) < 2**15


def test_orthogonalise():
    """Singular values end near 1 and the singular directions stay, tall or wide."""
    torch.manual_seed(0)
    for shape in ((20, 60), (60, 20)):
        matrix = torch.randn(shape)
        values = torch.linalg.svdvals(orthogonalise(matrix))
        assert values.min() > 0.6 and values.max() < 1.3
        u, _, v = torch.linalg.svd(matrix, full_matrices=False)
        inner = (orthogonalise(matrix) * (u @ v)).sum() / orthogonalise(matrix).norm()
        assert inner > 0.95 * math.sqrt(20)


def test_muon_descends_and_refuses_vectors():
    torch.manual_seed(0)
    target, weight = torch.randn(8, 12), torch.nn.Parameter(torch.zeros(8, 12))
    optimiser = Muon([weight], lr=0.05)
    first = None
    for _ in range(200):
        optimiser.zero_grad()
        loss = (weight - target).square().mean()
        loss.backward()
        optimiser.step()
        first = loss.item() if first is None else first
    assert loss.item() < 0.05 * first
    with pytest.raises(ValueError, match="takes matrices"):
        Muon([torch.nn.Parameter(torch.zeros(3))], lr=0.1)
