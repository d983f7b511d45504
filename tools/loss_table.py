"""PSNR of dhvc and of x265 at about the same bytes behind a channel that loses units.

    python tools/loss_table.py CLIP... --qp 32 --frames 96 --json loss.json

The channel is that of tools/lossy_channel.py. Of dhvc a unit is one layer of one frame (encoded
with --no-pack, statistics starting anew every --reset frames); of x265 it is the packet of one
frame, one slice NAL unit, whose parameter sets arrive apart. Nothing of the first frame is lost in
either. Files are written, sent, read back and decoded in this process. A frame that x265's decoder
(FFmpeg, which conceals) does not give repeats the one shown before it; "held" repeats it also for
pictures that FFmpeg marks as corrupt, which refer to lost ones. "Layer 1 protected": only units of
the other layers are lost, as where the base is sent twice or with a code of its own.

PSNR in dB, (6 Y + U + V) / 8 of a frame, mean over frames and --seeds. Prints Markdown; rows
"layer 1" and "layers 1-2" are the same stream decoded to these layers without loss, and the bytes
of those layers alone.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from av.codec.context import Flags

import nvc
from nvc.bitstream.container import StreamReader, StreamWriter, UnitType
from nvc.bitstream.units import pack_unit
from nvc.commands.options import size
from nvc.device import set_threads
from nvc.errors import NvcError
from nvc.evaluation.anchors import encode_anchor_to_size, parse_anchor
from nvc.evaluation.channel import losses, transmit
from nvc.evaluation.metrics import plane_psnr, psnr_yuv
from nvc.video.frames import Frame
from nvc.video.reader import open_video

ANCHOR = "x265-medium"
PROTECTED = "dhvc, layer 1 protected"
Planes = Sequence[torch.Tensor]


@dataclass(frozen=True)
class Clip:
    """The frames of a clip that are coded, and how to read them again."""

    path: Path
    frames: list[Frame]
    depth: int
    selection: dict[str, Any]

    def psnr(self, shown: Sequence[Planes]) -> float:
        """Mean over frames of (6 Y + U + V) / 8; as many must be shown as there are."""
        total = 0.0
        for source, planes in zip(self.frames, shown, strict=True):
            pairs = zip(source.planes, planes, strict=True)
            y, *chroma = (plane_psnr(a, b, self.depth) for a, b in pairs)
            total += psnr_yuv(y, *(chroma or (None, None)))
        return total / len(self.frames)


def decode_ours(path: Path, layers: int | None = None) -> list[Planes]:
    """All frames of an .nvc file."""
    with nvc.open(path, device="cpu", layers=layers) as video:
        return [frame.planes for frame in video]


def send(path: Path, out: Path, channel: Iterator[bool], protect: int) -> None:
    """Write what arrives of an .nvc file."""
    with path.open("rb") as file, out.open("wb") as target:
        reader = StreamReader(file, name=str(path))
        with StreamWriter(target, reader.header) as writer:
            transmit(reader, writer, channel, keep=1, protect=protect)


def layer_bytes(path: Path) -> list[int]:
    """Bytes of the units of each layer."""
    sizes: dict[int, int] = {}
    with path.open("rb") as file:
        for unit in StreamReader(file).units():
            if unit.type == UnitType.FRAME:
                sizes[unit.layer] = sizes.get(unit.layer, 0) + len(pack_unit(unit))
    return [sizes.get(layer, 0) for layer in range(max(sizes) + 1)]


def decode_anchor(path: Path, arrives: Iterator[bool], *, hold: bool) -> list[Planes]:
    """As many frames as the file has, from the packets that arrive; the first one always does."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        context.thread_count = 1
        context.flags |= Flags.output_corrupt  # as the ffmpeg program does
        packets = [packet for packet in container.demux(stream) if packet.size]
        order = {pts: number for number, pts in enumerate(sorted(p.pts for p in packets))}
        shown: list[Planes | None] = [None] * len(packets)
        kept = [p for number, p in enumerate(packets) if next(arrives) or not number]
        for packet in [*kept, None]:
            for frame in context.decode(packet):
                if not (hold and frame.is_corrupt):
                    shown[order[frame.pts]] = _planes(frame)
    last = next(planes for planes in shown if planes is not None)
    return [last := planes or last for planes in shown]


def _planes(frame: av.VideoFrame) -> Planes:
    dtype = np.uint16 if frame.format.components[0].bits > 8 else np.uint8
    planes = []
    for plane in frame.planes:
        rows = np.frombuffer(plane, dtype).reshape(plane.height, -1)  # (h, line)
        planes.append(torch.from_numpy(rows[:, : plane.width].copy()))
    return planes


