"""The page on the phone: one HTML file without any outside resource, its state once a second, and wishes.

    GET  /TOKEN/         the page
    GET  /TOKEN/state    `Driver.view` as JSON
    POST /TOKEN/do       a wish as `wishes.py` has it; 409 and {"error": why} where it is refused

The token stands in the address that is printed, and is kept beside the record. Without it nothing answers, so a
passer-by on the same network who has not seen the address can't steer, nor can another site in the phone's browser; one
who listens to an unencrypted network can.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import ipaddress
import json
import os
import re
import secrets
import socket
from collections.abc import AsyncGenerator
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from bt_selfsecure.errors import UsageError
from bt_selfsecure.files import whole
from bt_selfsecure.sweep.driver import Driver
from bt_selfsecure.sweep.wishes import NoWishError, read_wish

try:
    from bt_selfsecure.look.pages import digest, page
    from bt_selfsecure.sweep.http import Answer, HttpRequest, HttpServer, RefusedError
except ModuleNotFoundError as error:
    raise UsageError(f"--web needs {error.name}: install it with pip install 'bt-selfsecure[node]'") from error

TOKEN_BYTES: Final = 5
TOKEN: Final = re.compile(f"[0-9a-f]{{{2 * TOKEN_BYTES}}}")
JSON: Final = "application/json"
HTML: Final = "text/html; charset=utf-8"
NAMES_S: Final = 1.0
"""For the machine's name in its domain: in a car park no name server answers."""


def listening(where: str) -> socket.socket:
    """Return a socket that takes connections on "ADDRESS:PORT". Raises `UsageError`: before there is a sweep, or
    anything of it."""
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


def token_beside(record: Path, *, new: bool) -> str:
    """Return the secret part of the page's address: as it was for this record, or a `new` one."""
    file = record.with_name(f"{record.name}.page")
    with contextlib.suppress(OSError, UnicodeDecodeError):
        if not new and TOKEN.fullmatch(token := file.read_text().strip()):
            return token
    token = secrets.token_hex(TOKEN_BYTES)
    with whole(file, 0o600) as part:
        part.write_text(token + "\n")
    return token


@contextlib.asynccontextmanager
async def serve(driver: Driver, listener: socket.socket, token: str) -> AsyncGenerator[str, None]:
    """Serve for the time of the context, which yields the page's address; the sweep goes on where that fails."""
    page = Page(driver, token, await _names(), listener.getsockname()[0])
    server = asyncio.create_task(HttpServer(listener, page.answer, page.headers).run(), name="page")

    def ended(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()):
            driver.tell(f"the page is gone ({error}), and the sweep goes on without it; a new start brings it back")

    server.add_done_callback(ended)
    host, port = listener.getsockname()[:2]
    try:
        yield f"http://{_reachable(host)}:{port}/{token}/"
    finally:
        server.cancel()
        await asyncio.wait([server])


def _reachable(host: str) -> str:
    """Return what to type on the phone."""
    if host not in ("0.0.0.0", "::"):
        return f"[{host}]" if ":" in host else host
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # nothing is sent: it only asks for our address on the way out
            return str(probe.getsockname()[0])
        except OSError:
            return socket.gethostname()


class Page:
    """This is what the phone sees of one sweep."""

    def __init__(self, driver: Driver, token: str, names: frozenset[str], listens_on: str) -> None:
        self._driver, self._root = driver, f"/{token}/"
        self._names, self._listens_on = names, ipaddress.ip_address(listens_on)
        shown = page("sweep/page.html")
        self._page = shown.encode()
        policy = (
            f"default-src 'none'; style-src {digest(shown, 'style')}; script-src {digest(shown, 'script')}; "
            "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        self.headers = {
            "Cache-Control": "no-store",
            "Content-Security-Policy": policy,
            "Cross-Origin-Resource-Policy": "same-origin",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        }

    def answer(self, request: HttpRequest) -> Answer:
        """Return what to say to a request. Raises `RefusedError`."""
        if not self._is_ours(request.headers.get("host", "")):
            raise RefusedError(HTTPStatus.MISDIRECTED_REQUEST)
        if not hmac.compare_digest(request.path[: len(self._root)].encode(), self._root.encode()):
            raise RefusedError(HTTPStatus.NOT_FOUND)
        match request.method, request.path.removeprefix(self._root):
            case "GET", "":
                return Answer(HTTPStatus.OK, self._page, HTML)
            case "GET", "state":
                return self._state(HTTPStatus.OK)
            case "POST", "do":
                return self._do(request)
            case _, "" | "state" | "do":
                raise RefusedError(HTTPStatus.METHOD_NOT_ALLOWED)
        raise RefusedError(HTTPStatus.NOT_FOUND)

    def _is_ours(self, host: str) -> bool:
        """Return whether a request was meant for this machine: a name that somebody else made lead here is not its
        own, nor is an address that another machine has."""
        name = host.rpartition(":")[0] if re.search(r":\d+$", host) else host
        try:
            address = ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return name.lower().removesuffix(".") in self._names
        return address == self._listens_on or _has(address)

    def _state(self, status: HTTPStatus, **more: Any) -> Answer:
        return Answer(status, json.dumps(self._driver.view() | more).encode(), JSON)

    def _do(self, request: HttpRequest) -> Answer:
        headers = request.headers
        site, origin = headers.get("sec-fetch-site", "same-origin"), headers.get("origin")
        if site != "same-origin" or origin not in (None, f"http://{headers['host']}"):
            raise RefusedError(HTTPStatus.FORBIDDEN)
        if headers.get("content-type") != JSON or "content-encoding" in headers:
            raise RefusedError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
        try:
            wish = read_wish(request.body, self._driver.plan)
        except NoWishError as error:
            return self._state(HTTPStatus.BAD_REQUEST, error=str(error))
        if why := self._driver.wish(wish):
            return self._state(HTTPStatus.CONFLICT, error=why)
        return self._state(HTTPStatus.OK)


async def _names() -> frozenset[str]:
    """Return what this machine is called: as it calls itself, as mDNS does, and in its domain, in lower case."""
    own = socket.gethostname().lower()
    names = {"localhost", own, f"{own.partition('.')[0]}.local"}
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(NAMES_S):
            loop = asyncio.get_running_loop()
            found = await loop.getaddrinfo(own, None, type=socket.SOCK_STREAM, flags=socket.AI_CANONNAME)
            names |= {name.lower().removesuffix(".") for *_, name, _ in found if name}
    return frozenset(names)


def _has(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Return whether this machine has the address: one can listen there."""
    if address.is_unspecified or address.is_multicast:
        return False
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.bind((str(address), 0))
        return True
    return False
