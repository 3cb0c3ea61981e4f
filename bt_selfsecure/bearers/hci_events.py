"""Events of HCI, taken apart (Core Vol 4 Part E 7.7): for the kernel's raw channel, and for whoever reads a capture.

event    | 4 | code | length | parameters |
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

CONNECTION_COMPLETE: Final = 0x03
DISCONNECTION_COMPLETE: Final = 0x05
COMMAND_COMPLETE: Final = 0x0E
COMMAND_STATUS: Final = 0x0F
LE_META: Final = 0x3E
LE_ADVERTISING_REPORT: Final = 0x02
LE_EXTENDED_ADVERTISING_REPORT: Final = 0x0D
_RSSI_UNKNOWN: Final = 127  # 7.7.65.2
_LEGACY: Final = struct.Struct("<BB6sB")  # event type, address type, address, length; data and RSSI follow
_EXTENDED: Final = struct.Struct("<HB6s4xb9xB")  # 7.7.65.13: RSSI among what stands before the length


def parse_event(packet: bytes) -> tuple[int, bytes] | None:
    """Return code and parameters; None where it is no whole event."""
    if len(packet) < 3 or packet[0] != 4 or len(packet) != 3 + packet[2]:
        return None
    return packet[1], packet[3:]


def answered(code: int, parameters: bytes) -> tuple[int, bytes]:
    """Return the opcode that a Command Complete or Command Status event answers, and what it returns; 0 for other
    events."""
    if code == COMMAND_COMPLETE and len(parameters) >= 3:
        return int.from_bytes(parameters[1:3], "little"), parameters[3:]
    if code == COMMAND_STATUS and len(parameters) == 4 and parameters[0]:
        return int.from_bytes(parameters[2:4], "little"), parameters[:1]
    return 0, b""


class AdvertisingReport(NamedTuple):
    """Holds one LE advertising report."""

    event_type: int
    address: str
    data: bytes
    rssi: int | None
    """dBm; None where the controller does not know."""


def parse_reports(parameters: bytes) -> list[AdvertisingReport]:
    """Return those of an LE Meta event, legacy or extended; what is cut off or of another kind is left out.

    Controllers send one report an event. Several would stand field by field; Linux reads them report by report, as
    chips really send them, and so do we.
    """
    if len(parameters) < 2 or parameters[0] not in (LE_ADVERTISING_REPORT, LE_EXTENDED_ADVERTISING_REPORT):
        return []
    legacy = parameters[0] == LE_ADVERTISING_REPORT
    head = _LEGACY if legacy else _EXTENDED
    reports, at, rssi = [], 2, 0
    for _ in range(parameters[1]):
        begins = at + head.size
        if len(parameters) < begins:
            break
        if legacy:
            event_type, _, address, length = _LEGACY.unpack_from(parameters, at)
        else:
            event_type, _, address, rssi, length = _EXTENDED.unpack_from(parameters, at)
        ends = begins + length
        at = ends + legacy
        if len(parameters) < at:
            break
        if legacy:
            rssi = int.from_bytes(parameters[ends:at], signed=True)
        known = None if rssi == _RSSI_UNKNOWN else rssi
        reports.append(AdvertisingReport(event_type, address[::-1].hex(":").upper(), parameters[begins:ends], known))
    return reports
