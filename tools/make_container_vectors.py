"""Write the golden container files of tests/vectors, byte for byte what format 1.0 is.

    python tools/make_container_vectors.py [FOLDER]

A change of the bytes is a change of the format: it needs a new version and new vectors.
"""

from __future__ import annotations

import io
import json
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

from nvc.bitstream.container import StreamHeader, StreamReader, StreamWriter, Unit, UnitType

FOLDER = Path(__file__).resolve().parents[1] / "tests" / "vectors"
NAME = "container_v1"


def build() -> bytes:
    """A stream that uses every field of the header and every kind of unit."""
    header = StreamHeader(
        codec="dhvc",
        width=641,
        height=359,
        chroma="422",
        bit_depth=10,
        frame_rate=Fraction(30000, 1001),
        time_base=Fraction(1, 90000),
        frame_count=10,
        matrix=9,
        primaries=9,
        transfer=16,
        full_range=False,
        chroma_location=1,
        sample_aspect=Fraction(16, 15),
        rotation=90,
        weights_hash=bytes(range(1, 9)),
        crop_right=63,
        crop_bottom=25,
        audio=True,
    )
    file = io.BytesIO()
    with StreamWriter(file, header) as writer:
        writer.write(Unit(UnitType.CONFIG, b"configuration"))
        times = [9000 + 3003 * i + (700 if i % 4 == 3 else 0) for i in range(10)]
        for frame, pts in enumerate(times):
            writer.add_timestamp(pts)
            for layer in range(2):
                payload = bytes((frame * 16 + layer,)) * (40 + 200 * layer)
                key = frame % 5 == 0
                writer.write(Unit(UnitType.FRAME, payload, frame, 1, layer, key=key))
        writer.write(Unit(UnitType.PARAMETERS, b"weights", 0, 10, layer=16, key=True, track=3))
        writer.write(Unit(40, b"of the future"))
        writer.add_audio(b"\x1a\x45\xdf\xa3 not really Matroska")
    return file.getvalue()


def expected(data: bytes) -> list[dict[str, Any]]:
    """Each unit of the stream in plain values."""
    reader = StreamReader(io.BytesIO(data), name=NAME)
    return [
        {
            "offset": offset,
            "type": head.type,
            "frame_start": head.frame_start,
            "frame_count": head.frame_count,
            "layer": head.layer,
            "key": head.key,
            "track": head.track,
            "length": head.length,
        }
        for offset, head in reader.walk()
    ]


def main(folder: Path) -> None:
    """Write the stream and the list of its units."""
    data = build()
    (folder / f"{NAME}.nvc").write_bytes(data)
    lines = ",\n".join(json.dumps(unit) for unit in expected(data))
    (folder / f"{NAME}.json").write_text(f"[\n{lines}\n]\n")
    print(f"{len(data)} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
