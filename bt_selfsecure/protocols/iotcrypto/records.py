"""What a gateway keeps until its cloud has it: each one CBOR array, as it stands in the gateway's store and in a batch.

reading  [0, device's id, time, {sensor: value}]
alert    [1, device's id, time, alert's id, text, value]
joined   [2, device's id, time, certificate, signatures]     it was verified, and is connected
left     [3, device's id, time, reason]
started  [4, gateway's id, time]                             nobody is connected to it

The last three are the structure of the network, now and before. Times are milliseconds since 1970.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Self

from bt_selfsecure.protocols.iotcrypto import limits
from bt_selfsecure.protocols.iotcrypto.canonical import (
    Field,
    MalformedError,
    Spoken,
    decode,
    encode,
    fields,
    octets,
    one_of,
)
from bt_selfsecure.protocols.iotcrypto.certificate import SIGNED_FIELDS, SignedCertificate
from bt_selfsecure.protocols.iotcrypto.transmission_messages import MEASURED, NUMBER, READINGS, TEXT, Measured
from bt_selfsecure.sansio.value import value

_HEAD: Final[tuple[Field, ...]] = (octets(limits.ID_BYTES), NUMBER)
"""A device's id, and the time."""


@value
class ReadingRecord(Spoken):
    """Holds what a device's sensors said, at the time at which its gateway had it."""

    device: bytes
    time: int
    readings: Mapping[str, Measured]
    KIND = 0
    FORM = (*_HEAD, READINGS)


@value
class AlertRecord(Spoken):
    """Holds an alert, at the time that the device said."""

    device: bytes
    time: int
    id: int
    text: str
    value: Measured = None
    KIND = 1
    FORM = (*_HEAD, NUMBER, TEXT, MEASURED)


@value
class JoinedRecord(Spoken):
    """Says that a device is connected."""

    device: bytes
    time: int
    signed: SignedCertificate
    KIND = 2
    FORM = (*_HEAD, *SIGNED_FIELDS)

    def content(self) -> list[Any]:
        return [self.device, self.time, *self.signed.content]

    @classmethod
    def of(cls, device: bytes, time: int, certificate: bytes, signatures: list[list[bytes]]) -> Self:
        return cls(device, time, SignedCertificate.of(certificate, signatures))


@value
class LeftRecord(Spoken):
    """Says that a device is not connected any more, and why."""

    device: bytes
    time: int
    reason: str
    KIND = 3
    FORM = (*_HEAD, TEXT)


@value
class StartedRecord(Spoken):
    """Says that the gateway, named in the place of a device, was started: whoever was connected to it is not."""

    device: bytes
    time: int
    KIND = 4
    FORM = _HEAD


KeptRecord = ReadingRecord | AlertRecord | JoinedRecord | LeftRecord | StartedRecord
_CLASSES: Final[dict[int, type[KeptRecord]]] = {
    one.KIND: one for one in (ReadingRecord, AlertRecord, JoinedRecord, LeftRecord, StartedRecord)
}


def encode_record(record: KeptRecord) -> bytes:
    """Return the record as it is kept."""
    return encode([record.KIND, *record.content()])


def decode_record(data: bytes) -> KeptRecord:
    """Return what was kept. Total: raises `MalformedError` for what is no record."""
    content = decode(data, limits.MOST_MESSAGE_BYTES)
    kind = _CLASSES.get(content[0]) if type(content) is list and content and type(content[0]) is int else None
    if kind is None:
        raise MalformedError("no record of a gateway's")
    _, *rest = fields(content, "a record", one_of([content[0]]), *kind.FORM)
    return kind.of(*rest)
