"""A burst on its way out, and the broadcast link that is held while one is sent or awaited. Part of `PeerMachine`."""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Mapping
from typing import Final

from bt_selfsecure.node.haoxiao.peer_events import Outputs, PeerConfig, ReleaseRadio, SendBurst, TakeRadio
from bt_selfsecure.node.haoxiao.peer_links import PeerLinks
from bt_selfsecure.protocols.haoxiao.frames import Kind, peek_kind
from bt_selfsecure.sansio.trace import Machine, MachineEnum, Tracer


class RadioState(MachineEnum):
    FREE = enum.auto()
    ASKED = enum.auto()
    HELD = enum.auto()


class RadioInput(MachineEnum):
    TAKE = enum.auto()
    GRANTED = enum.auto()
    GONE = enum.auto()
    RELEASE = enum.auto()


S, I = RadioState, RadioInput
RADIO_TABLE: Final[Mapping[tuple[RadioState, RadioInput], RadioState]] = {
    (S.FREE, I.TAKE): S.ASKED,
    (S.ASKED, I.GRANTED): S.HELD,
    (S.ASKED, I.GONE): S.FREE,
    (S.ASKED, I.RELEASE): S.FREE,
    (S.HELD, I.GONE): S.FREE,
    (S.HELD, I.RELEASE): S.FREE,
}


class Burst:
    """Holds packets that wait, one of them with the driver; and an accept that may only go when this end listens."""

    def __init__(self, config: PeerConfig, links: PeerLinks, out: Outputs, tracer: Tracer | None) -> None:
        self._on_radio: Final = config.establish_bearer == "le_advert"
        self._links, self._out = links, out
        self._machine: Final = Machine(config.name, "radio", RADIO_TABLE, S.FREE, tracer)
        self._packets: deque[bytes] = deque()
        self._sending = False
        """A packet is with the driver."""
        self._accept = b""
        """Waits for the radio."""

    def __len__(self) -> int:
        """Return how many packets wait here."""
        return len(self._packets)

    def send(self, packet: bytes, now: float) -> None:
        self._packets.append(packet)
        self._go_on(now)

    def accept(self, data: bytes, now: float) -> None:
        """Send an accept: whoever accepts a burst is listening when it begins."""
        if self._on_radio and self._machine.state is not S.HELD:
            self._accept = data
            self._take_radio(now)
        else:
            self._send(data)

    @property
    def is_busy(self) -> bool:
        """Return whether packets have not left, here or at the driver."""
        return bool(self._packets) or self._sending

    def clear(self) -> list[bytes]:
        """Drop what has not left, and return the packets among it: this end's part of the establishment is over."""
        packets = [packet for packet in self._packets if peek_kind(packet) is not Kind.RAND_LIST]
        self._packets.clear()
        return packets

    def reset(self, now: float) -> None:
        """Forget all of it: the adapter is gone."""
        self._packets.clear()
        self._accept, self._sending = b"", False
        self.mind_the_radio(now, needed=False)

    def sent(self, now: float) -> None:
        """Take note that the driver has sent its packet, or could not."""
        self._sending = False
        self._go_on(now)

    def radio_granted(self, now: float) -> None:
        self._machine.on(I.GRANTED, now)
        if self._accept:
            self._send(self._accept)
            self._accept = b""
        self._go_on(now)

    def radio_refused(self, now: float) -> None:
        self._machine.on(I.GONE, now)
        self._packets.clear()
        self._accept = b""  # the request is repeated, and the accept with it

    def radio_lost(self, now: float) -> None:
        self._machine.on(I.GONE, now)

    def mind_the_radio(self, now: float, *, needed: bool) -> None:
        """Give the broadcast link back when no burst is sent or awaited."""
        if self._machine.state is not S.FREE and not (needed or self._sending or self._accept):
            self._machine.on(I.RELEASE, now)
            self._out.put(ReleaseRadio())

    def _go_on(self, now: float) -> None:
        while self._packets and not self._sending and peek_kind(self._packets[0]) is Kind.RAND_LIST:
            self._send(self._packets.popleft())  # behind the packets that it names, and where nothing gets lost
        if self._sending or not self._packets:
            return None
        link: int | None = None
        if self._on_radio:
            if self._machine.state is not S.HELD:
                return self._take_radio(now)
        elif line := self._links.control_line:
            link = line.number
        else:
            return self._packets.clear()
        self._sending = True
        return self._out.put(SendBurst(link, self._packets.popleft()))

    def _take_radio(self, now: float) -> None:
        if self._machine.state is S.FREE:
            self._machine.on(I.TAKE, now)
            self._out.put(TakeRadio())

    def _send(self, data: bytes) -> None:
        if line := self._links.control_line:
            self._out.send(line.number, data)
