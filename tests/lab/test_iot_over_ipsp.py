"""A gateway and two devices, three machines, over Bluetooth (IPSP) alone: readings, commands, alerts, revocation, and
power cuts in mid traffic."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from running_lab import RunningLab

from bt_selfsecure.iot.folder import IdentityFolder, new_network, prepare
from bt_selfsecure.protocols.iotcrypto.certificate import Role
from bt_selfsecure.protocols.iotcrypto.lists import ListKind

pytestmark = pytest.mark.lab

GATEWAY = """\
[gateway]
state = "/root/iot"
socket = "/root/iot/gateway.sock"
socket_group = ""
[devices]
listen = ["::"]
interfaces = ["bt0"]
fetch_s = 2
[ipsp]
enabled = true
"""
PROGRAM = """\
from pathlib import Path
COUNT, LAMP, TOLD = Path("/root/count"), Path("/root/lamp"), Path("/root/told")
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
    if TOLD.exists():
        text = TOLD.read_text().strip()
        TOLD.unlink()
        return [text]
"""
CLI = "bt-selfsecure gateway"
AT = "--config /lab/gateway.toml"


def put(lab: RunningLab, name: str, folder: IdentityFolder) -> None:
    """Copy a prepared folder to a machine, by what it shares with this computer."""
    shutil.copytree(folder.path, lab.shared[name] / "iot", dirs_exist_ok=True)
    lab.run(name, "cp -r /lab/iot /root/ && chmod -R go= /root/iot").check()


def begin(lab: RunningLab, name: str, command: str) -> None:
    lab.run(name, f"nohup {command} </dev/null >>/lab/{name}.log 2>&1 & echo $! >/root/pid").check()


def status(lab: RunningLab) -> dict[str, Any]:
    said = lab.run("cellar", f"{CLI} status --json {AT}", timeout=120.0)
    found: dict[str, Any] = json.loads(said.out) if said.out.startswith("{") else {"devices": []}
    return found


def wait_for(lab: RunningLab, condition: Callable[[dict[str, Any]], bool], seconds: float = 240.0) -> dict[str, Any]:
    until = time.monotonic() + seconds
    while not condition(now := status(lab)):
        assert time.monotonic() < until, now
        time.sleep(1)
    return now


def log(lab: RunningLab, name: str) -> str:
    path = lab.shared[name] / f"{name}.log"
    return path.read_text(errors="replace") if path.exists() else ""


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_two_devices_over_bluetooth_are_read_commanded_and_revoked(
    lab_of: Callable[..., RunningLab], tmp_path: Path
) -> None:
    lab = lab_of("cellar", "boiler", "lamp")
    owner = IdentityFolder(tmp_path / "owner")
    owner.make_key()
    owner.certify(Role.PARTY, "ACME", 30)
    owner.put_network(new_network("office"))
    folders = {name: IdentityFolder(tmp_path / name) for name in lab.names}
    for name, folder in folders.items():
        prepare(folder, Role.GATEWAY if name == "cellar" else Role.DEVICE, name, 30, owner)
        put(lab, name, folder)
    (lab.shared["cellar"] / "gateway.toml").write_text(GATEWAY)
    begin(lab, "cellar", f"{CLI} run {AT}")
    device = f"bt-selfsecure device run /lab/program.py --state /root/iot --ipsp {lab.address('cellar')}"
    for name in ("boiler", "lamp"):
        (lab.shared[name] / "program.py").write_text(PROGRAM)
        begin(lab, name, device)

    seen = wait_for(lab, lambda now: len(now["devices"]) == 2 and all(one["readings"] for one in now["devices"]))
    assert {one["name"] for one in seen["devices"]} == {"boiler", "lamp"}
    assert all(one["where"].startswith("[fe80::") for one in seen["devices"])
    assert "lamp true" in lab.run("cellar", f"{CLI} command lamp lamp true {AT}").check().lower()
    assert lab.run("cellar", f"{CLI} ask lamp lamp {AT}").check().strip() == "lamp true"
    lab.run("boiler", "echo it is hot >/root/told").check()
    until = time.monotonic() + 60
    while "it is hot" not in log(lab, "cellar"):
        assert time.monotonic() < until, log(lab, "cellar")
        time.sleep(1)

    for number in range(3):  # the power of a device is cut, and comes back
        lab.do("kill", machine="boiler")
        lab.do("start", machine="boiler")
        lab.run("boiler", f"echo after {number} >/root/told").check()
        begin(lab, "boiler", device)
        wait_for(lab, lambda now: any(one["name"] == "boiler" for one in now["devices"]), 400)
        until = time.monotonic() + 120
        while f"after {number}" not in log(lab, "cellar"):
            assert time.monotonic() < until, log(lab, "cellar")
            time.sleep(1)
    told = [line.rpartition(": ")[2] for line in log(lab, "cellar").splitlines() if "alert of" in line]
    assert told == ["it is hot", "after 0", "after 1", "after 2"]

    owner.sign_list(ListKind.REVOCATIONS, (folders["lamp"].signed().certificate.id,))
    shutil.copy(owner.path / "revocations.list", lab.shared["cellar"])
    lab.run("cellar", "bt-selfsecure iotcrypto trust --take /lab/revocations.list --state /root/iot").check()
    wait_for(lab, lambda now: [one["name"] for one in now["devices"]] == ["boiler"], 60)
    assert "was revoked" in log(lab, "cellar")
