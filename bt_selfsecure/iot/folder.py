"""Who this is, and whom it trusts, as files of one folder.

key                   the two secrets; mode 0600, as the next
network               the network's name and common key: a line `NAME KEY`, the key in hexadecimal
certificate           with the signatures of third parties
owner                 the certificate of the party that says the rest
parties.list, signatures.list, revocations.list       the owner's, as it signed them
"""

from __future__ import annotations

import os
import time
from dataclasses import field, replace
from pathlib import Path
from typing import Final

from bt_selfsecure.errors import BtSelfSecureError, UnreadableError, UsageError
from bt_selfsecure.files import is_there, private, write_private
from bt_selfsecure.protocols.iotcrypto import limits
from bt_selfsecure.protocols.iotcrypto.canonical import MalformedError
from bt_selfsecure.protocols.iotcrypto.certificate import (
    Certificate,
    Role,
    SecretKeys,
    SignedCertificate,
    ThirdPartySignature,
)
from bt_selfsecure.protocols.iotcrypto.lists import Entry, ListKind, TrustList
from bt_selfsecure.protocols.iotcrypto.trust import NotTakenError, TrustStore
from bt_selfsecure.sansio.value import value

KEY, CERTIFICATE, OWNER, NETWORK = "key", "certificate", "owner", "network"
MOST_BYTES: Final = limits.MOST_LIST_BYTES + 1
WARN_DAYS: Final = 30
"""So long before a certificate expires people are told."""
DAY_S: Final = 86_400


@value
class NetworkKey:
    """Holds what every member of a network has: it keeps strangers from asking, and proves nothing."""

    name: str
    key: bytes = field(repr=False)


def read_public(path: Path, what: str) -> bytes:
    """Return a file's bytes. Raises `UsageError`."""
    try:
        with path.open("rb") as file:
            return file.read(MOST_BYTES)
    except OSError as error:
        raise UsageError(f"can't read {path} ({error.strerror}): name a file of {what}") from None


def read_signed(path: Path) -> SignedCertificate:
    """Return the certificate in a file, or in a folder as above. Raises `UsageError`."""
    path = path / CERTIFICATE if path.is_dir() else path
    try:
        return SignedCertificate.decode(read_public(path, "a certificate"))
    except MalformedError as error:
        raise UsageError(f"{path} is no certificate ({error}): bt-selfsecure iotcrypto certificate makes one") from None


class IdentityFolder:
    """Is such a folder. All methods raise `UsageError`, one line, for what is missing or damaged."""

    def __init__(self, path: Path) -> None:
        self.path: Final = path

    # --- keys and certificates ----------------------------------------------------------------------------------------

    @property
    def has_key(self) -> bool:
        return is_there(self.path / KEY)

    def make_key(self) -> SecretKeys:
        """Draw new secrets, where there are none."""
        made = SecretKeys.generate(os.urandom)
        write_private(self.path / KEY, made.encode(), new=True)
        return made

    def secrets(self) -> SecretKeys:
        path = self.path / KEY
        if not is_there(path):
            raise UsageError(f"there is no key in {self.path}: make it with bt-selfsecure iotcrypto key")
        try:
            return SecretKeys.decode(private(path))
        except UnreadableError as error:
            raise UsageError(f"{path} is {error}: put it back from a backup, or make a new one") from None

    def signed(self) -> SignedCertificate:
        """Return this one's own certificate; its key is here, too."""
        path = self.path / CERTIFICATE
        if not is_there(path):
            raise UsageError(f"there is no certificate in {self.path}: bt-selfsecure iotcrypto certificate makes it")
        signed = read_signed(path)
        if signed.certificate.id != self.secrets().id:
            raise UsageError(f"{path} is of other keys: make it anew with bt-selfsecure iotcrypto certificate")
        return signed

    def _last(self) -> Certificate | None:
        """Return the certificate of the keys that are here, if it can be read."""
        try:
            return self.signed().certificate
        except UsageError:
            return None

    def party_secrets(self) -> SecretKeys:
        """Return the secrets of a party, whose word counts."""
        if self.signed().certificate.role is not Role.PARTY:
            raise UsageError("a device, gateway or cloud signs for nobody: do this in the folder of a party")
        return self.secrets()

    def put_signed(self, signed: SignedCertificate) -> None:
        self._write(CERTIFICATE, signed.encode())

    def certify(self, role: Role, name: str, days: int) -> SignedCertificate:
        """Make a certificate of the keys that are here, valid from now: the first, or one in the place of the last."""
        secrets, now, last = self.secrets(), int(time.time()), self._last()
        try:
            certificate = secrets.certificate(role, name, now, min(now + days * DAY_S, limits.MOST_TIME))
        except BtSelfSecureError as error:
            raise UsageError(f"{name!r} can't be certified ({error}): take 1 to 32 printable bytes") from None
        if last and (last.role, last.name) != (role, name):
            whose = f"the {last.role.name.lower()} {last.name!r}"
            raise UsageError(f"{self.path} is of {whose}: name another folder, or remove its certificate first")
        signed = SignedCertificate(certificate)
        self.put_signed(signed)
        return signed

    # --- trust --------------------------------------------------------------------------------------------------------

    def owner(self) -> Certificate:
        """Return the owner's certificate; of a party it is its own."""
        path = self.path / OWNER
        if not is_there(path):
            signed = self.signed()
            if signed.certificate.role is Role.PARTY:
                return signed.certificate
            raise UsageError(f"{self.path} has no owner: bt-selfsecure iotcrypto trust --owner FILE names it")
        return read_signed(path).certificate

    def put_owner(self, owner: Certificate) -> None:
        if owner.role is not Role.PARTY or not owner.is_self_signed:
            raise UsageError(f"{owner.name!r} is no party that could be an owner: give the certificate of a company")
        self._write(OWNER, SignedCertificate(owner).encode())

    def trust(self) -> TrustStore:
        """Return what the owner says, as far as it is here."""
        try:
            return TrustStore(self.owner(), self.lists())
        except NotTakenError as error:
            raise UsageError(f"{self.path} has {error}: remove that file") from None

    def lists(self) -> list[TrustList]:
        """Return the lists that are here."""
        return [made for kind in ListKind if (made := self.list_of(kind))]

    def list_of(self, kind: ListKind) -> TrustList | None:
        path = self.path / _list_name(kind)
        if not is_there(path):
            return None
        try:
            return TrustList.decode(read_public(path, "a list"))
        except MalformedError as error:
            raise UsageError(f"{path} is damaged ({error}): take the owner's list again") from None

    def put_list(self, made: TrustList) -> None:
        """Return once the list is on the disk."""
        self._write(_list_name(made.kind), made.encode())

    def sign_list(self, kind: ListKind, entries: tuple[Entry, ...]) -> TrustList:
        """Sign the next list of this kind, as the owner, and keep it."""
        secrets, before = self.party_secrets(), self.list_of(kind)
        serial = max(int(time.time()), before.serial + 1 if before else 0)
        try:
            made = TrustList.make(kind, entries, serial, secrets)
        except BtSelfSecureError as error:
            raise UsageError(f"no list can have these {len(entries)} entries ({error})") from None
        self.put_list(made)
        return made

    # --- the network --------------------------------------------------------------------------------------------------

    def network(self) -> NetworkKey:
        path = self.path / NETWORK
        if not is_there(path):
            raise UsageError(f"there is no network key in {self.path}: copy the file `network` of its owner there")
        return read_network(path)

    def put_network(self, network: NetworkKey, *, new: bool = False) -> None:
        write_private(self.path / NETWORK, f"{network.name} {network.key.hex()}\n".encode(), new=new)

    def _write(self, name: str, data: bytes) -> None:
        write_private(self.path / name, data)


