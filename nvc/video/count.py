"""What the packets of a file say without decoding: right where nothing is damaged."""

from __future__ import annotations

from pathlib import Path

from nvc.errors import InputError
from nvc.video.decode import open_container

_PACKET_COST = 12


def count_frames(path: Path) -> int:
    """Packets of the video track that FFmpeg takes by default; nothing is decoded.

    For rate targets where the container claims no number. Raises InputError.
    """
    with open_container(str(path), str(path)) as container:
        stream = container.streams.best("video")
        if stream is None:
            raise InputError(f"{path}: no video track")
        return sum(1 for packet in container.demux(stream) if packet.size)


def audio_bytes(path: Path, *, start: float = 0.0, seconds: float | None = None) -> int:
    """About what the audio of `seconds` from `start` takes when it is copied; nothing is decoded.

    Counts packets that begin in the span and a dozen bytes for each, as Matroska spends in clusters
    of few packets. Raises InputError.
    """
    total = 0
    with open_container(str(path), str(path)) as container:
        streams = container.streams.audio
        for packet in container.demux(*streams) if streams else ():
            if not packet.size or packet.pts is None:
                continue
            at = float(packet.pts * packet.time_base)
            if at >= start and (seconds is None or at < start + seconds):
                total += packet.size + _PACKET_COST
    return total


def coded_sizes(path: Path) -> list[tuple[int, bool]]:
    """Bytes of each frame's packet, and whether it is a key frame, in order of presentation.

    Raises InputError.
    """
    with open_container(str(path), str(path)) as container:
        stream = container.streams.best("video")
        if stream is None:
            raise InputError(f"{path}: no video track")
        packets = [
            (packet.pts or 0, packet.size, packet.is_keyframe)
            for packet in container.demux(stream)
            if packet.size
        ]
    return [(size, key) for _, size, key in sorted(packets)]
