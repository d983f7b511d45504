"""What a figure was measured on and with: the machine, and versions of what did the work."""

from __future__ import annotations

import hashlib
import os
import platform
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import nvc
from nvc.version import __version__

_NO_CODEC = ("commands", "evaluation", "schedule", "serve")  # parts that code nothing
_PACKAGES = ("torch", "av", "numpy", "numba", "lightning")


@cache
def versions() -> dict[str, str]:
    """nvc, Python and the packages whose work is in the figures; PyAV brings the conventional
    encoders with it."""
    found = {"nvc": __version__, "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


@cache
def code_digest() -> str:
    """12 hexadecimal digits of the code that makes coded bytes and pictures: another, where it is
    edited, whatever the version says."""
    package = Path(nvc.__file__).parent
    state = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        name = path.relative_to(package)
        if name.parts[0] not in _NO_CODEC:
            state.update(f"{name.as_posix()}\0".encode() + path.read_bytes())
    return state.hexdigest()[:12]


@cache
def machine() -> dict[str, Any]:
    """Processor, cores this process may use, system."""
    cores = getattr(os, "sched_getaffinity", None)
    return {
        "cpu": _cpu_name(),
        "cores": len(cores(0)) if cores is not None else os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
