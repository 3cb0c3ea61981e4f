"""The keys of a group: what its members have in common of one burst, a secret, and the chain that follows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Final

from bt_selfsecure.crypto import hkdf_expand, hkdf_extract, sha256
from bt_selfsecure.protocols.haoxiao.frames import Frame, Kind, Profile
from bt_selfsecure.protocols.haoxiao.limits import FRAGMENT_BYTES, NONCE_BYTES, SESSION_ID_BYTES, TOKEN_BYTES
from bt_selfsecure.protocols.haoxiao.suites import HARDENED, Attempt, NotAuthentic
from bt_selfsecure.sansio.context import Random
from bt_selfsecure.sansio.value import value

_PAD: Final = b"\x80"
_SIV_BYTES: Final = 16
NO_SESSION: Final = bytes(SESSION_ID_BYTES)


@value
class Heard:
    """Holds what one end has of one burst: by the number of each packet of S its token."""

    session: bytes
    """Names the burst, 8 bytes."""
    tokens: Mapping[int, bytes] = field(repr=False)

    @classmethod
    def of(cls, session: bytes, received: tuple[int, ...], tokens: bytes) -> Heard:
        """Return it from the fields of `Established`."""
        size = TOKEN_BYTES
        return cls(session, {seq: tokens[i * size : (i + 1) * size] for i, seq in enumerate(received)})


@value
class Common:
    """Holds what an owner and some members have all heard of one burst."""

    session: bytes = NO_SESSION
    seqs: tuple[int, ...] = ()
    """Of the packets, in ascending order. Public, as each S is."""
    tokens: bytes = field(default=b"", repr=False)
    bits: float = 0.0
    """What an eavesdropper lacks of it, for the configured bound on her loss; 0 where nothing is in common."""

    @property
    def secret(self) -> bytes:
        """Return `common`, 32 bytes."""
        return sha256(b"btss group common" + self.tokens)

    @classmethod
    def of(cls, heard: Heard, seqs: tuple[int, ...], bits: float = 0.0) -> Common | None:
        """Return what these packets are at one who heard the burst; None where he lacks one of them."""
        if not all(seq in heard.tokens for seq in seqs):
            return None
        return cls(heard.session, seqs, b"".join(heard.tokens[seq] for seq in seqs), bits)


NOTHING: Final = Common()


def group_key(common: Common, secret: bytes) -> bytes:
    """Return the group's key of one epoch, 32 bytes: at least as strong as the better of the two."""
    return hkdf_expand(hkdf_extract(common.secret, secret), b"btss group")


def first_key(common: Common, secret: bytes, group: bytes, epoch: int) -> bytes:
    """Return K_0 of the chain of an epoch, 32 bytes."""
    return HARDENED.chain_key(group_key(common, secret), b"group " + group + epoch.to_bytes(4))


def seal(key: bytes, number: int, message: bytes, random: Random) -> tuple[bytes, bytes]:
    """Return Rand, 16 bytes, and the message as it is broadcast in this round: SIV and ciphertext, a multiple of 21
    bytes."""
    padded = message + _PAD
    padded += bytes(-(_SIV_BYTES + NONCE_BYTES + len(padded)) % FRAGMENT_BYTES)
    data, attempt = HARDENED.seal(key, number, 0, 0, padded, random)
    sealed = data[-(NONCE_BYTES + len(padded) + _SIV_BYTES) :]  # without the head of a session's frame
    return attempt.rand, sealed[-_SIV_BYTES:] + sealed[:-_SIV_BYTES]


def opened(key: bytes, number: int, sealed: bytes) -> tuple[bytes, bytes] | None:
    """Return Rand and the message, if this was sealed so; else None."""
    frame = Frame(Profile.HARDENED, Kind.DATA, 0, number & 255, b"", sealed[_SIV_BYTES:], sealed[:_SIV_BYTES])
    try:
        padded, attempt = HARDENED.open(key, number, frame)
    except NotAuthentic:
        return None
    message, pad, zeros = padded.rpartition(_PAD)
    return (attempt.rand, message) if pad and not any(zeros) else None


def next_key(key: bytes, number: int, rand: bytes, message: bytes) -> bytes:
    """Return K_{i+1} from K_i of round `number`, its Rand and its message."""
    return HARDENED.roll(key, Attempt(number, 0, rand, b""), message)
