"""What data from elsewhere don't say of themselves: as options tell it, beside what columns tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from bt_selfsecure.errors import UsageError
from bt_selfsecure.sweep.exporting import COLUMNS
from bt_selfsecure.sweep.runs import RunInfo
from bt_selfsecure.wording import unprintable

MOST_PACKETS: Final = 10_000_000
"""In one run: a number beyond it is a mistake, not a packet."""


@dataclass(frozen=True, slots=True)
class Circumstances:
    """These are of all runs of one import. See `RunInfo`."""

    distance_m: float | None = None
    distances_m: Mapping[str, float] = field(default_factory=dict)
    bearer: str = "le_advert"
    size_bytes: int = 64
    spacing_ms: float = 10.0
    sender: str = "alice"
    tx_power_dbm: float | None = None
    packets: int | None = None
    """N, as sent."""
    first: int | None = None
    last: int | None = None
    """The numbers of the first and the last packet that was sent."""
    kept: bool = True
    """Whether the runs go into a record. Else nobody sees how logs were joined by time."""
    whose: str | None = None
    """Of logs with a column of the sender: whose packets to take, if not everybody's."""
    interval_ms: float | None = None
    clock_offsets_s: Mapping[str, float] = field(default_factory=dict)
    one_clock: bool = False
    pause_s: float | None = None
    """What is known of logs without numbers: see `joining.KnownTiming`."""
    conditions: Mapping[str, str | None] = field(default_factory=dict)
    """What the setting depends on, besides: by name its value, or None where a column of that name has it."""

    def __post_init__(self) -> None:
        if self.one_clock and self.clock_offsets_s:
            raise UsageError("--one-clock says that no clock is ahead, --clock-offset that one is: leave one out")
        for name in ("packets", "first", "last"):
            if (number := getattr(self, name) or 0) > MOST_PACKETS:
                raise UsageError(f"--{name} {number:,} is beyond the {MOST_PACKETS:,} of a run: say what was sent")

    @property
    def counted(self) -> bool:
        """Return whether it is told which packets were sent."""
        return (self.packets, self.first, self.last) != (None, None, None)

    def refuse_clocks(self, source: str) -> None:
        """Raise `UsageError` if something is told that only logs joined by time need, which `source` does not
        become."""
        told = {
            "--clock-offset": self.clock_offsets_s,
            "--one-clock": self.one_clock,
            "--pause": self.pause_s is not None,
        }
        for option in (name for name, is_told in told.items() if is_told):
            raise UsageError(f"{source} is not joined by time, and {option} says how logs are that are: leave it out")

    def sent(self, low: int, high: int) -> range | None:
        """Return the numbers of the packets that were sent, if somebody heard `low` to `high`; None if nothing tells.

        Raises `UsageError`, without the file's name, if what is told does not fit.
        """
        first, last, packets = self.first, self.last, self.packets
        if not self.counted:
            return None
        if first is None and last is not None and packets is not None:
            first = last - packets + 1
        if first is None:
            if packets is not None and high - low + 1 == packets:
                first = low
            else:
                first = int(low > 0 and high == packets)
        if last is None:
            last = high if packets is None else first + packets - 1
        if packets is not None and last - first + 1 != packets:
            raise UsageError(
                f"--first {first} --last {last} are {last - first + 1} packets, not {packets}: leave one out"
            )
        if not first <= low <= high <= last:
            raise UsageError(
                f"packets {low} to {high} were heard, but {first} to {last} sent: say --first and --last as they were"
            )
        return range(first, last + 1)

    def notes(self, source: Any, told: Mapping[str, str] | None = None, **more: Any) -> dict[str, Any]:
        """Return the notes of a run from this source: where it came from, and its conditions, those of its columns
        too."""
        said = {name: value for name, value in self.conditions.items() if value} | dict(told or {})
        return {"imported_from": source, **more} | ({"conditions": said} if said else {})

    def run(self, packets: int, repeat: int, notes: Mapping[str, Any]) -> RunInfo:
        """Return one run of so many packets."""
        return RunInfo(
            self.distance_m,
            self.bearer,
            self.size_bytes,
            self.spacing_ms,
            packets,
            self.sender,
            repeat,
            self.tx_power_dbm,
            distances_m=self.distances_m,
            notes=notes,
        )


def conditions(words: str) -> dict[str, str | None]:
    """Return the conditions in `room,noise=loud`: room is a column, noise is loud everywhere. Raises `UsageError` for a
    name twice, none or ours."""
    told: dict[str, str | None] = {}
    for word in words.split(","):
        name, equals, value = (part.strip() for part in word.partition("="))
        name = name.casefold()
        if name in COLUMNS:
            raise UsageError(f"--condition {name}: every record has a column of this name: call it otherwise")
        if not name or name in told or (equals and not value):
            raise UsageError(f"--condition {words!r} does not name conditions: write room,noise or room=office")
        for why in filter(None, map(unprintable, (name, value))):
            raise UsageError(f"--condition: {why}")
        told[name] = value or None
    return told
