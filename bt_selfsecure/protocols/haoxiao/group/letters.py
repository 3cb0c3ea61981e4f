"""What owner and member tell each other in their session, on port 12; each is one message there.

    +------+----------+-------+-------------
    | Kind | Group id | Epoch | by kind
    +------+----------+-------+-------------
       8       64        32

| kind | from | what follows |
|---|---|---|
| 1 welcome | owner | secret (32), session id of the burst (8), length of the name (1), name, Cpr_s of the common set |
| 2 repair | owner | for each round: its number (8), Rand (16), length of the message (1), message |
| 3 closed | owner | |
| 4 report | member | next round (8), wish (1): 0 none, 1 rounds, 2 an epoch, 3 all by the session; what it holds (4) |
| 5 leave | member | |
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import field
from typing import Final

from bt_selfsecure.errors import PeerError
from bt_selfsecure.protocols.haoxiao.group import limits
from bt_selfsecure.protocols.haoxiao.limits import MAX_BURST, NONCE_BYTES, SESSION_ID_BYTES
from bt_selfsecure.protocols.haoxiao.received_set import ReceivedSetError, decode_received_set, encode_received_set
from bt_selfsecure.sansio.value import value

_HEAD_BYTES: Final = 1 + limits.GROUP_ID_BYTES + 4
_NUMBER_BYTES: Final = 8
_REPORT_BYTES: Final = 5


class LetterError(PeerError):
    """These bytes are no letter of a group. `decode` raises nothing else."""


class LetterKind(enum.IntEnum):
    WELCOME = 1
    REPAIR = 2
    CLOSED = 3
    REPORT = 4
    LEAVE = 5


class Lack(enum.IntEnum):
    """Says what a member that reports lacks."""

    NONE = 0
    ROUNDS = 1
    EPOCH = 2
    AIR = 3
    """It hears no broadcasts now, and all that it has not reported."""


_LACKS: Final = {lack.value: lack for lack in Lack}


@value
class WelcomeLetter:
    """Gives a member the secret of an epoch."""

    group: bytes
    epoch: int
    secret: bytes = field(repr=False)
    name: str = ""
    session: bytes = bytes(SESSION_ID_BYTES)
    """Of the burst of which all have heard `seqs`; zeros where there is none."""
    seqs: tuple[int, ...] = ()


@value
class MissedRound:
    """Is a round that a member has missed."""

    number: int
    rand: bytes = field(repr=False)
    message: bytes = field(repr=False)


@value
class RepairLetter:
    """Gives a member the rounds that it has missed, in order."""

    group: bytes
    epoch: int
    rounds: tuple[MissedRound, ...]


@value
class ClosedLetter:
    """Tells a member that it is none any more."""

    group: bytes
    epoch: int


@value
class ReportLetter:
    """Tells the owner what a member has: all rounds before `number`."""

    group: bytes
    epoch: int
    number: int
    wish: Lack = Lack.NONE
    held: int = 0
    """Bit k: the member holds round `number` + 1 + k, which it can't read yet."""


@value
class LeaveLetter:
    """Tells the owner that a member is to be none any more."""

    group: bytes
    epoch: int


Letter = WelcomeLetter | RepairLetter | ClosedLetter | ReportLetter | LeaveLetter
_KINDS: Final = {
    WelcomeLetter: LetterKind.WELCOME,
    RepairLetter: LetterKind.REPAIR,
    ClosedLetter: LetterKind.CLOSED,
    ReportLetter: LetterKind.REPORT,
    LeaveLetter: LetterKind.LEAVE,
}


def encode(letter: Letter) -> bytes:
    """Return the letter as one message of a session."""
    head = bytes([_KINDS[type(letter)]]) + letter.group + letter.epoch.to_bytes(4)
    match letter:
        case WelcomeLetter():
            name = letter.name.encode()
            s = encode_received_set(letter.seqs, MAX_BURST) if letter.seqs else b""
            return head + letter.secret + letter.session + bytes([len(name)]) + name + s
        case RepairLetter():
            return head + b"".join(
                [
                    one.number.to_bytes(_NUMBER_BYTES) + one.rand + bytes([len(one.message)]) + one.message
                    for one in letter.rounds
                ]
            )
        case ReportLetter():
            return head + letter.number.to_bytes(_NUMBER_BYTES) + bytes([letter.wish]) + letter.held.to_bytes(4)
        case _:
            return head


def decode_group(data: bytes) -> bytes:
    """Return the id of the group that a letter is about, whatever else it is. Raises `LetterError`."""
    if len(data) < _HEAD_BYTES:
        raise LetterError("no letter of a group")
    return data[1 : 1 + limits.GROUP_ID_BYTES]


def decode(data: bytes) -> Letter:
    """Return the letter that these bytes are. Raises `LetterError`."""
    if len(data) < _HEAD_BYTES:
        raise LetterError("no letter of a group")
    group, epoch, rest = data[1:9], int.from_bytes(data[9:_HEAD_BYTES]), data[_HEAD_BYTES:]
    number, after = int.from_bytes(rest[:_NUMBER_BYTES]), rest[_NUMBER_BYTES:]
    match data[0]:
        case LetterKind.REPORT if len(after) == _REPORT_BYTES and after[0] in _LACKS:
            return ReportLetter(group, epoch, number, _LACKS[after[0]], int.from_bytes(after[1:]))
        case LetterKind.REPAIR if rest:
            return RepairLetter(group, epoch, tuple(_missed(rest)))
        case LetterKind.WELCOME:
            return _welcome(group, epoch, rest)
        case LetterKind.CLOSED if not rest:
            return ClosedLetter(group, epoch)
        case LetterKind.LEAVE if not rest:
            return LeaveLetter(group, epoch)
    raise LetterError("a letter of another form")


def _missed(rest: bytes) -> Iterator[MissedRound]:
    size = _NUMBER_BYTES + NONCE_BYTES + 1
    while rest:
        head, length = rest[:size], rest[size - 1] if len(rest) >= size else limits.MAX_MESSAGE_BYTES + 1
        message, rest = rest[size : size + length], rest[size + length :]
        if len(message) != length or length > limits.MAX_MESSAGE_BYTES:
            raise LetterError("a repair of another form")
        yield MissedRound(int.from_bytes(head[:_NUMBER_BYTES]), head[_NUMBER_BYTES:-1], message)


def _welcome(group: bytes, epoch: int, rest: bytes) -> WelcomeLetter:
    at = limits.SECRET_BYTES + SESSION_ID_BYTES
    size = rest[at] if len(rest) > at else limits.MAX_NAME_BYTES + 1
    name, s = rest[at + 1 : at + 1 + size], rest[at + 1 + size :]
    if size > limits.MAX_NAME_BYTES or len(name) != size:
        raise LetterError("a welcome of another form")
    try:
        seqs = decode_received_set(s, MAX_BURST) if s else ()
        text = name.decode()
    except (ReceivedSetError, UnicodeDecodeError):
        raise LetterError("a welcome of another form") from None
    return WelcomeLetter(group, epoch, rest[: limits.SECRET_BYTES], text, rest[limits.SECRET_BYTES : at], seqs)
