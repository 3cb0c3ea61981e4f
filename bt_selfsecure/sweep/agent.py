"""One node's hands in a sweep: it sends test packets, listens for them, and tells what it heard."""

from __future__ import annotations

import asyncio
import contextlib
from array import array
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from typing import Any, Final, Protocol, assert_never

from bt_selfsecure.bearers.base import Bearer, BearerError, Link, LinkClosedError
from bt_selfsecure.errors import BtSelfSecureError
from bt_selfsecure.sweep.orders import (
    MAX_COPIES,
    NO_RSSI,
    Answer,
    Describe,
    Described,
    Listen,
    Listening,
    ListenReport,
    Order,
    OrderRefused,
    PacketsSent,
    Report,
    SendPackets,
    decode_packet,
    encode_packet,
    pack,
    pack_set,
)

SETTLE_S: Final = 0.3
"""Before the first packet: the control link falls silent."""
PATIENCE_S: Final = 0.5
"""A packet that the sender's own queue does not take within so long is given up, and counted as such."""
LINGER_S: Final = 0.3
"""After the last packet, for what is still on its way."""
LISTEN_S: Final = 900.0
"""Whoever ordered to listen and never asked is gone after this time."""


class Counters(Protocol):
    """Tells what the controller counts while packets are sent."""

    async def drained(self, given: dict[str, int]) -> dict[str, int]:
        """Return the packets of each receiver that the controller has not done with, of the `given` ones. It waits a
        little for them."""

    def totals(self) -> dict[str, Any]:
        """Return the counts for the record, as in {"flushed": {"bob": 3}}."""


class AgentEnvironment(Protocol):
    """This tells where the bearers come from, and whose time they run in."""

    def open(self, bearer: str) -> Bearer:
        """Return when packets can come. Raises `BearerError`."""

    def now(self) -> float:
        """Return the time in seconds."""

    async def sleep(self, seconds: float) -> None: ...

    def counting(self, bearer: str, receivers: dict[str, str]) -> contextlib.AbstractAsyncContextManager[Counters]:
        """Return a context in which packets on the connections to these addresses are counted."""


class Agent:
    """Obeys one order at a time; the newest counts."""

    def __init__(self, media: AgentEnvironment, facts: Callable[[], Awaitable[dict[str, Any]]]) -> None:
        self._media, self._facts = media, facts
        self._ear: _Ear | None = None
        self.progress = (0, 0)
        """Of the burst under way: packets sent or heard so far, and of how many."""

    async def obey(self, order: Order) -> Answer:
        """Return what the order came to. Raises `OrderRefused` where it could not be done. Cancelling ends what was
        begun."""
        try:
            match order:
                case Describe(tag):
                    return Described(tag, await self._facts())
                case Listen():
                    await self._listen(order)
                    return Listening(order.tag)
                case SendPackets():
                    return await self._send(order)
                case Report(tag):
                    return await self._report(tag)
                case _:
                    assert_never(order)
        except BtSelfSecureError as error:
            await self.close()
            return OrderRefused(order.tag, str(error))

    async def close(self) -> None:
        """Give back what is held of the radio."""
        if self._ear:
            await self._ear.close()  # if that is cut short, the next order does it again
            self._ear = None

    async def _listen(self, order: Listen) -> None:
        await self.close()
        self.progress = (0, order.packets)
        self._ear = _Ear(self._media.open(order.bearer), order, self._note)
        await self._ear.open()

    def _note(self, heard: int, of: int) -> None:
        self.progress = (heard, of)

    async def _report(self, tag: int) -> ListenReport:
        if self._ear is None or self._ear.tag != tag:
            raise BtSelfSecureError("it was not listening: its agent was started anew meanwhile")
        await self._media.sleep(LINGER_S)
        heard = self._ear.heard()
        await self.close()
        return heard

    async def _send(self, order: SendPackets) -> PacketsSent:
        await self.close()
        bearer = self._media.open(order.bearer)
        try:
            links = await _dial(bearer, order.receivers)
            async with self._media.counting(order.bearer, order.receivers) as counters:
                return await self._burst(order, links, counters, broadcast=bearer.traits.broadcast)
        finally:
            await bearer.close()

    async def _burst(
        self, order: SendPackets, links: dict[str, Link], counters: Counters, *, broadcast: bool
    ) -> PacketsSent:
        queued: dict[str, set[int]] = {name: set() for name in links}
        given: dict[str, list[int]] = {name: [] for name in links}
        patience = None if broadcast else PATIENCE_S  # what is broadcast has no queue to wait in
        await self._media.sleep(SETTLE_S)
        start = self._media.now()
        for seq in range(order.packets):
            await self._media.sleep(max(0.0, start + seq * order.spacing_ms / 1000 - self._media.now()))
            packet = encode_packet(order.tag, seq, order.size_bytes)
            for name, link in links.items():
                (given[name].append if await _hand_over(link, packet, patience) else queued[name].add)(seq)
            self.progress = (seq + 1, order.packets)
        seconds = self._media.now() - start
        left = await counters.drained({name: len(seqs) for name, seqs in given.items()})
        for name, count in left.items():
            queued[name].update(given[name][len(given[name]) - count :])
        for link in links.values():
            await link.close()
        of_each = dict.fromkeys(order.receivers, next(iter(queued.values()))) if broadcast else queued
        packed = {name: pack_set(seqs, order.packets) for name, seqs in of_each.items() if seqs}
        return PacketsSent(order.tag, seconds, packed, counters.totals())


