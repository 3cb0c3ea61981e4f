"""What a source hears, kept in pcapng files of bounded size: each packet in a form that Wireshark knows."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import BinaryIO, Final, Self

from bt_selfsecure.air.capture import (
    ADVERTISING_ACCESS_ADDRESS,
    LINKTYPE_BLUETOOTH_HCI_H4_WITH_PHDR,
    LINKTYPE_BLUETOOTH_LE_LL_WITH_PHDR,
    LINKTYPE_USER0,
    PcapngWriter,
)
from bt_selfsecure.errors import UsageError
from bt_selfsecure.eve.reading import ON_AIR
from bt_selfsecure.eve.sources.linktypes import rf_channel
from bt_selfsecure.eve.sources.packet import CapturedPacket, Direction

FLUSH_S: Final = 1.0
"""Of what was heard is lost at most, when the power goes."""
NUMBERED: Final = re.compile(r"eve-(\d+)-")
"""A file's name begins with its number in the folder: on a Pi, which has no clock of its own, times may go back."""
_LE_PHDR: Final = struct.Struct("<BbbBIH")
_DEWHITENED, _SIGNAL, _REFERENCE, _CHECKED, _VALID = 0x0001, 0x0002, 0x0010, 0x0400, 0x0800


def as_captured(heard: CapturedPacket) -> tuple[int, bytes] | None:
    """Return link type and packet to be written: HCI as 201, LE as 256, ours as 147. None for a note of the host's
    own."""
    if heard.linktype == LINKTYPE_USER0:
        return LINKTYPE_USER0, heard.bytes
    if not heard.bytes:
        return None
    if heard.linktype not in ON_AIR:
        received = heard.direction is Direction.RECEIVED
        return LINKTYPE_BLUETOOTH_HCI_H4_WITH_PHDR, struct.pack(">I", received) + heard.bytes
    flags = _DEWHITENED | _REFERENCE | (_SIGNAL if heard.rssi is not None else 0)
    if heard.crc_ok is not None:
        flags |= _CHECKED | (_VALID if heard.crc_ok else 0)
    reference = int.from_bytes(heard.bytes[:4], "little") if heard.bytes else ADVERTISING_ACCESS_ADDRESS
    head = _LE_PHDR.pack(rf_channel(heard.channel), heard.rssi or 0, 0, 0, reference, flags)
    return LINKTYPE_BLUETOOTH_LE_LL_WITH_PHDR, head + heard.bytes


class Recorder:
    """Writes to `folder`, a file after the other; those of the lowest numbers go when there are more than `files`.

    Raises `UsageError` where the folder or a file can't be written.
    """

    def __init__(
        self, folder: Path, megabytes: float, files: int, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._folder: Final = folder
        self._most: Final = int(megabytes * 1_000_000)
        self._files: Final = files
        self._now: Final = now
        self._file: BinaryIO | None = None
        self._writer: PcapngWriter
        self._flushed = 0.0
        self.packets = 0
        """Those that the disk has taken."""
        self._pending = 0
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as fault:
            raise self._unwritable(fault) from fault

    def write(self, heard: CapturedPacket) -> None:
        """Keep this packet."""
        captured = as_captured(heard)
        if captured is None:
            return
        try:
            file = self._file or self._begin()
            self._writer.write(heard.time, *captured)
            self._pending += 1
            if monotonic() - self._flushed > FLUSH_S:
                self._flushed = monotonic()
                file.flush()
                self._taken()
            if file.tell() >= self._most:
                self.close()
        except OSError as fault:
            if self._file:
                with suppress(OSError):  # the same again
                    self._file.close()
            self._file, self._pending = None, 0
            raise self._unwritable(fault) from fault

    def close(self) -> None:
        """Write out what is left. Raises `UsageError`."""
        file, self._file = self._file, None
        if file:
            try:
                file.close()
            except OSError as fault:
                raise self._unwritable(fault) from fault
            self._taken()

    def _taken(self) -> None:
        self.packets, self._pending = self.packets + self._pending, 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _begin(self) -> BinaryIO:
        before = sorted(self._folder.glob("eve-*.pcapng"), key=lambda path: (_number(path), path.name))
        number = _number(before[-1]) + 1 if before else 1
        self._file = (self._folder / f"eve-{number:08}-{self._now():%Y%m%dT%H%M%SZ}.pcapng").open("xb")
        self._writer = PcapngWriter(self._file)
        for old in before[: max(0, len(before) + 1 - self._files)]:
            old.unlink(missing_ok=True)
        return self._file

    def _unwritable(self, fault: OSError) -> UsageError:
        return UsageError(f"can't write to {str(self._folder)!r} ({fault.strerror}): name another with --output")


def _number(path: Path) -> int:
    """Of a file of ours; 0 for one that an older version named by its time."""
    named = NUMBERED.match(path.name)
    return int(named[1]) if named else 0
