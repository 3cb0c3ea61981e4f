"""Backup and restore: what comes back is whole, and a key that is too old is refused or resynchronised, never used."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import sqlite3
import stat
from pathlib import Path

import pytest
from node_world import World, connected, fingerprint, peer_of, read, record_secrets, send_all, until, virtual

from bt_selfsecure.errors import UsageError
from bt_selfsecure.node.haoxiao.undelivered import Waiting
from bt_selfsecure.node.journal import Journal
from bt_selfsecure.node.journal_mark import LOCK
from bt_selfsecure.node.journal_schema import MIGRATIONS
from bt_selfsecure.node.lazy_commits import COMMIT_S
from bt_selfsecure.node.set_aside import FILE, LOG
from bt_selfsecure.node.state import backup, has_lost_log, restore, set_aside

A = "B8:27:EB:00:00:01"


async def talk(world: World, count: int, word: bytes) -> None:
    """So many messages from Alice to Bob, all read."""
    await send_all(world.nodes["alice"], "bob", [b"%s %d" % (word, number) for number in range(count)])
    assert await read(world.nodes["bob"], count) == [b"%s %d" % (word, number) for number in range(count)]


async def put_back(world: World, copy: Path) -> None:
    """Alice stops, gets her old state, and begins again."""
    await world.stop("alice")
    restore(copy, world.folder / "alice")
    await world.start("alice", "bob")


@pytest.mark.parametrize("durability", ["every-message", "every-W"])
def test_a_restored_key_is_resynchronised_where_ends_may_forget_and_else_replaced(
    tmp_path: Path, durability: str
) -> None:
    """None of the keys that were in the copy is used again. In `every-message` who comes with an older key is a thief,
    or has to agree on a new one."""

    async def main() -> None:
        async with world.pair() as (alice, bob):
            await connected(alice, bob)
            await talk(world, 10, b"before")
            await asyncio.sleep(2 * COMMIT_S)  # the acknowledgement of the last one is on disk, too
            backup(tmp_path / "alice", tmp_path / "copy")
            old_key = fingerprint(alice, "bob")
            await talk(world, 10, b"meanwhile")
            await put_back(world, tmp_path / "copy")
            in_copy = record_secrets(world.nodes["alice"], "bob")
            await connected(world.nodes["alice"], bob)
            assert (fingerprint(bob, "alice") == old_key) is (durability == "every-W")
            assert fingerprint(world.nodes["alice"], "bob") == fingerprint(bob, "alice")
            await talk(world, 10, b"after")
            assert not {chain["key"] for chain in chains(world)} & set(in_copy)

    world = World(tmp_path, session__durability=durability)
    virtual(main())


def chains(world: World) -> list[dict[str, str]]:
    """Both directions of Alice's session with Bob, as they are in memory."""
    (peer,) = world.nodes["alice"]._peers.values()
    assert peer._machine.session.session
    record = json.loads(peer._machine.session.session.record.to_json())
    return [record["sending"], record["receiving"]]


def test_a_restored_key_that_the_peer_has_left_behind_is_refused_and_a_new_one_agreed_on(tmp_path: Path) -> None:
    """After another establishment and more rounds than two checkpoints reach back."""

    async def main() -> None:
        async with world.pair() as (alice, bob):
            await connected(alice, bob)
            backup(tmp_path / "alice", tmp_path / "copy")
            old_key = fingerprint(alice, "bob")
            assert (await alice.establish("bob"))["established"]
            await connected(alice, bob)
            await talk(world, 30, b"meanwhile")
            left_behind = fingerprint(bob, "alice")
            await put_back(world, tmp_path / "copy")
            await until(lambda: fingerprint(bob, "alice") not in (old_key, left_behind))
            await connected(world.nodes["alice"], bob)
            assert peer_of(bob, "alice")["rejections"].get("not made with the key", 0) > 0
            await talk(world, 10, b"after")

    world = World(tmp_path, session__checkpoint_rounds=4)
    virtual(main())


