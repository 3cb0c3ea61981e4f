"""Trust: against thirty lines that only read the paper's rules, and each rule of ours by itself."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from iotcrypto_ends import COMPANY, CREATED, DEVICE, EXPIRES, GATEWAY, NOW, PARTNER, Member, member

from bt_selfsecure.protocols.iotcrypto.certificate import Role, SignedCertificate
from bt_selfsecure.protocols.iotcrypto.limits import CLOCK_SKEW_S
from bt_selfsecure.protocols.iotcrypto.lists import Entry, ListedSignature, ListKind, TrustList
from bt_selfsecure.protocols.iotcrypto.trust import NotTakenError, TrustStore, TrustVerdict

THIRD = member("third", Role.PARTY)
SHORT = member("short", Role.PARTY, expires=NOW + 100)
PARTIES = [COMPANY, PARTNER, THIRD, SHORT]
NAMES = st.sampled_from(range(len(PARTIES)))


@dataclass(frozen=True)
class Situation:
    """All on which trust depends, by the numbers of parties: what the reference reads."""

    brought: frozenset[int]
    """Whose signatures the device brings along."""
    listed: frozenset[int]
    """Whose signatures the verifier has by its own list."""
    forged: frozenset[int]
    """Whose of them are wrong."""
    trusted: frozenset[int]
    """Of which the owner says that their signatures count; itself is number 0."""
    revoked: frozenset[int]
    device_revoked: bool
    self_signed: bool
    after_s: int
    """Seconds after `NOW`."""


def reference(is_it: Situation, expires: list[int]) -> bool:
    """The paper, sections 3.2 and 4.1, read aloud; nothing of the package is used."""
    now = NOW + is_it.after_s
    if now >= EXPIRES:  # "Expiration date verification."
        return False
    if not is_it.self_signed:  # "Self-signature validity verification."
        return False
    if is_it.device_revoked:  # "Even then, the connection may be terminated if the certificate is revoked."
        return False
    for signer in is_it.brought | is_it.listed:  # "on the device ... or may be known only to the verifying party"
        if signer in is_it.forged:  # a signature that is none
            continue
        if signer not in is_it.trusted | {0}:  # "issued by a trusted party"; not transitive, so nobody else's word
            continue
        if signer in is_it.revoked or now >= expires[signer]:
            continue
        return True  # "at least one of the signatures is issued by a trusted party"
    return False


def built(is_it: Situation) -> tuple[TrustStore, SignedCertificate]:
    device = member("boiler", Role.DEVICE)
    certificate = device.certificate
    if not is_it.self_signed:
        certificate = replace(certificate, signature=PARTNER.certificate.signature)
    by = {number: PARTIES[number].secrets.sign(device.certificate) for number in range(len(PARTIES))}
    for number in is_it.forged:
        by[number] = replace(by[number], signature=PARTIES[number].certificate.signature)
    revoked = [PARTIES[number].certificate.id for number in sorted(is_it.revoked)]
    if is_it.device_revoked:
        revoked.append(certificate.id)
    lists: dict[ListKind, tuple[Entry, ...]] = {
        ListKind.PARTIES: tuple(PARTIES[number].certificate for number in sorted(is_it.trusted)),
        ListKind.SIGNATURES: tuple(ListedSignature(certificate.id, by[number]) for number in sorted(is_it.listed)),
        ListKind.REVOCATIONS: tuple(revoked),
    }
    made = [TrustList.make(kind, entries, CREATED, COMPANY.secrets) for kind, entries in lists.items()]
    brought = tuple(by[number] for number in sorted(is_it.brought))
    return TrustStore(COMPANY.certificate, made), SignedCertificate(certificate, brought)


SITUATIONS = st.builds(
    Situation,
    brought=st.frozensets(NAMES),
    listed=st.frozensets(NAMES),
    forged=st.frozensets(NAMES, max_size=2),
    trusted=st.frozensets(NAMES),
    revoked=st.frozensets(NAMES, max_size=2),
    device_revoked=st.integers(0, 7).map(lambda number: number == 0),
    self_signed=st.integers(0, 7).map(lambda number: number != 0),
    after_s=st.sampled_from([0, 99, 100, 101, EXPIRES - NOW - 1, EXPIRES - NOW]),
)


@given(SITUATIONS)
def test_trust_is_what_the_papers_rules_say(is_it: Situation) -> None:
    store, signed = built(is_it)
    judgement = store.judge(signed, NOW + is_it.after_s)
    expires = [party.certificate.expires for party in PARTIES]
    assert judgement.is_trusted == reference(is_it, expires)
    if judgement.is_trusted:  # and holds until when it says, and not longer
        assert reference(replace(is_it, after_s=judgement.until - 1 - NOW), expires)
        assert not reference(replace(is_it, after_s=judgement.until - NOW), expires)


def test_the_reference_says_both_and_differs_with_each_of_its_inputs() -> None:
    good = Situation(frozenset({1}), frozenset(), frozenset(), frozenset({1}), frozenset(), False, True, 0)
    expires = [party.certificate.expires for party in PARTIES]
    assert reference(good, expires)
    for worse in (
        replace(good, brought=frozenset()),
        replace(good, forged=frozenset({1})),
        replace(good, trusted=frozenset({2})),
        replace(good, revoked=frozenset({1})),
        replace(good, device_revoked=True),
        replace(good, self_signed=False),
        replace(good, after_s=EXPIRES - NOW),
    ):
        assert not reference(worse, expires)
    assert reference(replace(good, brought=frozenset(), listed=frozenset({1})), expires)


def store(**entries: tuple[Entry, ...]) -> TrustStore:
    made = [TrustList.make(ListKind[kind], of, CREATED, COMPANY.secrets) for kind, of in entries.items()]
    return TrustStore(COMPANY.certificate, made)


def verdict(of: Member, trust: TrustStore, now: int = NOW, role: Role | None = None) -> TrustVerdict:
    return trust.judge(of.signed, now, role).verdict


def test_trust_is_not_transitive() -> None:
    middle = member("middle", Role.PARTY).signed_by(COMPANY)
    device = member("lamp", Role.DEVICE).signed_by(middle)
    assert verdict(device, store()) is TrustVerdict.UNTRUSTED
    assert verdict(device, store(PARTIES=(middle.certificate,))) is TrustVerdict.TRUSTED


def test_a_device_that_is_listed_as_a_party_signs_for_nobody() -> None:
    device = member("lamp", Role.DEVICE).signed_by(DEVICE)
    assert verdict(device, store(PARTIES=(DEVICE.certificate,))) is TrustVerdict.UNTRUSTED


def test_a_device_is_no_gateway() -> None:
    assert verdict(DEVICE, store(), role=Role.GATEWAY) is TrustVerdict.ROLE
    assert verdict(GATEWAY, store(), role=Role.GATEWAY) is TrustVerdict.TRUSTED


def test_a_clock_that_went_back_makes_nothing_valid_again() -> None:
    trust = store(REVOCATIONS=())
    newer = TrustList.make(ListKind.REVOCATIONS, (), NOW, COMPANY.secrets)
    assert trust.take(newer)
    assert verdict(DEVICE, trust, NOW - CLOCK_SKEW_S) is TrustVerdict.TRUSTED
    assert verdict(DEVICE, trust, NOW - CLOCK_SKEW_S - 1) is TrustVerdict.CLOCK
    assert verdict(DEVICE, trust, 0) is TrustVerdict.CLOCK


def test_a_certificate_of_the_future_waits_for_it() -> None:
    later = member("lamp", Role.DEVICE, created=NOW + CLOCK_SKEW_S + 1).signed_by(COMPANY)
    assert verdict(later, store()) is TrustVerdict.NOT_YET
    assert verdict(later, store(), NOW + 1) is TrustVerdict.TRUSTED


def test_a_list_is_taken_from_the_owner_alone_and_once() -> None:
    trust = store()
    first = TrustList.make(ListKind.REVOCATIONS, (DEVICE.certificate.id,), CREATED, COMPANY.secrets)
    assert trust.take(first)
    assert not trust.take(first)
    for bad in (
        TrustList.make(ListKind.REVOCATIONS, (), CREATED, COMPANY.secrets),  # the serial is not higher
        TrustList.make(ListKind.REVOCATIONS, (), CREATED - 1, COMPANY.secrets),
        TrustList.make(ListKind.REVOCATIONS, (), CREATED + 1, PARTNER.secrets),
        replace(TrustList.make(ListKind.REVOCATIONS, (), CREATED + 1, PARTNER.secrets), owner=COMPANY.certificate.id),
    ):
        with pytest.raises(NotTakenError):
            trust.take(bad)
        assert verdict(DEVICE, trust) is TrustVerdict.REVOKED
    assert trust.take(TrustList.make(ListKind.REVOCATIONS, (), CREATED + 1, COMPANY.secrets))
    assert verdict(DEVICE, trust) is TrustVerdict.TRUSTED


def test_each_verdict_has_words() -> None:
    assert all(one.words for one in TrustVerdict)
