"""nvc.encode, nvc.decode and nvc.open around a codec that stores samples, so all is exact."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from clips import audio_packets, make_frames, video_times, write_clip, write_raw
from conftest import DIFFICULT_TIMES
from copy_codec import CopyCodec
from predictive_weights import write_weights

import nvc
from nvc.errors import UsageError
from nvc.video.frames import VideoInfo
from nvc.video.reader import open_video


def read(path: Path, **options) -> tuple[VideoInfo, list[nvc.Frame]]:
    with open_video(path, **options) as reader:
        return reader.info, list(reader)


def same_planes(a: nvc.Frame, b: nvc.Frame) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.planes, b.planes, strict=True))


@pytest.fixture
def stream(clip: Path, copy_codec: str, tmp_path: Path) -> Path:
    """The ten-frame clip encoded in groups of four."""
    nvc.encode(clip, tmp_path / "clip.nvc", codec=copy_codec)
    return tmp_path / "clip.nvc"


def test_encode_and_decode_give_the_same_frames(clip, copy_codec, tmp_path) -> None:
    out = tmp_path / "out.nvc"
    result = nvc.encode(clip, out, codec=copy_codec, gop=3)
    assert result.bytes == out.stat().st_size
    assert result.frames == 10
    assert result.bpp == pytest.approx(8 * result.bytes / (10 * 32 * 24))
    assert result.stats["gop"] == 3
    decoded = nvc.decode(out, tmp_path / "back.mkv")
    assert decoded.frames == 10 and decoded.damage is None
    original, back = read(clip)[1], read(tmp_path / "back.mkv")[1]
    assert len(back) == 10
    assert all(map(same_planes, original, back))
    assert not list(tmp_path.glob(".*")), "temporary files are left"


def test_difficult_clip_keeps_everything(difficult_clip, copy_codec, tmp_path) -> None:
    """Odd size, 10-bit 4:2:2, variable rate, colour, aspect and sound, both ways."""
    nvc.encode(difficult_clip, tmp_path / "a.nvc", codec=copy_codec)
    back = tmp_path / "back.mkv"
    nvc.decode(tmp_path / "a.nvc", back)
    (info, frames), (info_back, frames_back) = read(difficult_clip), read(back)
    assert (info_back.width, info_back.height) == (45, 35)
    assert (info_back.chroma, info_back.bit_depth) == ("422", 10)
    assert info_back.color == info.color
    assert info_back.color.matrix == 9
    assert info_back.sample_aspect == Fraction(4, 3)
    assert all(map(same_planes, frames, frames_back))
    assert video_times(back) == [Fraction(time, 1000) for time in DIFFICULT_TIMES]
    sound, sound_back = audio_packets(difficult_clip), audio_packets(back)
    assert len(sound_back) == 1
    assert [data for _, data in sound_back[0]] == [data for _, data in sound[0]]
    for (time, _), (time_back, _) in zip(sound[0], sound_back[0], strict=True):
        assert abs(time - time_back) <= Fraction(1, 500)


def test_audio_is_left_out_when_asked(difficult_clip, copy_codec, tmp_path) -> None:
    nvc.encode(difficult_clip, tmp_path / "a.nvc", codec=copy_codec, audio=False)
    nvc.decode(tmp_path / "a.nvc", tmp_path / "back.mkv")
    assert audio_packets(tmp_path / "back.mkv") == []


def test_rotation_survives(copy_codec, tmp_path) -> None:
    source = write_clip(tmp_path / "turned.mp4", width=32, height=16, frames=3, rotation=90)
    nvc.encode(source, tmp_path / "a.nvc", codec=copy_codec)
    with nvc.open(tmp_path / "a.nvc") as video:
        assert video.info.rotation == 90
    nvc.decode(tmp_path / "a.nvc", tmp_path / "back.mp4")
    assert read(tmp_path / "back.mp4")[0].rotation == 90


def test_start_frames_and_crop_choose_a_part(clip, copy_codec, tmp_path) -> None:
    result = nvc.encode(
        clip, tmp_path / "a.nvc", codec=copy_codec, start=2, frames=5, crop=(16, 20)
    )
    assert result.frames == 5
    _, expected = read(clip, start=2, frames=5, crop=(16, 20))
    with nvc.open(tmp_path / "a.nvc") as video:
        assert (video.info.height, video.info.width) == (16, 20)
        assert all(map(same_planes, expected, video))


def test_decoding_a_part(stream, clip, tmp_path) -> None:
    assert nvc.decode(stream, tmp_path / "part.mkv", start=5, frames=3).frames == 3
    original, part = read(clip)[1], read(tmp_path / "part.mkv")[1]
    assert all(map(same_planes, original[5:8], part))
    with pytest.raises(nvc.UsageError, match="has 10 frames, so none from 10"):
        nvc.decode(stream, tmp_path / "none.mkv", start=10)
    assert not (tmp_path / "none.mkv").exists()


def test_base_layer_alone(stream, clip) -> None:
    with nvc.open(stream, layers=1) as video:
        frame = video[3]
    original = read(clip)[1][3]
    assert torch.equal(frame.planes[0], original.planes[0])
    assert (frame.planes[1] == 128).all()


def test_layers_of_a_codec_without_layers_are_refused(stream, monkeypatch) -> None:
    from dataclasses import replace

    from nvc.codecs import CODECS

    monkeypatch.setitem(CODECS, "nerv", replace(CODECS["nerv"], layered=False))
    with pytest.raises(nvc.UsageError, match="no layers"):
        nvc.open(stream, layers=1)


def test_open_gives_random_access(stream, clip) -> None:
    original = read(clip)[1]
    with nvc.open(stream) as video:
        assert len(video) == 10
        assert video.codec == "nerv"
        assert video.info.frame_rate == 25
        for index in (9, 0, 5, 4, -1):
            assert same_planes(video[index], original[index])
        assert [frame.pts for frame in video[2:9:3]] == [original[i].pts for i in (2, 5, 8)]
        assert len(list(video)) == 10
        assert [frame.pts for frame in video.frames(3, 5)] == [original[i].pts for i in (3, 4)]
        with pytest.raises(IndexError, match="10 frames"):
            video[10]


def test_random_access_decodes_only_its_group(stream) -> None:
    with nvc.open(stream) as video:
        before = CopyCodec.decoded_frames
        _ = video[9]  # groups begin at 0, 4 and 8
        assert CopyCodec.decoded_frames - before == 2
        _ = video[8]
        assert CopyCodec.decoded_frames - before == 2, "a frame just decoded is kept"
        _ = video[5]
        _ = video[7]
        assert CopyCodec.decoded_frames - before == 6, "going on inside a group goes on decoding"


def test_streams_through_file_objects_and_raw_input(copy_codec, tmp_path) -> None:
    info = VideoInfo(width=10, height=6, chroma="444", bit_depth=10, frame_rate=Fraction(30))
    frames = make_frames(info, 4)
    raw = write_raw(tmp_path / "plain.yuv", frames)
    described = nvc.RawFormat(
        width=10, height=6, chroma="444", bit_depth=10, frame_rate=Fraction(30)
    )
    nvc.encode(io.BytesIO(raw.read_bytes()), tmp_path / "a.nvc", codec=copy_codec, raw=described)
    back = tmp_path / "back.yuv"
    nvc.decode(io.BytesIO((tmp_path / "a.nvc").read_bytes()), back)
    assert back.read_bytes() == raw.read_bytes()


def test_bitrate_becomes_a_size_where_the_length_is_known(clip, copy_codec, tmp_path) -> None:
    options = {"codec": copy_codec, "frames": 10, "bitrate": 80_000}
    y4m = tmp_path / "clip.y4m"
    nvc.decode(_encoded(clip, copy_codec, tmp_path), y4m)
    raw = tmp_path / "c_32x24_25fps.yuv"
    nvc.decode(tmp_path / "plain.nvc", raw)
    result = nvc.encode(raw, tmp_path / "a.nvc", **options)
    assert result.stats["size"] == 80_000 * 10 / 25 / 8


def _encoded(clip: Path, codec: str, folder: Path) -> Path:
    nvc.encode(clip, folder / "plain.nvc", codec=codec)
    return folder / "plain.nvc"


def test_options_that_cannot_be_meant(clip, copy_codec, tmp_path) -> None:
    out = tmp_path / "a.nvc"
    for options, message in (
        ({"codec": "h264"}, "codec 'h264' is not known; allowed: .*hnerv"),
        ({"qp": 3, "size": 900}, "qp and size were given"),
        ({"psnr": 30.0}, "cannot encode to a psnr; it can do: --qp, --bitrate, --size"),
        ({"depth": 3}, "no option depth; it has: gop, qp, size"),
        ({"resume": True}, "nothing to resume"),
        ({"device": "tpu"}, "device 'tpu' is not known"),
        ({"crop": (100, 100)}, "does not fit"),
    ):
        with pytest.raises(nvc.UsageError, match=message):
            nvc.encode(clip, out, **{"codec": copy_codec, **options})
    assert list(tmp_path.iterdir()) == [clip], "a failed encode leaves something behind"


def test_nothing_is_overwritten_unasked(clip, stream, tmp_path) -> None:
    before = stream.read_bytes()
    with pytest.raises(nvc.UsageError, match="exists already"):
        nvc.encode(clip, stream, codec="nerv")
    with pytest.raises(nvc.UsageError, match="exists already"):
        nvc.decode(stream, clip)
    assert stream.read_bytes() == before
    nvc.encode(clip, stream, codec="nerv", frames=2, overwrite=True)
    assert len(stream.read_bytes()) < len(before)


def test_a_truncated_file_gives_what_comes_before(stream, clip, tmp_path) -> None:
    data = stream.read_bytes()
    cut = tmp_path / "cut.nvc"
    cut.write_bytes(data[: len(data) * 6 // 10])
    with pytest.raises(nvc.StreamError, match=r"cut\.nvc"):
        nvc.decode(cut, tmp_path / "back.mkv")
    assert not (tmp_path / "back.mkv").exists()
    result = nvc.decode(cut, tmp_path / "back.mkv", partial=True)
    assert 4 <= result.frames <= 6
    assert "cut.nvc" in (result.damage or "")
    original, back = read(clip)[1], read(tmp_path / "back.mkv")[1]
    assert all(map(same_planes, original, back[:4]))
    with nvc.open(cut, partial=True) as video:
        assert same_planes(video[2], original[2])
        assert video.damage


def test_a_foreign_or_empty_file_is_one_clear_line(tmp_path) -> None:
    for content, message in ((b"", "empty"), (b"RIFF" + bytes(90), "not an nvc file")):
        (tmp_path / "x.nvc").write_bytes(content)
        with pytest.raises(nvc.StreamError, match=rf"x\.nvc: .*{message}"):
            nvc.open(tmp_path / "x.nvc")
        with pytest.raises(nvc.StreamError, match=message):
            nvc.decode(tmp_path / "x.nvc", tmp_path / "back.mkv", partial=True)


def test_a_codec_that_is_not_there_is_a_property_of_the_file(stream, tmp_path, monkeypatch) -> None:
    monkeypatch.delitem(nvc.codecs.CODECS, "nerv")
    with pytest.raises(nvc.StreamError, match=r"clip\.nvc: it is coded with nerv, .* hnerv"):
        nvc.decode(stream, tmp_path / "back.mkv")


def test_a_file_size_counts_the_audio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The video gets what the audio leaves; audio larger than the file is one clear line."""
    clip = write_clip(tmp_path / "a.mkv", width=64, height=48, frames=50, audio="flac")
    weights = write_weights(tmp_path / "weights")
    monkeypatch.setenv("NVC_WEIGHTS", str(weights.parent))
    chosen = {"weights": weights.stem, "device": "cpu"}
    silent = nvc.encode(clip, tmp_path / "s.nvc", qp=30, audio=False, **chosen).bytes
    sound = sum(len(data) for track in audio_packets(clip) for _, data in track)
    made = nvc.encode(clip, tmp_path / "a.nvc", size=silent + sound, **chosen)
    assert made.bytes == pytest.approx(silent + sound, rel=0.08)
    with pytest.raises(UsageError, match=r"a\.mkv: its audio alone takes \d+ bytes of the 2000"):
        nvc.encode(clip, tmp_path / "b.nvc", size=2000, **chosen)
    assert not (tmp_path / "b.nvc").exists()
