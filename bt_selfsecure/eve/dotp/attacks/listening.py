"""Who listens: from one key, or from the text that one key block covers, she has every other text."""

from __future__ import annotations

from typing import Final

from bt_selfsecure.eve.dotp.attacks import Public, Sent
from bt_selfsecure.eve.dotp.serial_number import key_of_text, read, sn_of_key
from bt_selfsecure.protocols.dotp.keys import SERIAL_BYTES, Role, direction_sn


class PadReader:
    """Keeps what passes. Needs a place on the way, or a radio in reach, and one key or eight octets of one text."""

    def __init__(self, public: Public) -> None:
        self._public: Final = public
        self._heard: Final[dict[Role, list[bytes]]] = {role: [] for role in Role}

    def hear(self, sender: Role, data: bytes) -> list[Sent]:
        self._heard[sender].append(data)
        return [(sender.peer, data)]

    def _numbered(self, sender: Role) -> list[bytes]:
        """Return a direction's datagrams, each behind its number; where none is on the air she counts."""
        if self._public.serial:
            return self._heard[sender]
        numbered, number = [], 0
        for data in self._heard[sender]:
            numbered.append(number.to_bytes(SERIAL_BYTES) + data)
            number += self._public.blocks(data)
        return numbered

    def key(self, text: bytes) -> bytes:
        """Return the key that covers the beginning of the client's first datagram, of which she knows the text."""
        return key_of_text(self._numbered(Role.CLIENT)[0], text, self._public.bits)

    def read(self, key: bytes) -> dict[Role, list[bytes]]:
        """Return what she takes for the texts of both directions, from one key of the client's."""
        sn = sn_of_key(key)
        own = {role: direction_sn(sn, role) if self._public.two_keys else sn for role in Role}
        return {role: read(self._numbered(role), own[role], self._public.policy, self._public.bits) for role in Role}

    def crossed(self) -> list[bytes]:
        """Return the exclusive or of each two datagrams, one of either end, with one serial: of their texts, if they
        went out under one pad."""
        there = {data[:SERIAL_BYTES]: data[SERIAL_BYTES:] for data in self._heard[Role.CLIENT]}
        pairs = [
            (there[data[:SERIAL_BYTES]], data[SERIAL_BYTES:])
            for data in self._heard[Role.SERVER]
            if data[:SERIAL_BYTES] in there
        ]
        return [bytes(a ^ b for a, b in zip(*pair, strict=False)) for pair in pairs]
