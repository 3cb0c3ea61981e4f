"""The transmission protocol: one answer to one ask over losses, both directions at once, batches of records."""

from __future__ import annotations

import random
from typing import Any

import pytest
from counted_bytes import counted
from hypothesis import given
from hypothesis import strategies as st
from iotcrypto_ends import COMPANY, CREATED, DEVICE, GATEWAY, PARTNER

from bt_selfsecure.errors import LocalError
from bt_selfsecure.protocols.iotcrypto import limits
from bt_selfsecure.protocols.iotcrypto.canonical import MalformedError, encode
from bt_selfsecure.protocols.iotcrypto.lists import ListKind, TrustList
from bt_selfsecure.protocols.iotcrypto.records import (
    AlertRecord,
    JoinedRecord,
    LeftRecord,
    ReadingRecord,
    StartedRecord,
    decode_record,
    encode_record,
)
from bt_selfsecure.protocols.iotcrypto.transmission import (
    AskAnswered,
    AskReceived,
    AskUnanswered,
    ListPieces,
    Transmission,
    TransmissionEnd,
    pieces_of,
)
from bt_selfsecure.protocols.iotcrypto.transmission_messages import (
    Acknowledgement,
    ActuatorCommand,
    AlertMessage,
    CommandStatus,
    ErrorCode,
    ErrorMessage,
    ForwardedAsk,
    ListPiece,
    ReadingRequest,
    ReadingResponse,
    RecordBatch,
    RekeyRequest,
    decode_transmission,
    encode_transmission,
)
from bt_selfsecure.sansio.context import EndpointContext
from bt_selfsecure.sansio.events import FrameRejected, Rejection

ID = DEVICE.certificate.id
MESSAGES = [
    ReadingRequest(),
    ReadingRequest(("temperature", "lamp")),
    ReadingResponse({"temperature": 21.5, "lamp": False, "state": "ok", "count": 7, "broken": None}),
    ActuatorCommand(7, "lamp", True),
    ActuatorCommand(limits.MOST_NUMBER, "restart"),
    CommandStatus(True),
    CommandStatus(False, "there is no lamp"),
    AlertMessage(1 << 32, 1_790_000_000_000, "it is hot", 81.25),
    ErrorMessage(ErrorCode.UNKNOWN, "there is no such sensor"),
    Acknowledgement(),
    ListPiece(1024, 1100, b"x" * 76),
    RekeyRequest(),
    RecordBatch(b"x" * 8, 1, (b"a", b"b")),
    ForwardedAsk(ID, ReadingRequest(("lamp",))),
    ForwardedAsk(ID, ActuatorCommand(7, "lamp", False)),
]
RECORDS = [
    ReadingRecord(ID, 1_790_000_000_000, {"temperature": 21.5}),
    AlertRecord(ID, 1_790_000_000_000, 1 << 32, "it is hot", 81.25),
    JoinedRecord(ID, 1_790_000_000_000, DEVICE.signed),
    LeftRecord(ID, 1_790_000_000_000, "revoked"),
    StartedRecord(GATEWAY.certificate.id, 1_790_000_000_000),
]


def ends(down: TransmissionEnd = TransmissionEnd.DEVICE, up: TransmissionEnd = TransmissionEnd.GATEWAY) -> Any:
    return (
        Transmission(down, EndpointContext(counted("down"))),
        Transmission(up, EndpointContext(counted("up"))),
    )


def events(end: Transmission) -> list[Any]:
    return list(iter(end.next_event, None))


def exchange(one: Transmission, other: Transmission, now: float = 0.0) -> None:
    while True:
        there, back = one.frames_to_send(now), other.frames_to_send(now)
        for data in there:
            other.receive_frame(data, now)
        for data in back:
            one.receive_frame(data, now)
        if not there and not back:
            return


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_message_is_read_as_it_was_written(message: Any) -> None:
    assert decode_transmission(encode_transmission(3, message)) == (3, message)


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_a_record_is_read_as_it_was_written(record: Any) -> None:
    assert decode_record(encode_record(record)) == record


@pytest.mark.parametrize(
    "message",
    [
        ReadingResponse({"temperature": float("nan")}),
        ReadingResponse({"temperature": float("inf")}),
        ReadingResponse({"x" * 33: 1}),
        ReadingResponse({"": 1}),
        ReadingResponse({"temperature": [1]}),  # type: ignore[dict-item]
        ReadingResponse({"count": 1 << 64}),
        ReadingResponse({str(number): number for number in range(33)}),
        ReadingResponse({str(number): "x" * 200 for number in range(6)}),
        ActuatorCommand(-1, "lamp"),
        CommandStatus(True, "x" * 257),
        CommandStatus(True, "\x1b[2J"),
        RecordBatch(b"x" * 8, 0, (b"a",)),
        ForwardedAsk(ID, AlertMessage(1, 1, "x")),  # type: ignore[arg-type]
        ForwardedAsk(b"x", ReadingRequest()),
    ],
    ids=str,
)
def test_what_the_other_end_would_not_read_is_not_sent(message: Any) -> None:
    with pytest.raises(LocalError):
        encode_transmission(1, message)


