"""Each attack on pairing succeeds where it should; docs/protocols/pairing.md is made from new runs."""

from __future__ import annotations

import pytest

from bt_selfsecure.bench.attacks import carry_out, find
from bt_selfsecure.bench.pairing.attacks import ATTACKS
from bt_selfsecure.protocols.pairing.codes import Way

RUNS = 5
SUCCEEDS = {("answers", Way.WORDS), ("asks", Way.WORDS), ("asks", Way.CODE)}


@pytest.mark.parametrize("way", Way)
@pytest.mark.parametrize("name", [attack.name for attack in ATTACKS])
def test_an_attack_succeeds_where_its_row_says_so_and_is_noticed_elsewhere(name: str, way: Way) -> None:
    trials = carry_out(find(ATTACKS, name), way, RUNS)
    assert {trial.success for trial in trials} == {(name, way) in SUCCEEDS}
    if name != "guesses" or way is Way.WORDS:
        assert {trial.noticed for trial in trials} == {(name, way) not in SUCCEEDS}


def test_the_middle_of_a_call_that_she_heard_has_both_keys_and_is_found_by_the_strings_alone() -> None:
    trials = carry_out(find(ATTACKS, "middle"), Way.CALL, RUNS)
    assert all(trial.established and trial.noticed and not trial.success for trial in trials)
