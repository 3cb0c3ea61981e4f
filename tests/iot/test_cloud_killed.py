"""A cloud as a process that is killed in mid traffic, ten times, while a gateway with a device goes on: no reading and
no alert is lost or doubled. In SQLite and in PostgreSQL."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from pathlib import Path

import pytest
from cloud_network import cloud_config
from iot_network import Sensor, company, device_at, enrolled, gateway_at, gateway_config, until

from bt_selfsecure.free_ports import free_ports
from bt_selfsecure.iot.cloud import queries
from bt_selfsecure.iot.cloud.api_operations import AlertsQuery, ReadingsQuery
from bt_selfsecure.iot.cloud.running import open_base
from bt_selfsecure.protocols.iotcrypto.certificate import Role

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]
KILLS = 10


def test_a_cloud_that_is_killed_ten_times_loses_and_doubles_nothing(tmp_path: Path, database_url: str) -> None:
    async def main() -> None:
        owner, sensor, drawn = company(tmp_path), Sensor(), random.Random(1)
        gateway_folder = enrolled(tmp_path, Role.GATEWAY, "cellar", owner)
        boiler = enrolled(tmp_path, Role.DEVICE, "boiler", owner)
        state, ports = enrolled(tmp_path, Role.CLOUD, "cloud", owner).path, free_ports("127.0.0.1", 2)
        file = tmp_path / "cloud.toml"
        file.write_text(
            f'[cloud]\nstate = "{state}"\ndatabase = "{database_url}"\n[api]\nport = 0\nhttps = "off"\n'
            f'listen = ["127.0.0.1"]\n[gateways]\nlisten = ["127.0.0.1"]\nnegotiation_port = {ports[0]}\n'
            f"transmission_port = {ports[1]}\n"
        )
        command = [sys.executable, "-m", "bt_selfsecure.cli.main", "cloud", "run", "--config", str(file)]
        told = 0
        place = "127.0.0.1", *ports
        async with (
            gateway_at(gateway_folder, gateway_config(place, fetch_s=0.1)) as gateway,  # type: ignore[arg-type]
            device_at(boiler, sensor, gateway),
        ):
            assert gateway.uplink is not None
            for _ in range(KILLS):
                acknowledged = gateway.uplink.acknowledged
                with (tmp_path / "log").open("ab") as log:
                    process = subprocess.Popen(command, stdout=log, stderr=log)
                await until(lambda: gateway.uplink.acknowledged > acknowledged + 3, 60)  # type: ignore[union-attr] # noqa: B023
                sensor.to_tell.append((f"alert {told}", told))
                told += 1
                await asyncio.sleep(drawn.random() / 2)
                process.kill()
                process.wait()
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                reads = sensor.reads
                await until(lambda: sensor.reads > reads + 3, 60)
                await until(lambda: gateway.writer.waiting < 3, 60)
                await until(lambda: not sensor.to_tell, 60)
                await asyncio.sleep(2)
            finally:
                process.terminate()
                assert process.wait(30) == 0
        base = open_base(cloud_config(state, database_url))
        alerts = queries.alerts(base, None, AlertsQuery(limit=500))["alerts"]
        assert [each["value"] for each in reversed(alerts)] == list(range(told))
        identity = boiler.signed().certificate.id.hex()
        counts, before = [], 2**53 - 1
        while before:
            page = queries.readings(base, None, identity, ReadingsQuery(before=before, limit=500))
            counts += [each["readings"]["count"] for each in page["readings"]]
            before = page["next"]
        base.close()
        assert list(reversed(counts)) == list(range(1, len(counts) + 1))
        assert len(counts) >= reads

    asyncio.run(main())
