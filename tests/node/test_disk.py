"""A disk that refuses: the caller is told why and what helps, what was refused never comes, and it ends by itself."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from node_world import World, connected, is_connected, now, peer_of, read, unread, until, virtual

from bt_selfsecure.errors import UsageError
from bt_selfsecure.node.disk import refusal
from bt_selfsecure.node.journal import Journal
from bt_selfsecure.node.journal_file import JournalError
from bt_selfsecure.node.service import Node
from bt_selfsecure.node.set_aside import FILE

SHM_SIZE = sqlite3.SQLITE_IOERR_SHMSIZE
"""An I/O error for SQLite, and what a full disk comes to where the journal is opened."""
CODES = {
    sqlite3.SQLITE_FULL: "make room on it",
    SHM_SIZE: "make room on it",
    sqlite3.SQLITE_BUSY: "another program has locked the journal: end it",
    sqlite3.SQLITE_LOCKED_SHAREDCACHE: "another program has locked the journal: end it",
    sqlite3.SQLITE_IOERR_FSYNC: "see dmesg",
    sqlite3.SQLITE_IOERR_SHMMAP: "lacks locks or shared memory, as network and FUSE ones do: name a [node]",
    sqlite3.SQLITE_READONLY_DBMOVED: "mounted read-only",
    sqlite3.SQLITE_CANTOPEN_ISDIR: "can't be opened: may the node use its folder",
    sqlite3.SQLITE_CORRUPT_INDEX: "bt-selfsecure state set-aside moves all that is there to a folder",
    sqlite3.SQLITE_NOTADB: "bt-selfsecure state set-aside moves all that is there to a folder",
    sqlite3.SQLITE_MISUSE: "(SQLITE_X): please report it",
}


@pytest.mark.parametrize("code", CODES, ids=str)
def test_the_remedy_is_that_of_sqlites_code_and_its_text_is_never_shown(code: int) -> None:
    error = sqlite3.OperationalError("database or disk is full: 00112233445566778899aabbccddeeff")
    error.sqlite_errorcode, error.sqlite_errorname = code, "SQLITE_X"
    told = str(refusal(error))
    assert CODES[code] in told
    assert "0011" not in told
    assert ("make room" in told) == (code in (sqlite3.SQLITE_FULL, SHM_SIZE))
    assert refusal(error).damaged == (code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB))


def test_an_error_that_has_no_code_is_told_too() -> None:
    assert "please report it" in str(refusal(sqlite3.ProgrammingError("Cannot operate on a closed database.")))


class Full:
    """The journal's file may grow no further."""

    words = "the disk is full: make room"

    def __init__(self, node: Node, directory: Path) -> None:
        self.database = node.journal._database

    def begin(self) -> None:
        pages = self.database.execute("PRAGMA page_count").fetchone()[0]
        self.database.execute(f"PRAGMA max_page_count = {pages}")

    def end(self) -> None:
        self.database.execute("PRAGMA max_page_count = 1000000")


class Locked:
    """Another program writes."""

    words = "another program has locked the journal"

    def __init__(self, node: Node, directory: Path) -> None:
        self.journal = directory / FILE

    def begin(self) -> None:
        self.other = sqlite3.connect(self.journal, isolation_level=None)
        self.other.execute("BEGIN IMMEDIATE")

    def end(self) -> None:
        self.other.execute("ROLLBACK")
        self.other.close()


class ReadOnly:
    words = "the journal can't be written"

    def __init__(self, node: Node, directory: Path) -> None:
        self.database = node.journal._database

    def begin(self) -> None:
        self.database.execute("PRAGMA query_only = ON")

    def end(self) -> None:
        self.database.execute("PRAGMA query_only = OFF")


REFUSALS = pytest.mark.parametrize("refusing", [Full, Locked, ReadOnly])
BIG = b"open the valve " * 1000
"""Several fragments, and more than a page."""


@contextlib.contextmanager
def refused(disk: Full | Locked | ReadOnly) -> Iterator[None]:
    disk.begin()
    try:
        yield
    finally:
        disk.end()


