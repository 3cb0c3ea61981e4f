"""What stands before each packet, by link type: read, and taken off.

Sources: https://www.tcpdump.org/linktypes.html; of 192 the PPI header definition 1.0.10 with field 30006 as libbtbb
writes it; of 272 the nRF Sniffer for Bluetooth LE user guide, "sniffer protocol", versions 1 to 3.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import cache, partial, reduce
from operator import getitem, xor
from typing import Final

from bt_selfsecure.air.capture import (
    ADVERTISING_ACCESS_ADDRESS,
    LINKTYPE_BLUETOOTH_HCI_H4_WITH_PHDR,
    LINKTYPE_BLUETOOTH_LE_LL_WITH_PHDR,
    LINKTYPE_USER0,
    crc24,
)
from bt_selfsecure.eve.sources.packet import CapturedPacket, Direction, captured

BLUETOOTH_HCI_H4: Final = 187
PPI: Final = 192
BLUETOOTH_LE_LL: Final = 251
BLUETOOTH_LINUX_MONITOR: Final = 254
NORDIC_BLE: Final = 272
ETHERNET: Final = 1
RAW_IP: Final = 101
LINUX_SLL: Final = 113
LINUX_SLL2: Final = 276
NETWORKS: Final = frozenset({ETHERNET, RAW_IP, LINUX_SLL, LINUX_SLL2})

NAMES: Final = {
    LINKTYPE_USER0: "USER0",
    BLUETOOTH_HCI_H4: "BLUETOOTH_HCI_H4",
    PPI: "PPI",
    LINKTYPE_BLUETOOTH_HCI_H4_WITH_PHDR: "BLUETOOTH_HCI_H4_WITH_PHDR",
    BLUETOOTH_LE_LL: "BLUETOOTH_LE_LL",
    BLUETOOTH_LINUX_MONITOR: "BLUETOOTH_LINUX_MONITOR",
    LINKTYPE_BLUETOOTH_LE_LL_WITH_PHDR: "BLUETOOTH_LE_LL_WITH_PHDR",
    NORDIC_BLE: "NORDIC_BLE",
    ETHERNET: "ETHERNET",
    RAW_IP: "RAW",
    LINUX_SLL: "LINUX_SLL",
    LINUX_SLL2: "LINUX_SLL2",
}
"""Of the link types that are read."""

COMMAND, ACL, SCO, EVENT = 1, 2, 3, 4  # packet indicators of H4, Core Vol 4 Part A 2
LE_META: Final = b"\x04\x3e"
"""Packet indicator and code of the event that brings advertisements, Core Vol 4 Part E 7.7.65."""
LE_LEAST_BYTES: Final = 4 + 2 + 3
"""Bytes of access address, PDU header and CRC."""

_UNKNOWN, _SENT, _RECEIVED = Direction.UNKNOWN, Direction.SENT, Direction.RECEIVED
_CHANNELS: Final = tuple(
    {0: 37, 12: 38, 39: 39}.get(k, k - 1 if k < 12 else k - 2) for k in range(40)
)  # k of 2402 + 2k MHz to channel index
_RF_CHANNELS: Final = {index: k for k, index in enumerate(_CHANNELS)}
_ADVERTISING: Final = struct.pack("<I", ADVERTISING_ACCESS_ADDRESS)


def rf_channel(index: int | None) -> int:
    """Return k of 2402 + 2k MHz for a channel index; that of 37 where it is not known."""
    return _RF_CHANNELS.get(index, 0) if index is not None else 0


# --- LE on the air ----------------------------------------------------------------------------------------------------

_LE_PHDR: Final = struct.Struct("<BbxxxxxxH")
_SIGNAL_VALID, _CRC_CHECKED, _CRC_VALID = 0x0002, 0x0400, 0x0800
_PDU_TYPE_SHIFT: Final = 7
_PDU_TYPES: Final = (_UNKNOWN, _UNKNOWN, _SENT, _RECEIVED, _SENT, _RECEIVED, _UNKNOWN, _UNKNOWN)


def _le_with_phdr(time: float, data: bytes) -> CapturedPacket | None:
    if len(data) < 10 + LE_LEAST_BYTES:
        return None
    frequency, signal, flags = _LE_PHDR.unpack_from(data)
    packet = data[10:]
    return captured(
        (
            time,
            signal if flags & _SIGNAL_VALID else None,
            _CHANNELS[frequency] if frequency < 40 else None,
            packet,
            flags & _CRC_VALID != 0 if flags & _CRC_CHECKED else crc_ok(packet),
            LINKTYPE_BLUETOOTH_LE_LL_WITH_PHDR,
            _PDU_TYPES[flags >> _PDU_TYPE_SHIFT & 7],
        )
    )


def _le(time: float, data: bytes) -> CapturedPacket | None:
    if len(data) < LE_LEAST_BYTES:
        return None
    return CapturedPacket(time, None, None, data, crc_ok(data), BLUETOOTH_LE_LL, _UNKNOWN)


_PPI: Final = struct.Struct("<BBHI")
_PPI_FIELD: Final = struct.Struct("<HH")
_PPI_BTLE: Final = 30006
_PPI_BTLE_FORM: Final = struct.Struct("<BHxxxxxxxb")  # version, MHz, clocks, RSSI greatest and least, RSSI average
_SIGNAL_UNKNOWN: Final = -128


def _ppi(time: float, data: bytes) -> CapturedPacket | None:
    if len(data) < _PPI.size:
        return None
    _, _, length, linktype = _PPI.unpack_from(data)
    packet = data[length:]
    if length < _PPI.size or len(packet) < LE_LEAST_BYTES:
        return None
    at, rssi, channel, is_le = _PPI.size, None, None, linktype == BLUETOOTH_LE_LL
    while at + _PPI_FIELD.size <= length:
        kind, size = _PPI_FIELD.unpack_from(data, at)
        at += _PPI_FIELD.size
        if kind == _PPI_BTLE and _PPI_BTLE_FORM.size <= size <= length - at:
            is_le |= linktype == LINKTYPE_USER0  # as sniffers wrote LE before 251 was assigned
            version, megahertz, average = _PPI_BTLE_FORM.unpack_from(data, at)
            k = (megahertz - 2402) // 2
            rssi = average if version == 0 and average != _SIGNAL_UNKNOWN else None
            channel = _CHANNELS[k] if 0 <= k < 40 else None
        at += size
    return CapturedPacket(time, rssi, channel, packet, crc_ok(packet), PPI, _UNKNOWN) if is_le else None


_NORDIC: Final = struct.Struct("<xxxBxxB")  # board, lengths, version, counter, id: at the same places in all versions
_NORDIC_EVENT: Final = struct.Struct("<BBBbHI")  # its length, flags, channel, -RSSI, event counter, microseconds
_NORDIC_PACKETS: Final = (0x02, 0x06)  # id of an advertisement in version 3, and of any packet or one of data
_NORDIC_CRC_OK, _NORDIC_TO_PERIPHERAL, _NORDIC_PHY, _NORDIC_CODED = 0x01, 0x02, 0x70, 0x20


def _nordic(time: float, data: bytes) -> CapturedPacket | None:
    at = _NORDIC.size
    if len(data) < at + _NORDIC_EVENT.size + LE_LEAST_BYTES:
        return None
    version, kind = _NORDIC.unpack_from(data)
    if version not in (1, 2, 3) or kind not in _NORDIC_PACKETS or data[at] != _NORDIC_EVENT.size:
        return None
    _, flags, channel, rssi, _, _ = _NORDIC_EVENT.unpack_from(data, at)
    packet = data[at + _NORDIC_EVENT.size :]
    if flags & _NORDIC_PHY == _NORDIC_CODED:  # the coding indicator stands behind the access address
        packet = packet[:4] + packet[5:]
    on_air = packet[:4] == _ADVERTISING
    return CapturedPacket(
        time,
        -rssi,
        channel if channel < 40 else None,
        packet,
        flags & _NORDIC_CRC_OK != 0,
        NORDIC_BLE,
        _UNKNOWN if on_air else _SENT if flags & _NORDIC_TO_PERIPHERAL else _RECEIVED,
    )


def crc_ok(packet: bytes) -> bool | None:
    """Return whether this LE packet is as long as it says and has the right CRC; None off the advertising channels,
    where the CRC's preset belongs to the connection."""
    if packet[:4] != _ADVERTISING:
        return None
    octets = packet[5] + 2
    if len(packet) != 4 + octets + 3:
        return False
    tables, start = _crc_tables(octets)
    return reduce(xor, map(getitem, tables, packet[4:-3]), start) == int.from_bytes(packet[-3:], "little")


