"""X25519 and ECDSA on P-256, of octets alone: what is no valid key, point or signature is refused here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

SIGNATURE_BYTES: Final = 64
SCALAR_BYTES: Final = 32
P256_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_SHA256: Final = hashes.SHA256()
_PREHASHED: Final = ec.ECDSA(utils.Prehashed(_SHA256))
_P256: Final = ec.SECP256R1()
_WIDE_BYTES: Final = 40  # 64 bits more than the order has, so that no scalar is likelier than another


def x25519_public(secret: bytes) -> bytes:
    """Return the public share of 32 secret bytes."""
    return X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()


def x25519(secret: bytes, share: bytes) -> bytes | None:
    """Return the shared secret; None for a share of low order, whose secret is zero (RFC 7748 section 6.1)."""
    try:
        return X25519PrivateKey.from_private_bytes(secret).exchange(X25519PublicKey.from_public_bytes(share))
    except ValueError:
        return None


def p256_scalar(random: Callable[[int], bytes]) -> bytes:
    """Return a secret scalar of 32 bytes, from 1 to the order less one."""
    return (int.from_bytes(random(_WIDE_BYTES)) % (P256_ORDER - 1) + 1).to_bytes(SCALAR_BYTES)


def p256_public(secret: bytes) -> bytes:
    """Return the point of a secret scalar, x and y."""
    numbers = _p256_secret(secret).public_key().public_numbers()
    return numbers.x.to_bytes(SCALAR_BYTES) + numbers.y.to_bytes(SCALAR_BYTES)


def p256(secret: bytes, point: bytes) -> bytes | None:
    """Return x of the shared point; None for a point that is not on the curve."""
    try:
        return _p256_secret(secret).exchange(ec.ECDH(), _p256_key(point))
    except ValueError:
        return None


def is_p256_point(point: bytes) -> bool:
    """Return whether x and y, 64 bytes, are a point of the curve."""
    try:
        _p256_key(point)
    except ValueError:
        return False
    return True


def ecdsa_verify(point: bytes, signature: bytes, digest: bytes) -> bool:
    """Return whether the owner of this point signed the digest."""
    r, s = int.from_bytes(signature[:SCALAR_BYTES]), int.from_bytes(signature[SCALAR_BYTES:])
    if len(signature) != SIGNATURE_BYTES:
        return False
    try:
        _p256_key(point).verify(utils.encode_dss_signature(r, s), digest, _PREHASHED)
    except (InvalidSignature, ValueError):
        return False
    return True


def ecdsa_sign(secret: bytes, digest: bytes) -> bytes:
    """Return r and s, 64 bytes, over a digest of 32, in constant time and with the lower of the two s.

    The one-time number is of RFC 6979, so the same each time. Where the library is too old for that (cryptography below
    43, OpenSSL below 3.2) it draws one from the system.
    """
    key = _p256_secret(secret)
    try:
        signed = key.sign(digest, ec.ECDSA(utils.Prehashed(_SHA256), deterministic_signing=True))
    except (TypeError, UnsupportedAlgorithm):
        signed = key.sign(digest, _PREHASHED)
    r, s = utils.decode_dss_signature(signed)
    return r.to_bytes(SCALAR_BYTES) + min(s, P256_ORDER - s).to_bytes(SCALAR_BYTES)


def _p256_secret(secret: bytes) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(int.from_bytes(secret), _P256)


def _p256_key(point: bytes) -> ec.EllipticCurvePublicKey:
    """Raises ValueError for what is no point of the curve."""
    return ec.EllipticCurvePublicKey.from_encoded_point(_P256, b"\x04" + point)
