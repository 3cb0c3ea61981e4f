"""What a capture tells of IoT-Crypto to whoever has no key: who speaks to whom, when, how much, and under which ids."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from bt_selfsecure.bearers.places import shown_place
from bt_selfsecure.eve.iotcrypto.outside import (
    ADDED_BYTES,
    APPLICATION_DATA,
    begins_handshake,
    psk_identity,
    records,
)
from bt_selfsecure.eve.udp import UdpDatagram
from bt_selfsecure.protocols.iotcrypto.canonical import MalformedError
from bt_selfsecure.protocols.iotcrypto.limits import ID_BYTES
from bt_selfsecure.protocols.iotcrypto.messages import Advertisement
from bt_selfsecure.wording import counted

NEGOTIATION, TRANSMISSION = "negotiation", "transmission"
PORTS: Final = {5711: NEGOTIATION, 5712: TRANSMISSION, 5713: NEGOTIATION, 5714: TRANSMISSION}
"""Those of gateways and clouds by default; advertisements tell of others."""
MOST: Final = 1000
"""Of gateways, and of conversations, that are kept."""
MOST_IN_ORDER: Final = 8
"""Messages of a negotiation."""
REFUSAL_BYTES: Final = 3
"""Of the only message that is so short: it names a verdict."""


@dataclass
class HeardGateway:
    """Is one that advertises."""

    id: str
    address: str
    ports: tuple[int, int]
    """Of negotiation and transmission."""
    first: float
    last: float
    advertisements: int = 0


@dataclass
class Conversation:
    """Is one DTLS connection to one of the services."""

    service: str
    initiator: str
    answerer: str
    first: float
    last: float
    identity: str = ""
    """PSK identity: of a negotiation the network's name; of a transmission the session, in `paper` the device's id."""
    in_order: list[tuple[str, int]] = field(default_factory=list)
    """The first messages: "up" or "down", and bytes."""
    up: Counter[int] = field(default_factory=Counter)
    """Bytes of messages by the initiator, by how often."""
    down: Counter[int] = field(default_factory=Counter)

    @property
    def refused(self) -> bool:
        """Return whether an end said in a negotiation that it does not trust the other."""
        return self.service == NEGOTIATION and REFUSAL_BYTES in self.up | self.down

    @property
    def device(self) -> str:
        """Return the id that tells who the initiator is; nothing where only the session is named."""
        whole = self.service == TRANSMISSION and len(self.identity) == 2 * ID_BYTES
        return self.identity if whole else ""


class Traffic:
    """Notes what datagrams show."""

    def __init__(self) -> None:
        self.gateways: Final[dict[tuple[str, str], HeardGateway]] = {}
        self.conversations: Final[list[Conversation]] = []
        self.not_kept = 0
        """Gateways and conversations for which there was no room."""
        self._services: Final = dict(PORTS)
        self._open: Final[dict[tuple[str, str], Conversation]] = {}

    def hear(self, heard: UdpDatagram) -> None:
        try:
            self._advertised(heard, Advertisement.decode(heard.data))
        except MalformedError:
            if heard.destination_port in self._services:
                self._spoken(heard, "up")
            elif heard.source_port in self._services:
                self._spoken(heard, "down")

    def _advertised(self, heard: UdpDatagram, said: Advertisement) -> None:
        ports = said.negotiation_port, said.transmission_port
        at = said.id.hex(), heard.source
        if at not in self.gateways:
            if len(self.gateways) >= MOST:
                self.not_kept += 1
                return
            self.gateways[at] = HeardGateway(*at, ports, heard.time, heard.time)
            self._services.update(zip(ports, (NEGOTIATION, TRANSMISSION), strict=True))
        gateway = self.gateways[at]
        gateway.last, gateway.advertisements = heard.time, gateway.advertisements + 1

    def _spoken(self, heard: UdpDatagram, way: str) -> None:
        ends = (heard.source, heard.source_port), (heard.destination, heard.destination_port)
        initiator, answerer = ends if way == "up" else reversed(ends)
        at = shown_place(initiator), shown_place(answerer)
        for kind, epoch, content in records(heard.data):
            begins = way == "up" and begins_handshake(kind, epoch, content)
            now = self._open.get(at)
            if begins and (now is None or now.in_order):  # after data: started again at the same port
                if len(self.conversations) >= MOST:
                    self.not_kept += 1
                    self._open.pop(at, None)
                    return
                now = self._open[at] = Conversation(self._services[answerer[1]], *at, heard.time, heard.time)
                self.conversations.append(now)
            if now is None:  # its beginning was not heard: it is one all the same, once there are data
                if kind != APPLICATION_DATA or len(self.conversations) >= MOST:
                    continue
                now = self._open[at] = Conversation(self._services[answerer[1]], *at, heard.time, heard.time)
                self.conversations.append(now)
            now.last = heard.time
            now.identity = psk_identity(kind, epoch, content) or now.identity
            if kind == APPLICATION_DATA and len(content) > ADDED_BYTES:
                size = len(content) - ADDED_BYTES
                (now.up if way == "up" else now.down)[size] += 1
                if len(now.in_order) < MOST_IN_ORDER:
                    now.in_order.append((way, size))


def to_json(traffic: Traffic) -> dict[str, Any]:
    """Return all of it, with times in seconds since 1970."""
    return {
        "gateways": [
            {
                "id": one.id,
                "address": one.address,
                "negotiation_port": one.ports[0],
                "transmission_port": one.ports[1],
                "first": one.first,
                "last": one.last,
                "advertisements": one.advertisements,
            }
            for one in traffic.gateways.values()
        ],
        "conversations": [
            {
                "service": one.service,
                "initiator": one.initiator,
                "answerer": one.answerer,
                "first": one.first,
                "last": one.last,
                "psk_identity": one.identity,
                "device": one.device or None,
                "refused": one.refused,
                "in_order": one.in_order,
                "up": dict(sorted(one.up.items())),
                "down": dict(sorted(one.down.items())),
            }
            for one in traffic.conversations
        ],
        "not_kept": traffic.not_kept,
    }


def lines(traffic: Traffic) -> Iterator[str]:
    """Yield it as text, with times since the first of it; nothing where nothing was heard."""
    times = [one.first for one in traffic.gateways.values()] + [one.first for one in traffic.conversations]
    if not times:
        return
    begun = min(times)
    yield "IoT-Crypto, as it shows without a key"
    for gateway in traffic.gateways.values():
        yield f"  gateway {gateway.id} at {gateway.address}"
        yield "    ports {} and {}; {} advertisements, {:.1f} to {:.1f} s".format(
            *gateway.ports, gateway.advertisements, gateway.first - begun, gateway.last - begun
        )
    for one in traffic.conversations:
        yield f"  {one.service} at {one.first - begun:.1f} s: {one.initiator} -> {one.answerer}"
        named = one.identity or "not heard"
        if one.service == NEGOTIATION:
            sizes = ", ".join(f"{size} {way}" for way, size in one.in_order) or "no message"
            yield f"    network {named}: {sizes}{'; REFUSED' if one.refused else ''}"
        else:
            yield f"    {'device' if one.device else 'session'} {named}, in {one.last - one.first:.1f} s"
            yield f"    {_sizes('up', one.up)}, {_sizes('down', one.down)}"
    yield "  " + _ids(traffic)
    if traffic.not_kept:
        yield f"  and {traffic.not_kept} more, for which there was no room"


def _sizes(way: str, sizes: Counter[int]) -> str:
    if not sizes:
        return f"none {way}"
    least, most = min(sizes), max(sizes)
    return f"{sizes.total()} {way} of {least if least == most else f'{least} to {most}'} bytes"


def _ids(traffic: Traffic) -> str:
    transmissions = [one for one in traffic.conversations if one.service == TRANSMISSION]
    told = sum(bool(one.device) for one in transmissions)
    if told:
        return f"ids tell who opened {told} of {counted(len(transmissions), 'transmission')}"
    return f"ids tell no device of {counted(len(transmissions), 'transmission')}; addresses and sizes may"
