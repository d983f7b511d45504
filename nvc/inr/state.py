"""What an interrupted encode leaves behind, so that it can go on: one folder beside the output.

Every group has files of its own, so that several processes can share the folder: a finished group
its payload, which is never fitted again; one under way the trainer's checkpoint. Every file is
written under another name first, so a kill never leaves half of one.
"""

from __future__ import annotations

import io
import json
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from nvc.errors import InputError, UsageError
from nvc.inr.fit_config import FitConfig

_CONFIG = "fit.json"
# Options that may change between the runs of one encode.
_FREE = ("checkpoint_seconds", "jobs", "cluster")


@dataclass(frozen=True)
class FinishedGroup:
    """A group that is fitted: its payload, its statistics, the state of its code source."""

    payload: bytes
    stats: dict[str, Any]
    source: dict[str, torch.Tensor]


@dataclass(frozen=True)
class FitState:
    """The state folder of one encode; `open_state` makes it."""

    folder: Path

    def begin(self, start: int, fingerprint: int) -> Path:
        """Say that a group is fitted now; the file its checkpoint is in, or is to be.

        Raises InputError when a checkpoint is there, but of other frames.
        """
        checkpoint = self.folder / f"group_{start}.ckpt"
        begun = self._read(f"group_{start}.begun.json")
        if begun is None:
            checkpoint.unlink(missing_ok=True)
        elif begun["fingerprint"] != fingerprint:
            raise InputError(
                f"cannot resume from {self.folder}: the input's frames are not those of the "
                "interrupted encode; leave --resume away to start anew"
            )
        self._write(f"group_{start}.begun.json", {"fingerprint": fingerprint})
        return checkpoint

    def finished(self, start: int, fingerprint: int) -> FinishedGroup | None:
        """A finished group, or None; InputError for other frames."""
        record = self._read(f"group_{start}.json")
        if record is None:
            return None
        if record["fingerprint"] != fingerprint:
            raise InputError(
                f"cannot resume from {self.folder}: the input's frames from {start} on are not "
                "those of the interrupted encode; leave --resume away to start anew"
            )
        try:
            payload = (self.folder / f"group_{start}.bin").read_bytes()
            source = (self.folder / f"group_{start}.source").read_bytes()
        except OSError:
            return None
        if [zlib.crc32(payload), zlib.crc32(source)] != record["crc"]:
            return None
        return FinishedGroup(
            payload, record["stats"], torch.load(io.BytesIO(source), weights_only=True)
        )

    def finish(self, start: int, fingerprint: int, group: FinishedGroup) -> None:
        """Keep a finished group and drop its checkpoint."""
        buffer = io.BytesIO()
        torch.save(group.source, buffer)
        for name, content in (("bin", group.payload), ("source", buffer.getvalue())):
            part = self.folder / f"group_{start}.{name}.part"
            part.write_bytes(content)
            part.replace(self.folder / f"group_{start}.{name}")
        crc = [zlib.crc32(group.payload), zlib.crc32(buffer.getvalue())]
        record = {"fingerprint": fingerprint, "crc": crc, "stats": group.stats}
        self._write(f"group_{start}.json", record)
        for name in ("ckpt", "begun.json"):
            (self.folder / f"group_{start}.{name}").unlink(missing_ok=True)

    def remove(self) -> None:
        """Delete the folder's own files, and the folder when nothing else is in it."""
        self._clear()
        if not any(self.folder.iterdir()):
            self.folder.rmdir()

    def _clear(self) -> None:
        for pattern in (_CONFIG, "group_*", "*.part"):
            for path in self.folder.glob(pattern):
                path.unlink()

    def _read(self, name: str) -> dict[str, Any] | None:
        try:
            return json.loads((self.folder / name).read_text())
        except (OSError, json.JSONDecodeError):
            return None

    def _write(self, name: str, value: dict[str, Any]) -> None:
        part = self.folder / f"{name}.part"
        part.write_text(json.dumps(value))
        part.replace(self.folder / name)


def open_state(folder: Path, fit: FitConfig, *, resume: bool) -> FitState:
    """The state folder of an encode, made where it is missing.

    With resume, what the folder holds is used, after checking that it belongs to the same options
    (else UsageError); without, it is emptied first.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = FitState(folder)
    # Through JSON, as what was saved came: tuples are lists there.
    options = json.loads(json.dumps({k: v for k, v in asdict(fit).items() if k not in _FREE}))
    saved = state._read(_CONFIG)
    if not resume:
        state._clear()
    elif saved is not None and saved != options:
        names = sorted(options.keys() | saved.keys())
        changed = [name for name in names if options.get(name) != saved.get(name)]
        raise UsageError(
            f"cannot resume from {folder}: it was begun with another {', '.join(changed)}; "
            "give the same options, or leave --resume away to start anew"
        )
    state._write(_CONFIG, options)
    return state
