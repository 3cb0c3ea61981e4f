"""A node joins a network over its radio alone: no interface but Bluetooth between it and its controller."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from running_lab import RunningLab

pytestmark = pytest.mark.lab

STATE = "--state /run/bootstrap"
SERVE = f"setsid bt-selfsecure bootstrap serve {STATE} --bind 127.0.0.1:5701 >/run/serve.log 2>&1 </dev/null & true"
PAIRED = "bluetoothctl devices Paired || bluetoothctl paired-devices"


def test_a_node_joins_over_rfcomm_and_nobody_has_paired_for_it(lab_of: Callable[..., RunningLab]) -> None:
    lab = lab_of("alice", "bob")
    hall = lab.address("alice")
    lab.set_loss(alice=0.1, bob=0.1)
    lab.run("alice", f"bt-selfsecure bootstrap serve {STATE} --add-controller hall --nid bt:{hall}").check()
    lab.run("alice", SERVE).check()
    until = time.monotonic() + 60
    while f"at bt:{hall}" not in lab.run("alice", "cat /run/serve.log").check():
        assert time.monotonic() < until, lab.run("alice", "cat /run/serve.log").out
        time.sleep(0.5)
    setup = lab.run("alice", f"bt-selfsecure bootstrap enrol lamp {STATE} --out /run/l && cat /run/l").check()
    setup = setup[setup.index("{") :]
    lab.run(
        "bob",
        f"(umask 77; cat >/run/l <<'END'\n{setup}\nEND\n) && bt-selfsecure bootstrap enrol --setup /run/l {STATE}",
    )
    join = f"bt-selfsecure bootstrap join {STATE} --no-peer"
    flight1 = lab.run("bob", f"{join} --show").check().strip()
    admit = f"bt-selfsecure bootstrap admit {STATE} --no-peer --no-wait"
    flight4 = lab.run("alice", f"{admit} '{flight1}'").check().strip()
    joined = lab.run("bob", f"{join} '{flight4}'", 180)
    assert "lamp has joined home" in joined.out, f"{joined.out}\n{lab.run('alice', 'cat /run/serve.log').out}"
    assert "joined until" in lab.run("alice", f"bt-selfsecure bootstrap status {STATE}").check()
    for name in lab.names:
        assert "Device" not in lab.run(name, PAIRED).check()
    lab.run("alice", "kill $(pgrep -f 'bootstrap serve')").check()
    away = lab.run("bob", f"{join} --anew --show >/dev/null; {join} --timeout 5 </dev/null", 60)
    assert "Traceback" not in away.out
