"""How a clip is fitted: every option of the fit in one frozen dataclass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from nvc.errors import UsageError
from nvc.inr.config import MAX_VALUES

Optimiser = Literal["muon", "adam"]
EmbeddingSource = Literal["pooled", "encoder", "table"]
Precision = Literal["auto", "float32", "bfloat16"]
Loss = Literal["l2", "l1", "l1_ssim"]
Prior = Literal["auto", "histogram", "tensor", "dual", "adaptive"]
Coding = Literal["own", "paper"]

DEFAULT_BITS_PER_PIXEL = 0.1
PAPER_EPOCHS = 300
LEAST_STEPS = 1500
MAX_GROUP = 1 << 16  # frames one unit may cover


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise UsageError(message)


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """Options of a fit; every bad one raises UsageError with what is allowed.

    method: whose network (nvc.inr.methods); network: arguments of network_for_size in place of the
    method's. epochs: None means 300, as published, and at least 1,500 steps for short clips.
    size_params: decoder parameters and embedding values of the whole clip's network, per group.
    size_bytes: bytes of the whole file; needs a known number of frames. With neither size the file
    aims at 0.1 bit a pixel. bits_per_value: what one parameter costs in the file on average; it
    turns a size in bytes into a width, and size_params into a rate. lmbda: instead of holding a
    rate, minimise bits/pixel + lmbda * MSE of RGB in [0, 1]; psnr: instead hold the mean RGB PSNR
    in dB. loss: "l2", "l1" or NeRV's "l1_ssim".
    optimizer: "muon" (matrices by Muon at matrix_lr, the rest by Adam at lr) or "adam" (Adam at lr
    for all, as published). lr, matrix_lr: None means the optimizer's own default. adam_beta: Adam's
    first beta.
    embedding: "pooled" (encoder on frames pooled by the first pool_stages strides), "encoder"
    (HNeRV's, on whole frames), or "table" (free values).
    prior: what codes the weights: the cheapest of all ("auto"), a histogram of magnitudes a tensor,
    one scale a tensor, one a row and one a column, or the adaptive coder. coding: "paper" rounds to
    8 bits between minimum and maximum after a fit that knows nothing of it, and codes with Huffman.
    ignore_mask: picture or video of the places not to fit, where its luma is over half.
    quantise_from: share of the steps before quantisation starts; noise_share: share of the
    quantised steps that imitate rounding by noise before rounding itself takes over.
    group: most frames fitted by one network. motion: groups also end where the luma has changed by
    that many levels of 255 in all, and at scene cuts; None: groups of equal length.
    anchor_every: an anchor every so many groups, the others coded as what changed from the one
    before. residual_share, residual_length: bytes and epochs of such a group over an anchor's.
    capacity: share of a tensor's weights that one video of a sequence uses (pfnr).
    jobs: chains of groups fitted side by side in processes; cluster: where else they may run
    (nvc.schedule). checkpoint_seconds: time between saved states.
    """

    method: str = "hnerv"
    network: Mapping[str, Any] | None = None
    epochs: int | None = None
    size_params: int | None = None
    size_bytes: int | None = None
    lmbda: float | None = None
    psnr: float | None = None
    bits_per_value: float = 6.0
    batch_size: int = 2
    optimizer: Optimiser = "muon"
    lr: float | None = None
    matrix_lr: float = 2e-2
    step_lr: float = 2e-2
    adam_beta: float = 0.9
    warmup: float = 0.1
    loss: Loss = "l2"
    embedding: EmbeddingSource = "pooled"
    pool_stages: int = 1
    quantise_from: float = 0.65
    noise_share: float = 0.3
    prior: Prior = "auto"
    coding: Coding = "own"
    ignore_mask: str | None = None
    group: int = 256
    motion: float | None = None
    anchor_every: int = 1
    residual_share: float = 0.5
    residual_length: float = 0.5
    capacity: float = 0.5
    jobs: int = 1
    cluster: str | None = None
    seed: int = 0
    precision: Precision = "auto"
    checkpoint_seconds: float = 20.0

    def __post_init__(self) -> None:
        for name, value, low in (
            ("epochs", self.epochs, 1),
            ("size-params", self.size_params, 1),
            ("size", self.size_bytes, 1),
        ):
            _require(value is None or value >= low, f"{name} is {value}; it must be {low} or more")
        _require(
            (self.size_params or 0) <= MAX_VALUES,
            f"size-params is {self.size_params}; it must be {MAX_VALUES} or less",
        )
        _require(1 <= self.bits_per_value <= 16, "bits-per-value must be 1 to 16")
        _require(self.batch_size >= 1, f"batch-size is {self.batch_size}; it must be 1 or more")
        for name, value, allowed in (
            ("optimizer", self.optimizer, get_args(Optimiser)),
            ("embedding", self.embedding, get_args(EmbeddingSource)),
            ("precision", self.precision, get_args(Precision)),
            ("loss", self.loss, get_args(Loss)),
            ("prior", self.prior, get_args(Prior)),
            ("coding", self.coding, get_args(Coding)),
        ):
            _require(value in allowed, f"{name} is {value!r}; allowed: {', '.join(allowed)}")
        for name, rate in (
            ("lr", self.lr if self.lr is not None else 1.0),
            ("matrix-lr", self.matrix_lr),
            ("step-lr", self.step_lr),
        ):
            _require(0 < rate <= 1, f"{name} is {rate}; allowed: above 0, at most 1")
        for name, share in (
            ("warmup", self.warmup),
            ("quantise-from", self.quantise_from),
            ("noise-share", self.noise_share),
            ("adam-beta", self.adam_beta),
        ):
            _require(0 <= share < 1, f"{name} is {share}; allowed: 0 to under 1")
        _require(1 <= self.group <= MAX_GROUP, f"group is {self.group}; allowed: 1 to {MAX_GROUP}")
        for name, count in (
            ("pool-stages", self.pool_stages),
            ("anchor-every", self.anchor_every),
            ("jobs", self.jobs),
        ):
            _require(count >= 1, f"{name} is {count}; it must be 1 or more")
        for name, part in (
            ("motion", 1.0 if self.motion is None else self.motion),
            ("residual-share", self.residual_share),
            ("residual-length", self.residual_length),
        ):
            _require(0 < part < 1e6, f"{name} is {part}; it must be above 0")
        _require(
            self.coding == "own" or self.anchor_every == 1,
            "the published coding has no residual groups: leave --anchor-every away",
        )
        _require(
            0 < self.capacity <= 1, f"capacity is {self.capacity}; allowed: above 0, at most 1"
        )
        _require(self.seed >= 0, f"seed is {self.seed}; it must be 0 or more")
        _require(self.checkpoint_seconds >= 0, "checkpoint-seconds must be 0 or more")

        targets = [
            name for name in ("size_bytes", "lmbda", "psnr") if getattr(self, name) is not None
        ]
        _require(len(targets) < 2, f"{' and '.join(targets)} were given: give one of them")
        _require(self.lmbda is None or 0 < self.lmbda < 1e9, "lmbda must be above 0")
        _require(self.psnr is None or 10 <= self.psnr <= 60, "psnr must be 10 to 60 dB")
        _require(
            self.loss == "l2" or (self.lmbda is None and self.psnr is None),
            "lmbda and psnr speak of squared errors: they need the loss l2",
        )
        _require(
            self.coding == "own" or (self.lmbda is None and self.psnr is None),
            "the paper's coding knows no rate: it takes a size, not lmbda or psnr",
        )

    @property
    def adam_lr(self) -> float:
        """Adam's learning rate: as given, else 1e-3 as published, 4e-3 beside Muon."""
        if self.lr is not None:
            return self.lr
        return 1e-3 if self.optimizer == "adam" else 4e-3

    def for_residual(self, frames: int) -> FitConfig:
        """The options of a residual group of `frames` frames: shorter, and quantised throughout, as
        a weight that moves freely at first has to be brought back."""
        epochs = max(1, round(self.residual_length * self.epochs_for(frames)))
        return replace(self, epochs=epochs, quantise_from=0.0)

    def epochs_for(self, frames: int) -> int:
        """Epochs of a group of `frames` frames."""
        if self.epochs is not None:
            return self.epochs
        return max(PAPER_EPOCHS, -(-LEAST_STEPS // self.steps_per_epoch(frames)))

    def steps_per_epoch(self, frames: int) -> int:
        """Optimiser steps of one pass over `frames` frames."""
        return -(-frames // self.batch_size)
