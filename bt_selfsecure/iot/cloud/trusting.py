"""What the cloud thinks of certificates, for people: judged once a minute and list, as a judgement costs milliseconds
on a small computer."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from bt_selfsecure.iot.cloud.api_types import Party, TrustInfo, TrustState
from bt_selfsecure.iot.cloud.queries import Scope, is_signed, numbers_of, signed_by
from bt_selfsecure.iot.cloud.sql import CloudDatabase
from bt_selfsecure.iot.members import Member
from bt_selfsecure.protocols.iotcrypto.certificate import Certificate, Role, SignedCertificate
from bt_selfsecure.protocols.iotcrypto.lists import ListedSignature, ListKind
from bt_selfsecure.protocols.iotcrypto.trust import TrustVerdict

MOST_JUDGED: Final = 16_384
PERIOD_S: Final = 60


class TrustJudge:
    """Judges for one member."""

    def __init__(self, member: Member) -> None:
        self._member: Final = member
        self._judged: Final = lru_cache(MOST_JUDGED)(self._judge)

    def __call__(self, signed: bytes | None, role: Role) -> TrustInfo:
        """Return what is thought of a certificate, as a file holds it, now."""
        if signed is None:
            return TrustInfo(trusted=False, why="no certificate has come yet", until=0, signer="")
        now, trust = int(self._member.wall()), self._member.trust
        serials = tuple(sorted((kind, made.serial) for kind, made in trust.lists.items()))
        found = self._judged(signed, role, serials, now // PERIOD_S)
        if found["trusted"] and now >= found["until"]:
            return TrustInfo(trusted=False, why=TrustVerdict.EXPIRED.words, until=0, signer="")
        return found

    def _judge(self, signed: bytes, role: Role, serials: object, minute: int) -> TrustInfo:
        judgement = self._member.judge(SignedCertificate.decode(signed), role)
        return TrustInfo(
            trusted=judgement.is_trusted,
            why=judgement.verdict.words,
            until=judgement.until,
            signer=judgement.signer.hex(),
        )

    def scope(self, base: CloudDatabase, partner: Certificate) -> Scope:
        """Return the devices that a partner has signed, on the certificate or in the owner's list."""
        found = {no for no, signed in signed_by(base, partner.id) if is_signed(signed, partner)}
        listed = self._member.trust.lists.get(ListKind.SIGNATURES)
        by_partner = {
            one.subject: one.by.signature
            for one in (listed.entries if listed else ())
            if isinstance(one, ListedSignature) and one.by.signer == partner.id
        }
        for no, signed in numbers_of(base, by_partner):
            certificate = SignedCertificate.decode(signed).certificate
            if certificate.signed_by(partner, by_partner[certificate.id]):
                found.add(no)
        return found

    def is_party_trusted(self, partner: Certificate) -> bool:
        """Return whether a company's own certificate counts: one of the owner's list, unexpired and not revoked."""
        trust, now = self._member.trust, self._member.wall()
        parties, revoked = trust.lists.get(ListKind.PARTIES), trust.lists.get(ListKind.REVOCATIONS)
        is_listed = partner in (parties.entries if parties else ()) or partner == trust.owner
        is_revoked = partner.id in (revoked.entries if revoked else ())
        return is_listed and not is_revoked and partner.created - 300 <= now < partner.expires

    def state(self) -> TrustState:
        """Return what the owner says."""
        trust = self._member.trust
        parties, revoked = trust.lists.get(ListKind.PARTIES), trust.lists.get(ListKind.REVOCATIONS)
        return TrustState(
            owner=_party(trust.owner),
            serials={kind.name.lower(): made.serial for kind, made in trust.lists.items()},
            parties=[_party(one) for one in (parties.entries if parties else ()) if isinstance(one, Certificate)],
            revoked=[one.hex() for one in (revoked.entries if revoked else ()) if isinstance(one, bytes)],
        )


def _party(of: Certificate) -> Party:
    return Party(id=of.id.hex(), name=of.name, expires=of.expires)
