"""Damaged streams: one clear line, or with `partial` all that is intact; never more than that."""

import io
import random
import time
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvc.bitstream import walk
from nvc.bitstream.container import StreamHeader, StreamReader, StreamWriter, Unit, UnitType
from nvc.bitstream.describe import describe
from nvc.bitstream.index import END_UNIT_SIZE, StreamEnd, pack_index, parse_index
from nvc.bitstream.units import pack_head, pack_unit, unit_crc
from nvc.errors import StreamError

HEADER = StreamHeader(codec="dhvc", width=64, height=64, frame_rate=Fraction(25))
SOUND = random.Random(5).randbytes(1000)


class Pipe(io.BytesIO):
    """Bytes that cannot be sought."""

    def seekable(self) -> bool:
        return False


def build(count=30, *, layers=2, vfr=True) -> bytes:
    rng = random.Random(3)
    file = io.BytesIO()
    with StreamWriter(file, HEADER) as writer:
        writer.write(Unit(UnitType.CONFIG, b"settings"))
        for frame in range(count):
            writer.add_timestamp(frame + (frame // 3 if vfr else 0))
            for layer in range(layers):
                payload = rng.randbytes(rng.randrange(20, 60))
                writer.write(Unit(UnitType.FRAME, payload, frame, 1, layer, frame % 8 == 0))
            if frame == 10:
                writer.add_audio(SOUND)
    return file.getvalue()


DATA = build()
UNITS = list(StreamReader(io.BytesIO(DATA)).units())
PLACES = [(offset, head) for offset, head in StreamReader(io.BytesIO(DATA)).walk()]
HEAD = StreamReader(io.BytesIO(DATA)).header_size


def partial(data: bytes, *, pipe=False) -> tuple[list[Unit], StreamReader]:
    reader = StreamReader(Pipe(data) if pipe else io.BytesIO(data), name="t.nvc", partial=True)
    return list(reader.units()), reader


def strict_error(data: bytes, *, pipe=False) -> str:
    reader = StreamReader(Pipe(data) if pipe else io.BytesIO(data), name="t.nvc")
    with pytest.raises(StreamError) as caught:
        list(reader.units())
    text = str(caught.value)
    assert (
        text.startswith("t.nvc: ")
        and text.count("t.nvc") == 1
        and "byte" in text
        and "\n" not in text
    )
    return text


def frame_place(frame: int, layer: int):
    return next(
        (offset, head)
        for offset, head in PLACES
        if head.type == UnitType.FRAME and (head.frame_start, head.layer) == (frame, layer)
    )


@pytest.mark.parametrize("pipe", [False, True])
def test_cut_off_anywhere(pipe):
    """Strict reading tells where; partial reading gives exactly the units that are whole."""
    ends = [offset + head.total for offset, head in PLACES if head.type in (1, 2, 3)]
    for size in range(HEAD, len(DATA), 7 if pipe else 3):
        assert "cut off" in strict_error(DATA[:size], pipe=pipe)
        units, reader = partial(DATA[:size], pipe=pipe)
        assert units == UNITS[: sum(end <= size for end in ends)]
        assert reader.damage is not None
        if not pipe:
            assert reader.frame_count == max((u.frame_end for u in units), default=0)


def test_cut_off_inside_the_header():
    for size in range(HEAD):
        with pytest.raises(StreamError, match=r"^t.nvc: "):
            StreamReader(io.BytesIO(DATA[:size]), name="t.nvc", partial=True)


@pytest.mark.parametrize("pipe", [False, True])
def test_damaged_payload_loses_one_unit(pipe):
    offset, head = frame_place(12, 1)
    data = bytearray(DATA)
    data[offset + head.size + 3] ^= 0x10
    text = strict_error(bytes(data), pipe=pipe)
    assert f"FRAME unit at byte {offset} (frame 12, layer 1)" in text and "checksum" in text
    units, reader = partial(bytes(data), pipe=pipe)
    assert units == [u for u in UNITS if (u.frame_start, u.layer) != (12, 1) or u.type != 2]
    (lost,) = reader.lost
    assert (lost.offset, lost.type, lost.frame_start, lost.layer) == (offset, 2, 12, 1)
    assert reader.damage in text


@pytest.mark.parametrize("pipe", [False, True])
@pytest.mark.parametrize("trailer", [False, True], ids=["no index", "index"])
def test_damaged_unit_header_loses_one_unit(pipe, trailer):
    """The next unit is found again, with the index or without it."""
    offset, head = frame_place(12, 1)
    for bit in range(8 * head.size):
        data = bytearray(DATA if trailer else DATA[:-END_UNIT_SIZE])
        data[offset + bit // 8] ^= 1 << bit % 8
        strict_error(bytes(data), pipe=pipe)
        units, reader = partial(bytes(data), pipe=pipe)
        assert units == [u for u in UNITS if (u.frame_start, u.layer) != (12, 1) or u.type != 2]
        assert reader.damage is not None
        assert reader.lost == []


def test_a_stretch_of_garbage_is_crossed():
    start, _ = frame_place(9, 0)
    stop, _ = frame_place(20, 1)
    data = DATA[:start] + random.Random(8).randbytes(stop - start - 11) + DATA[stop:]
    for pipe in (False, True):
        units, reader = partial(data, pipe=pipe)
        kept = [u for u in UNITS if u.frame_end <= 9 or (u.frame_start, u.layer) >= (20, 1)]
        assert units == kept
        assert reader.damage is not None and "byte" in reader.damage


def test_index_leads_over_what_cannot_be_searched(monkeypatch):
    """When the search has used up its allowance, the next listed key is where reading goes on."""
    monkeypatch.setattr(walk, "SEARCH_POSITIONS", 64)
    start, _ = frame_place(9, 0)
    stop, _ = frame_place(12, 0)
    data = DATA[:start] + bytes(stop - start) + DATA[stop:]
    units, _ = partial(data)
    assert units == [u for u in UNITS if u.frame_end <= 9 or u.frame_start >= 16]
    units, _ = partial(data[:-5])
    assert units == [u for u in UNITS if u.frame_end <= 9]


def test_a_length_that_lies_with_right_checks_is_survived():
    """The check byte is made right again, so that only what follows shows the lie."""
    offset, head = frame_place(12, 0)
    unit = DATA[offset : offset + head.total]
    whole = Unit(UnitType.FRAME, unit[head.size : -4], 12, 1, 0)
    for wrong in (0, 1, head.length - 1, head.length + 1, 300, 1 << 27):
        lie = pack_head_with_length(whole, wrong)
        data = DATA[:offset] + lie + unit[head.size :] + DATA[offset + head.total :]
        strict_error(data)
        units, reader = partial(data)
        assert units == [u for u in UNITS if (u.frame_start, u.layer) != (12, 0) or u.type != 2]
        assert reader.damage is not None


def pack_head_with_length(unit: Unit, length: int) -> bytes:
    class Sized(bytes):
        def __len__(self) -> int:
            return length

    return pack_head(Unit(unit.type, Sized(), unit.frame_start, unit.frame_count, unit.layer))


def test_nothing_is_allocated_for_a_length_the_file_does_not_hold(monkeypatch):
    lie = pack_head_with_length(UNITS[3], 1 << 28)
    data = DATA[:HEAD] + lie + bytes(100)
    asked = []

    class Watched(io.BytesIO):
        def read(self, size=-1):
            asked.append(size)
            return super().read(size)

    class WatchedPipe(Watched):
        def seekable(self):
            return False

        read1 = Watched.read

    for kind in (Watched, WatchedPipe):
        with pytest.raises(StreamError, match="cut off"):
            list(StreamReader(kind(data)).units())
    assert max(asked) <= 1 << 18


@pytest.mark.parametrize("pipe", [False, True])
def test_missing_doubled_and_moved_units(pipe):
    offset, head = frame_place(12, 1)
    unit = DATA[offset : offset + head.total]
    gone = DATA[:offset] + DATA[offset + head.total :]
    assert "some are missing or doubled" in strict_error(gone, pipe=pipe)
    doubled = DATA[:offset] + unit + DATA[offset:]
    assert "some are missing or doubled" in strict_error(doubled, pipe=pipe)
    units, reader = partial(gone, pipe=pipe)
    assert len(units) == len(UNITS) - 1 and "missing" in reader.damage
    assert reader.frame_count == 30


def test_seeking_survives_an_index_of_another_layout():
    """Offsets that no longer fit are noticed at the unit they point to; a scan replaces them."""
    offset, head = frame_place(3, 1)
    gone = DATA[:offset] + DATA[offset + head.total :]
    reader = StreamReader(io.BytesIO(gone), partial=True)
    found = [u.frame_start for u in reader.units_for(17, 1)][1:]
    assert found == [number for number in range(16, 24) for _ in range(2)]


@pytest.mark.parametrize("cut", [1, END_UNIT_SIZE, END_UNIT_SIZE + 5, END_UNIT_SIZE + 200])
def test_seeking_without_index(cut):
    reader = StreamReader(io.BytesIO(DATA[:-cut]), partial=True)
    found = [u.frame_start for u in reader.units_for(17, 1)][1:]
    assert found == [number for number in range(16, 24) for _ in range(2)]
    assert reader.timestamps[17] == 17 + 17 // 3
    assert b"".join(reader.audio_chunks()) == SOUND
    strict = StreamReader(io.BytesIO(DATA[:-cut]), name="t.nvc")
    with pytest.raises(StreamError, match=r"^t.nvc: .*cut off"):
        list(strict.units_for(17, 1))


def test_bytes_behind_the_end():
    assert f"there are 5 bytes behind the END unit, from byte {len(DATA)} on" in strict_error(
        DATA + b"trash"
    )
    units, reader = partial(DATA + b"trash")
    assert units == UNITS and "behind" in reader.damage


def test_sound_survives_damage_to_the_picture_and_ends_where_it_is_damaged_itself():
    offset, _ = frame_place(2, 0)
    data = bytearray(DATA)
    data[offset] ^= 0xFF
    for pipe in (False, True):
        _, reader = partial(bytes(data), pipe=pipe)
        assert b"".join(reader.audio_chunks()) == SOUND
    file = io.BytesIO()
    with StreamWriter(file, HEADER) as writer:
        for i in range(5):
            writer.add_audio(bytes((i,)) * 100)
    sound = file.getvalue()
    places = [o for o, head in StreamReader(io.BytesIO(sound)).walk() if head.type == 5]
    bad = bytearray(sound)
    bad[places[3] + 50] ^= 1
    gone = sound[: places[3]] + sound[places[4] :]
    for data in (bytes(bad), gone):
        for pipe in (False, True):
            _, reader = partial(data, pipe=pipe)
            assert b"".join(reader.audio_chunks()) == b"".join(bytes((i,)) * 100 for i in range(3))
            assert reader.damage is not None
        with pytest.raises(StreamError):
            list(StreamReader(io.BytesIO(data)).audio_chunks())


def rewrite_trailer(data: bytes, index: bytes, end: StreamEnd) -> bytes:
    offset = next(o for o, head in PLACES if head.type == UnitType.INDEX)
    return (
        data[:offset]
        + pack_unit(Unit(UnitType.INDEX, index))
        + pack_unit(Unit(UnitType.END, end.pack()))
    )


@given(st.binary(max_size=200))
def test_any_index_payload_is_read_or_refused(payload):
    try:
        entries = parse_index(payload, end=10_000)
    except StreamError:
        return
    assert len(entries) * 4 <= len(payload)
    offsets = [entry.offset for entry in entries]
    assert offsets == sorted(set(offsets)) and all(0 < offset < 10_000 for offset in offsets)
    assert parse_index(pack_index(entries), end=10_000) == entries


@settings(max_examples=30)
@given(st.binary(max_size=60), st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1))
def test_a_lying_trailer_with_right_checksums(index, index_offset, frame_count):
    offset = next(o for o, head in PLACES if head.type == UnitType.INDEX)
    for place in (index_offset, offset):
        data = rewrite_trailer(DATA, index, StreamEnd(place, frame_count, len(PLACES) - 1))
        if not 30 <= frame_count <= 30 + 65536:
            assert f" {frame_count} frames" in strict_error(data)
        reader = StreamReader(io.BytesIO(data), partial=True)
        assert list(reader.units()) == UNITS
        for start in (0, 17):
            assert {u.frame_start for u in reader.units_for(start, 2)} <= set(range(30))


def test_a_stream_passed_on_with_losses_keeps_its_length_and_its_times():
    """As a lossy channel does it: what is left out is known from what is there, not an error."""
    source = StreamReader(io.BytesIO(DATA))
    file = io.BytesIO()
    with StreamWriter(file, source.header) as writer:
        for unit in source.all_units():
            if unit.type != UnitType.FRAME or unit.frame_start % 3:
                writer.write(unit)
        writer.frame_count = max(writer.frame_count, source.frame_count or 0)
    reader = StreamReader(io.BytesIO(file.getvalue()))
    kept = [u for u in UNITS if u.type != UnitType.FRAME or u.frame_start % 3]
    assert list(reader.units()) == kept
    assert reader.frame_count == 30
    assert [reader.timestamps[i] for i in range(30)] == [i + i // 3 for i in range(30)]
    assert b"".join(reader.audio_chunks()) == SOUND


def test_a_frame_number_that_leaps_is_refused():
    leap = pack_unit(Unit(UnitType.FRAME, b"x", 2_000_000_000, 1))
    offset, _ = frame_place(12, 0)
    data = DATA[:offset] + leap + DATA[offset:]
    assert "over 65536 frames are missing" in strict_error(data)
    units, _ = partial(data)
    assert units == UNITS


def test_timestamps_that_lie_are_refused():
    bad = pack_unit(Unit(UnitType.TIMESTAMPS, b"\x00", 0, 60_000))
    data = DATA[:HEAD] + bad + DATA[HEAD:]
    assert "claims 60000 frames" in strict_error(data)
    assert partial(data)[0] == UNITS


def test_describe_reports_damage():
    offset, head = frame_place(12, 1)
    data = bytearray(DATA)
    data[offset + head.size] ^= 1
    report = describe(StreamReader(io.BytesIO(bytes(data)), partial=True))
    assert report["lost"] == [
        {"offset": offset, "type": "FRAME", "frame_start": 12, "frame_count": 1, "layer": 1}
    ]
    assert str(offset) in report["damage"] and report["complete"]


def test_searching_is_bounded():
    """Three megabytes that could each start a unit are given up in a few seconds."""
    noise = random.Random(1).randbytes(3 << 20)
    began = time.process_time()
    units, reader = partial(DATA[: PLACES[9][0]] + noise)
    assert len(units) == sum(head.type in (1, 2, 3) for _, head in PLACES[:9])
    assert reader.damage is not None
    assert time.process_time() - began < 10


def mutate(rng: random.Random, data: bytes) -> bytes:
    """Flip, cut, delete, double or overwrite, sometimes with the checks of a unit made right."""
    out = bytearray(data)
    for _ in range(rng.randrange(1, 4)):
        place = rng.randrange(len(out))
        length = min(rng.randrange(1, 200), len(out) - place)
        kind = rng.randrange(7)
        if kind == 0:
            out[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del out[rng.randrange(1, len(out)) :]
        elif kind == 2:
            del out[place : place + length]
        elif kind == 3:
            out[place:place] = out[place : place + length]
        elif kind == 4:
            out[place : place + length] = rng.randbytes(length)
        elif kind == 5:
            offset, head = rng.choice(PLACES)
            unit = bytearray(DATA[offset : offset + head.total])
            unit[rng.randrange(head.size, len(unit) - 4)] ^= 1 << rng.randrange(8)
            unit[-4:] = unit_crc(bytes(unit[: head.size]), bytes(unit[head.size : -4])).to_bytes(
                4, "little"
            )
            out[offset : offset + head.total] = unit
        else:
            unit = Unit(
                rng.randrange(1, 64),
                rng.randbytes(rng.randrange(50)),
                rng.randrange(1 << rng.randrange(30)),
                rng.randrange(1, 65537),
                rng.randrange(256),
                rng.random() < 0.5,
            )
            out[place:place] = pack_unit(unit)
        if not out:
            break
    return bytes(out)


def test_several_hundred_mutations_give_units_or_a_clear_error():
    rng = random.Random(2024)
    outcomes = {"whole": 0, "error": 0, "partial": 0}
    for round_ in range(250):
        data = mutate(rng, DATA)
        for pipe in (False, True):
            for tolerant in (False, True):
                try:
                    reader = StreamReader(
                        Pipe(data) if pipe else io.BytesIO(data), name="t.nvc", partial=tolerant
                    )
                    count = sum(1 for _ in reader.units())
                    list(reader.audio_chunks())
                    if not pipe:
                        list(reader.units_for(round_ % 40, 3))
                        describe(reader)
                    assert reader.timestamps[round_ % 40] is not None
                    outcomes["partial" if reader.damage else "whole"] += 1
                    assert count < 200
                except StreamError as error:
                    assert str(error).startswith("t.nvc: ")
                    outcomes["error"] += 1
    assert min(outcomes["error"], outcomes["partial"]) > 150, outcomes
