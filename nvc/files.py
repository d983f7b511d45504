"""Files that are opened and written: whole or not at all, and nothing replaced unasked."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from nvc.errors import UsageError

PathLike = str | os.PathLike[str]


def check_output(out: PathLike, *, overwrite: bool) -> None:
    """Raise UsageError when ``out`` may not be written: it exists, or its folder does not.

    ``-`` and devices may be; of a pattern like f_%04d.png the first name counts.
    """
    if os.fspath(out) == "-":
        return
    path = Path(out)
    if not path.parent.is_dir():
        raise UsageError(f"{path}: there is no folder {path.parent}")
    first = path
    if "%" in path.name:
        try:
            first = path.with_name(path.name % 1)
        except (TypeError, ValueError):
            raise UsageError(f"{path}: not a pattern with one number such as f_%04d.png") from None
    if not overwrite and (first.is_file() or first.is_dir()):
        raise UsageError(f"{first} exists already: give another name, or -y to replace it")


@contextmanager
def whole_file(out: PathLike, *, overwrite: bool) -> Iterator[BinaryIO]:
    """A binary file that gets its name only when all went well; stdout for ``-``."""
    if os.fspath(out) == "-":
        yield sys.stdout.buffer
        return
    check_output(out, overwrite=overwrite)
    path = Path(out)
    if path.exists() and not path.is_file():
        # A device or a named pipe is written in place.
        with path.open("wb") as file:
            yield file
        return
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with temporary.open("xb") as file:
            yield file
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def opened(path: PathLike | BinaryIO) -> Iterator[tuple[BinaryIO, str]]:
    """(binary file, its name) of a path, of ``-`` for stdin, or of a file that stays open."""
    if not isinstance(path, str | os.PathLike):
        yield path, str(getattr(path, "name", "stream"))
    elif os.fspath(path) == "-":
        yield sys.stdin.buffer, "stdin"
    else:
        with Path(path).open("rb") as file:
            yield file, str(path)
