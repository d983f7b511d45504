"""What README.md shows works: its commands, its Python, its links, the line CI takes from it."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from clips import write_clip

from nvc.cli import COMMANDS, build_parser, main

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)

# What keeps a run short; everything else is as shown.
FASTER = {
    "encode": ["--device", "cpu"],
    "demo": ["--frames", "3", "--crop", "24x32", "--device", "cpu"],
}


def shown_commands() -> list[str]:
    """The nvc command lines of the bash blocks, comments taken off, in order."""
    lines = [line for kind, text in BLOCKS if kind == "bash" for line in text.splitlines()]
    parts = [part.strip() for line in lines for part in line.split(" #")[0].split("&&")]
    return [part for part in parts if part.startswith("nvc ")]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the clip.mp4 that the README speaks of, made the current one."""
    write_clip(tmp_path / "clip.mp4", width=64, height=48, frames=12, audio="aac")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_command_is_shown() -> None:
    assert {line.split()[1] for line in shown_commands()} == set(COMMANDS)


def test_inline_options_exist() -> None:
    inline = re.findall(r"`(--[a-z-]+)", README)
    assert inline
    shown = build_parser().format_help() + " ".join(
        action.format_help()
        for group in build_parser()._subparsers._group_actions
        for action in group.choices.values()
    )
    assert [option for option in inline if option not in shown] == []


def test_the_commands_run_as_shown(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for line in shown_commands():
        if ">" in line:
            line = line.replace("nvc ", f"{shlex.quote(sys.executable)} -m nvc ", 1)
            subprocess.run(line, shell=True, check=True)
            continue
        arguments = shlex.split(line)[1:]
        if arguments[0] == "train":
            # Minutes to hours as shown; tests/test_predictive_training.py runs a tiny recipe.
            assert (ROOT / arguments[1]).is_file()
            continue
        if arguments[0] == "export":
            # Half a minute as shown; tests/test_export.py writes a tiny network.
            continue
        if arguments[0] == "serve":
            # Until it is interrupted; tests/test_serve_page.py looks at it in a browser.
            continue
        if arguments[0] in ("bench", "report"):
            # Hours as shown; tests/test_bench.py runs recipes on small clips.
            assert arguments[0] == "report" or (ROOT / arguments[1]).is_file()
            continue
        faster = FASTER.get(arguments[0], [])
        if "hnerv" in arguments:
            faster = [*faster, "--epochs", "1"]
        assert main([*arguments, *faster]) == 0, line
    assert capsys.readouterr().err == ""
    assert (folder / "clip.y4m").read_bytes().startswith(b"YUV4MPEG2 W64 H48")
    assert len(list(folder.glob("frame_*.png"))) == 3
    made = {path.name for path in (folder / "demo").iterdir()}
    assert made == {"original.mkv", "clip.nvc", "decoded.mp4", "x265.mkv", "side_by_side.png"}


def test_the_python_runs_as_shown(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = [text for kind, text in BLOCKS if kind == "python"]
    exec(compile(code, "README.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "12 64 48 25"
    assert len(lines) == 3 + 4


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)]+)\)", README)
    assert links
    assert [link for link in links if "://" not in link and not (ROOT / link).exists()] == []


def test_ci_finds_the_test_command() -> None:
    after = README.split("<!-- test-command -->")[1]
    command = next(line for line in after.splitlines() if line.startswith("pip install"))
    assert command == 'pip install ".[test]" && pytest'
    assert "<!-- test-command -->" in (ROOT / ".ci" / "run").read_text()
