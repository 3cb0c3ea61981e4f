"""Each attack on IoT-Crypto succeeds where it should; docs/attacks.md has the figures."""

from __future__ import annotations

import pytest

from bt_selfsecure.bench.attacks import carry_out, find
from bt_selfsecure.bench.iotcrypto.attacks import ATTACKS
from bt_selfsecure.eve.iotcrypto.outside import Outside
from bt_selfsecure.protocols.iotcrypto.messages import Profile

OF_THE_PAPER = {"impostor", "recorded", "stolen-device", "outside"}
OF_BOTH = {"clock-near"}


@pytest.mark.parametrize("name", [attack.name for attack in ATTACKS])
@pytest.mark.parametrize("profile", Profile, ids=lambda profile: profile.value)
def test_an_attack_succeeds_always_or_never_as_the_specification_says(name: str, profile: Profile) -> None:
    trials = carry_out(find(ATTACKS, name), profile, 5)
    works = name in OF_BOTH or (name in OF_THE_PAPER and profile is Profile.PAPER)
    assert {trial.success for trial in trials} == {works}


@pytest.mark.parametrize("name", ["impostor", "stolen-device"])
def test_in_hardened_the_impostor_is_noticed(name: str) -> None:
    assert all(trial.noticed for trial in carry_out(find(ATTACKS, name), Profile.HARDENED, 5))
    assert not any(trial.noticed for trial in carry_out(find(ATTACKS, name), Profile.PAPER, 5))


@pytest.mark.parametrize("name", ["revoked", "expired"])
def test_who_loses_trust_had_it_before(name: str) -> None:
    for profile in Profile:
        assert all(trial.established for trial in carry_out(find(ATTACKS, name), profile, 5))


def test_what_is_no_dtls_shows_nothing_and_raises_nothing() -> None:
    eve = Outside()
    for datagram in (b"", b"x", bytes(13), b"\x16\xfe\xfd" + bytes(8) + b"\xff\xff" + b"\x10", b"\x17" * 40):
        eve.hear(datagram)
    assert (eve.gateways, eve.identities) == (set(), [])
