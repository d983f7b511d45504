"""nvc report: what is compared with what, BD tables, published curves, the page."""

from __future__ import annotations

import json
import math
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import bjontegaard
import numpy as np
import pytest
from clips import write_clip

from nvc.cli import main
from nvc.commands.report import busiest_part, nearest_in_bytes
from nvc.errors import InputError, UsageError
from nvc.evaluation.report_curves import Curve, CurvePoint, grouped
from nvc.evaluation.report_published import read_published
from nvc.evaluation.report_tables import (
    bd_table,
    contender_table,
    delta,
    markdown_table,
    points_table,
    speed_table,
)

TAKEN = {"seconds": 2.0, "process_seconds": 3.0, "cpu_seconds": 4.0, "peak_memory": 500_000_000}
KINDS = {"x264-medium": "anchor", "x265-medium": "anchor", "mine": "file"}


def row(label: str, sequence: str, rate: float, bpp: float, quality: float, **changes: Any) -> dict:
    """A result as nvc bench writes it."""
    return {
        "key": f"{label}{sequence}{rate}{changes.get('seed')}{changes.get('fingerprint')}",
        "dataset": "set",
        "protocol": "8f-gop32-whole",
        "conditions": "8 frames, an intra frame every 32, whole pictures",
        "sequence": sequence,
        "source": "nowhere.mkv",
        "start": 0,
        "crop": None,
        "label": label,
        "kind": KINDS.get(label, "codec"),
        "rate_kind": "qp",
        "rate": rate,
        "seed": None,
        "fingerprint": "one",
        "frames": 8,
        "width": 100,
        "height": 50,
        "bytes": round(bpp * 8 * 5000 / 8),
        "bpp": bpp,
        "psnr_yuv": quality,
        "psnr_y": quality - 1,
        "ms_ssim": None,
        "encode": TAKEN,
        "decode": TAKEN,
        "file": "files/none.mkv",
        "commands": {"encode": ["python", "-m", "nvc", "encode", "/far/away.mkv", "out.nvc"]},
        "device": "cpu",
        "threads": 1,
        "machine": {"cpu": "abacus", "cores": 1, "system": "Linux"},
        "versions": {"nvc": "0", "av": "18"},
        **changes,
    }


def some_results() -> list[dict]:
    """Two codecs of ours and two anchors on two sequences, four rates each, rising."""
    generator = np.random.default_rng(3)
    rows = []
    for sequence in ("one", "two"):
        for label in ("x264-medium", "x265-medium", "dhvc", "hnerv"):
            bpp = 0.02 * np.exp(np.cumsum(generator.uniform(0.5, 0.9, 4)))
            quality = 30 + np.cumsum(generator.uniform(1.5, 3, 4))
            values = zip(bpp, quality, strict=True)
            rows += [
                row(label, sequence, number, float(rate), float(psnr))
                for number, (rate, psnr) in enumerate(values)
            ]
    return rows


def test_the_table_agrees_with_the_bjontegaard_package() -> None:
    (group,) = grouped(some_results())
    table = bd_table(group, "x264-medium", "psnr_yuv")
    assert list(table.deltas) == ["dhvc", "hnerv", "x265-medium"]
    for label, deltas in table.deltas.items():
        expected: dict[str, list[float]] = {"bd_rate": [], "bd_psnr": []}
        for sequence in ("one", "two"):
            curves = [group.curve(name, sequence, "psnr_yuv") for name in ("x264-medium", label)]
            numbers = [values for curve in curves for values in (curve.rates, curve.qualities)]
            for name, found in expected.items():
                found.append(
                    getattr(bjontegaard, name)(
                        *numbers, method="pchip", require_matching_points=False, min_overlap=0
                    )
                )
            assert deltas[sequence].rate == pytest.approx(expected["bd_rate"][-1], rel=1e-6)
            assert deltas[sequence].quality == pytest.approx(expected["bd_psnr"][-1], rel=1e-6)
        rate, gain, *counts = table.means[label]
        assert rate == pytest.approx(np.mean(expected["bd_rate"]))
        assert gain == pytest.approx(np.mean(expected["bd_psnr"]))
        assert counts == [2, 2]
    assert f"| **mean** | {table.means['dhvc'][0]:+.1f} %" in markdown_table(table)
    with pytest.raises(UsageError, match="'vvc' is not in the results; there are: dhvc, hnerv"):
        bd_table(group, "vvc", "psnr_yuv")


