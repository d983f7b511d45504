"""INR variants side by side: equal bytes, equal processor time, one process, one thread.

    python tools/inr_bakeoff.py PLAN.yaml --clips DIR --out results.jsonl [--only NAME] [--keep DIR]

A plan (tools/inr_bakeoff.yaml) names clips and variants. Each clip is cut, cropped and scaled
down by averaging areas; each variant is encoded to the clip's number of bytes by nvc.encode, with
as many epochs as take the processor time of the plan's number of epochs of its base, decoded from
the file, and measured on its 8-bit frames. A step of the base and one of the variant are timed in
turns before each fit. One JSON line is written a run, at once; runs already in the file are not
made again. --keep keeps the clips and files, for tools/inr_picture.py.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
import yaml
from inr_bytes import coded_groups

import nvc
from nvc.codecs import make_encoder
from nvc.evaluation.compare import compare
from nvc.inr.coding import side_information
from nvc.inr.fitting import use_bfloat16
from nvc.video.frames import Frame
from nvc.video.reader import open_video
from nvc.video.writer import open_writer

TRAINER_SECONDS = 0.002  # what Lightning adds to a step
TIMED_EPOCHS = (3, 9)
TIMED_STEPS = 20  # of each phase


def prepare(clip: dict[str, Any], folder: Path, out: Path) -> Path:
    """Write the part of a clip that is meant, scaled down, as y4m; its path."""
    target = out / f"{clip['name']}.y4m"
    crop = tuple(clip["crop"]) if "crop" in clip else None
    shrink = clip.get("shrink", 1)
    source = folder / clip["file"]
    with open_video(
        source, start=clip.get("start", 0), frames=clip["frames"], crop=crop, audio=False
    ) as reader:
        info = reader.info
        height, width = info.height // shrink, info.width // shrink
        small = replace(info, height=height, width=width, frame_count=clip["frames"])
        with open_writer(os.fspath(target), small) as writer:
            for number, frame in enumerate(reader):
                planes = tuple(_shrunk(plane, shrink) for plane in frame.planes)
                writer.write(Frame(planes, pts=number))
    return target


def _shrunk(plane: torch.Tensor, factor: int) -> torch.Tensor:
    if factor == 1:
        return plane
    pooled = torch.nn.functional.avg_pool2d(plane[None, None].float(), factor)
    return (pooled[0, 0] + 0.5).floor().to(plane.dtype)


def fit(path: Path, out: Path, clip: dict[str, Any], variant: dict[str, Any], epochs: int) -> float:
    """Encode; the processor time in seconds."""
    options = dict(variant.get("fit", {}))
    began = time.process_time()
    nvc.encode(
        path,
        out,
        variant["codec"],
        size=clip["bytes"],
        epochs=epochs,
        device="cpu",
        threads=1,
        overwrite=True,
        **options,
    )
    return time.process_time() - began


class Steps:
    """Steps of a variant's fit on a clip, in each of its phases, timed one at a time."""

    def __init__(self, path: Path, clip: dict[str, Any], variant: dict[str, Any]) -> None:
        with open_video(path) as reader:
            info, frames = reader.info, list(reader)
        options = dict(variant.get("fit", {})) | {"size_bytes": clip["bytes"]}
        encoder = make_encoder(variant["codec"], info, **options)
        config = encoder.config
        scheme = encoder.scheme_to_fit(info)
        network, target = scheme.choose(config, info, frames=len(frames), share=1.0)
        device = torch.device("cpu")
        self._indices = torch.arange(config.batch_size)
        self.shares, self._phases = [1.0], []
        if config.coding == "own":
            self.shares = [config.quantise_from, 1 - config.quantise_from]
        for quantised in (False, True)[: len(self.shares)]:
            module = scheme.module()(
                network,
                config,
                scheme.clip(frames, info, device),
                target_bits=8 * target,
                bfloat16=use_bfloat16(config, device),
            )
            if quantised:
                module.quantise_epoch = module.round_epoch = 0
                module._start_quantising()
            self._phases.append((module, module.configure_optimizers()))

    def seconds(self) -> list[float]:
        """Processor seconds of one more step in each phase."""
        spent = []
        for module, optimisers in self._phases:
            began = time.process_time()
            module._loss(self._indices, 1)[1].backward()
            for optimiser in optimisers:
                optimiser.step()
                optimiser.zero_grad(set_to_none=True)
            spent.append(TRAINER_SECONDS + time.process_time() - began)
        return spent

    def cost(self, timed: list[list[float]]) -> float:
        """Processor seconds of a step of the whole fit: the middle of each phase, in its share."""
        middle = [statistics.median(phase) for phase in zip(*timed, strict=True)]
        return sum(share * one for share, one in zip(self.shares, middle, strict=True))