def read_network(path: Path) -> NetworkKey:
    """Return the key in a file `network`. Raises `UsageError`."""
    words = private(path).split()
    try:
        name, key = words[0].decode(), bytes.fromhex(words[1].decode())
        if len(words) == 2 and 16 <= len(key) <= 64 and name.isprintable():
            return NetworkKey(name, key)
    except (ValueError, IndexError):
        pass
    raise UsageError(f"{path} is not a line `NAME KEY` with 32 to 128 hexadecimal digits: copy the owner's again")


def new_network(name: str) -> NetworkKey:
    """Return a network of this name with a new key. Raises `UsageError` for a name that a line can't have."""
    if not name.isprintable() or not name or " " in name or len(name.encode()) > limits.MOST_NAME_BYTES:
        raise UsageError(f"{name!r} can't be a network's name: take 1 to 32 letters without spaces")
    return NetworkKey(name, os.urandom(16))


def expires_soon(certificate: Certificate, now: float) -> str:
    """Return a sentence where less than `WARN_DAYS` are left, else nothing."""
    days = int((certificate.expires - now) // DAY_S)
    if not 0 <= days < WARN_DAYS:
        return ""
    return f"its certificate expires in {days} days: iotcrypto certificate renews it, then have it signed again"


def add_signature(signed: SignedCertificate, by: ThirdPartySignature) -> SignedCertificate:
    """Return the certificate with this signature in the place of its signer's last. Raises `UsageError` for one too
    many."""
    others = tuple(one for one in signed.signatures if one.signer != by.signer)
    if len(others) >= limits.MOST_SIGNATURES:
        raise UsageError(f"{limits.MOST_SIGNATURES} have signed it already, as many as it can carry: sign it --list")
    return replace(signed, signatures=(*others, by))


def prepare(folder: IdentityFolder, role: Role, name: str, days: int, owner: IdentityFolder) -> SignedCertificate:
    """Make in one go, as its owner, all that a new member needs in its folder. Raises `UsageError`."""
    secrets = owner.party_secrets()
    if not folder.has_key:
        folder.make_key()
    signed = folder.certify(role, name, days)
    signed = add_signature(signed, secrets.sign(signed.certificate))
    folder.put_signed(signed)
    folder.put_owner(owner.signed().certificate)
    folder.put_network(owner.network())
    for made in owner.lists():
        folder.put_list(made)
    return signed


def _list_name(kind: ListKind) -> str:
    return f"{kind.name.lower()}.list"
