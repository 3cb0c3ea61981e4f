"""The connections of programs to the local API: as many as leave the node the files that it needs itself.

A program too many takes the place of one that has asked for nothing, or is told in HTTP that there is no room; the
node's links, its journal and the other programs do not feel it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import resource
import socket
from typing import Final, cast

from aiohttp import web

log = logging.getLogger(__name__)

MOST: Final = 128
"""Programs at once: the longest messages of all then fit the memory of a Pi."""
FEWEST: Final = 8
"""Even where the limit is so low that some link may have to wait."""
OWN_FILES: Final = 48
"""Of the node: its journal, adapter, system bus, beacon, listeners, and a few to spare."""
FILES_OF_A_LINK: Final = 2
BACKLOG: Final = 128
RETRY_S: Final = 1.0
"""After a connection that the kernel could not give us."""
QUIET_S: Final = 60.0
"""A refusal is told for so long, and logged once in it."""


def most_connections(max_links: int) -> int:
    """By this process's limit on open files (RLIMIT_NOFILE)."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return MOST
    return max(FEWEST, min(MOST, limit - OWN_FILES - FILES_OF_A_LINK * max_links))


class Connections:
    """Those of one listening socket, given to `server`; `busy` are the protocols of requests under way."""

    def __init__(self, listener: socket.socket, server: web.Server, most: int) -> None:
        self.busy: set[asyncio.BaseProtocol] = set()
        self._listener, self._server, self._most = listener, server, most
        self._clock = asyncio.get_running_loop().time
        self._refusal, self._refused_at = "", float("-inf")
        self._refused: list[asyncio.BaseTransport] = []
        listener.listen(BACKLOG)
        listener.setblocking(False)
        self._task = asyncio.create_task(self._accept(), name="local API")

    @property
    def trouble(self) -> str:
        """Why a program was refused lately; one sentence with its remedy."""
        return self._refusal if self._clock() - self._refused_at < QUIET_S else ""

    async def close(self) -> None:
        """Take no more."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._listener.close()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(self._listener)
                if len(self._server.connections) < self._most or self._drop_idle():
                    await loop.connect_accepted_socket(self._server, connection)
                else:
                    self._refuse(f"the node serves {self._most} programs already, as many as it can: end one of them")
                    await self._turn_away(connection)
            except OSError as error:  # no file or no memory is left
                if self._drop_idle():
                    await asyncio.sleep(0)
                else:
                    why = f"the node can't take another program ({error.strerror})"
                    self._refuse(f"{why}: end some, or raise LimitNOFILE= of its unit")
                    await asyncio.sleep(RETRY_S)

    async def _turn_away(self, connection: socket.socket) -> None:
        """With an answer, while few wait for one."""
        self._refused = [transport for transport in self._refused if not transport.is_closing()]
        if len(self._refused) >= FEWEST:
            connection.close()
            return
        refusal = _Refusal(self._refusal)
        transport, _ = await asyncio.get_running_loop().connect_accepted_socket(lambda: refusal, connection)
        self._refused.append(transport)

    def _drop_idle(self) -> bool:
        """Close the oldest connection on which nothing is asked, as aiohttp does after a while, if there is one."""
        for protocol in self._server.connections:
            if protocol not in self.busy:
                protocol.force_close()
                return True
        return False

    def _refuse(self, why: str) -> None:
        if not self.trouble:
            log.warning("%s", why)
        self._refusal, self._refused_at = why, self._clock()


class _Refusal(asyncio.Protocol):
    """Tells a program why it is not served, once it has asked: who is answered before may not read it."""

    def __init__(self, why: str) -> None:
        body = json.dumps({"error": why})
        self._answer = (
            "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json; charset=utf-8\r\n"
            f"Content-Length: {len(body)}\r\nRetry-After: {RETRY_S:.0f}\r\nConnection: close\r\n\r\n{body}"
        ).encode()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._timer = asyncio.get_running_loop().call_later(RETRY_S, self._transport.abort)

    def data_received(self, data: bytes) -> None:
        self._transport.write(self._answer)
        self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        self._timer.cancel()
