"""`bt-selfsecure link up --ipsp` on a machine, and what it says."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from running_lab import RunningLab

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
