"""Which runs are counted together: those that were made alike, at one place."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, replace
from itertools import pairwise
from typing import Any, Final, NamedTuple

from bt_selfsecure.errors import UsageError
from bt_selfsecure.sweep.results import Setting
from bt_selfsecure.sweep.runs import RunInfo, StoredRun, conditions_of
from bt_selfsecure.sweep.store import Store

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


class _Place:
    """These are runs that have all in common but perhaps their N."""

    def __init__(self) -> None:
        self.runs, self.packets = array("q"), array("q")
        """Of each run its id, and its N."""
        self.manifests: set[int] = set()


def by_setting(store: Store, chosen: Sequence[str] = ()) -> dict[SettingKey, array[int]]:
    """Return the ids of all runs that count, nearest setting first. UsageError if there are none, or none with a chosen
    listener."""
    names: set[str] = set()
    places: dict[SettingKey, _Place] = {}
    for run in store.in_batches(range(store.next_id())):
        names.update(run.listeners)
        if (key := SettingKey.of(run, chosen)).listeners:
            place = places.setdefault(key, _Place())
            place.runs.append(run.id)
            place.packets.append(run.info.packets)
            place.manifests.add(run.manifest)
    if not names:
        raise UsageError(
            f"there is no run in the sweep {str(store.path)!r}: add some with `sweep run` or `sweep import`"
        )
    if strangers := [name for name in chosen if name not in names]:
        raise UsageError(f"no run has a listener {strangers[0]!r}: the sweep has {', '.join(sorted(names))}")
    settings: dict[SettingKey, array[int]] = {}
    manifests = store.manifests()
    for key, place in places.items():
        apart = key.setting.distance_m is not None and _packets_are_meant(place, manifests)
        alike = len(set(place.packets)) == 1
        for run_id, packets in zip(place.runs, place.packets, strict=True):
            its = key._replace(setting=replace(key.setting, packets=packets if apart or alike else None))
            settings.setdefault(its, array("q")).append(run_id)
    return dict(sorted(settings.items(), key=lambda item: item[0].order))


def stands(info: RunInfo, listener: str) -> float | None:
    """Return the metres of a listener from the sender; None if nobody told.

    A plan's distance is Bob's: of an Eve, who stays where she is, it says nothing.
    """
    roles = info.notes.get("roles")
    is_eve = isinstance(roles, Mapping) and listener in roles.get("eves", ())
    return info.distances_m.get(listener, None if is_eve else info.distance_m)


def _packets_are_meant(place: _Place, manifests: Mapping[int, Mapping[str, Any]]) -> bool:
    """Return whether runs of one place that differ in N were meant to.

    So it is if their plans name several N. Where there is no plan: if each N came more than once and none is close to
    another, for a log that was cut, or heard its last packet a little earlier, is neither.
    """
    lengths = Counter(place.packets)
    planned = {number for manifest in place.manifests for number in _planned(manifests.get(manifest, {}))}
    if planned:
        return len(planned) > 1
    return min(lengths.values()) > 1 and all(more > MEANT_APART * less for less, more in pairwise(sorted(lengths)))


def _planned(manifest: Mapping[str, Any]) -> Iterable[int]:
    sweep = (manifest.get("plan") or {}).get("sweep") or {}
    return sweep.get("packets") or ()
