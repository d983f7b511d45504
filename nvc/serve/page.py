"""The files of the page, which travel with the package."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

_MEDIA_TYPES = {
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
    ".html": "text/html",
}


@dataclass(frozen=True)
class Asset:
    """A file of the page and what it is to a browser."""

    data: bytes
    media_type: str


@lru_cache(maxsize=1)
def assets() -> dict[str, Asset]:
    """All files of the page by name; the only ones a server gives."""
    folder = resources.files("nvc.serve") / "assets"
    found = {}
    for item in folder.iterdir():
        ending = item.name[item.name.rfind(".") :]
        if item.is_file() and ending in _MEDIA_TYPES:
            found[item.name] = Asset(item.read_bytes(), _MEDIA_TYPES[ending])
    return found


def asset(name: str) -> Asset | None:
    """One of them; None when there is no such file."""
    return assets().get(name)


def index_page(*, extra: str = "") -> str:
    """The page itself; `extra` goes into its head, before the scripts."""
    text = assets()["index.html"].data.decode()
    return text.replace("<!-- extra -->", extra)
