"""One point of a benchmark: encode to a real file, decode it in a fresh process, measure it.

Encoding and decoding are commands in processes of their own, started through ``bench_launch`` which
says what they took. Measuring takes no figures of its own, so it is done here, where torch is there
already; all three commands are part of the result and can be run by hand.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from nvc.bitstream.header import MAGIC
from nvc.device import choose_device, set_threads
from nvc.errors import InputError, NvcError
from nvc.evaluation.bench_plan import Point
from nvc.evaluation.compare import compare
from nvc.evaluation.frame_types import stream_sizes
from nvc.evaluation.machine import machine, versions
from nvc.evaluation.vmaf import vmaf_command, vmaf_score
from nvc.video.count import coded_sizes
from nvc.video.reader import open_video

LAUNCHER = Path(__file__).with_name("bench_launch.py")
RECORD = "record.json"
PROGRESS = "progress"
_NVC = ("-m", "nvc")
_VIDEO = ("-m", "nvc.commands.bench_video")
_PROGRESS_EVERY = 0.3  # seconds
_GRACE = 10.0  # seconds a step has to put its state away


def run_point(point: Point, folder: str) -> dict[str, Any]:
    """Do a point in ``folder``, the benchmark's own; its record, or {"failed": line}.

    What is interrupted goes on: a step that left something to resume is resumed, a point whose
    record is there is not done again. The encoded file is kept in ``files``, all else is removed.
    """
    work = Path(folder) / "work" / point.key
    work.mkdir(parents=True, exist_ok=True)
    record = work / RECORD
    if record.is_file():
        return json.loads(record.read_text())
    try:
        result = _done(point, Path(folder), work)
    except NvcError as error:
        (work / PROGRESS).unlink(missing_ok=True)
        return {"key": point.key, "failed": str(error)}
    temporary = record.with_suffix(".part")
    temporary.write_text(json.dumps(result))
    temporary.replace(record)
    return result


def kept_name(point: Point) -> str:
    """What the point's encoded file is called in ``files``."""
    plain = "_".join([point.clip.name, point.label, point.rate_name])
    plain = "".join(char if char.isalnum() or char in "._-" else "-" for char in plain)
    ending = {"codec": ".nvc", "anchor": ".mkv"}.get(point.kind, "")
    seed = "" if point.seed is None else f"_s{point.seed}"
    return f"{plain[:120]}{seed}_{point.key[:6]}{ending}"


def _done(point: Point, folder: Path, work: Path) -> dict[str, Any]:
    began = datetime.now(UTC)
    kept = folder / "files" / kept_name(point)
    kept.parent.mkdir(exist_ok=True)
    commands: dict[str, list[str]] = {}
    encode = None
    resumed = False
    if point.file is None:
        coded = work / kept.name
        resumed = coded.with_name(f"{coded.name}.state").exists()
        commands["encode"] = _encode_command(point, coded, resumed)
        encode = _step(commands["encode"], work, "encode", point.threads)
    else:
        coded = Path(point.file)
        if not coded.is_file():
            raise InputError(f"{coded}: no such file")
    decoded = work / "decoded.y4m"
    try:
        commands["decode"] = _decode_command(point, coded, decoded)
        decode = _step(commands["decode"], work, "decode", point.threads)
        commands["measure"] = [
            *_NVC, "eval", point.clip.source, str(decoded), *point.protocol.selection(),
            "--coded", str(coded), "--threads", str(point.threads), "--json",
        ]  # fmt: skip
        _write_progress(work, "measure")
        try:
            measured = _measured(point, coded, decoded)
        except (NvcError, RuntimeError) as error:  # torch raises the latter, without memory say
            raise NvcError(f"measure: {str(error).splitlines()[0]}") from error
        by_ffmpeg, vmaf = _vmaf(point, decoded, work)
    finally:
        decoded.unlink(missing_ok=True)
    if point.file is None:
        coded.replace(kept)
    else:
        shutil.copyfile(coded, kept)
    return {
        "key": point.key,
        "dataset": point.dataset,
        "protocol": point.protocol.name,
        "conditions": point.protocol.described(),
        "sequence": point.clip.name,
        "source": point.clip.source,
        "start": point.protocol.start,
        "crop": point.protocol.crop,
        "label": point.label,
        "kind": point.kind,
        "codec": point.name,
        "options": point.options,
        "rate_kind": point.rate_kind,
        "rate": point.rate,
        "seed": point.seed,
        "fingerprint": point.fingerprint,
        **measured,
        "vmaf": vmaf,
        # Of an encode that was resumed only the last part was timed.
        "encode": None if encode is None or resumed else _taken(encode),
        "decode": _taken(decode),
        "stats": {} if encode is None else _plain(encode["result"]),
        "file": str(kept.relative_to(folder)),
        "commands": {
            **{name: ["python", *parts] for name, parts in commands.items()},
            **({"vmaf": by_ffmpeg} if by_ffmpeg else {}),
        },
        "device": point.device,
        "threads": point.threads,
        "machine": machine(),
        "versions": versions(),
        "began": began.isoformat(timespec="seconds"),
    }


