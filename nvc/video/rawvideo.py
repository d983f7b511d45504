"""Headerless .yuv and .y4m without FFmpeg: names, headers, and reading and writing of planes."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch

from nvc.errors import InputError, UsageError
from nvc.video.frames import CHROMA_FORMATS, ColorInfo, Frame, VideoInfo

Y4M_MAGIC = b"YUV4MPEG2"
# A header line longer than this is not one.
MAX_HEADER = 4096
# FFmpeg's AVChromaLocation of the 8-bit 4:2:0 tags.
Y4M_LOCATIONS = {"420jpeg": 2, "420mpeg2": 1, "420paldv": 3, "420": 0}


@dataclass(frozen=True, kw_only=True)
class RawFormat:
    """What a headerless .yuv file does not say about itself.

    Samples above 8 bit are 16-bit little-endian words holding their value in the low bits.
    """

    width: int
    height: int
    chroma: str = "420"
    bit_depth: int = 8
    frame_rate: Fraction = Fraction(25)

    def __post_init__(self) -> None:
        try:
            self.info()
        except ValueError as error:
            raise UsageError(f"raw video format: {error}") from error

    def info(self, frame_count: int | None = None) -> VideoInfo:
        """The same as a VideoInfo whose clock ticks once a frame."""
        return VideoInfo(
            width=self.width,
            height=self.height,
            chroma=self.chroma,
            bit_depth=self.bit_depth,
            frame_rate=self.frame_rate,
            time_base=1 / self.frame_rate,
            frame_count=frame_count,
        )


def parse_raw_name(name: str) -> RawFormat | None:
    """The format that a file name tells, or None when it tells no size.

    Understands ``Beauty_1920x1080_120fps_420_8bit_YUV.yuv`` (UVG), ``videoSRC01_1920x1080_30.yuv``
    (MCL-JCV) and mixtures with ``10bit``, ``yuv422p10le``, ``25hz``; what is missing is 4:2:0,
    8 bit, 25 frames a second.
    """
    stem = Path(name).name
    stem = stem[: -len(".yuv")] if stem.lower().endswith(".yuv") else stem
    size = re.search(r"(?<!\d)(\d{2,5})x(\d{2,5})(?!\d)", stem, re.IGNORECASE)
    if size is None:
        return None
    tail = stem[size.end() :].lower()
    planar = re.search(r"yuv(420|422|444)p(\d{1,2})?(?:le)?(?![0-9a-z])", tail)
    tokens = [token for token in re.split(r"[_\-. ]+", tail) if token]
    chroma, depth, rate = "420", 8, Fraction(25)
    named_rate = False
    for token in tokens:
        if token in CHROMA_FORMATS:
            chroma = token
        elif match := re.fullmatch(r"(\d{1,2})bits?", token):
            depth = int(match[1])
        elif match := re.fullmatch(r"(\d{1,3})(?:fps|hz)", token):
            rate, named_rate = Fraction(int(match[1])), True
        elif re.fullmatch(r"\d{1,3}", token) and not named_rate and 1 <= int(token) <= 300:
            rate, named_rate = Fraction(int(token)), True
    if planar is not None:
        chroma, depth = planar[1], int(planar[2] or 8)
    if not 8 <= depth <= 16 or rate <= 0:
        return None
    return RawFormat(
        width=int(size[1]),
        height=int(size[2]),
        chroma=chroma,
        bit_depth=depth,
        frame_rate=rate,
    )


def parse_y4m_header(line: bytes, name: str) -> VideoInfo:
    """The stream header of a .y4m file, without its newline.

    Follows the yuv4mpeg(5) manual page with FFmpeg's C tags for higher depths; W and H are
    required, unknown tags and X comments are skipped save XCOLORRANGE. Raises InputError.
    """
    parts = line.split(b" ")
    if parts[0] != Y4M_MAGIC:
        raise InputError(f"{name}: not a y4m file (it does not begin with YUV4MPEG2)")
    tags: dict[str, str] = {}
    full_range: bool | None = None
    for part in parts[1:]:
        text = part.decode("ascii", "replace")
        if text.startswith("X"):
            if text.upper().startswith("XCOLORRANGE="):
                full_range = {"FULL": True, "LIMITED": False}.get(text[12:].upper())
        elif text:
            tags[text[0]] = text[1:]
    chroma, depth, location = _parse_y4m_colour(tags.get("C", "420jpeg"), name)
    if chroma != "420" or "C" not in tags:
        location = 0
    rate = _parse_ratio(tags.get("F", "25:1"), "F", name) or Fraction(25)
    aspect = _parse_ratio(tags.get("A", "1:1"), "A", name) or Fraction(1)
    if not tags.get("W", "").isdigit() or not tags.get("H", "").isdigit():
        raise InputError(f"{name}: y4m header lacks its W (width) or H (height) tag")
    try:
        return VideoInfo(
            width=int(tags["W"]),
            height=int(tags["H"]),
            chroma=chroma,
            bit_depth=depth,
            frame_rate=rate,
            time_base=1 / rate,
            color=ColorInfo(full_range=full_range, chroma_location=location),
            sample_aspect=aspect,
        )
    except ValueError as error:
        raise InputError(f"{name}: y4m header: {error}") from error


def _parse_y4m_colour(tag: str, name: str) -> tuple[str, int, int]:
    if tag in Y4M_LOCATIONS:
        return "420", 8, Y4M_LOCATIONS[tag]
    if match := re.fullmatch(r"mono(\d{1,2})?", tag):
        chroma, depth = "400", int(match[1] or 8)
    elif match := re.fullmatch(r"(420|422|444)(?:p(\d{1,2}))?", tag):
        chroma, depth = match[1], int(match[2] or 8)
    else:
        chroma, depth = "", 0
    if not 8 <= depth <= 16:
        raise InputError(
            f"{name}: y4m colour tag C{tag} is not supported; allowed: C420, C420jpeg, C420mpeg2, "
            "C420paldv, C422, C444, Cmono, and C420p10, C422p10, C444p10, Cmono10 and the like"
        )
    return chroma, depth, 0


def _parse_ratio(text: str, tag: str, name: str) -> Fraction | None:
    match = re.fullmatch(r"(\d{1,10}):(\d{1,10})", text)
    if match is None:
        raise InputError(f"{name}: y4m tag {tag}{text} is not a ratio such as {tag}25:1")
    top, bottom = int(match[1]), int(match[2])
    return Fraction(top, bottom) if top and bottom else None  # 0:0 means unknown


def format_y4m_header(info: VideoInfo) -> bytes:
    """The stream header with its newline; what y4m cannot say (pts, matrix, rotation) is left."""
    deep = "" if info.bit_depth == 8 else f"p{info.bit_depth}"
    if info.chroma == "400":
        colour = "mono" + deep[1:]
    elif info.chroma == "420" and info.bit_depth == 8:
        names = {location: tag for tag, location in Y4M_LOCATIONS.items()}
        colour = names.get(info.color.chroma_location, "420")
    else:
        colour = info.chroma + deep
    rate, aspect = info.frame_rate, info.sample_aspect
    text = (
        f"{Y4M_MAGIC.decode()} W{info.width} H{info.height} F{rate.numerator}:{rate.denominator}"
        f" Ip A{aspect.numerator}:{aspect.denominator} C{colour}"
    )
    if info.color.full_range is not None:
        text += f" XCOLORRANGE={'FULL' if info.color.full_range else 'LIMITED'}"
    return text.encode() + b"\n"


def frame_bytes(info: VideoInfo) -> int:
    """Bytes of one frame's samples, planes one after another without padding."""
    return sum(rows * cols for rows, cols in info.plane_shapes()) * (1 + (info.bit_depth > 8))


