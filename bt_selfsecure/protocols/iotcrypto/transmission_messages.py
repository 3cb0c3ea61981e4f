"""The transmission protocol's messages (Fig. 7), each one CBOR array [kind, n, ...] in a DTLS record of its own.

of the paper                                       ours
request   [1, n, sensors]         none named: all  acknowledgement [7, n]
response  [2, n, {sensor: value}]                  list     [8, n, offset, size, piece]  of a trust list; down
command   [3, n, id, name, value]                  rekey    [9, n]  negotiate again: a key's time is over; down
status    [4, n, done, text]                       records  [10, n, epoch 8, first, [record, ...]]  up
alert     [5, n, id, time, text, value]            forward  [11, n, device's id 16, request or command]  down
error     [6, n, code, text]

An ask has a number n that its sender chooses; the answer has the same. Times are milliseconds since 1970.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any, Final, Self

from bt_selfsecure.errors import LocalError
from bt_selfsecure.protocols.iotcrypto import limits
from bt_selfsecure.protocols.iotcrypto.canonical import (
    MalformedError,
    Spoken,
    array_of,
    decode,
    encode,
    fields,
    is_measured,
    map_of,
    number,
    octets,
    octets_up_to,
    one_of,
    text,
)
from bt_selfsecure.sansio.value import value

Measured = int | float | str | bool | None
"""What a sensor may say, and a command be given."""
WORD: Final = text(limits.MOST_WORD_BYTES)
TEXT: Final = text(limits.MOST_TEXT_BYTES, 0)
NUMBER: Final = number(limits.MOST_NUMBER)
MEASURED: Final = is_measured(limits.MOST_TEXT_BYTES)
_readings: Final = map_of(WORD, MEASURED, limits.MOST_READINGS)


def READINGS(value: Any) -> bool:  # noqa: N802 - a field as the others
    """Return whether a value is what sensors said, short enough for one record."""
    return _readings(value) and len(encode(value)) <= limits.MOST_READINGS_BYTES


class TransmissionKind(enum.IntEnum):
    """Says what a message is."""

    REQUEST = 1
    RESPONSE = 2
    COMMAND = 3
    STATUS = 4
    ALERT = 5
    ERROR = 6
    ACKNOWLEDGEMENT = 7
    LIST = 8
    REKEY = 9
    RECORDS = 10
    FORWARD = 11


class ErrorCode(enum.IntEnum):
    """Says what went wrong at the other end."""

    FAILED = 1
    """The person's program raised."""
    UNKNOWN = 2
    """There is no such sensor, command or device."""
    ABSENT = 3
    """The device is known, and not connected."""
    REFUSED = 4
    """It was understood, and is not done: as a list that is not the owner's, or records after a gap."""
    FULL = 5
    """There is no room now: ask again later."""


@value
class ReadingRequest(Spoken):
    """Asks for sensors, by name; for all where none is named."""

    sensors: tuple[str, ...] = ()
    KIND = TransmissionKind.REQUEST
    FORM = (array_of(WORD, limits.MOST_READINGS),)

    def content(self) -> list[Any]:
        return [list(self.sensors)]

    @classmethod
    def of(cls, sensors: list[str]) -> Self:
        return cls(tuple(sensors))


@value
class ReadingResponse(Spoken):
    """Holds what sensors said."""

    readings: Mapping[str, Measured]
    KIND = TransmissionKind.RESPONSE
    FORM = (READINGS,)


@value
class ActuatorCommand(Spoken):
    """Has something done, once: the id is kept by who does it."""

    id: int
    name: str
    argument: Measured = None
    KIND = TransmissionKind.COMMAND
    FORM = (NUMBER, WORD, MEASURED)


@value
class CommandStatus(Spoken):
    """Says what became of a command."""

    done: bool
    text: str = ""
    KIND = TransmissionKind.STATUS
    FORM = (lambda done: type(done) is bool, TEXT)


@value
class AlertMessage(Spoken):
    """Tells of something of its own accord. Its id is higher than that of the one before, over restarts, too."""

    id: int
    time: int
    text: str
    value: Measured = None
    KIND = TransmissionKind.ALERT
    FORM = (NUMBER, NUMBER, TEXT, MEASURED)


@value
class ErrorMessage(Spoken):
    """Answers an ask that was not done."""

    code: ErrorCode
    text: str = ""
    KIND = TransmissionKind.ERROR
    FORM = (one_of([*ErrorCode]), TEXT)

    def content(self) -> list[Any]:
        return [int(self.code), self.text]

    @classmethod
    def of(cls, code: int, why: str) -> Self:
        return cls(ErrorCode(code), why)


@value
class Acknowledgement(Spoken):
    """Says that what was asked is done, and on disk where it has to be."""

    KIND = TransmissionKind.ACKNOWLEDGEMENT
    FORM = ()


@value
class ListPiece(Spoken):
    """Carries a piece of a trust list, `size` bytes in all."""

    offset: int
    size: int
    piece: bytes
    KIND = TransmissionKind.LIST
    FORM = (
        number(limits.MOST_LIST_BYTES),
        number(limits.MOST_LIST_BYTES, 1),
        octets_up_to(limits.MOST_PIECE_BYTES),
    )