def test_messages_that_waited_in_the_copy_come_once_where_its_key_is_resynchronised(tmp_path: Path) -> None:
    async def main() -> None:
        async with world.pair() as (alice, bob):
            await connected(alice, bob)
            await world.stop("bob")
            await send_all(alice, "bob", [b"one", b"two"])
            backup(tmp_path / "alice", tmp_path / "copy")
            bob = await world.start("bob", "alice")
            assert await read(bob, 2) == [b"one", b"two"]
            await put_back(world, tmp_path / "copy")
            await connected(world.nodes["alice"], bob)
            await send_all(world.nodes["alice"], "bob", [b"three"])
            assert await read(bob, 1) == [b"three"]

    world = World(tmp_path, session__durability="every-W")
    virtual(main())


@pytest.mark.parametrize("dropped", [False, True])
@pytest.mark.parametrize("meanwhile", ["nothing", "a new key and more rounds", "the peer lost its state"])
def test_what_waited_in_a_copy_is_counted_and_comes_again_under_a_new_key_unless_it_is_dropped(
    tmp_path: Path, meanwhile: str, dropped: bool
) -> None:
    long = bytes(range(256)) * 300
    """Of several fragments, the first of them under way."""
    sent = [long, b"two", b"three"]

    async def main() -> None:
        async with world.pair() as (alice, bob):
            await connected(alice, bob)
            for number in range(2):
                await bob.send("alice", b"for a reader %d" % number, until="acknowledged")
            await world.stop("bob")
            await send_all(alice, "bob", sent)
            backup(tmp_path / "alice", tmp_path / "copy")
            bob = await world.start("bob", "alice")
            assert await read(bob, 3) == sent
            assert len(await read(alice, 2)) == 2
            if meanwhile == "a new key and more rounds":
                assert (await alice.establish("bob"))["established"]
                await connected(alice, bob)
                await talk(world, 30, b"meanwhile")
            await world.stop("alice")
            if meanwhile == "the peer lost its state":
                await world.stop("bob")
                set_aside(tmp_path / "bob")
                bob = await world.start("bob", "alice")
            restored = restore(tmp_path / "copy", tmp_path / "alice", drop_messages=dropped)
            assert restored.waiting == Waiting(to_send=3, to_read=2)
            alice = await world.start("alice", "bob")
            assert peer_of(alice, "bob")["queues"]["inbox"] == (0 if dropped else 2)
            await connected(alice, bob)
            await send_all(alice, "bob", [b"the last"])
            again = [] if dropped else sent
            assert await read(bob, len(again) + 1) == [*again, b"the last"]

    world = World(tmp_path, session__checkpoint_rounds=4)
    virtual(main())


def test_a_backup_of_a_running_node_is_whole_private_and_one_file(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "state", sync_each=False)
    journal.insert(A, "outbox", A, b"kept")
    journal.commit()
    size = backup(tmp_path / "state", tmp_path / "copy")
    assert size == (tmp_path / "copy").stat().st_size > 0
    assert stat.S_IMODE((tmp_path / "copy").stat().st_mode) == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "state"]
    with pytest.raises(UsageError, match=r"another node uses .*: stop it"):
        restore(tmp_path / "copy", tmp_path / "state")
    journal.write(A, "DELETE FROM outbox")
    journal.commit(sync=True)
    journal.close()
    old = restore(tmp_path / "copy", tmp_path / "state").old
    restored = Journal(tmp_path / "state", sync_each=False)
    assert [fragment for _, fragment in restored.outbox(A)] == [b"kept"]
    restored.close()
    assert old
    assert old.name.startswith("set-aside-")
    with contextlib.closing(sqlite3.connect(old / FILE)) as database:
        assert database.execute("SELECT count(*) FROM outbox").fetchone() == (0,)
    assert stat.S_IMODE((tmp_path / "state" / FILE).stat().st_mode) == 0o600


def test_a_new_card_without_a_state_takes_a_backup(tmp_path: Path) -> None:
    Journal(tmp_path / "state", sync_each=False).close()
    backup(tmp_path / "state", tmp_path / "copy")
    assert restore(tmp_path / "copy", tmp_path / "new").old is None
    Journal(tmp_path / "new", sync_each=False).close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_root_restores_belongs_to_the_nodes_user(tmp_path: Path) -> None:
    Journal(tmp_path / "state", sync_each=False).close()
    backup(tmp_path / "state", tmp_path / "copy")
    (tmp_path / "new").mkdir()
    os.chown(tmp_path / "new", 1234, 5678)
    restore(tmp_path / "copy", tmp_path / "new")
    owners = {path.name: (path.stat().st_uid, path.stat().st_gid) for path in (tmp_path / "new").iterdir()}
    assert owners == dict.fromkeys((FILE, LOCK), (1234, 5678))


