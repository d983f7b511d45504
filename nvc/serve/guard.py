"""What keeps other sites out of a server on this machine, and the page from reaching others."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: The page takes nothing from elsewhere; pictures are fetched and shown as blobs.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
MAX_QUERY = 512
EVERYWHERE = frozenset(("0.0.0.0", "::"))  # listening there is listening on every address
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class Guard:
    """ASGI middleware: answers only to its own names and pages, and says so in every response.

    A Host header of another name is refused (a site whose name was pointed at this machine, DNS
    rebinding), an Origin of another page too, and whatever a browser marks as asked for by another
    site, except following a link to the page.
    """

    def __init__(self, app: ASGIApp, *, hosts: frozenset[str]) -> None:
        self._app, self._hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        problem = self._problem(scope)
        if problem is not None:
            await PlainTextResponse(problem, 403, headers=_HEADERS)(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        await self._app(scope, receive, guarded)

    def _problem(self, scope: Scope) -> str | None:
        headers = Headers(scope=scope)
        if not self._is_ours(host_name(headers.get("host", ""))):
            return "this server answers only to the address that nvc serve printed"
        origin = headers.get("origin")
        foreign = origin is not None and urlsplit(origin).netloc.lower() != headers["host"].lower()
        # Anybody may link to the page; what it is made of only it may ask for.
        asked_by = headers.get("sec-fetch-site", "none")
        if foreign or (asked_by not in ("same-origin", "none") and scope["path"] != "/"):
            return "requests from pages of other sites are refused"
        if len(scope["query_string"]) > MAX_QUERY:
            return "the query is too long"
        return None

    def _is_ours(self, host: str) -> bool:
        if host in self._hosts:
            return True
        # Listening everywhere: any address is this machine's, and no name can stand for one.
        return not self._hosts.isdisjoint(EVERYWHERE) and _is_address(host)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def host_name(netloc: str) -> str:
    """The name of `name:port` or `[address]:port`, in small letters."""
    name = netloc.rpartition("@")[2].lower()
    if name.startswith("["):
        return name.partition("]")[0].removeprefix("[")
    return name.partition(":")[0]
