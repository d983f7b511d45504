"""The synthesis network as a graph and as ONNX: the decoder's pictures, in torch and elsewhere."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from clips import make_frames
from predictive_weights import tiny_network, write_weights

from nvc.cli import main
from nvc.commands.export import KINDS
from nvc.predictive import frame_coder, synthesis
from nvc.predictive.filter_tuning import STEP
from nvc.predictive.frame_coder import CodedFrame, FrameCoder
from nvc.predictive.network import KIND_BI, KIND_INTER, KIND_INTRA, Memory, Second
from nvc.predictive.planes_io import to_planes
from nvc.predictive.synthesis import GRAPHS, SynthesisGraph, example, onnx_bytes
from nvc.video.frames import VideoInfo

INFO = VideoInfo(width=80, height=48, frame_count=2, frame_rate=Fraction(25))


def test_the_graph_makes_the_decoders_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the symbols of an intra, an inter and a B frame, and of a P frame of two references,
    what the decoder keeps and shows."""
    network = tiny_network()
    coder = FrameCoder(network, (INFO.height, INFO.width))
    first, between, second = (
        to_planes(frame, INFO, coder.size, torch.zeros(1)) for frame in make_frames(INFO, 3)
    )
    vectors = torch.randint(-9, 9, (1, 2, coder.size[0] // 8, coder.size[1] // 8))
    symbols: list[torch.Tensor] = []
    decode = frame_coder.LayerCoder.decode

    def recorded(self: frame_coder.LayerCoder, payload: bytes) -> tuple[torch.Tensor, torch.Tensor]:
        residual, k = decode(self, payload)
        symbols.append(k)
        return residual, k

    monkeypatch.setattr(frame_coder.LayerCoder, "decode", recorded)

    def decoded(coded: CodedFrame, qp: int, kind: int, **given: Any) -> Memory:
        return coder.decode(coded.layers, qp, kind, tuning=coded.tuning, **given).memory

    intra = coder.encode(first, 12, KIND_INTRA)
    inter = coder.encode(second, 15, KIND_INTER, memory=intra.memory, vectors=vectors)
    expected = [decoded(intra, 12, KIND_INTRA)]
    expected.append(decoded(inter, 15, KIND_INTER, memory=expected[0], vectors=vectors))

    share = torch.randint(0, 3, (1, 1, coder.size[0] // 16, coder.size[1] // 16)) / 2

    def both(of: list[Memory], told: bool) -> dict:
        second = Second(of[1], -vectors, share, told=told)
        return {"memory": of[0], "vectors": vectors, "second": second}

    for kind, qp in ((KIND_BI, 18), (KIND_INTER, 21)):
        coded = coder.encode(between, qp, kind, **both([intra.memory, inter.memory], qp == 18))
        given = both(expected[:2], qp == 18)
        expected.append(decoded(coded, qp, kind, **given))
    assert len(symbols) == 8 and all(k.any() for k in symbols)
    tunings = []
    for memory in expected:
        assert memory.tuning is not None and any(map(any, memory.tuning))
        tunings.append(STEP * torch.tensor([sum(memory.tuning, ())], dtype=torch.float32))

    qps = [torch.tensor([qp]) for qp in (12, 15, 18, 21)]
    left = [SynthesisGraph(network, "intra")(qps[0], *symbols[:2], tunings[0])]
    moved = (vectors.float(), *left[0])
    left.append(SynthesisGraph(network, "inter")(qps[1], qps[0], *symbols[2:4], *moved, tunings[1]))
    moved += (-vectors.float(), *left[1], share)
    moved = (*symbols[4:6], *moved, tunings[2], *symbols[6:], *moved, tunings[3])
    half = len(moved) // 2
    left.append(SynthesisGraph(network, "bi")(qps[2], qps[0], qps[1], *moved[:half]))
    left.append(SynthesisGraph(network, "inter2")(qps[3], qps[0], *moved[half:]))
    for mine, memory in zip(left, expected, strict=True):
        flat = [plane for planes in memory.pictures for plane in planes]
        for a, b in zip(mine, flat, strict=True):
            assert torch.allclose(a, b, atol=1e-5)


def test_onnxruntime_agrees_with_torch() -> None:
    """The graph of B frames, which has all that the others have, at sizes not traced."""
    pytest.importorskip("onnxscript", reason="needs the extra export")
    runtime = pytest.importorskip("onnxruntime", reason="needs the extra export")
    graph = SynthesisGraph(tiny_network(), "bi")
    session = runtime.InferenceSession(onnx_bytes(graph, None), providers=["CPUExecutionProvider"])
    assert session.get_modelmeta().custom_metadata_map["padding"] == "32"
    names = [*graph.numbers, *(port.name for port in graph.inputs)]
    assert [value.name for value in session.get_inputs()] == names
    for size in ((32, 64), (96, 160)):
        given = example(graph, *size, seed=size[0])
        fed = {name: value.numpy() for name, value in zip(names, given, strict=True)}
        with torch.inference_mode():
            expected = graph(*given)
        for mine, theirs in zip(session.run(None, fed), expected, strict=True):
            assert mine.shape == tuple(theirs.shape)
            assert torch.allclose(torch.from_numpy(mine), theirs, atol=1e-4)


def test_the_command_knows_all_graphs() -> None:
    assert set(KINDS) == set(GRAPHS)


def test_the_command_writes_all_graphs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a stand-in for the exporter, which takes half a minute."""
    pytest.importorskip("onnxscript", reason="needs the extra export")
    monkeypatch.setattr(
        synthesis, "onnx_bytes", lambda graph, size: f"{graph.name} {size}".encode()
    )
    weights = write_weights(tmp_path / "weights")
    monkeypatch.setenv("NVC_WEIGHTS", str(weights.parent))
    given = ["export", "--onnx", str(tmp_path / "t.onnx"), "--weights", weights.stem]
    assert main(given) == 0
    captured = capsys.readouterr()
    assert captured.out.count("any multiple of 32") == 4 and captured.err == ""
    assert main([*given, "--height", "33", "--width", "64", "-y"]) == 0
    for name in GRAPHS:
        assert (tmp_path / f"t.{name}.onnx").read_text() == f"{name} (64, 64)"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--height", "64"], "--height and --width go together"),
        (["--height", "70000", "--width", "64"], "at most 65536"),
        (["--weights", "nothing"], "no weights are called 'nothing'"),
    ],
)
def test_what_cannot_be_exported_is_said_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    if "nothing" in arguments:
        pytest.importorskip("onnxscript", reason="needs the extra export")
    out = tmp_path / "x.onnx"
    assert main(["export", "--onnx", str(out), *arguments]) in (1, 2)
    captured = capsys.readouterr()
    assert message in captured.err and captured.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
