"""Attacks on CoAP as it is served on this computer: real sockets, and Eve in the server's place.

She listens at ports of her own. Who asks there reaches the server through her, datagram by datagram, as `hear` of an
attack decides. She tells what she did and read; whether it worked she judges by what passes.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
from collections.abc import Callable, Iterable
from functools import partial
from itertools import repeat
from typing import Any, Final, Protocol

import aiocoap
from aiocoap import error

from bt_selfsecure.errors import UsageError
from bt_selfsecure.eve.dotp.attacks import Public, Sent
from bt_selfsecure.eve.dotp.attacks.between import Drop
from bt_selfsecure.eve.dotp.attacks.speaking import Change, Deafen, Replay
from bt_selfsecure.eve.dotp.serial_number import known_of_get, read, sns_of_known
from bt_selfsecure.eve.sabour.attacks.middle import ManInTheMiddle
from bt_selfsecure.protocols.dotp.keys import SERIAL_BYTES, Role, direction_sn
from bt_selfsecure.protocols.sabour.keys import NotAuthentic, PayloadKey
from bt_selfsecure.protocols.sabour.messages import Kind, MessageError, Profile, decode
from bt_selfsecure.protocols.sabour.suites import Parties

Say = Callable[[str], None]
Hear = Callable[[Role, bytes], Iterable[Sent]]
Place = tuple[str, int]
MOST_CLIENTS: Final = 64
LONGEST: Final = 65_535
PATHS: Final = (b"time", b"sensor", b"index")
"""What a client is supposed to ask for."""


def place_of(text: str) -> Place:
    """Return the place 127.0.0.1:PORT. Raises `UsageError` for any other: she attacks this computer's servers alone."""
    host, _, port = text.rpartition(":")
    try:
        is_here = ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        is_here = False
    if not is_here or not port.isdecimal() or not 0 < int(port) < 65_536:
        raise UsageError(f"{text!r}: CoAP is attacked on this computer alone: name a server as in 127.0.0.1:5683")
    return host.strip("[]"), int(port)


def _udp(place: Place) -> socket.socket:
    made = socket.socket(socket.AF_INET6 if ":" in place[0] else socket.AF_INET, socket.SOCK_DGRAM)
    made.setblocking(False)
    return made


class EveRelay:
    """Stands in the place of one server, in the running loop. Each client has a socket of its own to the server."""

    def __init__(self, target: Place, hear: Hear) -> None:
        self._target: Final = target
        self._hear: Final = hear
        self._loop: Final = asyncio.get_running_loop()
        self._backs: Final[dict[Any, socket.socket]] = {}
        self._front: Final = _udp(target)
        self._front.bind((target[0], 0))
        self._loop.add_reader(self._front, self._from_client)

    @property
    def port(self) -> int:
        """Return where she listens."""
        return int(self._front.getsockname()[1])

    def _from_client(self) -> None:
        data, client = self._front.recvfrom(LONGEST)
        if client not in self._backs and len(self._backs) < MOST_CLIENTS:
            back = self._backs[client] = _udp(self._target)
            back.connect(self._target)
            self._loop.add_reader(back, partial(self._from_server, back, client))
        self._pass_on(Role.CLIENT, data, client)

    def _from_server(self, back: socket.socket, client: Any) -> None:
        try:
            data = back.recv(LONGEST)
        except OSError:  # nobody listens there: the client learns it by waiting
            return
        self._pass_on(Role.SERVER, data, client)

    def _pass_on(self, sender: Role, data: bytes, client: Any) -> None:
        for to, out in self._hear(sender, data):
            try:
                if to is Role.CLIENT:
                    self._front.sendto(out, client)
                elif client in self._backs:
                    self._backs[client].send(out)
            except OSError:
                continue

    def close(self) -> None:
        for one in (self._front, *self._backs.values()):
            self._loop.remove_reader(one)
            one.close()


# --- D-OTP's object layer ---------------------------------------------------------------------------------------------


class LiveAttack(Protocol):
    """Is an attack, and what it came to."""

    @property
    def succeeded(self) -> bool: ...

    def hear(self, sender: Role, data: bytes) -> Iterable[Sent]: ...


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
        policy = self._public.policy
        if self._sn is None and sender is Role.CLIENT:
            size = len(data) - SERIAL_BYTES
            for path in PATHS:
                if 0 <= size - 5 - len(path) <= 8:
                    for sn in sns_of_known(data, known_of_get(size, path), policy):
                        self._sn = sn
                        self._say(f"SN is {sn}")
        if self._sn is not None:
            (text,) = read([data], direction_sn(self._sn, sender), policy)
            self._say(f"{sender.value}: {_told(text)}")
        return [(sender.peer, data)]


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
    "dotp/change": lambda say: _MadeAnother(Change(b"time", b"door").hear, say),
    "dotp/deafen": lambda say: _MadeDeaf(Deafen(Public(), os.urandom, 1).hear, say),
}


