"""NIRVANA: patches of a few frames from their coordinates, group after group."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from clips import write_clip
from inr_clips import luma_psnr, make_clip

import nvc
from nvc.errors import StreamError, UsageError
from nvc.inr.fit_config import FitConfig
from nvc.inr.methods import fit_defaults
from nvc.inr.network import nearest_width, parameter_count
from nvc.inr.nirvana import (
    LatentMatrix,
    NirvanaConfig,
    NirvanaNetwork,
    PatchClip,
    from_patches,
    patch_centres,
    to_patches,
)
from nvc.inr.nirvana_codec import NirvanaCodec
from nvc.inr.pictures import PictureSpace
from nvc.inr.recipe import read_recipe

FIT = FitConfig(
    **fit_defaults("nirvana") | {"group": 2, "anchor_every": 2, "lr": 4e-3},
    network={"patch": 16},
    epochs=60,
    residual_length=1.0,
    size_params=4000,
    precision="float32",
)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def fitted():
    """Five frames: an anchor, a residual group, and a rest that cannot build on either."""
    frames, info = make_clip(5, step=0.3)
    codec = NirvanaCodec(FIT)
    return frames, info, list(codec.encode(frames, info)), codec.stats


def test_patches_are_cut_and_put_together():
    config = NirvanaConfig(grid=(2, 3), patch=4, stem_width=4, frames=2)
    pictures = torch.rand(2, 3, 8, 12)
    patches = to_patches(pictures, config)
    assert torch.equal(patches[4, 3:], pictures[1, :, 4:8, 4:8])
    assert torch.equal(from_patches(patches, config), pictures)
    assert patch_centres((2, 2)).tolist() == [[-0.5, -0.5], [-0.5, 0.5], [0.5, -0.5], [0.5, 0.5]]


def test_a_head_a_frame_and_latents_mixed_into_weights():
    """One frame's head changes that frame alone; the mix of a block reaches all weights."""
    config = NirvanaConfig(grid=(1, 2), patch=8, stem_width=8, channels=2, frames=3)
    network = NirvanaNetwork(config)
    centres = patch_centres(config.grid)
    with torch.no_grad():
        before = network(None, centres)
        network.last.weight[1] += 1
        changed = (network(None, centres) - before).abs().amax(dim=(0, 2, 3)) > 0
        assert changed.tolist() == [False] * 3 + [True] * 3 + [False] * 3
        layer = LatentMatrix(3, 8, block=4, bound=1.0)
        x = torch.randn(2, 8)
        plain = layer(x) - layer.bias
        torch.testing.assert_close(plain, x @ layer.latents.T)
        layer.mix *= 2
        torch.testing.assert_close(layer(x) - layer.bias, 2 * plain)


def test_padding_counts_for_nothing():
    frames, info = make_clip(2, 40, 60)
    config = NirvanaConfig(grid=(3, 4), patch=16, stem_width=8)
    clip = PatchClip(frames, info, torch.device("cpu"), config)
    weights = clip.weights(torch.arange(12), PictureSpace("rgb", info))
    assert weights.shape == (12, 1, 16, 16)
    assert int(weights.sum()) == 40 * 60
    assert clip.samples(torch.arange(12), PictureSpace("rgb", info)).shape == (12, 6, 16, 16)


def test_groups_build_on_each_other(fitted):
    frames, info, units, stats = fitted
    assert [(u.frame_start, u.frame_count, u.key) for u in units[1:]] == [
        (0, 2, True),
        (2, 2, False),
        (4, 1, True),
    ]
    anchor, residual, _ = stats["groups"]
    assert residual["payload_bytes"] < 0.62 * anchor["payload_bytes"]
    assert residual["psnr_quantised"] > residual["psnr_float_before"] + 0.3
    decoded = list(NirvanaCodec().decode(units, info))
    assert [frame.pts for frame in decoded] == list(range(5))
    assert luma_psnr(frames[:4], decoded[:4]) > 14
    later = list(NirvanaCodec().decode(units, info, start=3))
    assert [frame.pts for frame in later] == [3, 4]
    assert torch.equal(later[0].planes[0], decoded[3].planes[0])


def test_damage_is_refused_or_harmless(fitted):
    _, info, units, _ = fitted
    for place in range(0, len(units[0].payload)):
        payload = bytearray(units[0].payload)
        payload[place] ^= 0x15
        with pytest.raises(StreamError):
            list(NirvanaCodec().decode([replace(units[0], payload=bytes(payload)), units[1]], info))
    for unit in units[1:3]:
        for place in range(0, len(unit.payload), 1 + len(unit.payload) // 40):
            payload = bytearray(unit.payload)
            payload[place] ^= 0x55
            damaged = replace(unit, payload=bytes(payload))
            try:
                list(NirvanaCodec().decode([units[0], units[1], damaged], info, start=9))
            except StreamError:
                continue
    many = replace(units[1], frame_count=65_536)
    with pytest.raises(StreamError):
        list(NirvanaCodec().decode([units[0], many], info))
    for count in (1, 65_536):
        longer = replace(units[2], frame_count=count)
        with pytest.raises(StreamError):
            list(NirvanaCodec().decode([*units[:2], longer], info))


def test_a_file_comes_back(tmp_path):
    clip = write_clip(tmp_path / "clip.mkv", width=50, height=34, frames=4)
    options = {"epochs": 3, "size_params": 20_000, "device": "cpu", "threads": 1}
    result = nvc.encode(clip, tmp_path / "a.nvc", "nirvana", size=None, **options)
    assert [group["frames"] for group in result.stats["groups"]] == [3, 1]
    with nvc.open(tmp_path / "a.nvc", device="cpu") as video:
        frames = list(video)
        assert torch.equal(video[3].planes[0], frames[3].planes[0])
    nvc.decode(tmp_path / "a.nvc", tmp_path / "a.mkv")
    with pytest.raises(UsageError, match="no frames between frames"):
        nvc.decode(tmp_path / "a.nvc", tmp_path / "b.mkv", fps="2x")


def test_sizes_are_met_and_bad_options_refused():
    config = NirvanaConfig(grid=(34, 60), frames=3)
    assert parameter_count(config.with_width(512), 3) == 1_322_513
    assert nearest_width(config, 3, 200_000).channels == 8
    assert parameter_count(nearest_width(config, 3, 200_000), 3) == pytest.approx(2e5, rel=0.05)
    for options, message in [
        ({"patch": 7}, "even side"),
        ({"frames": 99}, "frames 99 is out of range"),
        ({"stem_width": 30}, "multiple of the block"),
    ]:
        with pytest.raises(UsageError, match=message):
            replace(config, **options)
    _, info = make_clip(2)
    with pytest.raises(UsageError, match="no option strides; it has: patch, layers, block"):
        NirvanaCodec(replace(FIT, network={"strides": 2})).scheme_to_fit(info)


def test_the_recipe_is_the_papers():
    codec, options = read_recipe(Path(__file__).parent.parent / "recipes" / "nirvana.yaml")
    fit = FitConfig(**options)
    epochs = fit.epochs_for(2040), fit.for_residual(2040).epochs
    assert (codec, *epochs) == ("nirvana", 10_000, 2_500)
