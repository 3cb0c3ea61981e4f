"""The journal's files go, or others come in their place, under the running node: it tells, and loses nothing."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from node_world import World, connected, fingerprint, is_connected, peer_of, read, unread, until, virtual

from bt_selfsecure.node.journal import Journal
from bt_selfsecure.node.journal_file import JournalError
from bt_selfsecure.node.journal_mark import LOCK
from bt_selfsecure.node.set_aside import FILE, FILES, LOG


def delete(*names: str) -> Callable[[Path], None]:
    def deleting(directory: Path) -> None:
        for name in names:
            (directory / name).unlink()

    return deleting


def delete_all_of_it(directory: Path) -> None:
    shutil.rmtree(directory)


def replace_by_another_nodes(directory: Path) -> None:
    """With a backup of its own, as people do it by hand."""
    Journal(directory.with_name("other"), sync_each=True).close()
    (directory.with_name("other") / FILE).rename(directory / FILE)


def replace_by_noise(directory: Path) -> None:
    (directory / "noise").write_bytes(b"noise")
    (directory / "noise").replace(directory / FILE)


def replace_the_log(directory: Path) -> None:
    (directory / "noise").write_bytes(b"noise")
    (directory / "noise").replace(directory / LOG)


WAYS = [
    delete(FILE),
    delete(LOG),
    delete(FILE, LOG, f"{FILE}-shm"),
    delete(FILE, LOG, f"{FILE}-shm", LOCK),
    delete_all_of_it,
    replace_by_another_nodes,
    replace_by_noise,
    replace_the_log,
]


@pytest.mark.parametrize("durability", ["every-message", "every-W"])
@pytest.mark.parametrize("way", WAYS)
def test_what_goes_under_the_running_node_is_written_anew_and_told(
    tmp_path: Path, way: Callable[[Path], None], durability: str
) -> None:
    """And what was found in its place is kept. A crash right after that loses nothing."""
    world = World(tmp_path, session__durability=durability)

    async def main() -> None:
        async with world.pair() as (alice, bob):
            await connected(alice, bob)
            key = fingerprint(alice, "bob")
            await world.stop("bob")
            await until(lambda: not is_connected(alice, "bob"))
            await alice.send("bob", b"before")
            way(tmp_path / "alice")
            alice.look_at_disk()
            await alice.send("bob", b"after")
            (problem,) = alice.status()["problems"]
            assert "was deleted or replaced while the node ran: the node wrote its state anew" in problem
            kept = list((tmp_path / "alice").glob("set-aside-*"))
            assert len(kept) == (way not in (WAYS[2], WAYS[3], delete_all_of_it))
            assert all(str(folder) in problem for folder in kept)
            if way is replace_by_noise:
                assert (kept[0] / FILE).read_bytes() == b"noise"
            shutil.copytree(tmp_path / "alice", tmp_path / "crashed")
            await world.stop("alice")
            shutil.rmtree(tmp_path / "alice")
            shutil.copytree(tmp_path / "crashed", tmp_path / "alice")
            alice = await world.start("alice", "bob")
            bob = await world.start("bob", "alice")
            assert await read(bob, 2) == [b"before", b"after"]
            assert fingerprint(alice, "bob") == key
            assert alice.status()["problems"] == []

    virtual(main())


def test_what_happens_to_the_files_again_is_told_once_in_the_status(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with contextlib.closing(Journal(tmp_path, sync_each=True)) as journal:
        for _ in range(3):
            for name in (FILE, *FILES):
                (tmp_path / name).unlink(missing_ok=True)
            journal.look()
        assert len(journal.notes) == 1
    assert caplog.text.count("was deleted or replaced") == 3


@pytest.fixture
def looking(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second has passed since the last look."""
    monkeypatch.setattr("bt_selfsecure.node.journal.LOOK_S", 0.0)


@pytest.mark.parametrize("way", WAYS[:4])
def test_what_was_taken_before_the_node_looks_is_not_lost(tmp_path: Path, way: Callable[[Path], None]) -> None:
    """It looks once a second, and writes all that is open anew."""
    with contextlib.closing(Journal(tmp_path, sync_each=True)) as journal:
        way(tmp_path)
        journal.insert("B8:27:EB:00:00:02", "outbox", "B8:27:EB:00:00:02", b"\2one")
        journal.commit()
        assert not journal.notes
        journal.look()
        assert journal.notes
    with contextlib.closing(Journal(tmp_path, sync_each=True)) as journal:
        assert [fragment for _, fragment in journal.outbox("B8:27:EB:00:00:02")] == [b"\2one"]


