"""Validation of a training run on real coded bytes: a Lightning callback."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch

from nvc.nn.blocks import QP_COUNT
from nvc.predictive.checkpoint import save_network
from nvc.predictive.counting import count_contexts, set_contexts
from nvc.predictive.frame_coder import FrameCoder
from nvc.predictive.network import KIND_INTER, KIND_INTRA, Planes, PredictiveNetwork
from nvc.predictive.sequence import SequenceDecoder, SequenceEncoder
from nvc.predictive.structure import Place

FIELDS = ("step", "clip", "qp", "bpp", "psnr_yuv")


def measure_sequence(
    network: PredictiveNetwork, frames: list[Planes], qp: int
) -> tuple[float, float]:
    """Bits per pixel and PSNR in dB, (6Y + U + V) / 8 averaged over frames, of decoded bytes.

    frames: planes (1,1,H,W) in [0,1] with sides multiples of the network's padding; the first one
    is coded intra, the others inter.
    """
    height, width = frames[0][0].shape[-2:]
    coder = FrameCoder(network, (height, width))
    encoder, decoder = SequenceEncoder(coder), SequenceDecoder(coder)
    spent, quality = 0, 0.0
    for number, source in enumerate(frames):
        place = Place(number, number - 1 if number else None)
        layers = encoder.encode(source, qp, KIND_INTER if number else KIND_INTRA, place)
        parts = {layer: payload for layer, payload in enumerate(layers) if payload is not None}
        spent += sum(map(len, parts.values()))
        shown = decoder.decode(decoder.read(number, parts))
        for weight, plane, x_hat in zip((6, 1, 1), source, shown, strict=True):
            levels = [(p * 255).round().clamp(0, 255) for p in (plane, x_hat)]
            error = (levels[0] - levels[1]).square().mean().clamp(min=1e-4)
            quality += weight * float(10 * torch.log10(255**2 / error)) / 8
    return 8 * spent / (len(frames) * height * width), quality / len(frames)


class RealBytes(lightning.Callback):
    """Every `every` steps: code the validation clips with the averaged weights and decode them.

    Writes rd.csv, a picture rd.png where matplotlib is there, and the averaged weights
    (weights.safetensors, half precision) into `folder`, with the contexts of their symbols and
    motion counted on training clips (nvc.predictive.counting). clips, frames: how much is coded;
    counted: training clips that are counted, 0 for none.
    """

    def __init__(
        self,
        folder: str,
        every: int = 2000,
        clips: int = 4,
        frames: int = 8,
        qps: int = 4,
        counted: int = 16,
    ) -> None:
        self.folder = Path(folder)
        self.every = every
        self.clips = clips
        self.frames = frames
        self.counted = counted
        self.qps = [round(q) for q in np.linspace(8, QP_COUNT - 8, qps)]

    def on_train_batch_end(self, trainer: lightning.Trainer, module: Any, *rest: Any) -> None:
        step = trainer.global_step
        if step % self.every == 0 and trainer.is_global_zero:
            self.run(trainer, module, step)

    def on_train_end(self, trainer: lightning.Trainer, module: Any) -> None:
        if trainer.global_step % self.every and trainer.is_global_zero:
            self.run(trainer, module, trainer.global_step)

    def run(self, trainer: lightning.Trainer, module: Any, step: int) -> None:
        """One validation pass; appends to rd.csv."""
        self.folder.mkdir(parents=True, exist_ok=True)
        network = module.average
        clips = trainer.datamodule.training  # type: ignore[attr-defined]
        counted = clips[:: max(1, len(clips) // self.counted)] if self.counted else []
        counts = count_contexts(network, map(self._pictures, counted))
        for one in (network, module.network):  # the loss goes by what files spend
            set_contexts(one, counts)
        save_network(network, self.folder / "weights.safetensors")
        path = self.folder / "rd.csv"
        new = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.DictWriter(file, FIELDS)
            if new:
                writer.writeheader()
            held_out = trainer.datamodule.validation  # type: ignore[attr-defined]
            spread = held_out[:: max(1, len(held_out) // self.clips)]
            for clip in spread[: self.clips]:
                frames = self._frames(clip, network.config.padding, module.device)
                for qp in self.qps:
                    bpp, psnr = measure_sequence(network, frames, qp)
                    row = (step, clip.name, qp, f"{bpp:.6f}", f"{psnr:.4f}")
                    writer.writerow(dict(zip(FIELDS, row, strict=True)))
        self._draw(path)

    def _pictures(self, clip: Any) -> list[tuple[torch.Tensor, ...]]:
        """The first frames of a clip, planes of uint8."""
        count = min(self.frames, clip.frames)
        return [
            tuple(torch.from_numpy(plane[number].copy()) for plane in clip.planes)
            for number in range(count)
        ]

    def _frames(self, clip: Any, multiple: int, device: torch.device) -> list[Planes]:
        height, width = (side // multiple * multiple for side in clip.size)
        frames = []
        for number in range(min(self.frames, clip.frames)):
            planes = []
            for index, plane in enumerate(clip.planes):
                shift = int(index > 0)
                part = np.array(plane[number, : height >> shift, : width >> shift])
                planes.append(torch.from_numpy(part)[None, None].to(device).float() / 255)
            frames.append(tuple(planes))
        return frames

    def _draw(self, path: Path) -> None:
        try:
            from matplotlib.figure import Figure
        except ImportError:
            return
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        figure = Figure(figsize=(6, 4), layout="constrained")
        axes = figure.add_subplot()
        steps = sorted({int(row["step"]) for row in rows})
        for step in sorted({steps[0], steps[len(steps) // 2], steps[-1]}):
            points = []
            for qp in self.qps:
                here = [r for r in rows if int(r["step"]) == step and int(r["qp"]) == qp]
                if here:
                    points.append(
                        [np.mean([float(r[key]) for r in here]) for key in ("bpp", "psnr_yuv")]
                    )
            if points:
                axes.plot(*zip(*points, strict=True), marker="o", label=f"step {step}")
        axes.set(xscale="log", xlabel="bits per pixel (real bytes)", ylabel="YUV PSNR, dB")
        axes.grid(alpha=0.3)
        axes.legend()
        figure.savefig(path.with_suffix(".png"), dpi=110)
