"""Streams: round trips over files and pipes, seek, layers, sound, fixed costs, golden bytes."""

import importlib.util
import io
import json
import os
import random
import threading
import time
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvc.bitstream.container import StreamHeader, StreamReader, StreamWriter, Unit, UnitType
from nvc.bitstream.describe import describe
from nvc.bitstream.units import MAX_REORDER
from nvc.errors import StreamError

VECTORS = Path(__file__).parent / "vectors"
HEADER = StreamHeader(
    codec="dhvc",
    width=1920,
    height=1080,
    frame_rate=Fraction(30000, 1001),
    time_base=Fraction(1, 90000),
    matrix=1,
    primaries=1,
    transfer=1,
    full_range=False,
    chroma_location=1,
    sample_aspect=Fraction(4, 3),
    weights_hash=b"weights!",
    crop_bottom=8,
)


class Pipe(io.BytesIO):
    """Bytes that cannot be sought, and come in small pieces."""

    def seekable(self) -> bool:
        return False

    def seek(self, *_):
        raise OSError("a pipe cannot seek")

    def read1(self, size=-1):
        return super().read(min(size, 777))


def frames(count, *, layers=1, gop=8, size=50, seed=0):
    rng = random.Random(seed)
    for frame in range(count):
        for layer in range(layers):
            payload = rng.randbytes(rng.randrange(size * (layer + 1)))
            yield Unit(UnitType.FRAME, payload, frame, 1, layer, key=frame % gop == 0 and not layer)


def pack(units, *, header=HEADER, file=None, audio=b"") -> bytes:
    file = io.BytesIO() if file is None else file
    with StreamWriter(file, header) as writer:
        for unit in units:
            writer.write(unit)
        writer.add_audio(audio)
    return file.getvalue()


def read(data: bytes, **options) -> StreamReader:
    return StreamReader(io.BytesIO(data), name="test.nvc", **options)


CONFIG = Unit(UnitType.CONFIG, b"settings")


@st.composite
def streams(draw):
    """Units of a few GOPs, layers and tracks, with unknown types between."""
    units = [CONFIG] if draw(st.booleans()) else []
    frame = 0
    for _ in range(draw(st.integers(0, 25))):
        kind = draw(st.sampled_from([2, 2, 2, 2, 3, 50, 5]))
        count = draw(st.integers(1, 3)) if kind in (2, 3) else 0
        payload = draw(st.binary(max_size=80))
        if kind == 5:
            chunk = sum(unit.type == 5 for unit in units)
            units.append(Unit(5, payload, chunk))
            continue
        layer, key, track = draw(st.integers(0, 3)), draw(st.booleans()), draw(st.integers(0, 1))
        units.append(Unit(kind, payload, frame if count else 0, count, layer, key, track))
        frame += draw(st.integers(0, 2))
    return units


@settings(max_examples=60)
@given(streams())
def test_units_round_trip_over_files_and_pipes(units):
    data = pack(units)
    pipe_target = Pipe()
    assert pack(units, file=pipe_target) == data
    reader = read(data)
    assert list(reader.all_units()) == units
    assert list(StreamReader(Pipe(data)).all_units()) == units
    assert [u for u in units if u.type in (1, 2, 3)] == list(reader.units())
    assert reader.frame_count == max(
        (u.frame_end for u in units if u.type in (2, 3) and not u.track), default=0
    )
    sound = b"".join(u.payload for u in units if u.type == 5)
    assert b"".join(reader.audio_chunks()) == sound
    assert reader.has_audio == any(u.type == 5 for u in units)


@settings(max_examples=60)
@given(streams(), st.integers(0, 40), st.integers(1, 8), st.integers(0, 1))
def test_units_for_frames_start_at_the_last_key(units, start, count, track):
    """Against the plain rule, applied to the list of units."""
    mine = [u for u in units if u.type in (2, 3) and u.track == track]
    keys = [i for i, u in enumerate(mine) if u.key]
    before = [i for i in keys if mine[i].frame_start <= start]
    wanted = [u for u in units if u.type == UnitType.CONFIG]
    if keys:
        # Units of one key frame belong together: enter at the first.
        frame = mine[before[-1] if before else keys[0]].frame_start
        first = next(i for i in keys if mine[i].frame_start == frame)
        for unit in mine[first:]:
            if unit.key and unit.frame_start >= start + count:
                break
            # Frames may be coded ahead of others that refer to them.
            if unit.frame_start < start + count + MAX_REORDER * (unit.type == UnitType.FRAME):
                wanted.append(unit)
    reader = read(pack(units))
    assert list(reader.units_for(start, count, track=track)) == wanted


