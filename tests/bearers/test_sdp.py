"""SDP answers: byte for byte as bluetoothd writes them, and as nobody should."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bt_selfsecure.bearers.sdp import MAX_DEPTH, SdpError, parse_response, request, rfcomm_channel

SERVICE = "b7355ec5-0e11-4b1e-9c0e-5e1f5ec07e00"
RECORD = bytes.fromhex(
    "3516"  # the lists of all records: one
    "3514"  # its list of attributes
    "090004"  # ProtocolDescriptorList
    "350f"
    "3503190100"  # L2CAP
    "3505190003080b"  # RFCOMM, channel 11
    "350100"  # a sequence of nothing
)  # fmt: skip
ANSWER = b"\x07\x00\x05" + (len(RECORD) + 3).to_bytes(2) + len(RECORD).to_bytes(2) + RECORD + b"\0"


def test_the_request_is_byte_for_byte_that_of_the_core_specification() -> None:
    assert request(5, SERVICE, b"\0") == bytes.fromhex(
        "06 0005 001b"  # SDP_ServiceSearchAttributeRequest, transaction, length
        "3511 1c b7355ec50e114b1e9c0e5e1f5ec07e00"  # pattern
        "ffff 3503 09 0004 00"
    )
    assert request(0xFFFF, SERVICE, b"\x02ab")[-3:] == b"\x02ab"


def test_a_whole_answer_gives_the_channel() -> None:
    lists, continuation = parse_response(ANSWER, 5)
    assert (lists, continuation) == (RECORD, b"\0")
    assert rfcomm_channel(lists) == 11


def test_an_answer_in_parts_says_where_to_go_on() -> None:
    part = b"\x07\x00\x01\x00\x08\x00\x02\x35\x16\x03abc"
    assert parse_response(part, 1) == (b"\x35\x16", b"\x03abc")


@pytest.mark.parametrize("uuid", ["190003", "1a00000003", "1c0000000300001000800000805f9b34fb"])
def test_the_protocol_may_be_named_in_16_32_or_128_bits(uuid: str) -> None:
    descriptor = bytes.fromhex(uuid) + b"\x08\x0b"
    assert rfcomm_channel(b"\x35" + bytes([len(descriptor)]) + descriptor) == 11


@pytest.mark.parametrize(
    ("lists", "channel"),
    [
        ("", None),
        ("3500", None),
        ("3505190003081e", 30),
        ("3505190003081f", None),  # there is no channel 31
        ("35051900030800", None),
        ("3505190100080b", None),  # another protocol
        ("1c00000003000010008000000000000000", None),
        ("3505190003100b", None),  # the channel as a signed number: RFCOMM's is none
        ("350819000308033500", None),  # three things are no descriptor of RFCOMM
        ("3603050003", None),
    ],
)
def test_what_names_no_channel_gives_none(lists: str, channel: int | None) -> None:
    try:
        assert rfcomm_channel(bytes.fromhex(lists)) == channel
    except SdpError:
        assert channel is None


@pytest.mark.parametrize(
    ("packet", "words"),
    [
        (b"", "too short"),
        (ANSWER[:7], "too short"),
        (b"\x05" + ANSWER[1:], "none to our request"),
        (ANSWER[:2] + b"\x06" + ANSWER[3:], "none to our request"),
        (ANSWER + b"\0", "none to our request"),
        (ANSWER[:-1], "none to our request"),
        (b"\x07\x00\x05\x00\x03\x00\x09\x00", "contradicts itself"),
        (b"\x07\x00\x05\x00\x03\x00\x01\x00", "contradicts itself"),
        (b"\x07\x00\x05\x00\x03\x00\x00\x01", "contradicts itself"),
    ],
)
def test_an_answer_that_is_none_is_refused(packet: bytes, words: str) -> None:
    with pytest.raises(SdpError, match=words):
        parse_response(packet, 5)


@given(st.binary(max_size=60), st.integers(0, 0xFFFF))
def test_no_packet_raises_anything_but_sdp_error(packet: bytes, transaction: int) -> None:
    for given_packet in (packet, b"\x07" + transaction.to_bytes(2) + max(0, len(packet)).to_bytes(2) + packet):
        try:
            lists, continuation = parse_response(given_packet, transaction)
        except SdpError:
            continue
        assert len(continuation) == 1 + continuation[0]
        assert lists + continuation == given_packet[7:]


elements = st.recursive(
    st.builds(lambda head, body: bytes([head]) + body, st.integers(0, 255), st.binary(max_size=17)),
    lambda inner: st.lists(inner, max_size=4).map(
        lambda parts: b"\x36" + len(b"".join(parts)).to_bytes(2) + b"".join(parts)
    ),
    max_leaves=12,
)


@given(st.one_of(st.binary(max_size=80), elements))
def test_no_record_raises_anything_but_sdp_error(lists: bytes) -> None:
    try:
        channel = rfcomm_channel(lists)
    except SdpError:
        return
    assert channel is None or 1 <= channel <= 30


@given(st.integers(0, len(RECORD) - 1), st.integers(0, 255))
def test_no_changed_byte_of_a_good_record_raises_anything_but_sdp_error(place: int, octet: int) -> None:
    try:
        rfcomm_channel(RECORD[:place] + bytes([octet]) + RECORD[place + 1 :])
        rfcomm_channel(RECORD[:place])
    except SdpError:
        pass


def test_nesting_is_bounded_and_the_worst_record_takes_no_time_to_speak_of() -> None:
    nested = b""
    for _ in range(MAX_DEPTH + 1):
        nested = b"\x37" + len(nested).to_bytes(4) + nested
    with pytest.raises(SdpError, match="nested too deep"):
        rfcomm_channel(nested)
    started = time.process_time()
    assert rfcomm_channel(b"\0" * 0xFFFF) is None  # as many elements as an answer can have
    assert time.process_time() - started < 5
