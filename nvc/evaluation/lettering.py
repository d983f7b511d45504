"""A 5x7 bitmap font, enough to label a picture without a drawing library."""

from __future__ import annotations

import numpy as np

GLYPH_HEIGHT, GLYPH_WIDTH = 7, 5

# Seven rows a glyph, five bits a row, the left pixel in the highest bit, as hexadecimal pairs.
_GLYPHS = {
    "0": "0E11131519110E", "1": "040C040404040E", "2": "0E11010204081F", "3": "1F02040201110E",
    "4": "02060A121F0202", "5": "1F101E0101110E", "6": "0608101E11110E", "7": "1F010204080808",
    "8": "0E11110E11110E", "9": "0E11110F01020C", "a": "00000E010F110F", "b": "1010161911111E",
    "c": "00000E1010110E", "d": "01010D1311110F", "e": "00000E111F100E", "f": "0609081C080808",
    "g": "000F11110F010E", "h": "10101619111111", "i": "04000C0404040E", "j": "0200060202120C",
    "k": "10101214181412", "l": "0C04040404040E", "m": "00001A15151111", "n": "00001619111111",
    "o": "00000E1111110E", "p": "00001E111E1010", "q": "00000D130F0101", "r": "00001619101010",
    "s": "00000E100E011E", "t": "08081C08080906", "u": "0000111111130D", "v": "00001111110A04",
    "w": "0000111115150A", "x": "0000110A040A11", "y": "000011110F010E", "z": "00001F0204081F",
    "B": "1E11111E11111E", "K": "11121418141211", "M": "111B1515111111", ".": "00000000000C0C",
    ",": "0000000C0C0408", ":": "000C0C000C0C00", "-": "0000001F000000", "/": "00010204081000",
    " ": "00000000000000",
}  # fmt: skip
_UNKNOWN = "1F11111111111F"


def draw_text(text: str, *, scale: int = 2) -> np.ndarray:
    """Coverage mask (7 scale, 6 scale len(text)), bool; a character without a glyph is a box."""
    columns = []
    for character in text:
        rows = bytes.fromhex(_GLYPHS.get(character, _UNKNOWN))
        bits = np.unpackbits(np.frombuffer(rows, np.uint8)[:, None], axis=1)[:, -GLYPH_WIDTH:]
        columns.append(np.pad(bits, ((0, 0), (0, 1))))
    mask = np.concatenate(columns, axis=1) if columns else np.zeros((GLYPH_HEIGHT, 0), np.uint8)
    return np.kron(mask, np.ones((scale, scale), np.uint8)).astype(bool)
