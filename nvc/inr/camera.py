"""The camera's path: the network paints one still canvas, each frame is that seen through a map.

A camera that moves moves every texture, which a network of convolutions has to draw anew for each
frame. With one affine map a frame, 6 numbers, most of the picture stands still for it.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional

from nvc.inr.timecode import TemporalGrid

PATH = "camera.path.table"  # the name of its parameter in a network
UNIT = 1 / 64  # of half the picture's side: what 1 in the path's table stands for
FINEST = 1 << 16  # pixels of the largest picture that frames are aligned on
COARSEST = 32  # pixels of the shorter side of the smallest
LEVELS = ((8, 0.1), (4, 0.06), (2, 0.05))  # pooling, relative to the finest's; outlier errors
ROUNDS = 4  # Gauss-Newton rounds a level
WIDEST = 1.6  # a canvas may be so many times as wide and high as a frame
GAIN = 0.9  # of the robust error without it, under which a path has to come to be used


class Camera(nn.Module):
    """Pictures (B, C, H, W) of the canvas, as a head writes them, to what the camera sees of it.

    path.table: (frames, 6, 1, 1), the affine map from places in a frame to places in the canvas
    less the identity, in UNIT; places are -1 to 1 from side to side. Between frames the path is
    interpolated. Samples are interpolated bilinearly, the canvas ends in its own border.
    """

    def __init__(self, frames: int, *, head: str) -> None:
        super().__init__()
        self.path = TemporalGrid(max(frames, 2), 6, (1, 1), spread=0.0)
        self.packed = head == "yuv420"

    def forward(self, x: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
        """position: (B,) in [0, 1] of the frames."""
        maps = self.path(position).float().view(-1, 2, 3) * UNIT
        maps = maps + torch.eye(2, 3, device=maps.device)
        if not self.packed:
            return look(x, maps)
        # Packed planes are taken apart, as the four luma samples of a place lie apart.
        batch, _, height, width = x.shape
        # (B, 6, h, w) -> (B, h, w, 6): a view where x is channels_last
        rows = x.permute(0, 2, 3, 1)
        blocks = rows[..., :4].reshape(batch, height, width, 2, 2).permute(0, 1, 3, 2, 4)
        luma = look(blocks.reshape(batch, 1, 2 * height, 2 * width), maps)
        chroma = look(rows[..., 4:].permute(0, 3, 1, 2), maps)
        blocks = luma.view(batch, height, 2, width, 2).permute(0, 1, 3, 2, 4)
        blocks = blocks.reshape(batch, height, width, 4)
        # (B, h, w, 6) -> (B, 6, h, w)
        return torch.cat([blocks, chroma.permute(0, 2, 3, 1)], dim=3).permute(0, 3, 1, 2)

    @torch.no_grad()
    def follow(self, luma: torch.Tensor) -> None:
        """Start from the path found in the frames (N, 1, H, W), N > 1, of the canvas's size."""
        path = find_path(luma.cpu())
        self.path.table.copy_(path.view(-1, 6, 1, 1) / UNIT)

    @staticmethod
    def log2_step(height: int, width: int) -> float:
        """The step of the table that moves a picture of this size by 1/32 of a pixel."""
        return math.log2(2 / max(height, width) / 32 / UNIT)


