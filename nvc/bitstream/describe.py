"""What a stream holds, without decoding it."""

from __future__ import annotations

from typing import Any

from nvc.bitstream.header import MAJOR, MINOR, NO_WEIGHTS
from nvc.bitstream.reader import StreamReader
from nvc.bitstream.units import FRAME_TYPES, UnitType, type_name


def describe(reader: StreamReader, *, check: bool = True) -> dict[str, Any]:
    """Properties and byte counts of a stream as plain JSON types; reads a pipe to its end.

    `check` reads every payload and verifies its checksum. Byte counts are of whole units; bitrate
    is of the whole file in bit/s over `duration` seconds. `key_frames` lists frame numbers of
    track 0, `lost` the damaged units of which the header is intact.
    """
    header = reader.header
    units: dict[str, dict[str, int]] = {}
    layers: dict[int, dict[str, int]] = {}
    tracks: dict[int, int] = {}
    track_bytes: dict[int, int] = {}
    keys: list[int] = []
    total = reader.header_size
    complete = False
    for _, head in reader.walk(payloads=check):
        size = head.total
        total += size
        track_bytes[head.track] = track_bytes.get(head.track, 0) + size
        entry = units.setdefault(type_name(head.type), {"count": 0, "bytes": 0})
        entry["count"] += 1
        entry["bytes"] += size
        if head.type in FRAME_TYPES:
            tracks[head.track] = max(tracks.get(head.track, 0), head.frame_end)
            if head.key and not head.track and (not keys or keys[-1] != head.frame_start):
                keys.append(head.frame_start)
        if head.type == UnitType.FRAME:
            layer = layers.setdefault(head.layer, {"count": 0, "bytes": 0})
            layer["count"] += 1
            layer["bytes"] += size
        complete = complete or head.type == UnitType.END
    frames = tracks.get(0, 0)
    size = total if reader.size is None else reader.size
    duration = frames / float(header.frame_rate)
    if frames and not reader.timestamps.constant_rate:
        times = reader.timestamps
        shown = (times[frames - 1] - times[0]) * header.tick + 1 / header.frame_rate
        duration = max(float(shown), 0.0)
    return {
        "name": reader.name,
        "format": f"{MAJOR}.{MINOR}",
        "codec": header.codec,
        "bytes": size,
        "width": header.width,
        "height": header.height,
        "coded_width": header.coded_width,
        "coded_height": header.coded_height,
        "crop": [header.crop_left, header.crop_top, header.crop_right, header.crop_bottom],
        "chroma": header.chroma,
        "bit_depth": header.bit_depth,
        "frames": frames,
        "frame_rate": str(header.frame_rate),
        "time_base": str(header.tick),
        "constant_frame_rate": reader.timestamps.constant_rate,
        "start_pts": header.start_pts,
        "duration": duration,
        "bitrate": 8 * size / duration if duration else None,
        "color": {
            "matrix": header.matrix,
            "primaries": header.primaries,
            "transfer": header.transfer,
            "full_range": header.full_range,
            "chroma_location": header.chroma_location,
        },
        "sample_aspect": str(header.sample_aspect),
        "rotation": header.rotation,
        "weights": None if header.weights_hash == NO_WEIGHTS else header.weights_hash.hex(),
        "audio_bytes": units.get("AUDIO", {}).get("bytes", 0),
        "header_bytes": reader.header_size,
        "units": units,
        "layers": {str(number): layers[number] for number in sorted(layers)},
        "tracks": len(tracks),
        "track_frames": {str(number): tracks[number] for number in sorted(tracks)},
        "track_bytes": {str(number): track_bytes[number] for number in sorted(tracks)},
        "key_frames": keys,
        "complete": complete,
        "damage": reader.damage,
        "lost": [
            {
                "offset": unit.offset,
                "type": type_name(unit.type),
                "frame_start": unit.frame_start,
                "frame_count": unit.frame_count,
                "layer": unit.layer,
            }
            for unit in reader.lost
        ],
    }