def curve(*pairs: tuple[float, float]) -> Curve:
    return Curve("a", tuple(CurvePoint(*pair) for pair in pairs))


def test_what_cannot_be_compared_has_no_figure() -> None:
    anchor = curve((0.1, 30), (0.2, 33), (0.4, 36))
    apart = delta(anchor, curve((0.1, 20), (0.3, 25)))
    assert apart.rate is None and "no range of quality" in apart.why
    assert apart.quality == pytest.approx(-10, abs=1.5)
    assert apart.rate_overlap == 0 and apart.quality_overlap == 1
    falling = delta(anchor, curve((0.1, 31), (0.3, 30)))
    assert (falling.rate, falling.quality) == (None, None)
    assert "rise strictly" in falling.why
    little = delta(anchor, curve((0.3, 35), (0.9, 45)))
    assert little.rate_overlap == pytest.approx(1 / 6)


def test_deltas_over_ms_ssim_are_over_decibels() -> None:
    rows = [
        row(label, "one", number, rate * 2**number, 30, ms_ssim=1 - 0.1 * 0.5**number)
        for label, rate in (("x264-medium", 0.1), ("dhvc", 0.05))
        for number in range(4)
    ]
    (group,) = grouped(rows)
    found = bd_table(group, "x264-medium", "ms_ssim").deltas["dhvc"]["one"]
    # Half the rate; and at equal rate half the distance from 1.
    assert found.rate == pytest.approx(-50)
    assert found.quality == pytest.approx(10 * math.log10(2))


def test_protocols_and_weights_are_never_mixed() -> None:
    rows = some_results()
    rows += [row("dhvc", "one", 0, 0.1, 30, protocol="96f-gop32-whole")]
    assert [group.name for group in grouped(rows)] == ["set-8f-gop32-whole", "set-96f-gop32-whole"]
    newer = [row("dhvc", "one", 0, 0.5, 41, fingerprint="two")]
    (group,) = grouped([*some_results(), *newer])
    assert group.outdated == {"dhvc": 8}
    assert [entry["bpp"] for entry in group.of("dhvc")] == [0.5]
    assert len(group.of("hnerv")) == 8


def test_kinds_of_frames_have_their_own_curves() -> None:
    rows = [
        row(label, "one", number, 0.1 * 2**number, 30 + 2 * number, intra=intra)
        for label, factor in (("x264-medium", 1.0), ("dhvc", 0.5))
        for number in range(4)
        for intra in [{"bpp": factor * 2**number, "psnr_yuv": 31 + 2 * number, "frames": 1}]
    ]
    (group,) = grouped([*rows, row("x265-medium", "one", 0, 0.1, 30, intra=None)])
    table = contender_table(group, "dhvc", "psnr_yuv").splitlines()
    assert table[0] == "| BD-rate of dhvc against | x264-medium | x265-medium |"
    assert table[2:] == ["| one | +0.0 % | - |", "| **mean** | +0.0 % | - (0 of 1) |"]
    table = contender_table(group, "dhvc", "intra_psnr_yuv").splitlines()
    assert table[2:] == ["| one | -50.0 % |", "| **mean** | -50.0 % |"]
    assert contender_table(group, "dhvc", "inter_psnr_yuv") == ""
    assert (
        points_table(group, "dhvc").splitlines()[2].startswith("| one | 3 | 4000 | 0.8000 | 35.00")
    )
    assert " | 4.0000 / 37.00 | " in points_table(group, "dhvc")


