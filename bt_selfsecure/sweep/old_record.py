"""Records of version 1, which had a row a packet and listener: read as they are, and migrated before anything is added.

It takes one transaction: after a crash the record is of the one version or the other, whole.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import Final

from bt_selfsecure.errors import UsageError
from bt_selfsecure.sweep.gathering import gathered
from bt_selfsecure.sweep.packing import Packed, Reception, digest
from bt_selfsecure.sweep.schema import TABLES, VERSION, append_only

OLD: Final = 1
_ROWS: Final = """
SELECT seq, name, heard, rssi, copies, lost_in_queue FROM reception JOIN receiver ON receiver.id = receiver
WHERE run = ? ORDER BY receiver, seq
"""


def packed(db: sqlite3.Connection, run: int, packets: int) -> dict[str, Packed]:
    """Return what is kept of a run's listeners, in the order of their ids. Raises `UsageError` where a row lacks."""
    with closing(db.execute(_ROWS, (run,))) as rows:
        listeners = gathered(map(Reception._make, rows), packets)
    if any(each.rows < packets for each in listeners.values()):
        raise UsageError(f"rows of run {run} are missing, the record is damaged: take it from a copy, and go on there")
    return {name: each.packed(range(packets)) for name, each in listeners.items()}


def migrate(db: sqlite3.Connection, progress: Callable[[int, int], None]) -> None:
    """Make it one of today's version, within the transaction that is open. `progress` is told runs done and to do."""
    (table,) = (each for each in TABLES.split(";\n") if "CREATE TABLE reception " in each)
    db.execute(table.replace("CREATE TABLE reception ", "CREATE TABLE reception_packed "))
    db.execute("DROP TRIGGER run_no_update")
    db.execute("ALTER TABLE run ADD COLUMN fates BLOB NOT NULL DEFAULT x''")
    db.execute("CREATE INDEX run_fates ON run (fates)")
    runs = db.execute("SELECT id, packets FROM run").fetchall()
    ids = dict(db.execute("SELECT name, id FROM receiver"))
    for done, (run, packets) in enumerate(runs):
        progress(done, len(runs))
        listeners = packed(db, run, packets)
        for name, each in listeners.items():
            row = run, ids[name], each.heard, each.lost_in_queue, each.copies, each.rssi
            db.execute("INSERT INTO reception_packed VALUES (?, ?, ?, ?, ?, ?)", row)
        db.execute("UPDATE run SET fates = ? WHERE id = ?", (digest(listeners), run))
    progress(len(runs), len(runs))
    db.execute("DROP TABLE reception")
    db.execute("ALTER TABLE reception_packed RENAME TO reception")
    for statement in (*append_only("reception"), next(iter(append_only("run")))):
        db.execute(statement)
    db.execute(f"PRAGMA user_version = {VERSION}")
