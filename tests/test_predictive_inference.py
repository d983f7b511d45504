"""Inference over rows and integers against the network as it was trained."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from clips import make_frames
from predictive_weights import tiny_network

from nvc.nn.blocks import COARSEST_QP, FINEST_QP, stack
from nvc.nn.fused import FusedStack
from nvc.nn.planes import enlarge_planes, shrink_planes
from nvc.predictive import index_kernels
from nvc.predictive.frame_coder import FrameCoder
from nvc.predictive.inference import supports
from nvc.predictive.integer_scales import integer_product
from nvc.predictive.motion import compensate
from nvc.predictive.network import Memory, PredictiveNetwork
from nvc.predictive.planes_io import to_planes
from nvc.predictive.row_coder import RowCoder, open_coder
from nvc.predictive.row_planes import enlarged, moved, shrunk
from nvc.predictive.scales import KIND_INTER, KIND_INTRA, KIND_RESET
from nvc.predictive.sequence import SequenceDecoder, SequenceEncoder
from nvc.predictive.structure import Place
from nvc.video.frames import VideoInfo

INFO = VideoInfo(width=90, height=60, frame_count=4, frame_rate=Fraction(25))
KINDS = (KIND_INTRA, KIND_INTER, KIND_RESET, KIND_INTER)


@pytest.fixture(scope="module")
def network() -> PredictiveNetwork:
    """The tiny network as a weights file holds it, its integer biases not all alike."""
    network = tiny_network()
    torch.manual_seed(3)
    for level in (*network.levels, *network.intra):
        for bias in (level.scales.bias_in, level.scales.bias_past, level.scales.bias_out):
            bias.knots.add_(torch.randn_like(bias.knots) * 0.3)
    return network.half().float()


def shown() -> tuple[int, int]:
    return INFO.height, INFO.width


def encode(coder: FrameCoder) -> list[list[bytes | None]]:
    """Payloads of the layers of four frames."""
    encoder = SequenceEncoder(coder)
    frames = make_frames(INFO, INFO.frame_count)
    planes = [to_planes(frame, INFO, coder.size, torch.zeros(1)) for frame in frames]
    qps = (FINEST_QP, 26, COARSEST_QP, 22)
    return [
        encoder.encode(*each, Place(number, number - 1 if number else None))
        for number, each in enumerate(zip(planes, qps, KINDS, strict=True))
    ]


def decode(coder: FrameCoder, payloads: list[list[bytes | None]]) -> list[Memory]:
    """What is left of each frame."""
    decoder = SequenceDecoder(coder)
    left = []
    for number, layers in enumerate(payloads):
        parts = {n: part for n, part in enumerate(layers) if part}
        decoder.decode(decoder.read(number, parts))
        assert decoder.memory is not None and not decoder.damaged
        left.append(decoder.memory)
    return left


def test_rows_decode_what_the_network_decodes(network: PredictiveNetwork) -> None:
    """Symbols and what they leave are the same, pictures but for rounding, of four frames."""
    plain = FrameCoder(network, shown())
    payloads = encode(plain)
    expected = decode(plain, payloads)
    for dtype, allowed in ((torch.float32, 2e-5), (torch.bfloat16, 0.02)):
        coder = open_coder(network, shown(), dtype)
        assert isinstance(coder, RowCoder)
        for mine, theirs in zip(decode(coder, payloads), expected, strict=True):
            for name in ("codes", "averages"):
                for a, b in zip(getattr(mine, name), getattr(theirs, name), strict=True):
                    assert a.dtype == torch.uint8 and torch.equal(a, b.to(torch.uint8))
            for a, b in zip(mine.pictures[-1], theirs.pictures[-1], strict=True):
                assert (a - b).abs().max() < allowed


def test_rows_encode_what_the_network_encodes(network: PredictiveNetwork) -> None:
    """In float32 the same bytes here, in bfloat16 a stream that any decoder reads."""
    plain = FrameCoder(network, shown())
    assert encode(open_coder(network, shown())) == encode(plain)
    rounded = open_coder(network, shown(), torch.bfloat16)
    payloads = encode(rounded)
    for mine, theirs in zip(decode(plain, payloads), decode(rounded, payloads), strict=True):
        assert all(
            torch.equal(a.to(torch.uint8), b) for a, b in zip(mine.codes, theirs.codes, strict=True)
        )


def test_places_used_are_those_with_a_number() -> None:
    """In one pass: any channel counts, neither zero does."""
    torch.manual_seed(4)
    for share in (0.0, 0.01, 1.0):
        residual = torch.randn(7, 300) * (torch.rand(7, 300) < share)
        residual[2, 5] = -0.0
        found = index_kernels.places_used(residual.numpy())
        assert found.tolist() == (residual != 0).any(0).nonzero()[:, 0].tolist()


def test_where_rows_cannot_go_the_network_itself_runs() -> None:
    implicit = tiny_network("implicit")
    assert not supports(implicit) and not supports(tiny_network().double())
    assert type(open_coder(implicit, (64, 64))) is FrameCoder


@pytest.mark.parametrize("size", [(1, 1), (5, 7), (40, 33)])
def test_a_fused_stack_is_the_stack(size: tuple[int, int]) -> None:
    torch.manual_seed(1)
    blocks = stack(16, 3).requires_grad_(False)
    for name, value in blocks.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.uniform_(value, -0.5, 0.5)
    x = torch.randn(1, 16, *size)
    expected = blocks(x)[0].flatten(1).t()
    for dtype, allowed in ((torch.float32, 1e-5), (torch.bfloat16, 0.08)):
        rows = x[0].flatten(1).t().to(dtype).contiguous()
        kept = rows.clone()
        found = FusedStack(blocks, dtype)(rows, *size)
        assert (found.float() - expected).abs().max() < allowed
        assert torch.equal(rows, kept)


def test_planes_are_moved_and_resized_alike() -> None:
    """Vectors in every phase and out of the picture; all shrinks there are."""
    torch.manual_seed(2)
    planes = tuple(torch.rand(1, 1, 128 >> s, 192 >> s) for s in (0, 1, 1))
    vectors = torch.randint(-700, 700, (1, 2, 16, 24), dtype=torch.int32)
    field = vectors[0].permute(1, 2, 0).contiguous().numpy()
    for factor in (1, 2, 4, 8):
        small = shrink_planes(planes, factor)
        pairs = [
            (shrunk(planes, factor), small),
            (moved(small, field, factor), compensate(small, vectors, factor)),
            (enlarged(small, factor), enlarge_planes(small, factor)),
        ]
        for mine, theirs in pairs:
            for a, b in zip(mine, theirs, strict=True):
                assert torch.allclose(a, b, atol=1e-4)


def test_integer_products_are_the_same_as_bytes_and_floats() -> None:
    """The largest sums there can be, too: exactness is what decoding rests on."""
    torch.manual_seed(0)
    weight = torch.randint(-127, 128, (32, 704), dtype=torch.int8)
    codes = torch.randint(-128, 128, (704, 48), dtype=torch.int8)
    codes[:, 0] = torch.where(weight[0] > 0, 127, -128)
    expected = (weight.long() @ codes.long()).to(torch.int32)
    for as_bytes in (True, False):
        found = integer_product(weight, codes, as_bytes=as_bytes)
        assert found.dtype == torch.int32
        assert torch.equal(found, expected)
