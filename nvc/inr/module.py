"""The LightningModule that fits one group of frames: distortion first, then D + lambda R."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import lightning
import torch
from torch.func import functional_call
from torch.nn import functional

from nvc.inr.camera import PATH, Camera
from nvc.inr.config import NetworkConfig
from nvc.inr.embeddings import EmbeddingTable, FrameEncoder, NoCodes
from nvc.inr.fit_config import FitConfig
from nvc.inr.groups import ResidentClip, pad_pictures
from nvc.inr.losses import distortion
from nvc.inr.network import build_network, frame_times
from nvc.inr.parameters import STEP_PRECISION, EmbeddingQuantiser, Quantiser, RateController
from nvc.inr.pictures import PictureSpace
from nvc.inr.published import min_max_group
from nvc.inr.quantised import Base, quantise_group
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
        self.quantise_epoch = round(self.epochs * fit.quantise_from)
        if fit.coding == "own":
            self.quantise_epoch = min(self.quantise_epoch, self.epochs - 1)
        else:
            self.quantise_epoch = self.epochs
        noise_share = (1 - fit.quantise_from) * fit.noise_share
        self.round_epoch = self.quantise_epoch + round(self.epochs * noise_share)

        self.pictures = PictureSpace(network.head, clip.info)
        self.network = build_network(network)
        camera = getattr(self.network, "camera", None)
        self._path_step = 0.0
        if isinstance(camera, Camera):
            self._path_step = camera.log2_step(*network.padded_size)
            if len(clip) > 1:
                luma = clip.planes[0][:, None].float() / self.pictures.peak
                camera.follow(pad_pictures(luma, network))
        self.names = [name for name, _ in self.network.named_parameters()]
        self.shapes = [parameter.shape for parameter in self.network.parameters()]
        self.source: torch.nn.Module
        if not network.code_channels:
            self.source = NoCodes(network.grid)
        elif fit.embedding == "table":
            self.source = EmbeddingTable(len(clip), network.embedding_channels, network.grid)
        else:
            # The head's stride comes last, so that pooling is by the first stage's alone.
            strides = (*network.strides[:-1], network.strides[-1] * network.head_stride)
            pooled = 0 if fit.embedding == "encoder" else fit.pool_stages
            strides = strides[min(pooled, len(strides) - 1) :]
            self.source = FrameEncoder(strides, channels=network.embedding_channels)
        sizes = [shape.numel() for shape in self.shapes]
        self.quantiser = Quantiser(sizes, shapes=self.shapes if fit.prior == "dual" else None)
        self.embedding_quantiser = EmbeddingQuantiser()
        self.rate = RateController()
        self.dead_zone = 0.0  # in steps, of a residual group's differences when they are written
        self.base: torch.Tensor | None
        self.register_buffer("base", None, persistent=False)
        if base is not None:
            self._start_from(base)
        self.register_buffer("distortion_sum", torch.zeros(()))
        self.register_buffer("times", frame_times(len(clip)), persistent=False)
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
            torch.optim.Adam(groups, betas=(fit.adam_beta, 0.999), fused=True)
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
        squared_error, loss = self._loss(indices, step)
        self.manual_backward(loss)
        for optimiser in optimisers:
            optimiser.step()
        self.distortion_sum += squared_error.detach().mean()

    def _loss(self, indices: torch.Tensor, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """(B,) squared errors of the frames, and the loss."""
        # On a CPU the encoder's depthwise convolutions on small maps are slower in bfloat16.
        small = self.fit_config.embedding == "pooled" and self.device.type == "cpu"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16 and not small):
            codes = self.codes(indices).float()
        if self.current_epoch < self.quantise_epoch:
            return self._errors(self.float_network(), codes, indices)
        flat = self.flat_parameters()
        bits = self.bits(flat, codes)
        first = self.quantise_epoch * self.steps
        progress = (step - first) / (self.epochs * self.steps - first)
        noisy = self.current_epoch < self.round_epoch
        flat_hat = self.quantiser(flat, self._noise(flat) if noisy else None)
        codes_hat = codes
        if codes.numel():
            codes_hat = self.embedding_quantiser(codes, self._noise(codes) if noisy else None)
        errors, error = self._errors(self.network_of(flat_hat), codes_hat, indices)
        return errors, error + self._multiplier(bits.detach(), errors.detach(), progress) * bits

    def _multiplier(
        self, bits: torch.Tensor, errors: torch.Tensor, progress: float
    ) -> torch.Tensor | float:
        """What a bit costs: fixed by --lmbda, or moved to hold a PSNR or a number of bits."""
        fit = self.fit_config
        if fit.lmbda is not None:
            info = self.clip.info
            return 1 / (fit.lmbda * len(self.clip) * info.height * info.width)
        if fit.psnr is not None:
            return self.rate.hold_psnr(errors, fit.psnr)
        return self.rate.update(bits, self.target_bits, progress)

    def _errors(
        self, network: Any, codes: torch.Tensor, indices: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(B,) squared errors of the frames at `indices`, and the distortion that is minimised."""
        target = self.clip.samples(indices, self.pictures)
        weight = self.clip.weights(indices, self.pictures)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            output = network(codes, self.times[indices])
        errors = self.pictures.squared_error(output, target, weight)
        return errors, distortion(
            self.fit_config.loss, self.pictures, output, target, weight, errors
        )

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
            self._start_steps(flat, codes, bits)
        errors = [self._errors(self.float_network(), codes[i], i)[1] for i in self.clip.each()]
        # A residual group starts from no bits at all, which says nothing of what one is worth.
        first = (
            self.bits(flat, codes) if self.base is None else self.base.new_tensor(self.target_bits)
        )
        self.rate.start(torch.stack(errors).mean(), first)

    def _start_steps(self, flat: torch.Tensor, codes: torch.Tensor, bits: float) -> None:
        """Set all steps so that a value costs about `bits` bits."""
        self.quantiser.start(flat, bits)
        if PATH in self.names:
            # Of what a map can be told apart by: its magnitude says nothing of that.
            self.quantiser.log2_steps[self.names.index(PATH)] = self._path_step
        if codes.numel():
            self.embedding_quantiser.start(codes, bits)

    @property
    def holds_bits(self) -> bool:
        """Whether the fit is to come out at a number of bits."""
        fit = self.fit_config
        return fit.lmbda is None and fit.psnr is None and fit.coding == "own"

    @torch.no_grad()
    def shift_steps(self, written: float, *, response: float = 1.0) -> float:
        """Move all steps together towards the target when `written` bits are off it: lambda alone
        cannot raise a rate that the distortion does not ask for. The weights of a residual group
        have the steps of its base: there only the codes' moves.

        response: bits that a value loses with an octave of its step. Returns how many fewer bits
        are written now if that is 1.
        """
        values = sum(self.quantiser.sizes)
        if self.base is not None:
            values = max(len(self.clip) * self.network.config.embedding_values, 1)
        shift = min(max((written - self.target_bits) / (values * response), -0.2), 0.2)
        if self.base is None:
            self.quantiser.log2_steps += shift
        self.embedding_quantiser.log2_step += shift
        return shift * values

    # The model as tensors

    def float_network(self) -> Callable[..., torch.Tensor]:
        """The network with the weights of now, not quantised."""
        return self.network

    def network_of(self, flat: torch.Tensor) -> Callable[..., torch.Tensor]:
        """The network with the weights `flat` (N,), in the order of flat_parameters."""
        tensors = dict(zip(self.names, self._split(flat), strict=True))
        return lambda *inputs: functional_call(self.network, tensors, inputs)

    @torch.no_grad()
    def quantised(self) -> Any:
        """The group as it would be written now."""
        parameters, codes = list(self.network.parameters()), self.all_codes()
        if self.fit_config.coding == "paper":
            return min_max_group(self.network.config, parameters, codes)
        if self.base is not None and self.dead_zone:
            parameters = self._split(self._towards_base(self.flat_parameters()))
        return quantise_group(
            self.network.config,
            parameters,
            self.quantiser.log2_steps.tolist(),
            codes,
            float(self.embedding_quantiser.log2_step),
        )

    def _towards_base(self, flat: torch.Tensor) -> torch.Tensor:
        """(N,) weights with their differences from the base's `dead_zone` steps smaller, so that
        more of them round to nothing."""
        assert self.base is not None
        moved, zone = flat - self.base, self.dead_zone * self.quantiser.steps()
        return self.base + functional.softshrink(moved / zone, 1.0) * zone

    def _split(self, flat: torch.Tensor) -> list[torch.Tensor]:
        """The parameters that lie end to end in (N,), each in its shape."""
        parts = flat.split([shape.numel() for shape in self.shapes])
        return [part.view(shape) for part, shape in zip(parts, self.shapes, strict=True)]

    def flat_parameters(self) -> torch.Tensor:
        """(N,) every parameter of the decoder end to end, in the order of the file."""
        return torch.cat([parameter.reshape(-1) for parameter in self.network.parameters()])

    def bits(self, flat: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        """Scalar: estimated bits of the parameters and of all frames' codes."""
        values = codes[0].numel() * len(self.clip)
        flat = flat if self.base is None else flat - self.base
        bits = self.quantiser.bits(flat)
        return bits + values * self.embedding_quantiser.bits(codes) if values else bits

    def codes(self, indices: torch.Tensor) -> torch.Tensor:
        """Codes (B, C, rows, columns) of the frames at `indices`; no channels where the network
        makes them of the time."""
        if not isinstance(self.source, FrameEncoder):
            return self.source(indices)
        if self.fit_config.embedding == "pooled":
            if self._pooled is None:
                self._pooled = self._pool_clip()
            return self.source(self._pooled[indices])
        return self.source(pad_pictures(self.clip.pictures(indices), self.network.config))

    @torch.no_grad()
    def all_codes(self) -> torch.Tensor:
        """Codes of every frame, (N, C, rows, columns) float32."""
        codes = [self.codes(index) for index in self.clip.each()]
        return torch.cat(codes)

    @torch.no_grad()
    def _pool_clip(self) -> torch.Tensor:
        strides = self.network.config.strides
        stride = math.prod(strides[: min(self.fit_config.pool_stages, len(strides) - 1)])
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
            output = network(codes[index], self.times[index])
            target = self.clip.samples(index, self.pictures)
            weight = self.clip.weights(index, self.pictures)
            error = self.pictures.squared_error(output, target, weight)
            total += -10 * torch.log10(error.clamp(min=1e-10)).sum()
        return (total / len(self.clip)).item()
