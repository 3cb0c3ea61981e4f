"""Captures read by us and by tshark, and btsnoop files."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Iterable
from pathlib import Path

from carriers import require, run

from bt_selfsecure.eve.sources import Capture, CapturedPacket

OTHERS = ["ubertooth", "nrf52_sniffer"]
"""Fixtures that other sniffers made."""


def read(path: Path) -> tuple[Capture, list[CapturedPacket]]:
    with Capture(str(path)) as capture:
        return capture, list(capture)


def fields(path: Path, *names: str, only: str = "") -> list[list[str]]:
    chosen = [word for name in names for word in ("-e", name)]
    out = run("tshark", "-r", path, *(["-Y", only] if only else []), "-T", "fields", *chosen)
    return [line.split("\t") for line in out.splitlines()]


def packets_of_tshark(path: Path) -> int:
    """Also of a file that it finds damaged."""
    require("tshark")
    done = subprocess.run(["tshark", "-r", path, "-T", "fields", "-e", "frame.number"], capture_output=True, text=True)
    return len(done.stdout.splitlines())


def btsnoop(datalink: int, records: Iterable[tuple[int, bytes]]) -> bytes:
    """RFC 1761 with Bluetooth's data links, by hand: no tool at hand writes those of the monitor."""
    head = b"btsnoop\0" + struct.pack(">II", 1, datalink)
    stamp = 0x00DCDDB30F2F8000 + 1_700_000_000_000_000
    return head + b"".join(
        struct.pack(">IIIIq", len(data), len(data), flags, 0, stamp) + data for flags, data in records
    )


def packetlogger(records: Iterable[tuple[int, bytes]], order: str = ">") -> bytes:
    """Apple's format: type and packet of each record."""
    return b"".join(
        struct.pack(order + "IIIB", len(data) + 9, 1_700_000_000 + number, 250_000, kind) + data
        for number, (kind, data) in enumerate(records)
    )
