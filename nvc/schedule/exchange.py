"""Objects over a pipe between our own processes; large arrays by memory that both map.

A pipe holds so little that an array of frames is handed over in hundreds of pieces, each of which
waits for the other process to be scheduled: on a busy machine that took longer than its work.
"""

from __future__ import annotations

import io
import itertools
import mmap
import os
import tempfile
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler, recv_handle, send_handle
from typing import Any, BinaryIO

_LARGE = 1 << 16  # bytes from which on a buffer goes by memory


def send(pipe: Connection, value: Any) -> None:
    """Send a picklable object. Raises OSError when the other end is gone, else nothing was sent."""
    buffers: list[memoryview] = []

    def keep(buffer: Any) -> bool:
        view = buffer.raw()
        if view.nbytes >= _LARGE:
            buffers.append(view)
        return view.nbytes < _LARGE  # then it stays in the stream

    stream = io.BytesIO()
    ForkingPickler(stream, 5, True, keep).dump(value)
    if not buffers:
        pipe.send((stream.getbuffer().tobytes(), []))
        return
    with _memory() as file:
        file.writelines(buffers)
        file.flush()
        pipe.send((stream.getbuffer().tobytes(), [view.nbytes for view in buffers]))
        send_handle(pipe, file.fileno(), None)


def receive(pipe: Connection) -> Any:
    """The next object; its large arrays are views of memory of its own, and may be written to.

    Raises EOFError or OSError when the other end is gone.
    """
    stream, sizes = pipe.recv()
    if not sizes:
        return ForkingPickler.loads(stream)
    handle = recv_handle(pipe)
    try:
        memory = memoryview(mmap.mmap(handle, sum(sizes), access=mmap.ACCESS_COPY))
    finally:
        os.close(handle)
    ends = list(itertools.accumulate(sizes))
    parts = [memory[end - size : end] for size, end in zip(sizes, ends, strict=True)]
    return ForkingPickler.loads(stream, buffers=parts)


def _memory() -> BinaryIO:
    """A file without a name: nothing is left of it, whoever dies."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("nvc"), "w+b")
    return tempfile.TemporaryFile()
