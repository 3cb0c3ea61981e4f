"""Attacks on devices and gateways that run on this computer: real sockets, and Eve with the folder of a stolen device.

She is a gateway at ports of her own, for whoever is pointed there, or calls on a gateway. She tells what came of it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any, Final

from bt_selfsecure.bearers.places import Place
from bt_selfsecure.bench.live import ended_by_signals
from bt_selfsecure.dtls.endpoint import Dtls
from bt_selfsecure.errors import UsageError
from bt_selfsecure.eve.iotcrypto.attacks import Impostor, with_forged_signer
from bt_selfsecure.iot.folder import IdentityFolder, NetworkKey
from bt_selfsecure.iot.links import LinkUp, SecuredLink
from bt_selfsecure.iot.members import Member
from bt_selfsecure.iot.service import NEGOTIATED_S, DtlsPort, SessionService, Transmit
from bt_selfsecure.iot.sessions import DrivenLink, IotSession, NotConnectedError, negotiate
from bt_selfsecure.protocols.iotcrypto.certificate import Role, SecretKeys, SignedCertificate
from bt_selfsecure.protocols.iotcrypto.config import NegotiationConfig
from bt_selfsecure.protocols.iotcrypto.messages import Profile
from bt_selfsecure.protocols.iotcrypto.transmission import AskAnswered, Transmission, TransmissionEnd
from bt_selfsecure.protocols.iotcrypto.transmission_messages import ReadingRequest, ReadingResponse
from bt_selfsecure.protocols.iotcrypto.trust import Judgement, TrustVerdict
from bt_selfsecure.sansio.context import EndpointContext

Say = Callable[[str], None]
LIVE: Final = {"iotcrypto/impostor": 1, "iotcrypto/stolen-device": 0, "iotcrypto/forged-signer": 1,
               "iotcrypto/transitive": 1}  # fmt: skip
"""Each with its number of places, of a gateway's negotiation."""
HOST: Final = "127.0.0.1"


class ImpostorEnd:
    """Is the impostor as the machine inside of a link."""

    def __init__(self, eve: Impostor) -> None:
        self._eve, self._said = eve, list[bytes]()

    def receive_frame(self, data: bytes, now: float) -> None:
        self._said += self._eve.hear(data)

    def frames_to_send(self, now: float) -> list[bytes]:
        said, self._said = self._said, []
        return said

    def get_timer(self) -> None:
        return None

    def handle_timer(self, now: float) -> None:
        pass

    def next_event(self) -> None:
        return None


class ImpostorGateway:
    """Has the network's common key and a gateway's public certificate, and no secret of it. Reads what connects."""

    def __init__(self, network: NetworkKey, gateway: SignedCertificate, profile: Profile, read: Callable[[Any], None]):
        """`read` is given what a device's sensors say."""
        self._eve: Final = Impostor(profile, gateway, os.urandom)
        self._read: Final = read
        self.heard = 0
        """Negotiations."""
        self.negotiation: Final = DtlsPort(lambda identity: network.key, self._negotiate, NEGOTIATED_S)
        self.transmission: Final = DtlsPort(lambda identity: self._eve.key or None, self._transmit)

    async def open(self, negotiation: list[Place], transmission: list[Place]) -> None:
        await self.negotiation.open(negotiation)
        await self.transmission.open(transmission)

    def close(self) -> None:
        self.negotiation.close()
        self.transmission.close()

    def _negotiate(self, dtls: Dtls, transmit: Transmit, place: Place) -> DrivenLink[Any]:
        self.heard += 1
        return DrivenLink(SecuredLink(dtls, ImpostorEnd(self._eve)), transmit)

    def _transmit(self, dtls: Dtls, transmit: Transmit, place: Place) -> DrivenLink[Transmission]:
        inner = Transmission(TransmissionEnd.GATEWAY, EndpointContext(os.urandom))
        driven = DrivenLink(SecuredLink(dtls, inner), transmit)

        def take(event: Any) -> None:
            match event:
                case LinkUp():
                    inner.ask(ReadingRequest(), asyncio.get_running_loop().time())
                case AskAnswered(message=ReadingResponse(readings=readings)):
                    self._read(readings)
                case _:
                    pass

        driven.take = take
        return driven


