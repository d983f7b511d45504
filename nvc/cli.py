"""The command line: parse, call a command, turn errors into one line and an exit code.

Exit codes: 0 done, 1 failed or corrupt stream, 2 usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Sequence

from nvc.device import keep_freed_memory
from nvc.errors import NvcError
from nvc.version import __version__

COMMANDS = {
    "encode": "encode a video into an .nvc file",
    "decode": "decode an .nvc file into a video, pictures or a pipe",
    "info": "show what an .nvc file holds, or what hardware is in use",
    "eval": "measure bytes and quality of a file against its reference",
    "bench": "benchmark codecs and anchors over sequences and rates",
    "report": "draw the curves and tables of a benchmark",
    "serve": "show a stream arriving piece by piece, in a browser",
    "demo": "encode, decode and compare, on a clip made on the spot",
    "train": "train the predictive network from a recipe",
    "export": "write a network as ONNX for players elsewhere",
}

EXIT_FAILED = 1
EXIT_INTERRUPTED = 128 + signal.SIGINT


def build_parser() -> argparse.ArgumentParser:
    """The whole parser; imports nothing but the standard library."""
    parser = argparse.ArgumentParser(
        prog="nvc", description="A neural video codec: video in, .nvc file out, and back."
    )
    parser.add_argument("--version", action="version", version=f"nvc {__version__}")
    parser.add_argument("--debug", action="store_true", help="show tracebacks (also: NVC_DEBUG=1)")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, summary in COMMANDS.items():
        module = importlib.import_module(f"nvc.commands.{name}")
        command = commands.add_parser(
            name,
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            epilog=getattr(module, "EPILOG", None),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        # SUPPRESS: the subparser's default must not undo a --debug given before the command.
        command.add_argument(
            "--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code. argparse itself exits with 2 on bad usage."""
    args = build_parser().parse_args(arguments)
    _set_up_messages()
    # Read when torch loads. Waiting threads that spin for long stall everything as soon as
    # another process wants the same cores: a fit under such load ran 5 times slower.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    keep_freed_memory()
    debug = args.debug or os.environ.get("NVC_DEBUG", "0") not in ("", "0")
    try:
        code = args.run(args)
        # A reader that went away is noticed here, not in the interpreter's shutdown.
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        # CPython dies of SIGINT at its end, whatever the exit code, when ctrl-C fell into code that
        # runs from a string (libraries make classes so); running any other string undoes that.
        exec("")
        return _failed("interrupted", debug, EXIT_INTERRUPTED)
    except BrokenPipeError:
        _silence_stdout()
        return EXIT_FAILED
    except NvcError as error:
        return _failed(str(error), debug, error.exit_code)
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        return _failed(f"{name}{error.strerror or error}", debug, EXIT_FAILED)
    except MemoryError as error:
        return _failed(f"not enough memory ({error})", debug, EXIT_FAILED)


def _set_up_messages() -> None:
    """The package's own warnings, logged or raised, as one line each on stderr."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("nvc: warning: %(message)s"))
    logger = logging.getLogger("nvc")
    if not logger.handlers:
        logger.addHandler(handler)
        logger.setLevel(logging.WARNING)

    here = os.path.dirname(__file__)  # noqa: PTH120 - pathlib is not loaded for --help

    def show(message: Warning | str, kind: type[Warning], filename: str, *_: object) -> None:
        if filename.startswith(here):
            print(f"nvc: warning: {' '.join(str(message).split())}", file=sys.stderr)

    warnings.showwarning = show


def _failed(message: str, debug: bool, code: int) -> int:
    if debug:
        traceback.print_exc()
    print(f"nvc: error: {' '.join(message.split())}", file=sys.stderr)
    return code


def _silence_stdout() -> None:
    """Let the interpreter's last flush of stdout go nowhere instead of failing again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