def test_the_longest_reading_fits_a_batch_of_records() -> None:
    longest = {f"sensor number {number:3} of a long name"[:32]: "x" * 180 for number in range(4)} | {"y": "z" * 149}
    reading = encode_record(ReadingRecord(ID, 1_790_000_000_000, longest))
    assert len(encode(longest)) > limits.MOST_READINGS_BYTES - 8
    assert encode_transmission(limits.MOST_NUMBER, RecordBatch(b"x" * 8, limits.MOST_NUMBER, (reading,)))
    joined = encode_record(JoinedRecord(ID, 1_790_000_000_000, DEVICE.signed_by(PARTNER, GATEWAY, DEVICE).signed))
    assert encode_transmission(limits.MOST_NUMBER, RecordBatch(b"x" * 8, limits.MOST_NUMBER, (joined,)))


def test_both_ends_ask_at_once() -> None:
    device, gateway = ends()
    alert = device.ask(AlertMessage(1, 2, "hot"), 0.0)
    request = gateway.ask(ReadingRequest(), 0.0)
    exchange(device, gateway)
    assert events(gateway) == [AskReceived(alert, AlertMessage(1, 2, "hot"))]
    assert events(device) == [AskReceived(request, ReadingRequest())]
    gateway.answer(alert, Acknowledgement())
    device.answer(request, ReadingResponse({"t": 1}))
    exchange(device, gateway)
    assert events(device) == [AskAnswered(alert, Acknowledgement())]
    assert events(gateway) == [AskAnswered(request, ReadingResponse({"t": 1}))]
    assert (device.get_timer(), gateway.get_timer()) == (None, None)


@given(st.integers(0, 1 << 32))
def test_over_losses_an_ask_is_told_once_and_has_one_answer_or_none(seed: int) -> None:
    rng = random.Random(seed)
    device, gateway = ends()
    told: list[int] = []
    answered: list[int] = []
    asked: list[int] = []
    unanswered: list[int] = []
    for tenth in range(1200):
        now = tenth / 10
        if len(asked) < 40 and gateway.room:
            asked.append(gateway.ask(ReadingRequest(), now))
        for one, other in ((gateway, device), (device, gateway)):
            for data in one.frames_to_send(now):
                for _ in range(rng.choice((0, 1, 1, 2))):
                    other.receive_frame(data, now)
        for event in events(device):
            told.append(event.n)
            if rng.random() < 0.8:
                device.answer(event.n, ReadingResponse({"n": event.n}))
        for event in events(gateway):
            if isinstance(event, AskAnswered):
                assert event.message == ReadingResponse({"n": event.n})
                answered.append(event.n)
            elif isinstance(event, AskUnanswered):
                unanswered.append(event.n)
        gateway.handle_timer(now)
    assert len(told) == len(set(told))
    assert sorted(answered + unanswered) == asked
    assert set(answered) <= set(told)


def test_an_answer_that_was_lost_is_said_again_and_the_work_not_done_again() -> None:
    device, gateway = ends()
    n = gateway.ask(ActuatorCommand(1, "lamp", True), 0.0)
    (data,) = gateway.frames_to_send(0.0)
    device.receive_frame(data, 0.0)
    assert events(device) == [AskReceived(n, ActuatorCommand(1, "lamp", True))]
    device.receive_frame(data, 0.0)  # and is still at work
    assert device.frames_to_send(0.0) == []
    device.answer(n, CommandStatus(True))
    assert len(device.frames_to_send(0.0)) == 1
    device.receive_frame(data, 0.0)
    assert len(device.frames_to_send(0.0)) == 1
    assert events(device) == []


def test_an_ask_is_repeated_and_then_told_as_unanswered() -> None:
    _device, gateway = ends()
    n = gateway.ask(ReadingRequest(), 0.0)
    times = [0.0] * len(gateway.frames_to_send(0.0))
    while (deadline := gateway.get_timer()) is not None:
        gateway.handle_timer(deadline - 0.01)
        assert gateway.frames_to_send(0.0) == []
        gateway.handle_timer(deadline)
        times += [deadline] * len(gateway.frames_to_send(deadline))
    assert times == [0.0, 2.0, 6.0, 14.0]
    assert events(gateway) == [AskUnanswered(n)]


