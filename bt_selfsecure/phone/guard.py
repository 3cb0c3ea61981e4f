"""Who is let in to a page on the phone: whoever knows its address, from that page itself.

The token stands in the address that is printed. Without it nothing answers, so a passer-by on the same network who has
not seen the address can't steer, nor can another site in the phone's browser; one who listens to an unencrypted network
can.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import ipaddress
import os
import re
import secrets
import socket
from http import HTTPStatus
from typing import Final

from bt_selfsecure.errors import UsageError

try:
    from bt_selfsecure.look.pages import digest, page
    from bt_selfsecure.phone.http import Answer, HttpRequest, RefusedError
except ModuleNotFoundError as error:
    raise UsageError(f"a page needs {error.name}: install it with pip install 'bt-selfsecure[node]'") from error

TOKEN_BYTES: Final = 5
TOKEN: Final = re.compile(f"[0-9a-f]{{{2 * TOKEN_BYTES}}}")
JSON: Final = "application/json"
HTML: Final = "text/html; charset=utf-8"
NAMES_S: Final = 1.0
"""For the machine's name in its domain: in a car park no name server answers."""


def listening(where: str, option: str) -> socket.socket:
    """Return a socket that takes connections on "ADDRESS:PORT", as the option says. Raises `UsageError`."""
    host, _, port = where.rpartition(":")
    if not host or not port.isdecimal() or not 0 <= int(port) <= 0xFFFF:
        raise UsageError(f"{option} {where} is no place to listen on: write ADDRESS:PORT, as in 0.0.0.0:8700")
    family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
    try:
        return socket.create_server((host.strip("[]"), int(port)), family=family)
    except OSError as error:
        why = (
            os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        )  # getaddrinfo's are below 0
        raise UsageError(f"{option} can't listen on {where} ({why}): take another address or port") from None


def drawn_token() -> str:
    """Return the secret part of a page's address, at random."""
    return secrets.token_hex(TOKEN_BYTES)


class Guard:
    """Lets requests in, or not; `headers` go with every answer, also with a refusal."""

    def __init__(self, template: str, token: str, names: frozenset[str], listens_on: str) -> None:
        self._root = f"/{token}/"
        self._names, self._listens_on = names, ipaddress.ip_address(listens_on)
        shown = page(template)
        self.page: Final = Answer(HTTPStatus.OK, shown.encode(), HTML)
        policy = (
            f"default-src 'none'; style-src {digest(shown, 'style')}; script-src {digest(shown, 'script')}; "
            "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        self.headers: Final = {
            "Cache-Control": "no-store",
            "Content-Security-Policy": policy,
            "Cross-Origin-Resource-Policy": "same-origin",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        }

    def is_inside(self, path: str) -> bool:
        """Return whether a path has the token."""
        return hmac.compare_digest(path[: len(self._root)].encode(), self._root.encode())

    def inside(self, request: HttpRequest) -> str:
        """Return what is asked for, as "state". Raises `RefusedError` for who does not know the address."""
        if not self._is_ours(request.headers.get("host", "")):
            raise RefusedError(HTTPStatus.MISDIRECTED_REQUEST)
        if not self.is_inside(request.path):
            raise RefusedError(HTTPStatus.NOT_FOUND)
        return request.path.removeprefix(self._root)

    @staticmethod
    def require_own(request: HttpRequest, *kinds: str) -> None:
        """Take a body of one of these content types, that the page itself has sent. Raises `RefusedError`."""
        headers = request.headers
        site, origin = headers.get("sec-fetch-site", "same-origin"), headers.get("origin")
        if site != "same-origin" or origin not in (None, f"http://{headers['host']}"):
            raise RefusedError(HTTPStatus.FORBIDDEN)
        if headers.get("content-type") not in kinds or "content-encoding" in headers:
            raise RefusedError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE)

    def _is_ours(self, host: str) -> bool:
        """Return whether a request was meant for this machine: a name that somebody else made lead here is not its
        own, nor is an address that another machine has."""
        name = host.rpartition(":")[0] if re.search(r":\d+$", host) else host
        try:
            address = ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return name.lower().removesuffix(".") in self._names
        return address == self._listens_on or _has(address)


def address_of(listener: socket.socket, token: str) -> str:
    """Return what to type on the phone."""
    host, port = listener.getsockname()[:2]
    return f"http://{_reachable(host)}:{port}/{token}/"


def _reachable(host: str) -> str:
    if host not in ("0.0.0.0", "::"):
        return f"[{host}]" if ":" in host else host
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # nothing is sent: it only asks for our address on the way out
            return str(probe.getsockname()[0])
        except OSError:
            return socket.gethostname()


async def names_here() -> frozenset[str]:
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