@cache
def _crc_tables(octets: int) -> tuple[tuple[list[int], ...], int]:
    """For so many octets: what each adds to the register, by place and value, and what zeros leave in it.

    A CRC is linear, so `crc24` becomes a sum that map and reduce work out in C, ten times faster.
    """
    start = int.from_bytes(crc24(bytes(octets)), "little")
    return tuple(_crc_table(behind) for behind in reversed(range(octets))), start


@cache
def _crc_table(behind: int) -> list[int]:
    """By the value of an octet with so many others behind it."""
    if behind:
        first = _crc_table(0)
        return [register >> 8 ^ first[register & 0xFF] for register in _crc_table(behind - 1)]
    zero = int.from_bytes(crc24(b"\0"), "little")
    return [int.from_bytes(crc24(bytes([octet])), "little") ^ zero for octet in range(256)]


# --- HCI --------------------------------------------------------------------------------------------------------------


def _h4(time: float, data: bytes) -> CapturedPacket:
    return _hci(time, data, BLUETOOTH_HCI_H4, _UNKNOWN)


def _h4_with_phdr(time: float, data: bytes) -> CapturedPacket | None:
    if len(data) < 4:
        return None
    direction = _RECEIVED if data[3] & 1 else _SENT
    return _hci(time, data[4:], LINKTYPE_BLUETOOTH_HCI_H4_WITH_PHDR, direction)


