"""Where the networks run."""

from __future__ import annotations

from nvc.errors import UsageError

DEVICES = ("auto", "cpu", "cuda")


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


def set_threads(threads: int | None) -> None:
    """Let torch use so many CPU threads; None leaves it as it is."""
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
