"""``nvc bench``: sequences, codecs, rates; each point a real file, decoded afresh and measured."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import threading
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nvc.codecs import codec_entry
from nvc.commands import options
from nvc.commands.progress import clear_progress, show_line, shown
from nvc.errors import UsageError

if TYPE_CHECKING:
    from nvc.evaluation.bench_plan import Clip, Contender, Point
    from nvc.evaluation.bench_recipe import Recipe
    from nvc.evaluation.bench_store import ResultStore
    from nvc.evaluation.protocol import Protocol

DEFAULT_ANCHORS = ("x264-medium", "x265-medium", "svtav1-8")

EPILOG = """\
INPUT is one recipe (.yaml; --data says where its sequences lie) or video files. Points that DIR
holds already are not done again, and what was interrupted goes on. Then: nvc report DIR

  nvc bench recipes/uvg.yaml --data UVG --out runs/uvg
  nvc bench clip.mp4 --frames 32 --codecs dhvc,hnerv:epochs=60 --anchors x265-medium --out runs/a
  nvc bench clip.mp4 --file mine=made_elsewhere.mp4 --rates x264=20,30,40 --out runs/b

A codec takes options of `nvc encode` after a colon; they are part of its name. Anchors are
x264-PRESET, x265-PRESET and svtav1-PRESET; with -ld at the end, low delay. --rates are QPs, crfs,
or bits per pixel for codecs that aim at a size.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``nvc bench``."""
    parser.add_argument("inputs", metavar="INPUT", nargs="+", help="a recipe, or video files")
    parser.add_argument("--out", metavar="DIR", required=True, help="where the results go")
    parser.add_argument("--data", metavar="FOLDER", help="where the recipe's sequences lie")
    parser.add_argument("--sequences", type=_names, metavar="A,B", help="only these of the recipe")
    group = parser.add_argument_group("what is compared")
    group.add_argument("--codecs", type=_names, metavar="A,B", help="default: dhvc")
    group.add_argument(
        "--anchors", type=_names, metavar="A,B", help=f"default: {','.join(DEFAULT_ANCHORS)}"
    )
    group.add_argument(
        "--file",
        dest="files",
        action="append",
        default=[],
        metavar="LABEL=PATH",
        help="a file made elsewhere; {sequence} in PATH stands for the sequence's name",
    )
    group.add_argument(
        "--rates",
        action="append",
        default=[],
        type=_rates,
        metavar="NAME=V,V",
        help="qualities of a codec, of an anchor, or of x264, x265, svtav1, qp, bpp",
    )
    group.add_argument(
        "--seeds", type=_seeds, default=(0,), metavar="N,N", help="of codecs that have one"
    )
    group = parser.add_argument_group("protocol (default: the recipe's)")
    group.add_argument("--frames", type=_frames, metavar="N|all", help="frames of each sequence")
    group.add_argument("--start", type=options.at_least(0), metavar="N", help="first frame")
    group.add_argument("--gop", type=_gop, metavar="N|one", help="frames between intra frames")
    group.add_argument("--crop", type=options.size, metavar="HxW", help="centre crop")
    group = parser.add_argument_group("how it is run")
    group.add_argument("--jobs", type=options.at_least(1), default=1, metavar="N", help="points "
                       "done side by side")  # fmt: skip
    group.add_argument("--cluster", metavar="ADDRESS", help="a Ray cluster: auto, or its address")
    group.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: auto"
    )
    group.add_argument(
        "--threads", type=options.at_least(1), default=1, metavar="N", help="of a point; default: 1"
    )
    group.add_argument("--dry-run", action="store_true", help="only say which points there are")
    options.add_json(parser)


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _rates(text: str) -> tuple[str, tuple[float, ...]]:
    name, equals, values = text.rpartition("=")
    try:
        found = tuple(float(part) for part in values.split(","))
    except ValueError:
        found = ()
    if not (name and equals and found):
        raise argparse.ArgumentTypeError(f"{text!r} is not understood; write it like x264=20,30,40")
    return name, found


def _seeds(text: str) -> tuple[int, ...]:
    return tuple(options.at_least(0)(part) for part in text.split(","))


def _frames(text: str) -> int | str:
    return text if text == "all" else options.at_least(1)(text)


def _gop(text: str) -> int | str:
    return text if text == "one" else options.at_least(1)(text)


def run(args: argparse.Namespace) -> int:
    """Plan, run what is not done yet, say what came out."""
    from nvc.device import choose_device
    from nvc.evaluation.bench_plan import plan
    from nvc.evaluation.bench_store import opened_store

    recipe = _recipe_of(args)
    protocol = _protocol_of(args, recipe)
    clips = _clips(args, recipe, protocol)
    device = choose_device(args.device)
    contenders = _contenders(args, recipe, clips)
    points = plan(recipe.dataset, protocol, clips, contenders, device=device, threads=args.threads)
    with opened_store(Path(args.out)) as store:
        missing = [point for point in points if point.key not in store.done]
        if args.dry_run:
            for point in points:
                print(f"{'to do' if point in missing else 'done '}  {point.title}")
            return 0
        failed = _run_points(args, store, missing, len(points))
    if args.json:
        done = len(points) - len(failed)
        options.print_json({"out": args.out, "points": len(points), "done": done, "failed": failed})
    elif not failed:
        print(f"{len(points)} points in {args.out}; now: nvc report {args.out}")
    for title, line in failed.items():
        options.warn(f"{title}: {line}")
    return 1 if failed else 0


def _recipe_of(args: argparse.Namespace) -> Recipe:
    from nvc.evaluation.bench_recipe import Recipe, read_recipe

    recipes = [name for name in args.inputs if Path(name).suffix in (".yaml", ".yml")]
    if not recipes:
        return Recipe(dataset="files", anchors=DEFAULT_ANCHORS)
    if len(args.inputs) > 1:
        raise UsageError("give one recipe, or video files")
    if args.data is None:
        raise UsageError(f"{recipes[0]}: give --data FOLDER, where its sequences lie")
    return read_recipe(recipes[0])


def _protocol_of(args: argparse.Namespace, recipe: Recipe) -> Protocol:
    given: dict[str, Any] = {
        name: getattr(args, name)
        for name in ("frames", "start", "gop", "crop")
        if getattr(args, name) is not None
    }
    changes = {name: None if value in ("all", "one") else value for name, value in given.items()}
    return replace(recipe.protocol, **changes)


def _clips(args: argparse.Namespace, recipe: Recipe, protocol: Protocol) -> list[Clip]:
    from nvc.evaluation.bench_plan import Clip
    from nvc.evaluation.bench_recipe import Sequence, check_file, find_files
    from nvc.video.count import count_frames
    from nvc.video.reader import open_video

    if args.data is not None:
        found = find_files(recipe, Path(args.data), args.sequences or ())
    else:
        found = [
            (Sequence(name=Path(name).stem, files=(name,)), Path(name)) for name in args.inputs
        ]
    names = [sequence.name for sequence, _ in found]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"two files are called {name}: name them apart")
    clips = []
    for sequence, path in found:
        with open_video(path) as reader:
            whole = reader.info
        count = whole.frame_count if whole.frame_count is not None else count_frames(path)
        check_file(
            sequence,
            path,
            {
                "width": whole.width,
                "height": whole.height,
                "fps": float(whole.frame_rate),
                "frames": count,
            },
            protocol,
        )
        with open_video(
            path, start=protocol.start, frames=protocol.frames, crop=protocol.crop
        ) as reader:
            info = reader.info
        frames = max(0, count - protocol.start)
        clips.append(
            Clip(
                name=sequence.name,
                # Absolute: a worker of a cluster has another current folder.
                source=str(path.resolve()),
                source_bytes=path.stat().st_size,
                width=info.width,
                height=info.height,
                fps=float(info.frame_rate),
                frames=frames if protocol.frames is None else min(frames, protocol.frames),
            )
        )
    return clips


def _contenders(args: argparse.Namespace, recipe: Recipe, clips: list[Clip]) -> list[Contender]:
    from nvc.evaluation.anchors import REVISION
    from nvc.evaluation.bench_plan import anchor_contender, file_contenders
    from nvc.evaluation.machine import versions

    rates = {**recipe.rates, **dict(args.rates)}
    codecs = recipe.codecs if args.codecs is None else args.codecs
    anchors = recipe.anchors if args.anchors is None else args.anchors
    return [
        *(_codec_contender(text, rates, args.seeds) for text in codecs),
        *(anchor_contender(name, rates, f"av {versions()['av']}, {REVISION}") for name in anchors),
        *file_contenders(args.files, clips),
    ]


def _codec_contender(
    text: str, rates: dict[str, tuple[float, ...]], seeds: tuple[int, ...]
) -> Contender:
    """A codec from ``name`` or ``name:option=value:option=value``."""
    from nvc.evaluation.bench_plan import Contender, ladder
    from nvc.evaluation.machine import code_digest
    from nvc.version import __version__

    name, *parts = text.split(":")
    entry = codec_entry(name)
    given = {}
    for part in parts:
        option, equals, value = part.partition("=")
        if not (option and equals and value):
            raise UsageError(f"{text}: write options like {name}:epochs=60")
        given[option.replace("_", "-")] = value
    _check_options(text, name, given)
    module, config = entry.config.split(":")
    known = {
        item.name: item.default for item in fields(getattr(importlib.import_module(module), config))
    }
    kind = "qp" if "qp" in entry.rates else "bpp"
    fingerprint = f"nvc {__version__}, code {code_digest()}"
    if "weights" in known:
        from nvc.weights import by_name, hash_of

        weights = by_name(given.get("weights", known["weights"]))
        fingerprint += f", weights {hash_of(weights).hex()}"
    return Contender(
        label=text,
        kind="codec",
        name=name,
        rate_kind=kind,
        rates=ladder(rates, text, name, kind),
        options=given,
        seeds=seeds if "seed" in known and "seed" not in given else (),
        # A fit has no intra frames to space: its own groups stay as they are unless given.
        gop=not entry.whole_files and "gop" not in given,
        cuts=entry.cuts,
        fingerprint=fingerprint,
    )


def _check_options(text: str, name: str, given: dict[str, str]) -> None:
    """Let the parser of ``nvc encode`` judge the options; UsageError with what it says."""
    from nvc.commands import encode

    parser = argparse.ArgumentParser(prog=f"--codecs {text}", exit_on_error=False, add_help=False)
    encode.add_arguments(parser)
    line = [part for option, value in given.items() for part in (f"--{option}", value)]
    try:
        _, rest = parser.parse_known_args(["in", "out", "--codec", name, *line])
    except argparse.ArgumentError as error:
        raise UsageError(f"{text}: {error}") from None
    if rest:
        raise UsageError(f"{text}: `nvc encode` has no option {rest[0]}")


def _run_points(
    args: argparse.Namespace, store: ResultStore, points: list[Point], total: int
) -> dict[str, str]:
    """Do the points; the title and the error line of each that failed."""
    from nvc.evaluation.bench_point import run_point
    from nvc.schedule import Task, open_scheduler

    folder = str(store.folder.resolve())
    gpus = 1.0 if any(point.device == "cuda" for point in points) else 0.0
    tasks = (
        Task((point, folder), cpus=args.threads, gpus=gpus if point.device == "cuda" else 0.0)
        for point in points
    )
    failed: dict[str, str] = {}
    before = total - len(points)
    titles = {point.key: point.title for point in points}
    counted = 0
    with (
        open_scheduler(jobs=args.jobs, cluster=args.cluster) as scheduler,
        _watching(store, titles, lambda: f"[{before + len(failed) + counted}/{total}]"),
    ):
        for number, result in scheduler.map(run_point, tasks, ordered=False):
            point = points[number]
            if "failed" in result:
                failed[point.title] = result["failed"]
                continue
            counted += 1
            store.add(result)
            if not args.json:
                clear_progress()
                print(f"[{before + counted + len(failed)}/{total}] {point.title}  {_row(result)}",
                      flush=True)  # fmt: skip
    return failed


def _row(result: dict[str, Any]) -> str:
    quality = result["psnr_yuv"] if result["psnr_yuv"] is not None else result["psnr_y"]
    encode = result["encode"]
    took = "" if encode is None else f"  encode {encode['seconds']:.1f} s"
    return (
        f"{result['bytes']} bytes  {result['bpp']:.4f} bpp  {quality:.2f} dB{took}  "
        f"decode {result['decode']['seconds']:.1f} s"
    )


@contextlib.contextmanager
def _watching(store: ResultStore, titles: dict[str, str], count: Any) -> Iterator[None]:
    """While inside, a line on the terminal that says which points are how far."""
    if not shown():
        yield
        return
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.5):
            doing = [f"{titles[key]} {line}" for key, line in store.under_way() if key in titles]
            show_line(f"{count()} {' | '.join(doing)}")

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        clear_progress()
