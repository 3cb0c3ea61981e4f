"""What an establishment is made of: the Message of request and accept, and every value that follows from its frames.

Key material is computed here by both ends, and by an Eve who holds all that it takes.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from bt_selfsecure.crypto import hkdf_expand, sha256
from bt_selfsecure.protocols.haoxiao import limits
from bt_selfsecure.protocols.haoxiao.events import ShortAuthenticationString
from bt_selfsecure.protocols.haoxiao.frames import Frame, Kind, Profile, encode
from bt_selfsecure.protocols.haoxiao.suites import SUITES
from bt_selfsecure.sansio.context import Random
from bt_selfsecure.word_list import WORDS

_FLAGS: Final = 0b11111
_ALL_NAMES: Final = 0b11000
_NAME_FLAGS: Final = (0, 0b01000, 0b11000)
"""By the number of continuity keys that are named."""


@dataclass(frozen=True, slots=True)
class Offer:
    """Holds what a request or accept says in Message.

    `paper`: identity (6).
    `hardened`: identity (6) | flags (1) | N (2) | T_1 in ms (4) | commitment (32) | C of the first part (32)
    [| share (32)] [| names of continuity keys (8 or 16)].
    An accept has the session id (8) in front, and in `hardened` after it: identity (6) | flags (1) [| share (32)]
    [| name of the continuity key to be mixed in (8)].
    Flags: 1 compact, 2 X25519, 4 authentication key, 8 a name of a continuity key, 16 a second one.
    """

    identity: bytes
    compact: bool = False
    authenticated: bool = False
    burst: int = 0
    t_1: float = 0.0
    commitment: bytes = b""
    part: bytes = b""
    share: bytes = b""
    names: tuple[bytes, ...] = ()

    def encode(self, profile: Profile, *, accept: bool) -> bytes:
        if profile is Profile.PAPER:
            return self.identity
        flags = self.compact | bool(self.share) << 1 | self.authenticated << 2 | _NAME_FLAGS[len(self.names)]
        timing = self.burst.to_bytes(2) + round(self.t_1 * 1000).to_bytes(4)
        middle = b"" if accept else timing + self.commitment + self.part
        return self.identity + bytes([flags]) + middle + self.share + b"".join(self.names)

    @classmethod
    def decode(cls, profile: Profile, message: bytes, *, accept: bool) -> Offer | None:
        """Return what the message says; None where it has not this form."""
        identity, rest = message[:6], message[6:]
        if len(identity) != limits.IDENTITY_BYTES:
            return None
        if profile is Profile.PAPER:
            return None if rest else cls(identity)
        if not rest or rest[0] & ~_FLAGS or rest[0] & _ALL_NAMES not in _NAME_FLAGS[: 2 if accept else 3]:
            return None
        share_at = 1 if accept else 7 + 2 * limits.COMMITMENT_BYTES
        names_at = share_at + (limits.SHARE_BYTES if rest[0] & 2 else 0)
        count, size = _NAME_FLAGS.index(rest[0] & _ALL_NAMES), limits.CONTINUITY_NAME_BYTES
        if len(rest) != names_at + count * size:
            return None
        burst, t_1 = (0, 0) if accept else (int.from_bytes(rest[1:3]), int.from_bytes(rest[3:7]))
        names = tuple(rest[at : at + size] for at in range(names_at, len(rest), size))
        commitment, part = (b"", b"") if accept else (rest[7:39], rest[39:share_at])
        compact, authenticated = bool(rest[0] & 1), bool(rest[0] & 4)
        share = rest[share_at:names_at]
        return cls(identity, compact, authenticated, burst, t_1 / 1000, commitment, part, share, names)


class KeyShare:
    """Holds one end's X25519 key pair (RFC 7748), or the lack of one."""

    def __init__(self, random: Random | None) -> None:
        self._private = X25519PrivateKey.from_private_bytes(random(32)) if random else None
        self.public = self._private.public_key().public_bytes_raw() if self._private else b""

    def exchange(self, peer: bytes) -> bytes | None:
        """Return the shared secret; empty without a key pair; None for a share of low order (RFC 7748 section 6.1)."""
        if self._private is None:
            return b""
        try:
            return self._private.exchange(X25519PublicKey.from_public_bytes(peer))
        except ValueError:
            return None


