"""Audio on its way through: the same packets at the same times, cut with the video."""

from fractions import Fraction

import av
import pytest
from clips import audio_packets, video_times, write_clip

from nvc.video.audio import CHUNK_BYTES, AudioTracks
from nvc.video.reader import open_video
from nvc.video.writer import open_writer


def take(path, **options):
    """(info, frames, audio chunks) of a clip."""
    with open_video(path, audio=True, **options) as reader:
        frames = list(reader)
        return reader.info, frames, list(reader.audio_chunks())


def put(path, info, frames, chunks, **options):
    with open_writer(path, info, audio=iter(chunks), **options) as writer:
        for frame in frames:
            writer.write(frame)
    return path


def bodies(track):
    return [data for _, data in track]


@pytest.mark.parametrize(
    ("source", "target", "codecs"),
    [
        ("a.mp4", "b.mp4", ["aac"]),
        ("a.mp4", "b.mov", ["aac"]),
        ("a.mp4", "b.mkv", ["aac", "aac"]),
        ("a.mkv", "b.mkv", ["libopus", "flac"]),
        ("a.mkv", "b.mp4", ["flac", "libopus"]),
        ("a.mkv", "b.webm", ["libopus"]),
        ("a.mp4", "b.mp4", ["libmp3lame"]),
    ],
)
def test_every_packet_of_every_track_arrives_at_its_time(tmp_path, source, target, codecs):
    path = write_clip(tmp_path / source, frames=30, audio=codecs)
    info, frames, chunks = take(path)
    made = put(tmp_path / target, info, frames, chunks)
    before, after = audio_packets(path), audio_packets(made)
    assert len(after) == len(codecs)
    # Matroska has no time before 0 and moves everything by what is missing
    moved = video_times(made)[0] - video_times(path)[0]
    for old, new in zip(before, after, strict=True):
        assert bodies(new) == bodies(old)
        for (was, _), (now, _) in zip(old, new, strict=True):
            assert abs(now - moved - was) < Fraction(2, 1000)
    assert 0 <= moved < Fraction(30, 1000)


def test_audio_out_of_a_transport_stream_fits_into_mp4(tmp_path):
    path = write_clip(
        tmp_path / "a.ts", frames=20, audio="aac", codec="libx264", container="mpegts"
    )
    made = put(tmp_path / "b.mp4", *take(path))
    assert len(audio_packets(made)[0]) == len(audio_packets(path)[0])
    with av.open(str(made)) as container:
        samples = sum(frame.samples for frame in container.decode(audio=0))
    assert samples > 0.75 * 44100


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_a_part_of_the_clip_brings_its_part_of_the_audio(tmp_path, name):
    path = write_clip(tmp_path / name, frames=75, audio="aac")
    info, frames, chunks = take(path, start=25, frames=25)
    made = put(tmp_path / "b.mp4", info, frames, chunks)
    assert video_times(made)[0] == 0
    times = [time for time, _ in audio_packets(path)[0]]
    expected = [time for time in times if 1 <= time < 2]
    got = audio_packets(made)[0]
    old = bodies(audio_packets(path)[0])
    assert bodies(got) == old[times.index(expected[0]) :][: len(expected)]
    for (now, _), was in zip(got, expected, strict=True):
        assert abs(now + 1 - was) < Fraction(2, 1000)


def test_audio_that_begins_late_stays_late(tmp_path):
    path = write_clip(
        tmp_path / "a.mkv", frames=50, audio="flac", audio_start=Fraction(1), audio_seconds=1
    )
    made = put(tmp_path / "b.mp4", *take(path))
    assert abs(audio_packets(made)[0][0][0] - 1) < Fraction(2, 1000)


def test_an_excerpt_cuts_whole_audio_while_writing(tmp_path):
    path = write_clip(tmp_path / "a.mkv", frames=75, audio="flac")
    info, frames, chunks = take(path)
    made = put(tmp_path / "b.mp4", info, frames[25:50], chunks, excerpt=True)
    assert video_times(made)[0] == 0
    times = [time for time, _ in audio_packets(made)[0]]
    assert 0 <= times[0] < Fraction(1, 10)
    assert Fraction(85, 100) < times[-1] < 1


@pytest.mark.parametrize(
    ("codecs", "target", "message"),
    [
        (["aac"], "b.webm", "webm cannot hold aac audio; written without it"),
        (["flac"], "b.y4m", "this format holds no audio; written without it"),
    ],
)
def test_a_target_that_cannot_hold_the_audio_says_so_once(
    tmp_path, caplog, codecs, target, message
):
    path = write_clip(tmp_path / "a.mkv", frames=5, audio=codecs)
    made = put(tmp_path / target, *take(path))
    assert caplog.text.count(message) == 1
    with open_video(made) as reader:
        assert len(list(reader)) == 5


def test_a_silent_clip_has_no_chunks_and_chunks_are_small(tmp_path, monkeypatch):
    assert CHUNK_BYTES <= 1_000_000
    monkeypatch.setattr("nvc.video.audio.CHUNK_BYTES", 10_000)
    silent = write_clip(tmp_path / "a.mkv", frames=3)
    assert take(silent)[2] == []
    loud = write_clip(tmp_path / "b.mkv", frames=3, audio="flac", audio_seconds=3)
    chunks = take(loud)[2]
    assert len(chunks) > 1
    assert all(0 < len(chunk) <= 10_000 for chunk in chunks)
    with open_video(loud) as reader:
        list(reader)
        assert list(reader.audio_chunks()) == []


@pytest.mark.parametrize("damage", ["noise", "cut", "flipped"])
def test_damaged_audio_never_stops_the_video(tmp_path, damage):
    path = write_clip(tmp_path / "a.mkv", frames=20, audio="flac")
    info, frames, chunks = take(path)
    data = b"".join(chunks)
    if damage == "noise":
        data = bytes(range(256)) * 20
    elif damage == "cut":
        data = data[: len(data) // 2]
    else:
        data = bytes(b ^ (0x55 if i % 97 == 0 and i > 200 else 0) for i, b in enumerate(data))
    made = put(tmp_path / "b.mkv", info, frames, [data])
    assert len(video_times(made)) == 20
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mkv", "b.mkv"]


def test_the_language_and_title_of_a_track_are_kept(tmp_path):
    path = write_clip(tmp_path / "a.mkv", frames=5, audio="flac")
    with av.open(str(path)) as source, av.open(str(tmp_path / "c.mkv"), "w") as target:
        tracks = {s.index: target.add_stream_from_template(s) for s in source.streams.audio}
        video = target.add_stream_from_template(source.streams.video[0])
        tracks[source.streams.video[0].index] = video
        tracks[source.streams.audio[0].index].metadata.update(language="deu", title="Ton")
        for packet in source.demux():
            if packet.size:
                packet.stream = tracks[packet.stream_index]
                target.mux(packet)
    made = put(tmp_path / "b.mkv", *take(tmp_path / "c.mkv"))
    with av.open(str(made)) as container:
        metadata = container.streams.audio[0].metadata
    assert (metadata["language"], metadata["title"]) == ("deu", "Ton")


def test_nothing_in_means_no_tracks():
    tracks = AudioTracks([], "mp4", "x")
    assert list(tracks.packets()) == []
    tracks.close()
