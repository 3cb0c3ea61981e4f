"""UDP out of 6LoWPAN: every form of the headers, as scapy compresses them and tshark reads them."""

from __future__ import annotations

import itertools
import struct
from pathlib import Path

import pytest
from carriers import LE_CONNECTED, frames_of_sdu, ipsp_opened, l2cap, lowpan, run, write
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.sixlowpan import LoWPAN_IPHC, LoWPAN_NHC, LoWPAN_NHC_UDP

from bt_selfsecure.eve.lowpan import udp_payload, udp_ports

PAYLOAD = b"\x03\0\0\0\x07\x23payload"


def compressed(tf: int, hlim: int, source: int, destination: int, *, multicast: bool) -> bytes:
    """IPHC with UDP in full, by the tables of RFC 6282 3.1.1: each field that is in line has octets of its own."""
    first = 0x60 | tf << 3 | hlim
    second = source << 4 | multicast << 3 | destination
    traffic = bytes((4, 3, 1, 0)[tf])
    addresses = bytes((16, 8, 2, 0)[source]) + bytes(((16, 6, 4, 1) if multicast else (16, 8, 2, 0))[destination])
    udp = struct.pack(">HHHH", 5700, 5700, 8 + len(PAYLOAD), 0) + PAYLOAD
    return bytes([first, second]) + traffic + b"\x11" + (b"" if hlim else b"\x40") + addresses + udp


FORMS = list(itertools.product(range(4), range(4), range(4), range(4), (False, True)))


def test_every_form_of_iphc_leads_to_the_payload() -> None:
    for tf, hlim, source, destination, multicast in FORMS:
        packet = compressed(tf, hlim, source, destination, multicast=multicast)
        assert udp_payload(packet) == PAYLOAD, (tf, hlim, source, destination, multicast)


@pytest.mark.long
def test_tshark_finds_the_same_payload_in_the_same_forms(tmp_path: Path) -> None:
    sdus = [compressed(*form[:4], multicast=form[4]) for form in FORMS] + [lowpan(PAYLOAD)]
    packets = [LE_CONNECTED, *ipsp_opened(), *(l2cap(frame) for sdu in sdus for frame in frames_of_sdu(sdu))]
    path = write(tmp_path / "lowpan.pcapng", packets)
    told = run("tshark", "-r", path, "-Y", "udp", "-T", "fields", "-e", "udp.payload").splitlines()
    assert told == [PAYLOAD.hex()] * len(sdus)


@pytest.mark.parametrize(("ports", "octets"), [(0, 4), (1, 3), (2, 3), (3, 1)])
@pytest.mark.parametrize("left_out", [False, True])
def test_scapys_compressed_udp_leads_to_the_payload(ports: int, octets: int, left_out: bool) -> None:
    """RFC 6282 4.3; the checksum may be left out."""
    head = LoWPAN_IPHC(tf=3, nh=1, hlim=2, sam=3, dam=3)
    packet = bytes(head)[:2] + bytes([0xF0 | left_out << 2 | ports]) + bytes(octets) + bytes(0 if left_out else 2)
    assert udp_payload(packet + PAYLOAD) == PAYLOAD


def test_scapy_compresses_an_ipv6_packet_so_that_its_payload_is_found() -> None:
    udp = LoWPAN_NHC_UDP(P=0, C=0, udpSourcePort=5700, udpDestPort=5700, udpChecksum=0xABCD)
    packet = LoWPAN_IPHC(tf=3, nh=1, hlim=2, sam=3, dam=3) / LoWPAN_NHC(exts=[udp])
    assert udp_payload(bytes(packet) + PAYLOAD) == PAYLOAD


@pytest.mark.parametrize(
    ("form", "octets", "ports"),
    [
        (0, "164f9c40", (5711, 40000)),
        (1, "9c4021", (40000, 0xF021)),
        (2, "219c40", (0xF021, 40000)),
        (3, "3a", (0xF0B3, 0xF0BA)),
    ],
)
def test_ports_are_those_that_were_compressed(form: int, octets: str, ports: tuple[int, int]) -> None:
    """RFC 6282 section 4.3.3."""
    head = LoWPAN_IPHC(tf=3, nh=1, hlim=2, sam=3, dam=3)
    packet = bytes(head)[:2] + bytes([0xF0 | form]) + bytes.fromhex(octets) + bytes(2) + PAYLOAD
    assert udp_ports(packet) == (*ports, PAYLOAD)


def test_what_is_no_udp_gives_nothing() -> None:
    tcp = bytes([0x41]) + bytes(IPv6(src="fe80::1", dst="fe80::2", nh=6)) + bytes(20)
    other_extension = bytes([0x7E, 0x33, 0xE0]) + bytes(20)
    for packet in (b"", b"\x41", tcp, other_extension, b"\xff" * 60, compressed(3, 2, 3, 3, multicast=False)[:9]):
        assert udp_payload(packet) is None


def test_a_udp_length_that_is_too_great_or_too_small_gives_nothing() -> None:
    whole = bytes(IPv6() / UDP(sport=1, dport=2) / PAYLOAD)
    for length in (0, 7, 9 + len(PAYLOAD), 0xFFFF):
        assert udp_payload(b"\x41" + whole[:44] + struct.pack(">H", length) + whole[46:]) is None


@given(st.binary(max_size=80))
def test_any_bytes_give_a_part_of_themselves_or_nothing(packet: bytes) -> None:
    payload = udp_payload(packet)
    assert payload is None or packet.endswith(payload) or payload in packet
