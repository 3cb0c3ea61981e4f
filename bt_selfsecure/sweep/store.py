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
import os
import secrets
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Self

from bt_selfsecure.errors import LocalError, UsageError
from bt_selfsecure.files import is_there
from bt_selfsecure.sweep import old_record
from bt_selfsecure.sweep.gathering import gathered
from bt_selfsecure.sweep.packing import Packed, Reception, digest
from bt_selfsecure.sweep.refusals import refused
from bt_selfsecure.sweep.runs import RunInfo, StoredRun
from bt_selfsecure.sweep.schema import APPLICATION_ID, NAMES, TABLES, TWINS, VERSION, append_only

LOCKED_S: Final = 60.0
"""How long to wait for another process, as one that analyses while the sweep goes on: rather late than a run lost."""

_FIGURES: Final = ("distance_m", "bearer", "size_bytes", "spacing_ms", "packets", "sender", "repeat", "tx_power_dbm")


class Store:
    """A sweep's file. Open it in a `with`, or `close()` it.

    with Store("sweep.db", create=True) as store:
        store.begin({"plan": {...}, "nodes": {"bob": {"address": store.hashed("B8:27:EB:12:34:56")}}})
        run = store.add(RunInfo(3.0, "l2cap", 64, 10, 200, "alice"), receptions)
        store.withdraw([run], "somebody stood in the way")
        done = [(run.info.distance_m, run.info.repeat) for run in store.runs()]

    A file that this made is taken away again if an error ends the `with` before there is a run in it.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        create: bool = False,
        migrating: Callable[[int, int], None] = lambda done, all_of_them: None,
    ) -> None:
        """UsageError if there is no such file (and `create` is not set), or it is not a sweep's.

        `migrating` is told the runs done and to do where an old record is migrated.
        """
        self.path: Final = Path(path)
        self._migrating: Final = migrating
        self._migrated = False
        if not create and not (is_there(self.path) and self.path.is_file()):
            raise UsageError(f"there is no sweep {str(path)!r}: name the file that `sweep run` or `sweep import` wrote")
        if not create and self.path.stat().st_size == 0:
            raise UsageError(f"{str(path)!r} is empty, not a sweep: name the file that `sweep run` or `import` wrote")
        self._made: Final = not self.path.exists()
        self.addresses: dict[str, str] = {}
        """By their hash, for who imported them; never in the file."""
        self._manifest: int | None = None
        self._content: dict[str, Any] = {}
        self._receivers: dict[str, int] = {}
        """Ids by name, of those that were needed; forgotten with whatever is not written after all."""
        self._file: os.stat_result | None = None
        try:
            self._db: Final = sqlite3.connect(self.path, timeout=LOCKED_S, isolation_level=None)
        except sqlite3.Error as error:
            raise refused(self.path, error) from error
        try:
            self._prepare()
            self._file = self.path.stat() if self.path.exists() else None  # SQLite keeps ":memory:" nowhere
        except BaseException:
            self._take_away_if_empty()
            self._db.close()
            raise

    def _prepare(self) -> None:
        with self._faults():
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute("PRAGMA foreign_keys = ON")
            if self._db.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,):
                with self._transaction():
                    # Another process may have been quicker while this one waited for the lock.
                    if self._db.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,):
                        self._make_tables()
            (application,) = self._db.execute("PRAGMA application_id").fetchone()
            (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if application != APPLICATION_ID:
            raise UsageError(f"{str(self.path)!r} is an SQLite file, but not of a sweep: name another")
        if version not in (VERSION, old_record.OLD):
            raise UsageError(
                f"the sweep {str(self.path)!r} has version {version}, this program knows {VERSION}: update it"
            )

    def _make_tables(self) -> None:
        for statement in TABLES.split(";\n"):
            self._db.execute(statement)
        for statement in (each for name in NAMES for each in append_only(name)):
            self._db.execute(statement)
        self._db.execute("INSERT INTO salt VALUES (?)", (secrets.token_bytes(16),))
        self._db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        self._db.execute(f"PRAGMA user_version = {VERSION}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        if kind is not None:
            self._take_away_if_empty()
        self.close()

    def _take_away_if_empty(self) -> None:
        """If this made the file and it has no run. Under its lock: whoever waits to write there is told (`_locked`)."""
        if not self._made:
            return
        with suppress(sqlite3.Error, OSError):
            self._db.execute("BEGIN EXCLUSIVE")
            tables = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if tables == (0,) or self._db.execute("SELECT count(*) FROM run").fetchone() == (0,):
                self.path.unlink()

    def close(self) -> None:
        """Twice is no harm. Where an old record was migrated, the space that its rows took is given back."""
        if self._migrated:
            self._migrated = False
            with suppress(sqlite3.Error):  # it takes space while it goes on; without it nothing is lost
                self._db.execute("VACUUM")
        self._db.close()

    # --- Write --------------------------------------------------------------------------------------------------------

    @contextmanager
    def together(self) -> Iterator[None]:
        """What is begun, added and withdrawn within is written at the end, all of it or (after any error) nothing."""
        before = self._manifest, self._content
        try:
            with self._faults(), self._transaction(part=True):
                yield
        except BaseException:
            self._manifest, self._content = before
            raise

    @property
    def manifest(self) -> Mapping[str, Any]:
        """What `begin` was told."""
        return self._content

    def begin(self, manifest: Mapping[str, Any]) -> int:
        """The runs added from now on were measured under this manifest; its id.

        Nothing is written if the last manifest of the file is the same, as after a resumed plan.
        """
        content = json.dumps(manifest, sort_keys=True, ensure_ascii=False)
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
        with self._faults(), self._transaction():
            run = self._insert_run(info, self._manifest, digest(listeners))
            for name, each in listeners.items():
                receiver = self._listener(run, name, info.distances_m.get(name))
                row = run, receiver, each.heard, each.lost_in_queue, each.copies, each.rssi
                self._db.execute("INSERT INTO reception VALUES (?, ?, ?, ?, ?, ?)", row)
        return run

    def withdraw(self, runs: Iterable[int], reason: str) -> None:
        """From now on these runs don't count, all of them or (UsageError) none; for a place that is done again.

        Their rows stay. UsageError for a run that is not there or was withdrawn before.
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
        """A run that counts, of an id below `before`, and has the very same packets as `run`; None if there is none.

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
            "notes": json.dumps(info.notes, sort_keys=True, ensure_ascii=False),
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

    def runs(self, *, withdrawn: bool = False) -> list[StoredRun]:
        """All runs that count, in the order of recording; with `withdrawn`, also those that don't any more."""
        listeners: dict[int, list[str]] = {}
        distances: dict[int, dict[str, float]] = {}
        with self._faults():
            for run, name, metres in self._db.execute(
                "SELECT run, name, distance_m FROM listener JOIN receiver ON receiver.id = receiver ORDER BY run, id"
            ):
                listeners.setdefault(run, []).append(name)
                if metres is not None:
                    distances.setdefault(run, {})[name] = metres
            rows = self._db.execute(
                f"SELECT id, manifest, reason, started, notes, {', '.join(_FIGURES)} FROM run "
                "LEFT JOIN withdrawn ON run = id ORDER BY id"
            ).fetchall()
        runs = []
        for run, manifest, reason, started, notes, *figures in rows:
            if withdrawn or reason is None:
                info = RunInfo(
                    **dict(zip(_FIGURES, figures, strict=True)),
                    started=datetime.fromisoformat(started) if started else None,
                    distances_m=distances.get(run, {}),
                    notes=json.loads(notes),
                )
                runs.append(StoredRun(run, manifest, info, tuple(listeners[run]), reason))
        return runs

    def count(self, *, withdrawn: bool = False) -> int:
        """How many `runs` there are."""
        with self._faults():
            (runs,) = self._db.execute("SELECT count(*) FROM run").fetchone()
            (others,) = self._db.execute("SELECT count(*) FROM withdrawn").fetchone()
        return int(runs) if withdrawn else int(runs - others)

    def manifests(self) -> dict[int, dict[str, Any]]:
        """Every manifest by its id, in the order of writing."""
        with self._faults():
            rows = self._db.execute("SELECT id, content FROM manifest ORDER BY id").fetchall()
        return {number: json.loads(content) for number, content in rows}

    def packed(self, run: int) -> dict[str, Packed]:
        """What is kept of each listener, in the order of `StoredRun.listeners`. UsageError if it is damaged."""
        with self._faults():
            if self._version() == old_record.OLD:
                (packets,) = self._db.execute("SELECT packets FROM run WHERE id = ?", (run,)).fetchone()
                return old_record.packed(self._db, run, packets)
            rows = self._db.execute(
                "SELECT name, packets, heard, lost_in_queue, copies, rssi FROM reception "
                "JOIN run ON run.id = run JOIN receiver ON receiver.id = receiver WHERE run = ? ORDER BY receiver",
                (run,),
            ).fetchall()
        return {name: Packed(*kept) for name, *kept in rows}

    def receptions(self, run: int) -> Iterator[Reception]:
        """The rows of one run, listener by listener in the order of `StoredRun.listeners`, packets in order."""
        for name, each in self.packed(run).items():
            yield from each.rows(name)

    def hashed(self, address: str) -> str:
        """A name for a device's address that this file uses everywhere, and that tells nothing to whom lacks the file.

        SHA-256 of a salt, which stays in the file and in no export, and the address; 8 octets of it in hex. `addresses`
        has the address by its name until the file is closed.
        """
        with self._faults():
            (salt,) = self._db.execute("SELECT salt FROM salt").fetchone()
        name = hashlib.sha256(salt + address.upper().encode()).hexdigest()[:16]
        self.addresses[name] = address
        return name

    # --- How it is kept -----------------------------------------------------------------------------------------------

    @contextmanager
    def _transaction(self, *, part: bool = False) -> Iterator[None]:
        """All or nothing. Within another one it is of that one's; a `part` can be given up without the rest."""
        within = self._db.in_transaction
        if within:
            if not part:
                yield
                return
            self._db.execute("SAVEPOINT part")
            try:
                yield
            except BaseException:
                self._receivers.clear()
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK TO part")
                raise
            finally:
                if self._db.in_transaction:
                    self._db.execute("RELEASE part")
            return
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._same_file()
            if old := self._version() == old_record.OLD:
                old_record.migrate(self._db, self._migrating)
            yield
            self._db.execute("COMMIT")
            self._migrated = self._migrated or old
        except BaseException:
            self._receivers.clear()
            if self._db.in_transaction:  # a full disk has ended it already
                self._db.execute("ROLLBACK")
            raise

    def _version(self) -> int:
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        return int(version)

    def _same_file(self) -> None:
        """UsageError if the file was removed or replaced: what is written then would be lost with the last handle."""
        if self._file is None:
            return
        try:
            if os.path.samestat(self.path.stat(), self._file):
                return
        except OSError:
            pass
        raise UsageError(f"the sweep {str(self.path)!r} was removed while it was open: begin again")

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OverflowError, UnicodeEncodeError) as error:
            raise refused(self.path, error) from error


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