def table(clip: Clip, args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All figures of one clip."""
    whole, lossy = folder / "whole.nvc", folder / "lossy.nvc"
    options = {"gop": args.gop, "reset": args.reset, "bframes": args.bframes, "pack": False}
    options["weights"] = args.weights
    encoded = nvc.encode(
        clip.path, whole, "dhvc", qp=args.qp, device="cpu", audio=False, **options, **clip.selection
    )

    def source() -> Iterator[Frame]:
        return iter(clip.frames)

    with open_video(clip.path, **clip.selection) as reader:
        info = reader.info
    anchor = parse_anchor(ANCHOR, gop=args.gop)
    made = encode_anchor_to_size(source, info, folder / "anchor.mkv", anchor, encoded.bytes)
    sizes = layer_bytes(whole)
    result: dict[str, Any] = {
        "clip": clip.path.name,
        "frames": len(clip.frames),
        "qp": args.qp,
        "gop": args.gop,
        "reset": args.reset,
        "bframes": args.bframes,
        "burst": args.burst,
        "seeds": args.seeds,
        "weights": args.weights,
        "bytes": {"dhvc": encoded.bytes, ANCHOR: made.bytes},
        "anchor_options": made.options,
        "layers": [
            {
                "layers": count,
                "bytes": sum(sizes[:count]),
                "psnr": clip.psnr(decode_ours(whole, count)),
            }
            for count in (1, 2)
        ],
        "psnr": {"dhvc": {}, PROTECTED: {}, ANCHOR: {}, f"{ANCHOR}, held": {}},
    }
    for loss in args.losses:
        scores: dict[str, list[float]] = {name: [] for name in result["psnr"]}
        for seed in range(args.seeds if loss else 1):
            for name, protect in (("dhvc", 0), (PROTECTED, 1)):
                send(whole, lossy, losses(loss, args.burst, seed), protect)
                scores[name].append(clip.psnr(decode_ours(lossy)))
            for name, hold in ((ANCHOR, False), (f"{ANCHOR}, held", True)):
                arrives = (not lost for lost in losses(loss, args.burst, seed))
                scores[name].append(clip.psnr(decode_anchor(made.path, arrives, hold=hold)))
        for name, values in scores.items():
            result["psnr"][name][f"{loss:g}"] = sum(values) / len(values)
        print(f"{clip.path.name}: {loss:.0%} lost, done", file=sys.stderr)
    return result


def markdown(result: dict[str, Any], given: Sequence[float]) -> list[str]:
    """Rows of one clip."""
    rows = []
    for name, scores in result["psnr"].items():
        kilobytes = result["bytes"][name.split(",")[0]] / 1000
        cells = " | ".join(f"{scores[f'{loss:g}']:.2f}" for loss in given)
        rows.append(f"| {result['clip']} | {name} | {kilobytes:.1f} | {cells} |")
    for layer in result["layers"]:
        name = "layer 1" if layer["layers"] == 1 else f"layers 1-{layer['layers']}"
        cells = " | ".join([f"{layer['psnr']:.2f}", *[""] * (len(given) - 1)])
        rows.append(f"| {result['clip']} | dhvc, {name} | {layer['bytes'] / 1000:.1f} | {cells} |")
    return rows


def main() -> int:
    """Exit status: 0, or 1 when a clip cannot be read or coded."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("clips", nargs="+", type=Path)
    parser.add_argument("--frames", type=int, help="at most this many of each (all)")
    parser.add_argument("--start", type=int, default=0, help="first frame (0)")
    parser.add_argument("--crop", type=size, metavar="HxW", help="centre crop")
    parser.add_argument("--qp", type=int, default=32)
    parser.add_argument("--gop", type=int, default=32)
    parser.add_argument("--reset", type=int, default=2, help="as of nvc encode (2)")
    parser.add_argument("--bframes", type=int, default=3, help="of dhvc (3)")
    parser.add_argument("--weights", default="dhvc_s")
    parser.add_argument("--losses", type=float, nargs="+", default=[0.0, 0.01, 0.05, 0.1, 0.2])
    parser.add_argument("--burst", type=float, help="mean units lost in a row (independent)")
    parser.add_argument("--seeds", type=int, default=3, help="channels averaged over (3)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write all figures here")
    args = parser.parse_args()
    set_threads(args.threads)
    selection = {"start": args.start, "frames": args.frames, "crop": args.crop}
    results = []
    try:
        for path in args.clips:
            with open_video(path, **selection) as reader:
                clip = Clip(path, list(reader), reader.info.bit_depth, selection)
            with tempfile.TemporaryDirectory() as folder:
                results.append(table(clip, args, Path(folder)))
    except (NvcError, OSError) as error:
        print(f"loss_table: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    head = " | ".join(f"{loss:.0%}" for loss in args.losses)
    print(f"| clip | coder | kB | {head} |\n|---|---|{'---|' * (1 + len(args.losses))}")
    for result in results:
        print("\n".join(markdown(result, args.losses)))
    if args.json:
        args.json.write_text(json.dumps(results, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
