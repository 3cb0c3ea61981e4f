"""What stands beside a connection of IoT-Crypto in figure 8: handshakes by which two ends come to a key and know each
other, with certificates of about the same content."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

import cbor2
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from bt_selfsecure.bench.dtls_certificates import take_certificates
from bt_selfsecure.bench.iotcrypto.figures import Wire
from bt_selfsecure.dtls.values import DtlsConfig

CIPHER: Final = "ECDHE-ECDSA-CHACHA20-POLY1305"
C509_BYTES: Final = 140
"""Of the example in draft-ietf-cose-cbor-encoded-cert-19, appendix A.1.1, whose X.509 has 314."""
EDHOC_BY_REFERENCE: Final = (37, 45, 19)
"""RFC 9528 section 1.2: static Diffie-Hellman keys, by kid."""
_KID_BYTES, _LABEL_BYTES = 1, 3
"""Of a credential that is named, and of the map and label c5c of one that is there (the draft's section on COSE)."""
ENDS: Final = ("boiler", "cellar")


@dataclass(frozen=True, slots=True)
class HandshakePeer:
    """Is one of them."""

    name: str
    credential_bytes: int
    """Of what each end shows to say who it is; 0 where both have it already."""
    handshake_bytes: int
    source: str
    """"measured" here, or how the figure was come by."""


def peers() -> list[HandshakePeer]:
    """Return them, the greatest first."""
    with tempfile.TemporaryDirectory() as place:
        size = _make_x509(Path(place))
        dtls = HandshakePeer("DTLS 1.2, X.509 at both ends", size, sum(_dtls(Path(place)).sizes), "measured")
    return sorted([dtls, *_edhoc()], key=lambda peer: -peer.handshake_bytes)


def _edhoc() -> list[HandshakePeer]:
    try:
        import lakers  # noqa: F401 - whether it is here
    except ModuleNotFoundError:
        known, measured = EDHOC_BY_REFERENCE, "RFC 9528, 1.2"
        shown = []
    else:
        known = _edhoc_sizes(by_value=False)[0]
        by_value, credential = _edhoc_sizes(by_value=True)
        measured = "measured"
        shown = [HandshakePeer("EDHOC, bare keys (CCS) shown", credential, sum(by_value), measured)]
    c509 = known[0] + sum(_with_c509(size) for size in known[1:])
    return [
        HandshakePeer("EDHOC, C509 certificates shown", C509_BYTES, c509, "computed"),
        *shown,
        HandshakePeer("EDHOC, credentials known before", 0, sum(known), measured),
    ]


def _with_c509(size: int) -> int:
    """Return the bytes of a message in which a certificate stands in the place of a key's name. The message is one
    string of octets of CBOR."""
    head = len(cbor2.dumps(bytes(size))) - size
    content = size - (head if size > 24 else 1) - _KID_BYTES + _LABEL_BYTES + C509_BYTES
    return len(cbor2.dumps(bytes(content)))


def _edhoc_sizes(*, by_value: bool) -> tuple[tuple[int, int, int], int]:
    """Return the bytes of the three messages of lakers, and of a credential: method 3, suite 2 (P-256)."""
    import lakers

    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in ENDS]
    secrets = [key.private_numbers().private_value.to_bytes(32) for key in keys]
    device, gateway = (
        _ccs(name, bytes([number]), key) for number, (name, key) in enumerate(zip(ENDS, keys, strict=True))
    )
    transfer = lakers.CredentialTransfer.ByValue if by_value else lakers.CredentialTransfer.ByReference
    initiator, responder = lakers.EdhocInitiator(), lakers.EdhocResponder(secrets[1], gateway)
    first = initiator.prepare_message_1()
    responder.process_message_1(first)
    second = responder.prepare_message_2(transfer)
    _, named, _ = initiator.parse_message_2(second)
    initiator.verify_message_2(secrets[0], device, lakers.credential_check_or_fetch(named, gateway))
    third, own = initiator.prepare_message_3(transfer)
    named, _ = responder.parse_message_3(third)
    assert responder.verify_message_3(lakers.credential_check_or_fetch(named, device)) == own
    return (len(first), len(second), len(third)), len(device)


def _ccs(name: str, kid: bytes, key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return a CWT claims set with a COSE key (RFC 8392, RFC 9052)."""
    numbers = key.public_key().public_numbers()
    cose = {1: 2, 2: kid, -1: 1, -2: numbers.x.to_bytes(32), -3: numbers.y.to_bytes(32)}
    return cbor2.dumps({2: name, 8: {1: cose}})


def _dtls(place: Path) -> Wire:
    def config(name: str) -> DtlsConfig:
        prepare = partial(_prepare, place, name)
        return DtlsConfig(ciphers=CIPHER, prepare=prepare)

    return Wire(b"", (config("boiler"), config("cellar")))


def _prepare(place: Path, name: str, context: Any) -> None:
    take_certificates(context, place / name, place / name, place / "owner")


def _make_x509(place: Path) -> int:
    """Write certificates with their keys, and return the bytes of one that the owner has signed."""
    keys = {name: ec.generate_private_key(ec.SECP256R1()) for name in ("owner", "boiler", "cellar")}
    now = datetime.now(UTC)
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "owner")])
    size = 0
    for name, key in keys.items():
        made = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now)
            .not_valid_after(now + timedelta(days=365))
            .add_extension(x509.BasicConstraints(ca=name == "owner", path_length=None), critical=True)
            .sign(keys["owner"], hashes.SHA256())
        )
        size = len(made.public_bytes(serialization.Encoding.DER))
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        (place / name).write_bytes(made.public_bytes(serialization.Encoding.PEM) + private)
    return size
