"""Flights 1 to 8 of both profiles, key-free: which bytes are which flight, and on which channel it travels.

hardened   1 version 1 | 1 | ID 8 | RN_i 16 | tag 8                2, 3, 4, 6, 7 version 1 | type | TID 8 | sealed
           5, 8 version 1 | type | TID 8 | tag 16
paper      1 ID 8 | RN_i 16        2, 3 nonce 13 | sealed        4 TID 8 | AES-ECB 32        5 AES-ECB 16

Each flight has one size, and in `paper`, which has no octet to say what it is, no two have the same.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final

from bt_selfsecure.errors import PeerError
from bt_selfsecure.protocols.bootstrap import limits
from bt_selfsecure.sansio.value import value

VERSION: Final = 1
HEADER_BYTES: Final = 2 + limits.TID_BYTES
HEAD_OF_F1_BYTES: Final = 2 + limits.ID_BYTES + limits.KEY_BYTES


class Profile(enum.Enum):
    """Names the rules that SBI, SBR and SBS share."""

    PAPER = "paper"
    HARDENED = "hardened"


class Kind(enum.IntEnum):
    """Says which flight it is."""

    F1 = 1
    F2 = 2
    F3 = 3
    F4 = 4
    F5 = 5
    F6 = 6
    F7 = 7
    F8 = 8


class FlightChannel(enum.Enum):
    """Says where a flight travels. Whoever drives a machine takes a flight from its own channel and from no other."""

    OUT_OF_BAND = "out of band, between SBI and SBR"
    SERVER = "between SBR and SBS"
    NID = "in band, between SBI and SBR"


CHANNELS: Final[Mapping[Profile, Mapping[Kind, FlightChannel]]] = {
    Profile.PAPER: {
        Kind.F1: FlightChannel.OUT_OF_BAND,
        Kind.F2: FlightChannel.SERVER,
        Kind.F3: FlightChannel.SERVER,
        Kind.F4: FlightChannel.OUT_OF_BAND,
        Kind.F5: FlightChannel.OUT_OF_BAND,  # section 5
    },
    Profile.HARDENED: {
        Kind.F1: FlightChannel.OUT_OF_BAND,
        Kind.F2: FlightChannel.SERVER,
        Kind.F3: FlightChannel.SERVER,
        Kind.F4: FlightChannel.OUT_OF_BAND,
        Kind.F5: FlightChannel.NID,
        Kind.F6: FlightChannel.SERVER,
        Kind.F7: FlightChannel.SERVER,
        Kind.F8: FlightChannel.NID,
    },
}
SIZES: Final[Mapping[Profile, Mapping[Kind, int]]] = {
    Profile.PAPER: {Kind.F1: 24, Kind.F2: 85, Kind.F3: 53, Kind.F4: 40, Kind.F5: 16},
    Profile.HARDENED: {
        Kind.F1: 34,
        Kind.F2: 84,
        Kind.F3: 66,
        Kind.F4: 42,
        Kind.F5: 26,
        Kind.F6: 52,
        Kind.F7: 26,
        Kind.F8: 26,
    },
}
_OF_SIZE: Final = {size: kind for kind, size in SIZES[Profile.PAPER].items()}


class Malformed(enum.Enum):
    """Says why bytes are no flight."""

    SIZE = "its length is of no flight"
    VERSION = "its first octet is of no version that is known here"
    KIND = "its second octet is of no flight"


class FlightError(PeerError):
    """The bytes are no flight. The only exception that `decode` raises."""

    def __init__(self, reason: Malformed) -> None:
        super().__init__(f"not a flight: {reason.value}")
        self.reason = reason


@value
class Flight:
    """Holds one flight of `hardened`, unverified."""

    kind: Kind
    data: bytes
    """All of it."""

    @property
    def header(self) -> bytes:
        """Return what precedes the sealed part or the tag; of flight 1 what its tag covers."""
        return self.data[: HEAD_OF_F1_BYTES if self.kind is Kind.F1 else HEADER_BYTES]

    @property
    def body(self) -> bytes:
        """Return the sealed part, or the tag."""
        return self.data[len(self.header) :]

    @property
    def tid(self) -> bytes:
        """Return the transaction's number. Flight 1 has none."""
        return self.data[2:HEADER_BYTES]

    @property
    def node_id(self) -> bytes:
        """Return ID, which only flight 1 shows."""
        return self.data[2 : 2 + limits.ID_BYTES]

    @property
    def rn_i(self) -> bytes:
        """Return RN_i of flight 1."""
        return self.data[2 + limits.ID_BYTES : HEAD_OF_F1_BYTES]


def header(kind: Kind, tid: bytes) -> bytes:
    """Return the first octets of flights 2 to 8 of `hardened`."""
    return bytes([VERSION, kind]) + tid


def decode(data: bytes) -> Flight:
    """Return the flight of `hardened` that these bytes are. Total: raises `FlightError` for what is none."""
    if len(data) < 2:
        raise FlightError(Malformed.SIZE)
    if data[0] != VERSION:
        raise FlightError(Malformed.VERSION)
    try:
        kind = Kind(data[1])
    except ValueError:
        raise FlightError(Malformed.KIND) from None
    if len(data) != SIZES[Profile.HARDENED][kind]:
        raise FlightError(Malformed.SIZE)
    return Flight(kind, data)


def kind_of(profile: Profile, data: bytes) -> Kind:
    """Return which flight of the profile these bytes are. Raises `FlightError` where they are none."""
    if profile is Profile.HARDENED:
        return decode(data).kind
    kind = _OF_SIZE.get(len(data))
    if kind is None:
        raise FlightError(Malformed.SIZE)
    return kind


def channel_of(data: bytes) -> FlightChannel:
    """Return where this flight of `hardened` travels. Raises `FlightError` where it is none."""
    return CHANNELS[Profile.HARDENED][decode(data).kind]
