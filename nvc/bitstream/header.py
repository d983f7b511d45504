"""The file header: what has to be known before the first unit (docs/bitstream.md, section 2)."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

from nvc.bitstream.bits import EndOfData, pack_varint, read_varint, unzigzag, zigzag
from nvc.bitstream.codec_ids import CODEC_IDS, CODEC_NAMES
from nvc.errors import StreamError

MAGIC = b"\x89NVC"
MAJOR = 1
MINOR = 0

CHROMAS = ("400", "420", "422", "444")
ROTATIONS = (0, 90, 180, 270)
MAX_SIDE = 16384
MAX_FRAMES = (1 << 31) - 1
MAX_RATIONAL = (1 << 31) - 1
MAX_PTS = (1 << 62) - 1
# No time is further from zero than this: in nanoseconds it and any difference still fit 64 bits.
MAX_SECONDS = 1 << 32
MAX_BODY = 4096
PREFIX_SIZE = 8
NO_WEIGHTS = bytes(8)

# Bits of the flags that open the body: a group of fields is stored only when it is not the default.
_HAS_CROP = 1
_HAS_COLOR = 2
_HAS_ASPECT = 4
_HAS_WEIGHTS = 8
_HAS_TIME = 16
_AUDIO = 32
_KNOWN_FLAGS = 63

_FULL_RANGE = (None, False, True)


class NewerFormat(StreamError):
    """The file is of a newer major format than this program reads."""


def _check_range(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name} must be {low} to {high}, not {value}")


def _check_fraction(name: str, value: Fraction) -> None:
    if value <= 0 or max(value.numerator, value.denominator) > MAX_RATIONAL:
        raise ValueError(f"{name} must be positive with terms up to 2**31 - 1, not {value}")


@dataclass(frozen=True, kw_only=True)
class StreamHeader:
    """Properties of the whole stream. `width` x `height` is what is shown, in luma samples.

    The coded picture is larger by the four crops; a codec that crops what it padded leaves them at
    0. `frame_count` is None while unknown (the END unit holds it). Frame n is shown at
    `start_pts` + n / (frame_rate * time_base), rounded half up, in units of `time_base` seconds,
    unless a TIMESTAMPS unit says otherwise. matrix, primaries and transfer are H.273 code points;
    `rotation` is degrees clockwise to show the picture upright; `audio` announces AUDIO units.
    Raises ValueError with what is allowed.
    """

    codec: str
    width: int
    height: int
    chroma: str = "420"
    bit_depth: int = 8
    frame_rate: Fraction
    time_base: Fraction | None = None
    frame_count: int | None = None
    start_pts: int = 0
    matrix: int = 2
    primaries: int = 2
    transfer: int = 2
    full_range: bool | None = None
    chroma_location: int = 0
    sample_aspect: Fraction = Fraction(1)
    rotation: int = 0
    weights_hash: bytes = NO_WEIGHTS
    crop_left: int = 0
    crop_top: int = 0
    crop_right: int = 0
    crop_bottom: int = 0
    audio: bool = False

    def __post_init__(self) -> None:
        if self.codec not in CODEC_IDS:
            raise ValueError(f"codec must be one of {', '.join(CODEC_IDS)}, not {self.codec!r}")
        if self.chroma not in CHROMAS:
            raise ValueError(f"chroma must be one of {', '.join(CHROMAS)}, not {self.chroma!r}")
        if self.rotation not in ROTATIONS:
            raise ValueError(f"rotation must be one of {ROTATIONS}, not {self.rotation}")
        for name in ("width", "height"):
            _check_range(name, getattr(self, name), 1, MAX_SIDE)
        for name in ("crop_left", "crop_top", "crop_right", "crop_bottom"):
            _check_range(name, getattr(self, name), 0, MAX_SIDE)
        _check_range("coded width", self.coded_width, 1, MAX_SIDE)
        _check_range("coded height", self.coded_height, 1, MAX_SIDE)
        _check_range("bit_depth", self.bit_depth, 8, 16)
        for name in ("matrix", "primaries", "transfer"):
            _check_range(name, getattr(self, name), 0, 255)
        _check_range("chroma_location", self.chroma_location, 0, 7)
        if self.frame_count is not None:
            _check_range("frame_count", self.frame_count, 0, MAX_FRAMES)
        if self.time_base is None:
            object.__setattr__(self, "time_base", 1 / self.frame_rate)
        _check_fraction("frame_rate", self.frame_rate)
        _check_fraction("time_base", self.tick)
        _check_range("start_pts", self.start_pts, -self.pts_limit, self.pts_limit)
        _check_fraction("sample_aspect", self.sample_aspect)
        if len(self.weights_hash) != len(NO_WEIGHTS):
            raise ValueError(f"weights_hash must be 8 bytes, not {len(self.weights_hash)}")

    @property
    def tick(self) -> Fraction:
        """The time base in seconds, for callers that want no None."""
        return self.time_base if self.time_base is not None else 1 / self.frame_rate

    @cached_property
    def pts_limit(self) -> int:
        """Largest magnitude of a timestamp: 2**32 seconds, or 2**62 - 1 ticks if that is less."""
        return min(MAX_PTS, int(MAX_SECONDS / self.tick))

    @cached_property
    def _step(self) -> tuple[int, int]:
        step = 1 / (self.frame_rate * self.tick)
        return step.numerator, step.denominator

    @property
    def coded_width(self) -> int:
        """Width of the coded picture in luma samples."""
        return self.crop_left + self.width + self.crop_right

    @property
    def coded_height(self) -> int:
        """Height of the coded picture in luma samples."""
        return self.crop_top + self.height + self.crop_bottom

    def predicted_pts(self, frame: int) -> int:
        """Timestamp of a frame at constant rate, in units of `time_base`."""
        numerator, denominator = self._step
        return self.start_pts + (2 * frame * numerator + denominator) // (2 * denominator)

    def pack(self) -> bytes:
        """The header as it stands at the start of the file, checksum included."""
        crop = (self.crop_left, self.crop_top, self.crop_right, self.crop_bottom)
        color = (self.matrix, self.primaries, self.transfer)
        range_and_site = _FULL_RANGE.index(self.full_range) | self.chroma_location << 2
        turns = ROTATIONS.index(self.rotation)
        flags = _AUDIO if self.audio else 0
        fields = bytearray()
        fields += pack_varint(CODEC_IDS[self.codec])
        fields += pack_varint(self.width) + pack_varint(self.height)
        fields.append(CHROMAS.index(self.chroma) | (self.bit_depth - 8) << 2 | turns << 6)
        fields += _pack_fraction(self.frame_rate)
        fields += pack_varint(0 if self.frame_count is None else self.frame_count + 1)
        if self.tick != 1 / self.frame_rate or self.start_pts:
            flags |= _HAS_TIME
            fields += _pack_fraction(self.tick) + pack_varint(zigzag(self.start_pts))
        if any(crop):
            flags |= _HAS_CROP
            for value in crop:
                fields += pack_varint(value)
        if color != (2, 2, 2) or range_and_site:
            flags |= _HAS_COLOR
            fields += bytes((*color, range_and_site))
        if self.sample_aspect != 1:
            flags |= _HAS_ASPECT
            fields += _pack_fraction(self.sample_aspect)
        if self.weights_hash != NO_WEIGHTS:
            flags |= _HAS_WEIGHTS
            fields += self.weights_hash
        body = pack_varint(flags) + bytes(fields)
        head = MAGIC + bytes((MAJOR, MINOR)) + len(body).to_bytes(2, "little") + body
        return head + zlib.crc32(head).to_bytes(4, "little")

    @classmethod
    def parse(cls, data: bytes) -> StreamHeader:
        """Read a whole header (`header_size` bytes of it); StreamError says what is wrong where."""
        size = header_size(data)
        if len(data) < size:
            raise StreamError(f"the file ends at byte {len(data)}, inside its {size}-byte header")
        if zlib.crc32(data[: size - 4]) != int.from_bytes(data[size - 4 : size], "little"):
            raise StreamError(f"the header is damaged: its checksum at byte {size - 4} is wrong")
        try:
            return _parse_body(data[: size - 4], newer_minor=data[5] > MINOR)
        except EndOfData:
            raise StreamError(
                "the header is damaged: its fields do not fit in its length"
            ) from None
        except ValueError as error:
            raise StreamError(f"the header is damaged: {error}") from None


def header_size(prefix: bytes) -> int:
    """Bytes of the header from its first 8; StreamError when it is foreign, newer or cut off."""
    if not prefix:
        raise StreamError("the file is empty")
    if prefix[:4] != MAGIC[: len(prefix)]:
        raise StreamError(
            f"not an nvc file: it starts with {prefix[:4].hex(' ')}, an nvc file with "
            f"{MAGIC.hex(' ')} (byte 0)"
        )
    if len(prefix) < PREFIX_SIZE:
        raise StreamError(f"the file ends at byte {len(prefix)}, inside its header")
    major, minor = prefix[4], prefix[5]
    if major > MAJOR:
        raise NewerFormat(
            f"the file has format {major}.{minor} (byte 4) and this nvc reads up to {MAJOR}.x: "
            "a newer nvc is needed"
        )
    if major < 1:
        raise StreamError(f"the header is damaged: there is no format {major}.{minor} (byte 4)")
    length = int.from_bytes(prefix[6:8], "little")
    if length > MAX_BODY:
        raise StreamError(f"the header is damaged: {length} bytes long (byte 6), over {MAX_BODY}")
    return PREFIX_SIZE + length + 4


def _pack_fraction(value: Fraction) -> bytes:
    return pack_varint(value.numerator) + pack_varint(value.denominator)


class _Fields:
    """Reads the fields of the body in order."""

    def __init__(self, data: bytes, position: int) -> None:
        self.data = data
        self.position = position

    def number(self) -> int:
        value, self.position = read_varint(self.data, self.position, len(self.data))
        return value

    def take(self, count: int) -> bytes:
        stop = self.position + count
        if stop > len(self.data):
            raise EndOfData("the data end in the middle of a field")
        self.position, start = stop, self.position
        return self.data[start:stop]

    def fraction(self, name: str) -> Fraction:
        numerator, denominator = self.number(), self.number()
        if not denominator:
            raise ValueError(f"{name} has denominator 0")
        return Fraction(numerator, denominator)


def _parse_body(data: bytes, *, newer_minor: bool) -> StreamHeader:
    """Fields after the 8-byte prefix; ValueError or StreamError when they cannot be meant."""
    fields = _Fields(data, PREFIX_SIZE)
    flags = fields.number()
    number = fields.number()
    if number not in CODEC_NAMES:
        raise NewerFormat(f"the file is coded with codec number {number}, unknown to this nvc")
    width, height = fields.number(), fields.number()
    (sampling,) = fields.take(1)
    frame_rate = fields.fraction("frame_rate")
    frame_count = fields.number()
    time_base: Fraction | None = None
    start_pts = 0
    if flags & _HAS_TIME:
        time_base = fields.fraction("time_base")
        start_pts = unzigzag(fields.number())
    crop = [fields.number() for _ in range(4)] if flags & _HAS_CROP else [0] * 4
    color = fields.take(4) if flags & _HAS_COLOR else bytes((2, 2, 2, 0))
    if color[3] & 3 == 3 or color[3] > 31:
        raise ValueError(f"colour range and chroma location hold {color[3]}")
    aspect = fields.fraction("sample_aspect") if flags & _HAS_ASPECT else Fraction(1)
    weights_hash = fields.take(8) if flags & _HAS_WEIGHTS else NO_WEIGHTS
    # A newer minor version may append fields; in ours there is nothing more.
    if not newer_minor and (fields.position != len(data) or flags & ~_KNOWN_FLAGS):
        raise ValueError("it holds fields that format 1.0 does not have")
    return StreamHeader(
        codec=CODEC_NAMES[number],
        width=width,
        height=height,
        chroma=CHROMAS[sampling & 3],
        bit_depth=8 + (sampling >> 2 & 15),
        frame_rate=frame_rate,
        time_base=time_base,
        frame_count=frame_count - 1 if frame_count else None,
        start_pts=start_pts,
        matrix=color[0],
        primaries=color[1],
        transfer=color[2],
        full_range=_FULL_RANGE[color[3] & 3],
        chroma_location=color[3] >> 2,
        sample_aspect=aspect,
        rotation=ROTATIONS[sampling >> 6],
        weights_hash=weights_hash,
        crop_left=crop[0],
        crop_top=crop[1],
        crop_right=crop[2],
        crop_bottom=crop[3],
        audio=bool(flags & _AUDIO),
    )
