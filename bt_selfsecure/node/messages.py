"""Messages of any length in rounds of a session: cut into fragments there, joined again here.

    +------+-------+------+----------------------
    | port | first | more | piece of the message
    +------+-------+------+----------------------
      6 bit  1 bit   1 bit   0 to SIZE - 1 bytes

`first` marks the first fragment of a message, `more` all but its last. A session delivers in order, so nothing needs a
number; `first` is for a receiver that has lost its memory in the middle of a message.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from bt_selfsecure.node.errors import MessageTooLongError
from bt_selfsecure.node.message_limits import MAX_MESSAGE_BYTES

HEAD_BYTES: Final = 1


class Fragment(NamedTuple):
    """Carries a piece of a message to this port in one round; `first` and `more` say where in the message it stands."""

    port: int
    first: bool
    more: bool
    """Whether the message goes on in the next fragment."""
    piece: bytes


def split(message: bytes, port: int, size: int) -> Iterator[bytes]:
    """Cut a message to this port into fragments of `size` bytes at most (2 or more), the octet in front included.
    Raises `MessageTooLongError` for more than `MAX_MESSAGE_BYTES`."""
    if len(message) > MAX_MESSAGE_BYTES:
        raise MessageTooLongError(f"a message has at most {MAX_MESSAGE_BYTES} bytes, this has {len(message)}")
    step = size - HEAD_BYTES
    for start in range(0, max(1, len(message)), step):
        more = start + step < len(message)
        yield bytes([port << 2 | (start == 0) << 1 | more]) + message[start : start + step]


def parse(data: bytes) -> Fragment | None:
    """Read what a round carried; return None for the empty round, which no node sends."""
    return Fragment(data[0] >> 2, bool(data[0] & 2), bool(data[0] & 1), data[HEAD_BYTES:]) if data else None


class Received(NamedTuple):
    """Holds a message from a peer; it comes again until it is acknowledged."""

    id: int
    """Names it towards `acknowledge`."""
    peer: str
    """Its name, or its address if it has none."""
    port: int
    time: float
    """When it came, seconds since 1970-01-01 UTC."""
    message: bytes
    age_s: float | None = None
    """Seconds since then; None where it came before the node was started, so that only a wall clock could tell."""
    group: str = ""
    """Name of the sender's group to which it was sent; empty for one to this node alone."""


class Joiner:
    """Joins the fragments that one peer's session delivers. It holds one message's pieces, `MAX_MESSAGE_BYTES` at
    most."""

    def __init__(self, pieces: Iterable[bytes] = ()) -> None:
        self.pieces = list(pieces)
        """Of the message that is under way."""
        self.bytes = sum(map(len, self.pieces))

    def add(self, fragment: Fragment) -> bytes | None:
        """Return the message that this fragment completes, else None. What belongs to no message that began is
        dropped."""
        if fragment.first:
            self.drop()
        elif not self.pieces:
            return None
        self.pieces.append(fragment.piece)
        self.bytes += len(fragment.piece)
        if self.bytes > MAX_MESSAGE_BYTES:
            self.drop()
        if fragment.more or not self.pieces:
            return None
        message = b"".join(self.pieces)
        self.drop()
        return message

    def drop(self) -> None:
        """Forget the message that is under way; what is left of it is dropped as it comes."""
        self.pieces, self.bytes = [], 0
