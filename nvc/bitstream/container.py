"""The container: everything that callers of the bitstream need, under one name."""

from nvc.bitstream.codec_ids import CODEC_IDS
from nvc.bitstream.describe import describe
from nvc.bitstream.header import MAJOR, MINOR, NewerFormat, StreamHeader
from nvc.bitstream.index import IndexEntry
from nvc.bitstream.reader import StreamReader
from nvc.bitstream.timestamps import Timestamps
from nvc.bitstream.units import Unit, UnitType
from nvc.bitstream.walk import LostUnit
from nvc.bitstream.writer import StreamWriter

__all__ = [
    "CODEC_IDS",
    "MAJOR",
    "MINOR",
    "IndexEntry",
    "LostUnit",
    "NewerFormat",
    "StreamHeader",
    "StreamReader",
    "StreamWriter",
    "Timestamps",
    "Unit",
    "UnitType",
    "describe",
]
