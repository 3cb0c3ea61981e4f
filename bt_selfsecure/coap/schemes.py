"""What secures a client's or a server's CoAP: one small object a scheme, which says how its channels come about."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from bt_selfsecure.coap.channels import (
    Channel,
    DotpChannel,
    DotpGate,
    DtlsGate,
    Gate,
    PlainChannel,
    PlainGate,
    dtls_client,
)
from bt_selfsecure.coap.pairs import PairFile
from bt_selfsecure.errors import UsageError
from bt_selfsecure.protocols.dotp.endpoint import Dotp, DotpConfig
from bt_selfsecure.protocols.dotp.keys import Role
from bt_selfsecure.protocols.dotp.psk import ClientKeys, ServerKeys
from bt_selfsecure.sansio.context import Random

log = logging.getLogger(__name__)

AT_ONCE: Final = DotpConfig(reserved=16)
"""A command that gets one resource and ends, and a server that is killed, skip so many numbers."""
Channels = Callable[[float], Channel]


class Scheme(Protocol):
    """Is what client and server need of one."""

    @property
    def uri_scheme(self) -> str:
        """Return "coap" or "coaps"."""
        ...

    def client(self) -> Channels:
        """Return what makes the channel to a server. Raises `UsageError` where this is a server's."""
        ...

    def gate(self, random: Random, now: float) -> Gate:
        """Return a server's entrance. Raises `UsageError` where this is a client's."""
        ...


@dataclass(frozen=True, slots=True)
class Plain:
    """Has no security, as CoAP by default."""

    uri_scheme = "coap"

    def client(self) -> Channels:
        return lambda _now: PlainChannel()

    def gate(self, random: Random, now: float) -> Gate:
        return PlainGate()


@dataclass(frozen=True, slots=True)
class DtlsPsk:
    """Secures by plain DTLS-PSK: a key that stays, as libcoap and others have it."""

    keys: Mapping[bytes, bytes] = field(repr=False)
    """By identity: of a server each client's, of a client its own alone."""
    uri_scheme = "coaps"

    def client(self) -> Channels:
        ((identity, key),) = self.keys.items()
        return lambda now: dtls_client(identity, key, now)

    def gate(self, random: Random, now: float) -> Gate:
        return DtlsGate(self.keys.get, lambda _identity: True, random, now)


@dataclass(frozen=True, slots=True)
class DotpDtls:
    """Is D-OTP's DTLS layer: a session, a key. Of a client one pair, of a server as many as it has (Fig. 6b)."""

    pairs: Sequence[PairFile]
    uri_scheme = "coaps"

    def client(self) -> Channels:
        (pair,) = self.pairs
        pair.expect(Role.CLIENT)
        keys = ClientKeys(pair.record, pair.identity.encode())

        def connect(now: float) -> Channel:
            pair.write(keys.reserve(1))
            identity, key = keys.take()
            return dtls_client(identity, key, now)

        return connect

    def gate(self, random: Random, now: float) -> Gate:
        for pair in self.pairs:
            pair.expect(Role.SERVER)
        _without_equals([pair.identity for pair in self.pairs])
        servers = [(pair, ServerKeys(pair.record, pair.identity.encode())) for pair in self.pairs]

        def look_up(identity: bytes) -> bytes | None:
            found = next((key for _, keys in servers if (key := keys.look_up(identity)) is not None), None)
            if found is None:
                log.warning("%r has no key: another pair, a number that is used, or one too far ahead", identity)
            return found

        def admit(identity: bytes) -> bool:
            for pair, keys in servers:
                if (record := keys.established(identity)) is not None:
                    try:
                        pair.write(record)
                    except UsageError as error:
                        log.error("the session %r is refused: %s", identity, error)
                        return False
                    return True
            return False

        return DtlsGate(look_up, admit, random, now)


@dataclass(frozen=True, slots=True)
class DotpObject:
    """Is D-OTP's object layer: a datagram, a key. Of a client one pair, of a server as many as it has. `serial` and
    `two_keys` are False for the paper's Fig. 10a and 11a alone."""

    pairs: Sequence[PairFile]
    serial: bool = True
    two_keys: bool = True
    uri_scheme = "coap"

    def client(self) -> Channels:
        (pair,) = self.pairs
        pair.expect(Role.CLIENT)
        channel = self._channel(pair)
        return lambda _now: channel

    def gate(self, random: Random, now: float) -> Gate:
        for pair in self.pairs:
            pair.expect(Role.SERVER)
            if pair.is_paper and len(self.pairs) > 1:
                raise UsageError(
                    f"{pair.path.stem!r} is of the paper's profile, in which no datagram tells whose it is: serve it "
                    "alone, or in the DTLS layer"
                )
        return DotpGate([self._channel(pair) for pair in self.pairs])

    def _channel(self, pair: PairFile) -> DotpChannel:
        if not pair.is_paper and not (self.serial and self.two_keys):
            raise UsageError(
                f"{pair.path.stem!r} is hardened, which has a serial and two keys: only paper can do without"
            )
        config = replace(AT_ONCE, serial=self.serial, two_keys=self.two_keys)
        return DotpChannel(Dotp(pair.record, config), pair.write, pair.identity)


def _without_equals(identities: Sequence[str]) -> None:
    for identity in identities:
        if identities.count(identity) > 1:
            raise UsageError(f"two pairs have the identity {identity!r}: make one of them anew, with another")
