"""The encoder's choice of symbols for training on a CPU, with their bits and the slopes of these.

One walk over a half in place of some forty passes over memory in torch (nvc.predictive.choice); the
sums of activity are the integers of the coder.
"""

from __future__ import annotations

import numpy as np

from nvc.entropy.jit import kernel

# Here, not imported: see the note in nvc.entropy.jit on constants. A test compares.
SKIP_BELOW = 4  # of nvc.predictive.scales
INDICES = 64
ACTIVITIES = 6  # of nvc.predictive.symbol_kernels
LARGEST = 1 << 20
COSTED = 31  # of nvc.predictive.context_bits


@kernel
def choose_half(unit, index, price, worth, costs, form, half, kept, bits, slope, growth):  # type: ignore[no-untyped-def]
    """Choose the symbols of one half of frames; the last four arrays are written to.

    unit (B, H, W, C) float32, residual in steps; index likewise, unrounded; price (B, C) times
    worth (B, H, W), bits for an error of one squared step; costs (rows, COSTED + 1) as
    context_bits.code_lengths has them; form (B,) int64. kept: symbols, but of skipped places;
    bits, also of what these ask for, their slope by the index, and growth by the symbol; all
    (B, H, W, C) float32, zeros before.
    """
    batch, height, width, channels = unit.shape
    for b in range(batch):
        first = (form[b] * 2 + half) * ACTIVITIES * INDICES
        for y in range(height):
            for x in range(width):
                before = np.int32(0)
                for c in range((y + x + half) % 2, channels, 2):
                    place = index[b, y, x, c]
                    table = min(np.int64(np.floor(place + np.float32(0.5))), INDICES - 1)
                    coded = table >= SKIP_BELOW
                    # A skipped place that asks for a symbol pays as the first that is not.
                    table = max(table, SKIP_BELOW)
                    level = np.int64(before >= 4) + np.int64(before >= 20) + np.int64(before >= 60)
                    level += np.int64(before >= 140) + np.int64(before >= 300)
                    rows = first + level * INDICES
                    row = rows + table
                    before -= before >> 3

                    value = unit[b, y, x, c]
                    rounded = np.rint(abs(value))
                    if not rounded <= np.float32(LARGEST):  # nor is a value that is no number
                        rounded = np.float32(LARGEST)
                    size = np.int64(rounded)
                    if 0 < size <= COSTED:
                        beside = np.float32(2) * (abs(value) - np.float32(size)) + np.float32(1)
                        saved = costs[row, size] - costs[row, size - 1]
                        if saved > price[b, c] * worth[b, y, x] * beside:
                            size -= 1
                    if size == 0 and not coded:
                        continue
                    code = min(size, COSTED)
                    low, high = max(table - 1, SKIP_BELOW), min(table + 1, INDICES - 1)
                    steep = costs[rows + high, code] - costs[rows + low, code]
                    steep /= np.float32(high - low)
                    apart = min(max(place - np.float32(table), np.float32(-0.5)), np.float32(0.5))
                    spent = costs[row, code] + steep * apart
                    slope[b, y, x, c] = steep
                    if size > 0:
                        sign = np.float32(-1) if value < 0 else np.float32(1)
                        rise = costs[row, min(code + 1, COSTED)] - costs[row, code - 1]
                        growth[b, y, x, c] = sign * rise / np.float32(2)
                        if coded:
                            kept[b, y, x, c] = sign * np.float32(size)
                            before += np.int32(min(size, 3) << 6)
                        if size > COSTED:
                            spent += np.float32(2) * np.log2(np.float32(size) / np.float32(COSTED))
                    bits[b, y, x, c] = spent