@pytest.mark.parametrize("number", range(1, len(MIGRATIONS) + 1))
def test_a_backup_of_each_format_tells_what_waits_in_it_and_is_marked_as_one(tmp_path: Path, number: int) -> None:
    fixture = Path(__file__).parent / "fixtures" / f"journal-{number}.sql"
    with contextlib.closing(sqlite3.connect(tmp_path / "copy")) as database:
        database.executescript(fixture.read_text())
    assert restore(tmp_path / "copy", tmp_path / "state").waiting == (2, 1)
    with contextlib.closing(Journal(tmp_path / "state", sync_each=True)) as journal:
        row = journal.peer("B8:27:EB:00:00:02")
        assert row
        assert json.loads(row.facts)["restored"]
        assert [message for *_, message in journal.inbox()] == [b"world"]


def test_what_is_no_backup_is_refused_and_the_state_stays(tmp_path: Path) -> None:
    Journal(tmp_path / "state", sync_each=False).close()
    before = (tmp_path / "state" / FILE).read_bytes()
    (tmp_path / "text").write_text("a photo of a cat")
    with contextlib.closing(sqlite3.connect(tmp_path / "other")) as database:
        database.executescript("CREATE TABLE cat (name TEXT)")
    for source, words in (
        ("text", "is damaged or no journal"),
        ("other", "is another program's database"),
        ("nowhere", "there is no backup"),
        ("state", "there is no backup"),
    ):
        with pytest.raises(UsageError, match=words):
            restore(tmp_path / source, tmp_path / "state")
    assert (tmp_path / "state" / FILE).read_bytes() == before
    assert sorted(path.name for path in (tmp_path / "state").iterdir()) == [FILE, "lock"]


@pytest.mark.parametrize("kind", ["text", "another program's", "cut", "a page of noise"])
def test_the_remedy_for_what_is_no_backup_leaves_the_nodes_own_state_alone(tmp_path: Path, kind: str) -> None:
    Journal(tmp_path / "state", sync_each=False).close()
    data, source = (tmp_path / "state" / FILE).read_bytes(), tmp_path / "source"
    match kind:
        case "text":
            source.write_text("a photo of a cat")
        case "another program's":
            with contextlib.closing(sqlite3.connect(source)) as database:
                database.executescript("CREATE TABLE cat (name TEXT)")
        case "cut":
            source.write_bytes(data[:-4096])
        case _:
            source.write_bytes(data[:100] + bytes(range(256)) * 15 + data[3940:])
    with pytest.raises(UsageError) as refused:
        restore(source, tmp_path / "state")
    assert str(refused.value).endswith(": name another backup; the node's state stays as it is")


def test_a_backup_where_there_is_no_state_leaves_nothing_there(tmp_path: Path) -> None:
    """An empty journal would keep the node from starting."""
    Journal(tmp_path / "state", sync_each=True).close()
    set_aside(tmp_path / "state")
    before = sorted((tmp_path / "state").iterdir())
    assert not has_lost_log(tmp_path / "state")
    with pytest.raises(UsageError, match="has a node ever run here"):
        backup(tmp_path / "state", tmp_path / "copy")
    assert sorted((tmp_path / "state").iterdir()) == before
    Journal(tmp_path / "state", sync_each=True).close()


def test_a_backup_never_replaces_a_file_and_needs_a_state(tmp_path: Path) -> None:
    Journal(tmp_path / "state", sync_each=False).close()
    (tmp_path / "copy").write_text("precious")
    with pytest.raises(UsageError, match="is there already"):
        backup(tmp_path / "state", tmp_path / "copy")
    assert (tmp_path / "copy").read_text() == "precious"
    with pytest.raises(UsageError, match="has a node ever run here"):
        backup(tmp_path, tmp_path / "other")
    with pytest.raises(UsageError, match=r"can't back up .* to .*No such file or directory"):
        backup(tmp_path / "state", tmp_path / "nowhere/copy")
    assert not (tmp_path / "other").exists()