@REFUSALS
@pytest.mark.parametrize("durability", ["every-message", "every-W"])
@pytest.mark.parametrize("away", [False, True])
@pytest.mark.parametrize("sender", ["alice", "bob"])
def test_what_is_refused_never_comes_and_what_is_sent_after_it_comes_once(
    tmp_path: Path, refusing: type[Full | Locked | ReadOnly], durability: str, away: bool, sender: str
) -> None:
    world = World(tmp_path, session__durability=durability)
    other = {"alice": "bob", "bob": "alice"}[sender]

    async def main() -> None:
        async with world.pair() as (alice, bob):
            node = {"alice": alice, "bob": bob}[sender]
            await connected(alice, bob)
            if away:
                await world.stop(other)
                await until(lambda: not is_connected(node, other))
            disk = refusing(node, tmp_path / sender)
            with refused(disk):
                for _ in range(3):
                    with pytest.raises(JournalError, match=refusing.words):
                        await node.send(other, BIG + b"refused")
                assert refusing.words in " ".join(node.status()["problems"])
                assert peer_of(node, other)["queues"]["outbox"] == 0
            began = now()
            await node.send(other, BIG + b"at once")
            assert now() == began
            assert node.status()["problems"] == []
            if away:
                await world.start(other, sender)
            await node.send(other, b"the last", until="acknowledged")
            assert await read(world.nodes[other], 2) == [BIG + b"at once", b"the last"]
            assert await unread(world.nodes[other]) == []
            assert peer_of(node, other)["trouble"] == ""

    virtual(main())


@REFUSALS
def test_a_trouble_that_is_over_is_cleared_by_itself(
    tmp_path: Path, refusing: type[Full | Locked | ReadOnly], caplog: pytest.LogCaptureFixture
) -> None:
    """Also where the only peer is away, nobody sends, and nothing is to be written."""
    world = World(tmp_path)

    async def main() -> None:
        node = await world.start("bob", "alice")
        await world.start("alice", "bob")
        await until(lambda: is_connected(node, "alice"))
        await world.stop("alice")
        disk = refusing(node, tmp_path / "bob")
        with refused(disk):
            with pytest.raises(JournalError):
                await node.send("alice", BIG)
            await asyncio.sleep(600)
        await until(lambda: not node.status()["problems"], 2)
        assert peer_of(node, "alice")["state"] != "waiting for the disk"
        await world.close()

    with caplog.at_level(logging.INFO):
        virtual(main())
    assert len([text for text in caplog.messages if refusing.words in text]) == 1
    assert "the node's state is kept again" in caplog.messages


@REFUSALS
def test_a_disk_that_refuses_for_a_while_holds_messages_up_and_loses_none(
    tmp_path: Path, refusing: type[Full | Locked | ReadOnly]
) -> None:
    world = World(tmp_path, loss=0.1)

    async def main() -> None:
        async with world.pair() as (alice, bob):
            await connected(alice, bob)
            disk = refusing(bob, tmp_path / "bob")
            sent = [b"%d" % number for number in range(40)]
            for number, message in enumerate(sent):
                if number % 10 == 5:
                    disk.begin()
                await alice.send("bob", message)
                await asyncio.sleep(0.3)
                if number % 10 == 9:
                    disk.end()
            assert await read(bob, len(sent)) == sent

    virtual(main())


def test_a_lock_of_a_moment_is_waited_for(tmp_path: Path) -> None:
    journal = Journal(tmp_path, sync_each=True)
    other = sqlite3.connect(tmp_path / FILE, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    threading.Timer(0.05, other.execute, ("ROLLBACK",)).start()
    journal.insert("B8:27:EB:00:00:02", "outbox", "B8:27:EB:00:00:02", b"\2x")
    journal.commit()
    assert journal.trouble == ""
    journal.close()
    other.close()


def test_at_the_start_only_damage_is_called_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bt_selfsecure.node.journal_file.OPEN_S", 0.05)
    Journal(tmp_path, sync_each=True).close()
    with contextlib.closing(sqlite3.connect(tmp_path / FILE, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(JournalError, match="locked the journal: end it") as told:
            Journal(tmp_path, sync_each=True)
        assert not isinstance(told.value, UsageError), "systemd tries it again"
    Journal(tmp_path, sync_each=True).close()
