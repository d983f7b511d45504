"""What an interrupted encode leaves behind, so that it can go on: one folder beside the output.

Finished groups are payloads that are never fitted again; the group under way has the trainer's
checkpoint. Every file is written under another name first, so a kill never leaves half of one.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nvc.errors import InputError, UsageError
from nvc.inr.fit_config import FitConfig

CHECKPOINT = "last.ckpt"
_CONFIG = "fit.json"
_CURRENT = "current.json"
# Options that may change between the runs of one encode.
_FREE = ("checkpoint_seconds",)


class FitState:
    """The state folder of one encode.

    With resume, what the folder holds is used, after checking that it belongs to the same options
    (else UsageError); without, it is emptied first.
    """

    def __init__(self, folder: Path, fit: FitConfig, *, resume: bool) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        options = {k: v for k, v in asdict(fit).items() if k not in _FREE}
        saved = self._read(_CONFIG)
        if not resume:
            self._clear()
        elif saved is not None and saved != options:
            changed = sorted(k for k in options if options[k] != saved.get(k))
            raise UsageError(
                f"cannot resume from {folder}: it was begun with another {', '.join(changed)}; "
                "give the same options, or leave --resume away to start anew"
            )
        self._write(_CONFIG, options)

    def begin(self, start: int, fingerprint: int) -> bool:
        """Say which group is fitted next; whether the folder's checkpoint is of that group.

        Raises InputError when it is, but of other frames.
        """
        current = self._read(_CURRENT)
        known = current is not None and current["start"] == start
        if known and current["fingerprint"] != fingerprint:
            raise InputError(
                f"cannot resume from {self.folder}: the input's frames are not those of the "
                "interrupted encode; leave --resume away to start anew"
            )
        if not known:
            (self.folder / CHECKPOINT).unlink(missing_ok=True)
        self._write(_CURRENT, {"start": start, "fingerprint": fingerprint})
        return known

    def finished(self, start: int, fingerprint: int) -> tuple[bytes, dict[str, Any]] | None:
        """Payload and statistics of a finished group, or None; InputError for other frames."""
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
        except OSError:
            return None
        return (payload, record["stats"]) if zlib.crc32(payload) == record["crc"] else None

    def finish(self, start: int, fingerprint: int, payload: bytes, stats: dict[str, Any]) -> None:
        """Keep a finished group and drop its checkpoint."""
        part = self.folder / f"group_{start}.part"
        part.write_bytes(payload)
        part.replace(self.folder / f"group_{start}.bin")
        record = {"fingerprint": fingerprint, "crc": zlib.crc32(payload), "stats": stats}
        self._write(f"group_{start}.json", record)
        (self.folder / CHECKPOINT).unlink(missing_ok=True)

    def remove(self) -> None:
        """Delete the folder's own files, and the folder when nothing else is in it."""
        self._clear()
        if not any(self.folder.iterdir()):
            self.folder.rmdir()

    def _clear(self) -> None:
        own = (_CONFIG, _CURRENT, f"{CHECKPOINT}*", "group_*.bin", "group_*.json", "*.part")
        for pattern in own:
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
