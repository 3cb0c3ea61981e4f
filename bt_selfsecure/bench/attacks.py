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
    run: Callable[[Ends, int], Trial | None]
    """One run, of this seed; None where such ends have nothing of what is attacked."""
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
    """Carry out so many runs, or as many as its row has; seeds from `seed` on: none against ends that have nothing of
    what is attacked. `told` gets the number of each that is over."""
    trials: list[Trial] = []
    for number in range(runs or attack.runs):
        if (trial := attack.run(ends, seed + number)) is None:
            break
        trials.append(trial)
        told(number + 1)
    return trials
