"""Tables of what each receiver heard and when, as runs: `time[,receiver][,rssi][,sender]`, a row for each packet."""

from __future__ import annotations

import math
import re
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from bt_selfsecure.errors import UnreadableError, UsageError
from bt_selfsecure.sweep.circumstances import Circumstances
from bt_selfsecure.sweep.numbered import condition_columns
from bt_selfsecure.sweep.packing import Reception
from bt_selfsecure.sweep.runs import DBM
from bt_selfsecure.sweep.store import Store
from bt_selfsecure.sweep.tables import Progress, Table
from bt_selfsecure.wording import quoted, shortened, unprintable

if TYPE_CHECKING:
    from bt_selfsecure.sweep.joining import Joined, JoinedRun, KnownTiming

UNITS: Final = {"time_s": 1.0, "time_ms": 1e-3, "time_us": 1e-6, "time_ns": 1e-9}
TIMES: Final = ("time", "timestamp", *UNITS)
SENDERS: Final = ("sender", "address", "mac", "id", "device")
EPOCH_S: Final = (1e9, 4e9)
"""Seconds since 1970, from 2001 to 2096: such a number, or one a thousand times larger and so on, is a date."""
ADDRESS: Final = re.compile(r"(?:[0-9a-f]{2}[:-]?){5}[0-9a-f]{2}", re.IGNORECASE)


@dataclass(slots=True)
class _Log:
    """This is one receiver's rows of one sender and run."""

    times: array[float] = field(default_factory=lambda: array("d"))
    levels: array[float] = field(default_factory=lambda: array("d"))
    """dBm; NaN where none is known."""


class LogKey(NamedTuple):
    """This makes a log of its own."""

    run: str
    sender: str


def column(table: Table) -> str | None:
    """Return the name of the column that has the time; None if there is none."""
    return next((name for name in TIMES if name in table.columns), None)


def add_to(store: Store, tables: Mapping[str, Table], how: Circumstances, source: Any, progress: Progress) -> int:
    """Join them, add each run, and return how many. `tables` are by listener, "" where a column tells. How they were
    joined is in the manifest of these runs. Raises `UsageError`, which names file and fault."""
    try:
        import numpy as np

        from bt_selfsecure.sweep.joining import join
    except ImportError as error:
        raise UsageError(
            f"to join logs by time needs {error.name}: install it with pip install 'bt-selfsecure[sweep]'"
        ) from error
    if how.first is not None or how.last is not None:
        raise UsageError("--first and --last are of packets with numbers: leave them out where logs are joined by time")
    log = _Read(tables, how)
    name = ", ".join(str(table.file) for table in tables.values())
    joins: list[tuple[LogKey, Joined]] = []
    for key, by_receiver in sorted(log.logs.items()):
        try:
            times = {name: np.frombuffer(each.times) for name, each in by_receiver.items()}
            joins.append((key, join(times, _told(how), progress)))
        except UsageError as error:
            whose = f", of {key.sender}" if key.sender else ""
            raise UsageError(f"{name}{f', run {key.run}' if key.run else ''}{whose}: {error}") from None
    said = log.spelled
    named = {key: store.hashed(said[key]) if ADDRESS.fullmatch(key.sender) else key.sender for key, _ in joins}
    store.begin(
        {
            **store.manifest,
            "joined": [{"run": key.run, "sender": named[key]} | joined.as_json() for key, joined in joins],
        }
    )
    added, repeats = 0, store.count()
    for key, joined in joins:
        mine = replace(how, spacing_ms=round(1000 * joined.interval_s, 3), sender=named[key] or how.sender)
        for burst in joined.bursts:
            info = mine.run(burst.packets, repeats + added, how.notes(source, log.conditions[key]))
            if log.calendar:
                info = replace(info, started=datetime.fromtimestamp(burst.began, UTC))
            store.add(info, _receptions(log.logs[key], burst))
            added += 1
    return added


def _told(how: Circumstances) -> KnownTiming:
    from bt_selfsecure.sweep.joining import KnownTiming

    interval = how.interval_ms / 1000 if how.interval_ms else None
    return KnownTiming(interval, how.clock_offsets_s, how.one_clock, how.pause_s, how.packets)


def _receptions(logs: Mapping[str, _Log], burst: JoinedRun) -> Iterator[Reception]:
    for name, rows in burst.heard.items():
        levels, copies = logs[name].levels, burst.copies[name].tolist()
        for seq, row in enumerate(rows.tolist()):
            yield Reception(seq, name, row >= 0, levels[row] if row >= 0 else None, copies[seq])


