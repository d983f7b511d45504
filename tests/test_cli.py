"""The command line: options, output, exit codes, errors of one line, nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from clips import write_clip

import nvc
from nvc.cli import COMMANDS, main
from nvc.errors import UsageError
from nvc.video.reader import open_video
from nvc.video.writer import open_writer

NVC = (sys.executable, "-m", "nvc")
KEYS = ["bytes", "frames", "width", "height", "fps", "bpp", "kbps"]
KEYS += ["psnr_y", "psnr_u", "psnr_v", "psnr_yuv", "psnr_rgb", "ms_ssim"]


@pytest.fixture
def stream(clip: Path, copy_codec: str, tmp_path: Path) -> Path:
    """The ten-frame clip as a stream of the stand-in codec."""
    nvc.encode(clip, tmp_path / "clip.nvc", codec=copy_codec)
    return tmp_path / "clip.nvc"


def error_line(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr; nothing may be on stdout."""
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1, captured.err
    assert captured.err.startswith("nvc: error: ")
    return captured.err


def test_help_is_instant_and_lists_what_is_there(capsys) -> None:
    def seconds() -> float:
        # Of the processor, not of the clock: on a busy machine that tells nothing of nvc.
        before = os.times()
        done = subprocess.run([*NVC, "--help"], capture_output=True, text=True, check=True)
        after = os.times()
        assert all(name in done.stdout for name in COMMANDS)
        user = after.children_user - before.children_user
        return user + after.children_system - before.children_system

    assert min(seconds() for _ in range(3)) < 0.3
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    listed = [line.split()[0] for line in shown.splitlines() if line.startswith("    ")]
    assert listed == list(COMMANDS)
    assert "not yet" not in shown


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    assert f"nvc {command}" in capsys.readouterr().out


