"""Which runs are counted together: those that were made alike, at one place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, replace
from itertools import pairwise
from typing import Any, Final, NamedTuple

from bt_selfsecure.errors import UsageError
from bt_selfsecure.sweep.results import Setting
from bt_selfsecure.sweep.runs import RunInfo, StoredRun
from bt_selfsecure.sweep.store import Store

CONDITIONS: Final = "conditions"
"""Key of a run's notes: names and values, free, of what was so at this run (a room, noise)."""
MEANT_APART: Final = 1.1
"""Where no plan tells, numbers of packets that differ by less than this factor are one that was meant."""


class SettingKey(NamedTuple):
    """Holds what runs have in common whose packets are counted together.

    Runs without a distance of their own, as in a recording where each listener has another, are together whatever their
    listeners' distances.
    """

    setting: Setting
    listeners: tuple[str, ...]
    distances_m: tuple[tuple[str, float], ...]

    @classmethod
    def of(cls, run: StoredRun, chosen: Sequence[str] = ()) -> SettingKey:
        """Return the setting of a run, whatever its N. Of the listeners only those that are `chosen`; all where none
        is."""
        info = run.info
        names = tuple(sorted(name for name in run.listeners if not chosen or name in chosen))
        metres = sorted(info.distances_m.items()) if info.distance_m is not None else ()
        return cls(
            Setting(
                info.distance_m,
                info.bearer,
                info.size_bytes,
                None,
                info.sender,
                info.tx_power_dbm,
                conditions_of(info),
            ),
            names,
            tuple((name, at) for name, at in metres if name in names),
        )

    @property
    def order(self) -> tuple[object, ...]:
        """Return a key to sort by, nearest first."""
        return tuple((value is None, value) for value in (*astuple(self.setting), *self[1:]))


def by_setting(store: Store, chosen: Sequence[str] = ()) -> dict[SettingKey, list[StoredRun]]:
    """Return all runs that count, nearest setting first. Raises `UsageError` if there are none, or none with a chosen
    listener."""
    runs = store.runs()
    if not runs:
        raise UsageError(
            f"there is no run in the sweep {str(store.path)!r}: add some with `sweep run` or `sweep import`"
        )
    names = sorted({name for run in runs for name in run.listeners})
    if strangers := [name for name in chosen if name not in names]:
        raise UsageError(f"no run has a listener {strangers[0]!r}: the sweep has {', '.join(names)}")
    places: dict[SettingKey, list[StoredRun]] = {}
    for run in runs:
        if (key := SettingKey.of(run, chosen)).listeners:
            places.setdefault(key, []).append(run)
    settings: dict[SettingKey, list[StoredRun]] = {}
    manifests = store.manifests()
    for key, there in places.items():
        apart = key.setting.distance_m is not None and _packets_are_meant(there, manifests)
        alike = len({run.info.packets for run in there}) == 1
        for run in there:
            packets = run.info.packets if apart or alike else None
            settings.setdefault(key._replace(setting=replace(key.setting, packets=packets)), []).append(run)
    return dict(sorted(settings.items(), key=lambda item: item[0].order))


def conditions_of(info: RunInfo) -> tuple[tuple[str, str], ...]:
    """Return what was so at a run, by name."""
    told = info.notes.get(CONDITIONS)
    return tuple(sorted((str(name), str(value)) for name, value in told.items())) if isinstance(told, Mapping) else ()


def stands(info: RunInfo, listener: str) -> float | None:
    """Return the metres of a listener from the sender; None if nobody told.

    A plan's distance is Bob's: of an Eve, who stays where she is, it says nothing.
    """
    roles = info.notes.get("roles")
    is_eve = isinstance(roles, Mapping) and listener in roles.get("eves", ())
    return info.distances_m.get(listener, None if is_eve else info.distance_m)


def _packets_are_meant(runs: Iterable[StoredRun], manifests: Mapping[int, Mapping[str, Any]]) -> bool:
    """Return whether runs of one place that differ in N were meant to.

    So it is if their plans name several N. Where there is no plan: if each N came more than once and none is close to
    another, for a log that was cut, or heard its last packet a little earlier, is neither.
    """
    lengths = Counter(run.info.packets for run in runs)
    planned = {number for run in runs for number in _planned(manifests.get(run.manifest, {}))}
    if planned:
        return len(planned) > 1
    return min(lengths.values()) > 1 and all(more > MEANT_APART * less for less, more in pairwise(sorted(lengths)))


def _planned(manifest: Mapping[str, Any]) -> Iterable[int]:
    sweep = (manifest.get("plan") or {}).get("sweep") or {}
    return sweep.get("packets") or ()
