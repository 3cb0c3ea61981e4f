"""What an end of DTLS is told, and what it tells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field
from typing import Any, Final

from bt_selfsecure.sansio.value import value

CIPHERS: Final = "PSK-CHACHA20-POLY1305:PSK-AES128-CCM8:PSK-AES128-GCM-SHA256:@SECLEVEL=0"
"""What is offered, in this order. RFC 7252 asks every CoAP device for CCM8, which libssl has at level 0 alone, for the
8 bytes of its tag."""


@value
class DtlsConfig:
    """Holds what both kinds of ends can be told."""

    mtu: int = 1232
    """Most bytes in a datagram: 1280 less IPv6's and UDP's headers."""
    first_timeout_s: float = 1.0
    last_timeout_s: float = 60.0
    """The wait before a flight of the handshake is repeated, doubled with each up to the last."""
    ciphers: str = CIPHERS
    prepare: Callable[[Any], object] = id
    """Given each new SSL_CTX: how a program of yours has certificates."""


@value
class Credentials:
    """Says who a client says it is, and the key that proves it."""

    identity: bytes
    key: bytes = field(repr=False)


@value
class Established:
    """Both ends were seen to have the key."""

    identity: bytes
    cipher: str


@value
class DataReceived:
    """Carries one datagram's worth of what the peer sent."""

    data: bytes


@value
class UnknownIdentity:
    """A client came under a name that the look-up does not know. It is left to fail as one with a wrong key does."""

    identity: bytes


@value
class Closed:
    """It is over: by the peer's wish, or by what libssl says."""

    reason: str


Event = Established | DataReceived | UnknownIdentity | Closed
AskCredentials = Callable[[bytes], Credentials]
"""Given the server's hint, at the moment in which the key is needed: so it can be another one each time."""
LookUp = Callable[[bytes], bytes | None]
"""Given the client's identity; returns its key."""
