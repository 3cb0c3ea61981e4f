"""What goes from one device to the other out of band, and what it is worth as CPace's secret.

    code   version 1 | identity 6 | secret R 16 | commitment 16     39 bytes: QR code, NFC, or typed
    call   identity 6 | secret 10                                   16 bytes: sound, light
    words  three of 64 words                                        18 bits: typed

The commitment binds whoever shows the code to its share, as EAP-NOOB's Hoob does (RFC 9140): who only has seen the code
can't answer in its name. Sound and light are heard and seen by others, so that a call proves nothing by itself.
"""

from __future__ import annotations

import enum
import hmac
from dataclasses import dataclass, field
from typing import Final

from bt_selfsecure.crypto import sha256
from bt_selfsecure.errors import UnreadableError
from bt_selfsecure.protocols.pairing import limits
from bt_selfsecure.sansio.context import Random

CODE_VERSION: Final = 1
CODE_BYTES: Final = 1 + limits.IDENTITY_BYTES + limits.SECRET_BYTES + limits.COMMITMENT_BYTES
CALL_BYTES: Final = limits.IDENTITY_BYTES + limits.CALL_SECRET_BYTES


class Way(enum.IntEnum):
    """Says what was carried; the number is that of the wire."""

    WORDS = 1
    CODE = 2
    CALL = 3

    @property
    def channel(self) -> bytes:
        """Return CI of CPace: what one way has made is nothing in another."""
        return b"btss pairing 1 " + self.name.lower().encode()

    @property
    def is_guessable(self) -> bool:
        """Return whether the secret is so short that wrong guesses are counted."""
        return self is Way.WORDS

    @property
    def is_overheard(self) -> bool:
        """Return whether others may have the secret, so that people must compare a string."""
        return self is Way.CALL


@dataclass(frozen=True, slots=True)
class Carried:
    """Holds what was carried. `identity` is whose it is; of words it is not carried, but must be known."""

    way: Way
    identity: bytes
    secret: bytes = field(repr=False)
    """PRS of CPace."""
    commitment: bytes = b""
    """Of a code alone."""

    def encode(self) -> bytes:
        """Return the bytes of a code or call, or the words."""
        match self.way:
            case Way.CODE:
                return bytes([CODE_VERSION]) + self.identity + self.secret + self.commitment
            case Way.CALL:
                return self.identity + self.secret
            case _:
                return self.secret

    def admits(self, identity: bytes, share: bytes) -> bool:
        """Return whether the owner of the code may have contributed this share."""
        if identity != self.identity:
            return False
        made = commitment(identity, self.secret, share)
        return self.way is not Way.CODE or hmac.compare_digest(made, self.commitment)


def commitment(identity: bytes, secret: bytes, share: bytes) -> bytes:
    """Return what binds the owner of a code to its share; 16 bytes."""
    return sha256(b"btss pairing commitment" + identity + secret + share)[: limits.COMMITMENT_BYTES]


def drawn_secret(way: Way, random: Random) -> bytes:
    """Return a new secret of a code or call."""
    return random(limits.SECRET_BYTES if way is Way.CODE else limits.CALL_SECRET_BYTES)


def words(identity: bytes, text: str) -> Carried:
    """Return what three words carry; `identity` is that of the device that shows them."""
    return Carried(Way.WORDS, identity, text.encode("ascii"))


def decode(way: Way, data: bytes) -> Carried:
    """Return the code or call that these bytes are. Raises `UnreadableError` for what is none."""
    if way is Way.CALL and len(data) == CALL_BYTES:
        return Carried(way, data[: limits.IDENTITY_BYTES], data[limits.IDENTITY_BYTES :])
    if way is Way.CODE and data[:1] not in (b"", bytes([CODE_VERSION])):
        raise UnreadableError("the code is of another version of this program: upgrade the older of the two devices")
    if way is not Way.CODE or len(data) != CODE_BYTES:
        raise UnreadableError("it was not read as a whole: read it again")
    identity, secret = data[1:7], data[7 : 7 + limits.SECRET_BYTES]
    return Carried(way, identity, secret, data[7 + limits.SECRET_BYTES :])
