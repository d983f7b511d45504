"""What the bytes of an INR file go to, and what other ways of coding the same integers would take.

    python tools/inr_bytes.py FILE.nvc [...]

For each group: bytes of its payload as coded and under each prior alone (nvc.inr.fit_config), and
of the frames' codes as they are and as differences in time, each in its cheapest coding. One JSON
line a group.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from nvc.bitstream.reader import StreamReader
from nvc.bitstream.units import UnitType
from nvc.inr.coding import (
    channel_means,
    decode_config,
    decode_group,
    embedding_matrix,
    encode_group,
    side_information,
)
from nvc.inr.fit_config import Prior
from nvc.inr.matrices import Candidate
from nvc.inr.quantised import QuantisedGroup


def coded_groups(path: Path) -> Iterator[tuple[int, Any]]:
    """Bytes of the payload of every group of a file, and the group in integers."""
    with path.open("rb") as file:
        reader = StreamReader(file)
        config = None
        for unit in reader.units():
            if unit.type == UnitType.CONFIG:
                header = reader.header
                config = decode_config(unit.payload, height=header.height, width=header.width)
            elif unit.type == UnitType.PARAMETERS:
                yield len(unit.payload), decode_group(unit.payload, config, unit.frame_count)


def describe(group: QuantisedGroup) -> dict[str, float]:
    """Bytes of a group's payload and its parts, by name."""
    counts = {prior: len(encode_group(group, prior=prior)) for prior in get_args(Prior)}
    row: dict[str, float] = {f"bytes_{prior}": count for prior, count in counts.items()}
    row["side_bytes"] = side_information(group)
    row["weights"] = sum(symbols.size for symbols in group.symbols)
    row["codes"] = group.embedding.size
    if group.embedding.size:
        means = channel_means(group.embedding)
        for name, differences in (("codes_direct", False), ("codes_in_time", True)):
            matrix = embedding_matrix(group.embedding, means, differences=differences)
            row[name] = round(Candidate(matrix).bits / 8)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", type=Path, nargs="+", help="files without residual groups")
    for path in parser.parse_args().files:
        for payload, group in coded_groups(path):
            row = {"file": path.name, "payload": payload} | describe(group)
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
