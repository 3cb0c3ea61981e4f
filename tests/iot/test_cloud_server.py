"""A cloud with a real gateway and devices on loopback: up, down, away, cut, and what it shows of them."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from cloud_network import Rest, cloud_at
from iot_network import Sensor, company, device_at, enrolled, gateway_at, gateway_config, until

from bt_selfsecure.errors import UsageError
from bt_selfsecure.iot.cloud import cloud
from bt_selfsecure.iot.folder import IdentityFolder, add_signature
from bt_selfsecure.iot.members import Member
from bt_selfsecure.iot.sessions import connect, negotiate
from bt_selfsecure.protocols.iotcrypto.certificate import Role, SignedCertificate
from bt_selfsecure.protocols.iotcrypto.lists import ListKind
from bt_selfsecure.protocols.iotcrypto.records import ReadingRecord, encode_record
from bt_selfsecure.protocols.iotcrypto.transmission import TransmissionEnd
from bt_selfsecure.protocols.iotcrypto.transmission_messages import (
    Acknowledgement,
    ErrorCode,
    ErrorMessage,
    RecordBatch,
)


async def soon(rest: Rest, path: str, is_so: Any, seconds: float = 60.0) -> Any:
    """What REST says, as soon as it is so."""
    async with asyncio.timeout(seconds):
        while not is_so(told := await rest.get(path)):
            await asyncio.sleep(0.05)
    return told


def test_readings_alerts_and_structure_go_up_and_commands_and_lists_down(tmp_path: Path, database_url: str) -> None:
    async def main() -> None:
        owner, sensor = company(tmp_path), Sensor()
        gateway_folder = enrolled(tmp_path, Role.GATEWAY, "cellar", owner)
        boiler = enrolled(tmp_path, Role.DEVICE, "boiler", owner)
        id_ = boiler.signed().certificate.id.hex()
        async with cloud_at(tmp_path, owner, database_url) as running:
            rest = running.rest()
            async with (
                gateway_at(gateway_folder, gateway_config(running.place)) as gateway,  # type: ignore[arg-type]
                device_at(boiler, sensor, gateway),
            ):
                told = await soon(rest, "/v1/devices", lambda told: told["devices"] and told["devices"][0]["readings"])
                (device,) = told["devices"]
                assert (device["id"], device["name"], device["connected"]) == (id_, "boiler", True)
                assert device["trust"]["trusted"]
                sensor.to_tell.append(("hot", 99.5))
                (alert,) = (await soon(rest, "/v1/alerts", lambda told: told["alerts"]))["alerts"]
                assert (alert["name"], alert["text"], alert["value"]) == ("boiler", "hot", 99.5)
                assert (await rest.ask(f"/v1/alerts/{alert['number']}/seen", "POST"))[0] == 204
                assert (await rest.get("/v1/alerts?unseen=true"))["alerts"] == []

                command = f"/v1/devices/{id_}/commands?name=lamp&argument=true&id=00000000000000aa"
                done = {"id": "00000000000000aa", "done": True, "text": "lamp done"}
                assert await rest.ask(command, "POST") == (200, done)
                assert await rest.ask(command, "POST") == (200, done)
                assert sensor.commands == [("lamp", True)]
                assert (await rest.ask(command.replace("=true", "=false"), "POST"))[0] == 409
                told = await rest.ask(f"/v1/devices/{id_}/commands?name=fail", "POST")
                assert (told[0], told[1]["done"]) == (200, False)
                assert len((await rest.get(f"/v1/devices/{id_}/commands"))["commands"]) == 2
                asked = await rest.ask(f"/v1/devices/{id_}/ask?sensor=count", "POST")
                assert (asked[0], list(asked[1]["readings"])) == (200, ["count"])
                assert (await rest.ask(f"/v1/devices/{id_}/ask?sensor=nothing", "POST"))[0] == 502

                made = owner.sign_list(ListKind.REVOCATIONS, (bytes.fromhex(id_),))
                assert await rest.ask("/v1/trust/lists", "POST", made.encode()) == (200, {"new": True})
                assert await rest.ask("/v1/trust/lists", "POST", made.encode()) == (200, {"new": False})
                await until(lambda: gateway.member.trust.lists.get(ListKind.REVOCATIONS) == made, 3)
                device = await soon(rest, f"/v1/devices/{id_}", lambda told: not told["connected"])
                assert not device["trust"]["trusted"]
                assert "revoked" in device["reason"]
                assert (await rest.get("/v1/trust"))["revoked"] == [id_]
                assert (await rest.ask(command.replace("=00000000000000aa", "=00000000000000ab"), "POST"))[0] == 504
            gateways = (await soon(rest, "/v1/gateways", lambda told: not told["gateways"][0]["connected"]))["gateways"]
            assert [each["name"] for each in gateways] == ["cellar"]

    asyncio.run(main())


def test_what_comes_while_the_cloud_is_away_or_cut_arrives_once_and_in_order(tmp_path: Path, database_url: str) -> None:
    async def main() -> None:
        owner, sensor = company(tmp_path), Sensor()
        gateway_folder = enrolled(tmp_path, Role.GATEWAY, "cellar", owner)
        boiler = enrolled(tmp_path, Role.DEVICE, "boiler", owner)
        path = f"/v1/devices/{boiler.signed().certificate.id.hex()}/readings?limit=500"
        async with cloud_at(tmp_path, owner, database_url) as running:
            place = running.place
            config = gateway_config(place)  # type: ignore[arg-type]
            gateway = await stack_enter(gateway_at(gateway_folder, config))
            device = await stack_enter(device_at(boiler, sensor, gateway[1]))
            rest = running.rest()
            async with asyncio.timeout(60):
                while (await rest.ask(path))[0] != 200:
                    await asyncio.sleep(0.05)
            await soon(rest, path, lambda told: len(told["readings"]) > 3)
        try:
            for _ in range(2):
                before = sensor.reads
                await until(lambda: sensor.reads > before + 5)  # noqa: B023
                async with cloud_at(tmp_path, owner, database_url, (place[1], place[2])) as running:  # type: ignore[misc]
                    rest.url = running.url
                    reads = sensor.reads

                    def is_newer(told: Any, reads: int = reads) -> bool:
                        return bool(told["readings"] and told["readings"][0]["readings"]["count"] > reads)

                    told = await soon(rest, path, is_newer, 60)
                    counts = [each["readings"]["count"] for each in reversed(told["readings"])]
                    assert counts == list(range(1, len(counts) + 1))
        finally:
            await device[0].__aexit__(None, None, None)
            await gateway[0].__aexit__(None, None, None)

    asyncio.run(main())


async def stack_enter(manager: Any) -> tuple[Any, Any]:
    return manager, await manager.__aenter__()


def test_a_gateway_that_is_not_trusted_brings_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        owner, stranger = company(tmp_path), company(tmp_path, "Mallory")
        stranger.put_network(owner.network())
        folder = enrolled(tmp_path, Role.GATEWAY, "rogue", stranger)
        folder.put_owner(owner.signed().certificate)  # it would trust the cloud
        async with cloud_at(tmp_path, owner) as running:
            rest = running.rest()
            async with gateway_at(folder, gateway_config(running.place)):  # type: ignore[arg-type]
                await until(lambda: running.cloud.refused > 0)
            assert (await rest.get("/v1/gateways"))["gateways"] == []

    asyncio.run(main())


def test_a_gateway_that_is_revoked_while_connected_is_closed_within_two_seconds(tmp_path: Path) -> None:
    async def main() -> None:
        owner = company(tmp_path)
        folder = enrolled(tmp_path, Role.GATEWAY, "cellar", owner)
        async with (
            cloud_at(tmp_path, owner) as running,
            gateway_at(folder, gateway_config(running.place)),  # type: ignore[arg-type]
        ):
            await until(lambda: running.cloud.gateways)
            made = owner.sign_list(ListKind.REVOCATIONS, (folder.signed().certificate.id,))
            running.cloud.member.folder.put_list(made)
            await until(lambda: not running.cloud.gateways, 2)

    asyncio.run(main())


def test_who_expires_while_connected_is_closed_within_two_seconds_and_rest_says_so(tmp_path: Path) -> None:
    async def main() -> None:
        owner = company(tmp_path)
        folder = enrolled(tmp_path, Role.GATEWAY, "cellar", owner)
        boiler = enrolled(tmp_path, Role.DEVICE, "boiler", owner)
        async with cloud_at(tmp_path, owner) as running:
            now = int(time.time())
            expires = {"boiler": certify(boiler, owner, now + 4), "cellar": certify(folder, owner, now + 6)}
            async with (
                gateway_at(folder, gateway_config(running.place)) as gateway,  # type: ignore[arg-type]
                device_at(boiler, Sensor(), gateway),
            ):
                rest = running.rest()
                await soon(rest, "/v1/network", lambda told: told["devices"] == told["gateways"] == 1, 3)
                await soon(rest, "/v1/network", lambda told: told["devices"] == told["gateways"] == 0)
                for each in (await rest.get("/v1/connections"))["connections"]:
                    assert 0 <= each["left_ms"] / 1000 - expires.pop(each["name"]) < 2
                    assert "has expired" in each["reason"]
                assert not expires

    asyncio.run(main())


def certify(folder: IdentityFolder, owner: IdentityFolder, expires: int) -> int:
    old = folder.signed().certificate
    renewed = folder.secrets().certificate(old.role, old.name, old.created, expires)
    folder.put_signed(add_signature(SignedCertificate(renewed), owner.secrets().sign(renewed)))
    return expires


def test_a_gateway_takes_a_new_key_when_the_old_one_has_had_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        owner = company(tmp_path)
        folder = enrolled(tmp_path, Role.GATEWAY, "cellar", owner)
        async with cloud_at(tmp_path, owner) as running:
            object.__setattr__(running.config.gateways, "rekey_s", 0.5)
            async with gateway_at(folder, gateway_config(running.place)):  # type: ignore[arg-type]
                await until(lambda: running.cloud.gateways)
                first = next(iter(running.cloud.gateways.values()))
                await until(lambda: first not in running.cloud.gateways.values() and running.cloud.gateways)
            rest = running.rest()
            told = (await rest.get("/v1/connections"))["connections"]
            assert [each["name"] for each in told] == ["cellar"]  # it was never away

    asyncio.run(main())


def test_a_second_server_on_the_database_serves_rest_and_takes_no_gateways(tmp_path: Path) -> None:
    async def main() -> None:
        owner = company(tmp_path)
        async with cloud_at(tmp_path, owner) as running:
            with pytest.raises(BaseExceptionGroup) as raised:
                async with cloud_at(tmp_path, owner):
                    pass
            assert raised.group_contains(UsageError, match=r"another server takes from gateways")
            assert (await running.rest().get("/v1/network"))["gateways"] == 0

    asyncio.run(main())


def test_a_partner_sees_what_its_company_has_signed_until_it_is_revoked(tmp_path: Path) -> None:
    async def main() -> None:
        owner, partner = company(tmp_path), company(tmp_path, "Partner")
        folder = enrolled(tmp_path, Role.GATEWAY, "cellar", owner)
        shared = enrolled(tmp_path, Role.DEVICE, "shared", owner)
        own = enrolled(tmp_path, Role.DEVICE, "own", owner)
        signed = shared.signed()
        shared.put_signed(add_signature(signed, partner.secrets().sign(signed.certificate)))
        owner.sign_list(ListKind.PARTIES, (partner.signed().certificate,))
        async with cloud_at(tmp_path, owner) as running:
            rest, theirs = running.rest(), running.rest("partner", partner)
            async with (
                gateway_at(folder, gateway_config(running.place)) as gateway,  # type: ignore[arg-type]
                device_at(shared, Sensor(), gateway),
                device_at(own, Sensor(), gateway),
            ):
                await soon(
                    rest, "/v1/devices", lambda told: [1 for one in told["devices"] if one["readings"]] == [1, 1]
                )
                assert [each["name"] for each in (await theirs.get("/v1/devices"))["devices"]] == ["shared"]
                assert {each["name"] for each in (await theirs.get("/v1/connections"))["connections"]} == {"shared"}
                assert (await theirs.get("/v1/network"))["devices"] == 1
                assert (await theirs.get("/v1/gateways"))["gateways"][0]["devices"] == 1
                id_ = own.signed().certificate.id.hex()
                assert (await theirs.ask(f"/v1/devices/{id_}/readings"))[0] == 404
                assert (await theirs.ask("/v1/trust"))[0] == 403
                stolen = Rest(running.url, theirs.token)
                assert (await stolen.ask("/v1/devices"))[0] == 401
                thief = Rest(running.url, theirs.token, owner.secrets())
                assert (await thief.ask("/v1/devices"))[0] == 401
                headers = theirs.headers("GET", "/v1/devices")
                assert (await theirs.ask("/v1/devices", headers=headers))[0] == 200
                assert (await theirs.ask("/v1/devices", headers=headers))[0] == 401  # a proof is for one request
                assert (await theirs.ask("/v1/alerts", headers=theirs.headers("GET", "/v1/devices")))[0] == 401
                made = owner.sign_list(ListKind.REVOCATIONS, (partner.signed().certificate.id,))
                assert (await rest.ask("/v1/trust/lists", "POST", made.encode()))[0] == 200
                assert (await theirs.ask("/v1/devices"))[0] == 401

    asyncio.run(main())


def test_a_batch_that_overtook_another_waits_for_it_and_one_after_a_gap_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cloud, "GAP_S", 1.0)

    async def main() -> None:
        owner = company(tmp_path)
        member = Member(enrolled(tmp_path, Role.GATEWAY, "cellar", owner), Role.GATEWAY)
        async with cloud_at(tmp_path, owner) as running:
            host, port, other = running.place  # type: ignore[misc]
            established = await negotiate((host, port), member.network, member.config(Role.CLOUD))
            session = await connect((host, other), established, TransmissionEnd.UPLINK)
            records = [encode_record(ReadingRecord(bytes(16), 1, {"count": count})) for count in range(3)]
            later = asyncio.ensure_future(session.request(RecordBatch(b"epoch 01", 2, (records[1],))))
            await asyncio.sleep(0.3)
            assert not later.done()
            first = await session.request(RecordBatch(b"epoch 01", 1, (records[0],)))
            assert [first, await later] == [Acknowledgement()] * 2
            refused = await session.request(RecordBatch(b"epoch 01", 5, (records[2],)))
            assert isinstance(refused, ErrorMessage)
            assert refused.code is ErrorCode.REFUSED
            assert running.cloud.store is not None
            assert running.cloud.store.counts["readings"] == 2
            session.close("done")

    asyncio.run(main())
