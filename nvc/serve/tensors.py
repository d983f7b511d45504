"""Where the bytes of an INR group are: tensor by tensor."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nvc.bitstream.reader import StreamReader
from nvc.bitstream.units import Unit, UnitType
from nvc.codecs import make_decoder
from nvc.errors import UsageError
from nvc.stream import info_of


@dataclass(frozen=True)
class TensorRow:
    """A tensor of a group's network. values: 0 for what is no tensor; bytes: as it is coded."""

    name: str
    shape: tuple[int, ...]
    values: int
    bytes: float

    def to_dict(self) -> dict[str, Any]:
        """The same as plain JSON types."""
        return asdict(self)


REST = "frame codes, headers"


def group_tensors(path: Path, group: int) -> list[TensorRow]:
    """Bytes by tensor of group number `group` of an INR file, the largest first.

    Of a group that builds on the one before it, of the differences that are coded. What is left of
    the unit, the codes of the frames among it, is the last row. Raises StreamError for a damaged
    group, UsageError when there is none of that number.
    """
    with path.open("rb") as file:
        reader = StreamReader(file, name=path.name, partial=True)
        info = info_of(reader.header)
        codec: Any = make_decoder(reader.header.codec)
        scheme, base, number = None, None, 0
        for unit in reader.units():
            if unit.type == UnitType.CONFIG and hasattr(codec, "scheme_of"):
                scheme = codec.scheme_of(unit.payload, info)
            elif unit.type == UnitType.PARAMETERS and scheme is not None:
                previous = None if unit.key else base
                base = scheme.decode(unit.payload, scheme.network, unit.frame_count, previous)
                if number == group:
                    return _rows(base, previous, unit)
                number += 1
    if scheme is None:
        raise UsageError(f"where the bytes of a {reader.header.codec} file go is not known here")
    raise UsageError(f"group {group} of a file of {number} groups of parameters")


def _rows(group: Any, base: Any, unit: Unit) -> list[TensorRow]:
    from nvc.inr.network import parameter_shapes

    coded = group.symbols if base is None else group.less(base)
    rows = [
        TensorRow(name, tuple(shape), int(symbols.size), _bits(symbols) / 8)
        for (name, shape), symbols in zip(
            parameter_shapes(group.config).items(), coded, strict=False
        )
    ]
    rows.sort(key=lambda row: -row.bytes)
    rest = max(len(unit.payload) - sum(row.bytes for row in rows), 0)
    return [*rows, TensorRow(REST, (), 0, rest)]


def _bits(symbols: np.ndarray) -> float:
    """What a tensor costs: of the published coding its entropy, else as the encoder codes it."""
    from nvc.inr.matrices import Candidate, as_matrix

    if symbols.dtype == np.uint8:
        counts = np.unique(symbols, return_counts=True)[1]
        return float(-(counts * np.log2(counts / symbols.size)).sum())
    matrix = as_matrix(symbols)
    bits = Candidate(matrix).bits
    if symbols.ndim == 4:
        # Over time the encoder also tries each step less the one before it.
        moved = np.diff(matrix, axis=0, prepend=np.zeros_like(matrix[:1]))
        bits = min(bits, Candidate(moved).bits)
    return bits
