"""A device that any Linux computer can be: its load, memory and battery; a command to show a text; an alert when it is
busy for long. Run it with

    bt-selfsecure device run examples/laptop_device.py --state boiler
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

SENSORS = ("load", "memory_free_mb", "battery_percent")
BUSY_LOAD = 4.0

busy = False


def read_sensor(name: str) -> float | int | None:
    match name:
        case "load":
            return round(os.getloadavg()[0], 2)
        case "memory_free_mb":
            return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20
    charge = next(Path("/sys/class/power_supply").glob("BAT*/capacity"), None)
    return int(charge.read_text()) if charge else None


def execute(name: str, argument: object) -> str:
    if name != "say":
        raise ValueError(f"there is no command {name!r}: it is say")
    print(argument, flush=True)
    return "said"


def alerts() -> Iterator[tuple[str, float]]:
    """Tell once when the computer gets busy, and not again before it was idle."""
    global busy
    load = os.getloadavg()[0]
    if load > BUSY_LOAD and not busy:
        yield "this computer is busy", round(load, 2)
    busy = load > BUSY_LOAD
