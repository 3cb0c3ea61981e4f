"""The lists by which an owner says at any time whom to trust: [kind, owner's id, serial, entries, signature].

parties       certificates whose signatures count
signatures    [subject's id, signer's id, signature], for verifiers alone; the subject need not have them
revocations   ids that count no more, whoever has signed them

The serial is the time of signing, in seconds since 1970, and higher than the one before: so a list also says how late
it must be by now, to a computer whose clock went wrong.
"""

from __future__ import annotations

import enum
from typing import Any, Final, Self

from bt_selfsecure.crypto import sha256
from bt_selfsecure.curves import ecdsa_sign, ecdsa_verify
from bt_selfsecure.errors import LocalError
from bt_selfsecure.protocols.iotcrypto import limits
from bt_selfsecure.protocols.iotcrypto.canonical import (
    Field,
    MalformedError,
    array_of,
    decode,
    encode,
    fields,
    number,
    octets,
    octets_up_to,
    one_of,
)
from bt_selfsecure.protocols.iotcrypto.certificate import Certificate, Role, SecretKeys, ThirdPartySignature
from bt_selfsecure.sansio.value import value

_LABEL: Final = b"btss iotcrypto list"


class ListKind(enum.IntEnum):
    """Says what a list is of."""

    PARTIES = 1
    SIGNATURES = 2
    REVOCATIONS = 3


@value
class ListedSignature:
    """Is a third party's signature that its subject need not bring along."""

    subject: bytes
    by: ThirdPartySignature


Entry = Certificate | ListedSignature | bytes
_FORMS: Final[dict[int, Field]] = {
    ListKind.PARTIES: octets_up_to(limits.MOST_CERTIFICATE_BYTES),
    ListKind.SIGNATURES: lambda entry: (
        type(entry) is list
        and len(entry) == 3
        and octets(limits.ID_BYTES)(entry[0])
        and octets(limits.ID_BYTES)(entry[1])
        and octets(limits.SIGNATURE_BYTES)(entry[2])
    ),
    ListKind.REVOCATIONS: octets(limits.ID_BYTES),
}


@value
class TrustList:
    """Is one list as its owner signed it. To be read it needs no key, to be taken it does (`trust.py`)."""

    kind: ListKind
    owner: bytes
    """Id of the certificate whose key signed it."""
    serial: int
    entries: tuple[Entry, ...]
    """Certificates, signatures or ids, by the kind."""
    signature: bytes

    def _content(self) -> list[Any]:
        return [int(self.kind), self.owner, self.serial, [_packed(entry) for entry in self.entries]]

    @property
    def _digest(self) -> bytes:
        return sha256(_LABEL + encode(self._content()))

    def encode(self) -> bytes:
        """Return its one encoding."""
        return encode([*self._content(), self.signature])

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Return what the bytes say, which proves nothing yet. Raises `MalformedError`."""
        kind, owner, serial, entries, signature = fields(
            decode(data, limits.MOST_LIST_BYTES),
            "a list",
            one_of([*ListKind]),
            octets(limits.ID_BYTES),
            number(limits.MOST_TIME),
            array_of(lambda entry: True, limits.MOST_ENTRIES),
            octets(limits.SIGNATURE_BYTES),
        )
        if not all(map(_FORMS[kind], entries)):
            raise MalformedError(f"a list of {ListKind(kind).name.lower()} with another entry in it")
        return cls(ListKind(kind), owner, serial, tuple(_unpacked(kind, entry) for entry in entries), signature)

    @classmethod
    def make(cls, kind: ListKind, entries: tuple[Entry, ...], serial: int, owner: SecretKeys) -> Self:
        """Return a list that the owner signs now. Raises `LocalError` for what no list can say."""
        blank = cls(kind, owner.id, serial, entries, bytes(limits.SIGNATURE_BYTES))
        try:
            cls.decode(blank.encode())
        except MalformedError as error:
            raise LocalError(f"no list can say so: {error}") from None
        return cls(kind, owner.id, serial, entries, ecdsa_sign(owner.ecdsa, blank._digest))

    def is_signed_by(self, owner: Certificate) -> bool:
        """Return whether this party says so, and signed it."""
        is_owners = self.owner == owner.id and owner.role is Role.PARTY
        return is_owners and ecdsa_verify(owner.ecdsa_key, self.signature, self._digest)


def _packed(entry: Entry) -> Any:
    match entry:
        case Certificate():
            return entry.encode()
        case ListedSignature():
            return [entry.subject, *entry.by.content]
        case _:
            return entry


def _unpacked(kind: int, entry: Any) -> Entry:
    if kind == ListKind.PARTIES:
        return Certificate.decode(entry)
    if kind == ListKind.SIGNATURES:
        return ListedSignature(entry[0], ThirdPartySignature(*entry[1:]))
    return bytes(entry)
