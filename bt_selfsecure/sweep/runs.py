"""What a sweep's record says of a run, but for its packets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

CONDITIONS: Final = "conditions"
"""Key of a run's notes: names and values, free, of what was so at this run (a room, noise)."""


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