@dataclass(frozen=True, slots=True)
class KeyMaterial:
    """Holds K_0 and what follows from it at both ends of one establishment."""

    k0: bytes = field(repr=False)
    kd: bytes = field(repr=False)

    @classmethod
    def derive(
        cls,
        request: Frame,
        accept: Frame,
        s: bytes,
        messages: Iterable[bytes],
        *,
        secret: bytes = b"",
        authentication_key: bytes = b"",
        continuity_key: bytes = b"",
    ) -> KeyMaterial:
        """Return [6] to [8] over the messages of the received set `s` (compressed) in ascending order of Seq.

        The transcript of `hardened` (row 3) is SHA-256 over request, accept and Cpr_s, each with its length; `secret`
        is the X25519 secret, or empty. Authentication key and continuity key enter beside it.
        """
        suite, hardened = SUITES[request.profile], request.profile is Profile.HARDENED
        parts = (encode(request), encode(accept), s) if hardened else ()
        transcript = sha256(b"".join(len(part).to_bytes(4) + part for part in parts))
        extra = b""
        if hardened:
            authentication = sha256(b"btss authentication" + authentication_key)
            extra = secret + authentication + sha256(b"btss continuity" + continuity_key)
        k0 = suite.initial_key(messages, transcript, extra)
        return cls(k0, suite.derived_key(k0))

    def sealed(self, frame: Frame) -> bytes:
        """Return the datagram of a response [9], acknowledgement [10] or end, with its HMAC."""
        return encode(replace(frame, mac=SUITES[frame.profile].establishment_mac(self.kd, frame)))

    def authentic(self, frame: Frame) -> bool:
        """Return whether a response, acknowledgement or end was made with this key."""
        return hmac.compare_digest(SUITES[frame.profile].establishment_mac(self.kd, frame), frame.mac)

    @property
    def export_root(self) -> bytes:
        """Return X_0, from which keys for other programs follow; 32 bytes."""
        return hkdf_expand(self.k0, b"btss export")

    @property
    def fingerprint(self) -> str:
        name = sha256(b"btss fingerprint" + self.k0).hex()
        return f"{name[:4]}-{name[4:8]}-{name[8:12]}"

    def sas(self, responder_nonce: bytes, rand_data: bytes) -> ShortAuthenticationString:
        """Return six digits, and four words (24 bits), of K_0 and both ends' late random numbers.

        The request commits to RandData, the response to the responder's nonce; acknowledge and end open them, when no
        part of K_0 can change any more. So somebody in the middle has one try in a million (in the words one in 16
        million), however much she computes. It finds nobody who has the same K_0 as both ends: one who heard all of S,
        or in `paper` steered S to what she heard.
        """
        value = hkdf_expand(self.k0, b"btss sas" + responder_nonce + rand_data, 16)
        digits = f"{int.from_bytes(value[:8]) % 1_000_000:06d}"
        bits = int.from_bytes(value[8:11])
        return ShortAuthenticationString(digits, tuple(WORDS[bits >> shift & 63] for shift in (18, 12, 6, 0)))


def continuity_name(key: bytes) -> bytes:
    """Return the public name of a continuity key; 8 bytes."""
    return hkdf_expand(key, b"btss continuity name", limits.CONTINUITY_NAME_BYTES)


def packet_tokens(messages: Iterable[bytes]) -> bytes:
    """Return what outlives the messages of S for a group of those who heard them: 16 bytes each, from which neither
    the message follows nor any K_0."""
    return b"".join([sha256(b"btss group packet" + message)[: limits.TOKEN_BYTES] for message in messages])


def nonce_commitment(nonce: bytes) -> bytes:
    """Return Rand of a response, which binds the responder to the nonce that its end packet shows; 16 bytes."""
    return sha256(b"btss nonce" + nonce)[: limits.NONCE_BYTES]


def pair_id(request: Frame, accept: Frame) -> bytes:
    """Return the name of one responder's part in response, acknowledge and end; 8 bytes."""
    return sha256(b"btss pair" + request.rand + accept.rand)[: limits.PAIR_ID_BYTES]


def burst_rand(request: Frame, *, compact: bool) -> bytes:
    """Return what stands in the Rand field of this establishment's burst packets."""
    return request.rand[: limits.SESSION_TAG_BYTES if compact else limits.SESSION_ID_BYTES]


def burst_kind(*, compact: bool) -> Kind:
    return Kind.RAND_COMPACT if compact else Kind.RAND
