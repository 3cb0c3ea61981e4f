"""Where Eve's packets come from. Each source is iterated for `CapturedPacket`, and holds none of them."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from bt_selfsecure.air.capture import Tap
from bt_selfsecure.errors import UsageError
from bt_selfsecure.eve.sources.files import recognise
from bt_selfsecure.eve.sources.linktypes import READ
from bt_selfsecure.eve.sources.packet import CUT, CapturedPacket, Direction, Source

__all__ = ["Capture", "CapturedPacket", "Direction", "HeardTap", "Source", "open_source"]

STANDARD_INPUT: Final = "-"
LATEST_S: Final = 253402300799
"""The last second of the year 9999: programs and libraries know no date beyond."""
NO_TIME: Final = "times before 1970 or after 9999, taken as unknown"
UNREADABLE: Final = "too short for their link type, or a note of the sniffer"


def open_source(name: str) -> Source:
    """Open an adapter of this computer that scans (hci0), or whose host is only listened to (monitor:hci0), unless a
    file has that name; a capture file, a FIFO, or `-`.

    Raises `UsageError` where it can't be opened.
    """
    radio = re.fullmatch(r"(monitor:)?(hci\d+)", name)
    if radio and not Path(name).exists():
        from bt_selfsecure.eve.sources.live import LiveScan, Overheard  # sockets that only Linux has

        return (Overheard if radio[1] else LiveScan)(radio[2])
    return Capture(name)


class Capture(Source):
    """Reads a capture file, of any container and compressed or not: a path, a FIFO, or `-` for standard input.

    Raises `UsageError`, when made or while iterated, where the file can't be read or is no capture.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name: Final = name
        stdin = name == STANDARD_INPUT
        if stdin and sys.stdin.isatty():
            raise UsageError("standard input is the terminal: pipe a capture into it, or name a file")
        try:  # Unbuffered: what a FIFO brings is read as it comes.
            self._file = open(sys.stdin.fileno() if stdin else name, "rb", buffering=0, closefd=not stdin)  # noqa: SIM115
        except OSError as fault:
            raise self._unreadable(fault) from fault

    def __iter__(self) -> Iterator[CapturedPacket]:
        counts, readers = self.linktypes, READ
        try:
            for time, linktype, packet, whole in recognise(self._file, self.skipped):
                counts[linktype] += 1
                if not 0 <= time <= LATEST_S:
                    self.skipped[NO_TIME] += 1
                    time = 0.0
                read = readers.get(linktype)
                if read is None:
                    self.skipped[f"link type {linktype} is not read"] += 1
                elif not whole:
                    self.skipped[CUT] += 1
                elif (heard := read(time, packet)) is None:
                    self.skipped[UNREADABLE] += 1
                else:
                    yield heard
        except OSError as fault:
            raise self._unreadable(fault) from fault
        except UsageError as fault:
            raise UsageError(f"{self._name!r} {fault}") from None

    def close(self) -> None:
        self._file.close()

    def _unreadable(self, fault: OSError) -> UsageError:
        return UsageError(f"can't read {self._name!r} ({fault.strerror}): give a capture file, a FIFO, or - for stdin")


class HeardTap(Tap):
    """Is a tap on the simulated air: hands on what it hears as `CapturedPacket`."""

    def __init__(self, on_heard: Callable[[CapturedPacket], None]) -> None:
        self._on_heard: Final = on_heard

    def hear(self, time: float, linktype: int, packet: bytes) -> None:
        if (heard := READ[linktype](time, packet)) is not None:
            self._on_heard(heard)
