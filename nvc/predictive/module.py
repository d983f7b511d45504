"""Training of the predictive network: a LightningModule over short sequences.

    for a sequence:   d ln R + kappa d E

with R its bits a pixel, E = (6 ln MSE_Y + ln MSE_U + ln MSE_V) / 8, both means over frames: rates
and errors count by their shares, as they do in a BD-rate over PSNR, so that every sequence and rate
weighs the same. kappa is what a share of error is worth in shares of rate, the slope of curves over
logarithms: in files 1.0 to 2.1, most 1.1 to 1.3. All frames share it, and what an error costs the
frames that refer to it comes through these. An intra frame is followed by more frames in
a file than here, so its rate and error count as much less. A small share of the errors of coarser
scales keeps these pictures. Symbols are those the encoder would choose, with the gradients of
nvc.predictive.choice, and bits those of their contexts, which RealBytes counts anew now and then.
Every sample of a batch has its own QP; those of its frames are what the encoder would decide.
"""

from __future__ import annotations

from itertools import islice
from typing import Any

import lightning
import torch
from torch import Tensor

from nvc.nn.blocks import QP_COUNT
from nvc.nn.optimisers import MuonAndAdam
from nvc.nn.planes import CHROMA_GAIN, LUMA_CHANNELS, LUMA_GAIN, pack_planes, shrink_planes
from nvc.predictive.checkpoint import load_network
from nvc.predictive.config import ReferenceForm, size_config
from nvc.predictive.level import qp_lambda
from nvc.predictive.network import FrameResult, PredictiveNetwork, Second, block_transform
from nvc.predictive.rounding import CHROMA_WORTH
from nvc.weights import by_name

# Bits a pixel that a frame has beside its symbols: units and motion, as in a frame of 352x288.
OVERHEAD = 0.008
_ROUNDING = 1 / (12 * 255**2)  # what rounding to 8 bits adds to an MSE; keeps the log in bounds
_SLOW = (".transform.", ".inverse.")  # orthonormal at the start: small steps keep them useful
_FAST = (".bias_out.",)  # in table indices, tens of units wide


