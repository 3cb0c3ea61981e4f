"""This computer's processor as a device: it tells an alert when the computer gets busy."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

from bt_selfsecure.errors import UsageError

SENSORS = ("load", "busy_percent")
BUSY_LOAD = 0.9 * (os.cpu_count() or 1)

_before = (0.0, 0.0)
_busy = False


def _times() -> tuple[float, float]:
    """Return seconds that this computer was up and idle, a processor each."""
    with open("/proc/uptime") as file:  # noqa: PTH123 - a file of the kernel's
        up, idle = map(float, file.read().split())
    return up * (os.cpu_count() or 1), idle


def read_sensor(name: str) -> float:
    global _before
    if name == "load":
        return round(os.getloadavg()[0], 2)
    (up, idle), (up_before, idle_before) = _times(), _before
    _before = up, idle
    return round(max(0.0, 100 * (1 - (idle - idle_before) / ((up - up_before) or 1))), 1)


def execute(name: str, argument: object) -> str:
    if name != "rest":
        raise UsageError(f"there is no command {name!r}: it is rest, with seconds")
    time.sleep(min(max(float(str(argument)), 0), 5))
    return "rested"


def alerts() -> Iterator[tuple[str, float]]:
    """Tell once when the computer gets busy, and not again before it was idle."""
    global _busy
    load = os.getloadavg()[0]
    if load > BUSY_LOAD and not _busy:
        yield "this computer is busy", round(load, 2)
    _busy = load > BUSY_LOAD
