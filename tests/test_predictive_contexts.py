"""Adaptive bits of symbols and motion: round trips, what is counted, where they begin."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from clips import make_frames, write_clip
from hypothesis import given, settings
from hypothesis import strategies as st
from predictive_weights import tiny_network, write_weights

from nvc.entropy.adaptive_kernels import CODER_SIZE, finish_writing, start_reading, start_writing
from nvc.entropy.tables import gaussian_tables
from nvc.errors import InputError
from nvc.predictive import scales, symbol_kernels
from nvc.predictive.checkpoint import load_network, save_network
from nvc.predictive.codec import EncodeOptions, encode_frames
from nvc.predictive.contexts import (
    CODE_LIMIT,
    Contexts,
    symbol_contexts,
    symbol_probabilities,
    vector_contexts,
)
from nvc.predictive.counting import count_contexts, set_contexts
from nvc.predictive.rounding import CHROMA_WORTH
from nvc.predictive.row_coder import open_coder
from nvc.predictive.symbol_kernels import (
    BYTES_PER_SYMBOL,
    CONTEXTS,
    FIRST_MORE,
    LARGEST,
    decode_half,
    encode_half,
)
from nvc.predictive.vectors import decode_vectors, encode_vectors
from nvc.video.frames import VideoInfo
from nvc.video.reader import open_video

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))

import count_contexts as tool

SHAPE = (6, 5, 7)


def write(
    k: np.ndarray, index: np.ndarray, model: np.ndarray, counts: np.ndarray | None = None
) -> bytes:
    """Bytes of both halves of k, every symbol wanted as it is."""
    coder, model = np.zeros(CODER_SIZE, np.int64), model.copy()
    digits = np.empty(BYTES_PER_SYMBOL * k.size + 256, np.uint16)
    counts = np.empty((0, 2), np.int64) if counts is None else counts
    start_writing(coder)
    made = np.zeros_like(k)
    price, step = np.full(k.shape[1:], 1e9, np.float32), np.ones(len(k), np.float32)
    for half in range(2):
        wanted, mean = k.astype(np.float32), np.zeros(k.shape, np.float32)
        encode_half(
            coder, digits, model, wanted, mean, index, price, step, step, half, made, counts
        )
    coded = np.where(index >= scales.SKIP_BELOW, k, 0)
    assert np.array_equal(made, coded)
    return finish_writing(coder, digits).tobytes()


def read(payload: bytes, index: np.ndarray, model: np.ndarray) -> np.ndarray | None:
    coder, model = np.zeros(CODER_SIZE, np.int64), model.copy()
    data = np.frombuffer(payload, np.uint8).copy()
    k = np.zeros(index.shape, np.int32)
    if not start_reading(coder, data):
        return None
    fine = [decode_half(coder, data, model, index, half, k) for half in range(2)]
    return k if all(fine) else None


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), reach=st.sampled_from([0, 1, 3, 20, 5000, LARGEST]))
def test_symbols_survive_coding(seed: int, reach: int) -> None:
    rng = np.random.default_rng(seed)
    k = np.rint(rng.laplace(0, 1, SHAPE) * reach / 4).clip(-LARGEST, LARGEST).astype(np.int32)
    index = rng.integers(0, 64, SHAPE).astype(np.uint8)
    model = symbol_contexts(1).model(0)
    decoded = read(write(k, index, model), index, model)
    assert decoded is not None
    assert np.array_equal(decoded, np.where(index >= scales.SKIP_BELOW, k, 0))


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=60), seed=st.integers(0, 99))
def test_damaged_symbols_are_refused_or_bounded(data: bytes, seed: int) -> None:
    index = np.random.default_rng(seed).integers(0, 64, SHAPE).astype(np.uint8)
    decoded = read(data, index, symbol_contexts(1).model(0))
    assert decoded is None or np.abs(decoded).max() <= LARGEST


def test_the_largest_symbols_fit_the_room_they_are_given() -> None:
    k = np.full((40, 8, 8), LARGEST, np.int32)
    k[::2] *= -1
    index = np.full(k.shape, 4, np.uint8)  # the table that expects least
    assert len(write(k, index, symbol_contexts(1).model(0))) <= BYTES_PER_SYMBOL * k.size


def test_kernel_constants_are_those_of_the_scale_path() -> None:
    """Kernels hold their own, as their cache would not feel a change elsewhere."""
    assert symbol_kernels.SKIP_BELOW == scales.SKIP_BELOW
    assert symbol_kernels.INDICES == scales.INDEX_MAX + 1


def test_gaussian_tables_say_where_symbols_begin() -> None:
    """Before anything is counted, a context's first probability is that of its index's table."""
    model = symbol_contexts(1).model(0)
    tables = gaussian_tables()
    for index in (4, 20, 40, 63):
        first = int(tables.starts[index]) - int(tables.offsets[index])
        size = int(tables.sizes[index])
        shares = tables.frequencies[int(tables.starts[index]) :][: size + 1].astype(float)
        zero = tables.frequencies[first] / shares.sum()
        odds = np.log((1 - zero) / zero)
        found = model[index * symbol_kernels.ACTIVITIES, 0] / 2**24
        assert abs(np.log(found / (1 - found)) - np.clip(odds, -7.94, 7.94)) < 1 / 31


def test_counts_move_contexts_where_they_are_many() -> None:
    counts = np.zeros((CONTEXTS, 2), np.int64)
    counts[100] = 1000, 9000
    counts[FIRST_MORE + 100] = 3, 1
    made = symbol_probabilities(counts)
    assert made[100] == pytest.approx(0.9, abs=0.01)
    before = symbol_probabilities(np.zeros((CONTEXTS, 2), np.int64))
    assert abs(made[FIRST_MORE + 100] - before[FIRST_MORE + 100]) < 0.2
    assert np.array_equal(np.delete(made, [*range(96, 102), *range(864, 870)])[:96], before[:96])


def test_counts_are_of_the_bits_that_are_written() -> None:
    """Ideal bits of the counts' own probabilities bound the bytes of a static coder of them."""
    rng = np.random.default_rng(3)
    k = np.rint(rng.laplace(0, 0.8, (16, 20, 20))).astype(np.int32)
    index = np.full(k.shape, 30, np.uint8)
    counts = np.zeros((CONTEXTS, 2), np.int64)
    write(k, index, symbol_contexts(1).model(0), counts)
    magnitude = np.abs(k)
    assert counts[:FIRST_MORE].sum() == k.size
    assert counts[:FIRST_MORE, 1].sum() == (magnitude > 0).sum()
    assert counts[FIRST_MORE : 2 * FIRST_MORE, 1].sum() == (magnitude > 1).sum()
    steps = counts[2 * FIRST_MORE :]
    assert steps[:, 1].sum() == np.maximum(magnitude - 2, 0).sum()


