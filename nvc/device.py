"""Where the networks run."""

from __future__ import annotations

from nvc.errors import UsageError

DEVICES = ("auto", "cpu", "cuda")
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h of glibc


def choose_device(name: str) -> str:
    """ "cpu" or "cuda" for auto, cpu or cuda; UsageError when cuda is asked for and missing."""
    if name not in DEVICES:
        raise UsageError(f"device {name!r} is not known; allowed: {', '.join(DEVICES)}")
    if name == "cpu":
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if name == "cuda":
        raise UsageError("there is no CUDA device here that torch can use: use --device cpu")
    return "cpu"


def keep_freed_memory() -> None:
    """Let the C library keep large freed blocks for the next frame instead of returning them.

    Mapping and clearing fresh pages for every tensor costs a tenth of the time of a 1080p frame
    and more. Only glibc has the setting; elsewhere nothing happens.
    """
    import ctypes
    import sys

    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 1 << 30)


def cpu_threads() -> int:
    """How many CPU threads torch uses."""
    import torch

    return torch.get_num_threads()


def set_threads(threads: int | None) -> None:
    """Let torch use so many CPU threads; None leaves it as it is."""
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
