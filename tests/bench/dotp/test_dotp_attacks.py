"""Each attack on D-OTP succeeds where it should and nowhere else; docs/attacks.md is held against new runs."""

from __future__ import annotations

import pytest

from bt_selfsecure.bench.attacks import carry_out, find
from bt_selfsecure.bench.dotp.attacks import ALL_ENDS, ATTACKS, HARDENED, NO_SERIAL, ONE_SN, PAPER, Ends

AGAINST = {
    "known-text": {PAPER.label, NO_SERIAL.label, ONE_SN.label},
    "one-key": {PAPER.label, NO_SERIAL.label, ONE_SN.label},
    "generator": {PAPER.label, NO_SERIAL.label, ONE_SN.label},
    "replay": {NO_SERIAL.label},
    "loss": {NO_SERIAL.label},
    "crossing": {ONE_SN.label},
    "change": {PAPER.label, NO_SERIAL.label, ONE_SN.label},
    "deafen": {PAPER.label, NO_SERIAL.label, ONE_SN.label},
    "impersonation": {PAPER.label, NO_SERIAL.label, ONE_SN.label},
    "exhaustion": {PAPER.label, NO_SERIAL.label, ONE_SN.label},
}


@pytest.mark.parametrize("name", AGAINST)
@pytest.mark.parametrize("ends", ALL_ENDS, ids=lambda ends: ends.label)
def test_an_attack_succeeds_always_where_the_protocol_lets_it_and_never_elsewhere(name: str, ends: Ends) -> None:
    trials = carry_out(find(ATTACKS, name), ends, 5)
    assert {trial.success for trial in trials} == {ends.label in AGAINST[name]}


def test_against_hardened_no_attack_succeeds_and_those_who_send_are_noticed() -> None:
    noticed = {row.name for row in ATTACKS if all(trial.noticed for trial in carry_out(row, HARDENED, 2))}
    assert noticed == {"replay", "change", "deafen", "impersonation", "exhaustion"}


def test_without_a_serial_number_a_loss_or_a_replay_parts_the_two_for_good_and_with_one_it_does_not() -> None:
    for name in ("loss", "replay"):
        row = find(ATTACKS, name)
        assert not any(trial.established for trial in carry_out(row, NO_SERIAL, 5))
        assert all(trial.established for ends in (PAPER, HARDENED) for trial in carry_out(row, ends, 5))


def test_every_attack_has_a_name_of_its_own() -> None:
    assert [attack.name for attack in ATTACKS] == [*AGAINST]