_MONITOR: Final = {  # opcodes of the kernel's include/net/bluetooth/hci_mon.h to packet indicators
    2: (COMMAND, _SENT),
    3: (EVENT, _RECEIVED),
    4: (ACL, _SENT),
    5: (ACL, _RECEIVED),
    6: (SCO, _SENT),
    7: (SCO, _RECEIVED),
    18: (5, _SENT),
    19: (5, _RECEIVED),
}
_NOTE: Final = (0, _UNKNOWN)


def _monitor(time: float, data: bytes) -> CapturedPacket | None:
    return monitor(time, int.from_bytes(data[2:4]), data[4:]) if len(data) >= 4 else None


def monitor(time: float, opcode: int, data: bytes) -> CapturedPacket:
    """Return a packet of the kernel's monitor channel, without its head."""
    indicator, direction = _MONITOR.get(opcode, _NOTE)
    return _hci(time, bytes([indicator]) + data if indicator else b"", BLUETOOTH_LINUX_MONITOR, direction)


_ONE_ADVERTISING_REPORT: Final = b"\x02\x01"  # subevent and count of reports, Core Vol 4 Part E 7.7.65.2
_RSSI_UNKNOWN: Final = 127


def _hci(time: float, packet: bytes, linktype: int, direction: Direction) -> CapturedPacket:
    rssi = None
    if packet[:2] == LE_META and packet[3:5] == _ONE_ADVERTISING_REPORT and packet[-1] != _RSSI_UNKNOWN:
        rssi = packet[-1] - (packet[-1] >> 7 << 8)
    return captured((time, rssi, None, packet, None, linktype, direction))


def _raw(time: float, data: bytes) -> CapturedPacket:
    return CapturedPacket(time, None, None, data, None, LINKTYPE_USER0, _UNKNOWN)


# --- networks ---------------------------------------------------------------------------------------------------------

_IP: Final = (0x0800, 0x86DD)
_TAGS: Final = (0x8100, 0x88A8)  # of VLANs: four octets, the last two of which are the type of what follows


def _network(linktype: int, type_at: int, payload_at: int, time: float, data: bytes) -> CapturedPacket | None:
    """Read the IP packet behind a head with an EtherType; of any other protocol nothing is kept."""
    if len(data) < payload_at:
        return None
    kind = int.from_bytes(data[type_at : type_at + 2])
    while kind in _TAGS and len(data) >= payload_at + 4:
        kind = int.from_bytes(data[payload_at + 2 : payload_at + 4])
        payload_at += 4
    packet = data[payload_at:] if kind in _IP else b""
    return CapturedPacket(time, None, None, packet, None, linktype, _UNKNOWN)


def _raw_ip(time: float, data: bytes) -> CapturedPacket:
    return CapturedPacket(time, None, None, data, None, RAW_IP, _UNKNOWN)


READ: Final[dict[int, Callable[[float, bytes], CapturedPacket | None]]] = {
    LINKTYPE_USER0: _raw,
    BLUETOOTH_HCI_H4: _h4,
    PPI: _ppi,
    LINKTYPE_BLUETOOTH_HCI_H4_WITH_PHDR: _h4_with_phdr,
    BLUETOOTH_LE_LL: _le,
    BLUETOOTH_LINUX_MONITOR: _monitor,
    LINKTYPE_BLUETOOTH_LE_LL_WITH_PHDR: _le_with_phdr,
    NORDIC_BLE: _nordic,
    ETHERNET: partial(_network, ETHERNET, 12, 14),
    RAW_IP: _raw_ip,
    LINUX_SLL: partial(_network, LINUX_SLL, 14, 16),
    LINUX_SLL2: partial(_network, LINUX_SLL2, 0, 20),
}
"""For each link type, what takes its packets apart: never raises, gives None where one is too short, or a note."""
