"""The page on the phone: one HTML file without any outside resource, its state once a second, four wishes.

    GET  /TOKEN/         the page
    GET  /TOKEN/state    `Driver.view` as JSON
    POST /TOKEN/do       {"wish": "placed" | "skip" | "stop" | "redo", "turn": 0, "distance_m": 3.0}

The token is drawn at each start and stands in the address that is printed. Without it nothing answers, so a passer-by
on the same network who has not seen the address can't steer; one who listens to an unencrypted network can.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
from collections.abc import AsyncGenerator
from importlib import resources
from typing import Any, Final

from bt_selfsecure.errors import UsageError
from bt_selfsecure.sweep.driver import Driver
from bt_selfsecure.sweep.machine import Input, Placed, Redo, Skip, Stop
from bt_selfsecure.sweep.plan import Place

try:
    from aiohttp import web
except ImportError as error:
    raise UsageError("--web needs aiohttp: install it with pip install 'bt-selfsecure[node]'") from error

MAX_REQUEST_BYTES: Final = 1024
TOKEN_BYTES: Final = 5
HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def listening(where: str) -> socket.socket:
    """What takes connections on "ADDRESS:PORT". Raises `UsageError`: before there is a sweep, or anything of it."""
    host, _, port = where.rpartition(":")
    if not host or not port.isdecimal() or not 0 <= int(port) <= 0xFFFF:
        raise UsageError(f"--web {where} is no place to listen on: write ADDRESS:PORT, as in 0.0.0.0:8700")
    family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
    try:
        return socket.create_server((host.strip("[]"), int(port)), family=family)
    except OSError as error:
        why = (
            os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        )  # getaddrinfo's are below 0
        raise UsageError(f"--web can't listen on {where} ({why}): take another address or port") from None


@contextlib.asynccontextmanager
async def serve(driver: Driver, listener: socket.socket) -> AsyncGenerator[str, None]:
    """Serve for the time of the context, which is the page's address; `listener` is closed then."""
    page = Page(driver, secrets.token_hex(TOKEN_BYTES))
    runner = web.AppRunner(page.application, access_log=None)
    await runner.setup()
    try:
        await web.SockSite(runner, listener).start()
        host, port = listener.getsockname()[:2]
        yield f"http://{_reachable(host)}:{port}/{page.token}/"
    finally:
        await runner.cleanup()


def _reachable(host: str) -> str:
    """What to type on the phone."""
    if host not in ("0.0.0.0", "::"):
        return f"[{host}]" if ":" in host else host
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # nothing is sent: it only asks for our address on the way out
            return str(probe.getsockname()[0])
        except OSError:
            return socket.gethostname()


class Page:
    """What the phone sees of one sweep."""

    def __init__(self, driver: Driver, token: str) -> None:
        self.token = token
        self._driver = driver
        self.application = web.Application(client_max_size=MAX_REQUEST_BYTES)
        self.application.add_routes(
            [
                web.get(f"/{token}/", self._page),
                web.get(f"/{token}/state", self._state),
                web.post(f"/{token}/do", self._do),
            ]
        )

    async def _page(self, request: web.Request) -> web.Response:
        text = resources.files("bt_selfsecure.sweep").joinpath("page.html").read_text()
        return web.Response(text=text, content_type="text/html", headers=HEADERS)

    async def _state(self, request: web.Request) -> web.Response:
        return web.json_response(self._driver.view(), headers=HEADERS)

    async def _do(self, request: web.Request) -> web.Response:
        try:
            wish = _wish(json.loads(await request.read()))
        except (ValueError, KeyError, TypeError, AttributeError):
            return web.json_response({"error": "no such wish"}, status=400, headers=HEADERS)
        self._driver.do(wish)
        return web.json_response(self._driver.view(), headers=HEADERS)


def _wish(values: dict[str, Any]) -> Input:
    match values["wish"]:
        case "placed":
            return Placed()
        case "skip":
            return Skip()
        case "stop":
            return Stop()
        case "redo":
            return Redo(Place(int(values["turn"]), float(values["distance_m"])))
    raise ValueError
