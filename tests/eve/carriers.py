"""Our datagrams in what carries them, and tshark with our dissector. Bumble and scapy build packets where they can."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from bumble import rfcomm
from scapy.layers.inet import UDP
from scapy.layers.inet6 import IPv6

from bt_selfsecure.air import capture
from bt_selfsecure.air.capture import PcapngWriter
from bt_selfsecure.bearers.advertising_data import manufacturer_data
from bt_selfsecure.bearers.framing import framed
from bt_selfsecure.bearers.link_datagrams import Data, pack

ROOT: Final = Path(__file__).parents[2]
DISSECTOR: Final = ROOT / "captures/bt_selfsecure.lua"
VECTORS: Final = ROOT / "tests/protocols/haoxiao/vectors"
FIXTURES: Final = Path(__file__).parent / "fixtures"
HCI, LE, RAW = (
    capture.LINKTYPE_BLUETOOTH_HCI_H4_WITH_PHDR,
    capture.LINKTYPE_BLUETOOTH_LE_LL_WITH_PHDR,
    capture.LINKTYPE_USER0,
)
ADDRESS: Final = bytes.fromhex("010000000002")  # 02:00:00:00:00:01, little-endian
HANDLE: Final = 1
Packet = tuple[int, bytes]
"""Link type and bytes."""


def vectors(name: str) -> Any:
    return json.loads((VECTORS / f"{name}.json").read_text())


def wires() -> list[bytes]:
    """Every kind of frame in both profiles."""
    return [bytes.fromhex(frame["wire"]) for frame in vectors("frames")["frames"]]


# --- HCI and the radio ------------------------------------------------------------------------------------------------


def event(code: int, parameters: bytes) -> Packet:
    return HCI, struct.pack(">I", 1) + bytes([4, code, len(parameters)]) + parameters


def advertisement(payload: bytes, channel: int = 37, address: bytes = ADDRESS) -> bytes:
    """As link type 256 has it."""
    data = manufacturer_data(payload)
    pdu = capture.advertising_pdu(capture.ADV_NONCONN_IND, address, data, random_address=False)
    return capture.le_packet(channel, pdu)


def report(payload: bytes, rssi: int = -60) -> Packet:
    """The event that a scanning controller sends, Core Vol 4 Part E 7.7.65.2."""
    data = manufacturer_data(payload)
    return event(0x3E, b"\x02\x01\x03\x00" + ADDRESS + bytes([len(data)]) + data + struct.pack("b", rssi))


def l2cap(payload: bytes, cid: int = 0x40, *, sent: bool = True) -> Packet:
    return HCI, capture.acl_packet(HANDLE, struct.pack("<HH", len(payload), cid) + payload, sent=sent)


def fragments(packet: bytes, size: int) -> list[Packet]:
    """An ACL packet as HCI fragments of at most so many bytes of L2CAP."""
    direction, handle, payload = packet[:5], int.from_bytes(packet[5:7], "little") & 0xFFF, packet[9:]
    pieces = [payload[at : at + size] for at in range(0, len(payload), size)]
    return [
        (HCI, direction + struct.pack("<HH", handle | (0b01 if i else 0b10) << 12, len(piece)) + piece)
        for i, piece in enumerate(pieces)
    ]


CONNECTED: Final[Packet] = (HCI, capture.connection_complete(HANDLE))
LE_CONNECTED: Final = event(
    0x3E, b"\x01\x00" + struct.pack("<H", HANDLE) + b"\x00\x00" + ADDRESS + struct.pack("<HHHB", 24, 0, 42, 0)
)


def uih(information: bytes, channel: int = 1) -> bytes:
    """An RFCOMM data frame as Bumble builds it."""
    return bytes(rfcomm.RFCOMM_Frame.uih(1, channel << 1, information))


def psm_opened(psm: int) -> list[Packet]:
    """Signalling that opens a channel of BR/EDR: source and destination CID 0x40."""
    ask = struct.pack("<BBHHH", 2, 1, 4, psm, 0x40)
    grant = struct.pack("<BBHHHHH", 3, 1, 8, 0x40, 0x40, 0, 0)
    return [l2cap(ask, 1), l2cap(grant, 1, sent=False)]


def ipsp_opened() -> list[Packet]:
    """Signalling that opens a credit-based channel of LE for PSM 0x23, both CIDs 0x40: Core Vol 3 Part A 4.22."""
    ask = struct.pack("<BBHHHHHH", 0x14, 1, 10, 0x23, 0x40, 1280, 230, 10)
    grant = struct.pack("<BBHHHHHH", 0x15, 1, 10, 0x40, 1280, 230, 10, 0)
    return [l2cap(ask, 5), l2cap(grant, 5, sent=False)]


def lowpan(payload: bytes, *, port: int = 5700) -> bytes:
    """UDP in full behind dispatch 01000001, as scapy builds it."""
    return b"\x41" + bytes(IPv6(src="fe80::1", dst="fe80::2") / UDP(sport=port, dport=port) / payload)


def frames_of_sdu(sdu: bytes, size: int = 230) -> list[bytes]:
    """The K-frames of one SDU, Core Vol 3 Part A 3.4.3."""
    whole = struct.pack("<H", len(sdu)) + sdu
    return [whole[at : at + size] for at in range(0, len(whole), size)]


# --- carriers ---------------------------------------------------------------------------------------------------------


def bare(datagrams: Iterable[bytes]) -> Iterator[Packet]:
    yield from ((RAW, datagram) for datagram in datagrams)


def by_l2cap(datagrams: Iterable[bytes]) -> Iterator[Packet]:
    yield from (CONNECTED, *psm_opened(0x1001), *map(l2cap, datagrams))


def by_l2cap_unannounced(datagrams: Iterable[bytes]) -> Iterator[Packet]:
    yield from (CONNECTED, *map(l2cap, datagrams))


def by_rfcomm(datagrams: Iterable[bytes]) -> Iterator[Packet]:
    """Frames of RFCOMM as long as one DH5 packet takes, so that long datagrams need several."""
    yield from (CONNECTED, *psm_opened(3))
    yield from rfcomm_frames(datagrams)


def by_rfcomm_unannounced(datagrams: Iterable[bytes]) -> Iterator[Packet]:
    yield CONNECTED
    yield from rfcomm_frames(datagrams)


def rfcomm_frames(datagrams: Iterable[bytes]) -> Iterator[Packet]:
    for datagram in datagrams:
        stream = framed(datagram)
        yield from (l2cap(uih(stream[at : at + 330])) for at in range(0, len(stream), 330))


def by_ipsp(datagrams: Iterable[bytes]) -> Iterator[Packet]:
    yield from (LE_CONNECTED, *ipsp_opened())
    for datagram in datagrams:
        yield from (l2cap(frame) for frame in frames_of_sdu(lowpan(pack(Data(7, datagram)))))


def by_advertisement(datagrams: Iterable[bytes]) -> Iterator[Packet]:
    yield from ((LE, advertisement(datagram)) for datagram in datagrams if len(datagram) <= 27)


def by_report(datagrams: Iterable[bytes]) -> Iterator[Packet]:
    yield from (report(datagram) for datagram in datagrams if len(datagram) <= 27)


Carrier = Callable[[Iterable[bytes]], Iterator[Packet]]
ALL_SIZES: Final[list[Carrier]] = [
    bare,
    by_l2cap,
    by_l2cap_unannounced,
    by_rfcomm,
    by_rfcomm_unannounced,
    by_ipsp,
]
SMALL: Final[list[Carrier]] = [by_advertisement, by_report]


def write(path: Path, packets: Iterable[Packet]) -> Path:
    with PcapngWriter(path) as writer:
        for number, (linktype, packet) in enumerate(packets):
            writer.write(number / 1000, linktype, packet)
    return path


# --- tshark -----------------------------------------------------------------------------------------------------------


def nobody() -> list[str]:
    """New releases of Wireshark run no Lua for root: where root tests, nobody does, who may read root's files."""
    caps = "+dac_override,+dac_read_search"
    other = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        f"--inh-caps={caps}",
        f"--ambient-caps={caps}",
    ]
    return [] if os.geteuid() else other


def require(tool: str) -> None:
    """Skips the test where this tool of Wireshark's is missing."""
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed (apt-get install tshark)")


def run(*command: str | Path) -> str:
    """The output of a tool of Wireshark's."""
    require(str(command[0]))
    done = subprocess.run([*nobody(), *command], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "Lua" not in done.stderr, done.stderr
    return done.stdout


def dissected(path: Path, fields: Iterable[str], *options: str) -> list[list[str]]:
    """These fields of each packet in which our dissector found something; one with several values has them by comma."""
    chosen = [word for field in fields for word in ("-e", field)]
    command = ["tshark", "-X", f"lua_script:{DISSECTOR}", "-r", path, "-Y", "btss", "-T", "fields", *chosen, *options]
    return [line.split("\t") for line in run(*command).splitlines()]


def findings(path: Path, *names: str, options: Iterable[str] = ()) -> list[int]:
    """Numbers of the packets with any of these expert infos of ours."""
    chosen = " || ".join(f"btss.{name}" for name in names)
    command = ["tshark", "-X", f"lua_script:{DISSECTOR}", *options, "-r", path, "-Y", chosen, "-T", "fields"]
    return [int(line) for line in run(*command, "-e", "frame.number").splitlines()]
