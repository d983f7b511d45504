"""Every method is a configuration of shared parts, and its file decodes in a fresh process."""

import math
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from clips import write_clip
from inr_clips import fit_units, luma_psnr, make_clip

import nvc
from nvc.errors import UsageError
from nvc.inr.codec import InrCodec
from nvc.inr.coding import decode_config, encode_config
from nvc.inr.config import NetworkConfig
from nvc.inr.methods import METHODS, fit_defaults, network_for
from nvc.inr.network import DecoderNetwork, frame_times, nearest_width, parameter_count
from nvc.inr.timecode import TemporalGrid, encode_positions

FRAMEWISE = ("inr", "hnerv", "nerv", "enerv", "nervpp", "cam")


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("codec", FRAMEWISE)
def test_every_method_fits(codec):
    """Sixteen epochs bring each method closer than one, in the planes that are decoded."""
    frames, info = make_clip()
    quality = []
    for epochs in (1, 16):
        units, _ = fit_units(frames, info, codec, epochs=epochs, precision="float32")
        quality.append(luma_psnr(frames, list(InrCodec().decode(units, info))))
    assert quality[1] > quality[0] + 0.08


def test_a_fresh_process_decodes_every_method(tmp_path):
    """Files alone, without the source: another process gets the samples this one does."""
    clip = write_clip(tmp_path / "clip.mkv", width=50, height=34, frames=3)
    mine = {}
    for codec in FRAMEWISE:
        out = tmp_path / f"{codec}.nvc"
        nvc.encode(clip, out, codec, epochs=2, size_params=4000, device="cpu", threads=1)
        with nvc.open(out, device="cpu") as video:
            mine[codec] = [int(p.to(torch.int64).sum()) for frame in video for p in frame.planes]
    clip.unlink()
    program = (
        "import sys, torch, nvc\n"
        "torch.set_num_threads(1)\n"
        "for name in sys.argv[1:]:\n"
        "    with nvc.open(name, device='cpu') as video:\n"
        "        print(*[int(p.to(torch.int64).sum()) for f in video for p in f.planes])\n"
        "assert 'lightning' not in sys.modules\n"
    )
    files = [str(tmp_path / f"{codec}.nvc") for codec in FRAMEWISE]
    fresh = subprocess.run(
        [sys.executable, "-c", program, *files], capture_output=True, text=True, check=True
    )
    lines = [list(map(int, line.split())) for line in fresh.stdout.splitlines()]
    assert lines == [mine[codec] for codec in FRAMEWISE]


@pytest.mark.parametrize(("width", "size"), [(26, 3.2e6), (58, 6.3e6), (112, 12.5e6)])
def test_nerv_has_the_papers_sizes(width, size):
    """NeRV-S, M and L: grid, strides, channels and parameters of the paper at 720x1280."""
    _, info = make_clip(1, 720, 1280)
    config = network_for("nerv", info).with_width(width)
    assert (config.grid, config.strides) == ((9, 16), (5, 2, 2, 2, 2))
    assert config.channels == (width, width, 96, 96, 96, 96)
    assert parameter_count(config, 132) == pytest.approx(size, rel=0.006)


def test_published_parts_of_the_others():
    _, info = make_clip(1, 720, 1280)
    enerv = network_for("enerv", info).with_width(196)
    assert (enerv.stem, enerv.modulation, enerv.time_levels) == ("fusion", "film", 80)
    assert parameter_count(enerv, 132) == pytest.approx(12.5e6, rel=0.08)
    cam = network_for("cam", info).for_frames(132)
    assert [steps for steps, _ in cam.grid_shapes] == [132, 66]
    plus = network_for("nervpp", info)
    assert (plus.skip, plus.wrap) == ("bilinear", "separable")


