"""The DTLS layer, as in the paper: each session has a pre-shared key of its own, and names it `PAIR/n`.

A session takes five numbers, one for each io; its handshake takes the key in force at the third, the key exchange. Only
the client's direction is used: its sending numbers are the server's receiving ones.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from bt_selfsecure.errors import LocalError
from bt_selfsecure.protocols.dotp.keys import SESSION_NUMBERS, ExhaustedError, psk
from bt_selfsecure.protocols.dotp.record import DotpRecord
from bt_selfsecure.protocols.dotp.window import Window

RESERVED_SESSIONS: Final = 64
SESSION_WINDOW: Final = 64
MOST_SESSIONS_SKIPPED: Final = 128
"""With the window before them, less than `paper` keeps keys for: a name alone makes it make them."""
_KEY_EXCHANGE: Final = 2


def _key_number(session: int) -> int:
    return SESSION_NUMBERS * session + _KEY_EXCHANGE


class ClientKeys:
    """Gives the client a key for each session. Write what `reserve` returns, then `take`."""

    def __init__(self, record: DotpRecord, pair: bytes) -> None:
        self._record: Final = record
        self._pair: Final = pair
        self._keys: Final = record.sending.keys(record)
        self._next = self._reserved = -(-record.sending.number // SESSION_NUMBERS)

    def reserve(self, sessions: int = RESERVED_SESSIONS) -> DotpRecord:
        """Reserve so many sessions, and return the record to be written before one of them is taken."""
        last = self._keys.numbers // SESSION_NUMBERS
        self._reserved = min(self._next + sessions, last)
        if self._next == last:
            raise ExhaustedError
        self._keys.forget_before(_key_number(self._next))
        epoch, secret = self._keys.state
        number = SESSION_NUMBERS * self._reserved
        return replace(self._record, sending=replace(self._record.sending, epoch=epoch, secret=secret, number=number))

    @property
    def left(self) -> int:
        """Return how many sessions are reserved and not taken."""
        return self._reserved - self._next

    def take(self) -> tuple[bytes, bytes]:
        """Return identity and key of the next session. Raises `LocalError` where none is reserved."""
        if not self.left:
            raise LocalError("no session is reserved: write what `reserve` returns")
        session = self._next
        self._next += 1
        key = self._keys.key(_key_number(session))
        return self._pair + b"/%d" % session, psk(self._record.profile, key)


class ServerKeys:
    """Tells the server the keys of one pair. Write what `established` returns before acting on a session."""

    def __init__(self, record: DotpRecord, pair: bytes) -> None:
        self._record: Final = record
        self._prefix: Final = pair + b"/"
        self._keys: Final = record.receiving.keys(record)
        following = -(-record.receiving.number // SESSION_NUMBERS)
        self._window: Final = Window(SESSION_WINDOW, MOST_SESSIONS_SKIPPED, following, record.receiving.seen)

    def look_up(self, identity: bytes) -> bytes | None:
        """Return the key under this identity; None where it is another pair's, was used, or is too far ahead."""
        session = self._session(identity)
        if session is None:
            return None
        return psk(self._record.profile, self._keys.key(_key_number(session)))

    def established(self, identity: bytes) -> DotpRecord | None:
        """Note that the session is used; None if it already was, by a handshake at the same time: close this one."""
        session = self._session(identity)
        if session is None:
            return None
        window = self._window
        window.mark(session)
        self._keys.forget_before(_key_number(window.oldest))
        epoch, secret = self._keys.state
        number = SESSION_NUMBERS * window.following
        receiving = replace(self._record.receiving, epoch=epoch, secret=secret, number=number, seen=window.seen)
        return replace(self._record, receiving=receiving)

    def _session(self, identity: bytes) -> int | None:
        digits = identity.removeprefix(self._prefix)
        if digits == identity or not digits.isdigit() or len(digits) > 10 or b"%d" % int(digits) != digits:
            return None
        session = int(digits)
        if self._window.is_old(session) or self._window.is_too_far(session):
            return None
        return session if _key_number(session) < self._keys.numbers else None