async def _dial(bearer: Bearer, receivers: dict[str, str]) -> dict[str, Link]:
    """Return a link to each receiver, on a broadcast bearer one for all."""
    chosen = list(receivers.items())[: 1 if bearer.traits.broadcast else None]
    return {name: await bearer.connect(address) for name, address in chosen}


async def _hand_over(link: Link, packet: bytes, patience: float | None) -> bool:
    """Return whether the sender's queue took it."""
    try:
        async with asyncio.timeout(patience):
            await link.send(packet)
    except LinkClosedError:
        raise
    except (TimeoutError, BearerError):
        return False
    return True


class _Ear:
    """This listens for one run's packets."""

    def __init__(self, bearer: Bearer, order: Listen, note: Callable[[int, int], None]) -> None:
        self.tag = order.tag
        self._bearer, self._order, self._note = bearer, order, note
        self._copies = bytearray(order.packets)
        self._rssi = array("b", [NO_RSSI] * order.packets)
        self._count = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Return when packets can come. Raises `BearerError`."""
        if self._bearer.traits.broadcast:
            self._start(self._receive(await self._bearer.connect(self._order.sender)))
        else:
            listener = await self._bearer.listen()
            self._start(self._accept(listener.accept))

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._bearer.close()

    def heard(self) -> ListenReport:
        return ListenReport(self.tag, pack(bytes(self._copies)), pack(self._rssi.tobytes()))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name="test packets")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self, accept: Callable[[], Awaitable[Link]]) -> None:
        with contextlib.suppress(BearerError, TimeoutError):
            async with asyncio.timeout(LISTEN_S):
                while True:
                    link = await accept()
                    if link.peer == self._order.sender:
                        self._start(self._receive(link))
                    else:
                        await link.close()

    async def _receive(self, link: Link) -> None:
        try:
            async with asyncio.timeout(LISTEN_S):
                while True:
                    self._hear(await link.receive(), link.rssi)
        except (LinkClosedError, TimeoutError):
            pass
        finally:
            await link.close()

    def _hear(self, data: bytes, rssi: int | None) -> None:
        seq = decode_packet(data, self.tag, self._order.packets)
        if seq is None:
            return
        if not self._copies[seq]:
            self._count += 1
            self._note(self._count, self._order.packets)
        if rssi is not None:
            self._rssi[seq] = max(rssi, self._rssi[seq] if self._copies[seq] else rssi)
        self._copies[seq] = min(MAX_COPIES, self._copies[seq] + 1)


@contextlib.asynccontextmanager
async def no_counters() -> AsyncGenerator[Counters, None]:
    """Yield what stands for counters where a controller counts nothing."""

    class Nothing:
        async def drained(self, given: dict[str, int]) -> dict[str, int]:
            return {}

        def totals(self) -> dict[str, Any]:
            return {}

    yield Nothing()
