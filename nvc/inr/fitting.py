"""Runs the fit of one group: the trainer, its saved state, progress, and what came out."""

from __future__ import annotations

import logging
import math
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import lightning
import torch

from nvc.errors import NvcError
from nvc.inr.config import NetworkConfig
from nvc.inr.fit_config import FitConfig
from nvc.inr.groups import ResidentClip
from nvc.inr.module import GroupFit
from nvc.inr.quantised import Base, QuantisedGroup
from nvc.nn.precision import multiplies_bfloat16

REPORT_SECONDS = 0.5
FALL = 6.0  # dB under its best that a fit does not come back from, when it stays there
FALLEN_REPORTS, FALLEN_SHARE = 3, 0.05  # reports in a row, share of the epochs
CLEAR = 40.0  # dB; how far above this a fit has been says nothing
COLLAPSE_STEPS = 300  # a shorter fit may well be no better than flat frames
TOLERANCE = 0.01  # of the target, that a payload may be off it
TRIMS = 6
ZONES = 6  # halvings of the search for a dead zone
WIDEST_ZONE = 1.0  # steps
CORRECTIONS = 8  # times the real coder is asked how good the rate estimate is

logger = logging.getLogger("nvc.inr")


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a fit stands; handed to the progress callback now and then.

    psnr: RGB, dB, from the last epoch's training loss. eta: seconds left of this group.
    """

    group: int
    epoch: int
    epochs: int
    psnr: float
    eta: float
    phase: str


@dataclass(frozen=True, kw_only=True)
class FitStats:
    """What a fit of one group came to. PSNR is of RGB in dB, mean over frames, float output.

    psnr_float_before: the network just before quantisation started. psnr_float_final: the final
    weights and codes left unrounded. psnr_quantised: the weights and codes of the file.
    collapsed: after hundreds of steps the output is no better than one flat colour a frame.
    """

    frames: int
    stem_width: int
    values: int
    steps: int
    seconds: float
    psnr_float_before: float
    psnr_float_final: float
    psnr_quantised: float
    target_bytes: int
    payload_bytes: int
    collapsed: bool


def use_bfloat16(fit: FitConfig, device: torch.device) -> bool:
    """Whether the fit runs in bfloat16: as asked, else where the device is faster for it."""
    if fit.precision != "auto":
        return fit.precision == "bfloat16"
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return multiplies_bfloat16()


class _Bookkeeping(lightning.Callback):
    """Progress, collapse detection, rate correction and saved state, all at the end of epochs."""

    def __init__(
        self,
        *,
        group: int,
        fit: FitConfig,
        checkpoint: Path | None,
        progress: Callable[[Progress], None] | None,
        write: Callable[[QuantisedGroup], bytes],
    ) -> None:
        self.group, self.fit, self.checkpoint, self.write = group, fit, checkpoint, write
        self.progress = progress
        self.started = self.saved = self.reported = time.monotonic()
        self.first_epoch = 0
        self.spent = 0.0
        self.psnr_float_before = float("nan")
        self.best = float("-inf")
        self.fallen: list[int] = []  # epochs reported since

    def on_fit_start(self, trainer: Any, module: Any) -> None:
        self.first_epoch = module.current_epoch

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        if module.current_epoch == module.quantise_epoch:
            self.psnr_float_before = module.psnr(module.float_network(), module.all_codes())

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        done = module.current_epoch + 1
        self._correct_rate(module, done)
        now = time.monotonic()
        last = done == module.epochs
        if last or now - self.reported >= REPORT_SECONDS:
            self.reported = now
            self._report(module, done, now)
        due = now - self.saved >= self.fit.checkpoint_seconds
        if self.checkpoint is not None and due and not last:
            self.save(trainer, self.checkpoint)
            self.saved = time.monotonic()

    def _report(self, module: Any, done: int, now: float) -> None:
        psnr = -10 * float(torch.log10(module.distortion_sum / module.steps))
        if psnr != psnr:
            raise NvcError(
                f"the fit diverged in epoch {done} of group {self.group}: the loss is not a "
                "number; try a lower --lr or another --seed"
            )
        self.best = max(self.best, min(psnr, CLEAR))
        self.fallen = [*self.fallen, done] if psnr < self.best - FALL else []
        down = self.fallen and done - self.fallen[0] >= FALLEN_SHARE * module.epochs
        if down and len(self.fallen) >= FALLEN_REPORTS and done <= module.quantise_epoch:
            raise NvcError(
                f"the fit collapsed by epoch {done} of group {self.group}: {psnr:.1f} dB after "
                f"{self.best:.1f}; try a lower --lr, and matrix_lr in a recipe, or another --seed"
            )
        if self.progress is None:
            return
        phases = ((module.round_epoch, "rounding"), (module.quantise_epoch, "noise"), (0, "float"))
        self.progress(
            Progress(
                group=self.group,
                epoch=done,
                epochs=module.epochs,
                psnr=psnr,
                eta=(now - self.started) / (done - self.first_epoch) * (module.epochs - done),
                phase=next(name for start, name in phases if done > start),
            )
        )

    def _correct_rate(self, module: Any, done: int) -> None:
        """Tell the controller what the coder really writes, a few times a fit."""
        quantised = done - module.quantise_epoch
        every = max((module.epochs - module.quantise_epoch) // CORRECTIONS, 1)
        if quantised <= 0 or quantised % every or done == module.epochs or not module.holds_bits:
            return
        with torch.no_grad():
            estimate = float(module.bits(module.flat_parameters(), module.all_codes()))
            written = 8 * len(self.write(module.quantised()))
        module.rate.correction.fill_(min(max(written / max(estimate, 1.0), 0.5), 2.0))
        late = 2 * quantised > module.epochs - module.quantise_epoch
        if late and module.base is None:
            module.shift_steps(written)

    def save(self, trainer: Any, checkpoint: Path) -> None:
        """Write the state beside its name, then rename: a kill leaves the old or the new one."""
        temporary = checkpoint.with_name(checkpoint.name + ".part")
        trainer.save_checkpoint(temporary)
        temporary.replace(checkpoint)

    def state_dict(self) -> dict[str, Any]:
        return {
            "psnr_float_before": self.psnr_float_before,
            "spent": self._seconds(),
            "best": self.best,
            "fallen": self.fallen,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.psnr_float_before = state_dict["psnr_float_before"]
        self.spent = state_dict["spent"]
        self.best, self.fallen = state_dict["best"], list(state_dict["fallen"])

    def _seconds(self) -> float:
        return self.spent + time.monotonic() - self.started


def fit_group(
    clip: ResidentClip,
    network: NetworkConfig,
    fit: FitConfig,
    *,
    target_bytes: int,
    write: Callable[[QuantisedGroup], bytes],
    group: int = 0,
    base: Base | None = None,
    make_module: Callable[..., GroupFit] = GroupFit,
    checkpoint: Path | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> tuple[Base, FitStats]:
    """Fit one group on the device its clip is on; what a next one can be coded against, and stats.

    write: the coder, used to hold the rate at target_bytes. base: the group before, which this one
    starts from and is coded against. make_module: what is fitted. checkpoint: file written every
    fit.checkpoint_seconds; the fit continues from it when it is there. Raises NvcError when the
    fit diverges or collapses on the way, KeyboardInterrupt when it is interrupted; warns when it
    has come to nothing at the end.
    """
    _quiet_lightning()
    device = clip.device
    torch.manual_seed(fit.seed)
    module = make_module(
        network,
        fit,
        clip,
        target_bits=8.0 * target_bytes,
        bfloat16=use_bfloat16(fit, device),
        base=base,
    )
    book = _Bookkeeping(group=group, fit=fit, checkpoint=checkpoint, progress=progress, write=write)
    saved = checkpoint if checkpoint is not None and checkpoint.is_file() else None
    trainer = lightning.Trainer(
        accelerator="gpu" if device.type == "cuda" else "cpu",
        devices=[device.index or 0] if device.type == "cuda" else 1,
        max_epochs=module.epochs,
        callbacks=[book],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    _run(trainer, module, saved)
    module.to(device)
    with torch.no_grad():
        if module.holds_bits:
            trim(module, write, target_bytes)
        quantised = module.quantised()
        codes = module.all_codes()
        psnr_final = module.psnr(module.float_network(), codes)
        psnr_quantised = module.psnr(quantised.network(device), quantised.codes(device))
        source = {name: value.cpu().clone() for name, value in module.source.state_dict().items()}
    psnr_before = book.psnr_float_before
    if math.isnan(psnr_before):  # a fit that never quantises is float to its end
        psnr_before = psnr_final
    payload = len(write(quantised))
    steps = module.epochs * module.steps
    stats = FitStats(
        frames=quantised.frames,
        stem_width=network.stem_width,
        values=sum(map(int, module.quantiser.sizes)) + codes.numel(),
        steps=steps,
        seconds=book._seconds(),
        psnr_float_before=psnr_before,
        psnr_float_final=psnr_final,
        psnr_quantised=psnr_quantised,
        target_bytes=target_bytes,
        payload_bytes=payload,
        collapsed=steps >= COLLAPSE_STEPS and _collapsed(clip, psnr_quantised),
    )
    if stats.collapsed:
        warnings.warn(
            f"group {group} collapsed: {psnr_quantised:.2f} dB is no better than flat frames; try "
            "another seed or a lower learning rate",
            RuntimeWarning,
            stacklevel=2,
        )
    logger.debug("group %d: %s", group, asdict(stats))
    return Base(quantised, source), stats


def trim(module: GroupFit, write: Callable[[Any], bytes], target_bytes: int) -> None:
    """Bring a payload that is off its target by more than 1 % nearer to it: by its steps, but where
    a residual group is over, by a dead zone of its differences.

    Few bits a value answer an octave of step by up to twice as much as many do, so that steps moved
    as if by one bit jump to and fro across the target; how they answered is what the next go by.
    """
    response, before, expected = 1.0, 0, 0.0
    for _ in range(TRIMS):
        written = len(write(module.quantised()))
        if abs(written / target_bytes - 1) <= TOLERANCE:
            return
        if module.base is not None and written > target_bytes:
            _widen_zone(module, write, target_bytes)
            return
        if expected:
            response = min(max(8 * (before - written) / expected, 0.25), 4.0)
        before, expected = written, module.shift_steps(8.0 * written, response=response)


def _widen_zone(module: GroupFit, write: Callable[[Any], bytes], target_bytes: int) -> None:
    """The narrowest dead zone that brings a residual group to its target, or the widest."""
    low, high = 0.0, WIDEST_ZONE
    for _ in range(ZONES):
        module.dead_zone = (low + high) / 2
        if len(write(module.quantised())) > target_bytes:
            low = module.dead_zone
        else:
            high = module.dead_zone
    module.dead_zone = high


def _run(trainer: lightning.Trainer, module: GroupFit, checkpoint: Path | None) -> None:
    """Fit, turning Lightning's exit on ctrl-C back into the KeyboardInterrupt it was."""
    batches = range(module.steps)
    in_main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT)
    try:
        trainer.fit(
            module,
            batches,
            ckpt_path=os.fspath(checkpoint) if checkpoint else None,
            weights_only=True,
        )
    except SystemExit:
        # Lightning has also switched SIGINT off.
        if in_main:
            signal.signal(signal.SIGINT, handler)
        raise KeyboardInterrupt from None
    if trainer.interrupted:
        raise KeyboardInterrupt


def _collapsed(clip: ResidentClip, psnr: float) -> bool:
    """Whether `psnr` is within 0.5 dB of painting every frame in its mean colour."""
    total = 0.0
    for index in clip.each():
        picture = clip.pictures(index)
        flat = picture - picture.mean(dim=(2, 3), keepdim=True)
        total += float(-10 * torch.log10(flat.square().mean().clamp(min=1e-10)))
    return psnr < total / len(clip) + 0.5 and psnr < 40


def _quiet_lightning() -> None:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    logging.getLogger("lightning.fabric").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning.*")
