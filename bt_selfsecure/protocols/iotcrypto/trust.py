"""Whom to trust (sections 3.2 and 4.1), and until when.

A certificate is trusted when it has not expired, its self-signature is right, it was not revoked, and a party signed it
that the verifier's owner trusts: the owner itself, or one of its list, unexpired and not revoked. It is not transitive:
whom such a party trusts is nobody's business here.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterator
from typing import Final

from bt_selfsecure.errors import PeerError
from bt_selfsecure.protocols.iotcrypto import limits
from bt_selfsecure.protocols.iotcrypto.certificate import Certificate, Role, SignedCertificate, ThirdPartySignature
from bt_selfsecure.protocols.iotcrypto.lists import ListedSignature, ListKind, TrustList
from bt_selfsecure.sansio.value import value


class TrustVerdict(enum.IntEnum):
    """Says what became of a certificate, for people and in refusals."""

    TRUSTED = 0
    EXPIRED = 1
    NOT_YET = 2
    FORGED = 3
    REVOKED = 4
    UNTRUSTED = 5
    CLOCK = 6
    ROLE = 7

    @property
    def words(self) -> str:
        """Return it as a sentence, with the remedy."""
        return _WORDS[self]


_WORDS: Final = {
    TrustVerdict.TRUSTED: "the certificate is trusted",
    TrustVerdict.EXPIRED: "the certificate has expired: renew it, and have it signed again",
    TrustVerdict.NOT_YET: "the certificate is of the future: set the clock of whoever made it",
    TrustVerdict.FORGED: "the certificate's self-signature is wrong",
    TrustVerdict.REVOKED: "the certificate was revoked: make new keys",
    TrustVerdict.UNTRUSTED: "no trusted party has signed the certificate: have its owner's partner sign it",
    TrustVerdict.CLOCK: "this computer's clock is behind the newest list or certificate that it has: set it",
    TrustVerdict.ROLE: "the certificate is for another role",
}


@value
class Judgement:
    """Holds what became of a certificate, and the time until which that stands if no list changes."""

    verdict: TrustVerdict
    until: int = 0
    """Seconds since 1970; of one that is not trusted, 0."""
    signer: bytes = b""
    """Id of the party on whose word it rests."""

    @property
    def is_trusted(self) -> bool:
        return self.verdict is TrustVerdict.TRUSTED


class NotTakenError(PeerError):
    """A list was not taken: the text says why. What stood before stands."""


class TrustStore:
    """Holds what one verifier's owner says. All times are seconds since 1970, by the verifier's clock."""

    def __init__(self, owner: Certificate, lists: Collection[TrustList] = ()) -> None:
        """Raises `NotTakenError` where one of the lists is not the owner's."""
        self.owner: Final = owner
        self.lists: Final[dict[ListKind, TrustList]] = {}
        self._parties: dict[bytes, Certificate] = {owner.id: owner}
        self._revoked: frozenset[bytes] = frozenset()
        self._listed: dict[bytes, list[ThirdPartySignature]] = {}
        for one in lists:
            self.take(one)

    def take(self, new: TrustList) -> bool:
        """Put a list in the place of the one before; return whether it is new. Raises `NotTakenError`."""
        before = self.lists.get(new.kind)
        if before == new:
            return False
        if not new.is_signed_by(self.owner):
            raise NotTakenError(f"a list of {new.kind.name.lower()} that is not of the owner {self.owner.id.hex()}")
        if before and new.serial <= before.serial:
            what = f"a list of {new.kind.name.lower()} of serial {new.serial}"
            raise NotTakenError(f"{what}, which is older than the one that is here, of {before.serial}")
        self.lists[new.kind] = new
        entries = new.entries
        if new.kind is ListKind.PARTIES:
            named = {one.id: one for one in entries if isinstance(one, Certificate) and one.role is Role.PARTY}
            self._parties = {**named, self.owner.id: self.owner}
        elif new.kind is ListKind.REVOCATIONS:
            self._revoked = frozenset(one for one in entries if isinstance(one, bytes))
        else:
            self._listed = {}
            for one in entries:
                if isinstance(one, ListedSignature):
                    self._listed.setdefault(one.subject, []).append(one.by)
        return True

    @property
    def least_time(self) -> int:
        """Return the time that it must be by now, as the owner says: when the newest list was signed."""
        return max([self.owner.created, *(one.serial for one in self.lists.values())]) - limits.CLOCK_SKEW_S

    def judge(self, signed: SignedCertificate, now: int, role: Role | None = None) -> Judgement:
        """Return whether a certificate is trusted now, and is of this role, if one is asked for."""
        certificate = signed.certificate
        if now < self.least_time:
            return Judgement(TrustVerdict.CLOCK)
        if now >= certificate.expires:
            return Judgement(TrustVerdict.EXPIRED)
        if now < certificate.created - limits.CLOCK_SKEW_S:
            return Judgement(TrustVerdict.NOT_YET)
        if certificate.id in self._revoked:
            return Judgement(TrustVerdict.REVOKED)
        if role is not None and certificate.role is not role:
            return Judgement(TrustVerdict.ROLE)
        if not certificate.is_self_signed:
            return Judgement(TrustVerdict.FORGED)
        signer = max(self._signers(signed, now), key=lambda one: one.expires, default=None)
        if signer is None:
            return Judgement(TrustVerdict.UNTRUSTED)
        return Judgement(TrustVerdict.TRUSTED, min(certificate.expires, signer.expires), signer.id)

    def _signers(self, signed: SignedCertificate, now: int) -> Iterator[Certificate]:
        """Yield the trusted parties whose signatures over this certificate are right."""
        for one in (*signed.signatures, *self._listed.get(signed.certificate.id, ())):
            party = self._parties.get(one.signer)
            if (
                party is not None
                and party.id not in self._revoked
                and party.created - limits.CLOCK_SKEW_S <= now < party.expires
                and party.is_self_signed
                and signed.certificate.signed_by(party, one.signature)
            ):
                yield party
