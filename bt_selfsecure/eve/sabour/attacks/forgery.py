"""A SIG of Eve's own: she is the device, or the server, of whom she knows what is public and nothing else."""

from __future__ import annotations

from typing import Final

from bt_selfsecure.protocols.sabour.keys import Keys
from bt_selfsecure.protocols.sabour.messages import Kind, Message, MessageError, Profile, decode, encode
from bt_selfsecure.protocols.sabour.suites import SUITES, Parties, ProtocolRun, Side
from bt_selfsecure.sansio.context import Random


class _Forger:
    def __init__(self, profile: Profile, parties: Parties, random: Random) -> None:
        self._profile: Final = profile
        self._suite: Final = SUITES[profile]
        self._parties: Final = parties
        self._random: Final = random
        self._own: Final = self._suite.key_pair(random)
        self._seed: Final = random(32)

    def _read(self, data: bytes) -> Message | None:
        try:
            return decode(self._profile, data)
        except MessageError:
            return None

    def _signature(self, kind: Kind, side: Side, run: ProtocolRun) -> bytes:
        signature = self._suite.sign(side, run, self._seed, self._random)
        return encode(self._profile, Message(kind, signature=signature))


class FalseDevice(_Forger):
    """Begins a handshake in the name of a device, whose id every M1 shows. Needs a sender in reach of the server."""

    def begin(self) -> list[bytes]:
        """Return M1 with her PK."""
        return [encode(self._profile, Message(Kind.M1, self._parties.device_id, self._own.public))]

    def hear(self, data: bytes) -> list[bytes]:
        """Take M2 of the server, and return M3 with a SIG_C of hers."""
        message = self._read(data)
        ssk = self._suite.agree(self._own, message.share) if message and message.kind is Kind.M2 else None
        if message is None or ssk is None:
            return []
        run = ProtocolRun(self._parties, self._own.public, message.share, self._own, ssk)
        return [self._signature(Kind.M3, Side.CLIENT, run)]


class FalseServer(_Forger):
    """Answers a device in the server's name. Needs a sender in reach of it, and a server that is away or slow."""

    def __init__(self, profile: Profile, parties: Parties, random: Random) -> None:
        super().__init__(profile, parties, random)
        self._run: ProtocolRun | None = None

    def hear(self, data: bytes) -> list[bytes]:
        """Take M1 or M3 of the device, and return M2 with her PK, or M4 with a SIG_S of hers."""
        message = self._read(data)
        if message is None:
            return []
        if message.kind is Kind.M1:
            ssk = self._suite.agree(self._own, message.share)
            if ssk is None:
                return []
            self._run = ProtocolRun(self._parties, message.share, self._own.public, self._own, ssk)
            return [encode(self._profile, Message(Kind.M2, share=self._own.public))]
        if message.kind is Kind.M3 and self._run is not None:
            return [self._signature(Kind.M4, Side.SERVER, self._run)]
        return []

    def keys(self) -> Keys | None:
        """Return what she would share with the device, if it believed her."""
        return None if self._run is None else self._suite.keys(Side.SERVER, self._run)
