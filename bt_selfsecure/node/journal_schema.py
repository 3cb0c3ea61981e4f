"""The formats of the journal's file, each as the SQL that brings a file from the one before to it."""

from __future__ import annotations

from typing import Final

MIGRATIONS: Final = (
    """
    CREATE TABLE peer (
        address TEXT PRIMARY KEY,
        record TEXT NOT NULL,        -- protocols/haoxiao/record.py's JSON; holds keys
        facts TEXT NOT NULL,         -- of the establishment, JSON; nothing secret
        synchronised INTEGER NOT NULL -- whether the two ends ever agreed on where they stand, so that rounds counted
    ) STRICT;
    CREATE TABLE outbox (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        peer TEXT NOT NULL,
        fragment BLOB NOT NULL
    ) STRICT;
    CREATE TABLE partial (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        peer TEXT NOT NULL,
        piece BLOB NOT NULL
    ) STRICT;
    CREATE TABLE inbox (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        peer TEXT NOT NULL,
        port INTEGER NOT NULL,
        time REAL NOT NULL,          -- seconds since 1970-01-01 UTC, for people
        message BLOB NOT NULL
    ) STRICT;
    """,
    # Digests; and a peer's row has its address for a number, since an index that contradicts a damaged cell makes
    # SQLite refuse the row's end. A row of format 1 that has the wrong types gets no digest.
    """
    ALTER TABLE peer RENAME TO old_peer;
    CREATE TABLE peer (
        id INTEGER PRIMARY KEY,      -- the device address, 48 bits
        record TEXT NOT NULL,
        facts TEXT NOT NULL,
        synchronised INTEGER NOT NULL,
        digest BLOB NOT NULL
    ) STRICT;
    INSERT OR IGNORE INTO peer
        SELECT address_number(CAST(address AS BLOB)), record, facts, synchronised, row_digest(
            address_number(CAST(address AS BLOB)), CAST(record AS BLOB), CAST(facts AS BLOB), synchronised
        ) FROM old_peer
        WHERE typeof(record) = 'text' AND typeof(facts) = 'text' AND typeof(synchronised) = 'integer'
            AND address_number(CAST(address AS BLOB)) IS NOT NULL;
    DROP TABLE old_peer;
    ALTER TABLE outbox ADD COLUMN digest BLOB NOT NULL DEFAULT x'';
    ALTER TABLE partial ADD COLUMN digest BLOB NOT NULL DEFAULT x'';
    ALTER TABLE inbox ADD COLUMN digest BLOB NOT NULL DEFAULT x'';
    UPDATE outbox SET digest = row_digest(id, CAST(peer AS BLOB), fragment)
        WHERE typeof(peer) = 'text' AND typeof(fragment) = 'blob';
    UPDATE partial SET digest = row_digest(id, CAST(peer AS BLOB), piece)
        WHERE typeof(peer) = 'text' AND typeof(piece) = 'blob';
    UPDATE inbox SET digest = row_digest(id, CAST(peer AS BLOB), port, time, message)
        WHERE typeof(peer) = 'text' AND typeof(port) = 'integer' AND typeof(time) = 'real' AND typeof(message) = 'blob';
    """,
    # Groups, of which this node is the owner or a member.
    """
    CREATE TABLE group_state (
        id INTEGER PRIMARY KEY,      -- the group's own, without its lowest bit
        peer TEXT NOT NULL,          -- address of the owner
        record TEXT NOT NULL,        -- protocols/haoxiao/group/record.py's JSON; holds keys
        digest BLOB NOT NULL
    ) STRICT;
    """,
    # A digest is of the table's name, too: where a damaged number lets a table begin on another one's page, rows of
    # that one are none of it.
    """
    UPDATE peer SET digest = row_digest('peer', id, CAST(record AS BLOB), CAST(facts AS BLOB), synchronised)
        WHERE typeof(record) = 'text' AND typeof(facts) = 'text' AND typeof(synchronised) = 'integer'
            AND digest = row_digest(id, CAST(record AS BLOB), CAST(facts AS BLOB), synchronised);
    UPDATE outbox SET digest = row_digest('outbox', id, CAST(peer AS BLOB), fragment)
        WHERE typeof(peer) = 'text' AND typeof(fragment) = 'blob'
            AND digest = row_digest(id, CAST(peer AS BLOB), fragment);
    UPDATE partial SET digest = row_digest('partial', id, CAST(peer AS BLOB), piece)
        WHERE typeof(peer) = 'text' AND typeof(piece) = 'blob' AND digest = row_digest(id, CAST(peer AS BLOB), piece);
    UPDATE inbox SET digest = row_digest('inbox', id, CAST(peer AS BLOB), port, time, message)
        WHERE typeof(peer) = 'text' AND typeof(port) = 'integer' AND typeof(time) = 'real' AND typeof(message) = 'blob'
            AND digest = row_digest(id, CAST(peer AS BLOB), port, time, message);
    UPDATE group_state SET digest = row_digest('group_state', id, CAST(peer AS BLOB), CAST(record AS BLOB))
        WHERE typeof(peer) = 'text' AND typeof(record) = 'text'
            AND digest = row_digest(id, CAST(peer AS BLOB), CAST(record AS BLOB));
    """,
)
"""Each brings a file from its place in the tuple to the next; the newest is the file's user_version."""
DIGESTS_NAME_TABLES: Final = 4
"""The first format whose digests have the table's name in them."""
