"""The HTTP side of the page: a few GET routes, each with bounded parameters, for this machine."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from nvc.errors import InputError, NvcError, StreamError, UsageError
from nvc.serve.decoder import Abandoned
from nvc.serve.engine import Engine, Track
from nvc.serve.guard import Guard
from nvc.serve.page import asset, index_page
from nvc.serve.scene import Scene

_STATUS = {UsageError: 400, StreamError: 422, InputError: 422}
_NUMBER = re.compile(r"\d{1,9}", re.ASCII)

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class Stale(Exception):
    """A picture of a file that has been replaced since the page was loaded."""


def create_app(engine: Engine, *, hosts: frozenset[str]) -> Starlette:
    """The application; `hosts` are the names it answers to, as in the Host header, without port."""

    async def page(request: Request) -> Response:
        return Response(index_page(), media_type="text/html")

    async def assets(request: Request) -> Response:
        found = asset(request.path_params["name"])
        if found is None:
            return _error(404, "there is no such file")
        return Response(found.data, media_type=found.media_type)

    async def stream(request: Request) -> Response:
        layout = await engine.open()
        return _json(
            {
                **layout.to_dict(),
                "name": engine.path.name,
                "version": engine.version,
                "reference": engine.has_reference,
                "reference_problem": engine.reference_problem,
            }
        )

    async def scene(request: Request) -> Response:
        layout = engine.layout or await engine.open()
        chosen = Scene.parse(request.query_params, layout)
        return _json({"states": await asyncio.to_thread(chosen.states, layout)})

    async def picture(request: Request) -> Response:
        version, kind = request.path_params["version"], request.path_params["kind"]
        layout = engine.layout or await engine.open()
        if version != engine.version:
            raise Stale
        number = _number(request.path_params["number"], "frame")
        chosen = Scene.parse(request.query_params, layout)
        tracks = {
            "nvc": Track("nvc", chosen),
            "blend": Track("blend", chosen),
            "reference": Track("reference"),
            "x265": Track("x265", layers=chosen.layers),
        }
        if kind not in tracks:
            raise UsageError(f"there is no video {kind[:20]!r}; there are: {', '.join(tracks)}")
        made = await engine.picture(tracks[kind], number, gone=request.is_disconnected)
        # The version in the address is another as soon as the file is.
        headers = {"Cache-Control": "private, max-age=600", "X-Psnr": json.dumps(made.scores)}
        return Response(made.data, media_type="image/png", headers=headers)

    async def x265(request: Request) -> Response:
        layout = engine.layout or await engine.open()
        chosen = Scene.parse(request.query_params, layout)
        return _json(engine.anchor(chosen.layers).to_dict())

    async def tensors(request: Request) -> Response:
        if engine.layout is None:
            await engine.open()
        rows = await engine.tensors(_number(request.path_params["group"], "group"))
        return _json({"tensors": [row.to_dict() for row in rows]})

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        preparing = asyncio.create_task(engine.prepare())
        try:
            yield
        finally:
            preparing.cancel()
            await asyncio.gather(preparing, return_exceptions=True)
            await engine.close()

    routes = [
        Route("/", page),
        Route("/assets/{name}", assets),
        Route("/api/stream", _in_words(stream)),
        Route("/api/scene", _in_words(scene)),
        Route("/api/x265", _in_words(x265)),
        Route("/api/tensors/{group}", _in_words(tensors)),
        Route("/picture/{version}/{kind}/{number}.png", _in_words(picture)),
    ]
    return Starlette(routes=routes, middleware=[Middleware(Guard, hosts=hosts)], lifespan=lifespan)


def _in_words(handler: Handler) -> Handler:
    """Errors that a viewer should read as JSON with the words; the server goes on."""

    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except NvcError as error:
            return _error(_STATUS.get(type(error), 422), str(error))
        except Stale:
            return _error(409, "the file has changed: load the page again")
        except Abandoned:
            return Response(status_code=499)
        except OSError as error:
            return _error(404, f"the file cannot be read: {error.strerror or error}")
        except MemoryError:
            return _error(503, "there is not enough memory to show this")

    return answer


def _json(value: dict[str, Any]) -> Response:
    return JSONResponse(value, headers={"Cache-Control": "no-store"})


def _error(status: int, words: str) -> Response:
    return JSONResponse({"error": words}, status, headers={"Cache-Control": "no-store"})


def _number(text: str, name: str) -> int:
    if not _NUMBER.fullmatch(text):
        raise UsageError(f"{name} is {text[:20]!r}; allowed: a whole number")
    return int(text)
