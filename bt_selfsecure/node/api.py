"""The local API: HTTP on a Unix socket, as `api_types.py` declares it; `curl --unix-socket` is enough.

Who may use it is a matter of the socket's group and mode (0660). It shows no secret but the keys for other programs, to
who asks for one.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import json
import logging
import pwd
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator
from importlib.resources import files
from typing import Any, Final, cast

from aiohttp import ClientPayloadError, web

from bt_selfsecure import __version__
from bt_selfsecure.addresses import spelled
from bt_selfsecure.errors import BtSelfSecureError, UsageError
from bt_selfsecure.node import metrics
from bt_selfsecure.node.api_operations import (
    OPERATIONS,
    ComparedQuery,
    ConfirmQuery,
    CreateQuery,
    EndQuery,
    EstablishQuery,
    KeyQuery,
    LevelQuery,
    MembersQuery,
    NoQuery,
    PairQuery,
    ReceiveQuery,
    ScanQuery,
    SendQuery,
)
from bt_selfsecure.node.api_types import (
    LogLevel,
    Number,
    ReceivedLine,
)
from bt_selfsecure.node.config import Config
from bt_selfsecure.node.connections import Connections, listen, most_connections
from bt_selfsecure.node.errors import (
    ConflictError,
    MessageTooLongError,
    QueueFullError,
    UnknownGroupError,
    UnknownPeerError,
)
from bt_selfsecure.node.message_limits import MAX_MESSAGE_BYTES
from bt_selfsecure.node.messages import Received
from bt_selfsecure.node.node_api import NodeApi
from bt_selfsecure.node.query import read_query, read_value, reader

RETRY_AFTER_S: Final = 1
"""A round takes some 10 ms: after a second a full queue has room."""
STOP_S: Final = 1.0
"""Requests under way have so long to end when the node stops."""

log = logging.getLogger(__name__)
http_log = logging.getLogger(f"{__name__}.http")
http_log.setLevel(logging.CRITICAL)  # aiohttp logs a traceback for every request that is not HTTP

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Api:
    """Serves one node from `start` to `stop`."""

    def __init__(self, node: NodeApi, config: Config) -> None:
        self._node = node
        self._path = config.node.socket
        self._group = config.node.socket_group
        self._readers: dict[asyncio.Task[Any], tuple[str | None, int]] = {}
        self._runner: web.AppRunner | None = None
        self._connections: Connections | None = None
        self._most_connections = most_connections(config.node.max_links)
        middlewares = [self._counted, _in_one_line]
        self.application = web.Application(client_max_size=MAX_MESSAGE_BYTES, middlewares=middlewares)
        handlers: dict[str, Handler] = {
            "health": self._health,
            "status": self._status,
            "peers": self._peers,
            "send": self._send,
            "establish": self._establish,
            "confirm": self._confirm,
            "key": self._key,
            "receive": self._messages,
            "acknowledge": self._acknowledge,
            "scan": self._scan,
            "pair": self._pair,
            "compared": self._compared,
            "forget": self._forget,
            "groups": self._groups,
            "create_group": self._create_group,
            "change_group": self._change_group,
            "send_to_group": self._send_to_group,
            "end_group": self._end_group,
            "metrics": self._metrics,
            "log_level": self._log_level,
            "set_log_level": self._set_log_level,
            "openapi": self._openapi,
        }
        for name, operation in OPERATIONS.items():
            self.application.router.add_route(operation.method, operation.path, handlers[name])

    async def start(self) -> None:
        """Listen. Raises UsageError if another node does, or the socket can't be made."""
        listener = listen(self._path, self._group)
        self._runner = web.AppRunner(
            self.application,
            handler_cancellation=True,
            shutdown_timeout=STOP_S,
            access_log=None,
            logger=http_log,
        )
        await self._runner.setup()
        assert self._runner.server is not None
        self._connections = Connections(listener, self._runner.server, self._most_connections)

    async def stop(self) -> None:
        """Take no more requests, end those under way, remove the socket."""
        if self._runner is None or self._connections is None:
            return
        self._path.unlink(missing_ok=True)
        for reading in self._readers:
            reading.cancel()
        await self._connections.close()
        await self._runner.cleanup()
        self._runner = None

    @property
    def trouble(self) -> str:
        """Return why some program is not served, one sentence with its remedy; empty where all are."""
        return self._connections.trouble if self._connections else ""

    @web.middleware
    async def _counted(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """A connection with a request under way is not taken for an idle one."""
        assert self._connections is not None
        self._connections.busy.add(request.protocol)
        try:
            return await handler(request)
        finally:
            self._connections.busy.discard(request.protocol)

    # --- handlers -----------------------------------------------------------------------------------------------------

    async def _health(self, request: web.Request) -> web.Response:
        read_query(request.query, NoQuery)
        status = self._node.status()
        healthy = bool(status["healthy"])
        body = {"healthy": healthy, "problems": status["problems"]}
        return web.json_response(body, status=200 if healthy else 503)

    async def _status(self, request: web.Request) -> web.Response:
        read_query(request.query, NoQuery)
        return web.json_response(self._node.status())

    async def _peers(self, request: web.Request) -> web.Response:
        read_query(request.query, NoQuery)
        return web.json_response({"peers": self._node.peers()})

    async def _send(self, request: web.Request) -> web.Response:
        query, peer = read_query(request.query, SendQuery), request.match_info["peer"]
        message = await request.read()
        try:
            async with asyncio.timeout(query.timeout):
                number = await self._node.send(peer, message, port=query.port, until=query.until)
        except TimeoutError:
            return _error(504, f"{peer} did not acknowledge within {query.timeout:g} s: the message stays queued")
        return web.json_response({"id": number})

    async def _messages(self, request: web.Request) -> web.StreamResponse:
        query = read_query(request.query, ReceiveQuery)
        peer = None if query.peer is None else self._peer_name(query.peer)
        with self._reading(peer, query.port):
            response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
            await response.prepare(request)
            async with contextlib.aclosing(self._node.inbox(peer, query.port, follow=query.follow)) as messages:
                try:
                    async for message in messages:
                        await response.write(_line(message))
                    await response.write_eof()
                except ConnectionError:
                    pass  # the reader went away: what it did not acknowledge stays
                except Exception:
                    log.exception("the stream of received messages broke off")
                    response.force_close()
                    if request.transport is not None:
                        request.transport.abort()  # the reader sees that this is not the end
            return response

    async def _acknowledge(self, request: web.Request) -> web.Response:
        read_query(request.query, NoQuery)
        self._node.acknowledge(read_value("a message's id", request.match_info["id"], reader(Number)))
        return web.Response(status=204)

    async def _establish(self, request: web.Request) -> web.Response:
        query, peer = read_query(request.query, EstablishQuery), request.match_info["peer"]
        outcome = self._node.establish(peer, wait=query.wait, without_continuity=query.without_continuity)
        # A client that goes away does not break off what two nodes are about, hence the shield; but nobody waits then.
        return web.json_response(await (outcome if query.wait else asyncio.shield(outcome)))

    async def _confirm(self, request: web.Request) -> web.Response:
        query, peer = read_query(request.query, ConfirmQuery), request.match_info["peer"]
        if query.differs is bool(query.string):
            raise UsageError("give string, as the other end shows it, or differs=true")
        return web.json_response(self._node.confirm(peer, query.string, user_of(request.transport)))

    async def _key(self, request: web.Request) -> web.Response:
        query, peer = read_query(request.query, KeyQuery), request.match_info["peer"]
        try:
            async with asyncio.timeout(query.timeout):
                key = await self._node.export(peer, query.label, query.bytes, after=query.after, rotate=query.rotate)
        except TimeoutError:
            return _error(504, self._node.no_key_yet(peer))
        return web.json_response(key)

    async def _groups(self, request: web.Request) -> web.Response:
        read_query(request.query, NoQuery)
        return web.json_response({"groups": self._node.group_wishes.status()})

    async def _create_group(self, request: web.Request) -> web.Response:
        query = read_query(request.query, CreateQuery)
        work = self._node.group_wishes.create(request.match_info["group"], _names(query.members))
        return web.json_response(await asyncio.shield(work))

    async def _change_group(self, request: web.Request) -> web.Response:
        query = read_query(request.query, MembersQuery)
        work = self._node.group_wishes.change(request.match_info["group"], _names(query.add), _names(query.remove))
        return web.json_response(await asyncio.shield(work))

    async def _send_to_group(self, request: web.Request) -> web.Response:
        read_query(request.query, NoQuery)
        number = self._node.group_wishes.send(request.match_info["group"], await request.read())
        return web.json_response({"id": number})

    async def _end_group(self, request: web.Request) -> web.Response:
        wishes, query = self._node.group_wishes, read_query(request.query, EndQuery)
        (wishes.leave if query.leave else wishes.delete)(request.match_info["group"])
        return web.Response(status=204)

    async def _scan(self, request: web.Request) -> web.Response:
        query = read_query(request.query, ScanQuery)
        return web.json_response({"nodes": await self._node.scan(query.seconds)})

    async def _pair(self, request: web.Request) -> web.StreamResponse:
        query, carried = read_query(request.query, PairQuery), await request.read()
        async with contextlib.aclosing(self._node.pairing.pair(query, carried)) as lines:
            first = await anext(lines)
            response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
            await response.prepare(request)
            with contextlib.suppress(ConnectionError):
                await response.write(json.dumps(first).encode() + b"\n")
                async for line in lines:
                    await response.write(json.dumps(line).encode() + b"\n")
                await response.write_eof()
        return response

    async def _compared(self, request: web.Request) -> web.Response:
        query = read_query(request.query, ComparedQuery)
        self._node.pairing.compared(query.same, query.string, user_of(request.transport))
        return web.Response(status=204)

    async def _forget(self, request: web.Request) -> web.Response:
        read_query(request.query, NoQuery)
        await asyncio.shield(self._node.pairing.forget(request.match_info["peer"]))
        return web.Response(status=204)

    async def _metrics(self, request: web.Request) -> web.Response:
        read_query(request.query, NoQuery)
        headers = {"Content-Type": metrics.CONTENT_TYPE}
        return web.Response(body=metrics.render(self._node.status()), headers=headers)

    async def _log_level(self, request: web.Request) -> web.Response:
        read_query(request.query, NoQuery)
        return web.json_response({"level": logging.getLevelName(logging.getLogger().level).lower()})

    async def _set_log_level(self, request: web.Request) -> web.Response:
        level = read_query(request.query, LevelQuery).level
        logging.getLogger().setLevel(level.upper())
        log.log(logging.getLogger().level, "the log level is %s now", level)
        return web.json_response(LogLevel(level=level))

    async def _openapi(self, request: web.Request) -> web.Response:
        read_query(request.query, NoQuery)
        return web.json_response(description())

    def _peer_name(self, peer: str) -> str:
        for known in self._node.peers():
            if peer == known["name"] or spelled(peer) == known["address"]:
                return str(known["name"])
        raise UnknownPeerError(f"there is no peer {peer[:64]!r}: see `bt-selfsecure peers`")

    @contextlib.contextmanager
    def _reading(self, peer: str | None, port: int) -> Iterator[None]:
        """One reader at a time of each message: two would both be shown what neither has acknowledged."""
        for other, other_port in self._readers.values():
            if port == other_port and (peer == other or None in (peer, other)):
                raise ConflictError("another program reads these messages already: end it, or choose a peer or a port")
        task = cast(asyncio.Task[Any], asyncio.current_task())
        self._readers[task] = (peer, port)
        try:
            yield
        finally:
            del self._readers[task]


def user_of(transport: asyncio.Transport | None) -> str:
    """Return the name of the user at the other end of a Unix socket; the number of one without a name."""
    sock = transport.get_extra_info("socket") if transport else None
    if sock is None:
        return ""
    _, number, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"


# --- requests and answers ---------------------------------------------------------------------------------------------


STATUS: Final[dict[type[BtSelfSecureError], int]] = {
    UnknownPeerError: 404,
    UnknownGroupError: 404,
    ConflictError: 409,
    MessageTooLongError: 413,
    QueueFullError: 429,
    UsageError: 400,
    BtSelfSecureError: 503,
}
"""The first that fits counts."""


@web.middleware
async def _in_one_line(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every error is one line in JSON; what no caller can help is logged, and told as that."""
    try:
        return await handler(request)
    except web.HTTPRequestEntityTooLarge:
        return _error(413, f"a message has at most {MAX_MESSAGE_BYTES} bytes: cut it, or use `bt-selfsecure pipe`")
    except web.HTTPException as error:
        return _error(error.status, f"{error.reason}: {request.method} {request.path[:64]}; see GET /v1/openapi.json")
    except BtSelfSecureError as error:
        return _error(next(status for kind, status in STATUS.items() if isinstance(error, kind)), str(error))
    except (web.RequestPayloadError, ClientPayloadError):
        return _error(400, "the request's body is damaged")
    except Exception:
        log.exception("%s %s failed", request.method, request.path)
        return _error(500, "the node failed at this; its log says why (journalctl -u bt-selfsecure)")


def _names(text: str) -> list[str]:
    """Those of a list with commas, each once."""
    return list(dict.fromkeys(name for name in text.split(",") if name))


def _error(status: int, text: str) -> web.Response:
    headers = {"Retry-After": str(RETRY_AFTER_S)} if status == 429 else None
    return web.json_response({"error": text}, status=status, headers=headers)


def _line(received: Received) -> bytes:
    """A message as one line of the stream."""
    line = ReceivedLine(
        id=received.id,
        peer=received.peer,
        port=received.port,
        time=received.time,
        age_s=received.age_s,
        message=base64.b64encode(received.message).decode(),
        group=received.group,
    )
    return json.dumps(line).encode() + b"\n"


@functools.cache
def description() -> dict[str, Any]:
    """Return the API's description in OpenAPI 3.1, as docs/generate.py has made it, and of this version."""
    described: dict[str, Any] = json.loads(files("bt_selfsecure.node").joinpath("openapi.json").read_text("utf-8"))
    described["info"]["version"] = __version__
    return described
