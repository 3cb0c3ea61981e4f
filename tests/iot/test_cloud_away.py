"""A cloud that is away for ten minutes: all arrives later, in order, each once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from iot_network import CloudEnd, Sensor, company, device_at, enrolled, gateway_at, gateway_config, until
from virtual_loop import run_virtually

from bt_selfsecure.iot.members import Member
from bt_selfsecure.protocols.iotcrypto.certificate import Role
from bt_selfsecure.protocols.iotcrypto.records import AlertRecord, ReadingRecord

AWAY_S = 600.0
FETCH_S = 2.0


@pytest.mark.long
def test_ten_minutes_without_a_cloud_arrive_later_in_order(tmp_path: Path) -> None:
    owner = company(tmp_path)
    gateway_folder = enrolled(tmp_path, Role.GATEWAY, "cellar", owner)
    device = enrolled(tmp_path, Role.DEVICE, "boiler", owner)

    async def main() -> None:
        cloud, sensor = CloudEnd(Member(enrolled(tmp_path, Role.CLOUD, "cloud", owner), Role.CLOUD)), Sensor()
        ports = (await cloud.open())[1:]
        config = gateway_config(("127.0.0.1", *ports), fetch_s=FETCH_S)
        async with gateway_at(gateway_folder, config) as gateway, device_at(device, sensor, gateway):
            await until(lambda: len(cloud.all) > 5, 60)
            cloud.close()
            before = sensor.reads
            for minute in range(10):
                sensor.to_tell.append((f"minute {minute}", minute))
                await asyncio.sleep(AWAY_S / 10)
            assert sensor.reads - before > 0.7 * AWAY_S / FETCH_S
            assert gateway.writer.waiting > 0.7 * AWAY_S / FETCH_S
            await cloud.open(ports)
            await until(lambda: not gateway.writer.waiting, 120)
        cloud.close()
        counts = [one.readings["count"] for one in cloud.all if isinstance(one, ReadingRecord)]
        assert counts == list(range(1, len(counts) + 1))
        assert len(counts) > 0.7 * AWAY_S / FETCH_S
        told = [one.text for one in cloud.all if isinstance(one, AlertRecord)]
        assert told == [f"minute {minute}" for minute in range(10)]

    run_virtually(main())
