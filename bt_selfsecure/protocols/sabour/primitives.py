"""Ed25519, and ECDSA with a one-time number of ours, of octets alone: what is no valid key is refused here."""

from __future__ import annotations

from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from bt_selfsecure.curves import P256_ORDER, SCALAR_BYTES, p256_public, p256_scalar
from bt_selfsecure.protocols.sabour import limits
from bt_selfsecure.sansio.context import Random

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


# --- Ed25519 ----------------------------------------------------------------------------------------------------------


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


# --- ECDSA ------------------------------------------------------------------------------------------------------------


def ecdsa_sign_with(secret: bytes, digest: bytes, random: Random) -> bytes:
    """Return r and s, 64 bytes, over a digest of 32.

    By hand, as the library takes its one-time number from the system and an endpoint takes it from its own `random`.
    Not in constant time, so for the profile `paper` alone.
    """
    while True:
        k = p256_scalar(random)
        r = int.from_bytes(p256_public(k)[:SCALAR_BYTES]) % P256_ORDER
        inverse = pow(int.from_bytes(k), -1, P256_ORDER)
        s = inverse * (int.from_bytes(digest) + r * int.from_bytes(secret)) % P256_ORDER
        if r and s:
            return r.to_bytes(SCALAR_BYTES) + s.to_bytes(SCALAR_BYTES)
