"""A node joins a network over its radio alone: no interface but Bluetooth between it and its controller."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from running_lab import RunningLab

pytestmark = pytest.mark.lab

STATE = "--state /run/bootstrap"
SERVE = f"setsid bt-selfsecure bootstrap serve {STATE} --bind 127.0.0.1:5701 >/run/serve.log 2>&1 </dev/null & true"
JOIN = f"bt-selfsecure bootstrap join {STATE} --no-peer"
TRACES = "bluetoothctl devices Connected; bluetoothctl devices Paired; grep -rl LinkKey /var/lib/bluetooth; true"
PATIENCE_S = 90


def wait_until(look: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE_S
    while not look():
        assert time.monotonic() < until
        time.sleep(0.5)


def test_a_node_joins_over_rfcomm_and_no_bond_is_left(lab_of: Callable[..., RunningLab]) -> None:
    lab = lab_of("alice", "bob")
    hall = lab.address("alice")
    lab.set_loss(alice=0.1, bob=0.1)
    lab.run("alice", f"bt-selfsecure bootstrap serve {STATE} --add-controller hall --nid bt:{hall}").check()
    lab.run("alice", SERVE).check()
    wait_until(lambda: f"at bt:{hall}" in lab.run("alice", "cat /run/serve.log").check())
    setup = lab.run("alice", f"bt-selfsecure bootstrap enrol lamp {STATE} --out /run/l && cat /run/l").check()
    lab.run("bob", f"(umask 77; cat >/run/l <<'END'\n{setup[setup.index('{') :]}\nEND\n)").check()
    lab.run("bob", f"bt-selfsecure bootstrap enrol --setup /run/l {STATE}").check()
    flight1 = lab.run("bob", f"{JOIN} --show").check().strip()
    admit = f"bt-selfsecure bootstrap admit {STATE} --no-peer --no-wait"
    flight4 = lab.run("alice", f"{admit} '{flight1}'").check().strip()
    joined = lab.run("bob", f"{JOIN} '{flight4}'", 180)
    assert "lamp has joined home" in joined.out, f"{joined}\n{lab.run('alice', 'cat /run/serve.log').out}"
    assert "joined until" in lab.run("alice", f"bt-selfsecure bootstrap status {STATE}").check()
    for name in lab.names:
        wait_until(lambda name=name: not lab.run(name, TRACES).check().strip())
    lab.run("alice", "kill $(pgrep -f 'bootstrap serve')").check()
    flight4 = f"{JOIN} --anew --show >/dev/null; {JOIN} --timeout 20 '{flight4}'"
    assert "no answer to the code" in lab.run("bob", flight4, 120).err
