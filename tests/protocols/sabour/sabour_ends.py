"""Two ends of a handshake, and an air between them that is one list of datagrams."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from counted_bytes import counted

from bt_selfsecure.protocols.sabour.client import Client
from bt_selfsecure.protocols.sabour.config import ClientConfig, ServerConfig
from bt_selfsecure.protocols.sabour.enrolment import Identity
from bt_selfsecure.protocols.sabour.events import Event
from bt_selfsecure.protocols.sabour.messages import Profile
from bt_selfsecure.protocols.sabour.server import Server
from bt_selfsecure.sansio.context import EndpointContext

DEVICE = Identity.generate(counted("device"))
SERVER = Identity.generate(counted("server"))
STRANGER = Identity.generate(counted("stranger"))


def client(
    profile: Profile, *, identity: Identity = DEVICE, server: Identity = SERVER, seed: str = "", **more: Any
) -> Client:
    config = ClientConfig(identity, server.enrolment, profile, **more)
    return Client(config, EndpointContext(counted(f"client {seed}"), name="client"))


def server(profile: Profile, *devices: Identity, identity: Identity = SERVER, seed: str = "", **more: Any) -> Server:
    known = {device.device_id: device.enrolment.key if profile.hardened else b"" for device in devices or (DEVICE,)}
    return Server(
        ServerConfig(identity, known, profile, **more), EndpointContext(counted(f"server {seed}"), name="server")
    )


def events(end: Client | Server) -> list[Event]:
    """All that wait."""
    return list(iter(end.next_event, None))


@dataclass
class Exchange:
    """Both ends talk until neither has more to say; no time passes."""

    client: Client
    server: Server
    said: list[bytes] = field(default_factory=list)

    def run(self, now: float = 0.0) -> Exchange:
        self.client.start(now)
        return self.go_on(now)

    def go_on(self, now: float) -> Exchange:
        while True:
            up = self.client.frames_to_send(now)
            for data in up:
                self.server.receive_frame(data, now)
            down = self.server.frames_to_send(now)
            for data in down:
                self.client.receive_frame(data, now)
            self.said += up + down
            if not up and not down:
                return self


def exchange(profile: Profile) -> Exchange:
    return Exchange(client(profile), server(profile)).run()
