"""What the columns of a table say of a whole run, as figures: for `numbered`, whose rows it stands in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from bt_selfsecure.errors import UsageError
from bt_selfsecure.sweep.circumstances import Circumstances
from bt_selfsecure.sweep.runs import RANGES, RunInfo
from bt_selfsecure.sweep.tables import Table
from bt_selfsecure.wording import quoted

FIGURES: Final = ("spacing_ms", "tx_power_dbm", "size_bytes")


def figure(table: Table, column: str, text: str) -> float:
    """Return the number in a cell of a column. Raises `UsageError`, without file and line, where it can't be one."""
    try:
        return table.figure(column, text)
    except ValueError:
        raise UsageError(f"its {column} is {quoted(text)}: give {RANGES[column]}") from None


def circumstances(
    table: Table, how: Circumstances, told: Mapping[str, str], metres: Mapping[str, str]
) -> Circumstances:
    """Return the circumstances with what a run's rows say: `told` by column, and each listener's distance in `metres`.
    Raises `UsageError`, without file and line, for what can't be."""
    distances = {name: figure(table, "distance_m", text) for name, text in metres.items()}
    alike = set(distances.values())
    said: dict[str, Any] = {name: told[name] for name in ("bearer", "sender") if told.get(name)}
    said |= {name: figure(table, name, told[name]) for name in FIGURES if told.get(name)}
    if told.get("run_distance_m"):
        of_all = said["distance_m"] = figure(table, "run_distance_m", told["run_distance_m"])
        said["distances_m"] = {name: each for name, each in distances.items() if each != of_all}
    elif distances:
        said["distance_m"] = alike.pop() if len(alike) == 1 else None
        said["distances_m"] = distances if said["distance_m"] is None else {}
    return replace(how, **said) if said else how


def run_info(
    table: Table, how: Circumstances, told: Mapping[str, str], packets: int, repeat: int, notes: Mapping[str, Any]
) -> RunInfo:
    """Return the run with these circumstances; `repeat` where no column tells it. Raises `UsageError`, without file and
    line, for what can't be."""
    if told.get("repeat"):
        repeat = int(figure(table, "repeat", told["repeat"]))
    info = how.run(packets, repeat, notes)
    return replace(info, started=_moment(told["started"])) if told.get("started") else info


def _moment(text: str) -> datetime:
    try:
        started = datetime.fromisoformat(text)
        return (started if started.tzinfo else started.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise UsageError(f"its started is {quoted(text)}: give a date, as 2026-05-01T12:00:00Z") from None