def look(x: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
    """(B, C, H, W) seen through maps (B, 2, 3), float32, same shape."""
    places = _places(maps, x.shape[-2], x.shape[-1])
    return functional.grid_sample(
        x.contiguous(), places, mode="bilinear", padding_mode="border", align_corners=False
    )


def _places(maps: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """(B, height, width, 2): where each pixel's middle lies; affine_grid makes the same slowly."""
    xs, ys = (_middles(size, maps.device) for size in (width, height))
    # (B, 2, 3) -> three of (B, 1, 1, 2), for x, y and 1
    by_x, by_y, by_one = maps[:, None, None].unbind(-1)
    return (by_x * xs[:, None] + by_one) + by_y * ys[:, None, None]


def _middles(size: int, device: torch.device) -> torch.Tensor:
    return (2 * torch.arange(size, device=device) + 1) / size - 1


@torch.no_grad()
def find_path(luma: torch.Tensor) -> torch.Tensor:
    """Maps less the identity, (N, 2, 3), for frames (N, 1, H, W) in [0, 1], on the CPU.

    Frames are aligned one after the other to the middle one, each starting from its neighbour's
    map; the canvas is what all of them see of it. No motion at all where that would be over WIDEST
    times a frame, or where most of the picture does not follow.
    """
    frames = len(luma)
    finest = max(math.ceil(math.sqrt(luma.shape[-2] * luma.shape[-1] / FINEST)), 1)
    pools = [(finest * pool // 2, limit) for pool, limit in LEVELS]
    pyramid = [
        (functional.avg_pool2d(luma, pool), limit)
        for pool, limit in pools
        if pool == finest or min(luma.shape[-2:]) // pool >= COARSEST
    ]
    middle = frames // 2
    maps = torch.eye(3).repeat(frames, 1, 1)
    for order in (range(middle + 1, frames), range(middle - 1, -1, -1)):
        found = torch.eye(3)
        for index in order:
            for pictures, limit in pyramid:
                pair = pictures[middle : middle + 1], pictures[index : index + 1]
                found = _align(*pair, found, limit)
            maps[index] = found
    corners = torch.tensor([[x, y, 1.0] for x in (-1, 1) for y in (-1, 1)]).T
    seen = (maps @ corners)[:, :2]
    low, high = seen.amin(dim=(0, 2)), seen.amax(dim=(0, 2))
    half = (high - low) / 2
    still = torch.zeros(frames, 2, 3)
    if not bool(torch.isfinite(half).all()) or float(half.max()) > WIDEST:
        return still
    pictures, limit = pyramid[-1]
    reference = pictures[middle : middle + 1].expand_as(pictures)
    moved = _robust_error(look(reference, maps[:, :2]), pictures, limit)
    if moved > GAIN * _robust_error(reference, pictures, limit):
        return still
    # From the middle frame's places to those of the canvas.
    fit = torch.diag(torch.cat([1 / half, torch.ones(1)]))
    fit[:2, 2] = -(low + high) / 2 / half
    return (fit @ maps)[:, :2] - torch.eye(2, 3)


def _robust_error(one: torch.Tensor, two: torch.Tensor, limit: float) -> float:
    squared = (one - two).square()
    return float((squared / (squared + limit * limit)).mean())


def _align(
    source: torch.Tensor, target: torch.Tensor, found: torch.Tensor, limit: float
) -> torch.Tensor:
    """A better map (3, 3) by which `source` is seen as `target`, both (1, 1, H, W).

    Gauss-Newton on squared errors that count less the larger they are, about half at `limit`.
    """
    height, width = target.shape[-2:]
    xs = _middles(width, target.device)
    ys = _middles(height, target.device)[:, None]
    for _ in range(ROUNDS):
        places = _places(found[None, :2], height, width)
        seen = functional.grid_sample(source, places, padding_mode="border", align_corners=False)
        across = functional.pad(seen[..., 2:] - seen[..., :-2], (1, 1))[0, 0] * width / 4
        down = functional.pad(seen[..., 2:, :] - seen[..., :-2, :], (0, 0, 1, 1))
        down = down[0, 0] * height / 4
        error = (target - seen)[0, 0]
        inside = (places[0].abs() < 0.98).all(dim=-1)
        weight = (inside / (1 + (error / limit) ** 2)).flatten()
        # (H * W, 6): what each number of the map changes
        slopes = [across * xs, across * ys, across, down * xs, down * ys, down]
        jacobian = torch.stack(slopes, dim=-1).view(-1, 6)
        weighted = jacobian * weight[:, None]
        normal = jacobian.T @ weighted + 1e-6 * torch.eye(6)
        change = torch.linalg.solve(normal, weighted.T @ error.flatten())
        step = torch.eye(3)
        step[:2] += change.view(2, 3)
        found = found @ step
    return found