def test_an_old_ask_is_not_done_anew() -> None:
    device, gateway = ends()
    gateway.ask(ActuatorCommand(1, "lamp"), 0.0)
    (first,) = gateway.frames_to_send(0.0)
    device.receive_frame(first, 0.0)
    n = events(device)[0].n
    for later in range(n + 1, n + limits.MOST_ANSWERS + 1):
        device.receive_frame(encode_transmission(later, ReadingRequest()), 0.0)
    assert len(events(device)) == limits.MOST_ANSWERS
    device.receive_frame(first, 0.0)
    assert events(device) == [FrameRejected(Rejection.REPLAY, "an ask of a time that is over")]


def test_an_end_takes_what_is_for_it_alone() -> None:
    wrong = {
        TransmissionEnd.DEVICE: (
            AlertMessage(1, 1, "x"),
            RecordBatch(b"x" * 8, 1, ()),
            ForwardedAsk(ID, ReadingRequest()),
        ),
        TransmissionEnd.GATEWAY: (
            ActuatorCommand(1, "x"),
            ListPiece(0, 1, b"x"),
            RekeyRequest(),
            RecordBatch(b"x" * 8, 1, ()),
        ),
        TransmissionEnd.UPLINK: (AlertMessage(1, 1, "x"), RecordBatch(b"x" * 8, 1, ()), ActuatorCommand(1, "x")),
        TransmissionEnd.CLOUD: (AlertMessage(1, 1, "x"), ListPiece(0, 1, b"x"), ForwardedAsk(ID, ReadingRequest())),
    }
    for end, messages in wrong.items():
        one = Transmission(end, EndpointContext(counted("x")))
        for message in messages:
            one.receive_frame(encode_transmission(5, message), 0.0)  # type: ignore[arg-type]
        assert {event.reason for event in events(one)} == {Rejection.NOT_FOR_US}


def test_an_answer_of_another_kind_or_to_nothing_is_told() -> None:
    _device, gateway = ends()
    n = gateway.ask(ReadingRequest(), 0.0)
    for number, message in ((n, CommandStatus(True)), (n, Acknowledgement()), (n + 1, ReadingResponse({}))):
        gateway.receive_frame(encode_transmission(number, message), 0.0)  # type: ignore[arg-type]
    reasons = [event.reason for event in events(gateway)]
    assert reasons == [Rejection.IMPLAUSIBLE, Rejection.IMPLAUSIBLE, Rejection.REPLAY]
    gateway.receive_frame(encode_transmission(n, ErrorMessage(ErrorCode.FAILED)), 0.0)
    assert events(gateway) == [AskAnswered(n, ErrorMessage(ErrorCode.FAILED))]


def test_the_driver_is_held_to_its_contract() -> None:
    device, gateway = ends()
    for _ in range(limits.MOST_ASKED):
        gateway.ask(ReadingRequest(), 0.0)
    with pytest.raises(LocalError, match="ask later"):
        gateway.ask(ReadingRequest(), 0.0)
    exchange(gateway, device)
    n = events(device)[0].n
    with pytest.raises(LocalError, match="does not answer"):
        device.answer(n, Acknowledgement())
    device.answer(n, ReadingResponse({}))
    with pytest.raises(LocalError, match="does not answer"):
        device.answer(n, ReadingResponse({}))
    device.answer(n + 1000, ReadingResponse({}))  # forgotten meanwhile
    assert len(device.frames_to_send(0.0)) == 1


@pytest.mark.parametrize("entries", [0, 1, 60, 65, 500, 1024])
def test_a_list_of_any_length_comes_in_pieces(entries: int) -> None:
    ids = tuple(counted(str(number))(16) for number in range(entries))
    data = TrustList.make(ListKind.REVOCATIONS, ids, CREATED, COMPANY.secrets).encode()
    pieces, taken = pieces_of(data), ListPieces()
    assert [taken.take(piece) for piece in pieces] == [None] * (len(pieces) - 1) + [data]
    assert all(encode_transmission(limits.MOST_NUMBER, piece) for piece in pieces)
    if len(pieces) > 1:
        taken.take(pieces[0])
        with pytest.raises(MalformedError):
            taken.take(ListPiece(1, len(data), b"x"))
        assert [taken.take(piece) for piece in pieces][-1] == data  # begun anew


def test_a_batch_adds_what_is_new_and_never_leaves_a_gap() -> None:
    batch = RecordBatch(b"x" * 8, 5, (b"5", b"6", b"7"))
    assert batch.after(3) is None
    assert batch.after(4) == (b"5", b"6", b"7")
    assert batch.after(6) == (b"7",)
    assert batch.after(7) == batch.after(100) == ()
