"""This computer's memory and disk as a device: it tells an alert when the disk gets full."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

from bt_selfsecure.errors import UsageError

SENSORS = ("memory_free_mb", "disk_free_gb")
LEAST_GB = 1.0

_full = False


def _free_gb() -> float:
    return round(shutil.disk_usage("/").free / 1e9, 2)


def read_sensor(name: str) -> float:
    if name == "disk_free_gb":
        return _free_gb()
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20


def execute(name: str, argument: object) -> str:
    raise UsageError(f"there is no command {name!r}, nor any other")


def alerts() -> Iterator[tuple[str, float]]:
    """Tell once when there is little room."""
    global _full
    free = _free_gb()
    if free < LEAST_GB and not _full:
        yield "the disk is nearly full, gigabytes free", free
    _full = free < LEAST_GB
