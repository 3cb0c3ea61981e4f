"""The record of a sweep: an SQLite file to which whole runs are added, and from which nothing is ever taken away.

    manifest   what was measured with: versions, kernel, firmware, hashed addresses, plan, commit (a JSON object)
    run        one burst: where, how, when, and under which manifest
    receiver   the names of the listeners
    listener   a listener in a run, and its own distance if that is not the run's
    reception  one row a packet and listener
    withdrawn  runs that don't count any more, because they were done again; they stay

A run is written in one transaction, which SQLite puts on the disk before `Store.add` returns: after a crash or a flat
battery it is there whole or not at all. Triggers refuse every UPDATE and DELETE. docs/sweep.md explains each column.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import secrets
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

from bt_selfsecure.errors import UsageError
from bt_selfsecure.sweep.refusals import refused
from bt_selfsecure.sweep.schema import APPEND_ONLY, APPLICATION_ID, TABLES, TWIN, VERSION

LOCKED_S: Final = 60.0
"""How long to wait for another process, as one that analyses while the sweep goes on: rather late than a run lost."""

_FIGURES: Final = ("distance_m", "bearer", "size_bytes", "spacing_ms", "packets", "sender", "repeat", "tx_power_dbm")


@dataclass(frozen=True, slots=True)
class RunInfo:
    """One burst: how it was sent."""

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


class Reception(NamedTuple):
    """What became of one packet at one listener."""

    seq: int
    receiver: str
    heard: bool
    rssi: float | None = None
    """dBm, of the best copy."""
    copies: int | None = None
    """How often it came (an advertisement is repeated); None is once, if it was heard."""
    lost_in_queue: bool = False
    """It never went on the air for this listener: dropped or flushed in the sender's queue. No loss of the radio's."""


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A run that is in the record, whole."""

    id: int
    manifest: int
    info: RunInfo
    listeners: tuple[str, ...]
    """In the order of their first appearance in the file."""
    withdrawn: str | None
    """Why it does not count any more; None if it does."""