def test_version(capsys) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"nvc {nvc.__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["transcode"],
        ["encode", "a.mp4"],
        ["encode", "a.mp4", "b.nvc", "--qp", "3", "--size", "2MB"],
        ["encode", "a.mp4", "b.nvc", "--size", "two"],
        ["encode", "a.mp4", "b.nvc", "--crop", "320"],
        ["encode", "a.mp4", "b.nvc", "--frames", "0"],
        ["encode", "a.mp4", "b.nvc", "--codec", "h264"],
        ["encode", "a.mp4", "b.nvc", "--device", "tpu"],
        ["encode", "a.mp4", "b.nvc", "--raw-rate", "1/0"],
        ["encode", "a.mp4", "b.nvc", "--lr", "-1"],
    ],
)
def test_bad_usage_exits_with_2(arguments: list[str], capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert "error: " in capsys.readouterr().err


def test_sizes_and_rates_are_understood(clip, copy_codec, tmp_path, capsys) -> None:
    for given, expected in (("2MB", 2_000_000), ("1.5MiB", 1_572_864), ("800k", 800_000)):
        out = str(tmp_path / "a.nvc")
        arguments = ["encode", str(clip), out, "--codec", "nerv", "--size", given, "-y", "--json"]
        # argparse lists the codecs when the parser is made, the stand-in among them
        assert main(arguments) == 0
        assert json.loads(capsys.readouterr().out)["stats"]["size"] == expected


def test_encode_decode_eval_info(clip, copy_codec, tmp_path, capsys) -> None:
    out, back = str(tmp_path / "a.nvc"), str(tmp_path / "b.mkv")
    part = ["--frames", "5", "--start", "1", "--crop", "16x20"]
    assert main(["encode", str(clip), out, "--codec", "nerv", "--json", *part]) == 0
    encoded = json.loads(capsys.readouterr().out)
    assert encoded["frames"] == 5 and encoded["codec"] == "nerv"
    assert main(["decode", out, back, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["frames"] == 5
    for file in (out, back):
        assert main(["eval", str(clip), file, "--json", *part]) == 0
        measured = json.loads(capsys.readouterr().out)
        assert list(measured) == KEYS
        size = Path(file).stat().st_size
        assert measured["bytes"] == size
        assert measured["bpp"] == pytest.approx(8 * size / (5 * 20 * 16))
        assert measured["kbps"] == pytest.approx(8 * size * 25 / 5 / 1000)
        assert measured["psnr_yuv"] == measured["psnr_rgb"] == 100
        assert measured["ms_ssim"] is None
    assert main(["info", out, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["width"], found["height"], found["frames"]) == (20, 16, 5)
    assert main(["info", out]) == 0
    assert "20x16, 4:2:0, 8 bit" in capsys.readouterr().out


def test_plain_output_is_one_line(clip, copy_codec, tmp_path, capsys) -> None:
    out = tmp_path / "a.nvc"
    assert main(["encode", str(clip), str(out), "--codec", "nerv"]) == 0
    captured = capsys.readouterr()
    assert captured.err == "", "progress is for terminals"
    assert captured.out.startswith(f"{out}: {out.stat().st_size} bytes, 10 frames")


def test_eval_tells_what_does_not_match(clip, stream, tmp_path, capsys) -> None:
    assert main(["eval", str(clip), str(stream), "--frames", "3"]) == 1
    assert "has only 3 frames" in error_line(capsys)
    assert main(["eval", str(clip), str(stream), "--crop", "8x8"]) == 1
    assert "8x8" in error_line(capsys)
    assert main(["eval", str(clip), str(tmp_path / "none.nvc")]) == 1
    assert "no such file" in error_line(capsys)


def test_files_that_cannot_be_read(clip, stream, tmp_path, capsys) -> None:
    back = str(tmp_path / "b.mkv")
    encode = ["encode", str(clip), str(tmp_path / "a.nvc"), "--codec", "hnerv"]
    for arguments, code, message in (
        (["decode", str(tmp_path / "none.nvc"), back], 1, "No such file"),
        (["decode", str(clip), back], 1, "not an nvc file"),
        (["info", str(clip)], 1, "not an nvc file"),
        (["info"], 2, "takes a file, or --hw"),
        (["encode", str(tmp_path / "none.mp4"), str(tmp_path / "a.nvc")], 1, "no such file"),
        (["encode", str(clip), str(tmp_path / "no" / "a.nvc")], 2, "no folder"),
        (["encode", str(clip), str(stream)], 2, "exists already"),
        ([*encode, "--qp", "3"], 2, "can do: --size"),
        ([*encode, "--psnr", "500"], 2, "psnr"),
        (["encode", str(clip), "-", "--json"], 2, "both want stdout"),
        (["decode", str(stream), str(tmp_path / "b.docx")], 2, "b.docx"),
    ):
        assert main(arguments) == code, arguments
        assert message in error_line(capsys), arguments
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mkv", "clip.nvc"]


def test_debug_shows_the_traceback(tmp_path, capsys) -> None:
    for arguments in (["--debug", "info", "none.nvc"], ["info", "none.nvc", "--debug"]):
        assert main(arguments) == 1
        assert "Traceback" in capsys.readouterr().err


def test_a_damaged_file_needs_partial(stream, tmp_path, capsys) -> None:
    data = bytearray(stream.read_bytes())
    data[len(data) // 2] ^= 0xFF
    broken = tmp_path / "broken.nvc"
    broken.write_bytes(data)
    back = tmp_path / "b.mkv"
    assert main(["decode", str(broken), str(back)]) == 1
    assert "broken.nvc" in error_line(capsys)
    assert not back.exists()
    assert main(["decode", str(broken), str(back), "--partial", "--json"]) == 0
    captured = capsys.readouterr()
    assert captured.err.startswith("nvc: warning: ") and captured.err.count("\n") == 1
    assert json.loads(captured.out)["frames"] >= 4
    assert main(["info", str(broken)]) == 1
    assert "broken.nvc" in capsys.readouterr().err


def test_headerless_input_by_flags(tmp_path, copy_codec, stream, capsys) -> None:
    raw = tmp_path / "plain.yuv"
    assert main(["decode", str(stream), str(raw)]) == 0
    out = str(tmp_path / "a.nvc")
    assert main(["encode", str(raw), out, "--codec", "nerv"]) in (1, 2)
    capsys.readouterr()
    flags = ["--raw-size", "32x24", "--raw-format", "420", "--raw-rate", "30000/1001"]
    assert main(["encode", str(raw), out, "--codec", "nerv", *flags]) == 0
    with nvc.open(out) as video:
        assert len(video) == 10
        assert video.info.frame_rate.denominator == 1001
    assert main(["encode", str(raw), out, "-y", "--raw-format", "rgb"]) == 2
    capsys.readouterr()


def test_pictures_are_written(stream, tmp_path) -> None:
    assert main(["decode", str(stream), str(tmp_path / "f_%03d.png"), "--frames", "2"]) == 0
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["f_001.png", "f_002.png"]
    again = ["decode", str(stream), str(tmp_path / "f_%03d.png"), "--frames", "2"]
    assert main(again) == 2, "pictures are replaced unasked"
    assert main([*again, "-y"]) == 0
    assert main(["decode", str(stream), "/dev/null", "--format", "yuv"]) == 0


def test_hardware_report(capsys) -> None:
    assert main(["info", "--hw", "--json"]) == 0
    assert "decode_device" in json.loads(capsys.readouterr().out)


FIT = ("--codec", "hnerv", "--threads", "1")


def test_pipes_and_a_reader_that_goes_away(tmp_path) -> None:
    """y4m in through stdin, .nvc through a pipe, y4m out; then `| head -c 100`, quietly."""
    clip = write_clip(tmp_path / "c.mkv", width=48, height=32, frames=4)
    with open_video(clip) as reader, open_writer(tmp_path / "c.y4m", reader.info) as writer:
        for frame in reader:
            writer.write(frame)
    nvc_command = f"{sys.executable} -m nvc"
    fit = " ".join(FIT)
    done = subprocess.run(
        f"{nvc_command} encode - - {fit} --epochs 2 | tee {tmp_path / 'c.nvc'} "
        f"| {nvc_command} decode - -",
        shell=True,
        input=(tmp_path / "c.y4m").read_bytes(),
        capture_output=True,
        check=True,
    )
    assert done.stderr == b""
    assert done.stdout.startswith(b"YUV4MPEG2 W48 H32")
    assert done.stdout.count(b"FRAME\n") == 4
    with nvc.open(tmp_path / "c.nvc") as video:
        assert len(video) == 4
    quiet = subprocess.run(
        f"{nvc_command} decode {tmp_path / 'c.nvc'} - --format yuv | head -c 100",
        shell=True,
        capture_output=True,
        check=True,
    )
    assert len(quiet.stdout) == 100
    assert quiet.stderr == b""


def test_ctrl_c_inside_code_run_from_a_string_exits_with_130_too(tmp_path) -> None:
    # CPython would end with SIGINT itself here: seen once in a loaded run of the test below.
    (tmp_path / "interrupted.py").write_text(
        "import sys\n"
        "import nvc.commands.info as info\n"
        "info.run = lambda args: exec('raise KeyboardInterrupt')\n"
        "from nvc.cli import main\n"
        "sys.exit(main(['info', 'c.nvc']))\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "interrupted"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (130, "nvc: error: interrupted\n")


def test_interrupting_an_encode_exits_with_130_and_can_be_resumed(tmp_path) -> None:
    clip = write_clip(tmp_path / "c.mkv", width=48, height=32, frames=8)
    out = tmp_path / "c.nvc"
    command = [*NVC, "encode", str(clip), str(out), *FIT, "--epochs"]
    running = subprocess.Popen(
        [*command, "100000"],
        stderr=subprocess.PIPE,
        text=True,
        # A test run in the background of a shell ignores SIGINT, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    state = tmp_path / "c.nvc.state"
    deadline = time.monotonic() + 60
    # Interrupted amid imports, some libraries abort; a group begins after these.
    while not (state / "group_0.begun.json").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(2)
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=60)
    assert running.returncode == 130, errors
    assert errors == "nvc: error: interrupted\n"
    assert not out.exists()
    assert not list(tmp_path.glob(".*.part"))
    assert any(state.iterdir()), "nothing to resume from"
    env = {**os.environ, "NVC_DEBUG": "0"}
    changed = subprocess.run(
        [*command, "3", "--resume"], capture_output=True, text=True, env=env, check=False
    )
    assert changed.returncode == 2 and "epochs" in changed.stderr


@pytest.mark.parametrize(
    ("options", "preset"),
    [
        (["--codec", "inr"], "best"),
        (["--preset", "fast"], "fast"),
        (["--codec", "inr", "--preset", "fast"], "fast"),
        (["--codec", "hnerv"], None),
        ([], None),
    ],
)
def test_the_own_inr_is_fitted_with_its_best_preset(
    options: list[str], preset: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given: dict[str, object] = {}

    def encode(*_: object, **options: object) -> None:
        given.update(options)
        raise UsageError("enough")

    monkeypatch.setattr("nvc.api.encode", encode)
    assert main(["encode", "a.mkv", str(tmp_path / "a.nvc"), *options]) == 2
    assert given.get("preset") == preset
