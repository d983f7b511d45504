"""Frames become units by a fit and come back from them: sizes, depths, groups, seeds, threads."""

import pytest
import torch
from inr_clips import luma_psnr, make_clip

from nvc.bitstream.units import Unit, UnitType
from nvc.codecs import RateTarget, make_decoder, make_encoder
from nvc.errors import InputError, StreamError, UsageError
from nvc.inr.codec import InrCodec, choose_network
from nvc.inr.config import network_for_size
from nvc.inr.fit_config import FitConfig
from nvc.inr.groups import cut_groups
from nvc.inr.network import parameter_count
from nvc.video.frames import Frame


@pytest.fixture(autouse=True)
def one_thread():
    """Tiny fits are faster, and steady beside other work, on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def encode(frames, info, **options):
    settings = {"epochs": 2, "size_params": 4000, "precision": "float32"} | options
    codec = InrCodec(FitConfig(**settings))
    return list(codec.encode(frames, info)), codec.stats


def test_fit_is_close_and_quantisation_cheap():
    """A short fit gets near the clip, and the file's network near the float one."""
    frames, info = make_clip()
    units, stats = encode(frames, info, epochs=60)
    assert [unit.type for unit in units] == [UnitType.CONFIG, UnitType.PARAMETERS]
    decoded = list(InrCodec().decode(units, info))
    assert [frame.pts for frame in decoded] == [0, 1, 2, 3]
    assert luma_psnr(frames, decoded) > 19
    assert stats["psnr_quantised"] > stats["psnr_float_final"] - 0.5
    group = stats["groups"][0]
    assert group["payload_bytes"] == len(units[1].payload)
    assert group["payload_bytes"] == pytest.approx(group["target_bytes"], rel=0.06)


@pytest.mark.parametrize(
    ("chroma", "depth", "height", "width"),
    [("420", 8, 37, 53), ("422", 10, 40, 60), ("444", 12, 24, 31), ("400", 8, 17, 16)],
)
def test_every_format_comes_back_in_kind(chroma, depth, height, width):
    """Odd sizes, chroma formats and bit depths decode to planes of the source's shapes."""
    frames, info = make_clip(2, height, width, chroma=chroma, bit_depth=depth)
    units, _ = encode(frames, info)
    decoded = list(InrCodec().decode(units, info))
    for frame, source in zip(decoded, frames, strict=True):
        assert [p.shape for p in frame.planes] == [p.shape for p in source.planes]
        assert all(p.dtype == info.sample_dtype for p in frame.planes)
        assert all(int(p.to(torch.int32).max()) < 2**depth for p in frame.planes)


@pytest.mark.parametrize("method", ["hnerv", "nirvana", "pfnr"])
def test_pictures_in_bfloat16_are_near(method):
    """Asked for by name; what is not asked for is float32, the same on every machine."""
    frames, info = make_clip()
    size = RateTarget("size", 6000)
    codec = make_encoder(method, info, rate=size, epochs=2, precision="float32")
    units = list(codec.encode(frames, info))
    plain, automatic, rounded = (
        torch.stack([frame.planes[0].int() for frame in decoded])
        for decoded in (
            list(make_decoder(method).decode(units, info, precision=precision))
            for precision in ("float32", "auto", "bfloat16")
        )
    )
    assert torch.equal(plain, automatic)
    assert 0 < (plain - rounded).abs().float().mean() < 2
    with pytest.raises(UsageError, match="allowed: auto, float32, bfloat16"):
        list(make_decoder(method).decode(units, info, precision="half"))


@pytest.mark.parametrize("embedding", ["encoder", "table"])
@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_options_fit(embedding, optimizer):
    """Each source of codes and each optimiser lowers the error from that of the start."""
    frames, info = make_clip()
    options = {"embedding": embedding, "optimizer": optimizer, "lr": 1e-2}
    short, _ = encode(frames, info, epochs=1, **options)
    long, stats = encode(frames, info, epochs=30, **options)
    before, after = (luma_psnr(frames, list(InrCodec().decode(u, info))) for u in (short, long))
    assert after > before + 0.5
    assert stats["steps"] == 60


