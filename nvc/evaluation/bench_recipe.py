"""Benchmark recipes: which sequences a data set has, where they come from, how they are coded."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from nvc.errors import InputError, UsageError
from nvc.evaluation.protocol import Protocol

KEYS = (
    "dataset",
    "page",
    "note",
    "protocol",
    "sequences",
    "patterns",
    "codecs",
    "anchors",
    "rates",
)
_CHUNK = 1 << 22


@dataclass(frozen=True, kw_only=True)
class Sequence:
    """One sequence of a data set.

    files: names it goes by, the first as it is published. frames, width, height, fps: what it must
    hold, where known. sha256: of the file, in hexadecimal; None: not checked.
    """

    name: str
    files: tuple[str, ...]
    frames: int | None = None
    width: int | None = None
    height: int | None = None
    fps: float | None = None
    sha256: str | None = None


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A data set and how it is coded unless options say otherwise.

    page: where its sequences are to be had; note: what to know when getting them. patterns: of a
    set without a list, which files of the folder belong to it.
    """

    dataset: str
    page: str = ""
    note: str = ""
    protocol: Protocol = field(default_factory=Protocol)
    sequences: tuple[Sequence, ...] = ()
    patterns: tuple[str, ...] = ()
    codecs: tuple[str, ...] = ("dhvc",)
    anchors: tuple[str, ...] = ()
    rates: dict[str, tuple[float, ...]] = field(default_factory=dict)


def read_recipe(path: str | Path) -> Recipe:
    """A recipe from its YAML file. Raises UsageError naming the file and what is allowed."""
    import yaml

    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"{path}: not a readable recipe: {error}") from None
    if not isinstance(content, dict) or "dataset" not in content or not set(content) <= set(KEYS):
        raise UsageError(f"{path}: a benchmark recipe has the keys {', '.join(KEYS)}")
    try:
        return _recipe(content)
    except (UsageError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"{path}: {error}") from None


def _recipe(content: dict[str, Any]) -> Recipe:
    protocol = dict(content.get("protocol") or {})
    if protocol.get("gop") == "one":
        protocol["gop"] = None
    if protocol.get("frames") == "all":
        protocol["frames"] = None
    if protocol.get("crop") is not None:
        height, width = (int(part) for part in str(protocol["crop"]).split("x"))
        protocol["crop"] = (height, width)
    sequences = tuple(_sequence(item) for item in content.get("sequences") or ())
    patterns = tuple(map(str, content.get("patterns") or ()))
    if bool(sequences) == bool(patterns):
        raise UsageError("a recipe lists sequences, or patterns of file names")
    chosen: dict[str, Any] = {
        name: tuple(map(str, content[name])) for name in ("codecs", "anchors") if name in content
    }
    rates = content.get("rates") or {}
    return Recipe(
        dataset=str(content["dataset"]),
        page=str(content.get("page", "")),
        note=str(content.get("note", "")),
        protocol=Protocol(**protocol),
        sequences=sequences,
        patterns=patterns,
        rates={str(name): tuple(map(float, values)) for name, values in rates.items()},
        **chosen,
    )


def _sequence(item: dict[str, Any]) -> Sequence:
    known = {entry.name for entry in fields(Sequence)} - {"files"} | {"file"}
    if not isinstance(item, dict) or not set(item) <= known or not {"name", "file"} <= set(item):
        raise UsageError(f"a sequence has name, file and perhaps {', '.join(sorted(known))}")
    names = item["file"] if isinstance(item["file"], list) else [item["file"]]
    rest = {key: value for key, value in item.items() if key != "file"}
    return Sequence(files=tuple(map(str, names)), **rest)


def find_files(
    recipe: Recipe, folder: Path, only: tuple[str, ...] = ()
) -> list[tuple[Sequence, Path]]:
    """The files of the sequences (those named in ``only``) in ``folder`` or below it, in order.

    Raises InputError in one line that says what is missing, where to get it, where to put it.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; put the sequences of {recipe.dataset} there")
    if recipe.patterns:
        matches = {path for pattern in recipe.patterns for path in folder.glob(pattern)}
        paths = sorted(path for path in matches if path.is_file())
        if not paths:
            raise InputError(f"{folder}: no file there is like {', '.join(recipe.patterns)}")
        found = [(Sequence(name=path.stem, files=(path.name,)), path) for path in paths]
        return _chosen(found, only)
    there = {path.name: path for path in sorted(folder.rglob("*"), reverse=True) if path.is_file()}
    listed = [(sequence, None) for sequence in recipe.sequences]
    found, missing = [], []
    for sequence, _ in _chosen(listed, only):
        path = next((there[name] for name in sequence.files if name in there), None)
        if path is None:
            missing.append(sequence.files[0])
        else:
            found.append((sequence, path))
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        note = f" ({recipe.note})" if recipe.note else ""
        raise InputError(
            f"{recipe.dataset}: {missing[0]}{more} not found in {folder}: get it from "
            f"{recipe.page}{note} and put it there, or choose what is there with --sequences"
        )
    return found


def _chosen(listed: list[tuple[Sequence, Any]], only: tuple[str, ...]) -> list:
    names = [sequence.name for sequence, _ in listed]
    unknown = [name for name in only if name not in names]
    if unknown:
        raise UsageError(f"no sequence is called {unknown[0]}; there are: {', '.join(names)}")
    return [item for item in listed if not only or item[0].name in only]


def check_file(sequence: Sequence, path: Path, found: dict[str, Any], protocol: Protocol) -> None:
    """Raise InputError when a file is not the sequence, or has too few frames for the protocol.

    found: width, height, fps and frames (None where unknown) of the file.
    """
    for name in ("width", "height", "fps"):
        wanted = getattr(sequence, name)
        if wanted is not None and abs(wanted - found[name]) > 1e-3:
            raise InputError(
                f"{path}: {sequence.name} has {name} {wanted:g}, this file {found[name]:g}"
            )
    if sequence.frames is not None and found["frames"] is not None:
        needed = sequence.frames
        if protocol.frames is not None:
            needed = min(needed, protocol.start + protocol.frames)
        if found["frames"] < needed:
            raise InputError(
                f"{path}: {needed} frames are needed, it has {found['frames']} "
                f"({sequence.name} as published: {sequence.frames})"
            )
    if sequence.sha256 is None:
        return
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    if digest.hexdigest() != sequence.sha256.lower():
        raise InputError(
            f"{path}: its SHA-256 is {digest.hexdigest()}, that of {sequence.name} is "
            f"{sequence.sha256}"
        )
