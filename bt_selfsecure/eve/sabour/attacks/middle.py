"""The woman in the middle: she is the server for the device, and the device for the server."""

from __future__ import annotations

from typing import Final

from bt_selfsecure.protocols.sabour.keys import Keys
from bt_selfsecure.protocols.sabour.messages import Kind, Message, MessageError, Profile, decode, encode
from bt_selfsecure.protocols.sabour.suites import SUITES, KeyPair, Parties, ProtocolRun, Side
from bt_selfsecure.sansio.context import Random


class ManInTheMiddle:
    """Every PK is replaced by one of hers, and every SIG by one that she makes. In `paper` that is enough. In
    `hardened` the true SIG follows, in case that it is what the other end waits for.

    Needs: device and server hear her and not each other. `parties` is public: ids, and in `hardened` the enrolled keys.
    Of their secrets she has none, so she signs with a key of her own.
    """

    def __init__(self, profile: Profile, parties: Parties, random: Random) -> None:
        self._profile: Final = profile
        self._suite: Final = SUITES[profile]
        self._parties: Final = parties
        self._random: Final = random
        self._seed: Final = random(32)
        self._m1: Message | None = None
        self._to_server: KeyPair | None = None
        self._with_client: ProtocolRun | None = None
        self._with_server: ProtocolRun | None = None

    def keys(self) -> tuple[Keys, Keys] | None:
        """Return what she would share with the device, and with the server, if they believed her."""
        if self._with_client is None or self._with_server is None:
            return None
        return self._suite.keys(Side.SERVER, self._with_client), self._suite.keys(Side.CLIENT, self._with_server)

    def hear(self, data: bytes) -> list[bytes]:
        """Take a datagram of either, and return what she sends."""
        try:
            message = decode(self._profile, data)
        except MessageError:
            return []
        match message.kind:
            case Kind.M1:
                return self._hear_m1(message)
            case Kind.M2:
                return self._hear_m2(message)
            case Kind.M3:
                return self._signed(Kind.M3, Side.CLIENT, self._with_server, data)
            case Kind.M4:
                return self._signed(Kind.M4, Side.SERVER, self._with_client, data)
            case Kind.REFUSAL:
                return [data]

    def _hear_m1(self, message: Message) -> list[bytes]:
        self._m1 = message
        self._to_server = self._to_server or self._suite.key_pair(self._random)
        return [encode(self._profile, Message(Kind.M1, message.device_id, self._to_server.public))]

    def _hear_m2(self, message: Message) -> list[bytes]:
        if self._m1 is None or self._to_server is None:
            return []
        own = self._suite.key_pair(self._random)
        with_client, with_server = (
            self._suite.agree(own, self._m1.share),
            self._suite.agree(self._to_server, message.share),
        )
        if with_client is None or with_server is None:
            return []
        self._with_client = ProtocolRun(self._parties, self._m1.share, own.public, own, with_client)
        self._with_server = ProtocolRun(
            self._parties, self._to_server.public, message.share, self._to_server, with_server
        )
        return [encode(self._profile, Message(Kind.M2, share=own.public))]

    def _signed(self, kind: Kind, side: Side, run: ProtocolRun | None, true: bytes) -> list[bytes]:
        if run is None:
            return []
        signature = self._suite.sign(side, run, self._seed, self._random)
        hers = encode(self._profile, Message(kind, signature=signature))
        return [hers, true] if self._profile.hardened else [hers]
