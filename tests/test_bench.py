"""nvc bench: recipes, protocols, plans, results on disk, and points done for real."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from clips import write_clip
from predictive_weights import write_weights

from nvc.cli import main
from nvc.commands.bench import _codec_contender
from nvc.commands.measure import measure_file
from nvc.errors import InputError, NvcError, UsageError
from nvc.evaluation import bench_point, vmaf
from nvc.evaluation.anchors import parse_anchor
from nvc.evaluation.bench_plan import Clip, Contender, Point, anchor_contender, file_contenders
from nvc.evaluation.bench_plan import plan as plan_points
from nvc.evaluation.bench_recipe import Recipe, Sequence, check_file, find_files, read_recipe
from nvc.evaluation.bench_store import opened_store, read_results
from nvc.evaluation.machine import code_digest
from nvc.evaluation.protocol import Protocol

RECIPES = Path(__file__).parent.parent / "recipes"
CLIP = Clip(name="a", source="a.mkv", source_bytes=9, width=64, height=48, fps=25.0, frames=8)
CODEC = Contender(label="dhvc", kind="codec", name="dhvc", rate_kind="qp", rates=(8, 40))


def points(contender: Contender = CODEC, protocol: Protocol | None = None) -> list[Point]:
    return plan_points("set", protocol or Protocol(), [CLIP], [contender])


@pytest.mark.parametrize(
    ("protocol", "name"),
    [
        (Protocol(), "allf-gop32-whole"),
        (Protocol(frames=96), "96f-gop32-whole"),
        (Protocol(gop=None, crop=(1024, 1920)), "allf-oneintra-crop1024x1920"),
        (Protocol(frames=8, start=2), "8f-gop32-whole-from2"),
    ],
)
def test_a_protocol_has_a_name(protocol: Protocol, name: str) -> None:
    assert protocol.name == name


def test_a_protocol_is_options_of_the_commands() -> None:
    chosen = Protocol(frames=8, start=2, crop=(32, 48)).selection()
    assert chosen == ["--start", "2", "--frames", "8", "--crop", "32x48"]
    with pytest.raises(UsageError, match="gop is 0; it must be 1 or more"):
        Protocol(gop=0)


@pytest.mark.parametrize(
    ("name", "count", "frames", "first"),
    [
        ("uvg", 7, 6 * 600 + 300, "Beauty_1920x1080_120fps_420_8bit_YUV.yuv"),
        ("mcl_jcv", 30, 30 * 5 * 28 - 33, "videoSRC01_1920x1080_30.yuv"),
        ("hevc_b", 5, 600 + 500 + 500 + 240 + 240, "BQTerrace_1920x1080_60.yuv"),
    ],
)
def test_recipes_list_their_sequences(name: str, count: int, frames: int, first: str) -> None:
    recipe = read_recipe(RECIPES / f"{name}.yaml")
    assert recipe.dataset == name
    assert recipe.page.startswith("https://")
    assert len(recipe.sequences) == count
    if name != "mcl_jcv":
        assert sum(sequence.frames for sequence in recipe.sequences) == frames
    assert all(sequence.frames >= 96 for sequence in recipe.sequences)
    assert recipe.sequences[0].files[0] == first
    for sequence in recipe.sequences:
        # Five seconds of MCL-JCV; the name says the rate.
        assert name != "mcl_jcv" or sequence.frames == 5 * sequence.fps
        assert f"_{sequence.fps}" in sequence.files[0]
    for anchor in recipe.anchors:
        parse_anchor(anchor)


def test_a_recipe_of_a_folder_takes_its_videos(tmp_path: Path) -> None:
    recipe = read_recipe(RECIPES / "folder.yaml")
    for name in ("b.mp4", "a.yuv", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    found = find_files(recipe, tmp_path)
    assert [(sequence.name, path.name) for sequence, path in found] == [
        ("a", "a.yuv"),
        ("b", "b.mp4"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- 1", "has the keys"),
        ("dataset: a\nsequence: []", "has the keys"),
        ("dataset: a", "lists sequences, or patterns"),
        ("dataset: a\npatterns: ['*']\nprotocol: {gops: 3}", "gops"),
        ("dataset: a\nsequences: [{name: x}]", "has name, file"),
        ("dataset: [", "not a readable recipe"),
    ],
)
def test_bad_recipes_are_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=message):
        read_recipe(path)


def test_a_missing_sequence_says_where_to_get_it(tmp_path: Path) -> None:
    recipe = read_recipe(RECIPES / "uvg.yaml")
    (tmp_path / "below").mkdir()
    there = "ReadySetGo_1920x1080_120fps_420_8bit_YUV.yuv"  # as the archive is called
    (tmp_path / "below" / there).write_bytes(b"x")
    with pytest.raises(InputError) as error:
        find_files(recipe, tmp_path)
    line = str(error.value)
    assert "Beauty_1920x1080_120fps_420_8bit_YUV.yuv and 5 more" in line
    assert "https://ultravideo.fi/dataset.html" in line
    assert str(tmp_path) in line and "\n" not in line
    ((sequence, path),) = find_files(recipe, tmp_path, ("ReadySteadyGo",))
    assert (sequence.name, path.name) == ("ReadySteadyGo", there)
    with pytest.raises(UsageError, match="no sequence is called Nobody"):
        find_files(recipe, tmp_path, ("Nobody",))


def test_a_file_has_to_be_the_sequence(tmp_path: Path) -> None:
    path = tmp_path / "a.yuv"
    path.write_bytes(b"abc")
    sequence = Sequence(name="a", files=("a.yuv",), frames=600, width=64, height=48, fps=25)
    real = {"width": 64, "height": 48, "fps": 25.0, "frames": 96}
    check_file(sequence, path, real, Protocol(frames=96))
    for changes, protocol, message in (
        ({"width": 32}, Protocol(frames=96), "has width 64, this file 32"),
        ({"fps": 50.0}, Protocol(frames=96), "has fps 25, this file 50"),
        ({}, Protocol(), "600 frames are needed, it has 96"),
        ({}, Protocol(frames=96, start=1), "97 frames are needed"),
    ):
        with pytest.raises(InputError, match=message):
            check_file(sequence, path, {**real, **changes}, protocol)
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    check_file(replace(sequence, sha256=digest.upper()), path, real, Protocol(frames=96))
    with pytest.raises(InputError, match=f"its SHA-256 is {digest}"):
        check_file(replace(sequence, sha256="0" * 64), path, real, Protocol(frames=96))


def test_a_point_is_known_by_what_decides_its_bytes() -> None:
    point = points()[0]
    assert replace(point, threads=8).key == point.key
    assert replace(point, clip=replace(CLIP, source="elsewhere/a.mkv")).key == point.key
    others = [
        *points()[1:],
        replace(point, fingerprint="other weights"),
        replace(point, protocol=Protocol(frames=3)),
        replace(point, seed=1),
        replace(point, clip=replace(CLIP, source_bytes=10)),
        replace(point, device="cuda"),
        replace(point, options={"reset": "4"}),
    ]
    assert len({point.key, *(other.key for other in others)}) == 1 + len(others)


def test_a_plan_has_every_seed_and_rate_under_one_label() -> None:
    made = points(replace(CODEC, seeds=(0, 1)), Protocol(gop=None))
    assert [(point.rate, point.seed) for point in made] == [(8, 0), (8, 1), (40, 0), (40, 1)]
    assert {point.gop for point in made} == {65535}
    assert anchor_contender("x265-slow", {"x265": (7,), "x264": (1,)}, "").rates == (7,)
    with pytest.raises(UsageError, match="dhvc is there twice"):
        plan_points("set", Protocol(), [CLIP], [CODEC, CODEC])


def test_files_made_elsewhere_belong_to_sequences(tmp_path: Path) -> None:
    for name in ("a_1.mp4", "a_2.mp4"):
        (tmp_path / name).write_bytes(name.encode())
    template = f"mine={tmp_path}/{{sequence}}"
    (mine,) = file_contenders([f"{template}_1.mp4", f"{template}_2.mp4"], [CLIP])
    made = points(mine)
    assert [Path(point.file or "").name for point in made] == ["a_1.mp4", "a_2.mp4"]
    assert made[0].key != made[1].key
    with pytest.raises(UsageError, match="cannot be of 2 sequences"):
        file_contenders(["mine=a.mp4"], [CLIP, CLIP])
    with pytest.raises(UsageError, match=r"write it like mine=clip\.mp4"):
        file_contenders(["a.mp4"], [CLIP])
    with pytest.raises(UsageError, match="there is no file"):
        points(file_contenders([f"{template}_3.mp4"], [CLIP])[0])


def test_low_delay_anchors_reorder_nothing() -> None:
    assert parse_anchor("x264-medium-ld").options["tune"] == "zerolatency"
    assert parse_anchor("x265-fast-ld").options["tune"] == "zerolatency"
    assert parse_anchor("svtav1-8-ld").options["svtav1-params"] == "pred-struct=1"
    assert "tune" not in parse_anchor("x264-medium").options
    with pytest.raises(UsageError, match="x264-PRESET"):
        parse_anchor("x266-medium")


def test_the_store_writes_each_point_once_and_survives_a_kill(tmp_path: Path) -> None:
    with opened_store(tmp_path) as store:
        store.add({"key": "one", "value": 1})
        store.add({"key": "one", "value": 2})
        with pytest.raises(UsageError, match="another nvc bench"), opened_store(tmp_path):
            pass
    # Killed while writing a line, and after a worker had finished a point.
    with (tmp_path / "results.jsonl").open("a") as file:
        file.write('{"key": "torn", "val')
    work = tmp_path / "work" / "two"
    work.mkdir(parents=True)
    (work / "record.json").write_text('{"key": "two", "value": 3}')
    assert [row["key"] for row in read_results(tmp_path)] == ["one"]
    with opened_store(tmp_path) as store:
        assert store.done == {"one", "two"}
    rows = read_results(tmp_path)
    assert [(row["key"], row["value"]) for row in rows] == [("one", 1), ("two", 3)]
    assert not (tmp_path / "work").exists()
    (tmp_path / "results.jsonl").write_text('nonsense\n{"key": "one"}\n')
    with pytest.raises(InputError, match="line 1 is not a result"):
        read_results(tmp_path)


def launch(report: Path, *command: str) -> list[str]:
    return [sys.executable, "-I", str(bench_point.LAUNCHER), str(report), *command]


def test_the_launcher_counts_only_its_command(tmp_path: Path) -> None:
    held = bytearray(200 << 20)
    held[:: 1 << 12] = b"x" * len(held[:: 1 << 12])
    report = tmp_path / "report"
    code = "x = b'x' * (60 << 20); raise SystemExit(3)"
    subprocess.run(launch(report, sys.executable, "-I", "-c", code), check=True)
    told = json.loads(report.read_text())
    assert told["returncode"] == 3
    assert 60 << 20 < told["peak_memory"] < 120 << 20
    assert 0 < told["cpu_seconds"] <= told["seconds"] + 0.2


def test_a_command_ends_when_its_worker_is_killed(tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    sleeper = f"import os,time; open({str(mark)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    command = launch(tmp_path / "report", sys.executable, "-I", "-c", sleeper)
    worker = subprocess.Popen(
        [sys.executable, "-I", "-c", f"import subprocess; subprocess.run({command!r})"]
    )
    deadline = time.monotonic() + 20
    while not (mark.exists() and mark.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    pid = int(mark.read_text())
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    pytest.fail("the command outlived its worker")


def test_progress_and_errors_are_told_apart() -> None:
    shown: list[str] = []
    told: list[str] = []
    stream = io.BufferedReader(io.BytesIO(b"\rframe 1/8   \r\nnvc: error: too bad\n"))
    bench_point._listen(stream, shown.append, told)
    assert shown == ["frame 1/8"]
    assert told == ["nvc: error: too bad"]


def test_vmaf_comes_from_an_ffmpeg_that_has_it(tmp_path: Path, monkeypatch) -> None:
    program = tmp_path / "ffmpeg"
    # Stands in for ffmpeg: lists its filters, or writes the log where -lavfi says.
    program.write_text(
        "#!/bin/sh\n"
        'case "$*" in *-filters*) echo " .. libvmaf VV->V"; exit;; esac\n'
        'case "$*" in *decoded.y4m*reference.y4m*libvmaf=log_fmt=json:log_path=vmaf.json*) '
        'echo \'{"pooled_metrics": {"vmaf": {"mean": 87.5}}}\' > vmaf.json;; '
        '*) echo "no such filter" >&2; exit 1;; esac\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    vmaf.ffmpeg_with_libvmaf.cache_clear()
    try:
        command = vmaf.vmaf_command("decoded.y4m", "reference.y4m")
        assert vmaf.vmaf_score(command, tmp_path) == 87.5
        with pytest.raises(NvcError, match="vmaf: no such filter"):
            vmaf.vmaf_score([*command[:-5], "other", *command[-3:]], tmp_path)
        monkeypatch.setenv("PATH", str(tmp_path / "empty"))
        vmaf.ffmpeg_with_libvmaf.cache_clear()
        assert vmaf.vmaf_command("decoded.y4m", "reference.y4m") == []
    finally:
        vmaf.ffmpeg_with_libvmaf.cache_clear()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--codecs", "dhvc:epochs"], "write options like dhvc:epochs=60"),
        (["--codecs", "dhvc:speed=3"], "has no option --speed"),
        (["--codecs", "dhvc:reset=no"], "not a whole number"),
        (["--codecs", "mpeg"], "codec 'mpeg' is not known"),
        (["--anchors", "x264-warp"], "no preset 'warp'"),
        (["--file", "mine=none.mp4"], "there is no file none.mp4"),
    ],
)
def test_what_cannot_be_meant_is_one_line(
    clip: Path, tmp_path: Path, capsys, options: list[str], message: str
) -> None:
    assert main(["bench", str(clip), "--out", str(tmp_path / "out"), *options]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_points_are_done_for_real_and_once(tmp_path: Path, monkeypatch, capsys) -> None:
    clip = write_clip(tmp_path / "clip.mkv", width=64, height=64, frames=4)
    made = write_clip(tmp_path / "made.mp4", width=64, height=64, frames=4)
    weights = write_weights(tmp_path / "weights")
    monkeypatch.setenv("NVC_WEIGHTS", str(weights.parent))
    out = tmp_path / "out"
    command = ["bench", str(clip), "--out", str(out), "--frames", "4", "--device", "cpu"]
    command += ["--codecs", f"dhvc:weights={weights.stem}", "--rates", "qp=20"]
    command += ["--anchors", "x264-ultrafast", "--rates", "x264=30", "--file", f"mine={made}"]
    assert main([*command, "--dry-run"]) == 0
    assert capsys.readouterr().out.count("to do") == 3
    assert main([*command, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["points"], told["done"], told["failed"]) == (3, 3, {})
    rows = {row["kind"]: row for row in read_results(out)}
    assert set(rows) == {"codec", "anchor", "file"}
    for row in rows.values():
        file = out / row["file"]
        assert row["bytes"] == file.stat().st_size
        assert row["bpp"] == pytest.approx(8 * row["bytes"] / (4 * 64 * 64))
        # The same figures as from the file itself, decoded anew.
        again = measure_file(str(clip), str(file), frames=4, coded=str(file))
        for name in ("bytes", "frames", "psnr_y", "psnr_yuv", "psnr_rgb", "intra", "inter"):
            assert row[name] == pytest.approx(again[name])
        assert row["protocol"] == "4f-gop32-whole"
        assert row["decode"]["peak_memory"] > 50 << 20
        assert 0 < row["decode"]["seconds"] < row["decode"]["process_seconds"]
        assert {"nvc", "torch", "av"} <= set(row["versions"])
    assert rows["file"]["encode"] is None
    assert rows["file"]["psnr_y"] == 100  # both are lossless
    assert rows["codec"]["commands"]["encode"][:4] == ["python", "-m", "nvc", "encode"]
    assert "--qp 20 --gop 32" in " ".join(rows["codec"]["commands"]["encode"])
    assert not (out / "work").exists()

    def never(*_: object) -> None:
        raise AssertionError("a finished point is done again")

    monkeypatch.setattr(bench_point, "run_point", never)
    before = (out / "results.jsonl").read_bytes()
    assert main(command) == 0
    assert (out / "results.jsonl").read_bytes() == before


def test_a_failed_point_is_told_and_tried_again(clip: Path, tmp_path: Path, monkeypatch, capsys):
    tried = []

    def fail(point: Point, folder: str) -> dict[str, str]:
        tried.append(point.key)
        return {"key": point.key, "failed": "encode: it is Monday"}

    monkeypatch.setattr(bench_point, "run_point", fail)
    command = ["bench", str(clip), "--out", str(tmp_path / "out"), "--codecs", ""]
    command += ["--anchors", "x264-fast", "--rates", "x264=30"]
    assert main(command) == 1
    assert "x264-fast crf30: encode: it is Monday" in capsys.readouterr().err
    assert main(command) == 1
    assert len(tried) == 2 and tried[0] == tried[1]


def test_a_recipe_runs_with_its_own_protocol(tmp_path: Path, capsys) -> None:
    """As in the README: a folder, a recipe; names, sizes and rates are read from file names."""
    folder = tmp_path / "set"
    folder.mkdir()
    for name in ("One", "Two"):
        (folder / f"{name}_32x16_50fps_420_8bit_YUV.yuv").write_bytes(bytes(32 * 16 * 3 // 2 * 3))
    (tmp_path / "set.yaml").write_text(
        "dataset: set\npage: https://example.org\nprotocol: {frames: 2, gop: one}\n"
        "codecs: []\nanchors: [x264-fast, x265-fast]\nrates: {x264: [20, 30], x265: [25]}\n"
        "sequences:\n"
        "  - {name: One, file: One_32x16_50fps_420_8bit_YUV.yuv, width: 32, fps: 50, frames: 3}\n"
        "  - {name: Two, file: Two_32x16_50fps_420_8bit_YUV.yuv}\n"
    )
    command = ["bench", str(tmp_path / "set.yaml"), "--out", str(tmp_path / "out")]
    assert main([*command, "--dry-run"]) == 2
    assert "--data FOLDER" in capsys.readouterr().err
    assert main([*command, "--data", str(folder), "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(maxsplit=2)[2] for line in lines] == [
        *("One  x264-fast crf20", "One  x264-fast crf30", "One  x265-fast crf25"),
        *("Two  x264-fast crf20", "Two  x264-fast crf30", "Two  x265-fast crf25"),
    ]
    assert main([*command, "--data", str(folder), "--frames", "all", "--dry-run"]) == 0


def test_an_empty_recipe_needs_no_codec() -> None:
    assert Recipe(dataset="x", patterns=("*",)).codecs == ("dhvc",)


def test_a_point_of_another_encoder_is_another_point(tmp_path: Path, monkeypatch) -> None:
    for name in ("predictive/coder.py", "evaluation/table.py", "commands/bench.py"):
        path = tmp_path / name
        path.parent.mkdir()
        path.write_text("one")
    monkeypatch.setattr("nvc.evaluation.machine.nvc.__file__", str(tmp_path / "__init__.py"))
    digest = code_digest.__wrapped__
    before = digest()
    (tmp_path / "evaluation/table.py").write_text("two")
    (tmp_path / "commands/bench.py").write_text("two")
    assert digest() == before
    (tmp_path / "predictive/coder.py").write_text("two")
    assert digest() != before
    monkeypatch.undo()
    assert f"code {code_digest()}, weights " in _codec_contender("dhvc", {}, ()).fingerprint
