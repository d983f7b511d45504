"""Frames seen through a camera's path, and still maps: found, fitted, coded, refused."""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from clips import write_clip
from inr_clips import fit_units, luma_psnr, make_clip
from torch.nn import functional

import nvc
from nvc.errors import StreamError, UsageError
from nvc.inr.camera import PATH, UNIT, WIDEST, Camera, find_path, look
from nvc.inr.codec import InrCodec
from nvc.inr.coding import CONFIG_VERSION, decode_config, decode_group, encode_config
from nvc.inr.config import network_for_size
from nvc.inr.methods import network_for
from nvc.inr.network import STILL_SHARE, least_values, nearest_width, parameter_shapes

AFFINE = {"camera": "affine"}


def panned(frames=7, height=48, width=80, speed=(0.75, -0.5), seed=0):
    """(frames, 1, height, width) of a smooth random picture that moves by `speed` pixels a frame,
    and the pixels each frame has moved, (frames, 2)."""
    noise = torch.rand(1, 1, height // 4 + 12, width // 4 + 12, generator=_random(seed))
    picture = functional.interpolate(noise, scale_factor=4, mode="bicubic")
    moves = torch.arange(frames)[:, None] * torch.tensor(speed)
    rows, columns = picture.shape[-2:]
    seen = []
    for across, down in moves:
        ys = torch.arange(height) + 24 + down
        xs = torch.arange(width) + 24 + across
        places = torch.stack(torch.meshgrid(ys, xs, indexing="ij")[::-1], dim=-1)
        places = (2 * places + 1) / torch.tensor([columns, rows]) - 1
        seen.append(functional.grid_sample(picture, places[None], align_corners=False))
    return torch.cat(seen).clamp(0, 1), moves


def _random(seed):
    return torch.Generator().manual_seed(seed)


def test_a_path_is_found():
    """A pan is found to a tenth of a pixel, as moves between frames on the canvas."""
    luma, moves = panned()
    path = find_path(luma)
    size = torch.tensor([80, 48])
    scale = 1 + torch.stack([path[0, 0, 0], path[0, 1, 1]])
    found = path[:, :, 2] * size / 2 / scale
    torch.testing.assert_close(found - found[0], moves, atol=0.1, rtol=0)
    corners = torch.tensor([[x, y, 1.0] for x in (-1, 1) for y in (-1, 1)]).T
    places = (path + torch.eye(2, 3)) @ corners
    assert places.abs().max() < 1 + 1e-4  # the canvas holds every frame,
    assert places.abs().amax(dim=(0, 2)).min() > 1 - 1e-4  # and no more


@pytest.mark.parametrize("kind", ["noise", "far", "still"])
def test_no_path_where_nothing_follows(kind):
    """Frames that have nothing in common, a pan wider than a canvas may be, a still picture."""
    if kind == "noise":
        luma = torch.rand(5, 1, 48, 80, generator=_random(1))
    elif kind == "far":
        wide, _ = panned(frames=2, width=600, seed=2)
        starts = range(0, round(80 * WIDEST), 4)
        luma = torch.stack([wide[0, :, :, start : start + 80] for start in starts])
    else:
        luma = panned(frames=1)[0].repeat(3, 1, 1, 1)
    assert find_path(luma).abs().max() == 0


def test_packed_planes_move_as_pictures():
    """Four luma samples and two of chroma move as the planes they are."""
    x = torch.rand(2, 6, 10, 12, generator=_random(3))
    camera = Camera(2, head="yuv420")
    table = torch.randn(2, 6, 1, 1, generator=_random(4))
    camera.path.table.data.copy_(table)
    seen = camera(x, torch.tensor([0.0, 1.0], dtype=torch.float64)).detach()
    maps = table.view(-1, 2, 3) * UNIT + torch.eye(2, 3)
    luma = look(functional.pixel_shuffle(x[:, :4], 2), maps)
    torch.testing.assert_close(functional.pixel_shuffle(seen[:, :4], 2), luma)
    torch.testing.assert_close(seen[:, 4:], look(x[:, 4:], maps))
    places = functional.affine_grid(maps, [2, 2, 10, 12], align_corners=False)
    other = functional.grid_sample(x[:, 4:], places, padding_mode="border", align_corners=False)
    torch.testing.assert_close(seen[:, 4:], other, atol=1e-5, rtol=0)


@pytest.mark.parametrize("chroma", ["420", "444"])
def test_fits_and_decodes(chroma):
    """Both heads: more epochs come closer, and what is decoded is what the encoder counted."""
    frames, info = make_clip(chroma=chroma)
    quality = []
    for epochs in (2, 24):
        units, _ = fit_units(frames, info, "inr", epochs=epochs, network=AFFINE)
        quality.append(luma_psnr(frames, list(InrCodec().decode(units, info))))
    assert quality[1] > quality[0] + 0.08


def test_a_pan_is_easier_with_a_camera():
    """The same fit of a moving texture is closer when the texture stands still for the network."""
    luma, _ = panned(frames=8, height=40, width=60)
    frames, info = make_clip(count=8)
    moving = [
        replace(frame, planes=((picture[0] * 255).to(torch.uint8), *frame.planes[1:]))
        for frame, picture in zip(frames, luma, strict=True)
    ]
    quality = []
    for network in (None, AFFINE):
        units, _ = fit_units(moving, info, "inr", epochs=60, size_params=3000, network=network)
        quality.append(luma_psnr(moving, list(InrCodec().decode(units, info))))
    assert quality[1] > quality[0] + 0.5


def test_a_fresh_process_decodes_it(tmp_path):
    """The file alone, also between frames, gives another process the samples of this one."""
    clip = write_clip(tmp_path / "clip.mkv", width=50, height=34, frames=3)
    out = tmp_path / "file.nvc"
    nvc.encode(clip, out, "inr", epochs=2, size_params=4000, device="cpu", network=AFFINE)
    program = (
        "import sys, torch, nvc\n"
        "with nvc.open(sys.argv[1], device='cpu') as video:\n"
        "    print([int(p.to(torch.int64).sum()) for frame in video for p in frame.planes])\n"
    )
    other = subprocess.run(
        [sys.executable, "-c", program, out], capture_output=True, text=True, check=True
    )
    with nvc.open(out, device="cpu") as video:
        mine = [int(p.to(torch.int64).sum()) for frame in video for p in frame.planes]
    assert other.stdout.strip() == str(mine)


def test_configuration():
    """Networks without a camera keep their bytes; a camera is one number more; others refused."""
    plain = network_for_size(40, 60)
    moving = replace(plain, camera="affine")
    payload = encode_config(moving)
    assert encode_config(plain)[0] == CONFIG_VERSION
    assert payload[1:] == encode_config(plain)[1:] + b"\1\0"
    assert decode_config(payload, height=40, width=60).camera == "affine"
    with pytest.raises(StreamError, match="camera number 9"):
        decode_config(payload[:-2] + b"\x09\0", height=40, width=60)
    with pytest.raises(StreamError, match="still number 9"):
        decode_config(payload[:-1] + b"\x09", height=40, width=60)
    with pytest.raises(StreamError):
        decode_config(payload[:-1], height=40, width=60)
    with pytest.raises(UsageError, match="camera"):
        replace(plain, camera="crane")
    assert parameter_shapes(moving.for_frames(9))[PATH] == (9, 6, 1, 1)


def test_still_maps_fit_their_size():
    """Fine maps where the size allows, coarser ones or none where not; they come back."""
    config = replace(network_for_size(320, 640, head="yuv420", stages=4), still="maps")
    levels = [nearest_width(config, 132, size).still_channels for size in (200_000, 50_000, 12_000)]
    assert levels == [(0, 0, 2, 1), (0, 2, 1, 0), (2, 1, 0, 0)]
    for channels, size in zip(levels, (200_000, 50_000, 12_000), strict=True):
        assert nearest_width(config, 132, size).still_values <= STILL_SHARE * size, channels
    assert not any(replace(config, still_level=8).still_channels)
    assert decode_config(encode_config(config), height=320, width=640).still == "maps"


def test_small_sizes_still_find_a_network():
    """Where maps would leave too little for the smallest network there are none."""
    config = replace(network_for_size(40, 60, head="yuv420", stages=4), still="maps")
    least = least_values(config, 4)
    assert not any(nearest_width(config, 4, least).still_channels)


@pytest.mark.parametrize("coding", ["own", "paper"])
def test_still_maps_are_coded(coding):
    """A group with still maps decodes to the pictures it was fitted to, in both codings."""
    frames, info = make_clip()
    network = AFFINE | {"still": "maps"}
    quality = []
    for epochs in (2, 24):
        units, stats = fit_units(
            frames, info, "inr", epochs=epochs, size_params=9000, network=network, coding=coding
        )
        quality.append(luma_psnr(frames, list(InrCodec().decode(units, info))))
    assert quality[1] > quality[0] + 0.08
    config = decode_config(units[0].payload, height=info.height, width=info.width)
    group = decode_group(units[1].payload, config, len(frames))
    assert any(group.config.still_channels)
    assert stats["values"] > 0.8 * 9000


def test_no_camera_in_chains_of_residual_groups():
    """A residual group would have to stay on its base's canvas: such encodes have no camera."""
    frames, info = make_clip(count=4)
    units, _ = fit_units(
        frames, info, "inr", network=AFFINE, group=2, anchor_every=2, residual_length=1.0
    )
    assert units[0].payload[0] == CONFIG_VERSION
    assert len(list(InrCodec().decode(units, info))) == 4
    units, _ = fit_units(frames, info, "inr", network=AFFINE, group=2)
    assert units[0].payload == encode_config(network_for("inr", info, changed=AFFINE))
    assert len(list(InrCodec().decode(units, info))) == 4


def test_one_frame():
    """A group of one frame has no path to find."""
    frames, info = make_clip(count=1)
    units, _ = fit_units(frames, info, "inr", network=AFFINE)
    assert len(list(InrCodec().decode(units, info))) == 1
