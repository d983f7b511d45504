"""The clip `nvc demo` makes itself: hills under a low sun, at three depths, and a rolling ball."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

SCENE_SIZE = (192, 320)  # height, width
SCENE_FRAMES = 24
SCENE_RATE = 24


def _mix(under: np.ndarray, over: np.ndarray, cover: np.ndarray) -> np.ndarray:
    """Blend RGB over RGB by the coverage (h, w) in [0, 1]."""
    return under + (over - under) * cover[..., None]


def _grain(x: np.ndarray, y: np.ndarray, seed: int) -> np.ndarray:
    """A fixed rough texture over the plane in [-1, 1]: a few waves in random directions."""
    generator = np.random.default_rng(seed)
    total = np.zeros_like(x)
    for _ in range(6):
        angle, frequency = generator.uniform(0, np.pi), generator.uniform(0.08, 0.55)
        phase = generator.uniform(0, 2 * np.pi)
        total += np.sin(frequency * (x * np.cos(angle) + y * np.sin(angle)) + phase)
    return total / 6


def scene_frame(index: int, height: int = SCENE_SIZE[0], width: int = SCENE_SIZE[1]) -> np.ndarray:
    """Frame ``index`` of the scene as (height, width, 3) float64 RGB in [0, 1]; any size."""
    unit = height / 192
    y, x = np.mgrid[0:height, 0:width] / unit
    right = width / unit

    low, high = np.array([0.98, 0.74, 0.47]), np.array([0.24, 0.43, 0.72])
    picture = low + (high - low) * np.clip(1 - y / 135, 0, 1)[..., None]
    glow = np.hypot(x - 0.72 * right, y - 62)
    picture = _mix(picture, np.array([1.0, 0.92, 0.72]), 0.55 * np.exp(-glow / 45))
    picture = _mix(picture, np.array([1.0, 0.97, 0.88]), np.clip(17 - glow, 0, 1))

    layers = (
        (96, 0.6, (0.44, 0.47, 0.62), 0.05, 3),
        (118, 1.5, (0.27, 0.42, 0.36), 0.10, 5),
        (144, 3.2, (0.20, 0.33, 0.15), 0.22, 7),
    )
    for level, speed, colour, roughness, seed in layers:
        across = x + speed * index
        ridge = level + 9 * np.sin(across / (31 + seed)) + 5 * np.sin(across / 13 + seed)
        shade = 1 + roughness * _grain(across, y, seed)
        surface = np.array(colour) * shade[..., None] * (1.15 - 0.004 * (y - level))[..., None]
        picture = _mix(picture, surface, np.clip(y - ridge + 0.5, 0, 1))

    radius = 21.0
    centre_x = (40 + 4.4 * index) % (right + 2 * radius) - radius
    centre_y = 158 - radius - 44 * abs(np.sin(index / 7.5))
    from_x, from_y = x - centre_x, y - centre_y
    distance = np.hypot(from_x, from_y)
    shadow = np.hypot(from_x / 1.3, (y - 166) / 0.3)
    picture = _mix(picture, np.zeros(3), 0.4 * np.clip((26 - shadow) / 10, 0, 1))
    angle = np.arctan2(from_y, from_x) - index * 4.4 / radius
    stripes = np.clip(4 * np.sin(3 * angle) + 0.5, 0, 1)
    ball = _mix(np.full_like(picture, 0.95), np.array([0.82, 0.16, 0.13]), stripes)
    ball = ball * (1.05 - 0.5 * np.hypot(from_x + 6, from_y + 8)[..., None] / (radius + 10))
    return np.clip(_mix(picture, ball, np.clip(radius - distance + 0.5, 0, 1)), 0, 1)


def scene(frames: int = SCENE_FRAMES) -> Iterator[np.ndarray]:
    """The frames of the scene in order, as ``scene_frame`` gives them."""
    return (scene_frame(index) for index in range(frames))
