"""Orders and answers of the control link, and test packets: each form there and back, and whatever else may come."""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict

import pytest
from amounts import part_of
from hypothesis import given, settings
from hypothesis import strategies as st

from bt_selfsecure.sweep.orders import (
    Answer,
    Describe,
    Described,
    Listen,
    Listening,
    ListenReport,
    NotAnOrderError,
    Order,
    OrderRefused,
    PacketsSent,
    Report,
    RunReception,
    SendPackets,
    decode_answer,
    decode_order,
    decode_packet,
    encode,
    encode_packet,
    pack,
    pack_set,
    unpack,
)

ORDERS: list[Order] = [
    Describe(1),
    Listen(2, "l2cap", "B8:27:EB:00:00:01", 200),
    SendPackets(2**32 - 1, "le_advert", {"bob": "B8:27:EB:00:00:02"}, 800, 24, 30.0),
    Report(0),
]
ANSWERS: list[Answer] = [
    Described(1, {"kernel": "6.12"}),
    Listening(2),
    PacketsSent(3, 8.0, {"bob": pack_set({1, 2}, 10)}, {"flushed": {"bob": 3}}),
    ListenReport(4, pack(b"\0\1\2"), pack(b"\x7f\xc0\xc0")),
    OrderRefused(5, "the adapter is down"),
]


@pytest.mark.parametrize("order", ORDERS)
def test_an_order_is_read_as_it_was_written(order: Order) -> None:
    assert decode_order(encode(order)) == order


@pytest.mark.parametrize("answer", ANSWERS)
def test_an_answer_is_read_as_it_was_written(answer: Answer) -> None:
    assert decode_answer(encode(answer)) == answer


@pytest.mark.parametrize(
    "change",
    [
        {"packets": 0},
        {"packets": 10**9},
        {"packets": "200"},
        {"packets": True},
        {"tag": -1},
        {"size_bytes": 5},
        {"spacing_ms": float("nan")},
        {"spacing_ms": 1e9},
        {"receivers": {"bob": 1}},
        {"receivers": {str(number): "" for number in range(17)}},
        {"order": "explode"},
        {"order": "report"},
        {"more": 1},
    ],
)
def test_an_order_that_can_not_be_is_refused(change: dict[str, object]) -> None:
    values = {"order": "send", **asdict(ORDERS[2])} | change
    with pytest.raises(NotAnOrderError):
        decode_order(json.dumps(values).encode())


JSON = st.dictionaries(st.sampled_from(["order", "answer", "tag", "facts"]), st.integers() | st.text(max_size=5))


@settings(max_examples=part_of(100))
@given(st.binary(max_size=40) | JSON.map(lambda values: json.dumps(values).encode()))
def test_whatever_comes_is_an_order_an_answer_or_refused(data: bytes) -> None:
    for decode in (decode_order, decode_answer):
        with pytest.raises(NotAnOrderError):
            decode(data)


@given(st.binary(max_size=50), st.integers(0, 100))
def test_a_packed_report_is_read_whole_or_refused(values: bytes, count: int) -> None:
    assert unpack(pack(values), len(values)) == values
    if count != len(values):
        with pytest.raises(NotAnOrderError):
            unpack(pack(values), count)


def test_a_report_that_would_fill_the_memory_is_refused() -> None:
    with pytest.raises(NotAnOrderError):
        unpack(pack(bytes(10**7)), 200)


@given(st.text())
def test_any_text_for_a_report_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(NotAnOrderError):
        assert len(unpack(text, 3)) == 3


@pytest.mark.parametrize("size", [6, 24, 335])
def test_a_test_packet_tells_its_run_and_its_number(size: int) -> None:
    packet = encode_packet(0x01020304, 513, size)
    assert len(packet) == size
    assert packet[:6] == bytes.fromhex("010203040201")
    assert decode_packet(packet, 0x01020304, 514) == 513
    assert decode_packet(packet, 0x01020304, 513) is None
    assert decode_packet(packet, 5, 514) is None


@given(st.binary(max_size=40))
def test_any_datagram_is_a_test_packet_or_nothing(data: bytes) -> None:
    seq = decode_packet(data, 7, 100)
    assert seq is None or 0 <= seq < 100


def test_what_never_left_the_sender_is_no_loss_of_the_air_unless_it_was_heard_all_the_same() -> None:
    sent = PacketsSent(1, 1.0, {"bob": pack_set({0, 1}, 4)}, {})
    heard = ListenReport(1, pack(bytes([0, 2, 1, 0])), pack(bytes([127, 0xC4, 127, 127])))
    reception = RunReception.of(heard, sent, "bob", 4)
    assert reception.queued == {0}
    assert reception.rssi == (None, -60, None, None)
    assert RunReception.of(heard, sent, "eve", 4).queued == frozenset()
