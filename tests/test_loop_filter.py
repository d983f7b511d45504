"""The loop filter: the kernel does what the module says, fits find what helps."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from clips import make_frames, write_clip
from predictive_weights import tiny_network, write_weights

from nvc.predictive.checkpoint import load_network, save_network
from nvc.predictive.filter_fit import FilterFit, unfiltered, with_filter
from nvc.predictive.filter_kernels import filter_plane
from nvc.predictive.loop_filter import (
    CHROMA,
    LUMA,
    SHAPES,
    LoopFilter,
    PlaneShape,
    class_weights,
    filtered,
)
from nvc.predictive.network import Second
from nvc.video.frames import VideoInfo
from nvc.weights import by_name

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))

import fit_loop_filter as tool

FORMS = [pytest.param(LUMA, id="luma"), pytest.param(CHROMA, id="chroma")]


def picture(height: int, width: int, *, noise: float = 0.01, seed: int = 0) -> torch.Tensor:
    """A smooth plane with edges and noise, (1, 1, H, W) in [0, 1]."""
    random = torch.Generator().manual_seed(seed)
    rough = torch.rand(1, 1, -(-height // 16), -(-width // 16), generator=random)
    plane = F.interpolate(rough, scale_factor=16, mode="bilinear", align_corners=False)
    plane = torch.where(plane > 0.6, plane, plane / 2)[..., :height, :width]
    return (plane + noise * torch.randn(plane.shape, generator=random)).clamp(0, 1)


def table_of(shape: PlaneShape, *, scale: float = 0.05) -> torch.Tensor:
    random = torch.Generator().manual_seed(1)
    return scale * torch.randn(1, shape.classes, shape.coefficients, generator=random)


@pytest.mark.parametrize("size", [(8, 8), (64, 128), (36, 300), (132, 20)])
@pytest.mark.parametrize("shape", FORMS)
def test_the_kernel_is_the_module(shape: PlaneShape, size: tuple[int, int]) -> None:
    """Strips narrower and wider than a picture, edges, corners: equal but for rounding."""
    plane, table = picture(*size), table_of(shape)
    expected = filtered(plane, table, shape)
    found = filter_plane(plane[0, 0].numpy(), table[0].numpy(), shape)
    assert (expected - plane).abs().mean() > 1e-3
    torch.testing.assert_close(torch.from_numpy(found)[None, None], expected, atol=2e-6, rtol=0)


def test_autocast_leaves_it_alone() -> None:
    """bfloat16 would move samples by half a level."""
    one = LoopFilter()
    one.y.copy_(0.05 * torch.randn(one.y.shape, generator=torch.Generator().manual_seed(1)))
    planes = (picture(32, 32), picture(16, 16), picture(16, 16))
    qp, form = torch.tensor([30]), torch.tensor([0])
    exact = one(planes, qp, form)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        same = one(planes, qp, form)
    assert all(torch.equal(a, b) for a, b in zip(exact, same, strict=True))
    assert not torch.equal(exact[0], planes[0])


@pytest.mark.parametrize("shape", FORMS)
def test_every_block_has_all_of_its_weight(shape: PlaneShape) -> None:
    """Class weights are parts of one, at most eight of them, flat pictures and noise alike."""
    for noise in (0.0, 0.3):
        weights = class_weights(picture(64, 64, noise=noise), shape)
        assert weights.shape == (1, shape.classes, 16, 16)
        torch.testing.assert_close(weights.sum(1), torch.ones(1, 16, 16))
        assert int((weights > 0).sum(1).max()) <= 8


def test_nothing_changes_before_a_fit() -> None:
    """An empty filter gives back its planes, bit for bit; flat planes stay under any."""
    planes = (picture(64, 64), picture(32, 32), picture(32, 32, seed=3))
    zero = torch.zeros(1, dtype=torch.int64)
    for given, made in zip(planes, LoopFilter()(planes, zero, zero), strict=True):
        assert torch.equal(given, made)
    flat = torch.full((1, 1, 32, 32), 0.25)
    assert torch.equal(filtered(flat, table_of(LUMA), LUMA), flat)


def test_shipped_tables_are_continuous() -> None:
    """A picture disturbed by a thousandth of a level differs by little more once filtered."""
    tables = load_network(by_name("dhvc_s")).filter
    assert tables is not None
    plane = picture(64, 128)
    disturbed = plane + 4e-6 * torch.randn(plane.shape, generator=torch.Generator().manual_seed(2))
    for qp in (0, 30, 63):
        for form in range(2):
            table = tables.tables(torch.tensor([qp]), torch.tensor([form]))[0]
            apart = filtered(plane, table, LUMA) - filtered(disturbed, table, LUMA)
            assert float(apart.abs().max()) < 2e-4


def test_a_fit_takes_noise_off_pictures_it_has_not_seen() -> None:
    """And only where it was fitted: other forms and QPs keep tables of zeros."""
    fit = FilterFit()

    def planes(noise: float, seed: int) -> tuple[torch.Tensor, ...]:
        clean = picture(128, 128, noise=0, seed=seed)
        half = F.avg_pool2d(clean, 2)
        random = torch.Generator().manual_seed(seed + 100)
        return tuple(
            (plane + noise * torch.randn(plane.shape, generator=random)).clamp(0, 1)
            for plane in (clean, half, half)
        )

    for seed in range(6):
        fit.add(planes(0.02, seed), planes(0, seed), 9, 1)
    found = fit.tables()
    clean, noisy = planes(0, 50), planes(0.02, 50)
    qp, form = torch.tensor([9]), torch.tensor([1])
    for source, before, after in zip(clean, noisy, found(noisy, qp, form), strict=True):
        assert (after - source).square().mean() < 0.75 * (before - source).square().mean()
    other = found(noisy, torch.tensor([27]), form)
    assert all(torch.equal(a, b) for a, b in zip(noisy, other, strict=True))


def test_a_fit_for_a_network_mends_its_pictures(tmp_path: Path) -> None:
    """Fitted to a clip, saved and read: the same clip's intra frame is nearer to its source."""
    network = tiny_network()
    network.filter, network.config = None, replace(network.config, loop_filter=False)
    info = VideoInfo(width=128, height=64, frame_count=1)
    clip = [frame.planes for frame in make_frames(info, 1)]
    made, fit = with_filter(network), FilterFit()
    for frame in unfiltered(made, [clip], (27,)):
        fit.add(*frame)
    assert made.filter is not None
    made.filter.load_state_dict(fit.tables().state_dict())
    save_network(made, tmp_path / "fitted.safetensors")
    fitted = load_network(tmp_path / "fitted.safetensors")

    def error(of) -> float:  # type: ignore[no-untyped-def]
        (planes, source, qp, form), *_ = unfiltered(of, [clip], (27,))
        shown = of.filter(planes, torch.tensor([qp]), torch.tensor([form]))
        return float((shown[0] - source[0]).square().mean())

    assert network.filter is None
    assert error(fitted) < 0.98 * error(with_filter(network))


