"""`coap serve` as a library: a site of resources over one scheme, until it is closed."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from typing import Any, Final

import aiocoap
from aiocoap.util import hostportjoin

from bt_selfsecure.coap.interface import carry
from bt_selfsecure.coap.remote import PORTS, expect_zone, host_of
from bt_selfsecure.coap.schemes import Plain, Scheme
from bt_selfsecure.coap.udp_server import UdpServer
from bt_selfsecure.errors import UsageError

ANYWHERE: Final = ("", "::", "0.0.0.0")


@dataclass(frozen=True, slots=True)
class Serving:
    """Is a server that runs."""

    context: Any
    interface: UdpServer

    @property
    def host(self) -> str:
        return host_of(self.interface.place)

    @property
    def port(self) -> int:
        return int(self.interface.place[1])

    @property
    def where(self) -> str:
        """Return the place as in a URI."""
        return str(hostportjoin(self.host, self.port))

    async def close(self) -> None:
        await self.context.shutdown()


async def serve(site: Any, host: str, port: int | None = None, scheme: Scheme | None = None) -> Serving:
    """Serve the site at this address (port None: the scheme's own). Raises `UsageError` where that can't be."""
    secured = scheme or Plain()
    if host in ANYWHERE:
        raise UsageError(
            "on all addresses an answer could leave from another one than was asked: name one of this computer's"
        )
    expect_zone(host)
    loop = asyncio.get_running_loop()
    context = aiocoap.Context(loop=loop, serversite=site, loggername="bt_selfsecure.coap.server")
    gate = secured.gate(os.urandom, loop.time())
    place = host, PORTS[secured.uri_scheme] if port is None else port
    try:
        interface = await carry(context, lambda manager: UdpServer.open(manager, secured.uri_scheme, gate, *place))
    except OSError as failure:
        raise UsageError(f"can't listen on {host} port {place[1]} ({failure.strerror}): name another") from None
    return Serving(context, interface)
