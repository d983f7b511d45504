"""VMAF through an ``ffmpeg`` on PATH that was built with libvmaf; nothing where there is none.

PyAV's wheels hold no libvmaf, so this is the one thing that is left to a program of the system.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from functools import cache
from pathlib import Path

from nvc.errors import NvcError

_LOG = "vmaf.json"


@cache
def ffmpeg_with_libvmaf(path: str | None = None) -> str | None:
    """The ffmpeg on PATH (``path``: another list of folders) if it has libvmaf, else None."""
    program = shutil.which("ffmpeg", path=path)
    if program is None:
        return None
    listed = subprocess.run(
        [program, "-hide_banner", "-filters"], capture_output=True, text=True, check=False
    )
    return program if "libvmaf" in listed.stdout else None


def vmaf_command(decoded: str, reference: str) -> list[str]:
    """The command that measures, to be run in the folder of both files; empty without libvmaf."""
    program = ffmpeg_with_libvmaf()
    if program is None:
        return []
    measure = f"libvmaf=log_fmt=json:log_path={_LOG}"
    return [
        program, "-hide_banner", "-loglevel", "error", "-nostdin", "-i", decoded, "-i", reference,
        "-lavfi", measure, "-f", "null", "-",
    ]  # fmt: skip


def vmaf_score(command: list[str], folder: Path) -> float:
    """Run it: the mean over frames of the default model's score, 0 to 100. Raises NvcError."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    log = folder / _LOG
    try:
        score = json.loads(log.read_text())["pooled_metrics"]["vmaf"]["mean"]
    except (OSError, ValueError, KeyError, TypeError):
        line = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise NvcError(f"vmaf: {line}") from None
    log.unlink()
    return float(score)
