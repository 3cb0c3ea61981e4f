"""Curves and keys, of octets alone: what is no valid key, point or signature is refused here, and nowhere else."""

from __future__ import annotations

from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from bt_selfsecure.protocols.sabour import limits
from bt_selfsecure.sansio.context import Random

_SHA256: Final = hashes.SHA256()
_PREHASHED: Final = ec.ECDSA(utils.Prehashed(_SHA256))
_P256: Final = ec.SECP256R1()
_P256_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_SCALAR_BYTES: Final = 32
_WIDE_BYTES: Final = 40  # 64 bits more than the order has, so that no scalar is likelier than another
_FIELD: Final = 2**255 - 19
_LOW_ORDER_Y: Final = frozenset(
    {
        0,
        1,
        _FIELD - 1,
        0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826,
        0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7,
    }
)
"""y of the eight points whose order divides 8: as a key, they verify signatures that anybody can make."""


# --- Curve25519 -------------------------------------------------------------------------------------------------------


def x25519_public(secret: bytes) -> bytes:
    """Return the public share of 32 secret bytes."""
    return X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()


def x25519(secret: bytes, share: bytes) -> bytes | None:
    """Return the shared secret; None for a share of low order, whose secret is zero (RFC 7748 section 6.1)."""
    try:
        return X25519PrivateKey.from_private_bytes(secret).exchange(X25519PublicKey.from_public_bytes(share))
    except ValueError:
        return None


def ed25519_public(seed: bytes) -> bytes:
    """Return the public key of a 32-byte seed."""
    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()


def ed25519_sign(seed: bytes, data: bytes) -> bytes:
    """Return the signature, 64 bytes, without randomness (RFC 8032)."""
    return Ed25519PrivateKey.from_private_bytes(seed).sign(data)


def ed25519_verify(key: bytes, signature: bytes, data: bytes) -> bool:
    """Return whether the key made the signature: never for a key of low order."""
    if not is_ed25519_key(key):
        return False
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, data)
    except (InvalidSignature, ValueError):
        return False
    return True


def is_ed25519_key(key: bytes) -> bool:
    """Return whether the bytes may be somebody's key: 32 of them, canonical, and no point of low order."""
    y = int.from_bytes(key, "little") & (1 << 255) - 1
    return len(key) == limits.SHARE_BYTES and y < _FIELD and y not in _LOW_ORDER_Y


# --- P-256 ------------------------------------------------------------------------------------------------------------


def p256_scalar(random: Random) -> bytes:
    """Return a secret scalar of 32 bytes, from 1 to the order less one."""
    return (int.from_bytes(random(_WIDE_BYTES)) % (_P256_ORDER - 1) + 1).to_bytes(_SCALAR_BYTES)


def p256_public(secret: bytes) -> bytes:
    """Return the point of a secret scalar, x and y."""
    numbers = ec.derive_private_key(int.from_bytes(secret), _P256).public_key().public_numbers()
    return numbers.x.to_bytes(_SCALAR_BYTES) + numbers.y.to_bytes(_SCALAR_BYTES)


def _p256_key(point: bytes) -> ec.EllipticCurvePublicKey:
    """Raises ValueError for what is no point of the curve."""
    return ec.EllipticCurvePublicKey.from_encoded_point(_P256, b"\x04" + point)


def p256(secret: bytes, point: bytes) -> bytes | None:
    """Return x of the shared point; None for a point that is not on the curve."""
    try:
        return ec.derive_private_key(int.from_bytes(secret), _P256).exchange(ec.ECDH(), _p256_key(point))
    except ValueError:
        return None


def ecdsa_sign(secret: bytes, digest: bytes, random: Random) -> bytes:
    """Return r and s, 64 bytes, over a digest of 32.

    By hand, as the library takes its one-time number from the system and an endpoint takes it from its own `random`.
    Not in constant time, so for the profile `paper` alone.
    """
    while True:
        k = p256_scalar(random)
        r = int.from_bytes(p256_public(k)[:_SCALAR_BYTES]) % _P256_ORDER
        inverse = pow(int.from_bytes(k), -1, _P256_ORDER)
        s = inverse * (int.from_bytes(digest) + r * int.from_bytes(secret)) % _P256_ORDER
        if r and s:
            return r.to_bytes(_SCALAR_BYTES) + s.to_bytes(_SCALAR_BYTES)


def ecdsa_verify(point: bytes, signature: bytes, digest: bytes) -> bool:
    """Return whether the owner of this point signed the digest."""
    r, s = int.from_bytes(signature[:_SCALAR_BYTES]), int.from_bytes(signature[_SCALAR_BYTES:])
    if len(signature) != limits.SIGNATURE_BYTES:
        return False
    try:
        _p256_key(point).verify(utils.encode_dss_signature(r, s), digest, _PREHASHED)
    except (InvalidSignature, ValueError):
        return False
    return True
