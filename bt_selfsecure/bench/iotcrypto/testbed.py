"""A company, its device and gateway, and what stands between: where attacks meet the real machines, and the truth."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random
from typing import Final

from bt_selfsecure.protocols.iotcrypto.certificate import Certificate, Role, SecretKeys, SignedCertificate
from bt_selfsecure.protocols.iotcrypto.config import NegotiationConfig
from bt_selfsecure.protocols.iotcrypto.events import Established, Event
from bt_selfsecure.protocols.iotcrypto.initiator import Initiator
from bt_selfsecure.protocols.iotcrypto.limits import MOST_NAME_BYTES
from bt_selfsecure.protocols.iotcrypto.lists import Entry, ListKind, TrustList
from bt_selfsecure.protocols.iotcrypto.messages import Profile
from bt_selfsecure.protocols.iotcrypto.responder import Responder
from bt_selfsecure.protocols.iotcrypto.trust import TrustStore
from bt_selfsecure.sansio.context import EndpointContext

CREATED: Final = 1_790_000_000
EXPIRES: Final = CREATED + 365 * 86_400
NOW: Final = CREATED + 30 * 86_400
Change = Callable[[bytes], Iterable[bytes]]
"""Given a message on its way; returns what comes of it."""


class Testbed:
    """Joins the machines of one run. In `paper` nobody asks for a role, as there is none."""

    def __init__(self, profile: Profile, seed: int) -> None:
        self.profile: Final = profile
        self.random: Final = Random(seed).randbytes
        self.owner_keys, self.owner = self.member(Role.PARTY, "owner")
        self.device_keys, self.device = self.signed(Role.DEVICE, "boiler")
        self.gateway_keys, self.gateway = self.signed(Role.GATEWAY, "cellar")
        self.devices_trust: Final = TrustStore(self.owner)
        self.gateways_trust: Final = TrustStore(self.owner)
        self.device_key = self.gateway_key = b""
        """Session keys that the two ended with."""
        self.identity = b""
        """PSK identity of the session."""
        self.noticed = False

    def member(self, role: Role, name: str, expires: int = EXPIRES) -> tuple[SecretKeys, Certificate]:
        keys = SecretKeys.generate(self.random)
        return keys, keys.certificate(role, f"{name:-<{MOST_NAME_BYTES}}", CREATED, expires)

    def signed(self, role: Role, name: str, expires: int = EXPIRES) -> tuple[SecretKeys, SignedCertificate]:
        """Return somebody whom the owner has signed."""
        keys, certificate = self.member(role, name, expires)
        return keys, SignedCertificate(certificate, (self.owner_keys.sign(certificate),))

    def list_of(self, kind: ListKind, *entries: Entry, serial: int = NOW) -> TrustList:
        return TrustList.make(kind, entries, serial, self.owner_keys)

    def asked(self, role: Role) -> Role | None:
        """Return the role that an end asks for."""
        return role if self.profile is Profile.HARDENED else None

    def initiator(self, keys: SecretKeys, signed: SignedCertificate, now: int = NOW) -> Initiator:
        config = NegotiationConfig(
            keys, signed, lambda other: self.devices_trust.judge(other, now, self.asked(Role.GATEWAY)), self.profile
        )
        return Initiator(config, EndpointContext(self.random))

    def responder(self, keys: SecretKeys, signed: SignedCertificate, now: int = NOW) -> Responder:
        config = NegotiationConfig(
            keys, signed, lambda other: self.gateways_trust.judge(other, now, self.asked(Role.DEVICE)), self.profile
        )
        return Responder(config, EndpointContext(self.random), 0.0)

    def run(self, device: Initiator, gateway: Responder | None, up: Change = lambda data: [data],
            down: Change = lambda data: [data], answers: Change = lambda data: []) -> None:  # fmt: skip
        """Negotiate; `up` and `down` change what is on its way, `answers` is what Eve says to the device."""
        device.start(0.0)
        while said := device.frames_to_send(0.0):
            back: list[bytes] = []
            for data in said:
                back += answers(data)
                for changed in up(data):
                    if gateway is not None:
                        gateway.receive_frame(changed, 0.0)
            if gateway is not None:
                back += [changed for data in gateway.frames_to_send(0.0) for changed in down(data)]
            for data in back:
                device.receive_frame(data, 0.0)
        self.device_key = self._outcome(device.next_event)
        if gateway is not None:
            self.gateway_key = self._outcome(gateway.next_event)

    def _outcome(self, next_event: Callable[[], Event | None]) -> bytes:
        key = b""
        for event in iter(next_event, None):
            if isinstance(event, Established):
                key, self.identity = event.keys.key, event.keys.identity
            else:
                self.noticed = True
        return key
