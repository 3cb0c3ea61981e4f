"""One datagram after the other, put together from the pieces that the virtual air's captures have of it."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from bumble import rfcomm
from hypothesis import given
from hypothesis import strategies as st

from bt_selfsecure.air import capture
from bt_selfsecure.air.capture import CaptureTap
from bt_selfsecure.bearers.advertising_data import manufacturer_data
from bt_selfsecure.bearers.framing import framed
from bt_selfsecure.eve.haoxiao.format import HAOXIAO
from bt_selfsecure.eve.reading import Reader, ReadingTap
from bt_selfsecure.eve.sources.linktypes import READ

ADDRESS = bytes.fromhex("010000000002")  # 02:00:00:00:00:01, little-endian
HCI, LE, RAW = (
    capture.LINKTYPE_BLUETOOTH_HCI_H4_WITH_PHDR,
    capture.LINKTYPE_BLUETOOTH_LE_LL_WITH_PHDR,
    capture.LINKTYPE_USER0,
)


def reader() -> Callable[[int, bytes], list[bytes]]:
    """Who reads one packet after the other."""
    eve = Reader(HAOXIAO)

    def read(linktype: int, packet: bytes) -> list[bytes]:
        heard = READ[linktype](0.0, packet)
        return [datagram.data for datagram in eve.read(heard)] if heard else []

    return read


def advertisement(payload: bytes, channel: int = 37) -> bytes:
    data = manufacturer_data(payload)
    pdu = capture.advertising_pdu(capture.ADV_NONCONN_IND, ADDRESS, data, random_address=False)
    return capture.le_packet(channel, pdu)


def l2cap(payload: bytes, cid: int = 0x40, *, sent: bool = True) -> bytes:
    return capture.acl_packet(1, struct.pack("<HH", len(payload), cid) + payload, sent=sent)


def uih(information: bytes, *, channel: int = 1, credits_given: int | None = None) -> bytes:
    """An RFCOMM data frame as Bumble builds it."""
    if credits_given is None:
        return bytes(rfcomm.RFCOMM_Frame.uih(1, channel << 1, information))
    return bytes(rfcomm.RFCOMM_Frame.uih(1, channel << 1, bytes([credits_given]) + information, p_f=1))


@given(st.binary(max_size=27), st.sampled_from([37, 38, 39]))
def test_the_payload_of_an_advertisement_is_read_back(payload: bytes, channel: int) -> None:
    assert reader()(LE, advertisement(payload, channel)) == [payload]


def test_manufacturer_data_is_found_behind_flags_and_other_companies_are_ignored() -> None:
    flags, other = bytes.fromhex("020106"), bytes.fromhex("05ff4c000215")
    data = flags + other + manufacturer_data(b"ours")
    pdu = capture.advertising_pdu(capture.ADV_IND, ADDRESS, data, random_address=True)
    assert reader()(LE, capture.le_packet(37, pdu)) == [b"ours"]


@given(st.binary(min_size=1, max_size=600))
def test_an_l2cap_sdu_is_read_back(payload: bytes) -> None:
    """None happens to be an RFCOMM frame: that takes a control octet, the right length and a check sequence."""
    assert reader()(HCI, l2cap(payload)) == [payload]


@given(st.binary(min_size=1, max_size=900), st.none() | st.integers(1, 255))
def test_a_datagram_in_one_rfcomm_frame_is_read_back(datagram: bytes, credits_given: int | None) -> None:
    frame = uih(framed(datagram), credits_given=credits_given)
    assert reader()(HCI, l2cap(frame)) == [datagram]


@pytest.mark.parametrize(
    "payload",
    [
        bytes(rfcomm.RFCOMM_Frame.sabm(1, 2)),
        bytes(rfcomm.RFCOMM_Frame.ua(1, 2)),
        bytes(rfcomm.RFCOMM_Frame.dm(1, 2)),
        bytes(rfcomm.RFCOMM_Frame.disc(1, 2)),
        uih(framed(b"control"), channel=0),
        uih(b"", credits_given=7),
    ],
    ids=["SABM", "UA", "DM", "DISC", "multiplexer", "credits"],
)
def test_rfcomm_frames_without_data_hold_no_datagram(payload: bytes) -> None:
    assert reader()(HCI, l2cap(payload)) == []


def test_a_part_of_an_l2cap_pdu_is_not_taken_for_the_whole() -> None:
    assert reader()(HCI, l2cap(b"whole sdu")[:-1]) == []


def test_l2cap_signalling_holds_no_datagram() -> None:
    assert reader()(HCI, l2cap(b"\x02\x01\x04\x00\x03\x00\x40\x00", cid=1)) == []


WHOLE, LONG, NEXT = b"w" * 10, bytes(range(256)) * 10, b"n" * 20
PIECES = [framed(LONG)[at : at + 900] for at in range(0, 2562, 900)]


@pytest.mark.parametrize(
    ("heard", "read"),
    [
        ([*PIECES], [LONG]),
        ([framed(WHOLE), *PIECES, framed(NEXT)], [WHOLE, LONG, NEXT]),
        ([PIECES[0], PIECES[2], framed(NEXT)], [NEXT]),
        ([PIECES[1], PIECES[2], framed(NEXT)], [NEXT]),
        ([PIECES[0], PIECES[1], framed(NEXT), PIECES[2], framed(WHOLE)], [NEXT, WHOLE]),
        ([PIECES[0], PIECES[1], *PIECES], [LONG]),
    ],
    ids=["all", "all between others", "middle missed", "first missed", "last too late", "last missed, sent again"],
)
def test_a_datagram_in_several_rfcomm_frames_is_read_only_if_every_piece_was_heard(
    heard: list[bytes], read: list[bytes]
) -> None:
    one = reader()
    assert [d for piece in heard for d in one(HCI, l2cap(uih(piece)))] == read


def test_the_two_directions_and_channels_are_pieced_together_apart() -> None:
    read, got = reader(), []
    for piece in PIECES:
        for sent, channel in ((True, 1), (False, 1), (True, 2)):
            got += read(HCI, l2cap(uih(piece, channel=channel), sent=sent))
    assert got == [LONG, LONG, LONG]


@given(st.sampled_from([RAW, HCI, LE]), st.binary(max_size=80))
def test_no_bytes_make_the_reader_fail(linktype: int, packet: bytes) -> None:
    read = reader()
    for _ in range(2):
        assert all(len(datagram) <= len(packet) for datagram in read(linktype, packet))


@given(st.binary(max_size=40), st.integers(0, 60), st.integers(0, 255))
def test_no_damage_to_a_packet_makes_the_reader_fail(datagram: bytes, at: int, value: int) -> None:
    read = reader()
    for linktype, packet in ((HCI, l2cap(uih(framed(datagram)))), (LE, advertisement(datagram[:27]))):
        damaged = bytearray(packet)
        damaged[at % len(damaged)] = value
        read(linktype, bytes(damaged))
        read(linktype, bytes(damaged[:at]))


def test_a_tap_hands_over_each_datagram_with_its_time_and_needs_no_file() -> None:
    got: list[tuple[float, bytes]] = []
    tap = CaptureTap(then=ReadingTap(HAOXIAO, lambda time, datagram: got.append((time, datagram))))
    tap.hear(1.0, RAW, b"frame")
    tap.hear(2.0, LE, advertisement(b"advert"))
    tap.hear(3.0, HCI, l2cap(uih(framed(b"stream"))))
    assert got == [(1.0, b"frame"), (2.0, b"advert"), (3.0, b"stream")]