def test_errors_in_chroma_weigh_more() -> None:
    """By latent: of the tiny network the first is luma, the second U, the third V."""
    weights = tiny_network().levels[-1].error_weights
    assert weights[:3].tolist() == pytest.approx([1, CHROMA_WORTH, CHROMA_WORTH], abs=1e-4)
    assert ((weights >= 1) & (weights <= CHROMA_WORTH)).all()


def test_codes_are_exact_or_refused() -> None:
    contexts = Contexts(np.array([[0.0, 0.5, 1.0, 0.25]]), confidence=9)
    assert contexts.codes.tolist() == [[-CODE_LIMIT, 0, CODE_LIMIT, -18]]
    contexts.check_exact()
    model = contexts.model(0)
    assert model[1].tolist() == [1 << 23, 1 << 23, 0]  # even odds say nothing
    assert model[3, 2] == 9 and abs(model[3, 0] / 2**24 - 0.25) < 0.01
    assert torch.equal(contexts.half().float().codes, contexts.codes)
    contexts.codes[0, 0] = 0.5
    with pytest.raises(ValueError, match="none of -127"):
        contexts.check_exact()


def test_the_second_field_of_a_pair_is_cheaper_for_knowing_the_first() -> None:
    """Blocks that stray in the first stray in the second: what is counted says so."""
    rng = np.random.default_rng(1)
    strays = rng.random((32, 32, 1)) < 0.1
    pair = [np.where(strays, rng.integers(-9, 9, (32, 32, 2)), 0).astype(np.int32) for _ in "ab"]
    model = vector_contexts().model(2)
    alone = encode_vectors(pair[1], model)
    known = encode_vectors(pair[1], model, first=pair[0])
    assert len(known) < len(alone)
    assert np.array_equal(decode_vectors(known, 32, 32, model, first=pair[0]), pair[1])


