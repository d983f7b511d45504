"""Screenshots of the page of `nvc serve`, and how long a viewer waits, in headless Chromium.

    python tools/serve_screenshots.py clip.nvc --reference clip.mkv --out docs/serve
    python tools/serve_screenshots.py fit.nvc --reference clip.mkv --out docs/serve --view inr

Starts `nvc serve` in a process of its own, opens the views below, waits until every PSNR of the
clip is drawn, and writes OUT_VIEW.jpg. With --measure it prints milliseconds from the click on a
link to the first picture (five fresh pages) and from a change of layers to its picture (twelve
changes), and the processor time that all processes together took for the first pictures, which
stays the same on a busy machine.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

DESKTOP, PHONE = (1360, 900), (390, 844)
# Name, what the view's address asks for, size, colour scheme.
VIEWS = {
    "desktop": ("loss=8&burst=1&seed=3&protect=1&compare=reference", DESKTOP, "light"),
    "dark": ("layers=2&compare=reference", DESKTOP, "dark"),
    "phone": ("rate=45&compare=reference", PHONE, "light"),
    "inr": ("compare=reference", DESKTOP, "light"),
}
QUALITY = 82  # of the JPEG files


@contextmanager
def serving(arguments: list[str]) -> Iterator[str]:
    """Address of a server that ends with the block."""
    command = [sys.executable, "-m", "nvc", "serve", *arguments, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            if "http://" not in line:
                sys.exit("serve_screenshots: nvc serve did not start")
            yield line[line.index("http://") :].split()[0]
        finally:
            process.terminate()


def seconds_used(root: int) -> float:
    """Processor time of a process and all below it, those that ended included, on Linux."""
    children: dict[int, list[int]] = {}
    ticks: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended
        ticks[int(folder.name)] = sum(map(int, fields[11:15]))
        children.setdefault(int(fields[1]), []).append(int(folder.name))

    def total(process: int) -> int:
        return ticks.get(process, 0) + sum(map(total, children.get(process, ())))

    return total(root) / os.sysconf("SC_CLK_TCK")


def settle(page: Any) -> None:
    """Wait until a picture is shown and the PSNR of every frame is known."""
    page.wait_for_selector("main[aria-busy=false]")
    if not page.evaluate("nvc.app.layout.reference"):
        return
    frame = page.evaluate("nvc.app.player.frame")
    for number in range(page.evaluate("nvc.app.layout.frames")):
        page.evaluate(f"nvc.app.player.seek({number})")
        while page.evaluate("nvc.app.player.pending"):
            page.wait_for_timeout(10)
    page.evaluate(f"nvc.app.player.seek({frame})")
    page.wait_for_timeout(400)


def shoot(browser: Any, address: str, name: str, out: Path, frames: int) -> None:
    """One view into a file."""
    view, (width, height), scheme = VIEWS[name]
    narrow = width < 600
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme=scheme,
        device_scale_factor=2 if narrow else 1,
        has_touch=narrow,
    )
    page = context.new_page()
    page.set_default_timeout(300_000)
    page.goto(f"{address}#{view}&frame={frames // 2 + 3}")
    settle(page)
    path = out.with_name(f"{out.name}_{name}.jpg")
    page.screenshot(path=path, type="jpeg", quality=QUALITY, full_page=not narrow)
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")
    context.close()


def measure(browser: Any, address: str) -> None:
    """Print how long a viewer waits."""
    firsts, used = [], []
    for _ in range(5):
        context = browser.new_context()
        page = context.new_page()
        before = seconds_used(os.getpid())
        page.goto(address + "#still")
        page.wait_for_selector("main[aria-busy=false]")
        used.append(1000 * (seconds_used(os.getpid()) - before))
        firsts.append(page.evaluate("performance.getEntriesByName('first picture')[0].duration"))
        if len(firsts) < 5:
            context.close()
    settle(page)
    layers = page.evaluate("nvc.app.layout.layers")
    for number in range(12):
        page.keyboard.press(str(1 + number % layers))
        page.wait_for_timeout(500)
    switches = page.evaluate("performance.getEntriesByName('switch').map((e) => e.duration)")
    for name, values in (
        ("first picture", firsts),
        ("its processor time", used),
        ("layer switch", switches or [0.0]),
    ):
        print(f"{name}: median {statistics.median(values):.0f} ms, {[round(v) for v in values]}")
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")


def main() -> int:
    """Exit status 0, or what playwright raises."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("file", metavar="FILE.nvc")
    parser.add_argument("--out", type=Path, required=True, help="path that names begin with")
    parser.add_argument("--view", choices=tuple(VIEWS), action="append", help="(the first three)")
    parser.add_argument("--measure", action="store_true", help="only measure, write nothing")
    args, rest = parser.parse_known_args()
    own = shutil.which("chromium") or shutil.which("google-chrome")
    with serving([args.file, *rest]) as address, sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=own, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(address + "#still")
        page.wait_for_selector("main[aria-busy=false]")
        frames = page.evaluate("nvc.app.layout.frames")
        page.close()
        if args.measure:
            measure(browser, address)
        else:
            for name in args.view or ("desktop", "dark", "phone"):
                shoot(browser, address, name, args.out, frames)
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
