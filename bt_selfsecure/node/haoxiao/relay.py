"""Drives the relay: what neighbours carry to and from it, the links that it gives to peers, and what is told of it."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Mapping
from functools import partial
from typing import Final, cast

from bt_selfsecure.bearers.base import Bearer, BearerError
from bt_selfsecure.bearers.relay import RelayBearer, RelayedLink, RelayWays
from bt_selfsecure.node import api_types, via
from bt_selfsecure.node.config import Config, PeerTable, address_bytes
from bt_selfsecure.node.media import Media
from bt_selfsecure.node.peer import NodePeer
from bt_selfsecure.protocols.haoxiao.relay import RelayEndpoint
from bt_selfsecure.protocols.haoxiao.relay_events import (
    RelayConfig,
    RelayDatagram,
    RelayDialFailed,
    RelayEvent,
    RelayLinkDown,
    RelayLinkUp,
    Via,
)
from bt_selfsecure.protocols.haoxiao.relay_frames import MAX_DATAGRAM_BYTES, RELAY_PORT, RelayFault
from bt_selfsecure.protocols.haoxiao.relay_ways import DIAL_S, SILENCE_S
from bt_selfsecure.sansio.context import EndpointContext

log = logging.getLogger(__name__)


class NodeRelay:
    """Carries for others, and gives this node's peers links through others: between `begin` and `end`, while there is
    an adapter. `peers` are the node's, by address."""

    port: Final = RELAY_PORT

    def __init__(self, config: Config, peers: Mapping[str, NodePeer]) -> None:
        self.bearer: Final = RelayBearer(RelayWays(MAX_DATAGRAM_BYTES, self._dial, self._send, self._close))
        self._config, self._peers = config, peers
        self._loop = asyncio.get_running_loop()
        self._machine: RelayEndpoint | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._settling = self._again = False

    @property
    def is_used(self) -> bool:
        """Return whether a peer is reached through others."""
        return bool(via.relayed(self._config))

    # --- its life

    def begin(self, own: str) -> None:
        """Work under this device address. A node that relays for nobody tells so."""
        self._machine = RelayEndpoint(relay_config(self._config, own), EndpointContext(secrets.token_bytes))

    def end(self) -> None:
        """Carry nothing more; what was under way is forgotten."""
        self._machine = None
        if self._alarm:
            self._alarm.cancel()
            self._alarm = None

    def connected(self, address: str, is_so: bool) -> None:
        """Take note that there is a session with this neighbour now, or none any more."""
        if self._machine is None:
            return
        if is_so:
            self._machine.neighbour_up(address_bytes(address))
        else:
            self._machine.neighbour_down(address_bytes(address))
        self._loop.call_soon(self._settle)
        for peer in via.relayed(self._config) if is_so else ():
            self._loop.call_soon(self._peers[peer.address].sighted)

    def receive(self, address: str, message: bytes) -> None:
        """Take a message that came to the relay's port, once the turn that has brought it is over."""
        self._loop.call_soon(self._take, address, message)

    def _take(self, address: str, message: bytes) -> None:
        if self._machine:
            self._machine.receive_frame(message, address_bytes(address), self._loop.time())
            self._settle()

    # --- what the bearer wants

    def _dial(self, peer: str) -> int:
        if self._machine is None:
            raise BearerError("there is no adapter", transient=True)
        single = self._peers[peer].has_key  # without one there is nothing to carry by one of two ways
        number = self._machine.links.dial(address_bytes(peer), self._loop.time(), single=single)
        self._loop.call_soon(self._settle)
        return number

    def _send(self, peer: str, number: int, data: bytes) -> bool:
        if self._machine is None:
            return False
        sent = self._machine.links.send(address_bytes(peer), number, data, self._loop.time())
        self._settle()
        return sent

    def _close(self, peer: str, number: int) -> None:
        if self._machine:
            self._machine.links.close(address_bytes(peer), number, self._loop.time())
            self._loop.call_soon(self._settle)

    # --- what the machine puts out

    def _settle(self) -> None:
        self._again = True
        if self._settling:
            return
        self._settling = True
        try:
            while self._again and self._machine:
                self._again = False
                while self._machine and (event := self._machine.next_event()) is not None:
                    self._tell(event)
                for neighbour, data in self._machine.frames_to_send(self._loop.time()) if self._machine else ():
                    self._carry(self._machine, neighbour, data)
        finally:
            self._settling = False
        self._set_alarm()

    def _carry(self, machine: RelayEndpoint, neighbour: bytes, data: bytes) -> None:
        def done() -> None:
            machine.sent(neighbour, data)
            self.bearer.has_room()

        if peer := self._peers.get(shown(neighbour)):
            peer.carry(data, RELAY_PORT, done)
        else:
            done()

    def _tell(self, event: RelayEvent) -> None:
        match event:
            case RelayDatagram(number, peer, data):
                self.bearer.heard(shown(peer), number, data)
            case RelayLinkUp():
                ways = (tuple(map(shown, path)) for path in (event.path, event.second_path))
                link = RelayedLink(self.bearer, shown(event.peer), event.link, *ways)
                link.key, link.round_trip = event.key, event.round_trip
                self.bearer.opened(link, dialled=event.dialled)
            case RelayDialFailed():
                self.bearer.failed(shown(event.peer), event.link, self._why(event.fault, event.by))
            case RelayLinkDown():
                self.bearer.ended(shown(event.peer), event.link, self._why(event.fault, event.by, was_up=True))
            case _:
                log.debug("a relay frame is refused: %s %s", event.reason.value, event.detail)

    def _why(self, fault: RelayFault | None, by: bytes | None, *, was_up: bool = False) -> str:
        if fault is None or by is None:
            if was_up:
                return f"nothing was heard of it through others for {SILENCE_S:.0f} s"
            return (
                f"it did not answer through others in {DIAL_S:.0f} s: see that it runs, its via to this node, and that "
                "who is between them has a version with [relay]"
            )
        if self._machine and by == self._machine.config.own:
            if fault is RelayFault.CLOSED:
                return "dialled anew, to have both of its ways"
            if was_up:
                return "the node that carried it is away, and another one is asked"
            return "no peer that leads to it is connected: see via, and those peers"
        return f"{name_of(self._config, shown(by))} {fault.text}"

    def _set_alarm(self) -> None:
        at = self._machine.get_timer() if self._machine else None
        if self._alarm:
            self._alarm.cancel()
        self._alarm = None if at is None else self._loop.call_at(at, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        if self._machine:
            self._machine.handle_timer(self._loop.time())
            self._settle()

    # --- what is told about it

    def status(self) -> api_types.Relay | None:
        """Return what it carries for others; None where it does not."""
        if not self._config.relay.for_:
            return None
        machine = self._machine
        name = partial(name_of, self._config)
        circuits = list(machine.forwarder.circuits.items()) if machine else []
        now = self._loop.time()
        ways = machine.cache.ages(now) if machine else []
        return cast(
            api_types.Relay,
            {
                "for": list(map(name, via.addresses_of(self._config, self._config.relay.for_))),
                "links": [
                    {
                        "ends": [name(shown(end)) for end in key[:2]],
                        "neighbours": [
                            name(shown(circuit.sides[end])) if end in circuit.sides else "" for end in key[:2]
                        ],
                        "idle_s": now - circuit.used_at,
                    }
                    for key, circuit in circuits
                ],
                "routes": [{"to": name(shown(end)), "by": name(shown(by)), "age_s": age} for end, by, age in ways],
                "forwarded_bytes": {name(shown(of)): count for of, count in machine.forwarder.forwarded.items()}
                if machine
                else {},
                "waiting_bytes": {name(shown(of)): count for of, count in machine.waiting.items() if count}
                if machine
                else {},
                "dropped": dict(machine.forwarder.dropped)
                | {reason.value: count for reason, count in machine.rejections.items() if count}
                if machine
                else {},
            },
        )


class MediaWithRelay:
    """Opens the bearers of `media`, and the relay's."""

    def __init__(self, media: Media, relay: NodeRelay) -> None:
        self._media, self._relay = media, relay

    def open(self, name: str) -> Bearer:
        return self._relay.bearer if name == RelayBearer.name else self._media.open(name)


def relay_config(config: Config, own: str) -> RelayConfig:
    """Return what the machine is configured with; `own` is the device address."""
    return RelayConfig(
        address_bytes(own),
        frozenset(peer.identity for peer in via.neighbours(config)),
        frozenset(map(address_bytes, via.addresses_of(config, config.relay.for_))),
        {peer.identity: way_to(config, peer) for peer in via.relayed(config)},
        config.relay.max_links,
        config.relay.queue_bytes,
        config.relay.rate_bytes,
    )


def way_to(config: Config, peer: PeerTable) -> Via:
    """Return the neighbours through which a peer is reached."""
    return Via(*(frozenset(map(address_bytes, via.addresses_of(config, names))) for names in via.groups(peer)))


def name_of(config: Config, address: str) -> str:
    """Return the name of the peer of this address, or the address."""
    peer = config.find_peer(address)
    return peer.name if peer else address


def shown(identity: bytes) -> str:
    """Return an identity as the device address that it is."""
    return identity.hex(":").upper()
