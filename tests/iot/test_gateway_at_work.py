"""A gateway with devices and a cloud's end, on real sockets: readings, commands, alerts, trust, keys, and outages."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import replace
from pathlib import Path

import pytest
from iot_network import (
    CloudEnd,
    Sensor,
    company,
    device_at,
    enrolled,
    gateway_at,
    gateway_config,
    until,
)

from bt_selfsecure.iot.folder import IdentityFolder, add_signature
from bt_selfsecure.iot.gateway import store as gateway_store
from bt_selfsecure.iot.gateway.api import problems
from bt_selfsecure.iot.members import Member
from bt_selfsecure.protocols.iotcrypto.certificate import Role, SignedCertificate
from bt_selfsecure.protocols.iotcrypto.lists import ListKind, TrustList
from bt_selfsecure.protocols.iotcrypto.messages import Profile
from bt_selfsecure.protocols.iotcrypto.records import (
    AlertRecord,
    JoinedRecord,
    LeftRecord,
    ReadingRecord,
    StartedRecord,
)
from bt_selfsecure.protocols.iotcrypto.transmission import pieces_of
from bt_selfsecure.protocols.iotcrypto.transmission_messages import (
    Acknowledgement,
    ActuatorCommand,
    CommandStatus,
    ErrorCode,
    ErrorMessage,
    ForwardedAsk,
    ReadingRequest,
    ReadingResponse,
)

pytestmark = pytest.mark.timeout(120)


class Place:
    """A company with a gateway, a device and a cloud, as folders."""

    def __init__(self, path: Path) -> None:
        self.owner = company(path)
        self.gateway = enrolled(path, Role.GATEWAY, "cellar", self.owner)
        self.device = enrolled(path, Role.DEVICE, "boiler", self.owner)
        self.cloud = enrolled(path, Role.CLOUD, "cloud", self.owner)

    def revoke(self, *who: IdentityFolder) -> TrustList:
        ids = tuple(folder.signed().certificate.id for folder in who)
        return self.owner.sign_list(ListKind.REVOCATIONS, ids)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.mark.parametrize("profile", Profile, ids=lambda profile: profile.value)
def test_readings_commands_and_alerts_go_all_the_way(place: Place, profile: Profile) -> None:
    async def main() -> None:
        cloud, sensor = CloudEnd(Member(place.cloud, Role.CLOUD, profile)), Sensor()
        config = gateway_config(await cloud.open())
        config = replace(config, gateway=replace(config.gateway, profile=profile.value))
        async with (
            gateway_at(place.gateway, config) as gateway,
            device_at(place.device, sensor, gateway, profile) as device,
        ):
            await until(lambda: sum(isinstance(one, ReadingRecord) for one in cloud.all) >= 3)
            sensor.to_tell.append(("it is hot", 81.5))
            await until(lambda: any(isinstance(one, AlertRecord) for one in cloud.all))
            (uplink,) = cloud.sessions.values()
            boiler = place.device.signed().certificate.id
            answer = await uplink.request(ForwardedAsk(boiler, ActuatorCommand(7, "lamp", True)))
            assert answer == CommandStatus(True, "lamp done")
            again = await uplink.request(ForwardedAsk(boiler, ActuatorCommand(7, "lamp", True)))
            assert again == answer
            assert sensor.commands == [("lamp", True)]
            failed = await uplink.request(ForwardedAsk(boiler, ActuatorCommand(8, "fail")))
            assert failed == CommandStatus(False, "execute raised ValueError: as it was told")
            answer = await uplink.request(ForwardedAsk(boiler, ReadingRequest(("count",))))
            assert isinstance(answer, ReadingResponse)
            unknown = await uplink.request(ForwardedAsk(boiler, ReadingRequest(("nix",))))
            assert isinstance(unknown, ErrorMessage)
            assert unknown.code is ErrorCode.UNKNOWN
            absent = await uplink.request(ForwardedAsk(bytes(16), ReadingRequest()))
            assert isinstance(absent, ErrorMessage)
            assert absent.code is ErrorCode.ABSENT
            assert device.keeper.session is not None
        cloud.close()
        kinds = [type(one) for one in cloud.all]
        assert kinds[:2] == [StartedRecord, JoinedRecord]
        counts = [one.readings["count"] for one in cloud.all if isinstance(one, ReadingRecord)]
        assert counts == sorted({*counts})
        assert [one.text for one in cloud.all if isinstance(one, AlertRecord)] == ["it is hot"]

    asyncio.run(main())


def test_while_the_cloud_is_away_all_is_kept_and_comes_later_in_order_and_once(place: Place) -> None:
    async def main() -> None:
        cloud, sensor = CloudEnd(Member(place.cloud, Role.CLOUD)), Sensor()
        ports = (await cloud.open())[1:]
        config = gateway_config(("127.0.0.1", *ports))
        async with gateway_at(place.gateway, config) as gateway, device_at(place.device, sensor, gateway):
            await until(lambda: len(cloud.all) > 3)
            cloud.deaf = True  # what is sent now may or may not have come: nobody says
            await asyncio.sleep(0.5)
            cloud.close()
            before = sensor.reads
            await until(lambda: sensor.reads > before + 10)
            sensor.to_tell.append(("while you were away", None))
            await until(lambda: gateway.counts["alerts"] == 1)
            cloud.deaf = False
            await cloud.open(ports)
            expected = sensor.reads
            await until(lambda: any(getattr(one, "readings", {}).get("count", 0) >= expected for one in cloud.all), 40)
        cloud.close()
        counts = [one.readings["count"] for one in cloud.all if isinstance(one, ReadingRecord)]
        assert counts == list(range(1, len(counts) + 1))
        assert len([one for one in cloud.all if isinstance(one, AlertRecord)]) == 1

    asyncio.run(main())


def test_batches_that_a_cloud_refuses_or_that_come_after_a_gap_come_again_in_order(place: Place) -> None:
    async def main() -> None:
        cloud, sensor = CloudEnd(Member(place.cloud, Role.CLOUD)), Sensor()
        ports = (await cloud.open())[1:]
        cloud.close()
        config = gateway_config(("127.0.0.1", *ports), fetch_s=60)
        async with gateway_at(place.gateway, config) as gateway, device_at(place.device, sensor, gateway):
            await until(lambda: gateway.devices)
            own = place.device.signed().certificate.id
            records = [ReadingRecord(own, number, {"count": number}) for number in range(1000, 1400)]
            await asyncio.gather(*(gateway.writer.add(record) for record in records))
            cloud.refuses = iter([False, True, False, False, True])
            await cloud.open(ports)
            await until(lambda: any("the cloud does not take records (" in one for one in problems(gateway)))
            await until(lambda: not gateway.writer.waiting, 60)
            assert problems(gateway) == []
        cloud.close()
        counts = [one.readings["count"] for one in cloud.all if isinstance(one, ReadingRecord)]
        assert [count for count in counts if int(count or 0) >= 1000] == list(range(1000, 1400))

    asyncio.run(main())


def test_a_gateway_that_was_killed_loses_and_doubles_nothing(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        cloud, sensor = CloudEnd(Member(place.cloud, Role.CLOUD)), Sensor()
        where = await cloud.open()
        cloud.deaf = True
        told = 0
        for run in range(4):
            async with (
                gateway_at(place.gateway, gateway_config(where)) as gateway,
                device_at(place.device, sensor, gateway),
            ):
                sensor.to_tell.append((f"run {run}", run))
                told += 1
                # By its text: the one before comes again where the gateway was killed before the device had its answer.
                await until(lambda run=run: f"run {run}" in caplog.text)  # type: ignore[misc]
            cloud.deaf = run < 2
        cloud.deaf = False
        async with gateway_at(place.gateway, gateway_config(where)) as gateway:
            await until(lambda: gateway.uplink and gateway.uplink.keeper.session and not gateway.writer.waiting, 40)
        cloud.close()
        (kept,) = cloud.records.values()
        assert len(kept) == len({*kept})
        alerts = [one for one in cloud.all if isinstance(one, AlertRecord)]
        assert [one.text for one in alerts] == [f"run {run}" for run in range(told)]
        assert len([one for one in cloud.all if isinstance(one, StartedRecord)]) == 5

    asyncio.run(main())


def test_a_revocation_closes_a_connection_within_two_seconds(place: Place) -> None:
    async def main() -> None:
        cloud = CloudEnd(Member(place.cloud, Role.CLOUD))
        config = gateway_config(await cloud.open())
        async with gateway_at(place.gateway, config) as gateway, device_at(place.device, Sensor(), gateway):
            await until(lambda: gateway.devices and cloud.sessions)
            await asyncio.sleep(0.3)
            (uplink,) = cloud.sessions.values()
            begun = time.monotonic()
            for piece in pieces_of(place.revoke(place.device).encode()):
                assert await uplink.request(piece) == Acknowledgement()
            await until(lambda: not gateway.devices, 2.0)
            took = time.monotonic() - begun
            await until(lambda: any(isinstance(one, LeftRecord) for one in cloud.all))
            await until(lambda: gateway.counts["refused"] > 0)
            print(f"closed after {took:.2f} s")
        cloud.close()
        reasons = [one.reason for one in cloud.all if isinstance(one, LeftRecord)]
        assert reasons[0].startswith("it is not trusted")
        assert place.gateway.list_of(ListKind.REVOCATIONS) is not None

    asyncio.run(main())


def test_a_list_that_a_person_copies_there_counts_at_once_and_reaches_devices(place: Place) -> None:
    async def main() -> None:
        other = enrolled(place.gateway.path.parent, Role.DEVICE, "lamp", place.owner)
        async with gateway_at(place.gateway, gateway_config()) as gateway, device_at(place.device, Sensor(), gateway):
            await until(lambda: gateway.devices)
            place.gateway.put_list(place.revoke(other))
            await until(lambda: place.device.list_of(ListKind.REVOCATIONS), 60)
            assert gateway.devices

    asyncio.run(main())


def test_a_revoked_gateway_is_left_by_its_devices(place: Place) -> None:
    async def main() -> None:
        async with (
            gateway_at(place.gateway, gateway_config()) as gateway,
            device_at(place.device, Sensor(), gateway) as device,
        ):
            await until(lambda: device.keeper.session)
            place.device.put_list(place.revoke(place.gateway))
            await until(lambda: device.keeper.session is None, 2.0)
            await asyncio.sleep(1.5)
            assert device.keeper.session is None

    asyncio.run(main())


def test_what_expires_while_it_is_connected_is_closed(place: Place) -> None:
    old = place.device.signed().certificate
    soon = place.device.secrets().certificate(Role.DEVICE, "boiler", old.created, int(time.time()) + 8)
    place.device.put_signed(add_signature(SignedCertificate(soon), place.owner.secrets().sign(soon)))

    async def main() -> None:
        async with gateway_at(place.gateway, gateway_config()) as gateway, device_at(place.device, Sensor(), gateway):
            await until(lambda: gateway.devices, 7)
            await until(lambda: not gateway.devices, soon.expires - time.time() + 2.0)
            assert time.time() >= soon.expires - 1
            await asyncio.sleep(1)
            assert not gateway.devices

    asyncio.run(main())


def test_a_gateway_whose_clock_is_behind_trusts_nobody(place: Place) -> None:
    async def main() -> None:
        late = {"wall": lambda: time.time() - 3600}
        async with (
            gateway_at(place.gateway, gateway_config(), **late) as gateway,
            device_at(place.device, Sensor(), gateway),
        ):
            await until(lambda: gateway.counts["refused"])
            assert not gateway.devices

    asyncio.run(main())


def test_keys_change_and_nothing_is_interrupted(place: Place) -> None:
    async def main() -> None:
        sensor, sessions = Sensor(), set()
        config = gateway_config(rekey_s=1.0)
        async with gateway_at(place.gateway, config) as gateway, device_at(place.device, sensor, gateway):
            for _ in range(60):
                sessions |= {device.session for device in gateway.devices.values()}
                await asyncio.sleep(0.1)
            assert len(sessions) >= 3
            assert gateway.counts["joined"] == 1
            assert gateway.counts["left"] == 0
            assert gateway.counts["readings"] > 20

    asyncio.run(main())


def test_a_device_of_a_stranger_is_not_taken(place: Place, tmp_path: Path) -> None:
    stranger = company(tmp_path, "stranger")
    theirs = enrolled(tmp_path, Role.DEVICE, "theirs", stranger)
    theirs.put_network(place.gateway.network())
    theirs.put_owner(place.owner.signed().certificate)

    async def main() -> None:
        async with gateway_at(place.gateway, gateway_config()) as gateway, device_at(theirs, Sensor(), gateway):
            await until(lambda: gateway.counts["refused"])
            assert not gateway.devices

    asyncio.run(main())


def test_a_device_under_another_network_key_does_not_get_as_far_as_a_certificate(place: Place) -> None:
    place.device.put_network(company(place.owner.path.parent, "elsewhere").network())

    async def main() -> None:
        async with gateway_at(place.gateway, gateway_config()) as gateway, device_at(place.device, Sensor(), gateway):
            await asyncio.sleep(2)
            assert not gateway.devices
            assert not gateway.counts["refused"]

    asyncio.run(main())


def test_a_full_gateway_takes_nothing_that_it_could_lose(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        sensor = Sensor()
        config = gateway_config(("127.0.0.1", 9, 9))
        config = replace(config, cloud=replace(config.cloud, most_records=8))
        async with gateway_at(place.gateway, config) as gateway, device_at(place.device, sensor, gateway):
            await until(lambda: gateway.writer.is_full)
            await asyncio.sleep(0.5)
            reads = sensor.reads
            sensor.to_tell.append(("nobody has room", None))
            await asyncio.sleep(2)
            assert sensor.reads <= reads + 1
            assert gateway.counts["alerts"] == 0
            assert gateway.writer.waiting < 20
        base = gateway_store.GatewayStore(place.gateway.path / "gateway.db")
        base.close()

    asyncio.run(main())


@pytest.mark.long
@pytest.mark.timeout(600)
def test_one_gateway_serves_a_hundred_devices(place: Place, tmp_path: Path) -> None:
    folders = [enrolled(tmp_path, Role.DEVICE, f"device {number}", place.owner) for number in range(100)]

    async def main() -> None:
        cloud = CloudEnd(Member(place.cloud, Role.CLOUD))
        config = gateway_config(await cloud.open(), fetch_s=1.0)
        async with contextlib.AsyncExitStack() as stack:
            gateway = await stack.enter_async_context(gateway_at(place.gateway, config))
            for folder in folders:
                await stack.enter_async_context(device_at(folder, Sensor(), gateway))
            await until(lambda: len(gateway.devices) == 100, 240)
            ids = {folder.signed().certificate.id for folder in folders}
            await until(lambda: {one.device for one in cloud.all if isinstance(one, ReadingRecord)} == ids, 240)
        cloud.close()

    asyncio.run(main())