def test_real_pipe_is_read_as_it_is_written():
    """Each frame can be decoded before the next one exists."""
    read_end, write_end = os.pipe()
    arrived = threading.Semaphore(0)
    failures = []

    def produce():
        with os.fdopen(write_end, "wb") as file, StreamWriter(file, HEADER) as writer:
            for unit in [CONFIG, *frames(20)]:
                writer.write(unit)
                if unit.type == UnitType.FRAME and not arrived.acquire(timeout=5):
                    failures.append(unit.frame_start)

    thread = threading.Thread(target=produce)
    thread.start()
    seen = []
    with os.fdopen(read_end, "rb") as file:
        reader = StreamReader(file, name="pipe")
        for unit in reader.units():
            seen.append(unit)
            if unit.type == UnitType.FRAME:
                arrived.release()
        assert reader.frame_count == 20
    thread.join()
    assert not failures
    assert seen == [CONFIG, *frames(20)]


def test_a_pipe_is_read_once_and_not_entered():
    reader = StreamReader(Pipe(pack(frames(3))), name="-")
    list(reader.units())
    with pytest.raises(StreamError, match="-: a pipe can be read only once"):
        list(reader.units())
    with pytest.raises(StreamError, match="-: a pipe cannot be entered at frame 1"):
        reader.units_for(1, 1)


def test_stream_inside_a_larger_file():
    """Offsets count from where the file stands when the reader takes it."""
    file = io.BytesIO(b"something before" + pack(frames(20)))
    file.seek(16)
    reader = StreamReader(file)
    assert [u.frame_start for u in reader.units_for(9, 2)] == list(range(8, 16))
    assert list(reader.units()) == list(frames(20))


def test_layers_are_passed_over():
    reader = read(pack(frames(10, layers=3)))
    assert {u.layer for u in reader.units(layers=2)} == {0, 1}
    assert {u.layer for u in reader.units_for(3, 2, layers=1)} == {0}
    assert len(list(reader.units())) == 30


def test_sound_in_pieces_anywhere():
    sound = random.Random(1).randbytes(700_000)
    file = io.BytesIO()
    with StreamWriter(file, HEADER) as writer:
        for i, unit in enumerate(frames(14)):
            writer.write(unit)
            writer.add_audio(sound[i * 50_000 : (i + 1) * 50_000])
    for reader in (read(file.getvalue()), StreamReader(Pipe(file.getvalue()))):
        assert list(reader.units()) == list(frames(14))
        assert reader.has_audio
        assert b"".join(reader.audio_chunks()) == sound


def test_interleaved_readers_of_one_file():
    reader = read(pack(frames(60, size=2000)))
    whole, part = reader.units(), reader.units_for(33, 10)
    got = [next(whole) for _ in range(5)] + list(part)[:1] + list(whole)
    assert [u.frame_start for u in got] == [*range(5), 32, *range(5, 60)]


def test_fixed_cost_of_a_file():
    """Header, index without frames, and END together: at most 100 bytes, with every field used."""
    assert len(pack([])) <= 90
    plain = StreamHeader(codec="hnerv", width=640, height=320, frame_rate=Fraction(25))
    assert len(pack([], header=plain)) <= 60


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("gop", [1, 8, 32])
def test_fixed_cost_of_a_frame_unit(gop, layers):
    """At most 12 bytes with the index's share, all-intra streams included."""
    units = list(frames(2000, layers=layers, gop=gop, size=9000))
    cost = len(pack(units)) - len(pack([])) - sum(len(u.payload) for u in units)
    assert cost / len(units) <= 12


def test_fixed_cost_of_a_frame_unit_late_and_large():
    """Frames from 16,384 on cost a byte more, payloads from 16 KB on another, 0.07 % of them."""
    units = [
        Unit(UnitType.FRAME, bytes(20_000), 60_000 + i, 1, 2, key=i % 8 == 0) for i in range(200)
    ]
    cost = len(pack(units)) - len(pack([])) - 20_000 * len(units)
    assert cost / len(units) <= 13
    short = [
        Unit(UnitType.FRAME, bytes(5_000), 60_000 + i, 1, 2, key=i % 8 == 0) for i in range(200)
    ]
    cost = len(pack(short)) - len(pack([])) - 5_000 * len(short)
    assert cost / len(short) <= 12


def test_hundred_thousand_units_are_written_and_scanned_quickly():
    """In seconds of this process, so that other work on the machine does not matter."""
    payload = bytes(200)
    file = io.BytesIO()
    began = time.process_time()
    with StreamWriter(file, HEADER) as writer:
        for frame in range(100_000):
            writer.write(Unit(UnitType.FRAME, payload, frame, 1, key=frame % 32 == 0))
    written = time.process_time()
    reader = read(file.getvalue())
    assert sum(1 for _ in reader.walk(payloads=False)) == 100_002
    scanned = time.process_time()
    assert written - began < 3.0
    assert scanned - written < 1.5


def test_seeking_reads_little():
    """Entering late in a long file touches its end and its neighbourhood only."""
    data = pack(frames(4000, size=4000))

    class Counting(io.BytesIO):
        total = 0

        def read(self, size=-1):
            piece = super().read(size)
            Counting.total += len(piece)
            return piece

    reader = StreamReader(Counting(data))
    assert next(reader.units_for(3500, 1)).frame_start == 3496
    assert Counting.total < len(data) / 4


