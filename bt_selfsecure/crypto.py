"""What several protocols here rest on: SHA-256, HMAC (RFC 2104), HKDF (RFC 5869), and of AES-128 CMAC and CCM."""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import cmac as _cmac
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESCCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from bt_selfsecure.errors import LocalError

_SHA256: Final = hashes.SHA256()
_IPAD: Final = bytes(octet ^ 0x36 for octet in range(256))
_OPAD: Final = bytes(octet ^ 0x5C for octet in range(256))
_BLOCK_BYTES: Final = 64
_hash: Final = hashlib.sha256
CCM_NONCE_BYTES: Final = 13
CCM_TAG_BYTES: Final = 8


def hmac_sha256(key: bytes, data: bytes) -> bytes:
    """Return the HMAC-SHA-256 (RFC 2104) under a key of at most 64 bytes. Raises `LocalError` for a longer one.

    The same as hmac.digest, for which OpenSSL 3 looks up its parts anew at each call: a round of the session, which
    benchmarks/ hold to three tenths of a Double Ratchet message, would take a tenth longer.
    """
    if len(key) > _BLOCK_BYTES:
        raise LocalError(f"an HMAC key has at most {_BLOCK_BYTES} bytes here, this has {len(key)}: hash it first")
    padded = key.ljust(_BLOCK_BYTES, b"\0")
    return _hash(padded.translate(_OPAD) + _hash(padded.translate(_IPAD) + data).digest()).digest()


def hkdf_extract(salt: bytes, material: bytes) -> bytes:
    """Return HKDF-Extract of RFC 5869 section 2.2 with SHA-256; 32 bytes."""
    return hmac.digest(salt, material, "sha256")


def hkdf_expand(prk: bytes, info: bytes, length: int = 32) -> bytes:
    """Return HKDF-Expand of RFC 5869 section 2.3 with SHA-256. Raises `LocalError` for a `prk` of more than 64 bytes,
    and a `length` that is not 0 to 8160."""
    if not 0 <= length <= 255 * 32 or len(prk) > _BLOCK_BYTES:
        raise LocalError(
            f"HKDF-Expand takes a key of at most {_BLOCK_BYTES} bytes and gives 0 to {255 * 32}, not {length} of "
            f"{len(prk)}: hash a longer key first"
        )
    if length <= 32:
        return hmac_sha256(prk, info + b"\x01")[:length]
    return HKDFExpand(_SHA256, length, info).derive(prk)


def sha256(data: bytes) -> bytes:
    """Return SHA-256 of the data, 32 bytes."""
    return _hash(data).digest()


def cmac(key: bytes, data: bytes) -> bytes:
    """Return AES-CMAC (RFC 4493) under a key of 16 bytes, 16 bytes."""
    code = _cmac.CMAC(AES(key))
    code.update(data)
    return code.finalize()


def ccm_seal(key: bytes, nonce: bytes, plain: bytes, associated: bytes = b"") -> bytes:
    """Return AES-CCM (RFC 3610) of the plaintext, with its tag of 8 bytes; the nonce has 13."""
    return AESCCM(key, tag_length=CCM_TAG_BYTES).encrypt(nonce, plain, associated)


def ccm_open(key: bytes, nonce: bytes, sealed: bytes, associated: bytes = b"") -> bytes | None:
    """Return the plaintext; None for what was not sealed under this key, nonce and associated data."""
    if len(sealed) < CCM_TAG_BYTES:
        return None
    try:
        return AESCCM(key, tag_length=CCM_TAG_BYTES).decrypt(nonce, sealed, associated)
    except InvalidTag:
        return None
