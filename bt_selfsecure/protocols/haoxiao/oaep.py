"""EME-OAEP (RFC 8017 section 7.1) with SHA-256, MGF1-SHA-256 and no RSA: f_OAEP of the paper, (2) and (4).

  DB         = lHash (32) || PS (zeros) || 0x01 || M
  maskedDB   = DB   xor MGF1(seed, len(DB))
  maskedSeed = seed xor MGF1(maskedDB, 32)
  encoded    = maskedSeed (32) || maskedDB

There is no modulus to fill, so `encode` writes no padding string PS and no leading zero octet: OVERHEAD_BYTES more
than the message. `decode` reads a padding string where there is one. OAEP has no key: it spreads the seed's
randomness over every bit, and hides nothing from anyone who has the whole of it. Nor does it authenticate anything.
"""

from __future__ import annotations

import hashlib
import hmac

from bt_selfsecure.errors import LocalError, PeerError

HASH_BYTES = 32
"""hLen of the RFC, SHA-256; also the length of the seed."""
SEPARATOR = b"\x01"
OVERHEAD_BYTES = 2 * HASH_BYTES + len(SEPARATOR)
"""Bytes that `encode` adds: the masked seed, lHash and the separator."""


class OaepError(PeerError):
    """The bytes are no encoding under this label. Which check failed is not told (RFC 8017 section 7.1.2, step 3g)."""


def encode(message: bytes, *, seed: bytes, label: bytes = b"") -> bytes:
    """Encode `message` (any length, 0 included) into OVERHEAD_BYTES more than it has. RFC 8017 section 7.1.1, step 2.

    `seed` is 32 fresh random bytes, the paper's `a`; `LocalError` for any other length. `label` is bound, not carried.
    """
    if len(seed) != HASH_BYTES:
        raise LocalError(f"an OAEP seed is {HASH_BYTES} bytes, not {len(seed)}")
    db = _hash(label) + SEPARATOR + message
    masked_db = _xor(db, _mgf1(seed, len(db)))
    return _xor(seed, _mgf1(masked_db, HASH_BYTES)) + masked_db


def decode(encoded: bytes, *, label: bytes = b"") -> bytes:
    """Return the message of any bytes that encode one under `label`. RFC 8017 section 7.1.2, step 3.

    Raises OaepError, and nothing else, if they do not. lHash is compared in constant time; the search for the separator
    is not: its time depends on where the first 0x01 stands after lHash.
    """
    if len(encoded) < OVERHEAD_BYTES:
        raise OaepError("not an OAEP encoding")
    masked_seed, masked_db = encoded[:HASH_BYTES], encoded[HASH_BYTES:]
    seed = _xor(masked_seed, _mgf1(masked_db, HASH_BYTES))
    db = _xor(masked_db, _mgf1(seed, len(masked_db)))
    label_matches = hmac.compare_digest(db[:HASH_BYTES], _hash(label))
    padding, separator, message = db[HASH_BYTES:].partition(SEPARATOR)
    if not (label_matches and separator) or any(padding):
        raise OaepError("not an OAEP encoding")
    return message


def _hash(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _mgf1(seed: bytes, length: int) -> bytes:
    """Return MGF1 with SHA-256, `length` bytes of mask. RFC 8017 appendix B.2.1."""
    blocks = (length + HASH_BYTES - 1) // HASH_BYTES
    return b"".join(_hash(seed + counter.to_bytes(4)) for counter in range(blocks))[:length]


def _xor(a: bytes, b: bytes) -> bytes:
    return (int.from_bytes(a) ^ int.from_bytes(b)).to_bytes(len(a))
