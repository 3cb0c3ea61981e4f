"""Eve in the place of a server of Sabour's handshake: in the middle of one, and with the record of one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from itertools import repeat
from typing import Final

import aiocoap
from aiocoap import error

from bt_selfsecure.bench.coap.live_relay import LONGEST, Place, Say, udp
from bt_selfsecure.eve.dotp.attacks import Sent
from bt_selfsecure.eve.sabour.attacks.middle import ManInTheMiddle
from bt_selfsecure.eve.sabour.attacks.replay import Replay
from bt_selfsecure.protocols.dotp.keys import Role
from bt_selfsecure.protocols.sabour.keys import NotAuthentic, PayloadKey
from bt_selfsecure.protocols.sabour.messages import Kind, MessageError, Profile, decode
from bt_selfsecure.protocols.sabour.suites import Parties

EACH_S: Final = 1.0


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


def _with(data: bytes, old: bytes, new: bytes) -> bytes:
    """Return the CoAP message with another payload, which is its end."""
    return data[: len(data) - len(old)] + new


class Replaying:
    """Plays M1 of a handshake that passed her to the server again, until it has forgotten that one, as a server that
    was started again has; then M3. Succeeds if M4 comes: the server takes the device for present."""

    def __init__(self, profile: Profile, say: Say) -> None:
        self._profile: Final = profile
        self._say: Final = say
        self._tape: Final = Replay(profile)
        self._datagrams: Final[dict[bytes, bytes]] = {}
        self._m2s: Final[set[bytes]] = set()
        self.succeeded = False

    def hear(self, sender: Role, data: bytes) -> list[Sent]:
        frame = self._frame(data)
        if self._kind(frame) is Kind.M2:
            self._m2s.add(frame)
        elif sender is Role.CLIENT:
            self._tape.record(frame)
            self._datagrams.setdefault(frame, data)
        return [(sender.peer, data)]

    async def play(self, place: Place) -> None:
        """Try each second, until it succeeded."""
        while not self.succeeded:
            await asyncio.sleep(EACH_S)
            for m1 in self._tape.begin():
                with contextlib.suppress(OSError, TimeoutError), udp(place) as own:
                    own.connect(place)
                    await self._play(own, m1)

    async def _play(self, own: socket.socket, m1: bytes) -> None:
        m2 = await self._asked(own, m1)
        if m2 in self._m2s:
            return  # it remembers the handshake, and says again what it said
        self._m2s.add(m2)
        for m3 in self._tape.hear(m2):
            self._say("M1 is played: the server begins anew")
            if self._kind(await self._asked(own, m3)) is Kind.M4:
                self.succeeded = True
                self._say("M3 is played: the server takes the device for present, and sends M4")

    async def _asked(self, own: socket.socket, frame: bytes) -> bytes:
        """Return the frame that answers a datagram of the tape. Raises TimeoutError."""
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(own, self._datagrams[frame])
        async with asyncio.timeout(EACH_S):
            while True:
                answer = self._frame(await loop.sock_recv(own, LONGEST))
                if answer:
                    return answer

    def _frame(self, data: bytes) -> bytes:
        """Return the handshake's message in a datagram: in `hardened` it is a CoAP payload."""
        if not self._profile.hardened:
            return data
        try:
            return bytes(aiocoap.Message.decode(data).payload)
        except (error.UnparsableMessage, ValueError):
            return b""

    def _kind(self, frame: bytes) -> Kind | None:
        try:
            return decode(self._profile, frame).kind
        except MessageError:
            return None
