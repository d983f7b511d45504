"""PFNR: one network for a sequence of videos; later ones change nothing of earlier ones."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from clips import write_clip
from hypothesis import given, settings
from hypothesis import strategies as st
from inr_clips import luma_psnr, make_clip

import nvc
from nvc.bitstream.units import UnitType
from nvc.cli import main
from nvc.errors import InputError, StreamError, UsageError
from nvc.inr.fit_config import FitConfig
from nvc.inr.masks import best_share, binary_entropy, decode_bits, encode_bits
from nvc.inr.methods import fit_defaults
from nvc.inr.pfnr import decode_body
from nvc.inr.pfnr_codec import PfnrCodec
from nvc.inr.recipe import read_recipe
from nvc.inr.spectral import SpectralConv

FIT = FitConfig(
    **fit_defaults("pfnr") | {"lr": 5e-3},
    epochs=30,
    size_params=6000,
    batch_size=2,
    precision="float32",
)
TINY = {"epochs": 3, "size_params": 5000, "device": "cpu", "threads": 1}


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def two():
    """Two clips and the units of each, and what the first one decoded to before the second."""
    frames, info = make_clip()
    turned = [replace(f, planes=tuple(p.flip(0) for p in f.planes)) for f in frames]
    first = list(PfnrCodec(FIT).encode(frames, info))
    alone = list(PfnrCodec().decode(first, info))
    second = list(PfnrCodec(FIT).encode(turned, info, earlier=first))
    return info, frames, turned, first, second, alone


def same(one, other):
    return len(one) == len(other) and all(
        torch.equal(a, b)
        for left, right in zip(one, other, strict=True)
        for a, b in zip(left.planes, right.planes, strict=True)
    )


@settings(max_examples=25)
@given(st.lists(st.lists(st.booleans(), max_size=200), max_size=4))
def test_masks_come_back(masks):
    arrays = [np.array(mask, dtype=bool) for mask in masks]
    found = decode_bits(encode_bits(arrays), [len(mask) for mask in masks])
    assert [mask.tolist() for mask in found] == masks


def test_masks_cost_their_entropy_and_nothing_else_is_read():
    mask = np.random.default_rng(0).random(20_000) < 0.1
    payload = encode_bits([mask])
    assert 8 * len(payload) < 1.01 * binary_entropy(float(mask.mean())) * len(mask)
    for broken, counts in [(payload[:-2], [20_000]), (payload, [19_000]), (b"", [1])]:
        with pytest.raises(StreamError):
            decode_bits(broken, counts)


def test_the_best_scores_are_chosen_and_all_learn():
    scores = torch.tensor([0.1, -0.9, 0.3, -0.2, 0.8], requires_grad=True)
    mask = best_share(scores, 0.4)
    assert mask.tolist() == [0, 1, 0, 0, 1]
    mask.sum().backward()
    assert scores.grad.tolist() == [1, -1, 1, -1, 1]


@pytest.mark.parametrize("size", [(8, 12), (5, 7), (1, 1), (1, 9), (2, 2)])
def test_the_fourier_operator_is_a_circular_convolution_of_low_modes(size):
    """A wave of a kept frequency comes back as that wave, scaled and shifted; others are gone."""
    operator = SpectralConv(1, 2, modes=2, size=size)
    x = torch.randn(3, 1, *size)
    shifted = torch.roll(operator(x), (1, 2), dims=(2, 3))
    torch.testing.assert_close(operator(torch.roll(x, (1, 2), dims=(2, 3))), shifted)
    assert operator(x).shape == (3, 2, *size)
    if size == (8, 12):
        column = torch.arange(12.0)
        for frequency, kept in [(1, True), (3, False)]:
            wave = torch.cos(2 * torch.pi * frequency * column / 12).expand(1, 1, 8, 12)
            assert bool(operator(wave).abs().max() > 1e-4) is kept


def test_a_second_video_changes_no_bit_of_the_first(two):
    info, _, turned, first, second, alone = two
    kinds = [(unit.type, unit.track) for unit in (*first, *second)]
    assert kinds == [(kind, n) for n in (0, 1) for kind in (UnitType.CONFIG, UnitType.PARAMETERS)]
    assert same(list(PfnrCodec().decode([*first, *second], info)), alone)
    other = list(PfnrCodec().decode([*first, *second], info, track=1))
    assert luma_psnr(turned, other) > luma_psnr(turned, alone) + 1
    # Half the weights are taken over for a mask bit each, so a second video costs less.
    assert len(second[0].payload) < 0.8 * len(first[0].payload)


def test_weights_of_earlier_videos_are_reused_and_kept(two):
    info, _, _, first, second, _ = two
    size = {"height": info.height, "width": info.width}
    one = decode_body(first[0].payload, None, **size)
    other = decode_body(second[0].payload, one, **size)
    used, after = one.after().used, other.after()
    reused = sum(int(mask.sum()) for mask in other.reuse)
    assert 0.2 * sum(int(u.sum()) for u in used) < reused
    for place, mask in enumerate(used):
        assert not other.symbols[place][mask].any()
        kept = one.after().values[place]
        np.testing.assert_array_equal(after.values[place][mask], kept[mask])


def test_foreign_and_damaged_weights_are_refused(two):
    info, _, _, first, second, _ = two
    with pytest.raises(StreamError, match="earlier track"):
        list(PfnrCodec().decode(second, info, track=1))
    with pytest.raises(StreamError, match="missing before its head"):
        list(PfnrCodec().decode([*first, second[1]], info, track=1))
    with pytest.raises(StreamError, match="the video has"):
        decode_body(first[0].payload, None, height=info.height + 64, width=info.width)
    for unit, before in ((first[0], []), (second[0], [first[0]])):
        for place in range(0, len(unit.payload), 1 + len(unit.payload) // 60):
            damaged = bytearray(unit.payload)
            damaged[place] ^= 0x55
            units = [*before, replace(unit, payload=bytes(damaged))]
            try:
                list(PfnrCodec().decode(units, info, track=1))
            except StreamError:
                continue


def test_videos_are_added_to_a_file(tmp_path, capsys):
    """Two at once, a third later: tracks of their own lengths and times, of which the earlier ones
    stay; a fresh process decodes them."""
    names = [tmp_path / f"{number}.mkv" for number in range(3)]
    for number, name in enumerate(names):
        write_clip(name, width=32, height=24, frames=2 + number)
    out = tmp_path / "all.nvc"
    result = nvc.encode(names[:2], out, "pfnr", **TINY)
    assert (result.frames, result.bytes) == (5, out.stat().st_size)
    assert not (tmp_path / "all.nvc.state").exists()

    def track(number):
        with nvc.open(out, device="cpu", track=number) as video:
            return list(video)

    before = [track(0), track(1)]
    assert (
        main(["encode", str(names[2]), str(out), "--codec", "pfnr", "--add", "--epochs", "2"]) == 0
    )
    assert all(same(track(number), before[number]) for number in (0, 1))
    assert [len(track(number)) for number in range(3)] == [2, 3, 4]
    assert [frame.pts for frame in track(2)] == [frame.pts for frame in track(1)] + [120]
    capsys.readouterr()
    assert main(["info", str(out), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["track_frames"] == {"0": 2, "1": 3, "2": 4}
    assert main(["info", str(out)]) == 0
    assert "track 2:          4 frames" in capsys.readouterr().out
    command = [sys.executable, "-m", "nvc", "decode", str(out), "-", "--format", "yuv"]
    fresh = subprocess.run([*command, "--track", "1"], capture_output=True, check=True)
    planes = [plane for frame in before[1] for plane in frame.planes]
    assert fresh.stdout == b"".join(plane.numpy().tobytes() for plane in planes)
    with pytest.raises(UsageError, match="no track 3; it has: 0, 1, 2"):
        track(3)


def test_what_does_not_go_together_is_refused(tmp_path):
    small = write_clip(tmp_path / "small.mkv", width=32, height=24, frames=2)
    large = write_clip(tmp_path / "large.mkv", width=48, height=24, frames=2)
    out = tmp_path / "out.nvc"
    with pytest.raises(InputError, match="its width is 48, that of the file's first video is 32"):
        nvc.encode([small, large], out, "pfnr", **TINY)
    assert not out.exists()
    with pytest.raises(InputError, match="no such file to add"):
        nvc.encode(small, out, "pfnr", add=True, **TINY)
    with pytest.raises(UsageError, match="one video a file"):
        nvc.encode([small, small], out, "hnerv", **TINY)
    nvc.encode(small, out, "hnerv", **TINY)
    with pytest.raises(UsageError, match="of codec hnerv, not pfnr"):
        nvc.encode(small, out, "pfnr", add=True, **TINY)
    with pytest.raises(UsageError, match="leave --track away"):
        nvc.open(out, track=1)


def test_finished_videos_are_not_fitted_again(tmp_path):
    """An encode of two videos that stops in the second goes on there."""
    names = [write_clip(tmp_path / f"{n}.mkv", width=32, height=24, frames=2 + n) for n in (0, 1)]
    seen = []

    def stop(progress):
        seen.append(progress.group)
        if progress.group == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        nvc.encode(names, tmp_path / "a.nvc", "pfnr", progress=stop, **TINY)
    rest = []
    note = rest.append
    nvc.encode(names, tmp_path / "a.nvc", "pfnr", resume=True, progress=note, **TINY)
    assert {progress.group for progress in rest} == {1}
    nvc.encode(names, tmp_path / "b.nvc", "pfnr", **TINY)
    assert (tmp_path / "a.nvc").read_bytes() == (tmp_path / "b.nvc").read_bytes()


def test_the_recipe_is_the_papers():
    codec, options = read_recipe(Path(__file__).parent.parent / "recipes" / "pfnr.yaml")
    fit = FitConfig(**options)
    assert (codec, fit.epochs, fit.capacity, fit.adam_lr) == ("pfnr", 150, 0.5, 5e-4)
