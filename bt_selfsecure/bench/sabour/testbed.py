"""A device, a server and Eve on one virtual air: where attacks meet real endpoints, and claims the truth."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final

from bt_selfsecure.air.world import Transmit, World
from bt_selfsecure.protocols.sabour.client import Client
from bt_selfsecure.protocols.sabour.config import ClientConfig, ServerConfig
from bt_selfsecure.protocols.sabour.enrolment import Identity
from bt_selfsecure.protocols.sabour.events import Established, Event, FrameRejected, HandshakeExpired, HandshakeFailed
from bt_selfsecure.protocols.sabour.keys import Keys
from bt_selfsecure.protocols.sabour.messages import Profile
from bt_selfsecure.protocols.sabour.server import Server
from bt_selfsecure.protocols.sabour.suites import Parties
from bt_selfsecure.sansio.context import EndpointContext
from bt_selfsecure.sansio.endpoint import Endpoint
from bt_selfsecure.sansio.events import Rejection

LONGEST_TRIAL_S: Final = 300.0
Speak = Callable[[bytes], Iterable[bytes]]
"""What Eve sends because of a datagram that she heard."""


def everybody(random: Random, sender: str, listeners: Sequence[str], now: float) -> frozenset[str]:
    """Let all hear all."""
    return frozenset(listeners)


def eve_between(random: Random, sender: str, listeners: Sequence[str], now: float) -> frozenset[str]:
    """Let device and server hear Eve alone."""
    return frozenset(listeners) if sender == "eve" else frozenset({"eve"} & set(listeners))


@dataclass
class Testbed:
    """Joins one device and one server, who know each other."""

    profile: Profile
    seed: int
    heard: Transmit = everybody
    speak: Speak = lambda data: ()
    keys: dict[str, list[Keys]] = field(default_factory=lambda: {"client": [], "server": []})
    noticed: bool = False
    """Whether an end told of a frame that it rejected, or of a handshake that failed. What is meant for the other end,
    and is heard as all share one air, tells of nobody."""

    def __post_init__(self) -> None:
        self._draw = Random(self.seed)
        self.device = Identity.generate(self._draw.randbytes)
        self.host = Identity.generate(self._draw.randbytes)
        self.world = World(self.heard, self.seed, {"eve": self._ear})

    @property
    def parties(self) -> Parties:
        """Return what is public of the two, and so Eve's."""
        device, host = self.device.enrolment, self.host.enrolment
        if not self.profile.hardened:
            return Parties(device.device_id)
        return Parties(device.device_id, device.key, host.device_id, host.key)

    def client(self) -> Client:
        config = ClientConfig(self.device, self.host.enrolment, self.profile)
        return Client(config, EndpointContext(self._draw.randbytes))

    def server(self) -> Server:
        devices = {self.device.device_id: self.device.enrolment.key}
        if not self.profile.hardened:
            devices = dict.fromkeys(devices, b"")
        return Server(ServerConfig(self.host, devices, self.profile), EndpointContext(self._draw.randbytes))

    def run(self, client: Client | None, server: Server | None, begin: Iterable[bytes] = ()) -> None:
        """Run until nothing is left to happen. Eve begins with what is given; the device starts a second later."""
        ends: dict[str, Endpoint[Event]] = {}
        if server is not None:
            ends["server"] = server
        if client is not None:
            ends["client"] = client
            self.world.at(self.world.now + 1.0, lambda: self._start(client))
        for data in begin:
            self.world.at(self.world.now, lambda data=data: self.world.transmit("eve", data))  # type: ignore[misc]
        self.world.run_now(ends, self._on_event, lambda: False, LONGEST_TRIAL_S)

    def _start(self, client: Client) -> None:
        client.start(self.world.now)
        self.world.wake("client")

    def _ear(self, time: float, data: bytes) -> None:
        for sent in self.speak(data):
            self.world.transmit("eve", sent)

    @property
    def established(self) -> bool:
        """Return whether both ends believe that they have keys."""
        return all(self.keys.values())

    def _on_event(self, name: str, event: Event, now: float) -> None:
        match event:
            case Established():
                self.keys[name].append(event.keys)
            case FrameRejected():
                self.noticed |= event.reason is not Rejection.NOT_FOR_US
            case HandshakeFailed() | HandshakeExpired():
                self.noticed = True
            case _:
                pass
