"""Each attack on Sabour's handshake succeeds where it should; docs/protocols/sabour.md is held against new runs."""

from __future__ import annotations

import pytest

from bt_selfsecure import curves
from bt_selfsecure.bench.attacks import carry_out, find
from bt_selfsecure.bench.sabour.attacks import ATTACKS
from bt_selfsecure.eve.sabour.attacks.points import P256_POINTS, X25519_POINTS
from bt_selfsecure.protocols.sabour.messages import Profile

AGAINST_PAPER = {"middle": True, "false-device": True, "false-server": True, "replay": True, "points": False}
PAPER = (Profile.PAPER_ECDSA, Profile.PAPER_HASH)


@pytest.mark.parametrize("name", AGAINST_PAPER)
@pytest.mark.parametrize("profile", PAPER, ids=lambda profile: profile.value)
def test_what_the_paper_calls_a_signature_keeps_out_nobody_but_invalid_points(name: str, profile: Profile) -> None:
    trials = carry_out(find(ATTACKS, name), profile, 14)
    assert {trial.success for trial in trials} == {AGAINST_PAPER[name]}


@pytest.mark.parametrize("name", AGAINST_PAPER)
def test_no_attack_on_hardened_succeeds_and_each_is_noticed(name: str) -> None:
    trials = carry_out(find(ATTACKS, name), Profile.HARDENED, 14)
    assert not any(trial.success for trial in trials)
    assert all(trial.noticed for trial in trials)


@pytest.mark.parametrize("profile", Profile, ids=lambda profile: profile.value)
def test_a_flood_of_m1_does_not_keep_the_device_out(profile: Profile) -> None:
    (trial,) = carry_out(find(ATTACKS, "flood"), profile, 1)
    assert not trial.success


def test_nobody_notices_the_woman_in_the_middle_of_paper() -> None:
    for profile in PAPER:
        assert not any(trial.noticed for trial in carry_out(find(ATTACKS, "middle"), profile, 3))


def test_the_points_that_eve_offers_are_what_they_are_said_to_be() -> None:
    secret = bytes(range(32))
    assert len(set(X25519_POINTS)) == 14
    assert [point for point in X25519_POINTS if curves.x25519(secret, point) is not None] == []
    assert [point for point in P256_POINTS if curves.p256(bytes(31) + b"\5", point) is not None] == []


def test_the_attacks_have_names_of_their_own() -> None:
    assert len({attack.name for attack in ATTACKS}) == len(ATTACKS) == 1 + len(AGAINST_PAPER)
