"""A node that joins, SBI: shows flight 1, takes flight 4, and proves itself to its controller's NID."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any, Final

from bt_selfsecure.bootstrap.nid import Nid, flights, parse_nid
from bt_selfsecure.bootstrap.store import BootstrapStore, KnownNetwork
from bt_selfsecure.errors import PeerError, UsageError
from bt_selfsecure.protocols.bootstrap.events import Event, FrameRejected, NodeJoined
from bt_selfsecure.protocols.bootstrap.messages import FlightChannel, FlightError, channel_of
from bt_selfsecure.protocols.bootstrap.sbi import Sbi, SbiState
from bt_selfsecure.protocols.bootstrap.write_ahead import settle
from bt_selfsecure.sansio.context import EndpointContext


class FlightRefusedError(PeerError):
    """A flight 4 was not taken: the text says why."""


class JoiningNode:
    """Is an SBI with its file."""

    def __init__(self, store: BootstrapStore, known: KnownNetwork) -> None:
        self.known: Final = known
        self._store: Final = store
        self.trouble = ""
        """Why no proof came through, where that is known."""
        self._sbi: Final = Sbi(known.record, EndpointContext(os.urandom, name=known.node))

    @property
    def state(self) -> SbiState:
        """Return how far it is."""
        return self._sbi.state

    def show(self, *, anew: bool = False) -> bytes:
        """Return flight 1: the one that was shown before, unless it was used up, or another with `anew`."""
        self._sbi.start(time.monotonic(), anew=anew)
        self._events()
        (flight1,) = [one for one in self._frames() if channel_of(one) is FlightChannel.OUT_OF_BAND]
        return flight1

    def take(self, flight4: bytes) -> None:
        """Take flight 4. Raises `FlightRefusedError`."""
        self._sbi.receive_frame(flight4, time.monotonic())
        refused = [event for event in self._events() if isinstance(event, FrameRejected)]
        if refused:
            raise FlightRefusedError(
                f"this is no answer to the code that {self.known.node} shows now ({refused[0].reason.value}): let the "
                "controller read that code, or join --anew"
            )

    async def prove(self, seconds: float) -> bool:
        """Repeat flight 5 until flight 8 comes, at most for so long; return whether it came. Raises `UsageError` where
        it can't be written that it did."""
        loop = asyncio.get_running_loop()
        over: asyncio.Future[None] = loop.create_future()

        def take(data: bytes, _: Any) -> None:
            try:
                if channel_of(data) is not FlightChannel.NID:
                    return
            except FlightError:
                return
            try:
                self._sbi.receive_frame(data, time.monotonic())
                joined = any(isinstance(event, NodeJoined) for event in self._events())
            except UsageError as error:  # the disk does not take it
                if not over.done():
                    over.set_exception(error)
                return
            if joined and not over.done():
                over.set_result(None)

        until = time.monotonic() + seconds
        async with flights(take, to=self._nid()) as (to, _):
            while not over.done() and (now := time.monotonic()) < until:
                self._sbi.handle_timer(now)
                self._events()
                for data in self._frames():
                    if channel_of(data) is FlightChannel.NID:
                        to.sendto(data)
                wait = min(self._sbi.get_timer() or until, until) - time.monotonic()
                await asyncio.wait({over}, timeout=max(0.0, wait))
            self.trouble = getattr(to, "trouble", "")
        if over.done():
            over.result()
        return over.done()

    def _nid(self) -> Nid:
        return parse_nid(self.known.place(self._sbi.record.next_controller).nid)

    def _events(self) -> list[Event]:
        return settle(self._sbi, lambda rows: self._store.write_installation(self.known.network, rows))

    def _frames(self) -> list[bytes]:
        return self._sbi.frames_to_send(time.monotonic())
