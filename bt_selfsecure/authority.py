"""A small certification authority for servers and clients of one's own: P-256, one folder, openssl reads it all."""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from bt_selfsecure.errors import UsageError
from bt_selfsecure.files import is_there, private, write_private

CA: Final = "ca"
DAYS: Final = 825
"""As long as common clients take a certificate for a server."""
CA_DAYS: Final = 3650


def issue(folder: Path, names: Sequence[str], hosts: Sequence[str], days: int = DAYS) -> list[Path]:
    """Make a certificate and key for each name, signed by the authority in the folder, which is made where there is
    none; return the certificates' files. `hosts` are names and addresses under which servers are reached.

    Raises `UsageError` for a name that has a certificate already or that is none, and for a damaged authority.
    """
    for name in names:
        if not name or name == CA or name != Path(name).name or len(name) > 64 or not name.isprintable():
            raise UsageError(f"{name!r} is no name for a certificate: 1 to 64 characters, without a slash")
        if is_there(folder / f"{name}.crt") or is_there(folder / f"{name}.key"):
            raise UsageError(f"{folder / name}.crt or its key is there already: remove both, or choose another name")
    authority, key = _authority(folder)
    return [_issue(folder, name, hosts, days, authority, key) for name in names]


def _authority(folder: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    files = folder / f"{CA}.crt", folder / f"{CA}.key"
    if not is_there(files[0]) and not is_there(files[1]):
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"bt-selfsecure {CA}")])
        usage = _usage(signs_certificates=True)
        made = _builder(name, name, key, CA_DAYS).add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        _write(folder, CA, made.add_extension(usage, True).sign(key, hashes.SHA256()), key)
    try:
        authority = x509.load_pem_x509_certificate(files[0].read_bytes())
        key = serialization.load_pem_private_key(private(files[1]), None)  # type: ignore[assignment]
    except (OSError, ValueError):
        raise UsageError(f"{files[0]} or its key is missing or damaged: remove both, and issue all anew") from None
    return authority, key


def _issue(
    folder: Path,
    name: str,
    hosts: Sequence[str],
    days: int,
    authority: x509.Certificate,
    authority_key: ec.EllipticCurvePrivateKey,
) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    both = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH])
    made = (
        _builder(subject, authority.subject, key, days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
        .add_extension(_usage(signs_certificates=False), True)
        .add_extension(both, False)
        .add_extension(
            x509.SubjectAlternativeName([_host(host) for host in hosts or ("localhost", "127.0.0.1")]), False
        )
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), False)
    )
    return _write(folder, name, made.sign(authority_key, hashes.SHA256()), key)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: int
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _write(folder: Path, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Path:
    pem = serialization.Encoding.PEM
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    write_private(folder / f"{name}.key", key.private_bytes(pem, *form), new=True)
    path = folder / f"{name}.crt"
    write_private(path, certificate.public_bytes(pem))
    path.chmod(0o644)
    return path