@pytest.mark.parametrize("way", WAYS[:4])
def test_a_send_notices_it_too_and_is_kept(tmp_path: Path, way: Callable[[Path], None], looking: None) -> None:
    with contextlib.closing(Journal(tmp_path, sync_each=True)) as journal:
        journal.insert("B8:27:EB:00:00:02", "outbox", "B8:27:EB:00:00:02", b"\2one")
        journal.commit()
        way(tmp_path)
        journal.insert("B8:27:EB:00:00:02", "outbox", "B8:27:EB:00:00:02", b"\2two")
        journal.commit()
        assert journal.notes
        assert {LOCK, FILE} <= {path.name for path in tmp_path.iterdir()}
    with contextlib.closing(Journal(tmp_path, sync_each=True)) as journal:
        assert [fragment for _, fragment in journal.outbox("B8:27:EB:00:00:02")] == [b"\2one", b"\2two"]


def test_where_another_node_has_begun_there_meanwhile_nothing_more_is_taken(tmp_path: Path, looking: None) -> None:
    world = World(tmp_path)

    async def main() -> None:
        async with world.pair() as (alice, bob):
            await connected(alice, bob)
            delete_all_of_it(tmp_path / "alice")
            with contextlib.closing(Journal(tmp_path / "alice", sync_each=True)):
                with pytest.raises(JournalError, match="was deleted or replaced: another node uses"):
                    await alice.send("bob", b"refused")
                assert "another node uses" in alice.status()["problems"][0]
                await asyncio.sleep(60)
            await until(lambda: "written anew" in str(alice.status()) or not peer_of(alice, "bob")["trouble"], 60)
            await alice.send("bob", b"taken", until="acknowledged")
            assert await unread(bob) == [b"taken"]

    virtual(main())


def test_a_file_that_goes_bad_under_the_running_node_ends_it_and_the_next_start_takes_what_is_whole(
    tmp_path: Path,
) -> None:
    world = World(tmp_path)

    async def main() -> None:
        async with world.pair() as (alice, bob):
            await connected(alice, bob)
            await world.stop("bob")
            await until(lambda: not is_connected(alice, "bob"))
            await alice.send("bob", b"taken " * 2000)
            database = alice.journal._database
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            database.execute("PRAGMA cache_size = 0")
            (root,) = database.execute("SELECT rootpage FROM sqlite_master WHERE name = 'outbox'").fetchone()
            with (tmp_path / "alice" / FILE).open("r+b") as file:
                file.seek((root - 1) * 4096)
                file.write(bytes(4096))
            database.execute("PRAGMA shrink_memory")
            alice.look_at_disk()
            with pytest.raises(JournalError, match=r"the journal is damaged: .*state set-aside"):
                await alice.send("bob", b"refused")
            with pytest.raises(JournalError, match="the next start takes over what can be read"):
                alice.look_at_disk()
            await world.stop("alice")
            alice = await world.start("alice", "bob")
            assert "the journal was damaged: what could be read of it is in use" in alice.status()["problems"][0]
            bob = await world.start("bob", "alice")
            await connected(alice, bob)
            await alice.send("bob", b"at last", until="acknowledged")
            assert await unread(bob) == [b"at last"]

    virtual(main())


def test_a_peer_that_begins_anew_waits_for_a_disk_that_gives_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(tmp_path)

    async def main() -> None:
        async with world.pair() as (alice, bob):
            await connected(alice, bob)
            await world.stop("bob")
            await until(lambda: not is_connected(alice, "bob"))
            (peer,) = alice._peers.values()
            database = alice.journal._database
            with contextlib.closing(sqlite3.connect(":memory:")) as nothing:
                alice.journal._database = nothing
                begins = asyncio.create_task(alice._peers._from_disk(peer))
                await asyncio.sleep(1)
                assert not begins.done()
                assert "bob: the node's state can't be read" in caplog.text
            alice.journal._database = database
            again = await begins
            fresh, before = again.status()["key"], peer.status()["key"]
            # Here only the monotonic clock is virtual: an age across a beginning is by the other one.
            assert {**fresh, "age_s": 0, "since": 0} == {**before, "age_s": 0, "since": 0}

    virtual(main())


def test_the_files_of_the_state_are_all_that_sqlite_makes(tmp_path: Path) -> None:
    with contextlib.closing(Journal(tmp_path, sync_each=True)):
        assert {path.name for path in tmp_path.iterdir()} <= {*FILES, LOCK}
    with contextlib.closing(sqlite3.connect(tmp_path / FILE, isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode = DELETE")
        database.execute("BEGIN IMMEDIATE")
        database.execute("DELETE FROM sqlite_sequence")
        assert {path.name for path in tmp_path.iterdir()} <= {*FILES, LOCK}
