"""A controller, SBR: takes flight 1 from a person, asks the server, and answers nodes at its NID."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from typing import Any, Final

from bt_selfsecure.bootstrap.store import BootstrapStore
from bt_selfsecure.errors import PeerError, UsageError
from bt_selfsecure.protocols.bootstrap import limits
from bt_selfsecure.protocols.bootstrap.config import Controller, SbrConfig
from bt_selfsecure.protocols.bootstrap.events import NoAnswer, NodeJoined, NodeRefused
from bt_selfsecure.protocols.bootstrap.messages import FlightChannel, FlightError, Kind, channel_of, decode
from bt_selfsecure.protocols.bootstrap.records import Step, Transaction
from bt_selfsecure.protocols.bootstrap.sbr import Sbr
from bt_selfsecure.protocols.bootstrap.write_ahead import settle, write_rows
from bt_selfsecure.sansio.context import EndpointContext

log = logging.getLogger(__name__)

PORT: Final = 5702
SILENT: Final = (
    "the server does not answer: it is away, or refuses the node, its domain, this controller or the clock; its log "
    "says"
)


class NotAdmittedError(PeerError):
    """A node does not join: the text says why."""


class SbrController:
    """Is an SBR with its file, its timer, and persons who wait. `ask` brings a flight to the server, `answer` one to a
    node at an address."""

    def __init__(
        self,
        store: BootstrapStore,
        controller: Controller,
        ask: Callable[[bytes], None],
        answer: Callable[[bytes, Any], None],
    ) -> None:
        self._store: Final = store
        self._controller_id: Final = controller.controller_id
        self._ask, self._answer = ask, answer
        self._kept: Final = store.transactions(controller.controller_id)
        context = EndpointContext(os.urandom, name="controller")
        self._sbr: Final = Sbr(SbrConfig(controller, time.time), self._kept, context)
        self._timer: asyncio.TimerHandle | None = None
        self._asked: dict[bytes, asyncio.Future[bytes]] = {}
        """By flight 1, who waits for flight 4."""
        self._awaited: dict[bytes, asyncio.Future[None]] = {}
        """By flight 1, who waits until its node has joined."""
        self._nodes: dict[bytes, Any] = {}
        """By TID, where its node is."""
        self._settle()

    # --- persons ------------------------------------------------------------------------------------------------------

    async def admit(self, flight1: bytes) -> bytes:
        """Return flight 4 for this flight 1. Raises `NotAdmittedError`."""
        future = self._asked.get(flight1)
        if future is None:
            future = self._asked[flight1] = asyncio.get_running_loop().create_future()
            future.add_done_callback(lambda done: self._over(flight1, done))
            self._take(flight1)
        return await asyncio.shield(future)

    def _over(self, flight1: bytes, done: asyncio.Future[bytes]) -> None:
        self._asked.pop(flight1, None)
        if not done.cancelled():
            done.exception()  # also where nobody waits any more

    async def joined(self, flight1: bytes) -> None:
        """Return once the node of this flight 1 has joined by it."""
        found = next((one for one in self._transactions() if one.flight1 == flight1), None)
        if found is not None and found.step is Step.DONE:
            return
        future = self._awaited.setdefault(flight1, asyncio.get_running_loop().create_future())
        await asyncio.shield(future)

    def tell_refused(self, event: NodeRefused) -> None:
        """Tell persons what a server in this process has against a node."""
        if event.controller_id == self._controller_id:
            self._fail(event.node_id, event.reason.value)

    def _fail(self, node_id: bytes, why: str) -> None:
        for flight1, future in list(self._asked.items()):
            if decode(flight1).node_id == node_id and not future.done():
                future.set_exception(NotAdmittedError(why))

    def _transactions(self) -> list[Transaction]:
        return [one for one in self._kept.values() if isinstance(one, Transaction)]

    # --- flights ------------------------------------------------------------------------------------------------------

    def from_server(self, data: bytes) -> None:
        """Take what came from the server's place."""
        if self._is_of(data, FlightChannel.SERVER):
            self._take(data)

    def from_node(self, data: bytes, source: Any) -> None:
        """Take what came to the NID."""
        if self._is_of(data, FlightChannel.NID):
            self._take(data, source)

    @staticmethod
    def _is_of(data: bytes, channel: FlightChannel) -> bool:
        try:
            return channel_of(data) is channel
        except FlightError:
            return False

    def _take(self, data: bytes, source: Any = None) -> None:
        self._sbr.receive_frame(data, time.monotonic())
        self._settle(source)

    def _settle(self, source: Any = None) -> None:
        """Write, tell, send, and wait for the next."""
        now = time.monotonic()
        try:
            events = settle(self._sbr, self._write)
        except UsageError as error:
            self._sbr.refused()
            log.error("%s", error)
            events = []
        for event in events:
            if isinstance(event, NoAnswer):
                log.warning("node %s: %s", event.node_id.hex(), SILENT)
                self._fail(event.node_id, SILENT)
            elif isinstance(event, NodeJoined):
                log.info("node %s has joined", event.node_id.hex())
                self._wake()
        for data in self._sbr.frames_to_send(now):
            self._send(data, source)
        if self._timer is not None:
            self._timer.cancel()
        deadline = self._sbr.get_timer()
        if deadline is not None:
            self._timer = asyncio.get_running_loop().call_later(max(0.0, deadline - now), self._due)

    def _write(self, rows: Any) -> None:
        self._store.write_transactions(self._controller_id, rows)
        write_rows(self._kept, rows)

    def _wake(self) -> None:
        for one in self._transactions():
            future = self._awaited.get(one.flight1)
            if one.step is Step.DONE and future is not None:
                del self._awaited[one.flight1]
                future.set_result(None)

    def _due(self) -> None:
        self._sbr.handle_timer(time.monotonic())
        self._settle()

    def _send(self, data: bytes, source: Any) -> None:
        flight = decode(data)
        if source is not None and flight.kind in (Kind.F6, Kind.F8):  # so its flight 5 was good
            self._nodes.pop(flight.tid, None)
            self._nodes[flight.tid] = source
            if len(self._nodes) > limits.MOST_OPEN:
                del self._nodes[next(iter(self._nodes))]
        match channel_of(data):
            case FlightChannel.SERVER:
                self._ask(data)
            case FlightChannel.NID if flight.tid in self._nodes:
                self._answer(data, self._nodes[flight.tid])
            case FlightChannel.OUT_OF_BAND:
                found = self._kept.get(flight.tid)
                future = self._asked.get(found.flight1) if isinstance(found, Transaction) else None
                if future is not None and not future.done():
                    future.set_result(data)
            case _:
                pass

    def close(self) -> None:
        """Wait for nothing any more. Who waits is told."""
        if self._timer is not None:
            self._timer.cancel()
        for asked in list(self._asked.values()):
            asked.cancel()
        for awaited in self._awaited.values():
            awaited.cancel()
