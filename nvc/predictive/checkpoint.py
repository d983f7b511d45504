"""Weights files of the predictive network: safetensors in half precision, configuration inside.

A stream names its weights by the hash of this file, and every device computes from the same
half-precision values, so the integer scale path is the same wherever the stream is decoded.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from nvc.errors import InputError
from nvc.predictive.config import PredictiveConfig
from nvc.predictive.network import PredictiveNetwork
from nvc.weights import MAX_BYTES, hash_of


def save_network(network: PredictiveNetwork, path: Path) -> None:
    """Write the network in half precision with its configuration."""
    state = {
        name: value.detach().to("cpu", torch.float16).contiguous()
        for name, value in network.state_dict().items()
    }
    save_file(state, path, metadata={"config": json.dumps(network.config.to_dict())})


def load_network(path: Path) -> PredictiveNetwork:
    """Read what save_network wrote, in float32. Raises InputError with the file's name."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path}: too large for a weights file (at most 1 GiB)")
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get("config")
            if text is None:
                raise InputError(f"{path}: these are not weights of a predictive network")
            config = PredictiveConfig.from_dict(json.loads(text))
            state = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: cannot read these weights ({error})") from error
    broken = sorted(name for name, value in state.items() if not bool(value.isfinite().all()))
    if broken:
        raise InputError(f"{path}: {broken[0]} holds numbers that are not finite")
    network = PredictiveNetwork(config)
    for name, value in network.state_dict().items():
        if name.endswith(("contexts.codes", "_ways")):
            state.setdefault(name, value)  # weights from before there were such
    motion = "motion_contexts.codes"
    if state[motion].shape != network.state_dict()[motion].shape:
        state[motion] = network.state_dict()[motion]  # from before version 11: none that serve
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise InputError(f"{path}: the weights do not fit the network they name") from error
    try:
        network.check_exact()
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error
    return network.requires_grad_(False).eval()


@lru_cache(maxsize=2)
def shared_network(path: Path, device: str) -> tuple[PredictiveNetwork, bytes]:
    """A network ready on a device with its hash, read once a process."""
    network = load_network(path).to(device)
    if device == "cpu":
        network = network.to(memory_format=torch.channels_last)
    return network, hash_of(path)
