"""CPace on X25519 with SHA-512, as draft-irtf-cfrg-cpace-21 has it: CPACE-X25519-SHA512, initiator and responder.

Both ends map the secret to a point G, send a random multiple of it, and multiply what comes. Whoever has another secret
gets another key, and learns that, and no more, from a run. Section numbers are those of the draft.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final, NamedTuple

from bt_selfsecure.curves import x25519

DSI: Final = b"CPace255"
DSI_ISK: Final = b"CPace255_ISK"
_MAC_LABEL: Final = b"CPaceMac"
_BLOCK_BYTES: Final = 128
"""Of SHA-512."""
_P: Final = 2**255 - 19
_A: Final = 486662
_Z: Final = 2
"""A non-square, RFC 9380 6.7.1."""
_FIELD_BYTES: Final = 32


class Contribution(NamedTuple):
    """Is what one end sends: its share and its associated data."""

    share: bytes
    data: bytes


def prepend_length(data: bytes) -> bytes:
    """Return the data behind its length in LEB128 (section A.1.1)."""
    length, encoded = len(data), bytearray()
    while True:
        encoded.append(length & 0x7F | (0x80 if length > 0x7F else 0))
        length >>= 7
        if not length:
            return bytes(encoded) + data


def lv_cat(*parts: bytes) -> bytes:
    """Return the parts in order, each behind its length (A.1.3)."""
    return b"".join(map(prepend_length, parts))


def generator(secret: bytes, channel: bytes, session: bytes = b"") -> bytes:
    """Return G for PRS, CI and sid (section 7.2): the hash of all, mapped by Elligator 2."""
    padding = max(0, _BLOCK_BYTES - 1 - len(prepend_length(secret)) - len(prepend_length(DSI)))
    hashed = hashlib.sha512(lv_cat(DSI, secret, bytes(padding), channel, session)).digest()[:_FIELD_BYTES]
    return _elligator2(int.from_bytes(hashed, "little") & (1 << 255) - 1)


def _elligator2(r: int) -> bytes:
    """The u-coordinate that a field element is mapped to (RFC 9380 6.7.1). Nothing here is ever 0: -1/2 and A² - 4 are
    no squares."""
    v = -_A * pow(1 + _Z * r * r, _P - 2, _P) % _P
    is_square = pow(v * v * v + _A * v * v + v, (_P - 1) // 2, _P) == 1
    return (v if is_square else (-v - _A) % _P).to_bytes(_FIELD_BYTES, "little")


def scalar_mult(scalar: bytes, point: bytes) -> bytes | None:
    """Return the point times the scalar, as X25519 does; None where that is the neutral element (7.2)."""
    return x25519(scalar, point)


def intermediate_key(shared: bytes, initiator: Contribution, responder: Contribution, session: bytes = b"") -> bytes:
    """Return ISK, 64 bytes (section 6.2), of the point K that both have."""
    transcript = lv_cat(*initiator) + lv_cat(*responder)
    return hashlib.sha512(lv_cat(DSI_ISK, session, shared) + transcript).digest()


def confirmation_tag(key: bytes, of: Contribution, session: bytes = b"") -> bytes:
    """Return the tag by which the end that contributed this shows that it has ISK (section 9.4); 64 bytes."""
    mac_key = hashlib.sha512(_MAC_LABEL + session + key).digest()
    return hmac.digest(mac_key, lv_cat(*of), "sha512")
