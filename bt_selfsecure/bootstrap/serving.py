"""Server and controller as one service or two: their UDP sockets, and the Unix socket by which a person's command
brings flight 1 to the controller."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

from bt_selfsecure.bearers.places import Place
from bt_selfsecure.bootstrap.controller import NotAdmittedError, SbrController
from bt_selfsecure.bootstrap.nid import Nid, datagrams, flights
from bt_selfsecure.bootstrap.server import DAY_S, SbsServer
from bt_selfsecure.bootstrap.store import BootstrapStore
from bt_selfsecure.errors import UsageError
from bt_selfsecure.node.set_aside import give_to_owner
from bt_selfsecure.protocols.bootstrap.config import Controller
from bt_selfsecure.protocols.bootstrap.events import NodeRefused
from bt_selfsecure.protocols.bootstrap.messages import FlightError, Kind, decode

log = logging.getLogger(__name__)

SOCKET: Final = "controller.sock"
MOST_LINE_BYTES: Final = 1024
MOST_PATH_BYTES: Final = 107


@contextlib.asynccontextmanager
async def server_service(store: BootstrapStore, at: Place, lifetime_s: float) -> AsyncIterator[Place]:
    """Run a server alone; yield where."""
    server = SbsServer(store, lifetime_s, lambda event: None)
    async with datagrams(lambda data, source: server.take(data, lambda out: transport.sendto(out, source)), at=at) as (
        transport
    ):
        with _told_daily(server):
            yield transport.get_extra_info("sockname")[:2]


@contextlib.asynccontextmanager
async def controller_service(
    store: BootstrapStore, controller: Controller, server: Place, nid: Nid
) -> AsyncIterator[Nid]:
    """Run a controller whose server is elsewhere; yield where nodes reach it."""
    async with contextlib.AsyncExitStack() as closing:
        up = await closing.enter_async_context(datagrams(lambda data, _: one.from_server(data), to=server))
        down, where = await closing.enter_async_context(flights(lambda data, to: one.from_node(data, to), at=nid))
        one = SbrController(store, controller, up.sendto, down.sendto)
        closing.callback(one.close)
        await closing.enter_async_context(control_socket(store.folder, one))
        yield where


@contextlib.asynccontextmanager
async def both_service(
    store: BootstrapStore, controller: Controller, at: Place, nid: Nid, lifetime_s: float
) -> AsyncIterator[tuple[Place, Nid]]:
    """Run a server, and a controller of it in the same process; yield where other controllers and nodes reach them."""
    loop = asyncio.get_running_loop()

    def refused(event: NodeRefused) -> None:
        loop.call_soon(one.tell_refused, event)

    def reply(data: bytes) -> None:
        loop.call_soon(one.from_server, data)

    def ask(data: bytes) -> None:
        loop.call_soon(server.take, data, reply)

    server = SbsServer(store, lifetime_s, refused)

    async with contextlib.AsyncExitStack() as closing:
        up = await closing.enter_async_context(
            datagrams(lambda data, source: server.take(data, lambda out: up.sendto(out, source)), at=at)
        )
        down, where = await closing.enter_async_context(flights(lambda data, to: one.from_node(data, to), at=nid))
        one = SbrController(store, controller, ask, down.sendto)
        closing.callback(one.close)
        await closing.enter_async_context(control_socket(store.folder, one))
        closing.enter_context(_told_daily(server))
        yield up.get_extra_info("sockname")[:2], where


@contextlib.contextmanager
def _told_daily(server: SbsServer) -> Any:
    loop, timer = asyncio.get_running_loop(), [asyncio.get_running_loop().call_soon(lambda: None)]

    def tell() -> None:
        server.tell_ended()
        timer[0] = loop.call_later(DAY_S, tell)

    tell()
    try:
        yield
    finally:
        timer[0].cancel()


# --- the socket for persons -------------------------------------------------------------------------------------------


def socket_of(folder: Path) -> Path:
    """Return where the controller of this folder is asked. Raises `UsageError` for a path that no socket can have."""
    path = folder / SOCKET
    if len(os.fsencode(path)) > MOST_PATH_BYTES:
        raise UsageError(f"{path} is too long for a socket: give --state a shorter folder")
    return path


@contextlib.asynccontextmanager
async def control_socket(folder: Path, controller: SbrController) -> AsyncIterator[None]:
    """Take a line of JSON, {"flight1": HEX}, and answer by lines {"flight4": HEX} or {"refused": WHY}, and in the end
    {"joined": true}."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        def say(**told: Any) -> None:
            writer.write(json.dumps(told).encode() + b"\n")

        try:
            data = bytes.fromhex(json.loads(await reader.readline())["flight1"])
            if decode(data).kind is not Kind.F1:
                raise NotAdmittedError("this is another flight than the first")
            say(flight4=(await controller.admit(data)).hex())
            await writer.drain()
            gone = asyncio.ensure_future(reader.read(1))
            joined = asyncio.ensure_future(controller.joined(data))
            await asyncio.wait({gone, joined}, return_when=asyncio.FIRST_COMPLETED)
            if joined.done():
                say(joined=True)
                await writer.drain()
            for one in (gone, joined):
                one.cancel()
        except (NotAdmittedError, FlightError) as error:
            say(refused=str(error))
        except (ValueError, KeyError, TypeError, RecursionError):
            say(refused="a line of JSON with flight1 is needed")
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            with contextlib.suppress(ConnectionError):
                writer.close()

    path = socket_of(folder)
    with contextlib.suppress(FileNotFoundError):
        path.unlink()  # of a service that was killed: the folder is held
    before = os.umask(0o177)
    try:
        listening = await asyncio.start_unix_server(serve, path, limit=MOST_LINE_BYTES)
    except OSError as error:
        raise UsageError(f"can't make {path} ({error.strerror}): give --state a folder of yours") from None
    finally:
        os.umask(before)
    give_to_owner(path)
    try:
        yield
    finally:
        listening.close()
        path.unlink(missing_ok=True)


async def ask_controller(folder: Path, flight1: bytes, on_flight4: Callable[[bytes], None], timeout: float) -> bool:
    """Bring flight 1 to the controller that runs on this folder; return whether the node has joined within so many
    seconds after flight 4. Raises `NotAdmittedError`, and `UsageError` where none runs."""
    try:
        reader, writer = await asyncio.open_unix_connection(socket_of(folder))
    except OSError as error:
        raise UsageError(
            f"no controller runs on {folder} ({error.strerror}): bt-selfsecure bootstrap serve, or give --state"
        ) from None
    try:
        writer.write(json.dumps({"flight1": flight1.hex()}).encode() + b"\n")
        told = await _line(reader)
        if "flight4" not in told:
            raise NotAdmittedError(str(told.get("refused", "the controller has stopped: ask again")))
        on_flight4(bytes.fromhex(told["flight4"]))
        try:
            async with asyncio.timeout(timeout):
                return bool((await _line(reader)).get("joined"))
        except TimeoutError:
            return False
    finally:
        writer.close()


async def _line(reader: asyncio.StreamReader) -> dict[str, Any]:
    try:
        told = json.loads(await reader.readline() or b"{}")
    except (ValueError, ConnectionError):
        return {}
    return told if isinstance(told, dict) else {}
