"""Each attack succeeds as often as it should; that docs/attacks.md is what the runs say is a test in tests/docs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bt_selfsecure.bench.attacks import carry_out, find
from bt_selfsecure.bench.haoxiao.attacks import ATTACKS, rounds_to_heal
from bt_selfsecure.bench.haoxiao.ends import HARDENED, KEYED, PAPER, X25519
from bt_selfsecure.bench.haoxiao.groups import rounds_to_heal as broadcasts_to_heal
from bt_selfsecure.bench.papers import names
from bt_selfsecure.protocols.haoxiao.frames import Profile

DOCUMENT = Path(__file__).parents[3] / "docs/attacks.md"


def test_every_attack_of_the_table_is_in_the_document() -> None:
    named = re.findall(r"^\| `([a-z0-9/-]+)`:", DOCUMENT.read_text(), flags=re.MULTILINE)
    assert named == names()


def rows(text: str) -> dict[str, list[str]]:
    """Of a table: the attack that a row names, and "k of n" of each of its cells that begin so."""
    found = {}
    for line in text.splitlines():
        cells = [cell.strip().replace("*", "") for cell in re.split(r"(?<!\\\\)\|", line)[1:-1]]
        figures = [figure[0] for cell in cells if (figure := re.match(r"\d+ of \d+", cell))]
        if figures and (name := re.search("`([a-z-]+)`", cells[0])):
            found[name[1]] = figures
    return found


def test_the_tables_of_attackers_say_what_the_document_shows() -> None:
    """In docs/security.md a row for each attack but variants of one that is there; in README some of these."""
    documented, told = rows(DOCUMENT.read_text()), rows(DOCUMENT.with_name("security.md").read_text())
    assert len(told) == 26
    assert {name: documented[name] for name in told} == told
    variants = {"brute-force-sound", "flood-slow", "block-compact", "impersonation-later"}
    assert documented.keys() - told.keys() == {"colluding", "repair", "brute-force", "reflection"} | variants
    in_short = rows((DOCUMENT.parents[1] / "README.md").read_text())
    assert len(in_short) == 6
    assert {name: told[name] for name in in_short} == in_short


@pytest.mark.parametrize(
    ("name", "paper", "hardened"),
    [
        ("passive", (0, 3), (0, 3)),
        ("everything", (5, 10), (10, 10)),
        ("colluding", (5, 10), (5, 10)),
        pytest.param("repair", (6, 10), (6, 10), marks=pytest.mark.long),
        ("brute-force", (2, 8), (2, 8)),
        ("brute-force-sound", (0, 0), (0, 0)),
        ("steering", (4, 10), (0, 0)),
        ("middle", (10, 10), (10, 10)),
        ("draws", (5, 10), (0, 0)),
        ("replay", (10, 10), (0, 0)),
        ("reflection", (0, 0), (0, 0)),
        ("flood", (8, 10), (8, 10)),
        ("flood-slow", (8, 10), (8, 10)),
        ("jamming", (5, 10), (8, 10)),
        ("theft", (2, 9), (2, 9)),
        ("impersonation", (10, 10), (10, 10)),
        ("stolen-disk", (0, 0), (0, 0)),
        ("disk-backwards", (0, 0), (0, 0)),
        ("rounds", (0, 0), (0, 0)),
        ("impersonation-later", (0, 0), (0, 0)),
        ("rollback", (0, 0), (0, 0)),
        ("takeover", (10, 10), (0, 0)),
        ("relay", (0, 0), (0, 0)),
        ("forged-packet", (0, 6), (0, 0)),
        ("block", (10, 10), (10, 10)),
        ("block-compact", (10, 10), (10, 10)),
        ("relay-listens", (10, 10), (10, 10)),
        ("relay-middle", (10, 10), (10, 10)),
        ("relay-one-of-two", (10, 10), (0, 0)),
        ("relay-both", (10, 10), (10, 10)),
        ("relay-disturbs", (0, 0), (0, 0)),
        ("group-theft", (0, 0), (0, 3)),
        ("newcomer", (0, 0), (0, 0)),
        ("expelled", (0, 0), (0, 0)),
    ],
)
def test_an_attack_succeeds_as_often_as_it_should(name: str, paper: tuple[int, int], hardened: tuple[int, int]) -> None:
    """Of ten runs each, three for those that take many hashes; the exact figures are in the document."""
    runs = 3 if name in ("repair", "brute-force-sound") else 10
    for ends, (least, most) in ((PAPER, paper), (HARDENED, hardened)):
        successes = sum(trial.success for trial in carry_out(find(ATTACKS, name), ends, runs))
        assert runs * least // 10 <= successes <= -(-runs * most // 10), ends.label


PROTECTED = {  # successes of ten: with X25519, with an authentication key
    "passive": (0, 0),
    "everything": (0, 0),
    "colluding": (0, 0),
    "brute-force": (0, 0),
    "steering": (0, 0),
    "middle": (10, 0),
    "draws": (0, 0),
    "replay": (0, 0),
    "reflection": (0, 0),
    "flood": (10, 10),
    "jamming": (0, 0),
    "stolen-disk": (0, 0),
    "disk-backwards": (0, 0),
    "takeover": (0, 0),
    "relay": (0, 0),
    "forged-packet": (0, 0),
    "relay-listens": (0, 0),
    "relay-middle": (10, 0),
    "relay-one-of-two": (0, 0),
    "relay-both": (10, 0),
    "relay-disturbs": (0, 0),
}


@pytest.mark.parametrize("name", PROTECTED)
def test_x25519_and_an_authentication_key_help_against_what_they_should(name: str) -> None:
    for ends, successes in zip((X25519, KEYED), PROTECTED[name], strict=True):
        trials = carry_out(find(ATTACKS, name), ends, 10)
        assert sum(trial.success for trial in trials) == successes, ends.label


def test_nobody_notices_a_jammer_and_an_authentication_key_finds_who_stands_in_the_middle() -> None:
    """What docs/security.md says of the two."""
    assert not any(trial.noticed for trial in carry_out(find(ATTACKS, "jamming"), HARDENED, 10))
    in_the_middle = carry_out(find(ATTACKS, "middle"), KEYED, 10)
    assert all(trial.noticed and not trial.established for trial in in_the_middle)


def test_steering_is_reported_in_both_profiles_and_changes_nothing_in_hardened() -> None:
    paper, hardened = (carry_out(find(ATTACKS, "steering"), ends, 10) for ends in (PAPER, HARDENED))
    assert all(trial.noticed for trial in [*paper, *hardened])
    assert any(trial.established for trial in paper)
    assert all(trial.established for trial in hardened)


def test_a_groups_key_heals_after_one_over_the_share_of_broadcasts_that_the_thief_misses() -> None:
    """Of the six fragments of one she may lose any one, as a member may; four standard errors."""
    loss, thefts = 0.2, 60
    missed = 1 - (1 - loss) ** 6 - 6 * loss * (1 - loss) ** 5
    mean = sum(broadcasts_to_heal(seed, loss) for seed in range(thefts)) / thefts
    assert abs(mean - 1 / missed) < 4 * (1 - missed) ** 0.5 / missed / thefts**0.5


@pytest.mark.parametrize("profile", Profile)
def test_rounds_to_heal_are_one_over_the_thiefs_loss(profile: Profile) -> None:
    """Geometric: mean 1/e, standard deviation sqrt(1-e)/e; four standard errors."""
    loss, thefts = 0.2, 25
    mean = sum(rounds_to_heal(profile, seed, loss) for seed in range(thefts)) / thefts
    assert abs(mean - 1 / loss) < 4 * (1 - loss) ** 0.5 / loss / thefts**0.5


def test_a_run_in_which_there_is_nothing_to_attack_is_no_attack_that_failed() -> None:
    """`paper` has no groups: neither table nor command says 0 of so many."""
    for name in ("group-theft", "newcomer", "expelled"):
        assert carry_out(find(ATTACKS, name), PAPER, 3) == []
        assert f"(`{name}`) | – |" in DOCUMENT.with_name("security.md").read_text()
        assert re.search(rf"^\| `{name}`: [^|]*\|[^|]*\|[^|]*\| – \| \*\*\d", DOCUMENT.read_text(), flags=re.MULTILINE)
