"""Two nodes of Hao and Xiao on the page of an IoT network: secret bits, losses and problems, and never a key."""

from __future__ import annotations

import asyncio
from base64 import b64encode, urlsafe_b64encode
from pathlib import Path
from typing import Any

import pytest
from cloud_network import cloud_at
from iot_network import company, device_at, enrolled, gateway_at, gateway_config, until

from bt_selfsecure.eve.haoxiao.attacks.theft import StolenRecord
from bt_selfsecure.iot.cloud.copies import batches
from bt_selfsecure.iot.cloud.running import open_base
from bt_selfsecure.iot.device.local_node import OF_METRICS
from bt_selfsecure.iot.device.program import Program
from bt_selfsecure.node.two_nodes import TwoNodes
from bt_selfsecure.protocols.iotcrypto.certificate import Role


def assert_no_key(nodes: Path, folders: list[Path]) -> None:
    """None of the keys in alice's journal is in any file there, as octets, hexadecimal or base64."""
    (journal,) = nodes.rglob("alice/journal.db")
    keys = {key for record in StolenRecord.read(journal) for key in (*record.sending._known, *record.receiving._known)}
    assert len(keys) >= 2
    forms = {
        form for key in keys for form in (key, key.hex().encode(), b64encode(key)[:40], urlsafe_b64encode(key)[:40])
    }
    kept = b"".join(path.read_bytes() for path in journal.parent.glob("journal.db*"))
    assert [form for form in forms if form in kept], "and there it is found"
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    assert {"cloud.db", "gateway.db", "device.db"} <= {path.name for path in files}
    for path in files:
        data = path.read_bytes()
        assert not [form for form in forms if form in data], path


def test_what_a_node_says_of_itself_is_beside_what_other_devices_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = TwoNodes(tmp_path / "nodes", 0.0)
    monkeypatch.setenv("BT_SELFSECURE_CONFIG", str(nodes.config("alice")))

    async def main() -> None:
        owner = company(tmp_path)
        folder = enrolled(tmp_path, Role.GATEWAY, "cellar", owner)
        alice = enrolled(tmp_path, Role.DEVICE, "alice", owner)
        program = Program.load("bt_selfsecure.iot.device.local_node")
        async with cloud_at(tmp_path, owner) as running:
            rest = running.rest()
            async with (
                gateway_at(folder, gateway_config(running.place, fetch_s=0.5)) as gateway,  # type: ignore[arg-type]
                device_at(alice, program, gateway),
            ):
                told: dict[str, Any] = {}
                async with asyncio.timeout(60):
                    while told.get("connected") != 1 or not told.get("establishments_total") or None in told.values():
                        await asyncio.sleep(0.2)
                        devices = (await rest.get("/v1/devices"))["devices"]
                        told = devices[0]["readings"] if devices else {}
                assert set(told) == set(program.sensors)
                assert told["least_secret_bits"] == 0  # over UDP nothing is secret by losses
                assert told.keys() >= set(OF_METRICS)
                assert 0 < told["uptime_seconds"] < 600
                await until(lambda: running.cloud.store and running.cloud.store.counts["alerts"] >= told["problems"])
            base = open_base(running.config)
            text = str([*batches(base, 0, follow=False)])
            base.close()
            status = nodes.client("alice").status()
            assert status["peers"][0]["key"]["fingerprint"] not in text
            assert_no_key(tmp_path / "nodes", [tmp_path / "cloud", folder.path, alice.path])

    try:
        nodes.start("alice", "bob")
        asyncio.run(main())
    finally:
        nodes.stop()
