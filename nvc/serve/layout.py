"""Where the bytes of a file are: its units that carry pictures, frame by frame, layer by layer."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from nvc.bitstream.header import StreamHeader
from nvc.bitstream.reader import StreamReader
from nvc.bitstream.units import CRC_SIZE, FRAME_TYPES, Unit, UnitType, pack_head
from nvc.bitstream.walk import LostUnit
from nvc.codecs import CODECS
from nvc.errors import InputError, StreamError

MAX_PACKETS = 65536
MAX_FRAMES = 65536
MAX_PIXELS = 8192 * 4320  # a picture takes some 60 bytes a pixel on its way to the page
MAX_LAYERS = 16
MAX_LEAD = 8  # GOPs that are decoded before the one wanted, so that concealment has a past
BLENDS = 4  # pictures for each frame, where the codec makes frames between frames
# First bytes of a FRAME payload of dhvc (docs/predictive.md): bit 7 of the second of layer 0.
_PACKED = 128


@dataclass(frozen=True, slots=True)
class Packet:
    """A unit that carries pictures.

    start, count: the frames it shows; bytes: of the whole unit; packed: all layers in one unit;
    place: where in the file it comes, as frames need not be stored in the order they are shown in;
    entry: the first frame that can be shown with it, before `start` where others lead to it.
    """

    start: int
    count: int
    layer: int
    bytes: int
    key: bool
    packed: bool = False
    damaged: bool = False
    place: int = 0
    entry: int = 0

    @property
    def last(self) -> int:
        """The last frame it shows, which tells it from the others of its layer."""
        return self.start + self.count - 1


@dataclass(frozen=True)
class Layout:
    """What the page has to know of a file. `strides`: of each layer in luma pixels, if known.

    layered: a predictive stream, whose frames come in layers; else groups of frames. left_out:
    frames at the end that are more than the page shows. keys: where GOPs begin; heads: the last
    frame of the unit that each is entered with.
    """

    header: StreamHeader
    size: int
    frames: int
    packets: tuple[Packet, ...]
    layered: bool
    strides: tuple[int, ...] = ()
    damage: str | None = None
    has_audio: bool = False
    left_out: int = 0
    keys: tuple[int, ...] = field(default=(0,))
    heads: tuple[int, ...] = field(default=(0,))

    @property
    def layers(self) -> int:
        """How many layers there are; 1 in a stream of groups."""
        return max(len(self.strides), 1 + max((p.layer for p in self.packets), default=0))

    @property
    def blends(self) -> int:
        """Pictures for each frame: 1, or more where the codec makes frames between frames."""
        codec = CODECS.get(self.header.codec)
        return BLENDS if codec is not None and codec.interpolates else 1

    @cached_property
    def picture_bytes(self) -> int:
        """Bytes of the units that carry pictures."""
        return sum(packet.bytes for packet in self.packets)

    @property
    def rate(self) -> float:
        """Frames per second."""
        return float(self.header.frame_rate)

    def gop_of(self, frame: int) -> int:
        """Number of the GOP (or group) a frame is in."""
        return max(bisect_right(self.keys, frame) - 1, 0)

    def gop_seconds(self, gop: int) -> float:
        """How long a GOP is shown; a last one that is cut short counts as the one before it."""
        stop = self.keys[gop + 1] if gop + 1 < len(self.keys) else self.frames
        frames = stop - self.keys[gop]
        if 0 < gop == len(self.keys) - 1:
            frames = max(frames, self.keys[gop] - self.keys[gop - 1])
        return max(frames, 1) / self.rate

    @cached_property
    def gop_bytes(self) -> list[int]:
        """Bytes of each GOP."""
        sizes = [0] * len(self.keys)
        for packet in self.packets:
            sizes[self.gop_of(packet.start)] += packet.bytes
        return sizes

    @cached_property
    def peak_rate(self) -> float:
        """Bytes a second that the largest GOP needs."""
        return max(size / self.gop_seconds(gop) for gop, size in enumerate(self.gop_bytes))

    def layer_bytes(self, layers: int) -> int:
        """Bytes of a file that held so many of the coarsest layers, everything counted."""
        dropped = sum(packet.bytes for packet in self.packets if packet.layer >= layers)
        return self.size - dropped

    def to_dict(self) -> dict[str, Any]:
        """What the page reads, as plain JSON types; packets as rows to keep it small."""
        header = self.header
        turned = header.rotation in (90, 270)
        width, height = header.width, header.height
        aspect = header.sample_aspect * width / height
        return {
            "codec": header.codec,
            "width": height if turned else width,
            "height": width if turned else height,
            "aspect": float(1 / aspect if turned else aspect),
            "bit_depth": header.bit_depth,
            "chroma": header.chroma,
            "rate": self.rate,
            "frames": self.frames,
            "left_out": self.left_out,
            "bytes": self.size,
            "peak_rate": self.peak_rate,
            "layered": self.layered,
            "layers": self.layers,
            "strides": list(self.strides),
            "blends": self.blends,
            "keys": list(self.keys),
            "heads": list(self.heads),
            "lead": MAX_LEAD,
            "packets": [
                [p.start, p.count, p.layer, p.bytes, int(p.key), int(p.packed)]
                for p in self.packets
            ],
            "audio": self.has_audio,
            "damage": self.damage,
        }


def read_layout(reader: StreamReader) -> Layout:
    """The layout of a stream opened with `partial`; reads and checks the whole file once.

    Only the first track counts, and of very long streams the first 65,536 frames and units. Raises
    StreamError when there is nothing to show.
    """
    packets: list[Packet] = []
    header = reader.header
    if header.coded_width * header.coded_height > MAX_PIXELS:
        raise StreamError(
            f"{reader.name}: its pictures are {header.width}x{header.height}; the page shows up to "
            f"{MAX_PIXELS / 1e6:.0f} million pixels"
        )
    for unit in reader.all_units():
        if unit.type not in FRAME_TYPES or unit.track:
            continue
        if unit.layer >= MAX_LAYERS:
            raise StreamError(
                f"{reader.name}: it has layer {unit.layer}; the page shows layers 0 to "
                f"{MAX_LAYERS - 1}"
            )
        packets.append(_packet(unit, len(packets)))
        if len(packets) > MAX_PACKETS:
            break
    packets += [
        Packet(
            *_shown(lost),
            lost.layer,
            0,
            False,
            damaged=True,
            place=len(packets) + number,
            entry=lost.frame_start,
        )
        for number, lost in enumerate(reader.lost)
        if lost.type in FRAME_TYPES and lost.layer < MAX_LAYERS
    ]
    packets.sort(key=lambda packet: (packet.start, packet.layer))
    there = max((packet.start + packet.count for packet in packets), default=0)
    there = max(there, reader.frame_count or 0)
    frames = min(there, MAX_FRAMES)
    if len(packets) > MAX_PACKETS:
        frames = min(frames, packets[MAX_PACKETS].start)
    packets = [packet for packet in packets if packet.start + packet.count <= frames]
    if not packets or not frames:
        raise StreamError(reader.damage or f"{reader.name}: there are no frames in it")
    heads = {0: 0} | {packet.entry: packet.last for packet in packets if packet.key}
    codec = CODECS.get(header.codec)
    layered = codec is not None and codec.layered
    return Layout(
        header=header,
        size=reader.size or 0,
        frames=frames,
        packets=tuple(packets),
        layered=layered,
        strides=_strides(header) if layered else (),
        damage=reader.damage,
        has_audio=reader.has_audio,
        left_out=there - frames,
        keys=tuple(sorted(heads)),
        heads=tuple(heads[key] for key in sorted(heads)),
    )


def _packet(unit: Unit, place: int) -> Packet:
    size = len(pack_head(unit)) + len(unit.payload) + CRC_SIZE
    packed = (
        unit.type == UnitType.FRAME
        and unit.layer == 0
        and len(unit.payload) > 1
        and bool(unit.payload[1] & _PACKED)
    )
    return Packet(
        *_shown(unit), unit.layer, size, unit.key, packed, place=place, entry=unit.frame_start
    )


def _shown(unit: Unit | LostUnit) -> tuple[int, int]:
    """First and number of the frames that a unit shows: of a FRAME unit its picture alone."""
    if unit.type == UnitType.FRAME:
        return unit.frame_start + unit.frame_count - 1, 1
    return unit.frame_start, unit.frame_count


def _strides(header: StreamHeader) -> tuple[int, ...]:
    """Strides of the layers of the network that a stream names; empty when it is not here."""
    if header.codec != "dhvc":
        return ()
    from nvc.predictive.checkpoint import shared_network
    from nvc.weights import by_hash

    try:
        config = shared_network(by_hash(header.weights_hash), "cpu")[0].config
    except InputError:
        return ()
    return tuple(level.stride for level in config.levels)