class Store:
    """A sweep's file. Open it in a `with`, or `close()` it.

    with Store("sweep.db", create=True) as store:
        store.begin({"plan": {...}, "nodes": {"bob": {"address": store.hashed("B8:27:EB:12:34:56")}}})
        run = store.add(RunInfo(3.0, "l2cap", 64, 10, 200, "alice"), receptions)
        store.withdraw([run], "somebody stood in the way")
        done = [(run.info.distance_m, run.info.repeat) for run in store.runs()]

    A file that this made is taken away again if an error ends the `with` before there is a run in it.
    """

    def __init__(self, path: str | Path, *, create: bool = False) -> None:
        """UsageError if there is no such file (and `create` is not set), or it is not a sweep's."""
        self.path: Final = Path(path)
        if not create and not self.path.is_file():
            raise UsageError(f"there is no sweep {str(path)!r}: name the file that `sweep run` or `sweep import` wrote")
        if not create and self.path.stat().st_size == 0:
            raise UsageError(f"{str(path)!r} is empty, not a sweep: name the file that `sweep run` or `import` wrote")
        self._made: Final = not self.path.exists()
        self.addresses: dict[str, str] = {}
        """By their hash, for who imported them; never in the file."""
        self._manifest: int | None = None
        self._content: dict[str, Any] = {}
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
        if version != VERSION:
            raise UsageError(
                f"the sweep {str(self.path)!r} has version {version}, this program knows {VERSION}: update it"
            )

    def _make_tables(self) -> None:
        for statement in TABLES.split(";\n"):
            self._db.execute(statement)
        for statement in APPEND_ONLY.splitlines():
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
        """Twice is no harm."""
        self._db.close()

    # --- Write --------------------------------------------------------------------------------------------------------

    @contextmanager
    def together(self) -> Iterator[None]:
        """What is begun, added and withdrawn within is written at the end, all of it or (after any error) nothing."""
        before = self._manifest, self._content
        try:
            with self._faults(), self._transaction():
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
        """Write one run whole, with one row a packet and listener; its id.

        When it returns, the run is on the disk. UsageError, and nothing written, unless each listener has exactly the
        packets 0..N-1, no packet was both heard and lost in the queue, and every figure is a possible one. ValueError
        without `begin`.
        """
        if self._manifest is None:
            raise ValueError("a run belongs to a manifest: call begin() first")
        with self._faults(), self._transaction():
            run = self._insert_run(info, self._manifest)
            self._insert_receptions(run, info, receptions)
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
            found = self._db.execute(TWIN, {"run": run, "before": before}).fetchone()
        return int(found[0]) if found else None

    def _insert_run(self, info: RunInfo, manifest: int) -> int:
        row = {name: getattr(info, name) for name in _FIGURES} | {
            "manifest": manifest,
            "started": info.started and info.started.astimezone(UTC).isoformat(timespec="milliseconds"),
            "notes": json.dumps(info.notes, sort_keys=True, ensure_ascii=False),
        }
        names = ", ".join(row)
        cursor = self._db.execute(f"INSERT INTO run ({names}) VALUES (:{names.replace(', ', ', :')})", row)
        return int(cursor.lastrowid or 0)

    def _insert_receptions(self, run: int, info: RunInfo, receptions: Iterable[Reception]) -> None:
        ids: dict[str, int] = {}

        def rows() -> Iterator[tuple[object, ...]]:
            for seq, name, heard, rssi, copies, lost_in_queue in receptions:
                if name not in ids:
                    ids[name] = self._listener(run, name, info.distances_m.get(name))
                if not 0 <= seq < info.packets:
                    raise UsageError(f"packet {seq} at {name!r} is not one of the {info.packets} of the run")
                yield run, ids[name], seq, bool(heard), rssi, int(heard) if copies is None else copies, lost_in_queue

        cursor = self._db.executemany("INSERT INTO reception VALUES (?, ?, ?, ?, ?, ?, ?)", rows())
        if not ids or cursor.rowcount != info.packets * len(ids):
            raise UsageError(
                f"a run of {info.packets} packets with {len(ids)} listeners needs a row for each of both, "
                f"not {max(0, cursor.rowcount)}: half a run is not recorded"
            )
        if strangers := sorted(set(info.distances_m) - set(ids)):
            raise UsageError(f"there is a distance for {strangers[0]!r}, but no reception")

    def _listener(self, run: int, name: str, distance_m: float | None) -> int:
        self._db.execute("INSERT OR IGNORE INTO receiver (name) VALUES (?)", (name,))
        (receiver,) = self._db.execute("SELECT id FROM receiver WHERE name = ?", (name,)).fetchone()
        self._db.execute("INSERT INTO listener VALUES (?, ?, ?)", (run, receiver, distance_m))
        return int(receiver)

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

    def manifests(self) -> dict[int, dict[str, Any]]:
        """Every manifest by its id, in the order of writing."""
        with self._faults():
            rows = self._db.execute("SELECT id, content FROM manifest ORDER BY id").fetchall()
        return {number: json.loads(content) for number, content in rows}

    def receptions(self, run: int) -> Iterator[Reception]:
        """The rows of one run, listener by listener in the order of `StoredRun.listeners`, packets in order."""
        with self._faults():
            for seq, name, heard, rssi, copies, lost in self._db.execute(
                "SELECT seq, name, heard, rssi, copies, lost_in_queue FROM reception "
                "JOIN receiver ON receiver.id = receiver WHERE run = ? ORDER BY receiver, seq",
                (run,),
            ):
                yield Reception(seq, name, bool(heard), rssi, copies, bool(lost))

    def fates(self, run: int, listener: str) -> Iterator[int]:
        """What became of each packet of a run at one listener, in order: 0 missed, 1 heard, 2 lost in the queue."""
        with self._faults():
            rows = self._db.execute(
                "SELECT heard + 2 * lost_in_queue FROM reception "
                "WHERE run = ? AND receiver = (SELECT id FROM receiver WHERE name = ?) ORDER BY seq",
                (run, listener),
            )
        return chain.from_iterable(rows)  # no generator of our own: millions of packets pass here

    def means(self, run: int, listeners: Iterable[str]) -> tuple[list[float], list[float]]:
        """Copies and RSSI (dBm) of the packets that each listener heard in a run, on average; nan if nothing tells."""
        copies: list[float] = []
        rssi: list[float] = []
        with self._faults():
            for listener in listeners:
                row = self._db.execute(
                    "SELECT avg(copies), avg(rssi) FROM reception "
                    "WHERE heard AND run = ? AND receiver = (SELECT id FROM receiver WHERE name = ?)",
                    (run, listener),
                ).fetchone()
                for values, value in zip((copies, rssi), row, strict=True):
                    values.append(math.nan if value is None else float(value))
        return copies, rssi

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
    def _transaction(self) -> Iterator[None]:
        """All or nothing; within another one a part of it."""
        within = self._db.in_transaction
        if within:
            yield
            return
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._same_file()
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:  # a full disk has ended it already
                self._db.execute("ROLLBACK")
            raise

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
