"""From a difficult clip to a file and back through a tiny HNeRV: the whole program once."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from clips import audio_packets, video_times, write_clip
from conftest import DIFFICULT_TIMES

import nvc
from nvc.bitstream.reader import StreamReader
from nvc.video.reader import open_video

TINY = {"codec": "hnerv", "epochs": 2, "size_params": 4000, "device": "cpu"}


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve frames in three groups of four."""
    folder = tmp_path_factory.mktemp("hnerv")
    clip = write_clip(folder / "clip.mkv", width=50, height=34, frames=12)
    nvc.encode(clip, folder / "clip.nvc", gop=4, **TINY)
    return folder / "clip.nvc"


def planes(path: Path) -> list[torch.Tensor]:
    with nvc.open(path, device="cpu") as video:
        return [plane for frame in video for plane in frame.planes]


def test_difficult_clip_keeps_all_but_its_samples(difficult_clip, tmp_path) -> None:
    out, back = tmp_path / "a.nvc", tmp_path / "back.mkv"
    result = nvc.encode(difficult_clip, out, **TINY)
    assert result.bytes == out.stat().st_size
    assert not (tmp_path / "a.nvc.state").exists()
    nvc.decode(out, back)
    with open_video(difficult_clip) as before, open_video(back) as after:
        a, b = before.info, after.info
        assert (b.width, b.height, b.chroma, b.bit_depth) == (45, 35, "422", 10)
        assert (b.color, b.sample_aspect, b.rotation) == (a.color, Fraction(4, 3), 0)
        assert len(list(after)) == len(DIFFICULT_TIMES)
    assert video_times(back) == [Fraction(time, 1000) for time in DIFFICULT_TIMES]
    sound, sound_back = audio_packets(difficult_clip), audio_packets(back)
    assert [data for _, data in sound_back[0]] == [data for _, data in sound[0]]


def test_decoding_is_the_same_every_time(stream, tmp_path) -> None:
    """Twice, with 1 and 2 threads, and in a fresh process."""
    first = planes(stream)
    threads = torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            again = planes(stream)
            assert all(map(torch.equal, first, again))
    finally:
        torch.set_num_threads(threads)
    fresh = subprocess.run(
        [sys.executable, "-m", "nvc", "decode", str(stream), "-", "--format", "yuv"],
        capture_output=True,
        check=True,
    )
    assert fresh.stdout == b"".join(plane.numpy().tobytes() for plane in first)


def test_random_access_enters_at_a_group(stream) -> None:
    every = planes(stream)
    with nvc.open(stream, device="cpu") as video:
        for index in (9, 2, 5):
            assert torch.equal(video[index].planes[0], every[3 * index])


def test_a_lost_group_does_not_lose_the_others(stream, tmp_path) -> None:
    every = planes(stream)
    data = bytearray(stream.read_bytes())
    with stream.open("rb") as file:
        second = next(at for at, head in StreamReader(file).walk() if head.frame_start == 4)
    data[second + 40] ^= 1
    broken = tmp_path / "broken.nvc"
    broken.write_bytes(data)
    with pytest.raises(nvc.StreamError, match=r"broken\.nvc: .*damaged"):
        list(nvc.open(broken))
    with nvc.open(broken, partial=True, device="cpu") as video:
        kept = list(video)
        assert torch.equal(kept[3].planes[0], every[9])
        assert torch.equal(kept[4].planes[0], every[24])
        assert len(kept) == 8
        assert "damaged" in (video.damage or "")
