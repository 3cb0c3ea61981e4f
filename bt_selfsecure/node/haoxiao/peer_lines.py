"""The open links to one peer, and the radio while it is held for a burst, as the driver of its machine has them."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Coroutine, Iterator
from typing import Any, Protocol

from bt_selfsecure.bearers.base import BearerError, Link, LinkClosedError
from bt_selfsecure.errors import BtSelfSecureError
from bt_selfsecure.node.haoxiao.context import NodeContext
from bt_selfsecure.node.haoxiao.peer_events import SendBurst
from bt_selfsecure.node.haoxiao.peer_links import LinkFacts
from bt_selfsecure.node.haoxiao.peer_machine import PeerMachine
from bt_selfsecure.node.links import STUCK_S, OpenLink
from bt_selfsecure.node.peer_log import PeerLog


class MachineDriver(Protocol):
    """Lists what the lines need of the driver of a machine; `peer.HaoXiaoPeer` is one."""

    address: str

    def look(self) -> float:
        """Return the time, at which there is an input for the machine."""

    def act(self, reader: OpenLink | None = None) -> None:
        """Do what the machine puts out; what is to be sent on the link of `reader` is left to it."""

    def begin(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Do this work beside all else."""


class PeerLines:
    """Dials, reads and writes as the machine asks for it, and tells it what came, and what became of it."""

    def __init__(self, driver: MachineDriver, machine: PeerMachine, node: NodeContext, log: PeerLog) -> None:
        self._driver, self._machine, self._node, self._log = driver, machine, node, log
        self._open: dict[int, OpenLink] = {}
        self._numbers = itertools.count(1)
        self._radio: asyncio.Task[None] | None = None
        self._radio_link: Link | None = None

    def __iter__(self) -> Iterator[OpenLink]:
        return iter(self._open.values())

    def get(self, number: int) -> OpenLink | None:
        """Return the open link of this number."""
        return self._open.get(number)

    def use(self, bearer: str, link: Link, *, dialled: bool) -> None:
        """Use this link from now until it is closed."""
        number, now = next(self._numbers), self._driver.look()
        line = self._open[number] = OpenLink(number, bearer, link, now, self._machine.send_failed)
        self._driver.begin(self._read(line), f"read {bearer}")
        facts = LinkFacts(dialled, link.traits.losses_visible, link.key, link.round_trip)
        self._machine.link_up(number, bearer, facts, now)
        self._driver.act()

    async def dial(self, bearer: str) -> None:
        """Call the peer, and use the link that comes of it."""
        try:
            link = await self._node.connect(bearer, self._driver.address)
        except BtSelfSecureError as error:
            self._machine.dial_failed(bearer, str(error), self._driver.look())
            self._driver.act()
        else:
            self.use(bearer, link, dialled=True)

    async def _read(self, line: OpenLink) -> None:
        try:
            while True:
                data = await line.link.receive()
                room = self._node.inbox_has_room(self._driver.address)
                self._machine.receive(line.number, data, self._driver.look(), inbox_has_room=room)
                self._driver.act(line)
                await line.flush()
        except LinkClosedError as error:
            del self._open[line.number]
            self._machine.link_down(line.number, str(error), self._driver.look())
            self._driver.act()
        finally:
            self._open.pop(line.number, None)
            await line.link.close()

    async def close(self) -> None:
        """Close all of them."""
        await asyncio.gather(*(line.link.close() for line in self))

    def hang_up(self, line: OpenLink) -> None:
        """Close this one."""
        self._driver.begin(line.link.close(), "hang up")

    def close_stuck(self, now: float) -> None:
        """Close those that have taken nothing for long; call it every few seconds."""
        for line in self:
            if line.is_stuck(now):
                text = f"the link over {line.bearer} took nothing for {STUCK_S:.0f} s and is given up"
                self._log.warning("%s", text, event="stuck")
                self.hang_up(line)

    async def send_burst(self, packet: SendBurst) -> None:
        """Send a packet of a burst, on its link or on the radio."""
        trouble = ""
        if packet.link is not None:
            if line := self._open.get(packet.link):
                await line.send(packet.data)
        elif self._radio_link:
            try:
                await self._radio_link.send(packet.data)
            except BearerError as error:
                trouble = str(error)
        self._machine.burst_sent(self._driver.look(), trouble)
        self._driver.act()

    def take_radio(self) -> None:
        """Ask for the radio, and listen there until `release_radio`."""
        self._radio = self._driver.begin(self._hold_radio(), "radio")

    def release_radio(self) -> None:
        """Let go of it."""
        if self._radio:
            self._radio.cancel()
        self._radio = self._radio_link = None

    async def _hold_radio(self) -> None:
        this, why = asyncio.current_task(), ""
        try:
            async with self._node.radio(self._driver.address) as link:
                self._radio_link = link
                self._machine.radio_granted(self._driver.look())
                self._driver.act()
                while True:
                    data = await link.receive()
                    self._machine.overhear(data, self._driver.look())
                    self._driver.act()
        except BtSelfSecureError as error:
            why = str(error)
        if self._radio is not this:
            return  # it was released meanwhile
        held, self._radio, self._radio_link = self._radio_link, None, None
        if held:
            self._machine.radio_lost(self._driver.look())
        else:
            self._machine.radio_refused(why, self._driver.look())
        self._driver.act()
