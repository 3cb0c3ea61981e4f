"""Attacks on real gateways and devices over sockets. Revoked, expired, clock wrong: see test_gateway_at_work."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from iot_network import LOOPBACK, Sensor, company, device_at, enrolled, gateway_at, gateway_config, running, until

from bt_selfsecure.bench.iotcrypto.live import ImpostorEnd, ImpostorGateway
from bt_selfsecure.dtls.endpoint import Dtls
from bt_selfsecure.eve.iotcrypto.attacks import with_forged_signer
from bt_selfsecure.free_ports import free_ports
from bt_selfsecure.iot import sessions
from bt_selfsecure.iot.advertising import AdvertisementPort
from bt_selfsecure.iot.device.device import Device, DeviceConfig
from bt_selfsecure.iot.device.store import DeviceStore
from bt_selfsecure.iot.folder import IdentityFolder
from bt_selfsecure.iot.links import SecuredLink
from bt_selfsecure.iot.members import Member
from bt_selfsecure.iot.service import DtlsPort, SessionService
from bt_selfsecure.iot.sessions import DrivenLink
from bt_selfsecure.protocols.iotcrypto.certificate import Role, SignedCertificate
from bt_selfsecure.protocols.iotcrypto.lists import ListKind
from bt_selfsecure.protocols.iotcrypto.messages import Advertisement, Profile
from bt_selfsecure.protocols.iotcrypto.transmission import TransmissionEnd

HEARD_S = 1.5
"""For which an attack that fails is given its chance."""


async def opened(service: SessionService | ImpostorGateway) -> Any:
    await service.open([(LOOPBACK, 0)], [(LOOPBACK, 0)])
    return SimpleNamespace(service=service)


@pytest.mark.parametrize("profile", Profile, ids=lambda profile: profile.value)
def test_a_stolen_common_key_makes_a_gateway_in_the_profile_paper_alone(tmp_path: Path, profile: Profile) -> None:
    owner = company(tmp_path)
    gateway, device = (
        enrolled(tmp_path, Role.GATEWAY, "cellar", owner),
        enrolled(tmp_path, Role.DEVICE, "boiler", owner),
    )

    async def main() -> None:
        read = list[Any]()
        rogue = ImpostorGateway(device.network(), gateway.signed(), profile, read.append)
        at = await opened(rogue)
        sensor = Sensor()
        async with device_at(device, sensor, at, profile):
            if profile is Profile.PAPER:
                await until(lambda: read)
                assert read[0] == {"count": 1}
            else:
                await until(lambda: rogue.heard)
                await asyncio.sleep(HEARD_S)
                assert (read, sensor.reads) == ([], 0)
        rogue.close()

    asyncio.run(main())


@pytest.mark.parametrize("profile", Profile, ids=lambda profile: profile.value)
def test_a_stolen_device_is_no_gateway_to_the_others(tmp_path: Path, profile: Profile) -> None:
    """The programs ask for a role in `paper`, too, where the machines do not."""
    owner = company(tmp_path)
    stolen, device = enrolled(tmp_path, Role.DEVICE, "stolen", owner), enrolled(tmp_path, Role.DEVICE, "boiler", owner)

    async def main() -> None:
        failures = list[str]()
        config = Member(stolen, Role.DEVICE, profile).config(Role.DEVICE)
        took = list[Any]()
        service = SessionService(
            stolen.network(), config, TransmissionEnd.GATEWAY, took.append, lambda failed, where: failures.append(where)
        )
        at = await opened(service)
        async with device_at(device, Sensor(), at, profile) as running_device:
            await asyncio.sleep(HEARD_S)
            assert (took, running_device.keeper.session) == ([], None)
        service.close()

    asyncio.run(main())


def forged(device: IdentityFolder, owner: IdentityFolder, tmp_path: Path) -> None:
    """Her own keys, and a signature that says to be the owner's."""
    signed = with_forged_signer(device.secrets(), Role.DEVICE, owner.signed().certificate, os.urandom)
    device.put_signed(signed)


def of_a_partners_partner(device: IdentityFolder, owner: IdentityFolder, tmp_path: Path) -> None:
    """Signed by a party that a party of the owner's list has signed."""
    partner, third = company(tmp_path, "Partner"), company(tmp_path, "Third")
    owner.sign_list(ListKind.PARTIES, (partner.signed().certificate,))
    assert third.signed().certificate.signed_by(
        partner.signed().certificate, partner.secrets().sign(third.signed().certificate).signature
    )
    certificate = device.signed().certificate
    device.put_signed(SignedCertificate(certificate, (third.secrets().sign(certificate),)))


@pytest.mark.parametrize("made", [forged, of_a_partners_partner], ids=lambda made: made.__name__)
def test_a_certificate_that_nobody_whom_the_owner_trusts_has_signed_is_refused(tmp_path: Path, made: Any) -> None:
    owner = company(tmp_path)
    device = enrolled(tmp_path, Role.DEVICE, "hers", owner)
    made(device, owner, tmp_path)
    gateway = enrolled(tmp_path, Role.GATEWAY, "cellar", owner)

    async def main() -> None:
        async with gateway_at(gateway, gateway_config()) as at_work, device_at(device, Sensor(), at_work):
            await until(lambda: at_work.counts["refused"])
            await asyncio.sleep(0.5)
            assert not at_work.devices

    asyncio.run(main())


def test_whoever_follows_a_replayed_advertisement_shows_nothing_and_finds_the_true_gateway(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """She sends it again from another address with ports of hers, and is the first to be tried."""
    monkeypatch.setattr(sessions, "DIAL_S", 1.0)
    owner = company(tmp_path)
    gateway, folder = (
        enrolled(tmp_path, Role.GATEWAY, "cellar", owner),
        enrolled(tmp_path, Role.DEVICE, "boiler", owner),
    )
    (port,) = free_ports("0.0.0.0", 1)

    async def main() -> None:
        shown, tried = list[bytes](), list[Dtls]()

        def serve(dtls: Dtls, transmit: Any, place: Any) -> DrivenLink[Any]:
            tried.append(dtls)
            end = ImpostorEnd(SimpleNamespace(hear=lambda data: shown.append(data) or []))  # type: ignore[arg-type]
            return DrivenLink(SecuredLink(dtls, end), transmit)

        hers = DtlsPort(lambda identity: bytes(16), serve)
        await hers.open([("127.0.0.66", 0)])
        sends = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sends.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        sends.bind(("127.0.0.66", 0))

        def replay(said: Advertisement, host: str) -> None:
            if host != "127.0.0.66":
                ports = hers.places[0][1], hers.places[0][1]
                sends.sendto(Advertisement(said.id, *ports).encode(), ("127.255.255.255", port))

        ear = AdvertisementPort(replay)
        await ear.open(port)
        config = gateway_config(advertise=True, advertisement_port=port, interfaces=("lo",))
        store = DeviceStore(folder.path / "device.db")
        member = Member(folder, Role.DEVICE)
        device = Device(member, Sensor(), store, DeviceConfig(None, advertisement_port=port))
        async with running(device.run(), [store.close]):
            await asyncio.sleep(0.2)
            replay(Advertisement(gateway.signed().certificate.id, 1, 1), "heard yesterday")
            await until(lambda: tried)
            async with gateway_at(gateway, config) as at_work:
                await until(lambda: at_work.devices, 60.0)
        assert tried
        assert shown == []
        assert not any(dtls.established for dtls in tried)
        ear.close()
        sends.close()
        hers.close()

    asyncio.run(main())
