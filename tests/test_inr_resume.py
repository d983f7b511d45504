"""An interrupted encode goes on exactly where it was, and says why when it cannot."""

import math
import signal
from types import SimpleNamespace

import pytest
import torch
from inr_clips import make_clip
from test_inr_codec import one_thread  # noqa: F401

import nvc.inr.fitting
from nvc.errors import InputError, NvcError, UsageError
from nvc.inr.codec import InrCodec
from nvc.inr.fit_config import FitConfig

FIT = FitConfig(epochs=12, size_params=4000, precision="float32", checkpoint_seconds=0.0)


class Stop:
    """A progress callback that interrupts when `epoch` of `group` is done; notes what it saw."""

    def __init__(self, group=0, epoch=None):
        self.group, self.epoch, self.seen = group, epoch, []

    def __call__(self, progress):
        self.seen.append((progress.group, progress.epoch))
        if self.seen[-1] == (self.group, self.epoch):
            raise KeyboardInterrupt


@pytest.fixture(autouse=True)
def report_every_epoch(monkeypatch):
    monkeypatch.setattr(nvc.inr.fitting, "REPORT_SECONDS", 0.0)


def encode(frames, info, *, state=None, resume=False, progress=None, fit=FIT):
    codec = InrCodec(fit, state=state, resume=resume)
    return list(codec.encode(frames, info, progress=progress))


@pytest.mark.parametrize("epoch", [3, 10])
def test_resumed_fit_is_the_same_fit(tmp_path, epoch):
    """Interrupted in the float and in the quantised phase: the same bytes as without a break."""
    frames, info = make_clip()
    whole = encode(frames, info)
    state = tmp_path / "out.nvc.state"
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        encode(frames, info, state=state, progress=Stop(epoch=epoch))
    assert signal.getsignal(signal.SIGINT) is handler
    rest = Stop()
    resumed = encode(frames, info, state=state, resume=True, progress=rest)
    assert rest.seen[0] == (0, epoch)  # one checkpoint interval, an epoch here, is lost
    assert resumed == whole
    assert not state.exists()


def test_finished_groups_are_not_fitted_again(tmp_path):
    """After a break in the second group the first one is read from the state."""
    frames, info = make_clip(4)
    fit = FitConfig(epochs=4, size_params=4000, group=2, precision="float32", checkpoint_seconds=0)
    whole = encode(frames, info, fit=fit)
    state = tmp_path / "state"
    with pytest.raises(KeyboardInterrupt):
        encode(frames, info, fit=fit, state=state, progress=Stop(group=1, epoch=2))
    rest = Stop()
    assert encode(frames, info, fit=fit, state=state, resume=True, progress=rest) == whole
    assert {group for group, _ in rest.seen} == {1}


def test_state_of_another_encode_is_refused(tmp_path):
    """Other options or other frames are named; without resume the state is dropped."""
    frames, info = make_clip()
    state = tmp_path / "state"
    with pytest.raises(KeyboardInterrupt):
        encode(frames, info, state=state, progress=Stop(epoch=2))
    other = FitConfig(epochs=13, size_params=4000, precision="float32", seed=1)
    with pytest.raises(UsageError, match="another epochs, seed"):
        encode(frames, info, state=state, resume=True, fit=other)
    with pytest.raises(InputError, match="frames are not those"):
        encode(frames[::-1], info, state=state, resume=True)
    fresh = Stop(epoch=1)
    with pytest.raises(KeyboardInterrupt):
        encode(frames, info, state=state, progress=fresh)
    assert fresh.seen == [(0, 1)]


def test_checkpoint_holds_plain_tensors(tmp_path):
    """What a resume reads is loaded without unpickling anything but tensors and plain types."""
    frames, info = make_clip()
    with pytest.raises(KeyboardInterrupt):
        encode(frames, info, state=tmp_path, progress=Stop(epoch=10))
    saved = torch.load(tmp_path / "group_0.ckpt", weights_only=True)
    assert saved["epoch"] == 8  # epochs count from 0; the tenth was not saved yet
    assert not any("clip" in name for name in saved["state_dict"])


def report_all(psnrs: list[float], *, epochs: int = 60, first: int = 1) -> None:
    """Tell the bookkeeping of a fit that its epochs came to these PSNRs."""
    book = nvc.inr.fitting._Bookkeeping(
        group=2, fit=FIT, checkpoint=None, progress=None, write=lambda group: b""
    )
    for epoch, psnr in enumerate(psnrs, start=first):
        error = torch.tensor(10 ** (-psnr / 10))
        module = SimpleNamespace(distortion_sum=error, steps=1, quantise_epoch=40, epochs=epochs)
        book._report(module, epoch, 0.0)


def test_a_fit_that_falls_and_stays_down_stops():
    """Not at once, as a few bad epochs may be made good, and not when quantisation begins."""
    rise = [12.0, 20, 28, 21, 21, 21, 28]
    report_all([*rise, 13, 13, 13])  # three reports, but not yet a twentieth of the epochs
    with pytest.raises(
        NvcError, match=r"collapsed by epoch 11 of group 2: 13.0 dB after 28.0; try"
    ):
        report_all([*rise, 13, 13, 13, 13])
    report_all([28.0, *[13.0] * 9], first=40)


def test_a_fit_that_was_perfect_may_be_less_so():
    """A black leader is met exactly and left again; that is no collapse."""
    report_all([20.0, 60, math.inf, 48, 38, 36, 35, 38, 45])


def test_divergence_and_collapse_are_told(monkeypatch):
    """A fit that turns to NaN stops with advice; one stuck at flat frames warns."""
    frames, info = make_clip()
    with pytest.raises(NvcError, match="diverged in epoch"):
        broken = [torch.full_like(p, 0) for p in frames[0].planes]
        monkeypatch.setattr(
            nvc.inr.pictures, "yuv_to_rgb", lambda planes, _: torch.full((1, 3, 40, 60), torch.nan)
        )
        encode([type(frames[0])(tuple(broken), 0)], info)
    monkeypatch.undo()
    monkeypatch.setattr(nvc.inr.fitting, "COLLAPSE_STEPS", 1)
    fit = FitConfig(epochs=1, size_params=4000, precision="float32")
    with pytest.warns(RuntimeWarning, match="collapsed"):
        encode(frames, info, fit=fit)
