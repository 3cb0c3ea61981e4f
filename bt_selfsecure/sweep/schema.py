"""The SQL of a sweep's record: tables, the triggers that keep them, and the search for a run that is there already."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

APPLICATION_ID: Final = 0x62747377
"""ASCII "btsw", in the file's header; a node's journal has "btss"."""
VERSION: Final = 2
TABLES: Final = """
CREATE TABLE salt (salt BLOB NOT NULL);
CREATE TABLE manifest (
    id INTEGER PRIMARY KEY,
    written TEXT NOT NULL,
    content TEXT NOT NULL CHECK (json_valid(content))
);
CREATE TABLE run (
    id INTEGER PRIMARY KEY,
    manifest INTEGER NOT NULL REFERENCES manifest,
    distance_m REAL CHECK (distance_m > 0),
    bearer TEXT NOT NULL,
    size_bytes INTEGER NOT NULL CHECK (size_bytes > 0),
    spacing_ms REAL NOT NULL CHECK (spacing_ms > 0),
    packets INTEGER NOT NULL CHECK (packets > 0),
    sender TEXT NOT NULL,
    repeat INTEGER NOT NULL CHECK (repeat >= 0),
    tx_power_dbm REAL,
    started TEXT,
    notes TEXT NOT NULL CHECK (json_valid(notes)),
    fates BLOB NOT NULL DEFAULT x''
);
CREATE INDEX run_fates ON run (fates);
CREATE TABLE receiver (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE listener (
    run INTEGER NOT NULL REFERENCES run,
    receiver INTEGER NOT NULL REFERENCES receiver,
    distance_m REAL CHECK (distance_m > 0),
    PRIMARY KEY (run, receiver)
) WITHOUT ROWID;
CREATE TABLE reception (
    run INTEGER NOT NULL REFERENCES run,
    receiver INTEGER NOT NULL REFERENCES receiver,
    heard BLOB NOT NULL,
    lost_in_queue BLOB,
    copies BLOB,
    rssi BLOB,
    PRIMARY KEY (run, receiver)
);
CREATE TABLE withdrawn (run INTEGER PRIMARY KEY REFERENCES run, written TEXT NOT NULL, reason TEXT NOT NULL);
"""
NAMES: Final = ("salt", "manifest", "run", "receiver", "listener", "reception", "withdrawn")


def append_only(name: str) -> Iterator[str]:
    """Return the triggers of a table that refuse every change."""
    for verb in ("update", "delete"):
        yield (
            f"CREATE TRIGGER {name}_no_{verb} BEFORE {verb} ON {name} "
            "BEGIN SELECT RAISE(ABORT, 'a sweep is append-only'); END"
        )


TWINS: Final = """
SELECT old.id FROM run AS old JOIN run AS new ON new.id = :run
WHERE old.fates = new.fates AND old.id < :before AND old.id NOT IN (SELECT run FROM withdrawn)
AND coalesce(old.started = new.started, 1)
AND coalesce(json_extract(old.notes, '$.burst') = json_extract(new.notes, '$.burst'), 1)
ORDER BY old.id
"""
"""Runs that may be the same as one: of the same listeners, who heard the same. Their levels are compared after that."""
