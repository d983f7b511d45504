"""A tiny predictive network for tests: a transform coder with small random parts, not trained."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import torch

from nvc.bitstream.units import Unit, UnitType
from nvc.nn.planes import PACKED_CHANNELS
from nvc.predictive.checkpoint import load_network, save_network
from nvc.predictive.config import LevelConfig, ReferenceForm, size_config
from nvc.predictive.frame_coder import FrameCoder
from nvc.predictive.network import PredictiveNetwork
from nvc.predictive.sequence import SequenceDecoder
from nvc.video.frames import VideoInfo


def cosine_basis(level: LevelConfig) -> torch.Tensor:
    """Orthonormal rows (latent, 96 * cells): block means of Y, U and V first, then random ones."""
    cells = (level.block // 8) ** 2
    rows = torch.randn(level.latent, PACKED_CHANNELS * cells)
    channel = torch.arange(PACKED_CHANNELS).repeat_interleave(cells)
    for number, (low, high) in enumerate(((0, 64), (64, 80), (80, 96))):
        rows[number] = ((channel >= low) & (channel < high)).float()
    return torch.linalg.qr(rows.t())[0].t()


def tiny_network(reference: ReferenceForm = "sent", *, seed: int = 1) -> PredictiveNetwork:
    """Two scales; about 0.1 M parameters."""
    torch.manual_seed(seed)
    config = replace(size_config("tiny", reference=reference), loop_filter=True)
    network = PredictiveNetwork(config)
    network.start_from_transforms([cosine_basis(level) for level in network.config.levels])
    assert network.filter is not None
    for table in network.filter.buffers():
        table.normal_(std=0.003)
    return network.requires_grad_(False).eval()


def write_weights(folder: Path, reference: ReferenceForm = "sent", *, seed: int = 1) -> Path:
    """A weights file of that network in `folder`, which NVC_WEIGHTS should name."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"tiny_{reference}_{seed}.safetensors"
    save_network(tiny_network(reference, seed=seed), path)
    return path


def symbol_digests(weights: Path, units: list[Unit], info: VideoInfo) -> list[str]:
    """SHA-256 of every frame: the magnitudes of its symbols, and its tuning, as they are read."""
    coder = FrameCoder(load_network(weights), (info.height, info.width))
    decoder = SequenceDecoder(coder)
    frames: dict[int, dict[int, bytes]] = {}
    for unit in units:
        if unit.type == UnitType.FRAME:
            frames.setdefault(unit.picture, {})[unit.layer] = unit.payload
    digests = []
    for number, parts in frames.items():
        decoder.decode(decoder.read(number, parts))
        state = hashlib.sha256()
        for codes in decoder.memory.codes:
            state.update(codes.to(torch.uint8).numpy().tobytes())
        state.update(str(decoder.memory.tuning).encode())
        digests.append(state.hexdigest()[:16])
    return digests
