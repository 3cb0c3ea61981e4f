"""A cloud that is away for ten minutes: all arrives later, in order, each once. With SQLite and with PostgreSQL."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest
from cloud_network import cloud_at
from iot_network import Sensor, company, device_at, enrolled, gateway_at, gateway_config, until
from virtual_loop import run_virtually, virtual_wall

from bt_selfsecure.iot.cloud.copies import batches
from bt_selfsecure.iot.cloud.running import open_base
from bt_selfsecure.iot.gateway.gateway import Gateway
from bt_selfsecure.protocols.iotcrypto.certificate import Role

AWAY_S = 600.0
FETCH_S = 2.0
LEAST = 0.7 * AWAY_S / FETCH_S


async def without_a_cloud(gateway: Gateway, sensor: Sensor) -> None:
    before = sensor.reads
    for minute in range(10):
        sensor.to_tell.append((f"minute {minute}", minute))
        await asyncio.sleep(AWAY_S / 10)
    assert sensor.reads - before > LEAST
    assert gateway.writer.waiting > LEAST


@pytest.mark.long
def test_ten_minutes_without_a_cloud_arrive_later_in_order(tmp_path: Path, database_url: str) -> None:
    owner = company(tmp_path)
    gateway_folder = enrolled(tmp_path, Role.GATEWAY, "cellar", owner)
    device = enrolled(tmp_path, Role.DEVICE, "boiler", owner)

    async def main() -> None:
        sensor = Sensor()
        async with contextlib.AsyncExitStack() as stack:
            async with cloud_at(tmp_path, owner, database_url) as running:
                place, clock = running.place, {"wall": virtual_wall()}
                config = gateway_config(place, fetch_s=FETCH_S)
                gateway = await stack.enter_async_context(gateway_at(gateway_folder, config, **clock))
                await stack.enter_async_context(device_at(device, sensor, gateway, **clock))
                await until(lambda: running.cloud.store and running.cloud.store.counts["readings"] > 1, 60)
            await without_a_cloud(gateway, sensor)
            async with cloud_at(tmp_path, owner, database_url, place[1:]) as running:  # type: ignore[arg-type]
                await until(lambda: not gateway.writer.waiting, 60)
        base = open_base(running.config)
        records = [record for _, piece in batches(base, 0, follow=False) for record in piece]
        base.close()
        readings = [each for each in records if each["kind"] == "reading"]
        counts = [each["readings"]["count"] for each in readings]
        assert counts == list(range(1, len(counts) + 1))
        assert len(counts) > LEAST
        times = [each["time_ms"] for each in readings]
        assert times == sorted(times)
        assert times[-1] - times[0] > AWAY_S * 1000
        assert [each["text"] for each in records if each["kind"] == "alert"] == [f"minute {at}" for at in range(10)]

    run_virtually(main())
