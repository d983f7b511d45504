"""The LightningModule that fits one group of frames: distortion first, then D + lambda R."""

from __future__ import annotations

import math
from typing import Any

import lightning
import torch
from torch.func import functional_call
from torch.nn import functional

from nvc.inr.config import NetworkConfig
from nvc.inr.embeddings import EmbeddingTable, FrameEncoder
from nvc.inr.fit_config import FitConfig
from nvc.inr.groups import ResidentClip, pad_pictures
from nvc.inr.network import DecoderNetwork
from nvc.inr.parameters import STEP_PRECISION, EmbeddingQuantiser, Quantiser, RateController
from nvc.inr.quantised import Base
from nvc.nn.optimisers import Muon

FIRST_EXCESS = 1.15  # rate when quantisation starts, over the target


class GroupFit(lightning.LightningModule):
    """Fits a network and the codes of the frames of one clip.

    The steps fall into three phases: float; quantised with noise; quantised by rounding with
    straight-through gradients. `target_bits` is the rate the controller holds, for parameters and
    embedding together. With `base` the fit starts from the group before, keeps its steps, and the
    parameters' rate is that of their differences from it. Nothing in a step waits for the device.
    """

    def __init__(
        self,
        network: NetworkConfig,
        fit: FitConfig,
        clip: ResidentClip,
        *,
        target_bits: float,
        bfloat16: bool,
        base: Base | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.fit_config = fit
        self.clip = clip
        self.target_bits = target_bits
        self.bfloat16 = bfloat16
        self.steps = fit.steps_per_epoch(len(clip))
        self.epochs = fit.epochs_for(len(clip))
        self.quantise_epoch = min(round(self.epochs * fit.quantise_from), self.epochs - 1)
        noise_share = (1 - fit.quantise_from) * fit.noise_share
        self.round_epoch = self.quantise_epoch + round(self.epochs * noise_share)

        self.network = DecoderNetwork(network)
        self.names = [name for name, _ in self.network.named_parameters()]
        self.shapes = [parameter.shape for parameter in self.network.parameters()]
        if fit.embedding == "table":
            self.source = EmbeddingTable(len(clip), network.embedding_channels, network.grid)
        else:
            strides = network.strides if fit.embedding == "encoder" else network.strides[1:]
            self.source = FrameEncoder(strides, channels=network.embedding_channels)
        self.quantiser = Quantiser([shape.numel() for shape in self.shapes])
        self.embedding_quantiser = EmbeddingQuantiser()
        self.rate = RateController()
        self.base: torch.Tensor | None
        self.register_buffer("base", None, persistent=False)
        if base is not None:
            self._start_from(base)
        self.register_buffer("distortion_sum", torch.zeros(()))
        self._pooled: torch.Tensor | None = None
        self._generator: torch.Generator | None = None
        self._order = torch.empty(0, dtype=torch.int64)

    def _start_from(self, base: Base) -> None:
        group = base.group
        self.network.load_state_dict(group.network("cpu").state_dict())
        self.source.load_state_dict(base.source)
        self.base = self.flat_parameters().detach().clone()
        codes = torch.tensor(group.step_codes, dtype=torch.float32)
        self.quantiser.log2_steps = torch.nn.Parameter(codes / STEP_PRECISION, requires_grad=False)
        self.embedding_quantiser.log2_step.data.fill_(group.embedding_step_code / STEP_PRECISION)

    # Fitting

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Muon for the network's matrices when asked for, Adam for the rest."""
        fit = self.fit_config
        steps = [self.quantiser.log2_steps, self.embedding_quantiser.log2_step]
        steps = [step for step in steps if step.requires_grad]
        decoder = list(self.network.parameters())
        matrices = [p for p in decoder if p.ndim == 2] if fit.optimizer == "muon" else []
        # by identity: comparing tensors would compare values
        taken = {id(parameter) for parameter in matrices}
        rest = [p for p in (*decoder, *self.source.parameters()) if id(p) not in taken]
        groups = [
            {"params": rest, "lr": fit.adam_lr},
            {"params": steps, "lr": fit.step_lr, "constant": True},
        ]
        optimisers: list[torch.optim.Optimizer] = [
            torch.optim.Adam(groups, betas=(0.9, 0.999), fused=True)
        ]
        if matrices:
            optimisers.append(Muon(matrices, lr=fit.matrix_lr))
        for optimiser in optimisers:
            for group in optimiser.param_groups:
                group["peak_lr"] = group["lr"]
                group.setdefault("constant", False)
        return optimisers

    def on_train_epoch_start(self) -> None:
        """Draw this epoch's order and noise from the seed and the epoch alone, so that a resumed
        fit continues as the interrupted one would have."""
        seed = self.fit_config.seed * 1_000_003 + self.current_epoch
        frames = len(self.clip)
        host = torch.Generator().manual_seed(seed)
        # Wrapped to whole batches, so that every step has the same shapes.
        wanted = self.steps * self.fit_config.batch_size
        order = torch.randperm(frames, generator=host).repeat(-(-wanted // frames))[:wanted]
        self._order = order.to(self.device)
        self._generator = torch.Generator(self.device).manual_seed(seed)
        self.distortion_sum.zero_()
        if self.current_epoch == self.quantise_epoch:
            self._start_quantising()

    def training_step(self, batch: int, batch_idx: int) -> None:
        """One optimiser step on the next frames of this epoch's order."""
        size = self.fit_config.batch_size
        indices = self._order[batch_idx * size : (batch_idx + 1) * size]
        step = self.current_epoch * self.steps + batch_idx
        self._set_learning_rates(step / (self.epochs * self.steps))
        optimisers = self.optimizers()
        optimisers = optimisers if isinstance(optimisers, list) else [optimisers]
        for optimiser in optimisers:
            optimiser.zero_grad(set_to_none=True)
        distortion, loss = self._loss(indices, step)
        self.manual_backward(loss)
        for optimiser in optimisers:
            optimiser.step()
        self.distortion_sum += distortion.detach()

    def _loss(self, indices: torch.Tensor, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        target = self.clip.pictures(indices)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            codes = self.codes(indices, target).float()
        if self.current_epoch < self.quantise_epoch:
            distortion = self._distortion(self.network, codes, target)
            return distortion, distortion
        flat = self.flat_parameters()
        bits = self.bits(flat, codes)
        first = self.quantise_epoch * self.steps
        progress = (step - first) / (self.epochs * self.steps - first)
        noisy = self.current_epoch < self.round_epoch
        flat_hat = self.quantiser(flat, self._noise(flat) if noisy else None)
        codes_hat = self.embedding_quantiser(codes, self._noise(codes) if noisy else None)
        parts = flat_hat.split([shape.numel() for shape in self.shapes])
        tensors = {
            name: part.view(shape)
            for name, part, shape in zip(self.names, parts, self.shapes, strict=True)
        }
        distortion = self._distortion(
            lambda x: functional_call(self.network, tensors, (x,)), codes_hat, target
        )
        multiplier = self.rate.update(bits.detach(), self.target_bits, progress)
        return distortion, distortion + multiplier * bits

    def _distortion(self, network: Any, codes: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            pictures = network(codes)
        # The padding is cut off here: it costs nothing and teaches nothing.
        height, width = target.shape[-2:]
        return functional.mse_loss(pictures[..., :height, :width], target)

    def _noise(self, like: torch.Tensor) -> torch.Tensor:
        noise = torch.rand(like.shape, generator=self._generator, device=like.device)
        return noise - 0.5

    def _set_learning_rates(self, progress: float) -> None:
        """Warm-up from a tenth of the rate, then a cosine to zero (HNeRV's schedule); quantiser
        steps, which begin late and follow the rate controller, keep theirs to the last tenth."""
        warmup = self.fit_config.warmup
        if progress < warmup:
            factor = 0.1 + 0.9 * progress / warmup
        else:
            factor = 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))
        for optimiser in self.trainer.optimizers:
            for group in optimiser.param_groups:
                own = min(1.0, 10 * (1 - progress)) if group["constant"] else factor
                group["lr"] = own * group["peak_lr"]

    @torch.no_grad()
    def _start_quantising(self) -> None:
        flat, codes = self.flat_parameters(), self.all_codes()
        # Near the target from the start: a rate that lags far behind it winds lambda up.
        bits = FIRST_EXCESS * self.target_bits / (flat.numel() + codes.numel())
        if self.base is None:
            self.quantiser.start(flat, bits)
            self.embedding_quantiser.start(codes, bits)
        distortion = torch.stack(
            [
                self._distortion(self.network, codes[index], self.clip.pictures(index))
                for index in self.clip.each()
            ]
        ).mean()
        self.rate.start(distortion, self.bits(flat, codes))

    # The model as tensors

    def flat_parameters(self) -> torch.Tensor:
        """(N,) every parameter of the decoder end to end, in the order of the file."""
        return torch.cat([parameter.reshape(-1) for parameter in self.network.parameters()])

    def bits(self, flat: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        """Scalar: estimated bits of the parameters and of all frames' codes."""
        values = codes[0].numel() * len(self.clip)
        flat = flat if self.base is None else flat - self.base
        return self.quantiser.bits(flat) + values * self.embedding_quantiser.bits(codes)

    def codes(self, indices: torch.Tensor, pictures: torch.Tensor) -> torch.Tensor:
        """Codes (B, C, rows, columns) of the frames at `indices`, whose RGB is `pictures`."""
        source = self.fit_config.embedding
        if source == "table":
            return self.source(indices)
        if source == "pooled":
            if self._pooled is None:
                self._pooled = self._pool_clip()
            return self.source(self._pooled[indices])
        return self.source(pad_pictures(pictures, self.network.config))

    @torch.no_grad()
    def all_codes(self) -> torch.Tensor:
        """Codes of every frame, (N, C, rows, columns) float32."""
        codes = [self.codes(index, self.clip.pictures(index)) for index in self.clip.each()]
        return torch.cat(codes)

    @torch.no_grad()
    def _pool_clip(self) -> torch.Tensor:
        stride = self.network.config.strides[0]
        pooled = [
            functional.avg_pool2d(
                pad_pictures(self.clip.pictures(index), self.network.config), stride
            )
            for index in self.clip.each()
        ]
        return torch.cat(pooled).contiguous(memory_format=torch.channels_last)

    @torch.no_grad()
    def psnr(self, network: Any, codes: torch.Tensor) -> float:
        """Mean over frames of the RGB PSNR in dB of float output, nothing rounded to 8 bits."""
        total = torch.zeros((), device=self.clip.device)
        for index in self.clip.each():
            picture = self.clip.pictures(index)
            height, width = picture.shape[-2:]
            output = network(codes[index])[..., :height, :width]
            total += -10 * torch.log10(functional.mse_loss(output, picture).clamp(min=1e-10))
        return (total / len(self.clip)).item()
