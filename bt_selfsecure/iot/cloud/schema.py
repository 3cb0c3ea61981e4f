"""What the database has, version by version: each is brought to the next in one transaction, and none is skipped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from bt_selfsecure.errors import UsageError
from bt_selfsecure.iot.cloud.sql import CloudDatabase

MIGRATIONS: Final[Sequence[str]] = (
    """
CREATE TABLE member (no {serial}, id {blob} NOT NULL UNIQUE, role INTEGER NOT NULL, name TEXT NOT NULL,
    expires BIGINT NOT NULL, signed {blob}, first_ms BIGINT NOT NULL);
CREATE TABLE stream (gateway INTEGER NOT NULL, epoch {blob} NOT NULL, last BIGINT NOT NULL,
    PRIMARY KEY (gateway, epoch));
CREATE TABLE counter (last BIGINT NOT NULL);
INSERT INTO counter VALUES (0);
CREATE TABLE signature (signer {blob} NOT NULL, member INTEGER NOT NULL, PRIMARY KEY (signer, member));
CREATE TABLE connection (number BIGINT PRIMARY KEY, member INTEGER NOT NULL, gateway INTEGER NOT NULL,
    joined_ms BIGINT NOT NULL, left_ms BIGINT, reason TEXT NOT NULL);
CREATE INDEX connection_member ON connection (member, number);
CREATE INDEX connection_open ON connection (gateway, member) WHERE left_ms IS NULL;
CREATE TABLE alert (number BIGINT PRIMARY KEY, device INTEGER NOT NULL, gateway INTEGER NOT NULL, time BIGINT NOT NULL,
    received BIGINT NOT NULL, alert TEXT NOT NULL, text TEXT NOT NULL, value TEXT NOT NULL, seen_by TEXT,
    seen_ms BIGINT, UNIQUE (device, alert));
CREATE TABLE newest (device INTEGER PRIMARY KEY, time BIGINT NOT NULL, readings TEXT NOT NULL);
CREATE TABLE reading (number BIGINT NOT NULL, device INTEGER NOT NULL, gateway INTEGER NOT NULL, time BIGINT NOT NULL,
    day INTEGER NOT NULL, readings TEXT NOT NULL) {by_day};
CREATE TABLE reading_day (day INTEGER PRIMARY KEY);
CREATE TABLE command (id TEXT PRIMARY KEY, device INTEGER NOT NULL, who TEXT NOT NULL, name TEXT NOT NULL,
    argument TEXT NOT NULL, asked_ms BIGINT NOT NULL, done INTEGER, text TEXT NOT NULL);
CREATE INDEX command_device ON command (device, asked_ms);
CREATE TABLE token (name TEXT PRIMARY KEY, hash {blob} NOT NULL UNIQUE, role TEXT NOT NULL, partner {blob},
    created_ms BIGINT NOT NULL, expires_ms BIGINT NOT NULL);
""",
)


def migrate(base: CloudDatabase, migrations: Sequence[str] = MIGRATIONS) -> int:
    """Bring the database to the newest version, and return from which. Raises `UsageError` for one of a later program,
    and `SqlError`."""
    with base.transaction():
        base.execute("CREATE TABLE IF NOT EXISTS version (version INTEGER NOT NULL)")
        rows = base.execute("SELECT version FROM version")
        found: int = rows[0][0] if rows else 0
        if found > len(migrations):
            raise UsageError(
                f"the database is of version {found}, and this program knows {len(migrations)}: upgrade the program"
            )
        for migration in migrations[found:]:
            for statement in filter(str.strip, migration.format(**base.types).split(";")):
                base.execute(statement)
        if not rows:
            base.execute("INSERT INTO version VALUES (?)", (len(migrations),))
        elif found < len(migrations):
            base.execute("UPDATE version SET version = ?", (len(migrations),))
    return found