# --- Sabour's handshake -----------------------------------------------------------------------------------------------


class _Middle:
    """Is the server for the device, and the device for the server. What is public of them she takes from M1."""

    def __init__(self, profile: Profile, say: Say) -> None:
        self._profile: Final = profile
        self._say: Final = say
        self._mallory: ManInTheMiddle | None = None
        self.succeeded = False
        """Whether she read anything."""

    def hear(self, sender: Role, data: bytes) -> list[Sent]:
        """Take a datagram of the handshake."""
        try:
            message = decode(self._profile, data)
        except MessageError:
            return [(sender.peer, data)]
        if message.kind is Kind.M1:
            self._mallory = ManInTheMiddle(self._profile, Parties(message.device_id), os.urandom)
        if self._mallory is None:
            return [(sender.peer, data)]
        self._say(f"{message.kind.name} of the {sender.value} is replaced")
        return [(sender.peer, out) for out in self._mallory.hear(data)]

    def hear_coap(self, sender: Role, data: bytes) -> list[Sent]:
        """Take a CoAP message: in `paper` with a payload under her keys, in `hardened` perhaps of the handshake."""
        try:
            message = aiocoap.Message.decode(data)
        except (error.UnparsableMessage, ValueError):
            return [(sender.peer, data)]
        if self._profile.hardened:
            frames = [frame for _, frame in self.hear(sender, message.payload)]
            heads = [
                data,
                *(data[:2] + os.urandom(2) + data[4:] for _ in frames[1:]),
            ]  # what has an id of its own counts
            return [(sender.peer, _with(*each)) for each in zip(heads, repeat(message.payload), frames, strict=False)]
        keys = self._mallory.keys() if self._mallory else None
        if keys is None or not message.payload or sender is Role.CLIENT:
            return [(sender.peer, data)]
        with_client, with_server = keys
        assert isinstance(with_client, PayloadKey)
        assert isinstance(with_server, PayloadKey)
        try:
            text = with_server.open(message.payload)
        except NotAuthentic:
            return [(sender.peer, data)]
        self.succeeded = True
        self._say(f"read, and handed on under her own key: {ascii(text.decode(errors='replace'))[1:-1]}")
        return [(sender.peer, _with(data, message.payload, with_client.seal(text, os.urandom)))]


def _with(data: bytes, old: bytes, new: bytes) -> bytes:
    """Return the CoAP message with another payload, which is its end."""
    return data[: len(data) - len(old)] + new


# --- the command ------------------------------------------------------------------------------------------------------

LIVE: Final = {**dict.fromkeys(DOTP, 1), "sabour/middle": 2}
"""Each with its number of places, at most: of `hardened` the handshake has no port of its own."""


async def attack(name: str, profile: str, places: list[Place], seconds: float, say: Say) -> bool:
    """Stand in the servers' places for so long, and return whether the attack succeeded. Raises `UsageError` where
    there are too many or too few."""
    wanted = 1 if profile == "hardened" else LIVE[name]
    if len(places) != wanted and name not in DOTP:
        raise UsageError(
            f"a live {name} takes --profile paper with {LIVE[name]} of 127.0.0.1:PORT, of CoAP and of the handshake, "
            "or --profile hardened with 1"
        )
    if len(places) != wanted:
        raise UsageError(f"a live {name} takes {wanted} of 127.0.0.1:PORT: see bt-selfsecure eve attack --help")
    if name in DOTP:
        carried: LiveAttack = DOTP[name](say)
        hears: list[Hear] = [carried.hear]
    else:
        carried = middle = _Middle(Profile.HARDENED if profile == "hardened" else Profile.PAPER_ECDSA, say)
        hears = [middle.hear_coap, middle.hear]
    relays = [EveRelay(place, hear) for place, hear in zip(places, hears, strict=False)]
    try:
        for place, relay in zip(places, relays, strict=True):
            say(f"listening at {place[0]} port {relay.port}, in the place of port {place[1]}")
        await asyncio.sleep(seconds)
        return carried.succeeded
    finally:
        for relay in relays:
            relay.close()