class PredictiveModule(lightning.LightningModule):
    """Trains PredictiveNetwork; see the module text.

    size, reference, finest: the configuration (nvc.predictive.config.size_config); lr: peak rate of
    AdamW; matrix_lr: of Muon, which steps the 1x1 products (0: AdamW steps everything); warmup:
    steps; decay: share of the run over which the rates fall to floor times their peak; aux: weight
    of the distortion of each coarser scale; reset_rate: share of frames whose past statistics are
    withheld; drop_rate: share of inter frames whose finest symbols are lost; ema: decay of the
    averaged weights; clip: largest norm of the gradient; gop: frames an intra frame serves in an
    encode; kappa: as above; weights: a shipped name or a .safetensors path to go on from;
    hold_analysis: as Level.hold_analysis has it; hold_intra: train inter networks alone.
    """

    def __init__(
        self,
        size: str = "s",
        reference: ReferenceForm = "sent",
        finest: dict[str, int] | None = None,
        lr: float = 1.5e-3,
        matrix_lr: float = 5e-3,
        warmup: int = 200,
        decay: float = 0.45,
        floor: float = 0.03,
        aux: tuple[float, ...] = (0.01, 0.02),
        reset_rate: float = 0.05,
        drop_rate: float = 0.0,
        ema: float = 0.999,
        clip: float = 1.0,
        gop: int = 32,
        kappa: float = 1.2,
        weights: str | None = None,
        hold_analysis: bool = False,
        hold_intra: bool = False,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        if weights is not None:
            self.network = load_network(by_name(weights)).requires_grad_(True).train()
        else:
            self.network = PredictiveNetwork(size_config(size, reference=reference, finest=finest))
        if hold_analysis:
            for level in (*self.network.levels, *self.network.intra):
                level.hold_analysis()
        if hold_intra:
            self.network.intra.requires_grad_(False)
        self.average = PredictiveNetwork(self.network.config).requires_grad_(False)
        self.average.load_state_dict(self.network.state_dict())
        self.started = weights is not None
        coarser = len(self.network.levels) - 1
        self.aux = tuple(aux)[len(aux) - coarser :]

    def setup(self, stage: str) -> None:
        """Fresh weights begin as a transform coder fitted to the training clips."""
        if stage == "fit" and not self.started:
            batches = self.trainer.datamodule.train_dataloader()  # type: ignore[attr-defined]
            self.start_from_batches([*islice(batches, 8)])

    def start_from_batches(self, batches: list[dict[str, Tensor]]) -> None:
        """Fit every scale's block transform to the first frames of these batches."""
        bases = []
        for level in self.network.config.levels:
            pictures = [
                pack_planes(shrink_planes(frames_of(batch)[0], level.shrink)) for batch in batches
            ]
            bases.append(block_transform(torch.cat(pictures), level))
        self.network.start_from_transforms(bases)
        self.average.load_state_dict(self.network.state_dict())
        self.started = True

    def on_fit_start(self) -> None:
        # Processes that train together start from one seed; their noise must not be the same.
        if self.global_rank:
            torch.manual_seed(torch.initial_seed() + self.global_rank)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.started = True

    def sequence(self, batch: dict[str, Tensor]) -> list[FrameResult]:
        """Run the frames of a batch in coding order, the first one intra."""
        results: list[FrameResult] = []
        references, depths = batch["references"].tolist(), batch["depth"].tolist()
        for number, source in enumerate(frames_of(batch)):
            qp, worth = batch["qps"][number], batch["worth"][number]
            earlier, other = references[number]
            if earlier < 0:
                results.append(self.network(source, qp, worth=worth))
                continue
            second = None
            if other >= 0:
                second = Second(
                    results[other].memory,
                    batch["second_vectors"][number],
                    batch["share"][number],
                    told=depths[number] > 0,
                )
            reset = torch.rand(len(qp), device=qp.device) < self.hparams["reset_rate"]
            drop = None
            if self.hparams["drop_rate"]:
                drop = torch.rand(len(qp), device=qp.device) < self.hparams["drop_rate"]
            vectors = batch["vectors"][number]
            if self.network.config.reference != "sent":
                vectors = None
            results.append(
                self.network(
                    source,
                    qp,
                    memory=results[earlier].memory,
                    vectors=vectors,
                    second=second,
                    reset=reset,
                    drop_finest=drop,
                    worth=worth,
                )
            )
        return results

    def costs(self, result: FrameResult) -> tuple[Tensor, Tensor, Tensor]:
        """Of a frame, bits a pixel of each scale (levels, B), squared errors of Y, U and V (3, B),
        samples in [0, 1], and D = (6 Y + U + V) / 8 of the coarser scales (levels - 1, B).
        """
        pixels = 64.0 * result.sources[-1].shape[-2] * result.sources[-1].shape[-1]
        bits = torch.stack([spent.sum(dim=(1, 2, 3)) / pixels for spent in result.bits])
        apart = [
            (picture - source).square()
            for picture, source in zip(result.pictures, result.sources, strict=True)
        ]
        *coarse, finest = apart
        luma = finest[:, :LUMA_CHANNELS].mean(dim=(1, 2, 3)) / LUMA_GAIN**2
        chroma = (
            finest[:, LUMA_CHANNELS:].unflatten(1, (2, -1)).mean(dim=(2, 3, 4)) / CHROMA_GAIN**2
        )
        errors = torch.stack((luma, *chroma.unbind(1)))
        shown = [error.sum(dim=(1, 2, 3)) / (64.0 * error[0, 0].numel()) for error in coarse]
        return bits, errors, torch.stack(shown) if shown else bits[:0]

    def training_step(self, batch: dict[str, Tensor], batch_index: int) -> Tensor:
        results = self.sequence(batch)
        costs = [self.costs(result) for result in results]
        loss = self.objective(costs, batch["qp"])
        for kind, (bits, errors, _) in (("intra", costs[0]), ("inter", costs[-1])):
            self.log(f"{kind}_bpp", bits.sum(0).mean())
            self.log(f"{kind}_base_bpp", bits[:-1].sum(0).mean())
            self.log(f"{kind}_psnr", -10 * torch.log10(_mixed(errors, CHROMA_WORTH)).mean())
        self.log("loss", loss)
        return loss

    def objective(self, costs: list[tuple[Tensor, Tensor, Tensor]], qp: Tensor) -> Tensor:
        """The loss of sequences from the costs of their frames, the first one intra; qp (B,).

        Its value says little, as rates are divided by themselves; its gradient is that of the
        module text.
        """
        rate, share, coarse = self.shares(costs, qp)
        return (rate / rate.detach() + self.hparams["kappa"] * share + coarse).mean()

    def shares(
        self, costs: list[tuple[Tensor, Tensor, Tensor]], qp: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """R and E of the module text, and what the coarser scales add, each (B,)."""
        first = min(1.0, (len(costs) - 1) / max(self.hparams["gop"] - 1, 1)) or 1.0
        weights = [first] + [1.0] * (len(costs) - 1)
        bits, errors, coarse = zip(*costs, strict=True)

        def mean(values: list[Tensor]) -> Tensor:
            # Sums, not a product, which autocast would round to bfloat16.
            parts = [weight * value for weight, value in zip(weights, values, strict=True)]
            return torch.stack(parts).sum(0) / sum(weights)

        rate = mean([spent.float().sum(0) for spent in bits]) + OVERHEAD
        share = mean([_mixed((error.float() + _ROUNDING).log(), 1.0) for error in errors])
        small = mean(
            [
                sum((w * d.float() for w, d in zip(self.aux, shown, strict=True)), 0 * rate)
                for shown in coarse
            ]
        )
        worth = qp_lambda(qp.clamp(max=QP_COUNT - 1)) / rate.detach()
        return rate, share, worth * small

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_index: int) -> None:
        decay = min(self.hparams["ema"], (1 + self.global_step) / (10 + self.global_step))
        with torch.no_grad():
            torch._foreach_lerp_(
                list(self.average.parameters()), list(self.network.parameters()), 1 - decay
            )

    def configure_optimizers(self) -> dict[str, Any]:
        lr, matrix_lr = self.hparams["lr"], self.hparams["matrix_lr"]
        matrices: list[torch.nn.Parameter] = []
        groups: dict[float, list[torch.nn.Parameter]] = {0.2: [], 1.0: [], 10.0: []}
        for name, parameter in self.network.named_parameters():
            if not parameter.requires_grad:
                continue
            part = f".{name}"
            if any(mark in part for mark in _SLOW):
                groups[0.2].append(parameter)
            elif any(mark in part for mark in _FAST):
                groups[10.0].append(parameter)
            elif matrix_lr and parameter.ndim == 2 and ".scales." not in part:
                matrices.append(parameter)
            else:
                groups[1.0].append(parameter)
        adam = [{"params": params, "lr": lr * factor} for factor, params in groups.items()]
        optimizer: torch.optim.Optimizer
        if matrices:
            optimizer = MuonAndAdam(matrices, adam, matrix_lr=matrix_lr)
        else:
            optimizer = torch.optim.AdamW(adam, weight_decay=0.0, fused=True)
        steps = int(self.trainer.estimated_stepping_batches)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: self.rate(s, steps))
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def rate(self, step: int, steps: int) -> float:
        """Share of the peak learning rate: warm-up, constant, then a straight fall to the floor."""
        warm = min(1.0, (step + 1) / max(self.hparams["warmup"], 1))
        fall = (steps - step) / max(self.hparams["decay"] * steps, 1)
        return warm * max(self.hparams["floor"], min(1.0, fall))

    def configure_gradient_clipping(self, optimizer: Any, *args: Any, **kwargs: Any) -> None:
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.hparams["clip"])


def _mixed(planes: Tensor, chroma: float) -> Tensor:
    """(6 Y + chroma (U + V)) / 8 of (3, ...)."""
    return (6 * planes[0] + chroma * (planes[1] + planes[2])) / 8


def frames_of(batch: dict[str, Tensor]) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Planes of every frame in [0, 1]: T times (Y (B,1,H,W), U, V (B,1,H/2,W/2)) float32."""
    planes = [batch[name].float() / 255 for name in ("y", "u", "v")]
    return list(zip(*(plane.unbind(0) for plane in planes), strict=True))
