"""The local API's socket, and the connections of programs to it: as many as leave the node the files that it needs.

A program too many takes the place of one that has asked for nothing, or is told in HTTP that there is no room; the
node's links, its journal and the other programs do not feel it.
"""

from __future__ import annotations

import asyncio
import grp
import json
import logging
import os
import resource
import socket
import stat
from pathlib import Path
from typing import Any, Final, cast

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from bt_selfsecure.errors import UsageError

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
SOCKET_MODE: Final = 0o660
FOLDER_MODE: Final = 0o755
"""As systemd makes it: everybody may pass, the socket's own mode says who may use it."""
QUIET_S: Final = 60.0
"""A refusal is told for so long, and logged once in it."""


def listen(path: Path, group: str) -> socket.socket:
    """Open the API's socket, for its group only. Raises `UsageError` if a node listens there, or where it can't be
    made."""
    _remove_stale(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    old = os.umask(0o777 & ~SOCKET_MODE)
    try:
        _make_folder(path.parent)
        listener.bind(str(path))
        if group:
            os.chown(path, -1, grp.getgrnam(group).gr_gid)
    except (OSError, KeyError) as error:
        listener.close()
        if isinstance(error, KeyError):
            path.unlink(missing_ok=True)
            raise UsageError(f"there is no group {group!r} for the socket: sudo groupadd {group}") from None
        raise UsageError(
            f"can't make the socket {path} ({error.strerror}): check the folder, or [node] socket and socket_group"
        ) from None
    finally:
        os.umask(old)
    return listener


def _make_folder(folder: Path) -> None:
    """With those above it, whatever the umask: the service's own is for its keys."""
    for missing in reversed([path for path in (folder, *folder.parents) if not path.exists()]):
        missing.mkdir(exist_ok=True)
        missing.chmod(FOLDER_MODE)


def _remove_stale(path: Path) -> None:
    """A daemon that was killed leaves its socket behind."""
    try:
        is_socket = stat.S_ISSOCK(path.lstat().st_mode)
    except OSError:
        return
    if not is_socket:
        raise UsageError(f"{path} is in the way and not a socket: move it away, or choose another [node] socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise UsageError(
                f"can't tell whether a node uses {path} ({error.strerror}): remove it if none does"
            ) from None
        else:
            raise UsageError(f"a node runs already on {path}: stop it first (systemctl stop bt-selfsecure)")


def most_connections(max_links: int) -> int:
    """Return how many connections this process's limit on open files (RLIMIT_NOFILE) leaves room for."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return MOST
    return max(FEWEST, min(MOST, limit - OWN_FILES - FILES_OF_A_LINK * max_links))


class Connections:
    """Keeps the connections of one listening socket, and gives each to `server`; `busy` are the protocols of requests
    under way."""

    def __init__(self, listener: socket.socket, server: web.Server, most: int) -> None:
        self.busy: set[asyncio.BaseProtocol] = set()
        self._listener, self._server, self._most = listener, server, most
        self._loop = asyncio.get_running_loop()
        self._refusal, self._refused_at = "", float("-inf")
        self._refused: list[_Refusal] = []
        self._dropped: set[asyncio.BaseProtocol] = set()
        self._coming: asyncio.Task[Any] | None = None
        self._retry: asyncio.TimerHandle | None = None
        listener.listen(BACKLOG)
        listener.setblocking(False)
        self._resume()

    @property
    def trouble(self) -> str:
        """Return why a program was refused lately, one sentence with its remedy; empty where none was."""
        return self._refusal if self._loop.time() - self._refused_at < QUIET_S else ""

    async def close(self) -> None:
        """Take no more; what was taken has come to the server."""
        if self._retry:
            self._retry.cancel()
        self._loop.remove_reader(self._listener)
        self._listener.close()
        if self._coming:
            await asyncio.wait([self._coming])

    def _resume(self) -> None:
        self._loop.add_reader(self._listener, self._accept)

    def _came(self, task: asyncio.Task[Any]) -> None:
        self._coming = None
        if self._listener.fileno() >= 0:
            self._resume()

    def _accept(self) -> None:
        """No task, which might be cancelled with a connection in its hands that nobody would ever answer."""
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as error:  # no file or no memory is left
            if not self._drop_idle():
                self._refuse(
                    f"the node can't take another program ({error.strerror}): end some of those that use it, or raise "
                    "LimitNOFILE= of its unit"
                )
                self._loop.remove_reader(self._listener)
                self._retry = self._loop.call_later(RETRY_S, self._resume)
            return
        connection.setblocking(False)
        if len(self._open()) < self._most or self._drop_idle():
            self._give(self._server, connection)
            return
        self._refuse(f"the node serves {self._most} programs already, as many as it can: end one of them")
        self._refused = [refusal for refusal in self._refused if not refusal.is_over]
        if len(self._refused) < FEWEST:
            self._refused.append(_Refusal(self._refusal))
            self._give(self._refused[-1], connection)
        else:
            connection.close()

    def _give(self, server: web.Server | _Refusal, connection: socket.socket) -> None:
        """One at a time, so that the server has counted it before the next comes."""
        self._loop.remove_reader(self._listener)
        self._coming = self._loop.create_task(self._loop.connect_accepted_socket(server, connection))
        self._coming.add_done_callback(self._came)

    def _open(self) -> list[RequestHandler]:
        """Those of the server that are not about to end, the oldest first."""
        self._dropped.intersection_update(self._server.connections)
        return [protocol for protocol in self._server.connections if protocol not in self._dropped]

    def _drop_idle(self) -> bool:
        """Close the oldest connection on which nothing is asked, as aiohttp does after a while, if there is one."""
        for protocol in self._open():
            if protocol not in self.busy:
                self._dropped.add(protocol)
                protocol.force_close()
                return True
        return False

    def _refuse(self, why: str) -> None:
        if not self.trouble:
            log.warning("%s", why)
        self._refusal, self._refused_at = why, self._loop.time()


class _Refusal(asyncio.Protocol):
    """Tells a program why it is not served, once it has asked: who is answered before may not read it."""

    def __init__(self, why: str) -> None:
        self.is_over = False
        body = json.dumps({"error": why})
        self._answer = (
            "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json; charset=utf-8\r\n"
            f"Content-Length: {len(body)}\r\nRetry-After: {RETRY_S:.0f}\r\nConnection: close\r\n\r\n{body}"
        ).encode()

    def __call__(self) -> _Refusal:
        return self

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._timer = asyncio.get_running_loop().call_later(RETRY_S, self._transport.abort)

    def data_received(self, data: bytes) -> None:
        self._transport.write(self._answer)
        self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        self.is_over = True
        self._timer.cancel()
