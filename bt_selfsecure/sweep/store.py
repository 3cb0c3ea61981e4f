"""The record of a sweep: an SQLite file to which whole runs are added, and from which nothing is ever taken away.

    manifest   what was measured with: versions, kernel, firmware, hashed addresses, plan, commit (a JSON object)
    run        one burst: where, how, when, and under which manifest
    receiver   the names of the listeners
    listener   a listener in a run, and its own distance if that is not the run's
    reception  one row a run and listener: what became of each packet, packed (see `packing`)
    withdrawn  runs that don't count any more, because they were done again; they stay

A run is written in one transaction, which SQLite puts on the disk before `Store.add` returns: after a crash or a flat
battery it is there whole or not at all. Triggers refuse every UPDATE and DELETE. docs/sweep.md explains each column. A
record of version 1 is read as it is, and migrated with the first transaction that writes to it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from bt_selfsecure.errors import LocalError, UsageError
from bt_selfsecure.sweep import old_record
from bt_selfsecure.sweep.database import Database
from bt_selfsecure.sweep.gathering import gathered
from bt_selfsecure.sweep.packing import Packed, Reception, digest
from bt_selfsecure.sweep.plain_json import json_of
from bt_selfsecure.sweep.runs import CONDITIONS, RunInfo, StoredRun, fault_of
from bt_selfsecure.sweep.schema import TWINS
from bt_selfsecure.wording import printable

_NOWHERE_ELSE: Final[Mapping[str, float]] = {}
"""One for all runs, as what else many of them have in common: records have thousands."""
BATCH: Final = 512
"""Runs that are read together."""
_FIGURES: Final = ("distance_m", "bearer", "size_bytes", "spacing_ms", "packets", "sender", "repeat", "tx_power_dbm")


class Store(Database):
    """This is a sweep's file. Open it in a `with`, or `close()` it.

    with Store("sweep.db", create=True) as store:
        store.begin({"plan": {...}, "nodes": {"bob": {"address": store.hashed("B8:27:EB:12:34:56")}}})
        run = store.add(RunInfo(3.0, "l2cap", 64, 10, 200, "alice"), receptions)
        store.withdraw([run], "somebody stood in the way")
        done = [(run.info.distance_m, run.info.repeat) for run in store.runs()]
    """

    def __init__(
        self,
        path: str | Path,
        *,
        create: bool = False,
        migrating: Callable[[int, int], None] = lambda done, of: None,
    ) -> None:
        """As `Database`."""
        super().__init__(path, create=create, migrating=migrating)
        self.addresses: dict[str, str] = {}
        """By their hash, for who imported them; never in the file."""
        self._manifest: int | None = None
        self._content: dict[str, Any] = {}
        self._receivers: dict[str, int] = {}
        """Ids by name, of those that this transaction needed."""

    # --- Write --------------------------------------------------------------------------------------------------------

    @contextmanager
    def together(self) -> Iterator[None]:
        """Write what is begun, added and withdrawn within at the end, all of it or (after any error) nothing."""
        before = self._manifest, self._content
        try:
            with self._faults(), self._transaction(part=True):
                yield
        except BaseException:
            self._manifest, self._content = before
            self._receivers.clear()
            raise

    @property
    def manifest(self) -> Mapping[str, Any]:
        """Return what `begin` was told."""
        return self._content

    def begin(self, manifest: Mapping[str, Any]) -> int:
        """Begin a manifest under which the runs added from now on were measured, and return its id.

        Nothing is written if the last manifest of the file is the same, as after a resumed plan.
        """
        content = json_of(manifest, sort_keys=True, ensure_ascii=False)
        self._content = dict(manifest)
        with self._faults(), self._transaction():
            last = self._db.execute("SELECT id, content FROM manifest ORDER BY id DESC LIMIT 1").fetchone()
            if last and last[1] == content:
                self._manifest = int(last[0])
            else:
                cursor = self._db.execute("INSERT INTO manifest (written, content) VALUES (?, ?)", (_now(), content))
                self._manifest = int(cursor.lastrowid or 0)
        return self._manifest

    def add(self, info: RunInfo, receptions: Iterable[Reception]) -> int:
        """Write one run whole, from a row a packet and listener; its id.

        When it returns, the run is on the disk. UsageError, and nothing written, unless each listener has exactly the
        packets 0..N-1, no packet was both heard and lost in the queue, and every figure is a possible one. `LocalError`
        without `begin`.
        """
        with self._faults():
            listeners = gathered(receptions, info.packets)
        rows = sum(each.rows for each in listeners.values())
        if not listeners or rows < info.packets * len(listeners):
            raise UsageError(
                f"a run of {info.packets} packets with {len(listeners)} listeners needs a row for each of both, "
                f"not {rows}: half a run is not recorded"
            )
        return self.add_packed(info, {name: each.packed(range(info.packets)) for name, each in listeners.items()})

    def add_packed(self, info: RunInfo, listeners: Mapping[str, Packed]) -> int:
        """Write one run whole, as `add`, from what is kept of each listener; its id."""
        if self._manifest is None:
            raise LocalError("a run belongs to a manifest: call begin() first")
        if any(each.packets != info.packets for each in listeners.values()):
            raise LocalError("a listener has not the packets of the run")
        if strangers := sorted(set(info.distances_m) - set(listeners)):
            raise UsageError(f"there is a distance for {strangers[0]!r}, but no reception")
        if why := fault_of(info, listeners):
            raise UsageError(why)
        if not self._db.in_transaction:
            self._receivers.clear()
        with self._faults(), self._transaction():
            run = self._insert_run(info, self._manifest, digest(listeners))
            for name, each in listeners.items():
                receiver = self._listener(run, name, info.distances_m.get(name))
                row = run, receiver, each.heard, each.lost_in_queue, each.copies, each.rssi
                self._db.execute("INSERT INTO reception VALUES (?, ?, ?, ?, ?, ?)", row)
        return run

    def withdraw(self, runs: Iterable[int], reason: str) -> None:
        """From now on these runs don't count, all of them or (UsageError) none; for a place that is done again.

        Their rows stay. Raises `UsageError` for a run that is not there or was withdrawn before.
        """
        with self._faults(), self._transaction():
            for run in runs:
                known = self._db.execute(
                    "SELECT reason FROM run LEFT JOIN withdrawn ON run = id WHERE id = ?", (run,)
                ).fetchone()
                if known is None:
                    raise UsageError(f"there is no run {run} in {str(self.path)!r}: `sweep list` shows which there are")
                if known[0] is not None:
                    raise UsageError(f"run {run} was withdrawn before ({known[0]}): leave it out")
                self._db.execute("INSERT INTO withdrawn VALUES (?, ?, ?)", (run, _now(), reason))

    def twin(self, run: int, before: int) -> int | None:
        """Return a run that counts, of an id below `before`, and has the very same packets as `run`; None if there is
        none.

        Each listener of the one is of the other, too, and heard the same; RSSI, beginning and burst do not differ.
        """
        with self._faults():
            candidates = self._db.execute(TWINS, {"run": run, "before": before}).fetchall()
        if not candidates:
            return None
        new = self.packed(run)
        for (candidate,) in candidates:
            old = self.packed(candidate)
            if old.keys() == new.keys() and all(each.may_be(old[name]) for name, each in new.items()):
                return int(candidate)
        return None

    def _insert_run(self, info: RunInfo, manifest: int, fates: bytes) -> int:
        row = {name: getattr(info, name) for name in _FIGURES} | {
            "manifest": manifest,
            "started": info.started and info.started.astimezone(UTC).isoformat(timespec="milliseconds"),
            "notes": json_of(info.notes, sort_keys=True, ensure_ascii=False),
            "fates": fates,
        }
        names = ", ".join(row)
        cursor = self._db.execute(f"INSERT INTO run ({names}) VALUES (:{names.replace(', ', ', :')})", row)
        return int(cursor.lastrowid or 0)

    def _listener(self, run: int, name: str, distance_m: float | None) -> int:
        if name not in self._receivers:
            self._db.execute("INSERT OR IGNORE INTO receiver (name) VALUES (?)", (name,))
            (self._receivers[name],) = self._db.execute("SELECT id FROM receiver WHERE name = ?", (name,)).fetchone()
        self._db.execute("INSERT INTO listener VALUES (?, ?, ?)", (run, self._receivers[name], distance_m))
        return self._receivers[name]

    # --- Read ---------------------------------------------------------------------------------------------------------

    def runs(self, *, withdrawn: bool = False, since: int = 0, among: Sequence[int] | None = None) -> list[StoredRun]:
        """Return all runs that count, from an id on, as they were recorded; with `withdrawn`, those that don't, too.
        Only those `among` these ids, if any are given."""
        chosen = "" if among is None else f" AND run IN ({','.join(map(str, map(int, among)))})"
        listeners: dict[int, list[str]] = {}
        distances: dict[int, dict[str, float]] = {}
        with self._faults():
            for run, name, metres in self._db.execute(
                "SELECT run, name, distance_m FROM listener JOIN receiver ON receiver.id = receiver WHERE run >= ?"
                f"{chosen} ORDER BY run, id",
                (since,),
            ):
                listeners.setdefault(run, []).append(printable(name))
                if metres is not None:
                    distances.setdefault(run, {})[printable(name)] = metres
            runs, alike, parsed = [], dict[tuple[str, ...], tuple[str, ...]](), lru_cache(_notes)
            for run, manifest, reason, started, notes, *figures in self._db.execute(
                f"SELECT id, manifest, reason, started, notes, {', '.join(_FIGURES)} FROM run "
                f"LEFT JOIN withdrawn ON run = id WHERE id >= ?{chosen.replace('run IN', 'id IN')} ORDER BY id",
                (since,),
            ):
                names = tuple(listeners.pop(run, ()))
                if names and (withdrawn or reason is None):  # none: it was added meanwhile
                    told: dict[str, Any] = dict(zip(_FIGURES, figures, strict=True))
                    info = RunInfo(
                        **told | {name: printable(told[name]) for name in ("bearer", "sender")},
                        started=datetime.fromisoformat(started) if started else None,
                        distances_m=distances.get(run, _NOWHERE_ELSE),
                        notes=parsed(notes),
                    )
                    runs.append(StoredRun(run, manifest, info, alike.setdefault(names, names), reason))
        return runs

    def in_batches(self, among: Sequence[int]) -> Iterator[StoredRun]:
        """Yield those `among` these ids that count: as `runs`, but never many at once."""
        for start in range(0, len(among), BATCH):
            yield from self.runs(among=among[start : start + BATCH])

    def count(self, *, withdrawn: bool = False) -> int:
        """Return how many `runs` there are."""
        with self._faults():
            (runs,) = self._db.execute("SELECT count(*) FROM run").fetchone()
            (others,) = self._db.execute("SELECT count(*) FROM withdrawn").fetchone()
        return int(runs) if withdrawn else int(runs - others)

    def next_id(self) -> int:
        """Return one more than the last run's."""
        with self._faults():
            (last,) = self._db.execute("SELECT max(id) FROM run").fetchone()
        return (last or 0) + 1

    def manifests(self, since: int = 0) -> dict[int, dict[str, Any]]:
        """Return every manifest by its id, in the order of writing; with `since`, those of the runs from this id on."""
        which = "WHERE id IN (SELECT manifest FROM run WHERE id >= ?)" if since else "WHERE id > ?"
        with self._faults():
            rows = self._db.execute(f"SELECT id, content FROM manifest {which} ORDER BY id", (since,)).fetchall()
        return {number: json.loads(content) for number, content in rows}

    def packed(self, run: int) -> dict[str, Packed]:
        """Return what is kept of each listener, in the order of `StoredRun.listeners`. Raises `UsageError` if it is
        damaged."""
        with self._faults():
            if self._version() == old_record.OLD:
                (packets,) = self._db.execute("SELECT packets FROM run WHERE id = ?", (run,)).fetchone()
                packed = old_record.packed(self._db, run, packets)
                return {printable(name): each for name, each in packed.items()}
            rows = self._db.execute(
                "SELECT name, packets, heard, lost_in_queue, copies, rssi FROM reception "
                "JOIN run ON run.id = run JOIN receiver ON receiver.id = receiver WHERE run = ? ORDER BY receiver",
                (run,),
            ).fetchall()
        return {printable(name): Packed(*kept) for name, *kept in rows}

    def receptions(self, run: int) -> Iterator[Reception]:
        """Yield the rows of one run, listener by listener in the order of `StoredRun.listeners`, packets in order."""
        for name, each in self.packed(run).items():
            yield from each.rows(name)

    def hashed(self, address: str) -> str:
        """Return a name for a device's address that this file uses everywhere, and that tells nothing to whom lacks the
        file.

        SHA-256 of a salt, which stays in the file and in no export, and the address; 8 octets of it in hex. `addresses`
        has the address by its name until the file is closed.
        """
        with self._faults():
            (salt,) = self._db.execute("SELECT salt FROM salt").fetchone()
        name = hashlib.sha256(salt + address.upper().encode()).hexdigest()[:16]
        self.addresses[name] = address
        return name


def _notes(text: str) -> dict[str, Any]:
    """Return the notes of a run. Names of its conditions, as all that come out of the record, can be printed: one of
    before has any."""
    notes: dict[str, Any] = json.loads(text)
    if isinstance(told := notes.get(CONDITIONS), dict):
        notes[CONDITIONS] = {
            printable(name): printable(value) if isinstance(value, str) else value for name, value in told.items()
        }
    return notes


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
