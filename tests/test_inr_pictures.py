"""The head that writes planes: its errors are those of RGB, its samples those of the planes."""

from dataclasses import replace

import pytest
import torch
from inr_clips import fit_units, luma_psnr, make_clip

from nvc.errors import InputError, UsageError
from nvc.inr.codec import InrCodec
from nvc.inr.groups import ResidentClip
from nvc.inr.losses import distortion, ssim
from nvc.inr.pictures import PictureSpace
from nvc.video.color import yuv_to_rgb
from nvc.video.frames import Frame
from nvc.video.writer import open_writer


@pytest.mark.parametrize(
    ("chroma", "depth", "height", "width"),
    [("420", 8, 37, 53), ("420", 10, 40, 60), ("400", 8, 17, 16)],
)
@pytest.mark.parametrize("head", ["yuv420", "rgb"])
def test_what_is_packed_comes_back(head, chroma, depth, height, width):
    """A head that wrote the target exactly would decode to the source's samples, whatever size."""
    frames, info = make_clip(2, height, width, chroma=chroma, bit_depth=depth)
    space = PictureSpace(head, info)
    clip = ResidentClip(frames, info, torch.device("cpu"))
    target = clip.samples(torch.tensor([0, 1]), space)
    planes = space.planes(target)
    assert [tuple(p.shape[1:]) for p in planes] == list(info.plane_shapes())
    if head == "yuv420":
        for plane, source in zip(planes, clip.planes, strict=True):
            assert torch.equal(plane, source)
    assert float(space.squared_error(target, target).max()) == 0


def test_planes_that_are_no_luma_are_refused():
    """As a damaged header may say of a file whose head writes planes."""
    _, info = make_clip(1)
    info = replace(info, color=replace(info.color, matrix=0))
    with pytest.raises(InputError, match="matrix 0 has no luma"):
        PictureSpace("yuv420", info)


def test_packed_errors_are_those_of_rgb():
    """The weighted error of planes is the mean squared error of RGB with repeated chroma."""
    frames, info = make_clip(1)
    space = PictureSpace("yuv420", info)
    target = ResidentClip(frames, info, torch.device("cpu")).samples(torch.tensor([0]), space)
    output = target + 0.02 * torch.randn(target.shape, generator=torch.Generator().manual_seed(1))
    expected = (space.rgb(output) - space.rgb(target)).square().mean()
    torch.testing.assert_close(space.squared_error(output, target)[0], expected)
    whole = yuv_to_rgb([plane[None] for plane in frames[0].planes], info, interpolation="nearest")
    torch.testing.assert_close(space.rgb(target).clamp(0, 1), whole, atol=1e-4, rtol=0)


@pytest.mark.parametrize("head", ["yuv420", "rgb"])
def test_ignored_places_do_not_count(head):
    """An error under the mask changes no distortion, whichever it is; one beside it does."""
    frames, info = make_clip(1, 32, 32)
    ignore = torch.zeros(1, 32, 32, dtype=torch.bool)
    ignore[:, 4:12, 8:20] = True
    space = PictureSpace(head, info)
    clip = ResidentClip(frames, info, torch.device("cpu"), ignore=ignore)
    index = torch.tensor([0])
    target, weight = clip.samples(index, space), clip.weights(index, space)
    stride = 2 if head == "yuv420" else 1
    output = target.clone()
    output[..., 4 // stride : 12 // stride, 8 // stride : 20 // stride] += 0.3
    assert float(space.squared_error(output, target, weight)[0]) == 0
    for loss in ("l1", "l1_ssim"):
        none = torch.zeros(1)
        value = distortion(loss, space, output, target, weight, none)
        assert float(value) == pytest.approx(0, abs=1e-5)
    output[..., 0, 0] += 0.3
    assert float(space.squared_error(output, target, weight)[0]) > 0
    # An encoder does not see what is ignored either.
    other = ResidentClip(frames, info, torch.device("cpu"), ignore=ignore)
    other.planes[0][:, 4:12, 8:20] = 0
    inside = clip.pictures(index)[0, :, 6:10, 10:18]
    torch.testing.assert_close(other.pictures(index)[0, :, 6:10, 10:18], inside, atol=0.02, rtol=0)


def test_ssim_of_equal_and_unequal():
    torch.manual_seed(0)
    picture = torch.rand(1, 3, 24, 24)
    assert float(ssim(picture, picture)) == pytest.approx(1, abs=1e-5)
    assert float(ssim(picture, torch.rand(1, 3, 24, 24))) < 0.3
    assert float(ssim(picture[..., :5, :5], picture[..., :5, :5])) == pytest.approx(1, abs=1e-5)


def test_a_hole_is_filled(tmp_path):
    """Inpainting: under the mask the fit is nearer to what was there than what it was given."""
    frames, info = make_clip(4, 48, 64)
    given, _ = make_clip(4, 48, 64)
    hole = (slice(16, 28), slice(24, 40))
    for frame in given:
        frame.planes[0][hole] = 16
    # A mask larger than the video is cropped around its centre, as the video would be.
    mask = torch.full((52, 66), 16, dtype=torch.uint8)
    mask[18:30, 25:41] = 235
    chroma = torch.full((26, 33), 128, dtype=torch.uint8)
    mask_info = replace(info, width=66, height=52, frame_count=1)
    path = tmp_path / "mask.y4m"
    with open_writer(str(path), mask_info) as writer:
        writer.write(Frame((mask, chroma, chroma), pts=0))
    units, _ = fit_units(given, info, epochs=40, ignore_mask=str(path))
    decoded = list(InrCodec().decode(units, info))

    def inside(clip):
        return [Frame((frame.planes[0][hole],), pts=0) for frame in clip]

    filled = luma_psnr(inside(frames), inside(decoded))
    assert filled > luma_psnr(inside(frames), inside(given)) + 6
    with pytest.raises(UsageError, match="at least as large"):
        fit_units(*make_clip(1, 60, 80), ignore_mask=str(path))


def test_noise_is_smoothed():
    """A fit of a noisy clip is nearer to the clip under the noise than the noisy one is."""
    frames, info = make_clip(6, 40, 60)
    noisy, _ = make_clip(6, 40, 60)
    generator = torch.Generator().manual_seed(0)
    for frame in noisy:
        for plane in frame.planes:
            noise = 40 * torch.randn(plane.shape, generator=generator)
            plane.copy_((plane.float() + noise).round().clamp(0, 255).to(torch.uint8))
    units, _ = fit_units(noisy, info, epochs=40, size_params=3000, loss="l1")
    decoded = list(InrCodec().decode(units, info))
    assert luma_psnr(frames, decoded) > luma_psnr(frames, noisy) + 1.5
