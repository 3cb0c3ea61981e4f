"""How long ago something was: by the monotonic clock, since a Pi has no other that it can rely on.

Its wall clock begins in 1970 or at its last hour, leaps when it hears of the time, and may leap back. So nothing is
measured by it but what a restart lies between, and that only where the two times can be right.
"""

from __future__ import annotations

import time
from typing import Final, TypedDict

DAY_S: Final = 86_400.0
OLDEST_S: Final = 3653 * DAY_S
"""Two wall clocks that are ten years apart are not both right: 1970, where a Pi begins, and 2000 are farther away."""
UNKNOWN_S: Final = 1e15
"""On disk, the age of what is of unknown age: farther back than any clock."""


class ToldAge(TypedDict):
    """Tells an age as the local API has it: in seconds, and since when."""

    age_s: float | None
    since: float | None


def told(age: float | None) -> ToldAge:
    """Return an age as the local API tells it: in seconds, and as the moment by the wall clock as it is now; None where
    it is not known."""
    return {"age_s": age, "since": None if age is None else time.time() - age}


def kept(age: float | None) -> dict[str, float]:
    """Return the age in the form that the disk keeps."""
    now = time.time()
    return {"since": now - (UNKNOWN_S if age is None else age), "written": now}


def restored(since: float, written: float) -> float | None:
    """Return the age now, in seconds, of what was `kept` by an earlier run of this program; None where the clock can't
    tell it.

    At least: a clock that went back by less than a day has stood still meanwhile, as on a Pi without power.
    """
    age, meanwhile = written - since, time.time() - written
    if not (0 <= age <= OLDEST_S and -DAY_S <= meanwhile <= OLDEST_S):
        return None
    return age + max(0.0, meanwhile)
