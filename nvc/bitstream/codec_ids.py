"""The append-only table of codec numbers in the file header.

A number is never reused and never changes its meaning; a new codec takes the next free one.
"""

CODEC_IDS: dict[str, int] = {
    "dhvc": 1,
    "hnerv": 2,
    "nerv": 3,
    "enerv": 4,
    "nervpp": 5,
    "cam": 6,
    "nirvana": 7,
    "pfnr": 8,
    "inr": 9,
}

CODEC_NAMES: dict[int, str] = {number: name for name, number in CODEC_IDS.items()}
