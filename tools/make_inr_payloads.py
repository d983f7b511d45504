"""Write tests/vectors/inr_v2.json: payloads of each method and prior, symbols drawn by integers.

    python tools/make_inr_payloads.py

Run it only when the format changes on purpose, together with its version (CONFIG_VERSION in
nvc/inr/coding.py). tools/make_inr_vectors.py makes whole files.
"""

import json
import zlib
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from nvc.inr.coding import encode_config, encode_group
from nvc.inr.methods import PRESETS, network_for
from nvc.inr.network import nearest_width, parameter_shapes
from nvc.inr.quantised import QuantisedGroup
from nvc.video.frames import VideoInfo

TARGET = Path(__file__).parent.parent / "tests/vectors/inr_v2.json"
HEIGHT, WIDTH, FRAMES = 48, 80, 3
CASES = (
    ("hnerv", "auto"),
    ("hnerv", "tensor"),
    ("inr", "histogram"),
    ("inr", "dual"),
    ("nerv", "adaptive"),
    ("enerv", "auto"),
    ("nervpp", "auto"),
    ("cam", "dual"),
    ("best", "auto"),  # the preset
)


def draw(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """int32 symbols, most of them small, of scales that differ by row."""
    scales = rng.integers(0, 4, size=(shape[0], *[1] * (len(shape) - 1)))
    return (rng.integers(-3, 4, size=shape) * scales + rng.integers(-1, 2, size=shape)).astype(
        np.int32
    )


def make_group(codec: str, seed: int) -> QuantisedGroup:
    """A group of integers for a method's network."""
    info = VideoInfo(width=WIDTH, height=HEIGHT, frame_count=FRAMES, frame_rate=Fraction(25))
    rng = np.random.default_rng(seed)
    if codec in PRESETS:
        network = network_for("inr", info, changed=PRESETS[codec]["network"])
    else:
        network = network_for(codec, info)
    config = nearest_width(network, FRAMES, 4000)
    symbols = tuple(draw(rng, shape) for shape in parameter_shapes(config).values())
    return QuantisedGroup(
        config=config,
        symbols=symbols,
        step_codes=tuple(int(n) for n in rng.integers(-2000, -500, size=len(symbols))),
        embedding=draw(rng, (FRAMES, config.code_channels, *config.grid)),
        embedding_step_code=-700 if config.code_channels else 0,
    )


def main() -> None:
    """One case a method and prior."""
    cases: list[dict[str, Any]] = []
    for seed, (codec, prior) in enumerate(CASES):
        group, value = make_group(codec, seed), 0
        for symbols in (*group.symbols, group.embedding):
            value = zlib.crc32(np.ascontiguousarray(symbols, dtype="<i4").tobytes(), value)
        case = {"codec": codec, "prior": prior, "crc": value}
        case |= {"config": encode_config(group.config).hex()}
        cases.append(case | {"payload": encode_group(group, prior=prior).hex()})
    sizes = {"height": HEIGHT, "width": WIDTH, "frames": FRAMES}
    TARGET.write_text(json.dumps(sizes | {"cases": cases}, indent=1) + "\n")


if __name__ == "__main__":
    main()
