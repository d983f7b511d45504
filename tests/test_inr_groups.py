"""Groups end where the picture moves, chains code what changed, and a killed encode goes on."""

import pickle
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from clips import write_clip
from inr_clips import luma_psnr, make_clip

import nvc
import nvc.inr.fitting
import nvc.schedule
from nvc.errors import StreamError, UsageError
from nvc.inr.chain import cut_chains
from nvc.inr.codec import InrCodec
from nvc.inr.coding import decode_group, encode_group
from nvc.inr.config import network_for_size
from nvc.inr.fit_config import FitConfig
from nvc.inr.fitting import fit_group, trim
from nvc.inr.groups import Group, change, cut_groups
from nvc.inr.module import GroupFit
from nvc.inr.network import parameter_shapes
from nvc.inr.quantised import QuantisedGroup
from nvc.video.frames import Frame

CHAINED = FitConfig(
    epochs=24, size_params=4000, group=2, anchor_every=2, residual_length=1.0, precision="float32"
)


def levels(*values, depth=8):
    """Frames of one level each, with a texture so that they are no flat surface."""
    texture = torch.arange(16).repeat(16, 1) % 3
    kind = torch.uint8 if depth == 8 else torch.uint16
    samples = ((texture + value) * 2 ** (depth - 8) for value in values)
    return [Frame((plane.to(torch.int32).to(kind),), pts=n) for n, plane in enumerate(samples)]