def step_costs(
    path: Path, clip: dict[str, Any], base: dict[str, Any], variant: dict[str, Any]
) -> tuple[float, float]:
    """Processor seconds of a step of the base and of a variant, timed in turns: a machine that is
    shared is as slow for the one as for the other."""
    both = [Steps(path, clip, one) for one in (base, variant)]
    timed = [[steps.seconds() for steps in both] for _ in range(TIMED_STEPS)]
    base_cost, cost = (
        steps.cost([turn[index] for turn in timed]) for index, steps in enumerate(both)
    )
    return base_cost, cost


def run(
    path: Path,
    clip: dict[str, Any],
    base: dict[str, Any],
    variant: dict[str, Any],
    epochs: int,
    folder: Path,
) -> dict[str, Any]:
    """One variant on one clip, for as long as `epochs` epochs of the base take."""
    out = folder / f"{variant['name']}_{clip['name']}.nvc"
    batch = variant.get("fit", {}).get("batch_size", 2)
    per_epoch = math.ceil(clip["frames"] / batch)
    framewise = variant["codec"] not in ("nirvana", "pfnr")
    base_step, step = step_costs(path, clip, base, variant if framewise else base)
    if not framewise:
        # Their steps are of patches, or of tracks: two short fits tell what an epoch costs.
        short, longer = (fit(path, out, clip, variant, count) for count in TIMED_EPOCHS)
        spread = (TIMED_EPOCHS[1] - TIMED_EPOCHS[0]) * per_epoch
        step = max(longer - short, 0.3 * longer) / spread
    steps = epochs * math.ceil(clip["frames"] / 2) * base_step / step
    own_epochs = max(10, round(steps / per_epoch))
    seconds = fit(path, out, clip, variant, own_epochs)
    stats = compare_file(path, out)
    return {
        "steps": own_epochs * per_epoch,
        "cpu_seconds": round(seconds, 1),
        "ms_step": round(1000 * step, 2),
        "ms_step_base": round(1000 * base_step, 2),
        "bytes": out.stat().st_size,
        "asked": clip["bytes"],
        **stats,
        **(side(out) if framewise else {}),
    }


def compare_file(path: Path, out: Path) -> dict[str, Any]:
    """PSNRs of the decoded frames against the clip, rounded to 0.001 dB."""
    with open_video(path) as reference, nvc.open(out, device="cpu") as decoded:
        result = compare(
            reference,
            decoded.frames(),
            reference.info,
            decoded.info,
            file_bytes=out.stat().st_size,
        )
    names = ("psnr_rgb", "psnr_yuv", "psnr_y")
    return {name: round(result[name], 3) for name in names}


def side(out: Path) -> dict[str, Any]:
    """What of the file is side information, and the width of the network."""
    total, values, width = 0, 0, 0
    for _, group in coded_groups(out):
        total += side_information(group)
        width = group.config.stem_width
        values += sum(symbols.size for symbols in group.symbols)
        values += getattr(group, "embedding", torch.empty(0).numpy()).size
    return {"side_bytes": total, "values": values, "width": width}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("plan", type=Path)
    parser.add_argument("--clips", type=Path, required=True, help="folder the clips are in")
    parser.add_argument("--out", type=Path, required=True, help="JSON lines; appended to")
    parser.add_argument("--only", action="append", help="run these variants only")
    parser.add_argument("--clip", action="append", help="use these clips only")
    parser.add_argument("--keep", type=Path, help="folder for the clips and the files")
    parser.add_argument("--epochs", type=int, help="of the base, in place of the plan's")
    args = parser.parse_args()
    torch.set_num_threads(1)
    plan = yaml.safe_load(args.plan.read_text(encoding="utf-8"))
    clips = [clip for clip in plan["clips"] if not args.clip or clip["name"] in args.clip]
    epochs = args.epochs or plan["epochs"]
    done = set()
    if args.out.exists():
        lines = args.out.read_text().splitlines()
        done = {(r["variant"], r["clip"], r["epochs"]) for r in map(json.loads, lines)}
    base = {"fit": {}, **plan["base"]}
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        paths = {clip["name"]: prepare(clip, args.clips, folder) for clip in clips}
        for name, variant in plan["variants"].items():
            if args.only and name not in args.only:
                continue
            variant = {**base, **(variant or {}), "name": name}
            variant["fit"] = {**base["fit"], **variant["fit"]}
            for clip in clips:
                if (name, clip["name"], epochs) in done:
                    continue
                row = {"variant": name, "clip": clip["name"], "epochs": epochs}
                row |= run(paths[clip["name"]], clip, base, variant, epochs, folder)
                with args.out.open("a") as file:
                    file.write(json.dumps(row) + "\n")
                print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
