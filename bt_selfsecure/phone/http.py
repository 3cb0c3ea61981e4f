"""HTTP for a page on a network of strangers: so many connections, so long for each, one request a connection.

Each answer closes its connection, so that no browser sends a request twice on one that was about to end. A connection
too many takes the place of the oldest one of the address that has most. What is no HTTP gets a 4xx, and nobody is told.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Final

import h11

from bt_selfsecure.errors import BtSelfSecureError

MOST: Final = 32
"""Connections at once: a phone takes one or two."""
REQUEST_S: Final = 5.0
"""From the connection to the end of the request, of such a body."""
LONG_REQUEST_S: Final = 30.0
"""Of a longer one."""
SENDING_S: Final = 20.0
"""For our answer to go through."""
MAX_HEAD_BYTES: Final = 8192
MAX_BODY_BYTES: Final = 1024
"""Where the page's server does not say otherwise."""
RECEIVE_BYTES: Final = 4096
RETRY_S: Final = 1.0
"""After a connection that the kernel could not give us."""
NO_MORE: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ECONNABORTED)


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """This is a request that came whole."""

    method: str
    path: str
    headers: Mapping[str, str]
    """Names in lower case; one that came twice has both values."""
    body: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """This is what is sent back."""

    status: HTTPStatus
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"


class RefusedError(BtSelfSecureError):
    """The request is not for us."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = HTTPStatus(status)


class HttpServer:
    """The server gives each request to `answer`, and adds `headers` to every answer. `most_body_bytes` says of a path
    how long a body may be."""

    def __init__(
        self,
        listener: socket.socket,
        answer: Callable[[HttpRequest], Answer],
        headers: Mapping[str, str],
        most_body_bytes: Callable[[str], int] = lambda path: MAX_BODY_BYTES,
    ) -> None:
        self._listener, self._answer, self._headers = listener, answer, headers
        self._most_body_bytes = most_body_bytes
        self._open: dict[asyncio.Task[None], str] = {}
        """Address of each, the oldest first."""

    async def run(self) -> None:
        """Serve until it is cancelled. Raises `OSError` where the listener is of no use any more."""
        loop = asyncio.get_running_loop()
        self._listener.setblocking(False)
        try:
            while True:
                try:
                    connection, (address, *_) = await loop.sock_accept(self._listener)
                except OSError as error:
                    if error.errno not in NO_MORE:
                        raise
                    self._make_room()
                    await asyncio.sleep(RETRY_S)
                    continue
                if len(self._open) >= MOST:
                    self._make_room()
                task = loop.create_task(self._serve(connection), name="page")
                self._open[task] = address
                # Not in the task, which may be cancelled before it begins.
                task.add_done_callback(partial(self._forget, connection))
                await asyncio.sleep(0)  # accepting does not wait where many wait, and all else has its turn first
        finally:
            for task in self._open:
                task.cancel()
            await asyncio.gather(*self._open, return_exceptions=True)

    def _forget(self, connection: socket.socket, task: asyncio.Task[None]) -> None:
        self._open.pop(task, None)
        connection.close()

    def _make_room(self) -> None:
        """End the oldest connection of who has most."""
        if not self._open:
            return
        ((greedy, _),) = Counter(self._open.values()).most_common(1)
        oldest = next(task for task, address in self._open.items() if address == greedy)
        del self._open[oldest]
        oldest.cancel()

    async def _serve(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)
        with suppress(OSError, TimeoutError):
            try:
                async with asyncio.timeout(REQUEST_S) as patience:
                    request = await self._read(http, connection, patience)
                answer = self._answer(request)
            except TimeoutError:  # said, and not waited for
                with suppress(BlockingIOError):
                    connection.send(self._written(http, Answer(HTTPStatus.REQUEST_TIMEOUT)))
                return
            except RefusedError as refused:
                answer = Answer(refused.status)
            except h11.RemoteProtocolError as error:
                answer = Answer(HTTPStatus(error.error_status_hint))
            async with asyncio.timeout(SENDING_S):
                await loop.sock_sendall(connection, self._written(http, answer))
                connection.shutdown(socket.SHUT_WR)
                for _ in range(MAX_HEAD_BYTES // RECEIVE_BYTES):  # what is left unread would take the answer back
                    if not await loop.sock_recv(connection, RECEIVE_BYTES):
                        break

    async def _read(self, http: h11.Connection, connection: socket.socket, patience: asyncio.Timeout) -> HttpRequest:
        """Return the whole request. Raises `RefusedError` and `h11.RemoteProtocolError`."""
        loop = asyncio.get_running_loop()
        head: h11.Request | None = None
        body, most = bytearray(), MAX_BODY_BYTES
        while not isinstance(event := http.next_event(), (h11.EndOfMessage, h11.ConnectionClosed)):
            if event is h11.NEED_DATA:
                http.receive_data(await loop.sock_recv(connection, RECEIVE_BYTES))
            elif isinstance(event, h11.Request):
                head = event
                most = self._most_body_bytes(_path(head))
                if most > MAX_BODY_BYTES:
                    patience.reschedule(loop.time() + LONG_REQUEST_S)
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > most:
                    raise RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        if head is None:
            raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
        if http.trailing_data[0]:
            raise RefusedError(HTTPStatus.BAD_REQUEST)
        headers: dict[str, str] = {}
        for name, value in head.headers:
            key = name.decode("ascii")
            headers[key] = ", ".join(filter(None, (headers.get(key), value.decode("latin-1"))))
        return HttpRequest(head.method.decode("ascii"), _path(head), headers, bytes(body))

    def _written(self, http: h11.Connection, answer: Answer) -> bytes:
        headers = [
            *self._headers.items(),
            ("Content-Type", answer.content_type),
            ("Content-Length", str(len(answer.body))),
            ("Connection", "close"),
        ]
        response = h11.Response(status_code=answer.status, headers=headers, reason=answer.status.phrase.encode())
        parts = [response, h11.Data(data=answer.body), h11.EndOfMessage()]
        return b"".join(http.send(part) or b"" for part in parts)


def _path(head: h11.Request) -> str:
    return head.target.decode("latin-1").partition("?")[0]
