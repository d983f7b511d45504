"""Run the server: a socket, its address on stdout, a decoder that is warm before anyone asks."""

from __future__ import annotations

import asyncio
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import uvicorn

from nvc.errors import NvcError, UsageError
from nvc.serve.app import create_app
from nvc.serve.engine import Engine, Track
from nvc.serve.guard import EVERYWHERE
from nvc.serve.scene import Scene

MAX_REQUESTS = 96  # at once, of all viewers
LOOPBACK = frozenset(("127.0.0.1", "localhost", "::1"))


def serve(
    path: Path,
    *,
    reference: str | None,
    selection: dict[str, Any],
    device: str,
    host: str,
    port: int,
) -> int:
    """Serve until interrupted. Raises UsageError when the port is taken."""
    listening = listen(host, port)
    shown = socket.gethostname() if host in EVERYWHERE else host
    name = f"[{shown}]" if ":" in shown else shown
    address = f"http://{name}:{listening.getsockname()[1]}/"
    hosts = LOOPBACK | {host, shown.lower()}
    if host not in LOOPBACK:
        print(f"nvc: warning: anyone who reaches {host} can watch this", file=sys.stderr)

    async def main() -> None:
        engine = Engine(path, reference=reference, selection=selection, device=device)
        try:
            layout = await engine.open()
            first = Track("nvc", Scene(layers=layout.layers))
            await engine.picture(first, 0)
        except (NvcError, OSError) as error:
            print(f"nvc: warning: {' '.join(str(error).split())}", file=sys.stderr)
        if engine.reference_problem:
            print(f"nvc: warning: {engine.reference_problem}", file=sys.stderr)
        print(f"{path.name} is shown at {address}  (ctrl-C ends)", flush=True)
        await make_server(engine, hosts=hosts).serve(sockets=[listening])

    with suppress(KeyboardInterrupt):
        asyncio.run(main())
    return 0


def make_server(engine: Engine, *, hosts: frozenset[str] = LOOPBACK) -> uvicorn.Server:
    """The server of an engine, to be run in the event loop that the engine was made in."""
    config = uvicorn.Config(
        create_app(engine, hosts=hosts),
        log_level="warning",
        access_log=False,
        server_header=False,
        limit_concurrency=MAX_REQUESTS,
        timeout_graceful_shutdown=2,
        ws="none",
    )
    return uvicorn.Server(config)


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 takes a free one. Raises UsageError when it cannot be had."""
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise UsageError(
            f"port {port} of {host} cannot be used ({error.strerror}): give another with --port"
        ) from error
    listening.listen(64)
    return listening
