"""Colour conversion against swscale, round trips, chroma placement, batches and devices."""

from dataclasses import replace

import pytest
import torch
from av.video.reformatter import Interpolation
from clips import make_frames

from nvc.errors import InputError
from nvc.video.color import (
    downsample_chroma,
    effective_matrix,
    rgb_to_yuv,
    upsample_chroma,
    yuv_to_rgb,
)
from nvc.video.convert import (
    convert_depth,
    convert_planes,
    nearest_format,
    upright_info,
    upright_planes,
)
from nvc.video.frames import ColorInfo, VideoInfo
from nvc.video.pixels import frame_planes, make_frame, pixel_format, pixel_layout

FLAGS = {"bilinear": Interpolation.BILINEAR, "bicubic": Interpolation.BICUBIC}
# swscale counts matrices its own way.
SWS_MATRIX = {1: 1, 6: 5, 9: 9}


def reformat(planes, name, target, interpolation, color, *, to_rgb):
    """Planes through swscale at its most exact; chroma without a location sits in the centre."""
    frame = make_frame(planes, name)
    frame.colorspace = color.matrix if to_rgb else 0
    frame.color_range = (2 if color.full_range else 1) if to_rgb else 2
    flags = (
        FLAGS[interpolation]
        | Interpolation.ACCURATE_RND
        | Interpolation.FULL_CHR_H_INT
        | Interpolation.FULL_CHR_H_INP
        | Interpolation.BITEXACT
    )
    back = {} if to_rgb else {"dst_colorspace": SWS_MATRIX[color.matrix]}
    span = {} if to_rgb else {"dst_color_range": 2 if color.full_range else 1}
    out = frame.reformat(format=target, interpolation=flags, threads=1, **back, **span)
    return frame_planes(out, pixel_layout(target))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("chroma", ["420", "422", "444"])
