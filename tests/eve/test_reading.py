"""Our datagrams out of what was heard, bearer by bearer: whole, in pieces, with pieces missing, and among noise."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterable, Iterator

import pytest
from carriers import (
    ADDRESS,
    ALL_SIZES,
    CONNECTED,
    HANDLE,
    HCI,
    LE,
    LE_CONNECTED,
    SMALL,
    Carrier,
    Packet,
    advertisement,
    event,
    fragments,
    frames_of_sdu,
    l2cap,
    lowpan,
    rfcomm_frames,
    uih,
    wires,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from bt_selfsecure.bearers.advertising_data import manufacturer_data
from bt_selfsecure.bearers.link_datagrams import Data, Hello, pack
from bt_selfsecure.eve.haoxiao.format import HAOXIAO
from bt_selfsecure.eve.reading import Datagram, Reader
from bt_selfsecure.eve.reassembly import MOST_CONNECTIONS
from bt_selfsecure.eve.sources.linktypes import READ
from bt_selfsecure.eve.sources.packet import CapturedPacket

BEARERS = {
    "bare": "memory",
    "by_l2cap_unannounced": "l2cap",
    "by_rfcomm_unannounced": "rfcomm",
    "by_advertisement": "le_advert",
    "by_report": "le_advert",
}


def heard(packets: Iterable[Packet]) -> Iterator[CapturedPacket]:
    for number, (linktype, packet) in enumerate(packets):
        if (found := READ[linktype](float(number), packet)) is not None:
            yield found


def read(packets: Iterable[Packet]) -> list[Datagram]:
    return list(Reader(HAOXIAO).read_all(heard(packets)))


def data_of(packets: Iterable[Packet]) -> list[bytes]:
    return [datagram.data for datagram in read(packets)]


@pytest.mark.parametrize("carrier", ALL_SIZES, ids=lambda carrier: carrier.__name__)
def test_every_vector_comes_out_of_every_carrier(carrier: Carrier) -> None:
    found = read(carrier(wires()))
    assert [datagram.data for datagram in found] == wires()
    assert {datagram.bearer for datagram in found} == {
        BEARERS.get(carrier.__name__, carrier.__name__.removeprefix("by_"))
    }


@pytest.mark.parametrize("carrier", SMALL, ids=lambda carrier: carrier.__name__)
def test_compact_burst_packets_come_out_of_advertisements_with_their_sender(carrier: Carrier) -> None:
    small = [wire for wire in wires() if len(wire) == 24]
    assert [(d.bearer, d.way, d.data) for d in read(carrier(small))] == [
        ("le_advert", "02:00:00:00:00:01", wire) for wire in small
    ]


@pytest.mark.parametrize("size", [1, 4, 5, 27, 64])
@pytest.mark.parametrize("bearer", ["l2cap", "rfcomm", "ipsp"])
def test_hci_fragments_of_any_size_are_put_together(bearer: str, size: int) -> None:
    [carrier] = [carrier for carrier in ALL_SIZES if carrier.__name__ == f"by_{bearer}"]
    pieces = [
        piece
        for linktype, packet in carrier(wires())
        for piece in (fragments(packet, size) if packet[4] == 2 else [(linktype, packet)])
    ]
    assert data_of(pieces) == wires()


def test_a_datagram_is_told_with_the_time_of_its_last_piece_and_its_direction() -> None:
    sent = fragments(l2cap(b"\x23sdu")[1], 3)
    got = l2cap(b"\x23answer", sent=False)
    assert [(d.time, d.way, d.data) for d in read([CONNECTED, *sent, got])] == [
        (len(sent), "acl 1 sent", b"\x23sdu"),
        (len(sent) + 1, "acl 1 received", b"\x23answer"),
    ]


def test_two_directions_that_interleave_their_fragments_are_kept_apart() -> None:
    one, other = wires()[0], wires()[1]
    ways = [fragments(l2cap(data, sent=sent)[1], 10) for data, sent in ((one, True), (other, False))]
    mixed = [piece for pair in zip(*ways, strict=False) for piece in pair]
    mixed += [piece for way in ways for piece in way[len(mixed) // 2 :]]
    assert sorted(data_of(mixed)) == sorted([one, other])


@pytest.mark.parametrize("filled", [b"\xff", b"\x10", b"\x04"])
@pytest.mark.parametrize("carrier", ALL_SIZES, ids=lambda carrier: carrier.__name__)
def test_whatever_piece_is_lost_costs_one_datagram(carrier: Carrier, filled: bytes) -> None:
    """Also where each piece might begin another datagram, of 0x1010 or 0x0404 bytes. A limit: the one whose piece was
    lost may come out with a piece of the next in its place."""
    sent = [bytes([0x28, number]) + filled * (700 + 13 * number) for number in range(6)]
    packets = list(carrier(sent))
    for lost in range(len(packets)):
        found = data_of(packets[:lost] + packets[lost + 1 :])
        assert len(set(found) & set(sent)) >= len(sent) - 1
        assert len(found) <= len(sent)


def test_what_a_closed_connection_left_behind_is_not_continued_by_the_next() -> None:
    frame = l2cap(b"\x23" + bytes(60))[1]
    begun, rest = fragments(frame, 40)
    closed = event(0x05, b"\0" + struct.pack("<H", HANDLE) + b"\x13")
    assert data_of([CONNECTED, begun, rest]) == [b"\x23" + bytes(60)]
    assert data_of([CONNECTED, begun, closed, rest]) == []
    assert data_of([CONNECTED, begun, CONNECTED, rest]) == []


def test_an_acl_packet_that_was_cut_is_no_piece_of_anything() -> None:
    begun, rest = fragments(l2cap(b"\x23" + bytes(60))[1], 40)
    cut = HCI, begun[1][:-4]
    whole = HCI, rest[1][:7] + struct.pack("<H", len(rest[1]) - 9 + 4) + bytes(4) + rest[1][9:]
    assert data_of([CONNECTED, begun, rest]) != []
    assert data_of([CONNECTED, cut, whole]) == []


def test_a_wrong_checksum_completes_nothing() -> None:
    right = advertisement(wires()[3])
    assert data_of([(LE, right)]) == [wires()[3]]
    assert data_of([(LE, right[:-1] + bytes([right[-1] ^ 1]))]) == []


def test_other_ipsp_datagrams_and_other_ports_bring_nothing() -> None:
    def by(payload: bytes) -> list[Packet]:
        return [LE_CONNECTED, *(l2cap(frame) for frame in frames_of_sdu(lowpan(payload)))]

    assert data_of(by(pack(Data(1, b"\x28data")))) == [b"\x28data"]
    assert data_of(by(pack(Hello(1, "02:00:00:00:00:01", "02:00:00:00:00:02")))) == []
    assert data_of(by(b"")) == []


def test_signalling_credits_and_the_multiplexers_own_channel_bring_nothing() -> None:
    assert data_of([CONNECTED, l2cap(b"\x23signalling", 1), l2cap(uih(b"")), l2cap(uih(b"\x23mux", channel=0))]) == []


# --- a connection on the air ------------------------------------------------------------------------------------------


def on_air(llid: int, payload: bytes, *, sn: int, access: int = 0x50655D2A, central: bool = True) -> Packet:
    """A data PDU as link type 256 has it: flags say de-whitened, CRC checked and right, and who sent it."""
    flags = 0x0001 | 0x0400 | 0x0800 | (2 if central else 3) << 7
    pdu = bytes([llid | sn << 3, len(payload)]) + payload
    return LE, struct.pack("<BbbBIH", 3, -50, 0, 0, access, flags) + struct.pack("<I", access) + pdu + bytes(3)


def connection(datagrams: Iterable[bytes]) -> Iterator[Packet]:
    """What an unencrypted connection carries for ipsp: LL PDUs of 27 bytes, as without the data length extension."""
    sn = 0
    for datagram in datagrams:
        for frame in frames_of_sdu(lowpan(pack(Data(7, datagram)))):
            whole = struct.pack("<HH", len(frame), 0x40) + frame
            for at in range(0, len(whole), 27):
                yield on_air(2 if at == 0 else 1, whole[at : at + 27], sn=sn)
                sn ^= 1


def test_datagrams_come_out_of_an_unencrypted_connection_on_the_air() -> None:
    found = read(connection(wires()))
    assert [d.data for d in found] == wires()
    assert {(d.bearer, d.way) for d in found} == {("ipsp", "le 0x50655d2a sent")}


def test_packets_that_were_sent_again_count_once_and_empty_ones_not_at_all() -> None:
    packets = [copy for packet in connection(wires()) for copy in (packet, packet, on_air(1, b"", sn=0))]
    assert data_of(packets) == wires()


def test_two_connections_on_the_air_are_kept_apart() -> None:
    one, other = (list(connection([wire])) for wire in wires()[:2])
    others = [(linktype, packet.replace(b"\x2a\x5d\x65\x50", b"\x2b\x5d\x65\x50")) for linktype, packet in other]
    mixed = [packet for pair in zip(one, others, strict=False) for packet in pair]
    longer = one if len(one) > len(others) else others
    assert sorted(data_of(mixed + longer[len(mixed) // 2 :])) == sorted(wires()[:2])


# --- extended reports, bounds, noise ----------------------------------------------------------------------------------


def test_several_reports_of_one_event_and_extended_ones_are_read() -> None:
    data = manufacturer_data(wires()[3])
    legacy = (b"\x03\x00" + ADDRESS + bytes([len(data)]) + data + b"\xc4") * 2
    extended = struct.pack("<HB6s14xB", 0x10, 0, ADDRESS, len(data)) + data
    assert data_of([event(0x3E, b"\x02\x02" + legacy)]) == [wires()[3]] * 2
    assert data_of([event(0x3E, b"\x0d\x01" + extended)]) == [wires()[3]]


def of(handle: int, packet: Packet) -> Packet:
    """The same ACL packet on another connection."""
    flags = int.from_bytes(packet[1][5:7], "little") & 0xF000
    return HCI, packet[1][:5] + struct.pack("<H", handle | flags) + packet[1][7:]


def test_of_connections_without_number_only_the_last_are_remembered() -> None:
    reader = Reader(HAOXIAO)
    begun, rest = fragments(l2cap(b"\x23" + bytes(60))[1], 40)

    count = MOST_CONNECTIONS + 10
    assert list(reader.read_all(heard(of(handle, begun) for handle in range(count)))) == []
    found = list(reader.read_all(heard(of(handle, rest) for handle in reversed(range(count)))))
    assert [d.way for d in found] == [f"acl {handle} sent" for handle in reversed(range(10, count))]


def test_the_connection_that_was_quiet_for_longest_is_forgotten_first() -> None:
    begun, rest = fragments(l2cap(b"\x23" + bytes(60))[1], 40)

    opened = [of(handle, begun) for handle in range(MOST_CONNECTIONS)]
    again = [of(0, begun), of(MOST_CONNECTIONS, begun)]
    assert [d.way for d in read([*opened, *again, of(0, rest), of(1, rest)])] == ["acl 0 sent"]


@given(st.lists(st.tuples(st.sampled_from(sorted(READ)), st.binary(max_size=80)), max_size=30))
def test_packets_of_any_bytes_never_raise(packets: list[Packet]) -> None:
    read(packets)


@settings(max_examples=25)
@given(
    st.sampled_from([carrier for carrier in ALL_SIZES if carrier.__name__ != "bare"]),
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 200), st.integers(1, 255)), max_size=6),
    st.randoms(use_true_random=False),
)
def test_damaged_shuffled_and_repeated_packets_never_raise(
    carrier: Carrier, damages: list[tuple[int, int, int]], draw: random.Random
) -> None:
    packets = list(carrier(wires()))
    for number, at, difference in damages:
        linktype, packet = packets[number % len(packets)]
        octets = bytearray(packet)
        octets[at % len(octets)] ^= difference
        packets[number % len(packets)] = linktype, bytes(octets)
    draw.shuffle(packets)
    read(packets + packets[:5])


def test_rfcomm_of_several_channels_is_kept_apart() -> None:
    one, other = wires()[0] * 8, wires()[1] * 8  # each in several frames
    frames = [list(rfcomm_frames([data])) for data in (one, other)]
    shifted = []
    for _, packet in frames[1]:  # the same on channel 2
        information = packet[13 + 3 + (0 if packet[15] & 1 else 1) : -1]
        shifted.append(l2cap(uih(information, channel=2)))
    mixed = [packet for pair in zip(frames[0], shifted, strict=True) for packet in pair]
    assert data_of([CONNECTED, *mixed]) == [one, other]
