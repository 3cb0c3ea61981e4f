"""What is cut short in the middle, by the end of a session or of the gateway, is not taken for done."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

from cloud_network import cloud_at
from iot_network import company, enrolled, gateway_at, gateway_config, until

from bt_selfsecure.iot.database import DiskThread
from bt_selfsecure.iot.folder import IdentityFolder
from bt_selfsecure.iot.gateway.store import COMMIT_S, GatewayStore, RecordWriter
from bt_selfsecure.iot.members import Member
from bt_selfsecure.iot.service import SessionService
from bt_selfsecure.iot.sessions import IotSession, connect, negotiate
from bt_selfsecure.protocols.iotcrypto.certificate import Role
from bt_selfsecure.protocols.iotcrypto.lists import ListKind
from bt_selfsecure.protocols.iotcrypto.messages import Profile
from bt_selfsecure.protocols.iotcrypto.records import StartedRecord
from bt_selfsecure.protocols.iotcrypto.transmission import TransmissionEnd
from bt_selfsecure.protocols.iotcrypto.transmission_messages import Ask, ListPiece


class Deaf:
    """Takes what a session brings, and answers nothing."""

    def __init__(self) -> None:
        self.came: list[Ask] = []

    def asked(self, session: IotSession, n: int, message: Ask) -> None:
        self.came.append(message)

    def ended(self, session: IotSession, reason: str) -> None:
        """The next takes its place."""


async def given_a_list_in_each_session(member: Member, there: Role, service: SessionService) -> None:
    """The second begins while in the first nothing was answered yet."""
    (at, *_), (to, *_) = service.negotiation.places, service.transmission.places
    end = TransmissionEnd.DEVICE if there is Role.GATEWAY else TransmissionEnd.UPLINK
    sessions = []
    for _ in range(2):
        session = await connect(to, await negotiate(at, member.network, member.config(there)), end)
        sessions.append(session)
        handler = Deaf()
        session.attend(handler)
        await until(lambda came=handler.came: any(isinstance(one, ListPiece) for one in came), 30)  # type: ignore[misc]
    for session in sessions:
        session.close("that was all")


def revoked(owner: IdentityFolder, folder: IdentityFolder) -> None:
    folder.put_list(owner.sign_list(ListKind.REVOCATIONS, (bytes(16),)))


def test_a_list_that_a_devices_session_did_not_live_to_take_is_given_in_the_next(tmp_path: Path) -> None:
    owner = company(tmp_path)
    cellar, boiler = enrolled(tmp_path, Role.GATEWAY, "cellar", owner), enrolled(tmp_path, Role.DEVICE, "boiler", owner)
    revoked(owner, cellar)

    async def main() -> None:
        async with gateway_at(cellar, gateway_config()) as gateway:
            member = Member(boiler, Role.DEVICE, Profile.HARDENED)
            await given_a_list_in_each_session(member, Role.GATEWAY, gateway.service)

    asyncio.run(main())


def test_a_list_that_a_gateways_session_did_not_live_to_take_is_given_in_the_next(tmp_path: Path) -> None:
    owner = company(tmp_path)
    cloud, cellar = enrolled(tmp_path, Role.CLOUD, "cloud", owner), enrolled(tmp_path, Role.GATEWAY, "cellar", owner)
    revoked(owner, cloud)

    async def main() -> None:
        async with cloud_at(tmp_path, owner) as running:
            member = Member(cellar, Role.GATEWAY, Profile.HARDENED)
            await given_a_list_in_each_session(member, Role.CLOUD, running.cloud.service)

    asyncio.run(main())


def test_what_waits_for_the_disk_as_the_gateway_ends_is_written(tmp_path: Path) -> None:
    path = tmp_path / "gateway.db"

    async def main() -> None:
        store, disk, free = GatewayStore(path), DiskThread(), threading.Event()
        writer = RecordWriter(store, disk, 10, drops=False)
        other = asyncio.create_task(disk.do(free.wait, 60))
        works = writer.run(), writer.add(StartedRecord(bytes(16), 1))
        tasks = [asyncio.create_task(work) for work in works]
        await asyncio.sleep(3 * COMMIT_S)  # it has turned to the disk
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        free.set()
        await other
        disk.close()
        store.close()

    asyncio.run(main())
    kept = GatewayStore(path)
    assert kept.waiting() == 1
    kept.close()
