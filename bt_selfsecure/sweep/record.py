"""Between the machine's runs and the file: what is done, what is to be written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from bt_selfsecure.sweep.events import Record
from bt_selfsecure.sweep.manifest import collect
from bt_selfsecure.sweep.orders import RunReception
from bt_selfsecure.sweep.packing import Reception
from bt_selfsecure.sweep.plan import Place, Plan, Roles, Run
from bt_selfsecure.sweep.runs import RunInfo, StoredRun
from bt_selfsecure.sweep.store import Store
from bt_selfsecure.sweep.tally import Tally


class Book:
    """Is the file of one plan's sweep, in the plan's words."""

    def __init__(self, store: Store, plan: Plan) -> None:
        self._store, self._plan = store, plan
        self._manifest: dict[str, Any] = {}

    @property
    def path(self) -> Path:
        """Return where the record is, from anywhere."""
        return self._store.path.absolute()

    def done(self) -> dict[Run, Tally]:
        """Return the runs of this plan that are stored and count. Those of other plans in the same file are left
        alone."""
        return {run: self._tally(stored) for run, stored in self._stored()}

    def write(self, record: Record, started: datetime, nodes: Mapping[str, Mapping[str, Any]]) -> None:
        """Write one whole run, in one transaction. `nodes` are facts that change, by node."""
        plan, run = self._plan, record.run
        spacing = plan.spacing_ms(run.bearer)
        if run.packets > 1 and record.sent.seconds > 0:
            spacing = 1000 * record.sent.seconds / (run.packets - 1)
        info = RunInfo(
            distance_m=run.place.distance_m,
            bearer=run.bearer,
            size_bytes=plan.size_bytes(run.bearer),
            spacing_ms=round(spacing, 3),
            packets=run.packets,
            sender=record.roles.alice,
            repeat=run.repeat,
            tx_power_dbm=plan.sweep.tx_power_dbm,
            started=started,
            distances_m=dict(zip(record.roles.eves, plan.roles.eve_distances_m, strict=False)),
            notes={
                "turn": run.place.turn,
                "tag": record.sent.tag,
                "roles": asdict(record.roles),
                "person": plan.sweep.notes,
                "sender": record.sent.counters,
                "nodes": nodes,
            },
        )
        self._store.add(info, _rows(record.receptions))

    def withdraw(self, place: Place, reason: str) -> None:
        """Withdraw all that was stored of this place, at once."""
        self._store.withdraw([stored.id for run, stored in self._stored() if run.place == place], reason)

    def begin(self, nodes: Mapping[str, Mapping[str, Any]], addresses: Mapping[str, str]) -> None:
        """Runs from now on were made with these; facts that do not change, by node."""
        hashed = {name: {"address": self._store.hashed(address)} for name, address in addresses.items()}
        told = {name: hashed[name] | dict(nodes.get(name, {})) for name in hashed}
        self._manifest = self._manifest or collect(plan=asdict(self._plan))
        self._store.begin(self._manifest | {"nodes": told})

    def _stored(self) -> Iterator[tuple[Run, StoredRun]]:
        wanted = {run for place in self._plan.places() for run in self._plan.runs_at(place)}
        for stored in self._store.runs():
            info = stored.info
            if info.distance_m is None or not isinstance(turn := info.notes.get("turn"), int):
                continue
            run = Run(Place(turn, info.distance_m), info.bearer, info.packets, info.repeat)
            if run in wanted and _roles(info) == self._plan.roles_in(turn):
                yield run, stored

    def _tally(self, stored: StoredRun) -> Tally:
        receptions = {}
        for name, packed in self._store.packed(stored.id).items():
            fates = packed.fates()
            queued = frozenset(seq for seq, fate in enumerate(fates) if fate == 2)
            receptions[name] = RunReception(bytes(fate == 1 for fate in fates), (), queued)
        return Tally.of(receptions, _roles(stored.info).bob)


def _roles(info: RunInfo) -> Roles:
    roles = info.notes.get("roles", {})
    return Roles(roles.get("alice", ""), roles.get("bob", ""), tuple(roles.get("eves", ())))


def _rows(receptions: Mapping[str, RunReception]) -> Iterator[Reception]:
    for name, reception in receptions.items():
        for seq, (copies, rssi) in enumerate(zip(reception.copies, reception.rssi, strict=True)):
            yield Reception(seq, name, copies > 0, rssi, copies, seq in reception.queued)