def _credulous(signed: SignedCertificate) -> Judgement:
    return Judgement(TrustVerdict.TRUSTED)


def forged_signer(stolen: IdentityFolder) -> tuple[SecretKeys, SignedCertificate]:
    """Return her own keys, certified with a signature that says to be the owner's."""
    keys = SecretKeys.generate(os.urandom)
    return keys, with_forged_signer(keys, Role.DEVICE, stolen.owner(), os.urandom)


def transitive(stolen: IdentityFolder) -> tuple[SecretKeys, SignedCertificate]:
    """Return her own keys, certified by a party that is not on the owner's list. Whether one that is has signed that
    party, no message says, and no gateway asks."""
    keys, party, owner = SecretKeys.generate(os.urandom), SecretKeys.generate(os.urandom), stolen.owner()
    certificate = keys.certificate(Role.DEVICE, "hers", owner.created, owner.expires)
    return keys, SignedCertificate(certificate, (party.sign(certificate),))


CALLS: Final = {"iotcrypto/forged-signer": forged_signer, "iotcrypto/transitive": transitive}


async def attack(
    name: str,
    profile: Profile,
    places: list[Place],
    stolen: IdentityFolder,
    seconds: float,
    say: Say,
    over: asyncio.Event | None = None,
) -> bool:
    """Attack for so long, until it is over (by Ctrl-C or SIGTERM, too) or has succeeded; return whether it has. Raises
    `UsageError` where there are too many places or too few, or the folder lacks something."""
    if len(places) != LIVE[name]:
        takes = f"{LIVE[name] or 'none'} of 127.0.0.1:PORT"
        raise UsageError(f"a live {name} takes {takes}: see bt-selfsecure eve attack --help")
    with ended_by_signals(over) as over:
        work = asyncio.ensure_future(_carry_out(name, profile, places, stolen, say))
        ends = asyncio.ensure_future(over.wait())
        try:
            await asyncio.wait([work, ends], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            return work.done() and work.result()
        finally:
            for each in (work, ends):
                each.cancel()
            await asyncio.gather(work, ends, return_exceptions=True)


async def _carry_out(name: str, profile: Profile, places: list[Place], stolen: IdentityFolder, say: Say) -> bool:
    """Return whether it has succeeded, once that is known."""
    network = stolen.network()
    if name in CALLS:
        keys, signed = CALLS[name](stolen)
        try:
            await negotiate(places[0], network, NegotiationConfig(keys, signed, _credulous, profile))
        except NotConnectedError as error:
            say(f"the gateway does not take her: {error}")
            return False
        say("the gateway takes her for a device")
        return True
    member = Member(stolen, Role.DEVICE, profile)
    done = asyncio.Event()

    def told(what: str) -> None:
        say(what)
        done.set()

    if name == "iotcrypto/impostor":
        try:
            gateway = (await negotiate(places[0], network, member.config(Role.GATEWAY))).peer
        except NotConnectedError as error:
            raise UsageError(f"the gateway does not show her its certificate: {error}") from None
        say(f"has the certificate of {gateway.certificate.name!r}")
        hers: ImpostorGateway | SessionService = ImpostorGateway(
            network, gateway, profile, lambda readings: told(f"read of a device: {dict(readings)!a}")
        )
    else:
        hers = SessionService(network, member.config(Role.DEVICE), TransmissionEnd.GATEWAY,
                              lambda session: told(_taken(session)))  # fmt: skip
    await hers.open([(HOST, 0)], [(HOST, 0)])
    ports = [port.places[0][1] for port in (hers.negotiation, hers.transmission)]
    say(f"a gateway for device run --gateway {HOST}:{ports[0]} --transmission-port {ports[1]}")
    try:
        await done.wait()
    finally:
        hers.close()
    return True


def _taken(session: IotSession) -> str:
    return f"{session.peer.certificate.name!r} takes the stolen device for its gateway"