def test_seeds_become_error_bars_and_sequences_a_mean() -> None:
    rows = [
        row("hnerv", sequence, rate, bpp, quality + sign, seed=seed)
        for sequence, quality in (("one", 30.0), ("two", 34.0))
        for rate, bpp in ((1, 0.1), (2, 0.2))
        for seed, sign in ((0, 0.5), (1, -0.5))
    ]
    (group,) = grouped([*rows, row("hnerv", "three", 1, 0.1, 50)])
    point = group.curve("hnerv", "one", "psnr_yuv").points[0]
    assert (point.rate, point.quality, point.rate_deviation) == (0.1, 30, 0)
    assert point.quality_deviation == pytest.approx(np.std([0.5, -0.5], ddof=1))
    # A sequence with one point has no curve, and no part in the mean.
    assert group.common_sequences("psnr_yuv") == ["one", "two"]
    average = group.average("hnerv", "psnr_yuv")
    assert average.rates == [0.1, 0.2] and average.qualities == [32, 32]
    assert average.points[0].quality_deviation == pytest.approx(0.5)


def test_a_contender_that_is_not_done_does_not_narrow_the_mean() -> None:
    started = [row("slow", "two", rate, 0.1 * rate, 30 + rate) for rate in (1, 2)]
    (group,) = grouped([*some_results(), *started])
    assert group.common_sequences("psnr_yuv") == ["one", "two"]
    assert group.average("slow", "psnr_yuv") is None
    assert len(group.average("dhvc", "psnr_yuv").points) == 4
    assert group.average("dhvc", "ms_ssim") is None


def test_speed_is_per_megapixel() -> None:
    (group,) = grouped([row("dhvc", "one", rate, 0.1, 30) for rate in (1, 2)])
    (line,) = speed_table(group)
    megapixels = 8 * 100 * 50 / 1e6
    assert line["encode"]["seconds"] == pytest.approx(2 / megapixels)
    assert line["decode"]["peak_memory"] == 500_000_000
    (group,) = grouped([row("mine", "one", 1, 0.1, 30, encode=None)])
    assert speed_table(group)[0]["encode"] is None


def test_compressai_curves_are_read_on_our_axes(tmp_path: Path) -> None:
    path = tmp_path / "x265.json"
    results = {"bitrate": [24883.2, 2488.32], "psnr-y": [40, 36], "psnr-u": [44, 40]}
    results |= {"psnr-v": [48, 44], "psnr-yuv": [1, 1], "ms-ssim-rgb": [1, 1], "q": ["a", "b"]}
    path.write_text(json.dumps({"name": "x265", "results": results}))
    (found,) = read_published(f"uvg={path}")
    assert (found.name, found.dataset) == ("x265", "uvg")
    curve = found.average["psnr_yuv"]
    assert curve.rates == pytest.approx([0.01, 0.1])  # kbit/s at 1920x1080, 120 a second
    assert curve.qualities == pytest.approx([(6 * 36 + 84) / 8, (6 * 40 + 92) / 8])
    assert "ms_ssim" not in found.average
    with pytest.raises(UsageError, match="write uvg="):
        read_published(str(path))


def dcvc_point(bpp: float, psnr: float, **more: float) -> dict[str, float]:
    return {"ave_all_frame_bpp": bpp, "ave_all_frame_psnr": psnr, **more}


def test_dcvc_curves_are_read_by_set_and_sequence(tmp_path: Path) -> None:
    path = tmp_path / "vtm.json"
    planes = {f"ave_all_frame_psnr_{name}": 35.0 for name in "yuv"}
    sequences = {
        f"{name}_1920x1080_120fps_420_8bit_YUV.yuv": {
            "022": dcvc_point(0.2, 40 + add, **planes),
            "037": dcvc_point(0.1, 36 + add, **planes),
        }
        for name, add in (("Beauty", 0), ("Jockey", 2))
    }
    rgb = {"a_30.yuv": {"0": dcvc_point(0.1, 30), "1": dcvc_point(0.2, 33)}}
    path.write_text(json.dumps({"UVG": sequences, "MCL-JCV": rgb}))
    uvg, mcl = read_published(str(path))
    assert (uvg.name, uvg.dataset, mcl.dataset) == ("vtm", "uvg", "mcl_jcv")
    assert uvg.sequences["Jockey"]["psnr_yuv"].qualities == [38, 42]
    assert uvg.average["psnr_yuv"].qualities == [37, 41]
    assert uvg.average["psnr_u"].rates == [0.1, 0.2]
    assert set(mcl.average) == {"psnr_rgb"}
    assert [entry.dataset for entry in read_published(f"uvg={path}")] == ["uvg"]