@pytest.mark.parametrize("codec", sorted(FRAMEWISE))
@pytest.mark.parametrize("frames", [1, 3])
def test_config_survives_and_network_runs(codec, frames):
    """CONFIG gives back the network but for its widths; odd sizes and one frame work."""
    _, info = make_clip(frames, 33, 47)
    config = nearest_width(network_for(codec, info), frames, 9000)
    read = decode_config(encode_config(config), height=33, width=47)
    widths = ("stem_width", "min_channels", "embedding_channels", "hidden_width")
    same = {name: getattr(config, name) for name in (*widths, "frames", "floor", "hidden")}
    assert NetworkConfig(**(read.__dict__ | same)) == config
    network = DecoderNetwork(config)
    codes = torch.zeros(frames, config.code_channels, *config.grid)
    output = network(codes, frame_times(frames))
    rows, columns = config.padded_size
    stride = config.head_stride
    assert output.shape[0] == frames
    assert output.shape[2:] == (rows // stride, columns // stride)


def test_high_levels_of_time_are_exact():
    """The highest of 80 levels keeps its phase, which float32 would lose."""
    time = torch.tensor([3 / 7], dtype=torch.float64)
    encoded = encode_positions(time, 80, 125)
    angle = math.pi * 1.25**79 * (3 / 7)
    assert float(encoded[0, 79]) == pytest.approx(math.sin(angle), abs=1e-6)
    assert float(encoded[0, 159]) == pytest.approx(math.cos(angle), abs=1e-6)


def test_grids_interpolate():
    grid = TemporalGrid(3, 2, (1, 1), spread=1.0)
    position = torch.tensor([0.0, 0.25, 1.0], dtype=torch.float64)
    first, between, last = grid(position).detach()
    table = grid.table.detach()
    assert torch.equal(first, table[0])
    assert torch.equal(last, table[2])
    torch.testing.assert_close(between, (table[0] + table[1]) / 2)


def test_parts_that_cannot_be_meant_are_refused():
    _, info = make_clip(1)
    for call, message in [
        (lambda: network_for("siren", info), "allowed: .*hnerv"),
        (lambda: network_for("hnerv", info, changed={"depth": 3}), "no option depth; it has"),
        (lambda: network_for("hnerv", info, changed={"stem_width": 3}), "no option stem_width"),
        (lambda: network_for("hnerv", info, changed={"block": "resnet"}), "pixelshuffle, bilinear"),
        (lambda: network_for("hnerv", info, changed={"stem": "mlp"}), "reads no embedding"),
        (lambda: fit_defaults("hnerv", preset="best"), "presets are of codec inr"),
        (lambda: fit_defaults("inr", preset="slow"), "allowed: best, fast"),
    ]:
        with pytest.raises(UsageError, match=message):
            call()
    assert set(FRAMEWISE) <= set(METHODS)


def test_the_fast_preset_decodes_with_a_third_of_the_arithmetic():
    """At 1080p and 1.5 M values, where decoding is bound by it."""
    info = replace(make_clip(1)[1], height=1080, width=1920)
    macs = []
    for preset in ("best", "fast"):
        changed = fit_defaults("inr", preset=preset).get("network")
        config = nearest_width(network_for("inr", info, changed=changed), 132, 1_500_000)
        cells, total = math.prod(config.grid), 0
        for kernel, stride, pair in zip(
            config.kernels, config.strides, pairwise(config.channels), strict=True
        ):
            total += cells * math.prod(pair) * (kernel * stride) ** 2
            cells *= stride**2
        macs.append(total)
    assert macs[1] < 0.35 * macs[0]


def test_a_planes_head_gives_way_where_planes_are_not_420():
    """4:4:4 is written by an RGB head, as the packed one has no samples for it."""
    assert network_for("inr", make_clip(1, chroma="444")[1]).head == "rgb"
    assert network_for("inr", make_clip(1, chroma="400")[1]).head == "yuv420"


def test_recipes_of_this_family_are_here():
    recipes = Path(__file__).parent.parent / "recipes"
    for codec in ("nerv", "enerv", "hnerv", "nervpp", "cam"):
        assert (recipes / f"{codec}.yaml").is_file()