def test_b_frames_are_left_as_they_are() -> None:
    """A frame between two others does not change with the tables, a P frame does."""
    network = tiny_network()
    qp = torch.tensor([20])
    source = tuple(picture(side, side) for side in (64, 32, 32))
    first = network(source, qp).memory
    still = torch.zeros(1, 2, 8, 8)

    def shown(second: Second | None) -> torch.Tensor:
        return network(source, qp, memory=first, vectors=still, second=second).pictures[-1]

    between, behind = shown(Second(first, still)), shown(None)
    assert network.filter is not None
    for table in network.filter.buffers():
        table.zero_()
    assert torch.equal(shown(Second(first, still)), between)
    assert not torch.equal(shown(None), behind)


def changed(one: Path, other: Path) -> set[str]:
    """Which tables of a filter differ between two files of weights."""
    states = [dict(load_network(path).filter.named_buffers()) for path in (one, other)]
    return {name for name, table in states[0].items() if not torch.equal(table, states[1][name])}


def test_the_tool_fits_clips(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two rounds in a process of its own; a clip that is none is one line and no file."""
    clip = tmp_path / "clip.mkv"
    write_clip(clip, width=160, height=96, frames=2)
    weights, out = write_weights(tmp_path), tmp_path / "out.safetensors"
    given = [str(weights), str(clip), "--out", str(out), "--qps", "20,40", "--frames", "2"]
    assert tool.main([*given, "--rounds", "2", "--crop", "48x80"]) == 0
    assert changed(weights, out) == {"y", "u", "v"}
    assert tool.main([*given, "--ways", "--crop", "48x80"]) == 0
    assert changed(weights, out) == {"y_ways", "u_ways", "v_ways"}
    out.unlink()
    capsys.readouterr()
    clip.write_bytes(b"no clip")
    assert tool.main(given) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert not out.exists()


def test_shapes_are_those_of_the_tables() -> None:
    module = LoopFilter()
    for table, shape in zip((module.y, module.u, module.v), SHAPES, strict=True):
        assert table.shape[2:] == (shape.classes, shape.coefficients)
        assert shape.coefficients == 3 * len(shape.taps)
    assert len(LUMA.taps) == 12 and len(CHROMA.taps) == 6
