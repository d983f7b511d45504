"""Training of the predictive network: a LightningModule over short sequences.

    L = mean over frames of (bits / pixel + lambda(QP) * D) * sqrt(256 / lambda)

with D = (6 MSE_Y + w MSE_U + w MSE_V) / 8 of the full picture, w = CHROMA_WORTH (rounding.py), plus
a small share for every coarser scale, so that these stay pictures. Bits and distortion are of the
symbols the encoder would choose, straight-through, and bits are those of their contexts, which
RealBytes counts anew now and then. Every sample of a batch has its own QP.
"""

from __future__ import annotations

from itertools import islice
from typing import Any

import lightning
import torch
from torch import Tensor

from nvc.nn.blocks import QP_COUNT
from nvc.nn.optimisers import MuonAndAdam
from nvc.nn.planes import LUMA_CHANNELS, pack_planes, shrink_planes
from nvc.predictive.checkpoint import load_network
from nvc.predictive.config import ReferenceForm, size_config
from nvc.predictive.level import qp_lambda
from nvc.predictive.network import FrameResult, PredictiveNetwork, block_transform
from nvc.predictive.rounding import CHROMA_WORTH
from nvc.weights import by_name

_SLOW = (".transform.", ".inverse.")  # orthonormal at the start: small steps keep them useful
_FAST = (".bias_out.",)  # in table indices, tens of units wide


class PredictiveModule(lightning.LightningModule):
    """Trains PredictiveNetwork; see the module text.

    size, reference, finest: the configuration (nvc.predictive.config.size_config); lr: peak rate of
    AdamW; matrix_lr: of Muon, which steps the 1x1 products (0: AdamW steps everything); warmup:
    steps; decay: share of the run over which the rates fall to floor times their peak; aux: weight
    of the distortion of each coarser scale; reset_rate: share of frames whose past statistics are
    withheld; drop_rate: share of inter frames whose finest symbols are lost; ema: decay of the
    averaged weights; clip: largest norm of the gradient; intra_gain, qp_cycle: QPs of intra and P
    frames of a sequence without B frames, relative to that of the batch, as the encoder sets them
    (nvc.predictive.codec), the cycle from a random place; with B frames, the ranges intra_range,
    anchor_range and b_ranges (by depth), about what looking ahead makes of them; weights: a shipped
    name or a .safetensors path to go on from.
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
        reset_rate: float = 0.1,
        drop_rate: float = 0.0,
        ema: float = 0.999,
        clip: float = 1.0,
        intra_gain: int = 11,
        qp_cycle: tuple[int, ...] = (-8, 3, 3, 3, 0, 3, 3, 3),
        intra_range: tuple[int, int] = (-16, -6),
        anchor_range: tuple[int, int] = (-12, 3),
        b_ranges: tuple[tuple[int, int], ...] = ((1, 5), (5, 9), (7, 11)),
        weights: str | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        if weights is not None:
            self.network = load_network(by_name(weights)).requires_grad_(True).train()
        else:
            self.network = PredictiveNetwork(size_config(size, reference=reference, finest=finest))
        self.average = PredictiveNetwork(self.network.config).requires_grad_(False)
        self.average.load_state_dict(self.network.state_dict())
        self.started = weights is not None
        coarser = len(self.network.levels) - 1
        self.aux = (*tuple(aux)[len(aux) - coarser :], 1.0)

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

    def frame_qps(self, qp: Tensor, depth: Tensor) -> Tensor:
        """QP of every frame, (T, B) int64, from those of the samples (B,) and depths (T,)."""
        if not depth.any():
            cycle = torch.tensor(self.hparams["qp_cycle"], device=qp.device)
            place = torch.arange(len(depth), device=qp.device)[:, None]
            start = torch.randint(len(cycle), (len(qp),), device=qp.device)
            offsets = cycle[(place + start) % len(cycle)]
            offsets[0] = -self.hparams["intra_gain"]
        else:
            kinds = [self.hparams["anchor_range"], *self.hparams["b_ranges"]]
            low, high = torch.tensor(kinds, device=qp.device).unbind(1)
            low, high = low[depth], high[depth]  # (T,)
            low[0], high[0] = self.hparams["intra_range"]
            part = torch.rand(len(depth), len(qp), device=qp.device)
            offsets = low[:, None] + (part * (high - low + 1)[:, None]).floor().long()
        return (qp + offsets).clamp(0, QP_COUNT - 1)

    def sequence(self, batch: dict[str, Tensor], qps: Tensor) -> list[FrameResult]:
        """Run the frames of a batch in coding order, the first one intra; qps (T, B)."""
        results: list[FrameResult] = []
        references = batch["references"].tolist()
        for number, source in enumerate(frames_of(batch)):
            qp = qps[number]
            earlier, later = references[number]
            if earlier < 0:
                results.append(self.network(source, qp))
                continue
            second = None
            if later >= 0:
                second = (results[later].memory, batch["later_vectors"][number])
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
                )
            )
        return results

    def costs(self, result: FrameResult) -> tuple[Tensor, Tensor]:
        """Bits per pixel and distortion of each scale and sample: two tensors (levels, B)."""
        pixels = 64.0 * result.sources[-1].shape[-2] * result.sources[-1].shape[-1]
        bits, errors = [], []
        for number in range(len(result.sources)):
            bits.append(result.bits[number].sum(dim=(1, 2, 3)) / pixels)
            error = (result.pictures[number] - result.sources[number]).square()
            area = 64.0 * error.shape[-2] * error.shape[-1]
            error = torch.cat(
                (error[:, :LUMA_CHANNELS], CHROMA_WORTH * error[:, LUMA_CHANNELS:]), 1
            )
            errors.append(error.sum(dim=(1, 2, 3)) / area)
        return torch.stack(bits), torch.stack(errors)

    def training_step(self, batch: dict[str, Tensor], batch_index: int) -> Tensor:
        qps = self.frame_qps(batch["qp"], batch["depth"])
        aux = torch.tensor(self.aux, device=qps.device)[:, None]
        loss = aux.new_zeros(())
        results = self.sequence(batch, qps)
        for number, result in enumerate(results):
            lambdas = qp_lambda(qps[number])
            bits, errors = self.costs(result)
            cost = bits.sum(0) + lambdas * (errors * aux).sum(0)
            loss = loss + (cost * (256 / lambdas).sqrt()).mean()
            if number in (0, len(results) - 1):
                kind = "intra" if number == 0 else "inter"
                self.log(f"{kind}_bpp", bits.sum(0).mean())
                self.log(f"{kind}_base_bpp", bits[:-1].sum(0).mean())
                self.log(f"{kind}_psnr", -10 * torch.log10(errors[-1]).mean())
                self.log(f"{kind}_base_psnr", -10 * torch.log10(errors[-2]).mean())
        loss = loss / len(results)
        self.log("loss", loss)
        return loss

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


def frames_of(batch: dict[str, Tensor]) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Planes of every frame in [0, 1]: T times (Y (B,1,H,W), U, V (B,1,H/2,W/2)) float32."""
    planes = [batch[name].float() / 255 for name in ("y", "u", "v")]
    return list(zip(*(plane.unbind(0) for plane in planes), strict=True))
