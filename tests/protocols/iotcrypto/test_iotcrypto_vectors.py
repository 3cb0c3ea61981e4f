"""The vectors are what the code makes, and what the specification's formulas make without the code."""

from __future__ import annotations

import hashlib
import hmac
import json
import runpy
from pathlib import Path
from typing import Any

import cbor2
import pytest
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

VECTORS = Path(__file__).parent / "vectors"
TRUST = json.loads((VECTORS / "trust.json").read_text(encoding="utf-8"))
NEGOTIATIONS = json.loads((VECTORS / "negotiations.json").read_text(encoding="utf-8"))["negotiations"]
TRANSMISSION = json.loads((VECTORS / "transmission.json").read_text(encoding="utf-8"))


def sha256(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def verify(point: bytes, signature: bytes, digest: bytes) -> None:
    """Raises where it is wrong."""
    key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\4" + point)
    der = utils.encode_dss_signature(int.from_bytes(signature[:32]), int.from_bytes(signature[32:]))
    key.verify(der, digest, ec.ECDSA(utils.Prehashed(hashes.SHA256())))


def has_deterministic_signatures() -> bool:
    try:
        ec.derive_private_key(1, ec.SECP256R1()).sign(b"", ec.ECDSA(hashes.SHA256(), deterministic_signing=True))
    except (TypeError, UnsupportedAlgorithm):
        return False
    return True


@pytest.mark.skipif(not has_deterministic_signatures(), reason="cryptography is too old for signatures of RFC 6979")
def test_the_vectors_are_what_the_code_makes() -> None:
    """If this fails on purpose: `python tests/protocols/iotcrypto/vectors/make.py`, and say so in the specification."""
    for name, text in runpy.run_path(str(VECTORS / "make.py"))["documents"]().items():
        assert (VECTORS / name).read_text(encoding="utf-8") == text, name


@pytest.mark.parametrize("member", TRUST["members"], ids=lambda member: member["name"])
def test_a_certificate_is_what_the_specification_says(member: dict[str, str]) -> None:
    data = bytes.fromhex(member["certificate"])
    version, own, role, name, created, expires, x25519, p256, signature = cbor2.loads(data)
    assert (version, name, created < expires) == (1, member["name"], True)
    assert role == {"company": 0, "partner": 0, "boiler": 1, "cellar": 2}[name]
    assert own == sha256(b"btss iotcrypto id", x25519, p256)[:16]
    secret = X25519PrivateKey.from_private_bytes(bytes.fromhex(member["ecdh_secret"]))
    assert x25519 == secret.public_key().public_bytes_raw()
    signed = b"\x88" + data[1:-66]
    verify(p256, signature, sha256(b"btss iotcrypto certificate", signed))
    certificate, signatures = cbor2.loads(bytes.fromhex(member["signed"]))
    assert certificate == data
    keys = {cbor2.loads(bytes.fromhex(one["certificate"]))[1]: one for one in TRUST["members"]}
    for signer, by in signatures:
        verify(
            cbor2.loads(bytes.fromhex(keys[signer]["certificate"]))[7],
            by,
            sha256(b"btss iotcrypto certificate", signed),
        )


@pytest.mark.parametrize("kind", TRUST["lists"])
def test_a_list_is_what_the_specification_says(kind: str) -> None:
    data = bytes.fromhex(TRUST["lists"][kind])
    number, owner, _serial, _entries, signature = cbor2.loads(data)
    company = cbor2.loads(bytes.fromhex(TRUST["members"][0]["certificate"]))
    assert (number, owner) == ({"parties": 1, "signatures": 2, "revocations": 3}[kind], company[1])
    verify(company[7], signature, sha256(b"btss iotcrypto list", b"\x84" + data[1:-66]))


def expand(prk: bytes, what: bytes, length: int) -> bytes:
    return hmac.digest(prk, b"btss iotcrypto " + what + b"\x01", "sha256")[:length]


@pytest.mark.parametrize("vector", NEGOTIATIONS, ids=["paper", "hardened", "second ephemeral"])
def test_a_negotiation_is_what_the_specification_says(vector: dict[str, Any]) -> None:
    said = [cbor2.loads(bytes.fromhex(data)) for data in vector["messages"]]
    hello, answer = said[:2]
    device = next(one for one in TRUST["members"] if bytes.fromhex(one["certificate"]) == hello[1])
    static = X25519PrivateKey.from_private_bytes(bytes.fromhex(device["ecdh_secret"]))
    shared = static.exchange(X25519PublicKey.from_public_bytes(answer[3]))
    if vector["profile"] == "paper":
        assert (hello[0], answer[0], len(said)) == (1, 2, 2)
        assert vector["session_key"] == sha256(shared).hex()
        assert vector["session_identity"] == cbor2.loads(hello[1])[1].hex()
        return
    assert [message[0] for message in said] == [17, 18, 19, 20]
    assert hello[3].hex() == vector["nonce"]
    if vector["initiator_ephemeral_secret"]:
        own = X25519PrivateKey.from_private_bytes(bytes.fromhex(vector["initiator_ephemeral_secret"]))
        assert hello[4] == own.public_key().public_bytes_raw()
        shared += own.exchange(X25519PublicKey.from_public_bytes(answer[3]))
    t = sha256(b"btss iotcrypto transcript", cbor2.dumps(hello), cbor2.dumps([*answer[:4], b""]))
    verify(cbor2.loads(answer[1])[7], answer[4], sha256(b"btss iotcrypto proof", t))
    prk = hmac.digest(t, shared, "sha256")
    assert said[2] == [19, hmac.digest(expand(prk, b"confirm", 32), t, "sha256")[:16]]
    assert said[3] == [20, hmac.digest(expand(prk, b"confirmed", 32), t, "sha256")[:16]]
    assert vector["session_key"] == expand(prk, b"session key", 32).hex()
    assert vector["session_identity"] == expand(prk, b"session id", 8).hex()


def test_a_message_begins_with_its_kind_and_number() -> None:
    kinds = {cbor2.loads(bytes.fromhex(row["bytes"]))[0] for row in TRANSMISSION["messages"]}
    assert kinds == {*range(1, 12)}
    assert {cbor2.loads(bytes.fromhex(row["bytes"]))[1] for row in TRANSMISSION["messages"]} == {7}
    assert [cbor2.loads(bytes.fromhex(row["bytes"]))[0] for row in TRANSMISSION["records"]] == [0, 1, 2, 3, 4]
