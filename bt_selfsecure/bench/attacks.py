"""What an attack on any protocol is, and how it is carried out: run by run, each counted for what came of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from bt_selfsecure.errors import LocalError

Ends = TypeVar("Ends")
"""What the two ends run against an attack, in the protocol's own terms."""


@dataclass(frozen=True, slots=True)
class Trial:
    """Holds what came of one run: whether the attack did what it is for, whether both ends ended with a key, whether
    one noticed."""

    success: bool
    established: bool
    noticed: bool


@dataclass(frozen=True, slots=True)
class Attack(Generic[Ends]):
    """Is a row of the table."""

    name: str
    """As on the command line."""
    what: str
    needs: str
    aim: str
    """What counts as a success."""
    run: Callable[[Ends, int], Trial]
    """One run, of this seed."""
    runs: int = 100
    remedy: str = ""
    """What helps, in one sentence."""
    setting: str = ""
    """Burst and losses of a run, or whatever else makes it."""
    meaning: str = ""
    """What the figures are, and are not, for a key of full length."""


def find(attacks: Iterable[Attack[Ends]], name: str) -> Attack[Ends]:
    """Return the attack of this name. Raises `LocalError` for any other."""
    for attack in attacks:
        if attack.name == name:
            return attack
    raise LocalError(f"there is no attack {name!r}")


def carry_out(
    attack: Attack[Ends],
    ends: Ends,
    runs: int | None = None,
    told: Callable[[int], None] = lambda number: None,
    *,
    seed: int = 0,
) -> list[Trial]:
    """Carry out so many runs, or as many as its row has; seeds from `seed` on. `told` gets the number of each that is
    over."""
    trials = []
    for number in range(runs or attack.runs):
        trials.append(attack.run(ends, seed + number))
        told(number + 1)
    return trials
