"""The server of the page: what it answers, what it refuses, that nothing takes it down."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from clips import write_clip
from serving import FRAMES, HEIGHT, WIDTH, Made, Served, made_stream, served

import nvc
from nvc.cli import main
from nvc.evaluation.compare import plane_scores
from nvc.video.reader import open_video
from nvc.video.stills import encode_still

pytest.importorskip("starlette", reason="the extra 'demo' is not installed")
pytest.importorskip("uvicorn", reason="the extra 'demo' is not installed")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    with made_stream(tmp_path_factory.mktemp("serve")) as made:
        yield made


@pytest.fixture(scope="module")
def server(made: Made) -> Iterator[Served]:
    with served(made.stream, reference=str(made.clip)) as server:
        yield server


def picture_path(server: Served, number: int, kind: str = "nvc", query: str = "") -> str:
    version = json.loads(server.get("api/stream").body)["version"]
    return f"picture/{version}/{kind}/{number}.png?{query}"


def test_the_stream_is_described(made: Made, server: Served) -> None:
    stream = json.loads(server.get("api/stream").body)
    assert (stream["width"], stream["height"], stream["frames"]) == (WIDTH, HEIGHT, FRAMES)
    assert stream["bytes"] == made.stream.stat().st_size and stream["reference"] is True
    assert str(made.stream.parent) not in json.dumps(stream)


@pytest.mark.parametrize("number", [0, 11])
@pytest.mark.parametrize("layers", [1, 2])
def test_a_picture_is_the_decoded_frame(
    made: Made, server: Served, number: int, layers: int
) -> None:
    answer = server.get(picture_path(server, number, query=f"layers={layers}"))
    assert answer.status == 200 and answer.headers["content-type"] == "image/png"
    with nvc.open(made.stream, device="cpu", layers=layers) as video, open_video(made.clip) as clip:
        frame, info = video[number], video.info
        original = list(clip)[number]
        assert answer.body == encode_still(frame, info)
        scores = plane_scores(original, frame, clip.info, info)
    assert json.loads(answer.headers["x-psnr"]) == pytest.approx(scores)


def test_the_original_is_shown_as_it_is(made: Made, server: Served) -> None:
    answer = server.get(picture_path(server, 4, "reference"))
    with open_video(made.clip) as clip:
        assert answer.body == encode_still(list(clip)[4], clip.info)


def test_x265_is_made_at_about_the_same_bytes(made: Made, server: Served) -> None:
    for _ in range(600):
        state = json.loads(server.get("api/x265?layers=1").body)
        if state["state"] != "encoding":
            break
        time.sleep(0.05)
    assert state["state"] == "ready" and state["options"]["preset"] == "medium"
    assert state["target"] < made.stream.stat().st_size
    assert state["bytes"] > 0 and "path" not in state
    answer = server.get(picture_path(server, 2, "x265", "layers=1"))
    assert answer.status == 200 and json.loads(answer.headers["x-psnr"])["psnr_y"] > 10


def test_viewers_at_once_each_see_their_own(made: Made, server: Served) -> None:
    queries = ["layers=1", "layers=2", "loss=30&seed=4", "loss=30&seed=9&burst=4", "rate=30"]
    paths = [picture_path(server, n, query=query) for query in queries for n in (3, 13)]
    with ThreadPoolExecutor(len(paths)) as viewers:
        bodies = [answer.body for answer in viewers.map(server.get, paths)]
    assert bodies == [server.get(path).body for path in paths]
    assert len(set(bodies)) > 6 and all(body.startswith(b"\x89PNG") for body in bodies)


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "evil.example:8765"},
        {"Host": "127.0.0.1.evil.example"},
        {"Origin": "https://evil.example"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
    ids=str,
)
def test_other_sites_are_refused(server: Served, headers: dict[str, str]) -> None:
    for path in ("api/stream", "assets/app.js"):
        answer = server.get(path, headers)
        assert answer.status == 403 and b"{" not in answer.body


def test_the_page_may_be_linked_to_and_takes_nothing_from_elsewhere(server: Served) -> None:
    answer = server.get("", {"Sec-Fetch-Site": "cross-site"})
    assert answer.status == 200
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and not re.search(r"https?:|\*|unsafe", policy)
    assert "access-control-allow-origin" not in answer.headers
    text = answer.body.decode()
    names = re.findall(r'(?:src|href)="([^"]+)"', text)
    for name in names:
        found = server.get(name)
        assert found.status == 200 and not re.search(rb"https?://(?!www\.w3\.org)", found.body)


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("api/scene?loss=51", 400, "loss is 51; allowed: 0 to 50"),
        ("api/scene?loss=-1", 400, "allowed: a whole number"),
        ("api/scene?layers=0", 400, "layers is 0"),
        ("api/x265?layers=0", 400, "layers is 0"),
        ("api/tensors/x", 400, "group is 'x'"),
        ("api/tensors/0", 400, "of a dhvc file go is not known here"),
        ("picture/VERSION/nvc/99.png", 400, f"frame 99 of a video of {FRAMES} frames"),
        ("picture/VERSION/nvc/1e9.png", 400, "allowed: a whole number"),
        ("picture/VERSION/other/0.png", 400, "there is no video 'other'"),
        ("picture/1234/nvc/0.png", 409, "the file has changed"),
        ("assets/none.js", 404, "there is no such file"),
    ],
)
def test_what_cannot_be_meant_is_said_in_words(
    server: Served, path: str, status: int, words: str
) -> None:
    version = json.loads(server.get("api/stream").body)["version"]
    answer = server.get(path.replace("VERSION", version))
    assert (answer.status, words in json.loads(answer.body)["error"]) == (status, True)


@pytest.mark.parametrize(
    "path",
    ["assets/../app.py", "assets/%2e%2e/app.py", "assets/..%2fapp.py", "..%2f..%2fetc/passwd"],
)
def test_only_the_page_can_be_had(server: Served, path: str) -> None:
    assert server.get(path).status == 404


def test_a_long_query_is_refused(server: Served) -> None:
    assert server.get("api/scene?" + "a" * 600).status == 403


def test_a_broken_file_is_words_and_a_good_one_then_a_picture(made: Made, tmp_path: Path) -> None:
    path = tmp_path / "clip.nvc"
    path.write_bytes(b"not a stream at all")
    with served(path, reference=str(made.clip)) as server:
        for asked in ("api/stream", "api/scene", "picture/0/nvc/0.png"):
            answer = server.get(asked)
            assert answer.status == 422 and "not an nvc file" in json.loads(answer.body)["error"]
        path.write_bytes(made.stream.read_bytes())
        first = picture_path(server, 0)
        assert server.get(first).status == 200
        # Replaced while a page is open: the old page is told, a new one sees the new file.
        cut = made.stream.read_bytes()[:-150]
        path.write_bytes(cut)
        stream = json.loads(server.get("api/stream").body)
        assert stream["damage"] and stream["bytes"] == len(cut)
        assert server.get(first).status == 409
        assert server.get(picture_path(server, 0)).status == 200
        path.unlink()
        answer = server.get("api/stream")
        assert answer.status == 404 and "cannot be read" in json.loads(answer.body)["error"]
        assert server.get("").status == 200


def test_a_reference_that_is_short_leaves_figures_out(made: Made) -> None:
    with served(made.stream, reference=str(made.clip), selection={"frames": 3}) as server:
        scores = [
            json.loads(server.get(picture_path(server, number)).headers["x-psnr"])
            for number in (2, 3)
        ]
        assert scores[0]["psnr_y"] > 10 and scores[1] == {}
        answer = server.get(picture_path(server, 3, "reference"))
        assert answer.status == 422 and "clip.mkv has no such frame" in answer.body.decode()


def test_a_reference_of_another_size_is_words(made: Made, tmp_path: Path) -> None:
    other = write_clip(tmp_path / "other.mkv", width=64, height=48, frames=2)
    with served(made.stream, reference=str(other)) as server:
        stream = json.loads(server.get("api/stream").body)
        assert stream["reference"] is False and "give --crop" in stream["reference_problem"]
        answer = server.get(picture_path(server, 0))
        assert answer.status == 200 and json.loads(answer.headers["x-psnr"]) == {}
        words = json.loads(server.get("api/x265").body)["error"]
        assert "--reference" in words


def test_the_page_is_exported_whole(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "page"
    command = ["serve", str(made.stream), "--export", str(folder), "--device", "cpu"]
    assert main([*command, "--reference", str(made.clip), "--frames", str(FRAMES)]) == 0
    assert "open index.html" in capsys.readouterr().out
    text = (folder / "data.js").read_text()
    data = json.loads(text[text.index("{") : text.rindex("}") + 1])
    stream, scenes = data["stream"], data["scenes"]
    assert (stream["frames"], stream["layers"], stream["reference"]) == (FRAMES, 2, True)
    for entry in scenes:
        pictures = sorted((folder / "pictures" / entry["folder"]).iterdir())
        assert len(pictures) == FRAMES == len(entry["psnr"])
        assert pictures[0].read_bytes()[8:12] == b"WEBP"
    whole = next(e for e in scenes if e["scene"]["layers"] == 2 and set(e["states"]) == {"a"})
    worse = [sum(entry["psnr"]) for entry in scenes if entry is not whole]
    assert sum(whole["psnr"]) > max(worse)
    assert {"reference", "x265_1", "x265_2"} <= {
        item.name for item in (folder / "pictures").iterdir()
    }
    assert all(state["state"] == "ready" for state in data["x265"].values())
    page = (folder / "index.html").read_text()
    assert "data.js" in page and not re.search(r"https?://", page)
    for name in re.findall(r'(?:src|href)="([^"]+)"', page):
        assert (folder / name).is_file(), name
    # Nothing is replaced unasked, and only such a page ever.
    assert main(command) == 2
    (folder / "data.js").unlink()
    assert main([*command, "-y"]) == 2
    assert "no exported page" in capsys.readouterr().err
    assert sorted(item.name for item in tmp_path.iterdir()) == ["page"]


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["none.nvc"], 1, "No such file"),
        (["FILE", "--frames", "3"], 2, "--reference"),
        (["FILE", "--host", "example.com"], 2, "is no address"),
        (["FILE", "--reference", "none.mkv", "--export", "page"], 1, "no such file"),
    ],
)
def test_bad_options_are_one_line(
    made: Made,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    status: int,
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    given = [str(made.stream) if text == "FILE" else text for text in arguments]
    assert main(["serve", *given, "--device", "cpu"]) == status
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_port_that_is_taken_is_one_line(
    made: Made, server: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", str(made.stream), "--port", str(server.port), "--device", "cpu"]) == 2
    assert "cannot be used" in capsys.readouterr().err
