"""Timestamps: constant rate is free, any other times survive, and arrive before their frames."""

import io
import random
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvc.bitstream.bits import pack_varint, zigzag
from nvc.bitstream.container import StreamHeader, StreamReader, StreamWriter, Unit, UnitType
from nvc.bitstream.timestamps import Timestamps, pack_timestamps, parse_timestamps
from nvc.errors import InputError, StreamError

MS = StreamHeader(
    codec="dhvc",
    width=64,
    height=64,
    frame_rate=Fraction(24000, 1001),
    time_base=Fraction(1, 1000),
)


def write(times, *, gop=8, ahead=1, low_latency=None, header=MS) -> bytes:
    """A stream whose encoder pulls `ahead` frames before it gives units for them."""
    file = io.BytesIO()
    with StreamWriter(file, header, low_latency=low_latency) as writer:
        writer.write(Unit(UnitType.CONFIG, b""))
        for first in range(0, len(times), ahead):
            for pts in times[first : first + ahead]:
                writer.add_timestamp(pts)
            for frame in range(first, min(first + ahead, len(times))):
                writer.write(Unit(UnitType.FRAME, b"abc", frame, 1, key=frame % gop == 0))
    return file.getvalue()


def kinds(data: bytes) -> list[int]:
    return [head.type for _, head in StreamReader(io.BytesIO(data)).walk()]


pts_lists = st.lists(st.integers(-MS.pts_limit, MS.pts_limit) | st.integers(0, 9), min_size=1)


@given(pts_lists, st.integers(0, 10**6))
def test_payload_round_trip(pts, start):
    payload = pack_timestamps(MS, start, pts)
    assert list(parse_timestamps(MS, start, len(pts), payload)) == pts


@pytest.mark.parametrize("pts", [MS.pts_limit + 1, -MS.pts_limit - 1])
def test_times_are_bounded(pts):
    with pytest.raises(ValueError, match="a timestamp must be within 4294967296000 ticks"):
        pack_timestamps(MS, 0, [pts])
    payload = pack_varint(zigzag(pts))
    with pytest.raises(StreamError, match="out of range"):
        parse_timestamps(MS, 0, 1, payload)
    with pytest.raises(InputError, match="a frame has the time"):
        StreamWriter(io.BytesIO(), MS).add_timestamp(pts)


@given(st.binary(max_size=60), st.integers(0, 70000))
def test_any_payload_is_read_or_refused(payload, count):
    try:
        pts = parse_timestamps(MS, 5, count, payload)
    except StreamError:
        return
    assert len(pts) == count <= 1 + 8 * len(payload)


@pytest.mark.parametrize("start", [0, 90, -40])
def test_constant_rate_costs_nothing(start):
    """Times rounded to milliseconds, from any first time on: no unit, and the same times back."""
    times = [start + (2 * i * 1001 + 24) // 48 for i in range(100)]
    data = write(times)
    assert UnitType.TIMESTAMPS not in kinds(data)
    reader = StreamReader(io.BytesIO(data))
    assert [reader.timestamps[i] for i in range(100)] == times
    assert reader.timestamps.constant_rate
    assert len(data) - len(write([])) < 100 * 13 + 6


@pytest.mark.parametrize("low_latency", [False, True])
@pytest.mark.parametrize("ahead", [1, 8, 13, 64])
def test_variable_rate_survives_and_is_known_when_a_frame_is_read(ahead, low_latency):
    rng = random.Random(ahead)
    times = [0]
    for _ in range(49):
        times.append(times[-1] + rng.choice([16, 17, 33, 42, 100]))
    data = write(times, ahead=ahead, low_latency=low_latency)

    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

    reader = StreamReader(Pipe(data))
    seen = [reader.timestamps[u.frame_start] for u in reader.units() if u.type == UnitType.FRAME]
    assert seen == times
    late = StreamReader(io.BytesIO(data))
    assert [late.timestamps[i] for i in range(50)] == times
    assert not late.timestamps.constant_rate


def test_one_timestamps_unit_a_gop_when_nothing_hurries():
    times = [i * 42 + (i % 3) * 5 for i in range(32)]
    data = write(times, gop=8)
    found = [
        (head.frame_start, head.frame_count)
        for _, head in StreamReader(io.BytesIO(data)).walk()
        if head.type == UnitType.TIMESTAMPS
    ]
    assert len(found) == 4
    assert all(start // 8 == (start + count - 1) // 8 for start, count in found)


def test_jitter_is_compact():
    rng = random.Random(1)
    times = [MS.predicted_pts(i) + rng.choice([0, 0, 0, 1]) for i in range(4096)]
    payload = pack_timestamps(MS, 0, times)
    assert len(payload) < 4096 * 2 / 8


def test_one_gap_costs_only_the_gop_it_is_in():
    """Times that return to the constant rate are not stored."""
    times = [MS.predicted_pts(i) for i in range(64)]
    times[20] += 7
    data = write(times)
    assert kinds(data).count(UnitType.TIMESTAMPS) == 1
    assert [StreamReader(io.BytesIO(data)).timestamps[i] for i in (19, 20, 21)] == times[19:22]


def test_units_held_for_times_are_bounded():
    file = io.BytesIO()
    writer = StreamWriter(file, MS)
    for frame in range(40):
        writer.add_timestamp(frame * 50)
        writer.write(Unit(UnitType.FRAME, bytes(400_000), frame, 1, key=not frame))
        assert writer.bytes_written > 400_000 * (frame + 1) - (5 << 20)
    writer.close()
    reader = StreamReader(io.BytesIO(file.getvalue()))
    assert [reader.timestamps[i] for i in range(40)] == [50 * i for i in range(40)]


def test_lookup_between_runs_falls_back_on_the_constant_rate():
    times = Timestamps(MS)
    times.add(10, parse_timestamps(MS, 10, 2, pack_timestamps(MS, 10, [1, 2])))
    assert [times[i] for i in (9, 10, 11, 12)] == [375, 1, 2, 501]


def test_a_rate_that_leads_out_of_range_is_refused():
    wild = StreamHeader(
        codec="dhvc",
        width=64,
        height=64,
        frame_rate=Fraction(1, 2**31 - 1),
        time_base=Fraction(1, 2**31 - 1),
    )
    with pytest.raises(StreamError, match="out of range"):
        Timestamps(wild)[2**31 - 1]
