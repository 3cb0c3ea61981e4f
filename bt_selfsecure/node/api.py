"""The local API: HTTP on a Unix socket. `openapi.py` describes it; `curl --unix-socket` is enough to use it.

Who may use it is a matter of the socket's group and mode (0660). It shows no secret.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import logging
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from typing import Any, Final, Literal, Protocol, cast

from aiohttp import ClientPayloadError, web

from bt_selfsecure.addresses import spelled
from bt_selfsecure.errors import BtSelfSecureError, UsageError
from bt_selfsecure.node import metrics
from bt_selfsecure.node.config import LOG_LEVELS, Config
from bt_selfsecure.node.connections import Connections, listen, most_connections
from bt_selfsecure.node.errors import MessageTooLongError, QueueFullError, UnknownPeerError
from bt_selfsecure.node.haoxiao.messages import MAX_MESSAGE_BYTES, MAX_PORT, Received
from bt_selfsecure.node.openapi import DESCRIPTION

MAX_TIMEOUT_S: Final = 86_400.0
DEFAULT_TIMEOUT_S: Final = 60.0
MAX_SCAN_S: Final = 60.0
DEFAULT_SCAN_S: Final = 6.0
RETRY_AFTER_S: Final = 1
"""A round takes some 10 ms: after a second a full queue has room."""
STOP_S: Final = 1.0
"""Requests under way have so long to end when the node stops."""

log = logging.getLogger(__name__)
http_log = logging.getLogger(f"{__name__}.http")
http_log.setLevel(logging.CRITICAL)  # aiohttp logs a traceback for every request that is not HTTP

Until = Literal["durable", "acknowledged"]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class NodeApi(Protocol):
    """What the local API needs of a node. A peer is named by its name or its address."""

    def status(self) -> dict[str, Any]:
        """As `Status` in openapi.py."""

    def peers(self) -> list[dict[str, Any]]:
        """As `Peer` in openapi.py."""

    async def send(self, peer: str, message: bytes, *, port: int = 0, until: Until = "durable") -> int:
        """The message's number, once it is on disk or the peer has it. Cancelled, the message stays queued.

        Raises `UnknownPeerError`, `QueueFullError` (at once), `MessageTooLongError`.
        """

    def inbox(self, peer: str | None, port: int, *, follow: bool = True) -> AsyncGenerator[Received, None]:
        """Messages that nobody acknowledged, the oldest first; with `follow`, then those that come."""

    def acknowledge(self, number: int) -> None:
        """The reader has this message: forget it. Unknown numbers are forgotten already."""

    async def establish(self, peer: str) -> dict[str, Any]:
        """As `Establishment` in openapi.py; raises `UnknownPeerError`."""

    async def scan(self, seconds: float) -> list[dict[str, Any]]:
        """As `Sighting` in openapi.py."""


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
        self.application.add_routes(
            [
                web.get("/v1/health", self._health, allow_head=False),
                web.get("/v1/status", self._status, allow_head=False),
                web.get("/v1/peers", self._peers, allow_head=False),
                web.post("/v1/peers/{peer}/messages", self._send),
                web.post("/v1/peers/{peer}/establish", self._establish),
                web.get("/v1/messages", self._messages, allow_head=False),
                web.delete("/v1/messages/{id}", self._acknowledge),
                web.post("/v1/scan", self._scan),
                web.get("/v1/metrics", self._metrics, allow_head=False),
                web.get("/v1/log-level", self._log_level, allow_head=False),
                web.put("/v1/log-level", self._set_log_level),
                web.get("/v1/openapi.json", self._openapi, allow_head=False),
            ]
        )

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
        for reader in self._readers:
            reader.cancel()
        await self._connections.close()
        await self._runner.cleanup()
        self._runner = None

    @property
    def trouble(self) -> str:
        """Why some program is not served; one sentence with its remedy."""
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
        _query(request)
        status = self._node.status()
        healthy = bool(status["healthy"])
        body = {"healthy": healthy, "problems": status["problems"]}
        return web.json_response(body, status=200 if healthy else 503)

    async def _status(self, request: web.Request) -> web.Response:
        _query(request)
        return web.json_response(self._node.status())

    async def _peers(self, request: web.Request) -> web.Response:
        _query(request)
        return web.json_response({"peers": self._node.peers()})

    async def _send(self, request: web.Request) -> web.Response:
        query = _query(request, port=PORT, until=UNTIL, timeout=TIMEOUT)
        peer, timeout = request.match_info["peer"], query.get("timeout", DEFAULT_TIMEOUT_S)
        message = await request.read()
        try:
            async with asyncio.timeout(timeout):
                until: Until = query.get("until", "durable")
                number = await self._node.send(peer, message, port=query.get("port", 0), until=until)
        except TimeoutError:
            return _error(504, f"{peer} did not acknowledge within {timeout:g} s: the message stays queued")
        return web.json_response({"id": number})

    async def _messages(self, request: web.Request) -> web.StreamResponse:
        query = _query(request, peer=str, port=PORT, follow=FOLLOW)
        peer = self._peer_name(query["peer"]) if "peer" in query else None
        with self._reading(peer, port := query.get("port", 0)):
            response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
            await response.prepare(request)
            async with contextlib.aclosing(self._node.inbox(peer, port, follow=query.get("follow", False))) as messages:
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
        _query(request)
        try:
            number = ID(request.match_info["id"])
        except ValueError as error:
            raise UsageError(f"a message's id is {error}") from None
        self._node.acknowledge(number)
        return web.Response(status=204)

    async def _establish(self, request: web.Request) -> web.Response:
        _query(request)
        # A client that goes away does not break off what two nodes are about: hence the shield.
        return web.json_response(await asyncio.shield(self._node.establish(request.match_info["peer"])))

    async def _scan(self, request: web.Request) -> web.Response:
        query = _query(request, seconds=SCAN)
        return web.json_response({"nodes": await self._node.scan(query.get("seconds", DEFAULT_SCAN_S))})

    async def _metrics(self, request: web.Request) -> web.Response:
        _query(request)
        headers = {"Content-Type": metrics.CONTENT_TYPE}
        return web.Response(body=metrics.render(self._node.status()).encode(), headers=headers)

    async def _log_level(self, request: web.Request) -> web.Response:
        _query(request)
        return web.json_response({"level": logging.getLevelName(logging.getLogger().level).lower()})

    async def _set_log_level(self, request: web.Request) -> web.Response:
        query = _query(request, level=LEVEL)
        if "level" not in query:
            raise UsageError(f"level is missing: give one of {', '.join(LOG_LEVELS)}")
        logging.getLogger().setLevel(query["level"].upper())
        log.log(logging.getLogger().level, "the log level is %s now", query["level"])
        return web.json_response(query)

    async def _openapi(self, request: web.Request) -> web.Response:
        _query(request)
        return web.json_response(DESCRIPTION)

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
                raise _ConflictError("another program reads these messages already: end it, or choose a peer or a port")
        task = cast(asyncio.Task[Any], asyncio.current_task())
        self._readers[task] = (peer, port)
        try:
            yield
        finally:
            del self._readers[task]


# --- requests and answers ---------------------------------------------------------------------------------------------


class _ConflictError(UsageError):
    """Somebody else does it already."""


STATUS: Final[dict[type[BtSelfSecureError], int]] = {
    UnknownPeerError: 404,
    _ConflictError: 409,
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


def _error(status: int, text: str) -> web.Response:
    headers = {"Retry-After": str(RETRY_AFTER_S)} if status == 429 else None
    return web.json_response({"error": text}, status=status, headers=headers)


def _line(received: Received) -> bytes:
    """A message as one line of the stream."""
    line = {
        "id": received.id,
        "peer": received.peer,
        "port": received.port,
        "time": received.time,
        "age_s": received.age_s,
        "message": base64.b64encode(received.message).decode(),
    }
    return json.dumps(line).encode() + b"\n"


def _query(request: web.Request, **readers: Callable[[str], Any]) -> dict[str, Any]:
    """The parameters of a query, each read; UsageError for one that is unknown, wrong or given twice."""
    values = {}
    for name, text in request.query.items():
        if name not in readers or name in values:
            known = ", ".join(readers) or "none"
            raise UsageError(f"{name[:64]!r} can't be used here, or not twice: the parameters are {known}")
        try:
            values[name] = readers[name](text)
        except ValueError as error:
            raise UsageError(f"{name} is {text[:64]!r} and must be {error}") from None
    return values


def _whole(low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not re.fullmatch("[0-9]{1,19}", text) or not low <= int(text) <= high:
            raise ValueError(f"a whole number, {low} to {high}")
        return int(text)

    return read


def _seconds(low: float, high: float) -> Callable[[str], float]:
    def read(text: str) -> float:
        if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text) or not low <= float(text) <= high:
            raise ValueError(f"seconds, {low:g} to {high:g}")
        return float(text)

    return read


def _choice(**choices: Any) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        if text not in choices:
            raise ValueError("one of " + ", ".join(choices))
        return choices[text]

    return read


PORT: Final = _whole(0, MAX_PORT)
ID: Final = _whole(1, 2**63 - 1)
UNTIL: Final = _choice(durable="durable", acknowledged="acknowledged")
FOLLOW: Final = _choice(true=True, false=False)
LEVEL: Final = _choice(**{level: level for level in LOG_LEVELS})
TIMEOUT: Final = _seconds(0, MAX_TIMEOUT_S)
SCAN: Final = _seconds(1, MAX_SCAN_S)
