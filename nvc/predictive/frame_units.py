"""Layout of a frame in units, as docs/predictive.md (Bytes) has it, whatever the parts mean.

One FRAME unit holds one layer of one frame. Only layers with symbols are written, and layer 0 says
which these are, so a decoder knows a lost layer from an empty one. A small frame is packed whole
into the unit of layer 0, since three units cost more than they are worth; an encoder for a lossy
channel leaves that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from nvc.bitstream.bits import pack_varint, read_varint
from nvc.bitstream.units import MAX_REORDER
from nvc.errors import StreamError
from nvc.nn.blocks import COARSEST_QP, FINEST_QP
from nvc.predictive.network import KIND_BI, KIND_INTER, KIND_INTRA, KIND_RESET

PACK_BELOW = 600  # bytes of all layers under which a frame is one unit
MAX_LAYERS = 4
MAX_DISTANCE = 63  # of a P frame to its reference, if that is shown before it
MAX_OLDER_DISTANCE = 255  # of a P frame to its second reference
MAX_PAIR_DISTANCE = 16  # of a B frame to each of its two
_KINDS = (KIND_INTER, KIND_INTRA, KIND_RESET, KIND_BI)  # by bits 6 and 7 of the first byte
_QP_MASK = 63
# In the second byte, over the bits of the layers.
_TUNED = 16  # the loop filter
_BEYOND = 32  # the QP is not 0 to 63
_SHARES = 64
_PACKED = 128
# In the byte of a P frame's distance, over its six bits.
_DISTANCE_MASK = 63
_LATER = 64
_OLDER = 128


@dataclass(frozen=True, kw_only=True)
class ReceivedFrame:
    """What arrived of a frame.

    qp, kind: None where nothing arrived; base: whether layer 0 did, which alone tells the numbers
    of the references (of a P frame one or two, the nearer first) and their coded fields, and the
    coded shares of these, None where all squares are as usual; symbols: by layer, empty where
    nothing was coded, and without those that are lost.
    """

    number: int
    qp: int | None = None
    kind: int | None = None
    base: bool = False
    references: tuple[int, ...] = ()
    shares: bytes | None = None
    fields: tuple[bytes, ...] = ()
    tuning: bytes | None = None
    symbols: dict[int, bytes] = field(default_factory=dict)


def pack_frame(
    layers: Sequence[bytes | None],
    qp: int,
    kind: int,
    *,
    distances: Sequence[int] = (),
    shares: bytes | None = None,
    fields: Sequence[bytes] = (),
    tuning: bytes | None = None,
    pack: bool = True,
) -> list[bytes | None]:
    """Payloads of the units of a frame by layer, None where none is written.

    layers: symbols of each; distances: to its references, in the order of ReceivedFrame, how many
    frames later these are shown; of a P frame both have one sign; shares, fields: coded, as there;
    pack: whether a small frame may be one unit.
    """
    there = sum(1 << number for number, payload in enumerate(layers) if payload)
    if not 0 <= qp <= _QP_MASK:
        there |= _BEYOND
        qp -= FINEST_QP if qp < 0 else _QP_MASK + 1 + FINEST_QP
    head = bytes([qp | _KINDS.index(kind) << 6])
    motion = b"".join(pack_varint(len(part)) + part for part in fields)
    if shares is not None:
        there |= _SHARES
        motion = pack_varint(len(shares)) + shares + motion
    if kind == KIND_BI:
        motion = bytes([-distances[0] - 1 << 4 | distances[1] - 1]) + motion
    elif kind != KIND_INTRA:
        nearer, *older = map(abs, distances)
        flags = (_LATER if distances[0] > 0 else 0) | (_OLDER if older else 0)
        motion = bytes([nearer | flags, *older]) + motion
    if tuning is not None:
        there |= _TUNED
        motion += pack_varint(len(tuning)) + tuning
    parts = [payload for payload in layers if payload]
    if pack and sum(map(len, parts)) < PACK_BELOW:
        sized = [pack_varint(len(part)) + part for part in parts[:-1]]
        return [head + bytes([there | _PACKED]) + motion + b"".join((*sized, *parts[-1:]))]
    base = head + bytes([there]) + motion + (layers[0] or b"")
    return [base, *(head + payload if payload else None for payload in layers[1:])]


def read_frame(number: int, parts: dict[int, bytes], *, sends: bool) -> ReceivedFrame:
    """What the payloads of the layers that arrived say of frame `number`.

    sends: whether the network's frames hold motion fields. Raises StreamError where they are cut
    off or refer to what cannot be.
    """
    if any(not part for part in parts.values()):
        raise StreamError(f"frame {number}: a layer without its first byte")
    if not parts:
        return ReceivedFrame(number=number)
    kind, qp = kind_of(parts), parts[min(parts)][0] & _QP_MASK
    if 0 not in parts:
        return ReceivedFrame(number=number, qp=qp, kind=kind)
    base = parts[0]
    try:
        if len(base) < 2:
            raise StreamError("layer 0 is cut off")
        if base[1] & _BEYOND:
            qp += FINEST_QP if qp < -FINEST_QP else _QP_MASK + 1 + FINEST_QP
            if qp > COARSEST_QP:
                raise StreamError(f"its QP would be {qp}; allowed: {FINEST_QP} to {COARSEST_QP}")
        references, start = _references(number, base, kind)
        if len(references) > 1 and not sends:
            raise StreamError("two references, of weights that have none")
        shares = None
        if base[1] & _SHARES:
            if len(references) < 2:
                raise StreamError("shares of references, of which there are not two")
            shares, start = _sized(base, start, "a share of references")
        fields = []
        for _ in references if sends else ():
            part, start = _sized(base, start, "a motion field")
            fields.append(part)
        tuning = None
        if base[1] & _TUNED:
            tuning, start = _sized(base, start, "the tuning of the loop filter")
        symbols = _symbols(base, start)
    except StreamError as error:
        raise StreamError(f"frame {number}: {error}") from error
    for layer in range(MAX_LAYERS):
        if not base[1] >> layer & 1:
            symbols[layer] = b""
        elif layer not in symbols and layer in parts:
            symbols[layer] = parts[layer][1:]
    return ReceivedFrame(
        number=number,
        qp=qp,
        kind=kind,
        base=True,
        references=references,
        shares=shares,
        fields=tuple(fields),
        tuning=tuning,
        symbols=symbols,
    )


def kind_of(parts: dict[int, bytes]) -> int | None:
    """Kind of a frame from the layers that arrived; None where these do not tell."""
    first = parts[min(parts)] if parts else b""
    return _KINDS[first[0] >> 6] if first else None


def is_whole(parts: dict[int, bytes], layers: int | None) -> bool:
    """Whether all layers that hold symbols are there, of the coarsest `layers` of them."""
    base = parts.get(0, b"")
    if len(base) < 2:
        return False
    needed = range(MAX_LAYERS if layers is None else layers)
    return bool(base[1] & _PACKED) or all(
        layer in parts for layer in needed if base[1] >> layer & 1
    )


def _references(number: int, base: bytes, kind: int | None) -> tuple[tuple[int, ...], int]:
    """Numbers of the references, and where the payload of layer 0 goes on behind them."""
    if kind == KIND_INTRA:
        return (), 2
    distances: tuple[int, ...]
    two = len(base) > 2 and kind != KIND_BI and bool(base[2] & _OLDER)
    start = 4 if two else 3
    if len(base) < start:
        raise StreamError("layer 0 is cut off")
    if kind == KIND_BI:
        distances = (-(base[2] >> 4) - 1, (base[2] & 15) + 1)
    else:
        sign = 1 if base[2] & _LATER else -1
        distances = tuple(sign * part for part in (base[2] & _DISTANCE_MASK, *base[3:start]))
    references = tuple(number + distance for distance in distances)
    for reference in references:
        if not 0 <= reference < number + MAX_REORDER or reference == number:
            raise StreamError(f"its reference would be frame {reference}")
    if two and abs(distances[1]) <= abs(distances[0]):
        raise StreamError(f"its references would be frames {references[0]} and {references[1]}")
    return references, start


def _symbols(base: bytes, start: int) -> dict[int, bytes]:
    """Symbols by layer that the unit of layer 0 carries from `start` on."""
    if not base[1] & _PACKED:
        return {0: base[start:]}
    layers = [layer for layer in range(MAX_LAYERS) if base[1] >> layer & 1]
    symbols: dict[int, bytes] = {}
    for layer in layers[:-1]:
        symbols[layer], start = _sized(base, start, "a packed layer")
    if layers:
        symbols[layers[-1]] = base[start:]
    return symbols


def _sized(base: bytes, start: int, what: str) -> tuple[bytes, int]:
    """Bytes behind their length at `start`, and where they end."""
    length, start = read_varint(base, start, len(base), limit=len(base))
    if start + length > len(base):
        raise StreamError(f"{what} is cut off")
    return base[start : start + length], start + length