@pytest.mark.parametrize("text", ["{", "[1]", '{"UVG": {"a": {"0": {"bpp": 1}}}}', '{"UVG": {}}'])
def test_other_json_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"other\.json: (not JSON|neither in)"):
        read_published(str(path))


def test_pictures_are_of_about_equal_bytes() -> None:
    made = [
        [row(label, "one", size, 0.1, 30, bytes=size) for size in sizes]
        for label, sizes in (("a", (10, 100, 1000)), ("b", (105, 400)), ("c", (5, 95, 9000)))
    ]
    assert [entry["bytes"] for entry in nearest_in_bytes(made)] == [100, 105, 95]


def test_the_busiest_part_is_found() -> None:
    picture = np.zeros((300, 400, 3), np.uint8)
    picture[150:260:2, 200:350] = 255
    top, left = busiest_part(picture)
    assert 140 <= top <= 150 and 190 <= left <= 200
    assert busiest_part(picture[:50, :60]) == (0, 0)


def test_a_page_that_needs_nothing_else(tmp_path: Path, capsys) -> None:
    source = write_clip(tmp_path / "one.mkv", width=100, height=50, frames=8)
    (tmp_path / "files").mkdir()
    lossy = write_clip(
        tmp_path / "files" / "a.mp4", width=100, height=50, frames=8, options={"crf": "40"}
    )
    rows = [
        {**entry, "source": str(source), "file": f"files/{lossy.name}"} for entry in some_results()
    ]
    (tmp_path / "results.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in rows))
    published = tmp_path / "p.json"
    points = {"0": dcvc_point(0.05, 31), "1": dcvc_point(0.2, 36)}
    published.write_text(json.dumps({"set": {"one_30.yuv": points}}))
    command = ["report", str(tmp_path), "--metric", "psnr_yuv", "--published", str(published)]
    assert main([*command, "--pictures", "one"]) == 0
    assert "| BD-rate against x264-medium | dhvc | hnerv | x265-medium |" in capsys.readouterr().out
    out = tmp_path / "report"
    page = (out / "index.html").read_text()
    assert not re.findall(r"<script|<link|@import|(?:src|href)=[\"']?(?!data:|\")", page)
    assert page.count("data:image/png") == 5  # the original and four contenders
    assert "set-8f-gop32-whole" in page and "<details>" in page
    # Nothing of a machine's folders.
    assert "/far/" not in page and str(tmp_path) not in page
    for name in ("psnr_yuv_average", "psnr_yuv_sequences"):
        svg = out / f"set-8f-gop32-whole_{name}.svg"
        assert ElementTree.parse(svg).getroot().tag.endswith("svg")
        assert svg.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert (out / "sequences" / "set-8f-gop32-whole_psnr_yuv_two.png").is_file()
    (group,) = json.loads((out / "report.json").read_text())["groups"]
    assert group["labels"] == ["dhvc", "hnerv", "x264-medium", "x265-medium"]
    assert group["bd"][0]["means"]["dhvc"]["sequences"] == [2, 2]
    assert main([*command, "--pictures", "none", "--of", "dhvc"]) == 0
    printed = capsys.readouterr().out
    assert "| BD-rate of dhvc against | x264-medium | x265-medium |" in printed
    assert len(re.findall(r"^\| (one|two) \| \d ", printed, re.MULTILINE)) == 8  # every point of it
    for bad, message in (
        (["--of", "av2"], "--of av2: no result is called that"),
        (["--pictures", "three"], "no sequence is called three; there are: one, two"),
        (["--metric", "lpips"], "measure 'lpips' is not known"),
    ):
        assert main([*command, *bad]) == 2
        assert message in capsys.readouterr().err


def test_without_results_there_is_no_report(tmp_path: Path, capsys) -> None:
    assert main(["report", str(tmp_path)]) == 1
    assert "there is no results.jsonl in it" in capsys.readouterr().err
