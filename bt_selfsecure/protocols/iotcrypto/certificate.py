"""The certificate (Fig. 2), the secret that it is of, and a third party's signature, which is stored apart from it.

certificate      [1, id 16, role, name, created, expires, X25519 32, P-256 X||Y 64, self-signature 64]
third party's    [signer's id 16, signature 64], over the same bytes as the self-signature

The id is of the keys (SHA-256 of both, its first 16 bytes), so who has an id from a code on a device has its keys, and
nobody makes a certificate under another's id. A certificate that is renewed keeps keys and id. The role is not the
paper's: without it the keys of one stolen device make a gateway that every other device trusts.
"""

from __future__ import annotations

import enum
from dataclasses import field, replace
from typing import Any, Final, Self

from bt_selfsecure.crypto import sha256
from bt_selfsecure.curves import ecdsa_sign, ecdsa_verify, is_p256_point, p256_public, p256_scalar, x25519_public
from bt_selfsecure.errors import LocalError, UnreadableError
from bt_selfsecure.protocols.iotcrypto import limits
from bt_selfsecure.protocols.iotcrypto.canonical import (
    MalformedError,
    array_of,
    decode,
    encode,
    fields,
    number,
    octets,
    one_of,
    text,
)
from bt_selfsecure.sansio.context import Random
from bt_selfsecure.sansio.value import value

_CERTIFICATE_LABEL: Final = b"btss iotcrypto certificate"


class Role(enum.IntEnum):
    """Says what a certificate is for. Who signs it signs that, too."""

    PARTY = 0
    """A company: it signs others' certificates, and lists."""
    DEVICE = 1
    GATEWAY = 2
    CLOUD = 3


def id_of(ecdh_key: bytes, ecdsa_key: bytes) -> bytes:
    """Return the id that belongs to these two public keys, 16 bytes."""
    return sha256(b"btss iotcrypto id" + ecdh_key + ecdsa_key)[: limits.ID_BYTES]


def label_of(identity: bytes) -> bytes:
    """Return what a label's code carries: an id, and two bytes by which a mistyped letter shows."""
    return identity + sha256(b"btss iotcrypto label" + identity)[:2]


def id_on_label(label: bytes) -> bytes:
    """Return the id that a label's code carries. Raises `MalformedError` where a letter of it was mistyped."""
    identity = label[: limits.ID_BYTES]
    if label != label_of(identity):
        raise MalformedError("its check does not fit")
    return identity


@value
class ThirdPartySignature:
    """Says that its signer knows whose certificate it is."""

    signer: bytes
    """Id of the signer's certificate."""
    signature: bytes

    @property
    def content(self) -> list[bytes]:
        """Return it as it stands in messages and lists."""
        return [self.signer, self.signature]


@value
class Certificate:
    """Is a cryptographic identity (Fig. 2): two public keys, whose they are and for how long."""

    id: bytes
    role: Role
    name: str
    created: int
    """Seconds since 1970, as `expires`."""
    expires: int
    ecdh_key: bytes
    """X25519."""
    ecdsa_key: bytes
    """x and y on P-256."""
    signature: bytes
    """By the second of the keys, over all before it."""

    def _content(self) -> list[Any]:
        named = [int(self.role), self.name, self.created, self.expires]
        return [limits.VERSION, self.id, *named, self.ecdh_key, self.ecdsa_key]

    @property
    def digest(self) -> bytes:
        """Return what its own signature and those of third parties are over: a hash of all but the self-signature."""
        return sha256(_CERTIFICATE_LABEL + encode(self._content()))

    def encode(self) -> bytes:
        """Return its one encoding, at most 230 bytes."""
        return encode([*self._content(), self.signature])

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Return what the bytes say, which proves nothing yet. Raises `MalformedError` for what is no certificate."""
        _, own, role, *content = fields(
            decode(data, limits.MOST_CERTIFICATE_BYTES),
            "a certificate",
            one_of([limits.VERSION]),
            octets(limits.ID_BYTES),
            one_of([*Role]),
            text(limits.MOST_NAME_BYTES),
            number(limits.MOST_TIME),
            number(limits.MOST_TIME),
            octets(limits.KEY_BYTES),
            octets(limits.POINT_BYTES),
            octets(limits.SIGNATURE_BYTES),
        )
        made = cls(own, Role(role), *content)
        if made.created >= made.expires:
            raise MalformedError("a certificate that expires before it is created")
        if made.id != id_of(made.ecdh_key, made.ecdsa_key):
            raise MalformedError("a certificate whose id is not of its keys")
        if not is_p256_point(made.ecdsa_key):
            raise MalformedError("a certificate whose key is no point of P-256")
        return made

    @property
    def is_self_signed(self) -> bool:
        """Return whether its own signature is right: whoever made it has the key for signatures."""
        return ecdsa_verify(self.ecdsa_key, self.signature, self.digest)

    def signed_by(self, signer: Certificate, signature: bytes) -> bool:
        """Return whether this is the signer's signature over this certificate."""
        return ecdsa_verify(signer.ecdsa_key, signature, self.digest)


