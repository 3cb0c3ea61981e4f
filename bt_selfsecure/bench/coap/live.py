"""Attacks on CoAP as it is served on this computer: real sockets, and Eve in the server's place.

She listens at ports of her own. Who asks there reaches the server through her, datagram by datagram, as `hear` of an
attack decides. She tells what she did and read; whether it worked she judges by what passes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable
from typing import Final

import aiocoap
from aiocoap import error

from bt_selfsecure.bench.coap.live_relay import EveRelay, Hear, LiveAttack, Place, Say
from bt_selfsecure.bench.coap.live_sabour import SABOUR, Middle
from bt_selfsecure.errors import UsageError
from bt_selfsecure.eve.dotp.attacks import Public, Sent
from bt_selfsecure.eve.dotp.attacks.between import Drop, Hold
from bt_selfsecure.eve.dotp.attacks.listening import PadReader
from bt_selfsecure.eve.dotp.attacks.speaking import Change, Deafen, Impersonate, Replay
from bt_selfsecure.eve.dotp.serial_number import known_of_get, read, sns_of_known
from bt_selfsecure.protocols.dotp.keys import SERIAL_BYTES, Role, direction_sn
from bt_selfsecure.protocols.sabour.messages import Profile

PATHS: Final = (b"time", b"sensor", b"index")
"""What a client is supposed to ask for."""
GET_AND_CONTENT: Final = bytes([0x40 ^ 0x60, 0x01 ^ 0x45, 0, 0])
"""The exclusive or of how a confirmable GET and its piggybacked 2.05 begin: type, code, message id."""


SHORT_BITS: Final = 40
"""Of a key whose RN has 8."""
HER_REQUEST: Final = bytes.fromhex("4001 6576 b4") + b"time"
MOST_FORGED: Final = 256


# --- D-OTP's object layer ---------------------------------------------------------------------------------------------


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
            self._say(f"{sender.value}: {_told(text)}")
        return [(sender.peer, data)]


def _sn_of(data: bytes, public: Public, say: Say) -> int | None:
    """Return SN, where a request is for one of the paths that she supposes."""
    size = len(data) - SERIAL_BYTES
    for path in PATHS:
        if 0 <= size - 5 - len(path) <= 8:
            for sn in sns_of_known(data, known_of_get(size, path), public.policy, public.bits):
                say(f"SN is {sn}")
                return sn
    return None


class _Exhausting:
    """Is the client from its first answer on, in a pair whose RN has 8 bits: a request for each answer, until the
    server has no number left. Succeeds if she was answered, and then no more."""

    def __init__(self, say: Say) -> None:
        self._say: Final = say
        self._public: Final = Public(bits=SHORT_BITS)
        self._eve: Impersonate | None = None
        self._asked = self._answered = 0

    @property
    def succeeded(self) -> bool:
        return self._asked == self._answered > 1

    def hear(self, sender: Role, data: bytes) -> list[Sent]:
        if self._eve is None and sender is Role.CLIENT:
            sn = _sn_of(data, self._public, self._say)
            if sn is not None:
                (text,) = read([data], direction_sn(sn, sender), self._public.policy, SHORT_BITS)
                self._eve = Impersonate(self._public, text, HER_REQUEST, MOST_FORGED)
        if self._eve is None:
            return [(sender.peer, data)]
        onward = self._eve.hear(sender, data)
        if sender is Role.SERVER:
            self._asked += len(onward)
            self._answered += 1
            if onward:
                self._say(f"answered {self._answered} times; her request {self._asked} goes out")
        return onward


def _told(text: bytes) -> str:
    try:
        message = aiocoap.Message.decode(text)
    except (error.UnparsableMessage, ValueError):
        return text.hex()
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
    "dotp/replay": lambda say: _MadeMore(Replay().hear, say),
    "dotp/loss": lambda say: _MadeDeaf(Drop(1).hear, say),
    "dotp/crossing": _Crossing,
    "dotp/change": lambda say: _MadeAnother(Change(b"time", b"door").hear, say),
    "dotp/exhaustion": _Exhausting,
    "dotp/deafen": lambda say: _MadeDeaf(Deafen(Public(), os.urandom, 1).hear, say),
}


# --- the command ------------------------------------------------------------------------------------------------------

LIVE: Final = {**dict.fromkeys(DOTP, 1), "sabour/middle": 2, **dict.fromkeys(SABOUR, 1)}
"""Each with its number of places, at most: of `hardened` the handshake has no port of its own."""


async def attack(name: str, profile: str, places: list[Place], seconds: float, say: Say) -> bool:
    """Stand in the servers' places for so long, or until Ctrl-C or SIGTERM, and return whether the attack succeeded.
    Raises `UsageError` where there are too many or too few."""
    wanted = 1 if profile == "hardened" else LIVE[name]
    if len(places) != wanted and name not in DOTP:
        raise UsageError(
            f"a live {name} takes --profile paper with {LIVE[name]} of 127.0.0.1:PORT, of CoAP and of the handshake, "
            "or --profile hardened with 1"
        )
    if len(places) != wanted:
        raise UsageError(f"a live {name} takes {wanted} of 127.0.0.1:PORT: see bt-selfsecure eve attack --help")
    which = Profile.HARDENED if profile == "hardened" else Profile.PAPER_ECDSA
    loop = asyncio.get_running_loop()
    play: Awaitable[object] = loop.create_future()
    if name in DOTP:
        carried: LiveAttack = DOTP[name](say)
        hears: list[Hear] = [carried.hear]
    elif name == "sabour/middle":
        carried = middle = Middle(which, say)
        hears = [middle.hear_coap, middle.hear]
    else:
        carried = visitor = SABOUR[name](which, say)
        hears, play = [visitor.hear], visitor.play(places[0])
    relays = [EveRelay(place, hear) for place, hear in zip(places, hears, strict=False)]
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds) as lasting:
                for number in (signal.SIGINT, signal.SIGTERM):
                    loop.add_signal_handler(number, lasting.reschedule, loop.time())
                for place, relay in zip(places, relays, strict=True):
                    say(f"listening at {place[0]} port {relay.port}, in the place of port {place[1]}")
                await play
        return carried.succeeded
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
        for relay in relays:
            relay.close()