def killed(directory: Path, fragment: bytes) -> None:
    """A state whose newest part stands in the WAL alone."""
    journal = Journal(directory.with_name("living"), sync_each=True)
    journal.insert(A, "outbox", A, fragment)
    journal.commit()
    shutil.copytree(directory.with_name("living"), directory)
    journal.close()
    shutil.rmtree(directory.with_name("living"))
    assert (directory / LOG).stat().st_size


def waiting(directory: Path) -> list[bytes | None]:
    journal = Journal(directory, sync_each=True)
    found = [fragment for _, fragment in journal.outbox(A)]
    journal.close()
    return found


@pytest.mark.parametrize("shape", ["folder", "file"])
def test_what_was_set_aside_after_a_power_cut_comes_back_whole(tmp_path: Path, shape: str) -> None:
    killed(tmp_path / "state", b"kept")
    folder = set_aside(tmp_path / "state")
    assert folder.parent == tmp_path / "state"
    assert waiting(tmp_path / "state") == []
    old = restore(folder if shape == "folder" else folder / FILE, tmp_path / "state").old
    assert old
    assert old != folder
    assert waiting(tmp_path / "state") == [b"kept"]
    assert waiting(folder) == [b"kept"], "the folder stays as it is"


def test_half_of_a_state_that_was_moved_away_by_hand_is_not_restored_as_if_it_were_whole(tmp_path: Path) -> None:
    killed(tmp_path / "state", b"kept")
    (tmp_path / "state" / FILE).rename(tmp_path / "moved.db")
    with pytest.raises(UsageError, match=r"is gone, and its .*-wal is there: .*state set-aside"):
        Journal(tmp_path / "state", sync_each=True)
    with pytest.raises(UsageError, match=r"the other is .*journal.db-wal: mv .*moved.db .*journal.db, then start"):
        restore(tmp_path / "moved.db", tmp_path / "state")
    (tmp_path / "moved.db").rename(tmp_path / "state" / FILE)
    assert waiting(tmp_path / "state") == [b"kept"]


def test_a_backup_may_take_the_place_of_half_a_state_and_that_half_is_kept(tmp_path: Path) -> None:
    Journal(tmp_path / "other", sync_each=True).close()
    backup(tmp_path / "other", tmp_path / "copy")
    killed(tmp_path / "state", b"kept")
    log = (tmp_path / "state" / LOG).read_bytes()
    (tmp_path / "state" / FILE).unlink()
    old = restore(tmp_path / "copy", tmp_path / "state").old
    assert old
    assert (old / LOG).read_bytes() == log


@pytest.mark.parametrize("step", range(4))
def test_a_restore_that_is_interrupted_leaves_one_of_the_two_states_whole(
    tmp_path: Path, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed(tmp_path / "state", b"old")
    killed(tmp_path / "copy", b"new")
    real, left = Path.replace, step

    def crashing(path: Path, target: Path) -> Path:
        nonlocal left
        left -= 1
        if left < 0:
            raise ZeroDivisionError
        return real(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", crashing)
        with pytest.raises(ZeroDivisionError):
            restore(tmp_path / "copy", tmp_path / "state")
    assert waiting(tmp_path / "state") == [b"new" if step else b"old"]
    assert not (tmp_path / "state" / ".restore").exists()


def test_what_is_not_whole_is_not_restored(tmp_path: Path) -> None:
    Journal(tmp_path / "state", sync_each=False).close()
    data = (tmp_path / "state" / FILE).read_bytes()
    (tmp_path / "empty").touch()
    with contextlib.closing(sqlite3.connect(tmp_path / "bare")) as database:
        database.execute("PRAGMA journal_mode = WAL")
    (tmp_path / "cut").write_bytes(data[:-4096])
    (tmp_path / "header").write_bytes(data[:20])
    for name in ("empty", "bare", "cut", "header"):
        with pytest.raises(UsageError, match="damaged"):
            restore(tmp_path / name, tmp_path / "state")
    assert (tmp_path / "state" / FILE).read_bytes() == data
    assert sorted(path.name for path in (tmp_path / "state").iterdir()) == [FILE, LOCK]
