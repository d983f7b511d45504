"""``nvc export``: networks as files for players elsewhere."""

from __future__ import annotations

import argparse
from pathlib import Path

from nvc.commands import options
from nvc.errors import UsageError
from nvc.files import whole_file

EPILOG = """\
An ONNX graph is the synthesis of one frame of dhvc: quantised symbols, vectors and the planes of
its references go in, planes come out; docs/export.md has the tensors. There are four, of intra
frames, of inter frames with one reference and with two, and of those between two others:
FILE.intra.onnx, .inter.onnx, .inter2.onnx, .bi.onnx.

  nvc export --onnx dhvc_s.onnx                               any size
  nvc export --onnx dhvc_s.onnx --height 1080 --width 1920    one size, for engines that ask for it
"""
MAX_SIDE = 1 << 16
KINDS = ("intra", "inter", "inter2", "bi")  # nvc.predictive.synthesis.GRAPHS, not loaded for --help


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``nvc export``."""
    parser.add_argument("--onnx", metavar="FILE.onnx", required=True, help="what to write")
    parser.add_argument(
        "--weights",
        default="dhvc_s",
        metavar="NAME",
        help="shipped weights or a .safetensors file (default: %(default)s)",
    )
    for side in ("height", "width"):
        parser.add_argument(
            f"--{side}",
            type=options.at_least(1),
            metavar="N",
            help=f"only pictures of this {side} (with the other one)",
        )
    options.add_output(parser)


def run(args: argparse.Namespace) -> int:
    """Trace, write, and say in one line (or one JSON object) what was written."""
    outs = {kind: Path(args.onnx).with_suffix(f".{kind}.onnx") for kind in KINDS}
    if Path(args.onnx).suffix != ".onnx":
        raise UsageError(f"--onnx {args.onnx}: the name must end in .onnx")
    for out in outs.values():
        options.check_output(str(out), overwrite=args.overwrite, json_output=args.json)
    if (args.height is None) != (args.width is None):
        raise UsageError("--height and --width go together")
    if max(args.height or 1, args.width or 1) > MAX_SIDE:
        raise UsageError(f"a picture has sides of at most {MAX_SIDE}")
    try:
        import onnxscript  # noqa: F401 - the exporter's own need, said before any work
    except ImportError as error:
        raise UsageError(f"this needs the extra: pip install 'nvc[export]' ({error})") from error
    from nvc.predictive.checkpoint import load_network
    from nvc.predictive.synthesis import SynthesisGraph, onnx_bytes
    from nvc.weights import by_name

    weights = by_name(args.weights)
    network = load_network(weights)
    padding = network.config.padding
    size = None
    if args.height is not None:
        size = (-(-args.height // padding) * padding, -(-args.width // padding) * padding)
    made = {kind: onnx_bytes(SynthesisGraph(network, kind), size) for kind in outs}
    for kind, out in outs.items():
        with whole_file(out, overwrite=args.overwrite) as file:
            file.write(made[kind])
    if args.json:
        written = {str(out): len(made[kind]) for kind, out in outs.items()}
        found = {"weights": weights.stem, "size": size, "padding": padding}
        options.print_json({"outputs": written, **found})
        return 0
    shown = f"{size[1]}x{size[0]}" if size else f"any multiple of {padding}"
    for kind, out in outs.items():
        print(f"{out}: {weights.stem}, {kind} frames of {shown}, {len(made[kind])} bytes")
    return 0
