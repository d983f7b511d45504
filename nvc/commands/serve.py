"""``nvc serve``: the page that shows a stream arriving piece by piece."""

from __future__ import annotations

import argparse
import ipaddress
import sys
from pathlib import Path
from typing import Any

from nvc.commands import options
from nvc.errors import UsageError

EPILOG = """\
Opens a page on this machine and prints its address; ctrl-C ends it. With the original beside it,
the page shows PSNR, and the picture split against the original or x265 at the same bytes.

  nvc serve clip.nvc --reference clip.mp4
  nvc serve part.nvc --reference clip.mp4 --start 2 --frames 8 --crop 32x48
  nvc serve clip.nvc --reference clip.mp4 --export page    a folder for any web host, no server
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``nvc serve``."""
    parser.add_argument("file", metavar="FILE.nvc", help="stream to show")
    parser.add_argument("--reference", metavar="ORIGINAL", help="the video it was encoded from")
    parser.add_argument(
        "--port", type=_port, default=8765, metavar="N", help="default 8765; 0 takes a free one"
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="address to listen on (default 127.0.0.1: this machine only)",
    )
    parser.add_argument(
        "--export", metavar="DIR", help="write the page as static files instead of serving it"
    )
    options.add_selection(parser)
    options.add_raw_input(parser)
    options.add_device(parser)
    parser.add_argument(
        "-y", "--overwrite", action="store_true", help="replace the --export folder if it exists"
    )


def run(args: argparse.Namespace) -> int:
    """Serve until interrupted, or export and be done."""
    from nvc.device import choose_device, set_threads

    path = Path(args.file)
    with path.open("rb"):
        pass  # a name that is wrong is said here and not in a browser
    set_threads(args.threads)
    device = choose_device(args.device)
    selection: dict[str, Any] = {}
    if args.reference == "-":
        raise UsageError("--reference is read more than once: give a file, not a pipe")
    if args.reference is not None:
        selection = {"start": args.start, "frames": args.frames, "crop": args.crop}
        selection["raw"] = options.raw_format(args, args.reference)
    elif args.start or args.frames or args.crop:
        raise UsageError("--start, --frames and --crop say what of --reference was encoded")
    if args.export is not None:
        from nvc.serve.export import export_page

        size = export_page(
            path,
            Path(args.export),
            reference=args.reference,
            selection=selection,
            device=device,
            overwrite=args.overwrite,
            progress=_progress if sys.stderr.isatty() else None,
        )
        print(f"{args.export}: {size / 1e6:.1f} MB; open index.html in it, or put it on a web host")
        return 0
    try:
        from nvc.serve.running import serve
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("starlette", "uvicorn"):
            raise
        raise UsageError(f"serving needs the extra: pip install 'nvc[demo]' ({error})") from error
    return serve(
        path,
        reference=args.reference,
        selection=selection,
        device=device,
        host=_address(args.host),
        port=args.port,
    )


def _port(text: str) -> int:
    try:
        port = int(text)
    except ValueError:
        port = -1
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port from 0 to 65535")
    return port


def _address(text: str) -> str:
    """An address of this machine; names would leave open which one is meant."""
    try:
        return str(ipaddress.ip_address("127.0.0.1" if text == "localhost" else text))
    except ValueError:
        raise UsageError(f"--host {text!r} is no address; write it like 127.0.0.1") from None


def _progress(done: int, total: int) -> None:
    end = "\n" if done == total else ""
    print(f"\rpicture {done}/{total}", end=end, file=sys.stderr, flush=True)
