"""A stranger with bluetoothctl, and the adapter's settings, on machines with a node over RFCOMM."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import pytest
from lab_nodes import Nodes
from running_lab import RunningLab

pytestmark = pytest.mark.lab

SETTINGS = ("Discoverable", "DiscoverableTimeout", "Pairable", "PairableTimeout", "Connectable")
CONNECTABLE = "busctl get-property org.bluez /org/bluez/hci0 org.bluez.Adapter1 Connectable 2>/dev/null"
"""bluetoothctl does not show it, and bluetoothd has it since 5.77."""
MEMORY = "/var/lib/bt-selfsecure/adapter-settings.json"
"""How the adapter was before the node; the run after a crash takes it over."""
# bluetoothctl 5.82 reads on before it has found bluetoothd, and then has no agent.
PAIR = """\
(sleep 3; echo 'agent {capability}'; echo default-agent; echo 'menu scan'; echo 'transport {transport}'; echo back
 echo 'scan on'; sleep 12; echo 'pair {address}'; sleep 6; echo yes; sleep 6; echo 'scan off'; echo quit) |
 timeout 60 bluetoothctl
"""


def paired(lab: RunningLab, name: str) -> set[str]:
    """Return the device addresses with which this machine has paired."""
    said = lab.run(name, "bluetoothctl devices Paired || bluetoothctl paired-devices").check()
    return set(re.findall(r"Device ((?:[0-9A-F]{2}:){5}[0-9A-F]{2})", said))


def settings(lab: RunningLab, name: str) -> dict[str, str]:
    said = lab.run(name, f"bluetoothctl show; echo Connectable: $({CONNECTABLE} || echo none)").check()
    return {key: value for key, value in re.findall(r"^\s*(\w+): (\S.*)", said, re.MULTILINE) if key in SETTINGS}


def wait_until_pairable(lab: RunningLab, name: str, value: str) -> None:
    until = time.monotonic() + 60
    while settings(lab, name)["Pairable"] != value:
        assert time.monotonic() < until
        time.sleep(1)


@pytest.fixture(scope="module")
def nodes(lab_of: Callable[..., RunningLab]) -> Nodes:
    lab = lab_of("alice", "bob", "mallory")
    return Nodes(lab)


WAYS = [
    ("NoInputNoOutput", "bredr"),
    *(pytest.param(*way, marks=pytest.mark.long) for way in (("NoInputNoOutput", "le"), ("DisplayYesNo", "bredr"))),
]


@pytest.mark.parametrize(("capability", "transport"), WAYS)
def test_a_stranger_with_bluetoothctl_cannot_pair_while_a_node_waits_for_a_peer(
    nodes: Nodes, capability: str, transport: str
) -> None:
    lab = nodes.lab
    # Without a word from its owner a computer with BlueZ 5.82 is not found by an inquiry, only called.
    lab.run("bob", "bluetoothctl discoverable-timeout 0 && bluetoothctl discoverable on").check()
    before = settings(lab, "bob")
    nodes.begin(pairs=lambda one, other: "mallory" not in (one, other))
    lab.run("mallory", "kill $(cat /run/lab/node.pid)").check()
    nodes.wait_for("bob", "alice", lambda peer: peer["state"] == "connected")
    wait_until_pairable(lab, "bob", "no")
    nodes.kill("alice")
    wait_until_pairable(lab, "bob", "yes")
    said = lab.run("mallory", PAIR.format(capability=capability, transport=transport, address=lab.address("bob")), 120)
    assert paired(lab, "bob") == {lab.address("alice")}, said
    assert "is no peer: refused" in lab.run("bob", "cat /run/lab/node.log").check()
    nodes.end()
    assert settings(lab, "bob") == before
    lab.run("bob", f"! test -e {MEMORY}").check()


@pytest.mark.parametrize("discoverable", ["off", "on"])
def test_settings_are_as_before_a_crash_when_the_next_run_has_ended(nodes: Nodes, discoverable: str) -> None:
    """Also of an adapter that is discoverable for a time, of which BlueZ 5.82 refuses to set some."""
    lab = nodes.lab
    nodes.end()
    words = "pairable off", "discoverable-timeout 900", f"discoverable {discoverable}"
    lab.run("bob", " && ".join(f"bluetoothctl {word}" for word in words)).check()
    before = settings(lab, "bob")
    nodes.begin(pairs=lambda one, other: "mallory" not in (one, other))
    wait_until_pairable(lab, "bob", "yes")
    nodes.kill("bob")
    assert '"DiscoverableTimeout": 900' in lab.run("bob", f"cat {MEMORY}").check()
    nodes.start("bob")
    nodes.wait_for("bob", "alice", lambda peer: peer["state"] == "connected")
    nodes.end()
    assert settings(lab, "bob") == before
    lab.run("bob", f"! test -e {MEMORY}").check()
