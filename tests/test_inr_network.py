"""The networks are HNeRV's to the parameter, and their sizes follow any video."""

import math

import pytest
import torch

from nvc.errors import UsageError
from nvc.inr.blocks import shuffle_pixels
from nvc.inr.config import (
    MAX_ACTIVATION_VALUES,
    MAX_VALUES,
    NetworkConfig,
    choose_strides,
    network_for_size,
)
from nvc.inr.embeddings import EmbeddingTable, FrameEncoder
from nvc.inr.network import (
    DecoderNetwork,
    nearest_width,
    parameter_count,
    parameter_shapes,
    published_width,
    width_for_parameters,
)


@pytest.mark.parametrize(
    ("size", "width", "channels", "decoder"),
    [
        (350_000, 32, (32, 27, 22, 18, 15, 12), 312_830),
        (750_000, 48, (48, 40, 33, 28, 23, 19), 719_256),
        (1_500_000, 68, (68, 57, 48, 40, 33, 28), 1_488_276),
        (3_000_000, 97, (97, 81, 68, 57, 48, 40), 3_012_686),
    ],
)
def test_published_sizes(size, width, channels, decoder):
    """The paper's four sizes at 132 x 640x1280: width, channels and the exact count."""
    config = network_for_size(640, 1280)
    assert (config.strides, config.kernels) == ((5, 4, 4, 2, 2), (1, 3, 5, 5, 5))
    assert 132 * config.embedding_values == 16_896
    assert published_width(config, 132, size) == width
    config = width_for_parameters(config, 132, size)
    assert config.channels == channels
    assert parameter_count(config, 132) == decoder + 16_896
    assert parameter_count(config, 132) == pytest.approx(size, rel=0.06)


def test_count_by_hand():
    """The count agrees with the sum written out layer by layer for 1.5 M."""
    channels, total = (68, 57, 48, 40, 33, 28), 16 * 68 + 68
    for index, (stride, kernel) in enumerate(zip((5, 4, 4, 2, 2), (1, 3, 5, 5, 5), strict=True)):
        outputs = channels[index + 1] * stride**2
        total += channels[index] * outputs * kernel**2 + outputs
    total += 28 * 3 * 9 + 3
    config = network_for_size(640, 1280, stem_width=68)
    assert parameter_count(config, 0) == total == 1_488_276


def test_published_strides():
    assert choose_strides(640, 1280) == (5, 4, 4, 2, 2)
    assert choose_strides(480, 960) == (5, 4, 3, 2, 2)
    assert choose_strides(960, 1920) == (5, 4, 4, 3, 2)


@pytest.mark.parametrize("size", [(1, 1), (37, 53), (144, 176), (436, 1024), (1080, 1920)])
def test_any_size(size):
    """Every size gets a network that covers it with less than one grid cell of padding."""
    config = network_for_size(*size)
    config.check_size(*size)
    assert math.prod(config.strides) * config.grid[0] == config.padded_size[0]
    with pytest.raises(UsageError, match="the video has"):
        config.check_size(size[0] + config.scale, size[1])


def test_shapes_match_modules_and_forward():
    """Shapes found without allocation are those of the network, and it writes the padded size."""
    config = network_for_size(48, 80, stem_width=9)
    network = DecoderNetwork(config)
    assert parameter_shapes(config) == {n: tuple(p.shape) for n, p in network.named_parameters()}
    pictures = network(torch.zeros(3, config.embedding_channels, *config.grid))
    assert pictures.shape == (3, 3, *config.padded_size)
    assert pictures.min() >= 0 and pictures.max() <= 1


def test_encoder_and_table_give_codes():
    config = network_for_size(48, 80)
    encoder = FrameEncoder(config.strides)
    assert encoder(torch.rand(2, 3, *config.padded_size)).shape == (2, 16, *config.grid)
    table = EmbeddingTable(4, 16, config.grid)
    assert torch.equal(table(torch.tensor([2, 0])), table.table[[2, 0]])


@pytest.mark.parametrize("size", [12_000, 40_000, 100_000, 400_000])
def test_nearest_width(size):
    """The width search ends at the nearest count: both neighbours are farther off."""
    config = nearest_width(network_for_size(320, 640), 16, size)

    def distance(width):
        return abs(parameter_count(config.with_width(width), 16) - size)

    width = config.stem_width
    assert distance(width) <= min(distance(max(width - 1, 1)), distance(width + 1))


def test_limits_cap_the_search():
    """A size beyond the limits gives the widest network within them, not an error."""
    config = nearest_width(network_for_size(2160, 3840), 256, 50_000_000)
    assert config.largest_activation() <= MAX_ACTIVATION_VALUES
    with pytest.raises(UsageError, match="feature maps"):
        config.with_width(config.stem_width + 2)
    small = nearest_width(network_for_size(48, 48), 10, 10 * MAX_VALUES)
    assert parameter_count(small, 10) <= MAX_VALUES


def test_impossible_networks_are_refused():
    """Each refusal names what is wrong and what is allowed."""
    good = {"grid": (2, 4), "strides": (4, 2), "kernels": (1, 3), "stem_width": 8}
    NetworkConfig(**good)
    for change, message in [
        ({"strides": (4, 9)}, "stride 9 is out of range; allowed: 1 to 8"),
        ({"kernels": (1,)}, "1 kernels for 2 strides"),
        ({"kernels": (1, 4)}, "even"),
        ({"stem_width": 10**6}, "stem width"),
        ({"block": "resnet"}, "allowed: pixelshuffle"),
        ({"grid": (4096, 4096)}, "feature maps"),
    ]:
        with pytest.raises(UsageError, match=message):
            NetworkConfig(**(good | change))
    with pytest.raises(UsageError, match="too few"):
        width_for_parameters(network_for_size(320, 640), 16, 100)


@pytest.mark.parametrize("stride", [1, 2, 3, 5])
def test_shuffle_is_torchs_with_rows_permuted(stride):
    """The fast pixel shuffle is torch's own on permuted channels."""
    x = torch.randn(2, 3 * stride**2, 4, 5).contiguous(memory_format=torch.channels_last)
    # (s, s, C) -> (C, s, s)
    permuted = x.unflatten(1, (stride, stride, 3)).permute(0, 3, 1, 2, 4, 5).flatten(1, 3)
    expected = torch.nn.functional.pixel_shuffle(permuted, stride)
    assert torch.equal(shuffle_pixels(x, stride), expected)