@pytest.mark.parametrize("matrix", [1, 6, 9])
@pytest.mark.parametrize("full", [False, True])
def test_both_ways_agree_with_swscale_within_one_level(interpolation, chroma, matrix, full):
    """At most 1 of 255 anywhere, and on average under .05 where swscale has no bias of its own."""
    color = ColorInfo(matrix=matrix, full_range=full, chroma_location=2)
    info = VideoInfo(width=96, height=66, chroma=chroma, color=color)
    planes = make_frames(info, 1)[0].planes
    planes = tuple((plane // 2 + 60).to(torch.uint8) for plane in planes)
    expected = reformat(planes, pixel_format(chroma, 8), "gbrp", interpolation, color, to_rgb=True)
    expected = torch.stack([plane.float() for plane in expected])
    got = (yuv_to_rgb(planes, info, interpolation=interpolation)[0] * 255).round()
    error = (got - expected).abs()
    assert error[:, 4:-4, 4:-4].max() <= 1
    assert error.max() <= (3 if interpolation == "bicubic" else 1)  # swscale's border taps
    assert error.mean() < 0.05

    red, green, blue = (plane.to(torch.uint8) for plane in expected)
    target = pixel_format(chroma, 8)
    back = reformat((green, blue, red), "gbrp", target, interpolation, color, to_rgb=False)
    ours = rgb_to_yuv(expected[None] / 255, info, interpolation=interpolation)
    for index, (a, b) in enumerate(zip(ours, back, strict=True)):
        error = (a[0].float() - b.float()).abs()
        assert error.max() <= 1
        # swscale gets full-range chroma by stretching limited range, half a level low
        assert error.mean() < (0.6 if full and index else 0.05)


def test_ten_bits_agree_with_swscale_but_for_its_white():
    """swscale takes 940 of 1023 for 255/256 of white; with that undone: within 2 of 1023."""
    color = ColorInfo(matrix=1, full_range=False, chroma_location=2)
    info = VideoInfo(width=96, height=66, bit_depth=10, color=color)
    planes = tuple(
        (plane.to(torch.int32) // 2 + 240).to(torch.uint16)
        for plane in make_frames(info, 1)[0].planes
    )
    expected = reformat(planes, "yuv420p10le", "gbrp16le", "bilinear", color, to_rgb=True)
    expected = torch.stack([plane.float() for plane in expected]) / (255 * 256) * 1023
    got = yuv_to_rgb(planes, info)[0] * 1023
    inside = expected < 1020
    assert (got - expected).abs()[inside].max() < 2


@pytest.mark.parametrize("depth", [8, 10, 16])
@pytest.mark.parametrize("matrix", [0, 1, 4, 5, 7, 9])
@pytest.mark.parametrize("full", [False, True])
def test_yuv444_to_rgb_and_back_is_exact_inside_the_gamut(depth, matrix, full):
    color = ColorInfo(matrix=matrix, full_range=full)
    info = VideoInfo(width=32, height=16, chroma="444", bit_depth=depth, color=color)
    unit = 2 ** (depth - 8)
    generator = torch.Generator().manual_seed(3)
    # near gray, so that no RGB value is clipped
    planes = tuple(
        (torch.randint(100 * unit, 150 * unit, (2, 16, 32), generator=generator)).to(
            info.sample_dtype
        )
        for _ in range(3)
    )
    again = rgb_to_yuv(yuv_to_rgb(planes, info), info)
    for a, b in zip(again, planes, strict=True):
        assert (a.to(torch.int64) - b.to(torch.int64)).abs().max() <= (1 if depth == 16 else 0)


def test_known_colours_have_their_textbook_values():
    info = VideoInfo(width=1, height=1, chroma="444", color=ColorInfo(matrix=1, full_range=False))
    red = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1)
    assert [int(plane) for plane in rgb_to_yuv(red, info)] == [63, 102, 240]
    white = torch.ones(1, 3, 1, 1)
    assert [int(plane) for plane in rgb_to_yuv(white, info)] == [235, 128, 128]
    full = replace(info, color=ColorInfo(matrix=5, full_range=True))
    assert [int(plane) for plane in rgb_to_yuv(red, full)] == [76, 85, 255]


def test_an_unspecified_matrix_goes_by_the_number_of_lines():
    assert effective_matrix(ColorInfo(), 719) == 6
    assert effective_matrix(ColorInfo(), 720) == 1
    with pytest.raises(InputError, match="matrix 14 is not supported; allowed: 0, 2, 1"):
        effective_matrix(ColorInfo(matrix=14), 720)


def test_a_batch_is_its_pictures_and_planes_need_no_batch():
    info = VideoInfo(width=31, height=17)
    frames = make_frames(info, 3)
    batch = tuple(torch.stack(planes) for planes in zip(*(f.planes for f in frames), strict=True))
    rgb = yuv_to_rgb(batch, info)
    assert rgb.shape == (3, 3, 17, 31)
    for index, frame in enumerate(frames):
        assert torch.equal(rgb[index], yuv_to_rgb(frame.planes, info)[0])
    assert [plane.shape for plane in rgb_to_yuv(rgb, info)] == [(3, 17, 31), (3, 9, 16), (3, 9, 16)]


def test_gray_is_gray_and_keeps_its_values():
    info = VideoInfo(width=16, height=8, chroma="400")
    plane = make_frames(info, 1)[0].planes[0] // 2 + 32
    rgb = yuv_to_rgb((plane,), info)
    assert torch.equal(rgb[0, 0], rgb[0, 2])
    assert torch.equal(rgb_to_yuv(rgb, info)[0][0], plane)


@pytest.mark.parametrize("location", range(7))
def test_chroma_of_a_slope_stays_on_the_slope(location):
    """A linear slope sampled at the chroma positions comes back linear: no shift at any siting."""
    down, across = {0: (0.5, 0), 1: (0.5, 0), 2: (0.5, 0.5), 3: (0, 0), 4: (0, 0.5)}.get(
        location, (1, 0 if location == 5 else 0.5)
    )
    y, x = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    small = 3 * (2 * y[:8, :8] + down) + 5 * (2 * x[:8, :8] + across)
    large = upsample_chroma(small, (16, 16), chroma="420", location=location)
    inside = (slice(3, 12), slice(3, 12))
    assert torch.allclose(large[inside], (3 * y + 5 * x)[inside], atol=1e-4)
    again = downsample_chroma(3 * y + 5 * x, chroma="420", location=location)
    assert torch.allclose(again[2:6, 2:6], small[2:6, 2:6], atol=1e-4)


def test_nearest_resampling_repeats_and_drops_samples():
    plane = torch.arange(6.0).view(2, 3)
    large = upsample_chroma(plane, (3, 5), chroma="420", interpolation="nearest")
    assert large.tolist() == [[0, 0, 1, 1, 2], [0, 0, 1, 1, 2], [3, 3, 4, 4, 5]]
    assert torch.equal(downsample_chroma(large, chroma="420", interpolation="nearest"), plane)


@pytest.mark.parametrize("full", [False, True])
def test_a_deeper_depth_loses_nothing(full):
    plane = torch.arange(256).to(torch.uint8).view(16, 16)
    deep = convert_depth(plane, 8, 12, full_range=full)
    assert int(deep[-1, -1]) == (4095 if full else 255 * 16)
    assert torch.equal(convert_depth(deep, 12, 8, full_range=full), plane)


def test_the_nearest_format_loses_least_then_adds_least():
    allowed = [("420", 8), ("420", 10), ("444", 10)]
    assert nearest_format("420", 9, allowed) == ("420", 10)
    assert nearest_format("400", 8, allowed) == ("420", 8)
    assert nearest_format("422", 8, allowed) == ("444", 10)
    assert nearest_format("420", 12, allowed) == ("420", 10)


def test_gray_gets_neutral_chroma_and_444_takes_any_chroma():
    gray = VideoInfo(width=9, height=7, chroma="400")
    planes = make_frames(gray, 1)[0].planes
    made = convert_planes(planes, gray, replace(gray, chroma="420", bit_depth=10))
    assert [tuple(plane.shape) for plane in made] == [(7, 9), (4, 5), (4, 5)]
    assert set(made[1].to(torch.int32).flatten().tolist()) == {512}
    info = VideoInfo(width=9, height=7)
    full = convert_planes(make_frames(info, 1)[0].planes, info, replace(info, chroma="444"))
    assert all(plane.shape == (7, 9) for plane in full)


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("chroma", ["420", "422"])
def test_upright_pixels_are_the_picture_turned_clockwise(rotation, chroma):
    info = VideoInfo(width=6, height=4, chroma=chroma, bit_depth=10, rotation=rotation)
    planes = make_frames(info, 1)[0].planes
    turned, after = upright_planes(planes, info), upright_info(info)
    assert after.rotation == 0
    assert tuple(tuple(plane.shape) for plane in turned) == after.plane_shapes()
    # the top left corner goes to the top right, bottom right, bottom left
    row, col = {0: (0, 0), 90: (0, -1), 180: (-1, -1), 270: (-1, 0)}[rotation]
    assert int(turned[0][row, col]) == int(planes[0][0, 0])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_gpu_agrees_with_the_cpu():
    for depth in (8, 10):
        info = VideoInfo(width=64, height=48, bit_depth=depth)
        planes = make_frames(info, 1)[0].planes
        here = yuv_to_rgb(planes, info)
        there = yuv_to_rgb([plane.cuda() for plane in planes], info)
        assert torch.allclose(here, there.cpu(), atol=1e-5)
        back = rgb_to_yuv(there, info)
        assert back[0].device.type == "cuda"