@value
class RekeyRequest(Spoken):
    """Asks for a new negotiation, while this connection goes on until the next one takes over."""

    KIND = TransmissionKind.REKEY
    FORM = ()


@value
class RecordBatch(Spoken):
    """Carries what a gateway keeps for its cloud (`records.py`), in order and without gaps."""

    epoch: bytes
    """Of the gateway's store: drawn when it was made, so numbers of another one are not these."""
    first: int
    """Number of the first record; the store's first ever is 1."""
    records: tuple[bytes, ...]
    KIND = TransmissionKind.RECORDS
    FORM = (
        octets(limits.EPOCH_BYTES),
        number(limits.MOST_NUMBER, 1),
        array_of(octets_up_to(limits.MOST_MESSAGE_BYTES), limits.MOST_RECORDS),
    )

    def content(self) -> list[Any]:
        return [self.epoch, self.first, list(self.records)]

    @classmethod
    def of(cls, epoch: bytes, first: int, records: list[bytes]) -> Self:
        return cls(epoch, first, tuple(records))

    def after(self, last: int) -> tuple[bytes, ...] | None:
        """Return those that follow record number `last`, which is the last that is on disk; None where there is a gap
        before them: then the answer is `ErrorCode.REFUSED`, and they come again after what is missing."""
        return None if self.first > last + 1 else self.records[last + 1 - self.first :]


@value
class ForwardedAsk(Spoken):
    """Asks a device behind a gateway. The answer is the device's, or an error of the gateway's."""

    device: bytes
    ask: ReadingRequest | ActuatorCommand
    KIND = TransmissionKind.FORWARD
    FORM = (octets(limits.ID_BYTES), lambda ask: type(ask) is list)

    def content(self) -> list[Any]:
        return [self.device, [int(self.ask.KIND), *self.ask.content()]]

    @classmethod
    def of(cls, device: bytes, ask: list[Any]) -> Self:
        kind = _FORWARDED.get(ask[0]) if ask and type(ask[0]) is int else None
        if kind is None:
            raise MalformedError("a forward of neither request nor command")
        _, *content = fields(ask, "what is forwarded", one_of([ask[0]]), *kind.FORM)
        return cls(device, kind.of(*content))


_FORWARDED: Final[dict[int, type[ReadingRequest | ActuatorCommand]]] = {
    TransmissionKind.REQUEST: ReadingRequest,
    TransmissionKind.COMMAND: ActuatorCommand,
}
Ask = ReadingRequest | ActuatorCommand | AlertMessage | ListPiece | RekeyRequest | RecordBatch | ForwardedAsk
Answer = ReadingResponse | CommandStatus | ErrorMessage | Acknowledgement
_CLASSES: Final[dict[int, type[Ask | Answer]]] = {
    one.KIND: one
    for one in (
        *(ReadingRequest, ReadingResponse, ActuatorCommand, CommandStatus, AlertMessage, ErrorMessage),
        *(Acknowledgement, ListPiece, RekeyRequest, RecordBatch, ForwardedAsk),
    )
}
ANSWERS: Final[Mapping[TransmissionKind, frozenset[TransmissionKind]]] = {
    TransmissionKind.REQUEST: frozenset({TransmissionKind.RESPONSE, TransmissionKind.ERROR}),
    TransmissionKind.COMMAND: frozenset({TransmissionKind.STATUS, TransmissionKind.ERROR}),
    TransmissionKind.ALERT: frozenset({TransmissionKind.ACKNOWLEDGEMENT, TransmissionKind.ERROR}),
    TransmissionKind.LIST: frozenset({TransmissionKind.ACKNOWLEDGEMENT, TransmissionKind.ERROR}),
    TransmissionKind.REKEY: frozenset({TransmissionKind.ACKNOWLEDGEMENT}),
    TransmissionKind.RECORDS: frozenset({TransmissionKind.ACKNOWLEDGEMENT, TransmissionKind.ERROR}),
    TransmissionKind.FORWARD: frozenset({TransmissionKind.RESPONSE, TransmissionKind.STATUS, TransmissionKind.ERROR}),
}
"""Which kinds are asks, and what may answer each."""


def encode_transmission(n: int, message: Ask | Answer) -> bytes:
    """Return the message under this number. Raises `LocalError` for what the other end would not read."""
    data = encode([int(message.KIND), n, *message.content()])
    try:
        decode_transmission(data)
    except MalformedError as error:
        raise LocalError(f"a {message.KIND.name.lower()} can't say so: {error}") from None
    return data


def decode_transmission(data: bytes) -> tuple[int, Ask | Answer]:
    """Return number and message. Total: raises `MalformedError` for what is no message."""
    content = decode(data, limits.MOST_MESSAGE_BYTES)
    kind = _CLASSES.get(content[0]) if type(content) is list and content and type(content[0]) is int else None
    if kind is None:
        raise MalformedError("no message of the transmission protocol")
    _, n, *rest = fields(content, kind.KIND.name.lower(), one_of([content[0]]), NUMBER, *kind.FORM)
    return n, kind.of(*rest)