def write_planes(file: BinaryIO, frame: Frame) -> None:
    """Write the planes of ``frame``, in order, without padding, 16-bit words little-endian."""
    for plane in frame.planes:
        samples = plane.cpu().contiguous().numpy()
        little = samples.astype(samples.dtype.newbyteorder("<"), copy=False)
        file.write(memoryview(little).cast("B"))


class RawReader:
    """Frames of a headerless or y4m stream, one at a time, from a file object.

    ``info`` describes the stream. The file must stand at the first frame. Raises InputError for a
    stream cut within a frame and for samples above the stated bit depth.
    """

    def __init__(self, file: BinaryIO, info: VideoInfo, *, name: str, y4m: bool) -> None:
        self.info = info
        self._file = file
        self._name = name
        self._y4m = y4m
        self._size = frame_bytes(info)

    def frames(self, start: int = 0) -> Iterator[Frame]:
        """All frames from frame ``start``; pts counts frames from 0 at ``start``."""
        if start and not self._y4m and self._file.seekable():
            self._file.seek(start * self._size, 1)
            skip = 0
        else:
            skip = start
        index = 0
        while (planes := self._read_frame(index + start)) is not None:
            if skip:
                skip -= 1
                continue
            yield Frame(planes=planes, pts=index)
            index += 1

    def _read_frame(self, index: int) -> tuple[torch.Tensor, ...] | None:
        if self._y4m:
            line = read_line(self._file, self._name)
            if not line:
                return None
            if not line.startswith(b"FRAME"):
                raise InputError(f"{self._name}: no y4m FRAME header at frame {index}")
        dtype = np.dtype(np.uint8 if self.info.bit_depth == 8 else "<u2")
        samples = np.empty(self._size // dtype.itemsize, dtype)
        got = _read_into(self._file, memoryview(samples).cast("B"))
        if got == 0 and not self._y4m:
            return None
        if got < self._size:
            raise InputError(
                f"{self._name}: truncated in frame {index}: "
                f"{got} of its {self._size} bytes are there"
            )
        if 8 < self.info.bit_depth < 16 and int(samples.max()) >> self.info.bit_depth:
            raise InputError(
                f"{self._name}: frame {index} holds the sample {int(samples.max())}, "
                f"which is no {self.info.bit_depth}-bit value"
            )
        planes = []
        offset = 0
        for rows, cols in self.info.plane_shapes():
            # (rows * cols,) -> (rows, cols)
            part = samples[offset : offset + rows * cols].reshape(rows, cols)
            planes.append(torch.from_numpy(part.astype(dtype.newbyteorder("="), copy=False)))
            offset += rows * cols
        return tuple(planes)


def read_line(file: BinaryIO, name: str) -> bytes:
    """One header line without its newline; b"" at the end of the file. Raises InputError."""
    line = file.readline(MAX_HEADER)
    if line and not line.endswith(b"\n"):
        raise InputError(f"{name}: truncated or damaged y4m header")
    return line[:-1]


def _read_into(file: BinaryIO, buffer: memoryview) -> int:
    """Fill ``buffer`` as far as the file goes (pipes give less than asked); bytes read."""
    got = 0
    while got < len(buffer):
        count = file.readinto(buffer[got:])
        if not count:
            break
        got += count
    return got


def count_raw_frames(size: int, info: VideoInfo, name: str) -> int:
    """Frames in a .yuv file of ``size`` bytes; InputError when they do not come out even."""
    whole, rest = divmod(size, frame_bytes(info))
    if rest or not whole:
        deep = "" if info.bit_depth == 8 else f" {info.bit_depth}-bit"
        raise InputError(
            f"{name}: truncated, or not {info.width}x{info.height} {info.chroma}{deep}: "
            f"{size} bytes are {math.floor(whole)} frames of {frame_bytes(info)} bytes "
            f"and {rest} more"
        )
    return whole
