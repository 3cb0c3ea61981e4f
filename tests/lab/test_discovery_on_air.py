"""Discovery and the adapter's keeper on virtual Pis: real advertisements, real scans, real faults and recoveries."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from running_lab import RunningLab

pytest.importorskip(
    "bluezero", reason="apt install python3-dbus python3-gi; pip install bluezero; a venv that sees both"
)
pytest.importorskip("gi", reason="apt install python3-gi; a venv with --system-site-packages")
pytestmark = pytest.mark.lab

PROGRAM = Path(__file__).with_name("discovery_node.py")
BLUETOOTHD = "setsid /usr/libexec/bluetooth/bluetoothd --nodetach --experimental >/run/lab/bluetoothd.log 2>&1 & true"
SETTLE_S = 60.0
END = "[ ! -e /run/node.pid ] || { kill -9 $(cat /run/node.pid) 2>/dev/null; rm /run/node.pid; sleep 2; }"
"""Of the node that runs on a machine, if there is one."""
State = dict[str, Any]


class DiscoveryNode:
    """`discovery_node.py` on one machine."""

    def __init__(self, lab: RunningLab, machine: str, environment: str = "") -> None:
        self.lab, self.machine = lab, machine
        self.address = lab.address(machine)
        lab.run(
            machine,
            f"{END}; rm -f /lab/node.json; {environment} PYTHONDONTWRITEBYTECODE=1 setsid {sys.executable} {PROGRAM} "
            f"{machine} </dev/null >/run/lab/node.log 2>&1 & echo $! >/run/node.pid",
        ).check()
        self.until(lambda state: True)

    @property
    def state(self) -> State:
        state: State = json.loads((self.lab.shared[self.machine] / "node.json").read_text())
        return state

    @property
    def log(self) -> str:
        return self.lab.run(self.machine, "cat /run/lab/node.log").check()

    def tell(self, word: str) -> None:
        """And wait until it is done."""
        before = len(self.state["done"])
        self.lab.run(self.machine, f"echo {word} >/run/node.in").check()
        self.until(lambda state: len(state["done"]) > before)

    def stop(self) -> None:
        """And wait until it has ended."""
        self.tell("stop")
        self.lab.run(self.machine, "timeout 30 tail --pid=$(cat /run/node.pid) -f /dev/null").check()

    def until(self, holds: Callable[[State], bool]) -> State:
        """The first state for which it holds."""
        end = time.monotonic() + SETTLE_S
        state: State = {}
        while time.monotonic() < end:
            try:
                state = self.state
            except FileNotFoundError:  # not there yet
                time.sleep(0.2)
                continue
            if holds(state):
                return state
            time.sleep(0.2)
        raise AssertionError(f"not in {SETTLE_S:g} s: {json.dumps(state, indent=1)}\n{self.log}")


@pytest.fixture(scope="module")
def nodes(lab_of: Callable[..., RunningLab]) -> tuple[DiscoveryNode, DiscoveryNode]:
    lab = lab_of("alice", "bob")
    return DiscoveryNode(lab, "alice"), DiscoveryNode(lab, "bob")


Nodes = tuple[DiscoveryNode, DiscoveryNode]


def advertises(by: str = "bluez") -> Callable[[State], bool]:
    return lambda state: bool(state["discovery"]["advertising"] == by)


def sees_anew(node: DiscoveryNode, other: DiscoveryNode) -> State:
    """Wait until it hears the other one from now on."""
    now = node.state["now"]
    return node.until(lambda state: state["sightings"].get(other.address, {"seen_at": 0})["seen_at"] > now)


def test_two_nodes_see_each_other_with_name_profile_and_rssi(nodes: Nodes) -> None:
    alice, bob = nodes
    alice.lab.do("air", model="distance:alice=3,bob=3,floor=0.05")
    near = sees_anew(alice, bob)["sightings"][bob.address]
    assert (near["name"], near["profile"], near["version"]) == ("bob", "hardened", 1)
    assert -90 < near["rssi"] < -30
    assert sees_anew(bob, alice)["sightings"][alice.address]["name"] == "alice"
    alice.lab.do("air", model="distance:alice=12,bob=12,floor=0.05")
    time.sleep(4)
    assert sees_anew(alice, bob)["sightings"][bob.address]["rssi"] < near["rssi"] - 3


@pytest.mark.long
def test_between_pause_and_resume_a_node_neither_advertises_nor_scans(nodes: Nodes) -> None:
    alice, bob = nodes
    bob.until(advertises())
    bob.tell("pause")
    assert bob.state["discovery"] == bob.state["discovery"] | {"advertising": "paused", "scanning": False}
    time.sleep(1)
    silent_from = alice.state["now"]
    time.sleep(6)
    assert alice.state["sightings"][bob.address]["seen_at"] < silent_from
    assert not bob.state["discovery"]["scanning"]
    bob.tell("resume")
    sees_anew(alice, bob)
    bob.until(advertises())


def test_an_adapter_that_was_switched_off_comes_back_and_is_found_again(nodes: Nodes) -> None:
    alice, bob = nodes
    told = len(bob.state["told"])
    bob.lab.run("bob", "hciconfig hci0 down").check()
    state = bob.until(lambda state: state["told"][told:][:2] == ["down", bob.address])
    assert state["adapter"]["state"] == "up"
    bob.until(advertises())
    sees_anew(alice, bob)


@pytest.mark.long
def test_a_radio_switch_is_lifted(nodes: Nodes) -> None:
    alice, bob = nodes
    told = len(bob.state["told"])
    bob.lab.run("bob", "echo 1 >/sys/class/rfkill/rfkill0/soft || ls /sys/class/rfkill").check()
    bob.until(lambda state: state["told"][told:][1:2] == [bob.address])
    assert "unblocking the radio switch of hci0" in bob.log
    bob.until(advertises())
    sees_anew(alice, bob)


@pytest.mark.long
def test_an_adapter_that_is_pulled_out_is_missed_and_taken_up_again(nodes: Nodes) -> None:
    alice, bob = nodes
    told = len(bob.state["told"])
    bob.lab.run("bob", "kill $(pidof btattach)").check()
    state = bob.until(lambda state: state["adapter"]["state"] == "missing" and bool(state["adapter"]["trouble"]))
    assert state["told"][told:] == ["missing"]
    assert "there is no hci0" in state["adapter"]["trouble"]
    bob.until(advertises("off"))
    bob.lab.run("bob", ". /lab/devices.sh; setsid btattach -B $UART -P h4 >/run/lab/btattach.log 2>&1 & true").check()
    state = bob.until(lambda state: state["told"][told:][1:2] == [bob.address])
    assert state["adapter"]["trouble"] == ""
    bob.until(advertises())
    sees_anew(alice, bob)
    sees_anew(bob, alice)


@pytest.mark.long
def test_a_power_cycle_on_demand_is_a_fall_and_a_return(nodes: Nodes) -> None:
    _, bob = nodes
    told = len(bob.state["told"])
    bob.tell("power_cycle")
    bob.until(lambda state: state["told"][told:] == ["down", bob.address])
    bob.until(advertises())


@pytest.mark.long
def test_a_restart_of_bluetoothd_is_survived(nodes: Nodes) -> None:
    alice, bob = nodes
    bob.lab.run("bob", "kill $(pidof bluetoothd)").check()
    bob.until(advertises("off"))
    bob.lab.run("bob", BLUETOOTHD).check()
    bob.until(advertises())
    sees_anew(alice, bob)
    sees_anew(bob, alice)


@pytest.mark.long
def test_a_daemon_that_is_killed_leaves_no_advertisement_behind(nodes: Nodes) -> None:
    _, bob = nodes
    bob.until(advertises())
    bob.lab.run("bob", "kill -9 $(cat /run/node.pid) && rm /run/node.pid").check()
    time.sleep(2)
    assert bob.lab.run("bob", "pgrep -f bt_selfsecure.node.beacon").status == 1
    instances = "busctl get-property org.bluez /org/bluez/hci0 org.bluez.LEAdvertisingManager1 ActiveInstances"
    assert bob.lab.run("bob", instances).check().split() == ["y", "0"]


@pytest.mark.long
def test_without_bluezero_raw_hci_advertises_and_says_so_once(nodes: Nodes) -> None:
    alice, bob = nodes
    missing = "mkdir -p /run/no; echo 'raise ImportError(\"no bluezero here\")' >/run/no/bluezero.py"
    bob.lab.run("bob", f"{missing}").check()
    raw = DiscoveryNode(bob.lab, "bob", "PYTHONPATH=/run/no")
    assert "no bluezero here" in raw.until(advertises("raw-hci"))["discovery"]["advertising_trouble"]
    seen = sees_anew(alice, raw)["sightings"][bob.address]
    assert (seen["name"], seen["profile"]) == ("bob", "hardened")
    raw.tell("pause")
    assert raw.state["discovery"]["advertising"] == "paused"
    silent_from = alice.state["now"] + 1
    time.sleep(7)
    assert alice.state["sightings"][bob.address]["seen_at"] < silent_from
    raw.tell("resume")
    sees_anew(alice, raw)
    raw.tell("power_cycle")
    time.sleep(1)
    sees_anew(alice, raw)
    assert raw.log.count("raw HCI advertises instead") == 1
    raw.stop()
    assert bob.lab.run("bob", "pgrep -f discovery_node").status == 1


READ_STATUS = """
import asyncio, sys
from bleak import BleakClient, BleakScanner
from bt_selfsecure.node.beacon import STATUS_UUID
async def main():
    device = await BleakScanner.find_device_by_address(sys.argv[1], timeout=20)
    async with BleakClient(device) as client:
        print((await client.read_gatt_char(STATUS_UUID)).decode())
asyncio.run(main())
"""


@pytest.mark.long
def test_the_gatt_service_shows_the_nodes_status_to_a_peer_that_can_connect(nodes: Nodes) -> None:
    """A dual-mode peer refuses the connection (BlueZ takes BR/EDR), so bob is LE only here."""
    alice, bob = nodes
    bob.lab.run(
        "bob",
        "sed -i 's/^#*ControllerMode.*/ControllerMode = le/' /etc/bluetooth/main.conf; kill $(pidof bluetoothd); "
        f"sleep 1; {BLUETOOTHD}",
    ).check()
    again = DiscoveryNode(bob.lab, "bob")
    again.until(advertises())
    alice.stop()
    read = f"PYTHONDONTWRITEBYTECODE=1 {sys.executable} -c '{READ_STATUS}' {bob.address}"
    assert json.loads(alice.lab.run("alice", read).check()) == {"name": "bob", "sessions": 0}
