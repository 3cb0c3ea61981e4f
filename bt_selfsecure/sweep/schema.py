"""The SQL of a sweep's record: tables, the triggers that keep them, and the search for a run that is there already."""

from __future__ import annotations

from typing import Final

APPLICATION_ID: Final = 0x62747377
"""ASCII "btsw", in the file's header; a node's journal has "btss"."""
VERSION: Final = 1
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
    notes TEXT NOT NULL CHECK (json_valid(notes))
);
CREATE TABLE receiver (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE listener (
    run INTEGER NOT NULL REFERENCES run,
    receiver INTEGER NOT NULL REFERENCES receiver,
    distance_m REAL CHECK (distance_m > 0),
    PRIMARY KEY (run, receiver)
) WITHOUT ROWID;
CREATE TABLE reception (
    run INTEGER NOT NULL,
    receiver INTEGER NOT NULL,
    seq INTEGER NOT NULL CHECK (seq >= 0),
    heard INTEGER NOT NULL CHECK (heard IN (0, 1)),
    rssi REAL,
    copies INTEGER NOT NULL CHECK (copies >= heard),
    lost_in_queue INTEGER NOT NULL CHECK (lost_in_queue IN (0, 1 - heard)),
    PRIMARY KEY (run, receiver, seq)
) WITHOUT ROWID;
CREATE TABLE withdrawn (run INTEGER PRIMARY KEY REFERENCES run, written TEXT NOT NULL, reason TEXT NOT NULL);
"""
NAMES: Final = ("salt", "manifest", "run", "receiver", "listener", "reception", "withdrawn")
APPEND_ONLY: Final = "".join(
    f"CREATE TRIGGER {name}_no_{verb} BEFORE {verb} ON {name} "
    "BEGIN SELECT RAISE(ABORT, 'a sweep is append-only'); END;\n"
    for name in NAMES
    for verb in ("update", "delete")
)
TWIN: Final = """
SELECT old.id FROM run AS old JOIN run AS new ON new.id = :run
WHERE old.id < :before AND old.packets = new.packets AND old.id NOT IN (SELECT run FROM withdrawn)
AND coalesce(old.started = new.started, 1)
AND coalesce(json_extract(old.notes, '$.burst') = json_extract(new.notes, '$.burst'), 1)
AND NOT EXISTS (SELECT receiver FROM listener WHERE run = old.id EXCEPT SELECT receiver FROM listener WHERE run = :run)
AND NOT EXISTS (SELECT receiver FROM listener WHERE run = :run EXCEPT SELECT receiver FROM listener WHERE run = old.id)
AND NOT EXISTS (
    SELECT 1 FROM reception AS a CROSS JOIN reception AS b
    WHERE a.run = :run AND b.run = old.id AND b.receiver = a.receiver AND b.seq = a.seq
    AND (a.heard <> b.heard OR a.lost_in_queue <> b.lost_in_queue OR a.rssi <> b.rssi)
)
ORDER BY old.id LIMIT 1
"""
"""Each run that could be one is compared packet by packet up to the first that differs."""