@pytest.fixture(scope="module")
def chained():
    """Six frames in groups of two, a residual group after each anchor."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    frames, info = make_clip(6, step=0.3)
    codec = InrCodec(CHAINED)
    units = list(codec.encode(frames, info))
    torch.set_num_threads(threads)
    return frames, info, units, codec.stats


def same(one, two):
    return len(one) == len(two) and all(
        torch.equal(a, b)
        for left, right in zip(one, two, strict=True)
        for a, b in zip(left.planes, right.planes, strict=True)
    )


@pytest.mark.parametrize("depth", [8, 10])
def test_groups_end_where_the_picture_has_moved(depth):
    """Still frames make long groups, moving ones short ones, a cut begins one and is marked."""
    still, moving, scene = [20] * 8, [24, 28, 32, 36, 40, 44], [120, 120, 120]
    frames = levels(*still, *moving, *scene, depth=depth)
    assert change(frames[7], frames[8], depth) == pytest.approx(4.0, abs=0.01)
    groups = list(cut_groups(frames, group=8, frame_count=17, motion=9.0, bit_depth=depth))
    found = [(group.start, len(group.frames), group.cut) for group in groups]
    assert found == [(0, 8, False), (8, 3, False), (11, 3, False), (14, 3, True)]
    assert [group.last for group in groups] == [False] * 3 + [True]
    without = list(cut_groups(frames, group=8, frame_count=17))
    assert [len(group.frames) for group in without] == [6, 6, 5]


def test_chains_begin_at_cuts_and_where_a_group_cannot_build_on_another():
    groups = [
        Group(start, levels(*[0] * count), last=start == 12, cut=cut)
        for start, count, cut in [(0, 3, False), (3, 3, False), (6, 3, True), (9, 3, False)]
    ]
    groups.append(Group(12, levels(0), last=True))
    starts = [[group.start for group in chain] for chain in cut_chains(groups, 2)]
    assert starts == [[0, 3], [6, 9], [12]]
    long = [[group.start for group in chain] for chain in cut_chains(groups, 9)]
    assert long == [[0, 3], [6, 9, 12]]
    equal = cut_chains(groups, 9, equal_lengths=True)
    assert [[group.start for group in chain] for chain in equal] == [[0, 3], [6, 9], [12]]


def test_residual_groups_are_smaller_and_better_than_what_they_start_from(chained):
    frames, info, units, stats = chained
    assert [unit.key for unit in units[1:]] == [True, False, True]
    anchor, residual, _ = stats["groups"]
    assert residual["payload_bytes"] < 0.62 * anchor["payload_bytes"]
    assert residual["psnr_quantised"] > residual["psnr_float_before"] + 0.2
    decoded = list(InrCodec().decode(units, info))
    assert [frame.pts for frame in decoded] == list(range(6))
    assert luma_psnr(frames[2:4], decoded[2:4]) > 14


def test_access_enters_at_anchors_and_makes_only_what_is_asked(chained):
    """The chain is all that a group needs; a lost anchor takes its chain and no more."""
    _, info, units, _ = chained
    whole = list(InrCodec().decode(units, info))
    assert same(list(InrCodec().decode(units[:1] + units[3:], info)), whole[4:])
    assert same(list(InrCodec().decode(units, info, start=3)), whole[3:])
    lost = list(InrCodec().decode([units[0], *units[2:]], info))
    assert [frame.pts for frame in lost] == [4, 5]
    assert same(lost, whole[4:])


def residual_pair(seed=0):
    rng = np.random.default_rng(seed)
    config = network_for_size(40, 60).with_width(5)
    shapes = parameter_shapes(config).values()
    symbols = tuple(np.rint(rng.laplace(scale=9, size=s)).astype(np.int32) for s in shapes)
    embedding = np.rint(rng.laplace(scale=8, size=(3, config.embedding_channels, *config.grid)))
    base = QuantisedGroup(config, symbols, (-900,) * len(symbols), embedding.astype(np.int32), -700)
    moved = tuple(s + (rng.random(s.shape) < 0.1).astype(np.int32) for s in symbols)
    return base, replace(base, symbols=moved, embedding_step_code=-650)


def test_a_residual_group_is_brought_to_its_target():
    """Its weights cannot move their steps: over the target small differences go, and the codes get
    finer under it."""
    frames, info = make_clip(2)
    scheme = InrCodec(CHAINED).scheme_to_fit(info)
    network, target = scheme.choose(CHAINED, info, frames=2, share=1.0)
    clip = scheme.clip(frames, info, torch.device("cpu"))
    fit = replace(CHAINED, epochs=4)
    base, _ = fit_group(clip, network, fit, target_bytes=target, write=lambda g: encode_group(g))
    written = []
    for share in (0.8, 1.03):
        torch.manual_seed(3)
        module = GroupFit(network, fit, clip, target_bits=0.0, bfloat16=False, base=base)
        before = module.embedding_quantiser.log2_step.item()
        with torch.no_grad():
            sizes = [parameter.numel() for parameter in module.network.parameters()]
            for parameter, steps in zip(
                module.network.parameters(), module.quantiser.steps().split(sizes), strict=True
            ):
                parameter += torch.randn_like(parameter) * steps.view_as(parameter)
        whole = len(encode_group(module.quantised(), base.group))
        module.target_bits = 8.0 * share * whole
        trim(module, lambda group: encode_group(group, base.group), round(share * whole))
        written.append(len(encode_group(module.quantised(), base.group)) / (share * whole))
        assert (module.dead_zone > 0) == (share < 1)
        assert (module.embedding_quantiser.log2_step.item() < before) == (share > 1)
    assert 0.97 < written[0] <= 1
    assert 0.985 < written[1] < 1.015


@pytest.mark.parametrize("response", [0.5, 1.0, 1.9, 3.0])
def test_a_payload_is_brought_to_its_target_however_its_bits_answer(response: float) -> None:
    """Bits that fall faster or slower with the steps than one a value and octave."""
    values, target = 72_000, 32_000
    module = SimpleNamespace(
        base=None,
        target_bits=8.0 * target,
        quantiser=SimpleNamespace(sizes=[values], log2_steps=0.0),
        embedding_quantiser=SimpleNamespace(log2_step=0.0),
    )
    module.shift_steps = partial(GroupFit.shift_steps, module)

    def size() -> int:
        return round(1.06 * target - response * values * module.quantiser.log2_steps / 8)

    module.quantised = lambda: None
    trim(module, lambda _: bytes(size()), target)
    assert abs(size() / target - 1) <= 0.01
    assert module.embedding_quantiser.log2_step == module.quantiser.log2_steps


def test_a_residual_payload_holds_the_difference_alone():
    """Few changes cost few bytes, come back exactly, and need the same widths and steps."""
    base, group = residual_pair()
    payload = encode_group(group, base)
    assert len(payload) < 0.35 * len(encode_group(group))
    found = decode_group(payload, network_for_size(40, 60), 3, base)
    for one, two in zip(found.symbols, group.symbols, strict=True):
        np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(found.embedding, group.embedding)
    assert (found.step_codes, found.embedding_step_code) == (group.step_codes, -650)
    with pytest.raises(ValueError, match="the steps of its base"):
        encode_group(replace(group, step_codes=(0, *group.step_codes[1:])), base)


def test_damaged_residuals_are_refused_or_harmless():
    base, group = residual_pair()
    payload = encode_group(group, base)
    config = network_for_size(40, 60)
    for place in range(0, len(payload), 7):
        damaged = bytearray(payload)
        damaged[place] ^= 0x55
        try:
            decode_group(bytes(damaged), config, 3, base)
        except StreamError:
            continue
    high = replace(base, symbols=tuple(np.full_like(s, (1 << 24) - 1) for s in base.symbols))
    with pytest.raises(StreamError, match="out of range"):
        decode_group(payload, config, 3, high)
    with pytest.raises(StreamError):
        decode_group(payload[:20], config, 65_536, base)


def test_chains_fitted_side_by_side_are_the_same(chained, monkeypatch):
    """As tasks that have been through pickle, as they go to other processes, they give the same
    units; every chain is a task, and progress counts frames."""
    frames, info, units, _ = chained
    sent = []

    class Scheduler:
        def __enter__(self):
            return self

        def __exit__(self, *error):
            return None

        def map(self, function, tasks):
            for number, task in enumerate(tasks):
                packed = pickle.dumps((function, task.arguments))
                sent.append(len(packed))
                function, arguments = pickle.loads(packed)
                yield number, pickle.loads(pickle.dumps(function(*arguments)))

    monkeypatch.setattr(nvc.schedule, "open_scheduler", lambda **asked: Scheduler())
    done = []
    codec = InrCodec(replace(CHAINED, jobs=2))
    assert list(codec.encode(frames, info, progress=done.append)) == units
    assert done == [2, 4, 6]
    assert len(sent) == 2


def test_a_killed_encode_loses_no_finished_group(tmp_path, monkeypatch):
    """SIGKILL in the second group: the first comes from the state, with its encoder of codes, and
    the second goes on from its checkpoint; the bytes are those of an encode that ran through."""
    clip = write_clip(tmp_path / "clip.mkv", width=32, height=24, frames=4)
    out, options = (
        tmp_path / "a.nvc",
        {
            **{"epochs": 10, "size_params": 3000, "gop": 2, "anchor_every": 2, "threads": 1},
            **{"precision": "float32", "checkpoint_seconds": 0.0, "device": "cpu"},
        },
    )
    program = f"import nvc; nvc.encode({str(clip)!r}, {str(out)!r}, 'hnerv', **{options!r})"
    process = subprocess.Popen([sys.executable, "-c", program])
    checkpoint = tmp_path / "a.nvc.state" / "group_2.ckpt"
    deadline = time.monotonic() + 120
    while not checkpoint.exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not out.exists()
    monkeypatch.setattr(nvc.inr.fitting, "REPORT_SECONDS", 0.0)
    seen = []
    nvc.encode(clip, out, "hnerv", resume=True, progress=seen.append, **options)
    assert {progress.group for progress in seen} == {1}
    assert seen[0].epoch > 1
    assert not (tmp_path / "a.nvc.state").exists()
    nvc.encode(clip, tmp_path / "b.nvc", "hnerv", **options)
    assert out.read_bytes() == (tmp_path / "b.nvc").read_bytes()


def test_options_of_groups_are_checked():
    for options, message in [
        ({"anchor_every": 0}, "anchor-every is 0"),
        ({"residual_share": 0.0}, "residual-share"),
        ({"motion": -1.0}, "motion is -1.0"),
        ({"jobs": 0}, "jobs is 0"),
        ({"coding": "paper", "anchor_every": 2}, "no residual groups"),
    ]:
        with pytest.raises(UsageError, match=message):
            FitConfig(**options)