def _encode_command(point: Point, coded: Path, resumed: bool) -> list[str]:
    selection = point.protocol.selection()
    gop = [] if point.gop is None else ["--gop", str(point.gop)]
    if gop and point.cuts:
        gop.append("--no-scenecut")  # as anchors have it
    threads = ["--threads", str(point.threads), "--json"]
    if point.kind == "anchor":
        return [
            *_VIDEO, "encode", point.clip.source, str(coded), "--anchor", point.name,
            "--crf", f"{point.rate:g}", *gop, *selection, "--json",
        ]  # fmt: skip
    rate = ["--qp", f"{point.rate:g}"]
    if point.rate_kind == "bpp":
        if point.clip.frames is None:
            raise InputError(
                f"{point.clip.source}: it does not say how many frames it has, so a size cannot be "
                "aimed at: give --frames"
            )
        pixels = point.clip.frames * point.clip.width * point.clip.height
        rate = ["--size", str(max(1, round(point.rate * pixels / 8)))]
    own = [part for name, value in point.options.items() for part in (f"--{name}", value)]
    seed = [] if point.seed is None else ["--seed", str(point.seed)]
    resume = ["--resume"] if resumed else []
    return [
        *_NVC, "encode", point.clip.source, str(coded), "--codec", point.name, *rate, *gop, *own,
        *seed, *selection, "--no-audio", "--device", point.device, *threads, *resume, "-y",
    ]  # fmt: skip


def _measured(point: Point, coded: Path, decoded: Path) -> dict[str, Any]:
    """What the command ``measure`` would print."""
    protocol = point.protocol
    device = choose_device("auto")
    set_threads(point.threads)
    with (
        open_video(
            point.clip.source, start=protocol.start, frames=protocol.frames, crop=protocol.crop
        ) as original,
        open_video(decoded) as shown,
    ):
        return compare(
            original,
            shown,
            original.info,
            shown.info,
            file_bytes=coded.stat().st_size,
            coded=stream_sizes(coded) if _is_stream(coded) else coded_sizes(coded),
            device=device,
        )


def _is_stream(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def _decode_command(point: Point, coded: Path, decoded: Path) -> list[str]:
    if _is_stream(coded):
        return [
            *_NVC, "decode", str(coded), str(decoded), "--device", point.device,
            "--threads", str(point.threads), "--json", "-y",
        ]  # fmt: skip
    return [*_VIDEO, "decode", str(coded), str(decoded), "--json"]


def _vmaf(point: Point, decoded: Path, work: Path) -> tuple[list[str], float | None]:
    """The ffmpeg command and its score; nothing where no ffmpeg with libvmaf is on PATH."""
    command = vmaf_command(decoded.name, "reference.y4m")
    if not command:
        return [], None
    reference = work / "reference.y4m"
    try:
        making = [*_VIDEO, "decode", point.clip.source, str(reference), "--json"]
        _step([*making, *point.protocol.selection()], work, "reference", point.threads)
        _write_progress(work, "vmaf")
        return command, vmaf_score(command, work)
    finally:
        reference.unlink(missing_ok=True)


def _taken(step: dict[str, Any]) -> dict[str, Any]:
    """What a step took: of its own work, and of its whole process with start and imports."""
    return {
        "seconds": step["result"]["seconds"],
        "process_seconds": step["seconds"],
        "cpu_seconds": step["cpu_seconds"],
        "peak_memory": step["peak_memory"],
    }


def _plain(result: dict[str, Any]) -> dict[str, Any]:
    """What an encoder tells of itself, without what stands elsewhere."""
    told = result.get("stats") or {}
    return {name: value for name, value in told.items() if not isinstance(value, list | tuple)}


def _write_progress(work: Path, line: str) -> None:
    with contextlib.suppress(OSError):
        (work / PROGRESS).write_text(line)


def _step(arguments: list[str], work: Path, name: str, threads: int) -> dict[str, Any]:
    """Run one Python command; what it printed as JSON under ``result``, and what it took.

    Raises NvcError with the command's own line when it fails.
    """
    report = work / f"{name}.report"
    report.unlink(missing_ok=True)
    environment = {
        **os.environ,
        "NVC_PROGRESS": "1",
        "COLUMNS": "100",
        "OMP_NUM_THREADS": str(threads),
    }
    environment.pop("NVC_NO_PROGRESS", None)
    command = [sys.executable, "-I", str(LAUNCHER), str(report), sys.executable, *arguments]
    _write_progress(work, name)
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    )
    told: list[str] = []
    listener = threading.Thread(
        target=_listen,
        args=(process.stderr, lambda line: _write_progress(work, f"{name}: {line}"), told),
        daemon=True,
    )
    listener.start()
    try:
        assert process.stdout is not None
        output = process.stdout.read()
        process.wait()
    except KeyboardInterrupt:
        # The command was interrupted with us and may have something to put away.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE)
        raise
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(_GRACE)
            except subprocess.TimeoutExpired:
                process.kill()
        listener.join(_GRACE)
    if not report.is_file():
        raise NvcError(f"{name} was ended from outside: {' '.join(arguments)}")
    taken = json.loads(report.read_text())
    report.unlink()
    if taken["returncode"]:
        line = told[-1] if told else f"exit code {taken['returncode']}"
        raise NvcError(f"{name}: {line.removeprefix('nvc: error: ')}")
    return {**taken, "result": json.loads(output)}


def _listen(stream: BinaryIO, show: Callable[[str], None], told: list[str]) -> None:
    """Hand on lines of progress, which end in a carriage return; keep the last line of others."""
    last, rest = 0.0, b""
    while chunk := stream.read1(4096):  # type: ignore[attr-defined]
        *parts, rest = (rest + chunk).replace(b"\n", b"\n\r").split(b"\r")
        for part in parts:
            text = part.decode("utf-8", "replace")
            if text.endswith("\n") and text.strip():
                told.append(text.strip())
            elif text.strip() and time.monotonic() - last > _PROGRESS_EVERY:
                last = time.monotonic()
                show(text.strip())
    if rest.strip():
        told.append(rest.decode("utf-8", "replace").strip())
