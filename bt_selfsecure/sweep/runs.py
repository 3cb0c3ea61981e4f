"""What a sweep's record says of a run, but for its packets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain
from typing import Any, Final, NamedTuple

from bt_selfsecure.wording import unprintable

CONDITIONS: Final = "conditions"
"""Key of a run's notes: names and values, free, of what was so at this run (a room, noise)."""


class Range(NamedTuple):
    """This says which numbers can be what they are said to be."""

    least: float
    most: float
    unit: str = ""
    whole: bool = False
    """Whether none has a fraction."""

    def __str__(self) -> str:
        return f"a {'whole ' * self.whole}number from {self.least:,} to {self.most:,}{self.unit}"

    def has(self, value: float) -> bool:
        """Return whether it is one of them; NaN never is."""
        return self.least <= value <= self.most


METRES: Final = Range(0.001, 1_000_000, " m")
SPACING_MS: Final = Range(0.001, 3_600_000, " ms")
DBM: Final = Range(-200, 100, " dBm")
"""Receivers tell -127 to 20 (Core Vol 4 Part E 7.7.65.2), and 127 where they don't know it."""
MOST: Final = 2**31 - 1
"""That an export has room for."""
RANGES: Final[Mapping[str, Range]] = {
    "distance_m": METRES,
    "run_distance_m": METRES,
    "spacing_ms": SPACING_MS,
    "tx_power_dbm": DBM,
    "rssi": DBM,
    "size_bytes": Range(1, MOST, " bytes", whole=True),
    "repeat": Range(0, MOST, whole=True),
    "copies": Range(0, MOST, whole=True),
}
"""By the name of a column."""


@dataclass(frozen=True, slots=True)
class RunInfo:
    """Says how one burst was sent."""

    distance_m: float | None
    """Between the sender and the place under test, metres; None where each listener has a distance of its own."""
    bearer: str
    size_bytes: int
    """Of a packet's payload."""
    spacing_ms: float
    """From one packet to the next."""
    packets: int
    """N, as sent: seq runs from 0 to N-1."""
    sender: str
    repeat: int = 0
    """Counts the runs of one point from 0."""
    tx_power_dbm: float | None = None
    started: datetime | None = None
    """With a time zone; None where nobody noted it."""
    distances_m: Mapping[str, float] = field(default_factory=dict)
    """Of listeners that are not `distance_m` away from the sender."""
    notes: Mapping[str, Any] = field(default_factory=dict)
    """Anything that JSON can hold: height, orientation, walls, Wi-Fi channel, temperature."""


def conditions_of(info: RunInfo) -> tuple[tuple[str, str], ...]:
    """Return what was so at a run, by name."""
    told = info.notes.get(CONDITIONS)
    return tuple(sorted((str(name), str(value)) for name, value in told.items())) if isinstance(told, Mapping) else ()


def fault_of(info: RunInfo, listeners: Iterable[str]) -> str:
    """Return what is wrong with a run that can't have been, as a sentence; "" with any other."""
    figures = [(name, getattr(info, name)) for name in RANGES if hasattr(info, name)]
    figures += [("distance_m", each) for each in info.distances_m.values()]
    names = (*listeners, info.sender, info.bearer, *chain.from_iterable(conditions_of(info)))
    faults = chain(
        (
            f"its {name} is {value:g}: give {RANGES[name]}"
            for name, value in figures
            if value is not None and not RANGES[name].has(value)
        ),
        map(unprintable, names),
    )
    return next(filter(None, faults), "")


@dataclass(frozen=True, slots=True)
class StoredRun:
    """Is a run that is in the record, whole."""

    id: int
    manifest: int
    info: RunInfo
    listeners: tuple[str, ...]
    """In the order of their first appearance in the file."""
    withdrawn: str | None
    """Why it does not count any more; None if it does."""
