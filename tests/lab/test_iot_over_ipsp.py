"""A gateway and two devices, three machines, over Bluetooth (IPSP) alone: readings, commands, alerts, revocation, and
power cuts in mid traffic."""

from __future__ import annotations

import json
import shutil
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from running_lab import RunningLab

from bt_selfsecure.iot.folder import IdentityFolder, new_network, prepare
from bt_selfsecure.protocols.iotcrypto.certificate import Role
from bt_selfsecure.protocols.iotcrypto.lists import ListKind
from bt_selfsecure.protocols.iotcrypto.records import AlertRecord, ReadingRecord, decode_record

pytestmark = [pytest.mark.lab, pytest.mark.long, pytest.mark.timeout(7200)]

CUTS = 10
"""Of each machine."""
SETTLED_S = 300.0
STATE = "/lab/iot"
"""Where a machine keeps what outlives its power, as on a card."""
CONFIG = """\
[gateway]
state = "/lab/iot"
socket = "/run/gateway.sock"
socket_group = ""
[devices]
listen = ["::"]
interfaces = ["bt0"]
fetch_s = 1
[ipsp]
enabled = true
"""
PROGRAM = """\
from pathlib import Path
COUNT, LAMP = Path("/lab/count"), Path("/lab/lamp")
SENSORS = ("count", "lamp")
def read_sensor(name):
    if name == "lamp":
        return LAMP.exists()
    now = int(COUNT.read_text() or 0) + 1 if COUNT.exists() else 1
    COUNT.write_text(str(now))
    return now
def execute(name, argument):
    LAMP.write_text("on") if argument else LAMP.unlink(missing_ok=True)
    return f"{name} {argument}"
def alerts():
    yield "every second"
"""
GATEWAY = "bt-selfsecure gateway"
AT = "--config /lab/gateway.toml"


class Network:
    """Is a company's three machines."""

    def __init__(self, lab: RunningLab, path: Path) -> None:
        self.lab = lab
        self.owner = IdentityFolder(path / "owner")
        self.owner.make_key()
        self.owner.certify(Role.PARTY, "ACME", 30)
        self.owner.put_network(new_network("office"))
        device = f"bt-selfsecure device run /lab/program.py --state {STATE} --ipsp {lab.address('cellar')}"
        self.commands = {"cellar": f"{GATEWAY} run {AT}", "boiler": device, "lamp": device}
        for name in lab.names:
            role = Role.GATEWAY if name == "cellar" else Role.DEVICE
            prepare(IdentityFolder(self.folder(name)), role, name, 30, self.owner)
            (lab.shared[name] / "program.py").write_text(PROGRAM)
            (lab.shared[name] / "gateway.toml").write_text(CONFIG)

    def folder(self, name: str) -> Path:
        return self.lab.shared[name] / "iot"

    def begin(self, name: str) -> None:
        self.lab.run(name, f"nohup {self.commands[name]} </dev/null >>/lab/{name}.log 2>&1 & echo").check()

    def cut(self, name: str) -> None:
        """Pull the plug, and put it in again."""
        self.lab.do("kill", machine=name)
        self.lab.do("start", machine=name)
        self.begin(name)

    def log(self, name: str) -> str:
        path = self.lab.shared[name] / f"{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def status(self) -> dict[str, Any]:
        said = self.lab.run("cellar", f"{GATEWAY} status --json {AT}", timeout=120.0).out
        found: dict[str, Any] = json.loads(said) if said.startswith("{") else {"devices": []}
        return found

    def wait_for(self, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        until = time.monotonic() + SETTLED_S
        while not condition(now := self.status()):
            assert time.monotonic() < until, "\n".join((str(now), *map(self.log, self.lab.names)))
            time.sleep(1)
        return now

    def wait_for_news(self) -> None:
        """Wait until both devices are connected and were read since now."""
        now_ms = time.time() * 1000
        self.wait_for(lambda now: sum(one["read_ms"] > now_ms for one in now["devices"]) == 2)


def rows(path: Path, query: str) -> list[Any]:
    """Read a store of a program that was ended."""
    base = sqlite3.connect(path)
    try:
        return base.execute(query).fetchall()
    finally:
        base.close()


def test_two_devices_over_bluetooth_are_read_commanded_cut_and_revoked(
    lab_of: Callable[..., RunningLab], tmp_path: Path
) -> None:
    network = Network(lab_of("cellar", "boiler", "lamp"), tmp_path)
    lab = network.lab
    for name in lab.names:
        network.begin(name)
    network.wait_for_news()
    seen = network.status()["devices"]
    assert {one["name"] for one in seen} == {"boiler", "lamp"}
    assert all(one["where"].startswith("[fe80::") for one in seen)
    assert "lamp True" in lab.run("cellar", f"{GATEWAY} command lamp lamp true {AT}").check()
    assert lab.run("cellar", f"{GATEWAY} ask lamp lamp {AT}").check().strip() == "lamp true"

    for _ in range(CUTS):
        for name in lab.names:
            network.cut(name)
            network.wait_for_news()

    lamp = IdentityFolder(network.folder("lamp")).signed().certificate.id
    network.owner.sign_list(ListKind.REVOCATIONS, (lamp,))
    shutil.copy(network.owner.path / "revocations.list", lab.shared["cellar"])
    lab.run("cellar", f"bt-selfsecure iotcrypto trust --take /lab/revocations.list --state {STATE}").check()
    network.wait_for(lambda now: [one["name"] for one in now["devices"]] == ["boiler"])
    assert "was revoked" in network.log("cellar")

    for name in lab.names:
        lab.do("kill", machine=name)
    kept = [decode_record(row[0]) for row in rows(network.folder("cellar") / "gateway.db", "SELECT record FROM outbox")]
    for name in ("boiler", "lamp"):
        own = IdentityFolder(network.folder(name)).signed().certificate.id
        read = [one.readings for one in kept if isinstance(one, ReadingRecord) and one.device == own]
        counts = [readings["count"] for readings in read if "count" in readings]  # `gateway ask` had the lamp alone
        assert len(counts) > CUTS
        assert counts == sorted({*counts})
        arrived = [one.id for one in kept if isinstance(one, AlertRecord) and one.device == own]
        waiting = [row[0] for row in rows(network.folder(name) / "device.db", "SELECT id FROM alert ORDER BY id")]
        assert len(arrived) > CUTS
        assert arrived == list(range(arrived[0], arrived[0] + len(arrived))), "lost or doubled"
        assert arrived[0] & 0xFFFFFFFF == 0
        assert [one for one in waiting if one not in arrived] == list(range(arrived[-1] + 1, (waiting or [0])[-1] + 1))
