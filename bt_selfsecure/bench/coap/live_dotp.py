"""Eve in the place of a server of D-OTP's object layer: what she reads, changes, and says in the client's name."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Final

import aiocoap
from aiocoap import error

from bt_selfsecure.bench.coap.live_relay import Hear, LiveAttack, Say
from bt_selfsecure.eve.dotp.attacks import Public, Sent
from bt_selfsecure.eve.dotp.attacks.between import Drop, Hold
from bt_selfsecure.eve.dotp.attacks.listening import PadReader
from bt_selfsecure.eve.dotp.attacks.speaking import Change, Deafen, Impersonate, Replay
from bt_selfsecure.eve.dotp.serial_number import GENERATORS, generators_of_known, known_of_get, read, sns_of_known
from bt_selfsecure.protocols.dotp.keys import SERIAL_BYTES, Role, direction_sn

PATHS: Final = (b"time", b"sensor", b"index")
"""What a client is supposed to ask for."""
GET_AND_CONTENT: Final = bytes([0x40 ^ 0x60, 0x01 ^ 0x45, 0, 0])
"""The exclusive or of how a confirmable GET and its piggybacked 2.05 begin: type, code, message id."""

SHORT_BITS: Final = 40
"""Of a key whose RN has 8."""
HER_REQUEST: Final = bytes.fromhex("4001 6576 b4") + b"time"
HER_ORDER: Final = bytes.fromhex("4003 6576 b5") + b"store\x04door\xffopen"
MOST_FORGED: Final = 256


class _Reading:
    """Takes the first request whose text is one of those that she supposes, has SN by it, and tells every text."""

    def __init__(self, say: Say) -> None:
        self._say: Final = say
        self._public: Final = Public()
        self._sn: int | None = None

    @property
    def succeeded(self) -> bool:
        return self._sn is not None

    def hear(self, sender: Role, data: bytes) -> list[Sent]:
        if self._sn is None and sender is Role.CLIENT:
            self._sn = _sn_of(data, self._public, self._say)
        if self._sn is not None:
            (text,) = read([data], direction_sn(self._sn, sender), self._public.policy)
            self._say(f"{sender.value}: {told(text)}")
        return [(sender.peer, data)]


def _sn_of(data: bytes, public: Public, say: Say) -> int | None:
    """Return SN, where a request is for one of the paths that she supposes."""
    for known in _supposed(data):
        for sn in sns_of_known(data, known, public.policy, public.bits):
            say(f"SN is {sn}")
            return sn
    return None


def _supposed(data: bytes) -> list[list[int | None]]:
    """Return what the text may be, of which she does not know message id and token."""
    size = len(data) - SERIAL_BYTES
    return [known_of_get(size, path) for path in PATHS if 0 <= size - 5 - len(path) <= 8]


class _Speaking:
    """Is the client from its first answer on: a request of hers for each answer, so many times or until the server has
    no number left."""

    def __init__(self, say: Say, bits: int, request: bytes, times: int) -> None:
        self._say: Final = say
        self._public: Final = Public(bits=bits)
        self._request: Final = request
        self._times: Final = times
        self._sn = 0
        self._eve: Impersonate | None = None
        self.asked = self.answered = 0
        """By her; and all, of which the first is the client's."""

    def hear(self, sender: Role, data: bytes) -> list[Sent]:
        if self._eve is None and sender is Role.CLIENT:
            sn = _sn_of(data, self._public, self._say)
            if sn is not None:
                self._sn, text = sn, self._read(sender, sn, data)
                self._eve = Impersonate(self._public, text, self._request, self._times)
        if self._eve is None:
            return [(sender.peer, data)]
        onward = self._eve.hear(sender, data)
        if sender is Role.SERVER:
            self.asked += len(onward)
            self.answered += 1
            self._tell(onward, data)
        return onward

    def _read(self, sender: Role, sn: int, data: bytes) -> bytes:
        return read([data], direction_sn(sn, sender), self._public.policy, self._public.bits)[0]

    def _tell(self, onward: list[Sent], answer: bytes) -> None:
        self._say(f"server: {told(self._read(Role.SERVER, self._sn, answer))}")
        if onward:
            self._say(f"she, in the client's name: {told(self._request)}")


class _Impersonating(_Speaking):
    """Sends one request in the client's name. Succeeds if it is answered."""

    def __init__(self, say: Say) -> None:
        super().__init__(say, Public().bits, HER_ORDER, 1)

    @property
    def succeeded(self) -> bool:
        return self.answered > 1


