"""The vectors are what the code makes, and what the specification's formulas make without the code."""

from __future__ import annotations

import hashlib
import hmac
import json
import runpy
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESCCM

VECTORS = Path(__file__).parent / "vectors"
HANDSHAKES = {
    row["profile"]: {name: bytes.fromhex(value) for name, value in row.items() if name != "profile"}
    for row in json.loads((VECTORS / "handshakes.json").read_text(encoding="utf-8"))["handshakes"]
}


def sha256(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def mac(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, "sha256")


def expand(prk: bytes, info: str, length: int) -> bytes:
    return mac(prk, info.encode() + b"\x01")[:length]


def test_the_vectors_are_what_the_code_makes() -> None:
    """If this fails on purpose: `python tests/protocols/sabour/vectors/make.py`, and say so in the specification."""
    made = runpy.run_path(str(VECTORS / "make.py"))["document"]()
    assert (VECTORS / "handshakes.json").read_text(encoding="utf-8") == made


def test_the_hardened_handshake_is_what_the_specification_says() -> None:
    vector = HANDSHAKES["hardened"]
    m1, m2, m3, m4 = (vector[f"m{number}"] for number in (1, 2, 3, 4))
    assert (m1[:9], m2[:1], m3[:1], m4[:1]) == (b"\x21" + vector["device_id"], b"\x22", b"\x23", b"\x24")
    secret = X25519PrivateKey.from_private_bytes(vector["client_secret"])
    other = X25519PrivateKey.from_private_bytes(vector["server_secret"])
    assert (m1[9:], m2[1:]) == (secret.public_key().public_bytes_raw(), other.public_key().public_bytes_raw())
    ssk = secret.exchange(X25519PublicKey.from_public_bytes(m2[1:]))
    assert ssk == other.exchange(X25519PublicKey.from_public_bytes(m1[9:]))
    transcript = sha256(b"btss sabour", m1, m2, vector["device_record"][8:], vector["server_record"])
    prk = mac(transcript, ssk)
    for side, message, who in (("client", m3, "device"), ("server", m4, "server")):
        code = mac(expand(prk, f"btss sabour mac {side}", 32), transcript)
        signed = b"btss sabour sign " + side.encode() + sha256(transcript, code)
        assert message[1:] == Ed25519PrivateKey.from_private_bytes(vector[f"{who}_seed"]).sign(signed)
        Ed25519PublicKey.from_public_bytes(vector[f"{who}_record"][8:]).verify(message[1:], signed)
    assert vector["master_secret"] == expand(prk, "btss sabour oscore secret", 16)
    assert vector["master_salt"] == expand(prk, "btss sabour oscore salt", 8)
    assert vector["client_id"] == expand(prk, "btss sabour oscore id", 4)
    assert vector["server_id"] == b""


@pytest.mark.parametrize("reading", ["ecdsa", "hash"])
def test_a_paper_handshake_is_what_the_specification_says(reading: str) -> None:
    vector = HANDSHAKES[f"paper/{reading}"]
    m1, m2, m3, m4 = (vector[f"m{number}"] for number in (1, 2, 3, 4))
    assert (m1[:9], m2[:12]) == (b"\x11" + vector["device_id"], b"\x12HelloClient")
    points = {"client": m1[9:], "server": m2[12:]}
    keys = {name: ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\4" + p) for name, p in points.items()}
    secret = ec.derive_private_key(int.from_bytes(vector["client_secret"]), ec.SECP256R1())
    assert secret.public_key() == keys["client"]
    key = sha256(secret.exchange(ec.ECDH(), keys["server"]))[:16]
    assert vector["payload_key"] == key
    nonce, sealed = vector["sealed"][:13], vector["sealed"][13:]
    assert AESCCM(key, tag_length=8).decrypt(nonce, sealed, None) == vector["payload"]
    for name, message in (("client", m3), ("server", m4)):
        signed = vector["device_id"] + points[name]
        if reading == "hash":
            assert message[1:] == sha256(signed, vector[f"{name}_secret"])
            continue
        r, s = int.from_bytes(message[1:33]), int.from_bytes(message[33:])
        how = ec.ECDSA(utils.Prehashed(hashes.SHA256()))
        keys[name].verify(utils.encode_dss_signature(r, s), sha256(signed), how)
        with pytest.raises(InvalidSignature):
            keys[name].verify(utils.encode_dss_signature(r, s), sha256(signed, b"?"), how)
