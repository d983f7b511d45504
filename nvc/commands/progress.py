"""A line on stderr that says how far things are, on a terminal only."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable
from typing import Any

_INTERVAL = 0.2


def shown() -> bool:
    """Whether progress is worth showing: to a terminal, or to a caller that says it reads it."""
    if os.environ.get("NVC_NO_PROGRESS"):
        return False
    return sys.stderr.isatty() or bool(os.environ.get("NVC_PROGRESS"))


def show_line(line: str) -> None:
    """Put a line in place of the one that is there, cut to the terminal."""
    width = shutil.get_terminal_size().columns - 1
    sys.stderr.write(f"\r{line[:width]:<{width}}")
    sys.stderr.flush()


def clear_progress() -> None:
    """Take the line away, so that what follows starts on a clean one."""
    if shown():
        show_line("")
        sys.stderr.write("\r")
        sys.stderr.flush()


def frame_progress() -> Callable[[int, int | None], None] | None:
    """A callback that is told the frames done and the frames in all; None off a terminal."""
    if not shown():
        return None
    began = time.monotonic()
    last = 0.0

    def show(done: int, total: int | None = None) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < _INTERVAL:
            return
        last = now
        of = "" if total is None else f"/{total}"
        show_line(f"frame {done}{of}  {done / max(now - began, 1e-3):.1f} fps")

    return show


def encode_progress() -> Callable[[Any], None] | None:
    """A callback for what codecs tell: frames done, or how a fit stands; None off a terminal."""
    count = frame_progress()
    if count is None:
        return None

    def show(progress: Any) -> None:
        if isinstance(progress, int):
            count(progress, None)
            return
        minutes, seconds = divmod(round(progress.eta), 60)
        group = f"group {progress.group + 1}  " if progress.group else ""
        show_line(
            f"{group}epoch {progress.epoch}/{progress.epochs}  {progress.phase}  "
            f"{progress.psnr:.2f} dB  {minutes}:{seconds:02d} left"
        )

    return show