class _Read:
    """This is what all tables have, sorted by time."""

    def __init__(self, tables: Mapping[str, Table], how: Circumstances) -> None:
        """Read all. Raises `UsageError` with the file, and the line if it is one's fault."""
        self.how = how
        self.logs: dict[LogKey, dict[str, _Log]] = {}
        self.conditions: dict[LogKey, dict[str, str]] = {}
        self.spelled: dict[LogKey, str] = {}
        """The sender as it stands in the first row."""
        self.others: Counter[str] = Counter()
        """Rows of senders that were not asked for."""
        dated = [self._take(table, name) for name, table in tables.items()]
        self.calendar = all(dated)
        """Whether it is known when it was."""
        if not self.logs:
            others = ", ".join(f"{name or 'nobody'} ({rows:,})" for name, rows in self.others.most_common(5))
            why = (
                f"of --sender {how.whose}: the rows are of {others}" if others else "at all: one for each packet heard"
            )
            raise UsageError(f"{', '.join(str(table.file) for table in tables.values())} has no row {why}")
        for by_receiver in self.logs.values():
            for name in filter(None, tables):
                by_receiver.setdefault(name, _Log())
            for log in by_receiver.values():
                order = sorted(range(len(log.times)), key=log.times.__getitem__)
                log.times, log.levels = (array("d", map(each.__getitem__, order)) for each in (log.times, log.levels))

    def _take(self, table: Table, listener: str) -> bool:
        when = column(table)
        for name, missing in (("time", when is None), ("receiver", not listener and "receiver" not in table.columns)):
            if missing:
                raise UsageError(f"{table.file} has no column {name!r}: logs joined by time have time,receiver[,rssi]")
        wanted = condition_columns(table, self.how)
        sender = next((name for name in SENDERS if name in table.columns), "")
        time, receiver, level, run, whose = (
            table.columns.get(name, -1) for name in (when or "", "receiver", "rssi", "run", sender)
        )
        table.require_flat((when or "", "receiver", "rssi", "run", sender, *wanted))
        moment = _Moment(table, when or "")
        asked = self.how.whose.casefold() if self.how.whose and sender else None
        for line, cells in table.rows:
            key = LogKey(cells[run] if run >= 0 else "", cells[whose].casefold() if whose >= 0 else "")
            if asked is not None and key.sender != asked:
                self.others[key.sender] += 1
                continue
            name = listener or cells[receiver]
            try:
                rssi = table.figure("rssi", cells[level]) if level >= 0 and cells[level] else math.nan
            except ValueError:
                raise table.fault(line, f"rssi is {quoted(cells[level])}: give {DBM}, or nothing") from None
            if not name:
                raise table.fault(line, "the receiver has no name")
            said = {name: cells[index] for name, index in wanted.items() if cells[index]}
            if said != self.conditions.setdefault(key, said):
                here, before = (shortened(str(each)) for each in (said, self.conditions[key]))
                raise table.fault(line, f"the conditions are {here} here and {before} before: they are one a run")
            self.spelled.setdefault(key, cells[whose] if whose >= 0 else "")
            by_receiver = self.logs.setdefault(key, {})
            if name not in by_receiver:
                for why in filter(None, map(unprintable, (name, *key, *said.values()))):
                    raise table.fault(line, why)
            log = by_receiver.setdefault(name, _Log())
            log.times.append(moment(line, cells[time]))
            log.levels.append(rssi)
        return moment.settled()


class _Moment:
    """This reads one table's times, which are all of one kind: dates, seconds, or thousandths of them and so on."""

    def __init__(self, table: Table, name: str) -> None:
        self.table, self.unit = table, UNITS.get(name)
        self.kind = ""
        """"date", "epoch" with its power of ten, or "seconds"."""
        self.zoned = True
        self.whole = self.unit is None
        """Whether no number has a fraction yet: then they may be of seconds or of less."""

    def __call__(self, line: int, text: str) -> float:
        """Return the time in seconds. Raises `UsageError` with file and line."""
        try:
            value, kind = self.table.number(text), "seconds"
        except ValueError:
            value, kind = self._date(line, text), "date"
        if kind == "seconds":
            self.whole = self.whole and not {".", ","} & set(text)
            if self.unit is not None:
                value *= self.unit
            else:
                power = next((power for power in (0, 3, 6, 9) if EPOCH_S[0] <= value / 10**power < EPOCH_S[1]), None)
                if power is not None:
                    value, kind = value / 10**power, f"epoch{power}"
        self.kind = self.kind or kind
        if kind != self.kind:
            raise self.table.fault(
                line, f"time is {quoted(text)}, of another kind than before: give dates, or one unit"
            )
        return value

    def settled(self) -> bool:
        """Return whether the times are of the calendar. Raises `UsageError` if seconds can't be told from
        thousandths."""
        if self.kind == "seconds" and self.whole:
            raise UsageError(
                f"{self.table.file}: times are whole numbers, of seconds or of less: call the column time_s, time_ms "
                "or time_us"
            )
        return self.kind.startswith("epoch") or (self.kind == "date" and self.zoned)

    def _date(self, line: int, text: str) -> float:
        try:
            date = datetime.fromisoformat(text)
            if not datetime.min.year < date.year < datetime.max.year:  # no clock's, and offsets go beyond it
                raise UnreadableError(text)
        except ValueError:
            raise self.table.fault(
                line, f"time is {quoted(text)}: give seconds, as 12.345, or a date, as 2026-05-01T12:00:00.123Z"
            ) from None
        self.zoned = self.zoned and date.tzinfo is not None
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
