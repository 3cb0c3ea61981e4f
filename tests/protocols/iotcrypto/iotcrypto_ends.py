"""A company, its devices and gateways, and two ends of the connection protocol with nothing between them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from counted_bytes import counted

from bt_selfsecure.protocols.iotcrypto.certificate import Certificate, Role, SecretKeys, SignedCertificate
from bt_selfsecure.protocols.iotcrypto.config import Judge, NegotiationConfig
from bt_selfsecure.protocols.iotcrypto.initiator import Initiator
from bt_selfsecure.protocols.iotcrypto.messages import Profile
from bt_selfsecure.protocols.iotcrypto.responder import Responder
from bt_selfsecure.protocols.iotcrypto.trust import TrustStore
from bt_selfsecure.sansio.context import EndpointContext

CREATED, EXPIRES = 1_790_000_000, 1_800_000_000
NOW = CREATED + 1_000_000


@dataclass(frozen=True)
class Member:
    """Somebody with a certificate."""

    secrets: SecretKeys
    certificate: Certificate
    signed: SignedCertificate

    def signed_by(self, *signers: Member) -> Member:
        more = tuple(one.secrets.sign(self.certificate) for one in signers)
        return Member(
            self.secrets, self.certificate, SignedCertificate(self.certificate, self.signed.signatures + more)
        )


def member(name: str, role: Role, *, created: int = CREATED, expires: int = EXPIRES) -> Member:
    secrets = SecretKeys.generate(counted(name))
    certificate = secrets.certificate(role, name, created, expires)
    return Member(secrets, certificate, SignedCertificate(certificate))


COMPANY = member("company", Role.PARTY)
PARTNER = member("partner", Role.PARTY)
DEVICE = member("boiler", Role.DEVICE).signed_by(COMPANY)
GATEWAY = member("cellar", Role.GATEWAY).signed_by(COMPANY)
STRANGER = member("stranger", Role.DEVICE)


def judge(role: Role, store: TrustStore | None = None, now: int = NOW) -> Judge:
    return lambda signed: (store or TrustStore(COMPANY.certificate)).judge(signed, now, role)


def initiator(profile: Profile = Profile.HARDENED, who: Member = DEVICE, seed: str = "", **more: Any) -> Initiator:
    config = {"judge": judge(Role.GATEWAY)} | more
    context = EndpointContext(counted(f"initiator {seed}"), name="device")
    return Initiator(NegotiationConfig(who.secrets, who.signed, profile=profile, **config), context)


def responder(profile: Profile = Profile.HARDENED, who: Member = GATEWAY, seed: str = "", **more: Any) -> Responder:
    config = {"judge": judge(Role.DEVICE)} | more
    context = EndpointContext(counted(f"responder {seed}"), name="gateway")
    return Responder(NegotiationConfig(who.secrets, who.signed, profile=profile, **config), context, 0.0)


def events(end: Initiator | Responder) -> list[Any]:
    """All that wait."""
    return list(iter(end.next_event, None))


@dataclass
class Negotiation:
    """Both ends talk until neither has more to say; no time passes."""

    initiator: Initiator
    responder: Responder
    said: list[bytes] = field(default_factory=list)

    def run(self, now: float = 0.0) -> Negotiation:
        self.initiator.start(now)
        while up := self.initiator.frames_to_send(now):
            for data in up:
                self.responder.receive_frame(data, now)
            down = self.responder.frames_to_send(now)
            for data in down:
                self.initiator.receive_frame(data, now)
            self.said += up + down
        return self