def test_counted_contexts_make_smaller_files() -> None:
    """Half the frames of a clip are counted, the other half takes fewer bytes for it."""
    info = VideoInfo(width=72, height=56, frame_count=9)
    frames = make_frames(info, 18)
    network = tiny_network()

    def coded() -> int:
        coder = open_coder(network, (info.height, info.width))
        units = encode_frames(EncodeOptions(qp=24, pack=False), frames[9:], info, coder=coder)
        return sum(len(unit.payload) for unit in units)

    before = coded()
    counts = count_contexts(network, [[frame.planes for frame in frames[:9]]], qps=(24,))
    assert {form for _, form in counts.symbols} == {0, 1, 2}
    set_contexts(network, counts)
    network.check_exact()
    assert coded() < 0.97 * before


def test_the_tool_counts_what_it_is_asked_to(tmp_path: Path) -> None:
    """Contexts of its weights are those of the frames and QPs named; the rest is as it was."""
    weights, out = write_weights(tmp_path), tmp_path / "out.safetensors"
    clips = [
        write_clip(tmp_path / f"{width}.mkv", width=width, height=48, frames=5)
        for width in (64, 49)
    ]
    options = ["--out", str(out), "--frames", "3", "--qps", "20,40"]
    assert tool.main([str(weights), *map(str, clips), *options]) == 0
    network = load_network(weights)
    planes = []
    for clip in clips:
        with open_video(clip, frames=3) as video:
            planes.append([frame.planes for frame in video])
    set_contexts(network, count_contexts(network, planes, qps=(20, 40)))
    before, made = load_network(weights).state_dict(), load_network(out).state_dict()
    for name, wanted in network.state_dict().items():
        assert torch.equal(made[name], wanted), name
        counted = name.endswith("contexts.codes")
        assert torch.equal(made[name], before[name]) != counted, name


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        (["--frames", "0"], 2, "frames is 0"),
        (["--qps", "12,99"], 2, "qp is 99"),
        (["--qps", "12;28"], 2, "--qps"),
        (["none.mkv"], 1, "none.mkv"),
        (["full.mkv"], 1, "8-bit 4:2:0"),
    ],
)
def test_the_tool_refuses_in_one_line(
    tmp_path: Path, capsys, monkeypatch, change: list[str], status: int, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    weights, out = write_weights(tmp_path), tmp_path / "out.safetensors"
    write_clip(tmp_path / "clip.mkv", width=32, height=24, frames=2)
    write_clip(tmp_path / "full.mkv", width=32, height=24, frames=2, pixel_format="yuv444p")
    arguments = [str(weights), "clip.mkv", *change, "--out", str(out)]
    assert tool.main(arguments) == status
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1
    assert not out.exists()


def test_a_value_that_is_no_number_is_written_as_some_symbol() -> None:
    """Of a network that diverged: it is counted and read back, and nothing outside is touched."""
    wanted = np.full((1, 2, 4), np.nan, np.float32)
    index, made = np.full(wanted.shape, 20, np.uint8), np.zeros(wanted.shape, np.int32)
    coder, model = np.zeros(CODER_SIZE, np.int64), symbol_contexts(1).model(0)
    digits = np.empty(BYTES_PER_SYMBOL * made.size + 256, np.uint16)
    price, unit = np.ones((2, 4), np.float32), np.ones(1, np.float32)
    counts, used = np.zeros((CONTEXTS, 2), np.int64), model.copy()
    start_writing(coder)
    for half in range(2):
        mean = np.zeros_like(wanted)
        encode_half(coder, digits, used, wanted, mean, index, price, unit, unit, half, made, counts)
    payload = finish_writing(coder, digits).tobytes()
    decoded = read(payload, index, model)
    assert decoded is not None and np.array_equal(decoded, made)
    assert np.abs(made).min() > 0 and counts[:FIRST_MORE].sum() == made.size


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    network = tiny_network()
    with torch.no_grad():
        network.levels[0].fine_in.weight[0, 0] = torch.nan
    save_network(network, tmp_path / "broken.safetensors")
    with pytest.raises(InputError, match=r"levels.0.fine_in.weight holds numbers that are not fin"):
        load_network(tmp_path / "broken.safetensors")
