"""`bt-selfsecure link up --ipsp` between two machines: an IP interface for any program."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from running_lab import RunningLab

pytestmark = pytest.mark.lab

UP_S = 90.0


def last_state(lab: RunningLab, name: str) -> dict[str, Any]:
    """Return what the command on this machine said last."""
    said = lab.run(name, "tail -n 1 /tmp/link.json 2>/dev/null || true").check().strip()
    return json.loads(said) if said.startswith("{") else {"interface": None, "connected": [], "answered": []}


def wait_for(lab: RunningLab, name: str, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    until = time.monotonic() + UP_S
    while not wanted(state := last_state(lab, name)):
        assert time.monotonic() < until, (state, lab.run(name, "cat /tmp/link.log").check())
        time.sleep(1.0)
    return state


def begin(lab: RunningLab, name: str, whom: str) -> None:
    command = f"bt-selfsecure link up {whom} --ipsp --json >/tmp/link.json 2>/tmp/link.log"
    lab.run(name, f"nohup sh -c '{command}; echo $? >/tmp/link.status' </dev/null >/dev/null 2>&1 & echo").check()


def test_ping_goes_over_the_interface_which_comes_back_after_a_break_and_is_gone_at_the_end(
    lab_of: Callable[..., RunningLab],
) -> None:
    lab = lab_of("alice", "bob")
    begin(lab, "bob", "")
    begin(lab, "alice", lab.address("bob"))
    state = wait_for(lab, "alice", lambda state: bool(state["answered"]))
    assert state["connected"] == [lab.address("bob")]
    lab.run("alice", f"ping -c 3 -W 5 {state['answered'][0]}").check()

    lab.run("bob", "hciconfig hci0 down; sleep 2; hciconfig hci0 up").check()
    wait_for(lab, "alice", lambda state: not state["answered"])
    state = wait_for(lab, "alice", lambda state: bool(state["answered"]))
    lab.run("alice", f"ping -c 3 -W 5 {state['answered'][0]}").check()

    for name in ("alice", "bob"):
        gone = "pkill -INT -f 'link up'; for i in $(seq 30); do [ -s /tmp/link.status ] && break; sleep 1; done"
        assert lab.run(name, f"{gone}; cat /tmp/link.status").check().split()[-1] == "0"
        assert "bt0" not in lab.run(name, "ls /sys/class/net").check()
