"""``nvc eval``: bytes and quality of a file against its reference."""

from __future__ import annotations

import argparse

from nvc.commands import options

EPILOG = """\
FILE is an .nvc file or any video. --start, --frames and --crop choose the part of REFERENCE that
was encoded, as they were given to `nvc encode`; all of FILE is compared with that part.
Bytes are those of the whole file. PSNR is averaged over frames, psnr_yuv = (6 Y + U + V) / 8;
psnr_rgb is taken after conversion by the reference's own matrix and range, BT.709 limited where
it says nothing; MS-SSIM is of luma, and null for pictures under 176 pixels; an identical plane
counts as 100 dB. --coded tells intra frames and others apart, for files that hold frame by frame:
bits per pixel of the frames alone, without container, headers and sound.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``nvc eval``."""
    parser.add_argument("reference", metavar="REFERENCE", help="the video that was encoded")
    parser.add_argument("file", metavar="FILE", help="the .nvc file or video to measure")
    parser.add_argument(
        "--coded", metavar="CODED", help="the file that FILE was decoded from, or FILE itself: its "
        "bytes count, intra and inter frames apart"
    )  # fmt: skip
    options.add_selection(parser)
    options.add_raw_input(parser)
    options.add_device(parser)
    options.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Measure and print."""
    from nvc.commands.measure import measure_file
    from nvc.evaluation.frame_types import KINDS

    measured = measure_file(
        args.reference,
        args.file,
        start=args.start,
        frames=args.frames,
        crop=args.crop,
        device=args.device,
        threads=args.threads,
        raw=options.raw_format(args, args.reference),
        coded=args.coded,
    )
    if args.json:
        options.print_json(measured)
        return 0
    print(
        "{frames} frames {width}x{height} at {fps:g} fps: {bytes} bytes, {bpp:.5f} bpp, "
        "{kbps:.2f} kbit/s".format(**measured)
    )
    for name in ("psnr_y", "psnr_u", "psnr_v", "psnr_yuv", "psnr_rgb"):
        if measured[name] is not None:
            print(f"{name:8} {measured[name]:7.3f} dB")
    if measured["ms_ssim"] is not None:
        print(f"ms_ssim  {measured['ms_ssim']:7.5f}")
    for kind in KINDS if args.coded else ():
        if (part := measured[kind]) is not None:
            quality = part["psnr_y"] if part["psnr_yuv"] is None else part["psnr_yuv"]
            print(f"{kind}    {part['frames']} frames, {part['bpp']:.5f} bpp, {quality:.3f} dB")
    return 0
