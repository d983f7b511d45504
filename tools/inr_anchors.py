"""Rate-distortion points of conventional encoders on the clips of an INR bake-off.

    python tools/inr_anchors.py PLAN.yaml --clips FOLDER --out anchors.jsonl

The clips are cut and scaled as tools/inr_bakeoff.py does. `packets` counts the coded packets
alone: a container's bytes are a large part of a file of a few kilobytes. One JSON line a point.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import av
import yaml
from inr_bakeoff import prepare

from nvc.evaluation.anchors import encode_anchor, parse_anchor
from nvc.evaluation.compare import compare
from nvc.video.reader import open_video

ANCHORS = {"x265-veryslow": (24, 28, 32, 36, 40, 44, 48), "svtav1-6": (28, 36, 44, 52, 58, 63)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("plan", type=Path)
    parser.add_argument("--clips", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    plan = yaml.safe_load(args.plan.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as temporary, args.out.open("a") as out:
        for clip in plan["clips"]:
            path = prepare(clip, args.clips, Path(temporary))
            with open_video(path) as reader:
                info, frames = reader.info, list(reader)
            for name, crfs in ANCHORS.items():
                for crf in crfs:
                    coded = encode_anchor(
                        frames, info, Path(temporary) / "a.mkv", parse_anchor(name), crf
                    )
                    with open_video(coded.path) as decoded:
                        figures = compare(
                            frames, decoded, info, decoded.info, file_bytes=coded.bytes
                        )
                    with av.open(str(coded.path)) as container:
                        packets = sum(packet.size for packet in container.demux(video=0))
                    row = {"variant": name, "clip": clip["name"], "crf": crf}
                    row |= {"bytes": coded.bytes, "packets": packets}
                    row |= {key: round(figures[key], 3) for key in ("psnr_rgb", "psnr_yuv")}
                    out.write(json.dumps(row) + "\n")
                    out.flush()


if __name__ == "__main__":
    main()
