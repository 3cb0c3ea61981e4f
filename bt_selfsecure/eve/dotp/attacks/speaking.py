"""Who sends: what was heard again, what was heard changed, and what nobody but she made."""

from __future__ import annotations

from typing import Final

from bt_selfsecure.eve.dotp.attacks import Public, Sent
from bt_selfsecure.eve.dotp.serial_number import key_of_text, sn_of_key
from bt_selfsecure.protocols.dotp.keys import PAPER_WINDOW, SERIAL_BYTES, ExhaustedError, PaperKeys, Role
from bt_selfsecure.sansio.context import Random


class Replay:
    """Sends each datagram twice, and the first one again with each."""

    def __init__(self) -> None:
        self._first: Final[dict[Role, bytes]] = {}

    def hear(self, sender: Role, data: bytes) -> list[Sent]:
        first = self._first.setdefault(sender, data)
        return [(sender.peer, one) for one in (data, data, first)]


class Change:
    """Flips bits of the client's datagrams, so that a text which she knows to end so ends as she wants. Needs to stand
    between the two."""

    def __init__(self, old: bytes, new: bytes) -> None:
        self._flips: Final = bytes(a ^ b for a, b in zip(old, new, strict=True))

    def hear(self, sender: Role, data: bytes) -> list[Sent]:
        if sender is Role.CLIENT and len(data) >= len(self._flips):
            start = len(data) - len(self._flips)
            data = data[:start] + bytes(a ^ b for a, b in zip(data[start:], self._flips, strict=True))
        return [(sender.peer, data)]


class Deafen:
    """After so many requests sends two datagrams of no meaning, of numbers as far ahead as a receiver takes them: what
    the client sends is old from then on."""

    def __init__(self, public: Public, random: Random, after: int) -> None:
        self._public: Final = public
        self._random: Final = random
        self._left = after

    def hear(self, sender: Role, data: bytes) -> list[Sent]:
        onward = [(sender.peer, data)]
        if sender is not Role.CLIENT:
            return onward
        self._left -= 1
        if self._left:
            return onward
        blocks = self._public.blocks(data[SERIAL_BYTES:])
        following = int.from_bytes(data[:SERIAL_BYTES]) + blocks
        for _ in range(2):
            following += PAPER_WINDOW
            serial = following - blocks
            head = serial.to_bytes(SERIAL_BYTES) if self._public.serial else b""
            onward.append((Role.SERVER, head + self._random(len(data) - len(head))))
        return onward


class Impersonate:
    """Takes SN from the client's first datagram, whose text she knows. Once it is answered, she cuts the client off and
    sends a request of her own in its name; at each answer the next."""

    def __init__(self, public: Public, text: bytes, request: bytes, times: int = 1) -> None:
        self._public: Final = public
        self._text: Final = text
        self._request: Final = request
        self._left = times
        self._keys: PaperKeys | None = None
        self._number = 0

    def hear(self, sender: Role, data: bytes) -> list[Sent]:
        public = self._public
        whole = data if public.serial else self._number.to_bytes(SERIAL_BYTES) + data
        if sender is Role.SERVER:
            if not public.two_keys:
                self._take(whole)
            return [] if self._keys is None else [(Role.SERVER, forged) for forged in self._forged(self._keys)]
        if self._keys is not None:
            return []
        self._keys = public.keys(sn_of_key(key_of_text(whole, self._text, public.bits)), Role.CLIENT)
        self._take(whole)
        return [(Role.SERVER, data)]

    def _take(self, numbered: bytes) -> None:
        blocks = self._public.blocks(numbered[SERIAL_BYTES:])
        self._number = int.from_bytes(numbered[:SERIAL_BYTES]) + blocks

    def _forged(self, keys: PaperKeys) -> list[bytes]:
        """Return her next request, or none where she has sent as many as she was to, or the numbers are used up."""
        public, number = self._public, self._number
        self._left -= 1
        try:
            pad = b"".join(keys.key(number + each) for each in range(public.blocks(self._request)))
        except ExhaustedError:
            return []
        if self._left < 0:
            return []
        head = number.to_bytes(SERIAL_BYTES)
        sealed = bytes(a ^ b for a, b in zip(self._request, pad, strict=False))
        self._take(head + sealed)
        return [head + sealed if public.serial else sealed]
