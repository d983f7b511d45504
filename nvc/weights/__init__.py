"""Trained weights that travel with the package, found by name or by the hash in a stream."""

from __future__ import annotations

import hashlib
import os
from functools import lru_cache
from pathlib import Path

from nvc.errors import InputError

FOLDER = Path(__file__).parent
VARIABLE = "NVC_WEIGHTS"  # further folders with weights, separated like PATH
MAX_BYTES = 1 << 30


def hash_of(path: Path) -> bytes:
    """First 8 bytes of the SHA-256 of a weights file: what a stream header names it by."""
    stat = path.stat()
    return _hash_of(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=64)
def _hash_of(path: Path, changed: int, size: int) -> bytes:
    return hashlib.sha256(path.read_bytes()).digest()[:8]


def available() -> list[Path]:
    """Every weights file: those of the package, then those in the folders of NVC_WEIGHTS."""
    folders = [FOLDER]
    folders += [Path(part) for part in os.environ.get(VARIABLE, "").split(os.pathsep) if part]
    return [path for folder in folders for path in sorted(folder.glob("*.safetensors"))]


def by_name(name: str) -> Path:
    """A file of that path, or the shipped weights of that name. Raises InputError."""
    path = Path(name)
    if path.suffix == ".safetensors":
        if not path.is_file():
            raise InputError(f"{name}: no such weights file")
        return path
    found = {path.stem: path for path in reversed(available())}
    if name not in found:
        allowed = ", ".join(sorted(found)) or "none"
        raise InputError(f"no weights are called {name!r}; there are: {allowed}")
    return found[name]


def by_hash(digest: bytes) -> Path:
    """The weights a stream was made with. Raises InputError that names what is missing."""
    for path in available():
        if hash_of(path) == digest:
            return path
    names = ", ".join(path.stem for path in available()) or "none"
    raise InputError(
        f"the stream was made with weights {digest.hex()}, which are not here (here: {names}); "
        f"put them in a folder named by {VARIABLE}, or install the version of nvc that made it"
    )