@pytest.mark.parametrize("gop", [1, 3, 32])
def test_where_to_enter_is_known_without_reading_again(gop):
    """Stepping through the frames reads each header a few times at most."""
    data = pack(frames(300, gop=gop, size=3000))

    class Counting(io.BytesIO):
        total = 0

        def read(self, size=-1):
            piece = super().read(size)
            Counting.total += len(piece)
            return piece

    reader = StreamReader(Counting(data))
    assert [reader.entry_before(i) for i in range(300)] == [i // gop * gop for i in range(300)]
    assert Counting.total < 4 * len(data)
    assert StreamReader(Pipe(data)).entry_before(3) is None


def test_critical_unknown_type_is_refused_and_others_are_passed_over():
    units = list(frames(6))
    skippable = [*units[:3], Unit(33, b"x"), *units[3:]]
    assert list(read(pack(skippable)).units()) == units
    critical = [*units[:3], Unit(33, b"x", critical=True), *units[3:]]
    with pytest.raises(StreamError, match=r"TYPE_33 unit at byte .* newer nvc is needed"):
        list(read(pack(critical)).units())
    reader = read(pack(critical), partial=True)
    assert list(reader.units()) == units[:3]
    assert "newer nvc" in reader.damage


def test_writer_refuses_what_it_writes_itself_and_writing_after_the_end():
    writer = StreamWriter(io.BytesIO(), HEADER)
    with pytest.raises(ValueError, match="INDEX and END"):
        writer.write(Unit(UnitType.END, b""))
    assert writer.close() == writer.close() == writer.bytes_written
    with pytest.raises(ValueError, match="closed"):
        writer.write(CONFIG)


def test_interrupted_writer_leaves_a_stream_that_says_so():
    file = io.BytesIO()
    with pytest.raises(KeyboardInterrupt), StreamWriter(file, HEADER) as writer:
        for unit in frames(5):
            writer.write(unit)
        raise KeyboardInterrupt
    with pytest.raises(StreamError, match=r"cut off: it ends at byte \d+ with no END unit"):
        list(read(file.getvalue()).units())
    reader = read(file.getvalue(), partial=True)
    assert list(reader.units()) == list(frames(5))
    assert reader.frame_count == 5


def test_describe_counts_every_byte():
    data = pack([CONFIG, *frames(20, layers=2)], audio=b"s" * 1000)
    report = json.loads(json.dumps(describe(read(data))))
    assert report["bytes"] == len(data)
    assert report["header_bytes"] + sum(u["bytes"] for u in report["units"].values()) == len(data)
    assert sum(u["bytes"] for u in report["layers"].values()) == report["units"]["FRAME"]["bytes"]
    assert report["frames"] == 20 and report["key_frames"] == [0, 8, 16]
    assert report["duration"] == pytest.approx(20 * 1001 / 30000)
    assert report["bitrate"] == pytest.approx(8 * len(data) / report["duration"])
    assert report["audio_bytes"] == 1000 + 5 + 4
    assert report["complete"] and report["damage"] is None and report["lost"] == []
    assert (report["coded_height"], report["height"]) == (1088, 1080)
    piped = describe(StreamReader(Pipe(data), name="test.nvc"))
    assert json.loads(json.dumps(piped)) == report


def test_golden_file():
    """The bytes of format 1.0 do not change, and are read as they were meant."""
    path = Path(__file__).parents[1] / "tools" / "make_container_vectors.py"
    spec = importlib.util.spec_from_file_location("make_container_vectors", path)
    assert spec is not None and spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    golden = (VECTORS / "container_v1.nvc").read_bytes()
    assert tool.build() == golden
    assert tool.expected(golden) == json.loads((VECTORS / "container_v1.json").read_text())
    assert StreamReader(io.BytesIO(golden)).header.codec == "dhvc"


def test_many_timestamps_units_are_loaded_quickly():
    """A live stream of variable rate has one for every frame."""
    file = io.BytesIO()
    with StreamWriter(file, HEADER, low_latency=True) as writer:
        for frame in range(20_000):
            writer.add_timestamp(3003 * frame + frame % 7)
            writer.write(Unit(UnitType.FRAME, b"x" * 500, frame, 1, key=frame % 32 == 0))
    began = time.process_time()
    assert read(file.getvalue()).timestamps[19_998] == 3003 * 19_998 + 19_998 % 7
    assert time.process_time() - began < 1.5


def test_a_pipe_of_crumbs_is_not_copied_over_and_over():
    """Reading is linear in the bytes even where they come a few at a time."""

    class Crumbs(Pipe):
        def read1(self, size=-1):
            return io.BytesIO.read(self, min(size, 20))

    units = [Unit(UnitType.FRAME, bytes(200_000), frame, 1) for frame in range(8)]
    began = time.process_time()
    assert list(StreamReader(Crumbs(pack(units))).units()) == units
    assert time.process_time() - began < 3.0
