"""The sample aspect ratio of a finished Matroska file.

PyAV cannot set the field from which FFmpeg's muxer takes it, so the writer leaves room in the
track's name (``PLACEHOLDER``) and this module turns that room into DisplayWidth and DisplayHeight
(RFC 9559, section 5.1.4.1.28) and drops the muxer's DisplayUnit "unknown"; no byte outside the
Tracks element moves.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

from nvc.errors import InputError
from nvc.video.frames import VideoInfo

PLACEHOLDER = "nvc" + "." * 37
SEGMENT, TRACKS, TRACK_ENTRY, VIDEO = 0x18538067, 0x1654AE6B, 0xAE, 0xE0
NAME, VOID, CRC = 0x536E, 0xEC, 0xBF
DISPLAY_WIDTH, DISPLAY_HEIGHT, DISPLAY_UNIT = 0x54B0, 0x54BA, 0x54B2
# The track headers are at the beginning.
HEAD_BYTES = 1 << 20
MAX_DISPLAY = 2**31 - 1


def _number(data: bytes, at: int, *, keep_marker: bool) -> tuple[int, int]:
    """(value, length) of the variable-length number at ``at``."""
    length = 9 - data[at].bit_length() if at < len(data) else 9
    if length > 8 or at + length > len(data):
        raise ValueError("damaged EBML number")
    value = int.from_bytes(data[at : at + length], "big")
    return (value if keep_marker else value & ((1 << 7 * length) - 1)), length


def elements(data: bytes, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """(id, start, start of the payload, end) of each element between two offsets.

    An element of unknown size, or one that goes on past ``end``, ends there.
    """
    at = start
    while at < end:
        ident, id_length = _number(data, at, keep_marker=True)
        size, size_length = _number(data, at + id_length, keep_marker=False)
        body = at + id_length + size_length
        stop = end if size == (1 << 7 * size_length) - 1 else min(end, body + size)
        yield ident, at, body, stop
        at = stop


def _element(ident: int, payload: bytes, size_length: int = 0) -> bytes:
    """One element; ``size_length`` forces the length of its size field."""
    length = size_length or next(n for n in range(1, 9) if len(payload) < (1 << 7 * n) - 1)
    size = (len(payload) | 1 << 7 * length).to_bytes(length, "big")
    return ident.to_bytes((ident.bit_length() + 7) // 8, "big") + size + payload


def _unsigned(value: int) -> bytes:
    return value.to_bytes(max(1, (value.bit_length() + 7) // 8), "big")


def display_size(info: VideoInfo) -> tuple[int, int]:
    """(width, height) whose ratio is the shape in which the picture is shown."""
    shape = info.sample_aspect * info.width / info.height
    if shape.numerator > MAX_DISPLAY or shape.denominator > MAX_DISPLAY:
        shape = shape.limit_denominator(info.height)
    scale = max(1, info.height // shape.denominator)
    return shape.numerator * scale, shape.denominator * scale


def _rewrite_entry(data: bytes, body: int, end: int, info: VideoInfo) -> bytes | None:
    """The payload of the video's TrackEntry with its display size, of the same length."""
    kept, found = b"", False
    width, height = display_size(info)
    display = _element(DISPLAY_WIDTH, _unsigned(width)) + _element(
        DISPLAY_HEIGHT, _unsigned(height)
    )
    for ident, start, inner, stop in elements(data, body, end):
        if ident == NAME and data[inner:stop] == PLACEHOLDER.encode():
            found = True
        elif ident == VIDEO:
            parts = b"".join(
                data[a:d]
                for i, a, _, d in elements(data, inner, stop)
                if i not in (DISPLAY_WIDTH, DISPLAY_HEIGHT, DISPLAY_UNIT)
            )
            kept += _element(VIDEO, parts + display)
        else:
            kept += data[start:stop]
    if not found:
        return None
    room = end - body - len(kept)
    if room < 10:
        raise ValueError("no room for the display size")
    # 1 byte of id and 8 of size, then zeros
    return kept + _element(VOID, b"\0" * (room - 9), size_length=8)


def with_sample_aspect(data: bytes, info: VideoInfo) -> bytes:
    """The beginning of a Matroska file with the sample aspect ratio of ``info`` in its video track.

    ``data`` must hold the whole Tracks element, whose video track carries the placeholder name.
    Raises ValueError when it does not.
    """
    for ident, _, body, end in elements(data, 0, len(data)):
        if ident != SEGMENT:
            continue
        for inner, _, tracks, tracks_end in elements(data, body, end):
            if inner != TRACKS:
                continue
            for entry, _, start, stop in elements(data, tracks, tracks_end):
                fresh = _rewrite_entry(data, start, stop, info) if entry == TRACK_ENTRY else None
                if fresh is not None:
                    data = data[:start] + fresh + data[stop:]
                    return _with_crc(data, tracks, tracks_end)
    raise ValueError("no video track with room for the sample aspect ratio")


def _with_crc(data: bytes, start: int, end: int) -> bytes:
    """The CRC-32 at the head of the element payload from ``start`` to ``end`` put right."""
    ident, _, body, stop = next(elements(data, start, end))
    if ident != CRC:
        return data
    # RFC 8794, section 11.3.1: little-endian, over the rest of the payload
    crc = zlib.crc32(data[stop:end]).to_bytes(4, "little")
    return data[:body] + crc + data[stop:]


def write_sample_aspect(path: Path, info: VideoInfo) -> None:
    """Put the sample aspect ratio of ``info`` into the finished Matroska file ``path``."""
    with path.open("r+b") as file:
        head = file.read(HEAD_BYTES)
        try:
            fresh = with_sample_aspect(head, info)
        except ValueError as error:
            raise InputError(f"{path}: {error}") from error
        file.seek(0)
        file.write(fresh)
