"""Write the golden stream of the predictive codec: tests/vectors/dhvc_tiny.*

Run it when the coded bytes change on purpose, together with a new CONFIG version. The stream is
made by an untrained tiny network, whose weights lie beside it; other machines need not make the
same bytes, but must read the same symbols from these.
"""

from __future__ import annotations

import json
import sys
from fractions import Fraction
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from clips import make_frames  # noqa: E402
from predictive_weights import symbol_digests, tiny_network  # noqa: E402

from nvc.bitstream.units import pack_unit  # noqa: E402
from nvc.predictive.checkpoint import save_network  # noqa: E402
from nvc.predictive.codec import EncodeOptions, PredictiveCodec  # noqa: E402
from nvc.video.frames import VideoInfo  # noqa: E402

VECTORS = ROOT / "tests" / "vectors"


def main() -> None:
    """A GOP of 17 frames, of every kind, depth and side, and the first frame of another."""
    weights = VECTORS / "dhvc_tiny.safetensors"
    save_network(tiny_network(), weights)
    info = VideoInfo(width=72, height=56, frame_count=18, frame_rate=Fraction(25))
    options = EncodeOptions(qp=16, gop=17, reset=5, bframes=3, weights=str(weights))
    units = list(PredictiveCodec(options).encode(make_frames(info, 18), info))
    (VECTORS / "dhvc_tiny.units").write_bytes(b"".join(map(pack_unit, units)))
    digests = symbol_digests(weights, units, info)
    (VECTORS / "dhvc_tiny.json").write_text(json.dumps(digests, indent=1) + "\n")


if __name__ == "__main__":
    main()