def test_groups_stand_alone():
    """A clip is cut into even groups, each decoded by its own unit and the CONFIG alone."""
    frames, info = make_clip(5)
    units, stats = encode(frames, info, group=2, batch_size=1)
    assert [(u.frame_start, u.frame_count, u.key) for u in units[1:]] == [
        (0, 2, True),
        (2, 2, True),
        (4, 1, True),
    ]
    whole = list(InrCodec().decode(units, info))
    part = list(InrCodec().decode([units[0], units[2]], info))
    assert [frame.pts for frame in part] == [2, 3]
    for one, two in zip(part, whole[2:4], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one.planes, two.planes, strict=True))
    assert [group["frames"] for group in stats["groups"]] == [2, 2, 1]


def test_cut_groups_is_even_and_bounded():
    """No short rest when the length is known; one frame of look-ahead when it is not."""
    frames = [Frame((torch.zeros(1, 1),), pts=n) for n in range(10)]

    def lengths(count):
        groups = list(cut_groups(iter(frames), group=4, frame_count=count))
        assert [group.last for group in groups] == [False] * (len(groups) - 1) + [True]
        return [len(group.frames) for group in groups]

    assert lengths(10) == [4, 4, 2]
    assert lengths(9) == [3, 3, 3, 1]
    assert lengths(None) == [4, 4, 2]
    assert lengths(8) == [4, 4, 2]
    taken = []
    groups = cut_groups((taken.append(f) or f for f in frames), group=4, frame_count=None)
    next(groups)
    assert len(taken) == 5


def test_same_seed_same_bytes_and_threads_change_nothing():
    """A fit is repeatable, and the samples are the same whatever the number of threads."""
    frames, info = make_clip()
    units, _ = encode(frames, info, epochs=6)
    again, _ = encode(frames, info, epochs=6)
    other, _ = encode(frames, info, epochs=6, seed=1)
    assert units == again
    assert units[1].payload != other[1].payload
    decoded = []
    for count in (1, 2):
        torch.set_num_threads(count)
        decoded.append(list(InrCodec().decode(units, info)))
        assert torch.get_num_threads() == count
    for one, two in zip(*decoded, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one.planes, two.planes, strict=True))


def test_size_in_bytes_sets_width_and_rate():
    """The width follows the size asked for; impossible and unknown sizes are refused."""
    _, info = make_clip(16, 320, 640)
    network = network_for_size(320, 640)
    fit = FitConfig(size_bytes=60_000)
    config, target = choose_network(network, fit, info, frames=16, share=1.0)
    assert target == pytest.approx(60_000, rel=0.01)
    values = parameter_count(config, 16)
    assert 8 * target / values == pytest.approx(fit.bits_per_value, rel=0.08)  # widths are whole
    _, half = choose_network(network, fit, info, frames=8, share=0.5)
    assert half == pytest.approx(target / 2, rel=0.01)
    with pytest.raises(UsageError, match="known number of frames"):
        choose_network(network, fit, info, frames=16, share=None)
    with pytest.raises(UsageError, match="too small"):
        choose_network(network, FitConfig(size_bytes=600), info, frames=16, share=1.0)


def test_bad_streams_and_frames_are_refused():
    frames, info = make_clip(2)
    units, _ = encode(frames, info, epochs=1)
    with pytest.raises(StreamError, match="configuration is missing"):
        list(InrCodec().decode(units[1:], info))
    bare = Unit(type=UnitType.PARAMETERS, payload=b"", frame_start=0, frame_count=2, key=True)
    with pytest.raises(StreamError):
        list(InrCodec().decode([units[0], bare], info))
    with pytest.raises(InputError, match="frame 1 of a group has planes"):
        encode([frames[0], make_clip(1, 20, 20)[0][0]], info)


def test_options_are_checked():
    """Each bad option is refused with what is allowed."""
    for options, message in [
        ({"epochs": 0}, "epochs is 0"),
        ({"optimizer": "sgd"}, "allowed: muon, adam"),
        ({"embedding": "pe"}, "allowed: pooled, encoder, table"),
        ({"lr": 2.0}, "lr is 2.0"),
        ({"group": 10**6}, "allowed: 1 to 65536"),
        ({"quantise_from": 1.0}, "quantise-from"),
    ]:
        with pytest.raises(UsageError, match=message):
            FitConfig(**options)