@value
class SecretKeys:
    """Are the two secrets of a certificate. They stay where they were made."""

    ecdh: bytes = field(repr=False)
    ecdsa: bytes = field(repr=False)

    @classmethod
    def generate(cls, random: Random) -> Self:
        """Return two new secrets."""
        return cls(random(limits.KEY_BYTES), p256_scalar(random))

    @property
    def id(self) -> bytes:
        return id_of(x25519_public(self.ecdh), p256_public(self.ecdsa))

    def certificate(self, role: Role, name: str, created: int, expires: int) -> Certificate:
        """Return a self-signed certificate. Raises `LocalError` for a name, or times, that none can have."""
        keys = x25519_public(self.ecdh), p256_public(self.ecdsa)
        blank = Certificate(id_of(*keys), role, name, created, expires, *keys, bytes(limits.SIGNATURE_BYTES))
        try:
            Certificate.decode(blank.encode())
        except MalformedError as error:
            raise LocalError(f"no certificate can say so: {error}") from None
        return replace(blank, signature=ecdsa_sign(self.ecdsa, blank.digest))

    def sign(self, certificate: Certificate) -> ThirdPartySignature:
        """Return this party's signature over another's certificate."""
        return ThirdPartySignature(self.id, ecdsa_sign(self.ecdsa, certificate.digest))

    def encode(self) -> bytes:
        """Return them as a file holds them, where nobody else reads."""
        return encode([limits.VERSION, self.ecdh, self.ecdsa])

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Raises `UnreadableError` for what are no secrets."""
        try:
            _, ecdh, ecdsa = fields(
                decode(data, 128), "a key", one_of([limits.VERSION]), octets(limits.KEY_BYTES), octets(limits.KEY_BYTES)
            )
            made = cls(ecdh, ecdsa)
            made.id  # noqa: B018 - raises for a scalar that is no secret
        except (MalformedError, ValueError):
            raise UnreadableError("not the two secrets of a certificate") from None
        return made


SIGNATURES = array_of(
    lambda pair: (
        type(pair) is list
        and len(pair) == 2
        and octets(limits.ID_BYTES)(pair[0])
        and octets(limits.SIGNATURE_BYTES)(pair[1])
    ),
    limits.MOST_SIGNATURES,
)
"""The field of third-party signatures, as they come beside a certificate."""


@value
class SignedCertificate:
    """Is a certificate with the signatures that it brings along."""

    certificate: Certificate
    signatures: tuple[ThirdPartySignature, ...] = ()

    @property
    def content(self) -> list[Any]:
        """Return it as it stands in messages: two fields as in `SIGNED_FIELDS`."""
        return [self.certificate.encode(), [one.content for one in self.signatures]]

    def encode(self) -> bytes:
        """Return it as a file holds it."""
        return encode(self.content)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Raises `MalformedError`."""
        most = limits.MOST_CERTIFICATE_BYTES + limits.MOST_SIGNATURES * 84 + 8
        return cls.of(*fields(decode(data, most), "a file of a certificate", *SIGNED_FIELDS))

    @classmethod
    def of(cls, certificate: bytes, signatures: list[list[bytes]]) -> Self:
        """Return it, of two fields as in `SIGNED_FIELDS`. Raises `MalformedError`."""
        return cls(Certificate.decode(certificate), tuple(ThirdPartySignature(*one) for one in signatures))


def _is_short_octets(value: Any) -> bool:
    return type(value) is bytes and len(value) <= limits.MOST_CERTIFICATE_BYTES


SIGNED_FIELDS = (_is_short_octets, SIGNATURES)
"""The fields of a certificate and its signatures, as in the messages of the connection protocol."""
