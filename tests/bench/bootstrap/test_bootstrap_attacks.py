"""Each attack on the bootstrapping succeeds where it should; who has the PSK is as docs/protocols/bootstrap.md says."""

from __future__ import annotations

import pytest

from bt_selfsecure.bench.attacks import carry_out, find
from bt_selfsecure.bench.bootstrap.attacks import ATTACKS
from bt_selfsecure.bench.bootstrap.testbed import JoinTestbed
from bt_selfsecure.bench.bootstrap.who import HEARD, installer_has_psk
from bt_selfsecure.protocols.bootstrap import keys
from bt_selfsecure.protocols.bootstrap.messages import Kind, Profile

SUCCEEDS = {
    "overheard-1": (False, False),
    "overheard-4": (True, False),
    "overheard-1-4": (True, True),
    "written-4": (True, True),
    "written-4-blind": (False, False),
    "chosen-psk": (True, False),
    "splice": (True, False),
    "replay-1": (True, False),
    "replay-2": (True, False),
    "replay-2-late": (False, False),
    "replay-3": (False, False),
    "false-controller": (False, False),
    "middle": (False, False),
    "bogus-2": (False, False),
    "jam-4": (True, False),
    "controller-ik": (True, False),
}
"""Against `paper`, against `hardened`."""


@pytest.mark.parametrize("name", SUCCEEDS)
@pytest.mark.parametrize("profile", Profile, ids=lambda profile: profile.value)
def test_an_attack_succeeds_where_it_should_and_nowhere_else(name: str, profile: Profile) -> None:
    trials = carry_out(find(ATTACKS, name), profile, 6)
    assert {trial.success for trial in trials} == {SUCCEEDS[name][profile is Profile.HARDENED]}


def test_the_attacks_on_the_bootstrapping_have_names_of_their_own() -> None:
    assert [attack.name for attack in ATTACKS] == list(SUCCEEDS)


@pytest.mark.parametrize("profile", Profile, ids=lambda profile: profile.value)
def test_without_an_attack_all_join_and_nobody_notices_anything(profile: Profile) -> None:
    bed = JoinTestbed(profile, 1)
    bed.join()
    assert bed.is_joined
    assert not bed.noticed
    assert {name: len(psks) for name, psks in bed.joined.items()} == {"sbi": 1, "sbr": 1, "sbs": 1}


@pytest.mark.parametrize("heard", HEARD, ids=lambda heard: "+".join(kind.name for kind in sorted(heard)) or "nothing")
def test_who_listens_has_the_psk_of_paper_by_flight_4_and_of_hardened_by_1_and_4(heard: frozenset[Kind]) -> None:
    has = {profile: installer_has_psk(profile, heard, 3, writes=False) for profile in Profile}
    assert has == {Profile.PAPER: Kind.F4 in heard, Profile.HARDENED: {Kind.F1, Kind.F4} <= heard}


@pytest.mark.parametrize("heard", HEARD, ids=lambda heard: "+".join(kind.name for kind in sorted(heard)) or "nothing")
def test_who_writes_too_has_the_psk_of_both_by_flight_1(heard: frozenset[Kind]) -> None:
    has = {profile: installer_has_psk(profile, heard, 3, writes=True) for profile in Profile}
    assert has == {Profile.PAPER: bool({Kind.F1, Kind.F4} & heard), Profile.HARDENED: Kind.F1 in heard}


def test_in_paper_swapped_roles_give_the_same_psk() -> None:
    ik, one, other = bytes(16), b"1" * 16, b"2" * 16
    assert keys.paper_psk(ik, one, other) == keys.paper_psk(ik, other, one)
    names = keys.NamesOfRun(b"n" * 8, b"c" * 8, b"t" * 8)
    assert keys.derive(ik, one, other, names).psk != keys.derive(ik, other, one, names).psk


def test_in_paper_a_spliced_flight_4_gives_every_node_of_an_installer_one_psk() -> None:
    """PSK = E(0, IK), of whatever RN_i."""
    bed = JoinTestbed(Profile.PAPER, 1)
    bed.hand = lambda kind, data: (data[:24] + data[8:24] if kind is Kind.F4 else data,)
    bed.join()
    assert bed.node_keys == {keys.ecb(bed.ik, bytes(16))}


def test_by_the_other_reading_of_e_whoever_knows_the_psk_has_the_ik() -> None:
    """PSK = E(IK, RN_i xor RN_c), with the numbers for a key: who has both can decrypt it."""
    ik, key = bytes(range(16)), keys.xor(b"1" * 16, b"2" * 16)
    assert keys.ecb_open(key, keys.ecb(key, ik)) == ik