class _Exhausting(_Speaking):
    """Takes a pair whose RN has 8 bits. Succeeds if she was answered, and then no more."""

    def __init__(self, say: Say) -> None:
        super().__init__(say, SHORT_BITS, HER_REQUEST, MOST_FORGED)

    @property
    def succeeded(self) -> bool:
        return self.asked == self.answered > 1

    def _tell(self, onward: list[Sent], answer: bytes) -> None:
        if onward:
            self._say(f"answered {self.answered} times; her request {self.asked} goes out")


class _Finding:
    """Takes the first request whose text is one of those that she supposes, and looks which generator makes its
    keys."""

    def __init__(self, say: Say) -> None:
        self._say: Final = say
        self.succeeded = False

    def hear(self, sender: Role, data: bytes) -> list[Sent]:
        if sender is Role.CLIENT and not self.succeeded:
            found = [one for known in _supposed(data) for one in generators_of_known(data, known)]
            for name, sn in found:
                self._say(f"of {', '.join(GENERATORS)} it is {name}, seeded with {sn}")
            if not found:
                self._say(f"{', '.join(GENERATORS)}: none of these, for no path that she supposes")
            self.succeeded = bool(found)
        return [(sender.peer, data)]


def told(text: bytes) -> str:
    """Return a CoAP message in words, or what else it is in hexadecimal digits."""
    try:
        return in_words(aiocoap.Message.decode(text))
    except (error.UnparsableMessage, ValueError):
        return text.hex()


def in_words(message: Any) -> str:
    """Return code, path and payload."""
    path = "".join(f"/{part}" for part in message.opt.uri_path)
    return " ".join(filter(None, (str(message.code), path, ascii(message.payload.decode(errors="replace"))[1:-1])))


class _Telling:
    """Tells what the attack did to each datagram that is not simply handed on, and counts what passes."""

    def __init__(self, hear: Hear, say: Say) -> None:
        self._hear: Final = hear
        self._say: Final = say
        self.touched = False
        self.asked = self.answered = 0
        """Datagrams of the client, and of the server."""
        self.asked_since = self.answered_since = 0
        """Of the client after the first that was touched, and of the server after the first of those."""

    def hear(self, sender: Role, data: bytes) -> list[Sent]:
        onward = list(self._hear(sender, data))
        if sender is Role.CLIENT:
            self.asked += 1
            self.asked_since += self.touched
        else:
            self.answered += 1
            self.answered_since += self.asked_since > 0
        if onward != [(sender.peer, data)]:
            self.touched = True
            self._say(f"{sender.value}: a datagram of {len(data)} bytes became {len(onward)}")
        return onward


class _Crossing:
    """Keeps each answer back until the client asks again: with one SN both go out under one pad (Fig. 11a). Succeeds if
    she has the exclusive or of a request and its answer: message id and token are the same in both."""

    def __init__(self, say: Say) -> None:
        self._say: Final = say
        self._hold: Hold | None = None
        self._reader: Final = PadReader(Public())
        self._told = 0
        self.succeeded = False

    def hear(self, sender: Role, data: bytes) -> list[Sent]:
        self._reader.hear(sender, data)
        if sender is Role.SERVER and (self._hold is None or self._hold.is_over):
            self._hold = Hold(1, Role.SERVER)
        crossed = self._reader.crossed()
        for both in crossed[self._told :]:
            if both[:4] == GET_AND_CONTENT:
                self.succeeded = True
                self._say(f"one pad for a request and its answer; the exclusive or of the two: {both.hex()}")
        self._told = len(crossed)
        return [(sender.peer, data)] if self._hold is None else self._hold.hear(sender, data)


class _MadeMore(_Telling):
    """Succeeds if the server sent more than it was asked; do not observe through it."""

    @property
    def succeeded(self) -> bool:
        return self.answered > self.asked


class _MadeAnother(_Telling):
    """Succeeds if the server answered what was changed."""

    @property
    def succeeded(self) -> bool:
        return self.touched and self.answered > 0


class _MadeDeaf(_Telling):
    """Succeeds if the server answered nothing that came later."""

    @property
    def succeeded(self) -> bool:
        return self.asked_since > 0 and self.answered_since == 0


DOTP: Final[dict[str, Callable[[Say], LiveAttack]]] = {
    "dotp/known-text": _Reading,
    "dotp/generator": _Finding,
    "dotp/impersonation": _Impersonating,
    "dotp/replay": lambda say: _MadeMore(Replay().hear, say),
    "dotp/loss": lambda say: _MadeDeaf(Drop(1).hear, say),
    "dotp/crossing": _Crossing,
    "dotp/change": lambda say: _MadeAnother(Change(b"time", b"door").hear, say),
    "dotp/exhaustion": _Exhausting,
    "dotp/deafen": lambda say: _MadeDeaf(Deafen(Public(), os.urandom, 1).hear, say),
}
