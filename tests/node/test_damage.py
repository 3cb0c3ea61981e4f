"""A damaged cell of the journal is that record's fault: the node starts, tells it, shows nothing of it, and serves
the others."""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import sqlite3
from collections.abc import Iterable
from pathlib import Path

import pytest
from damage import CELLS, KINDS, damage
from node_world import ADDRESSES, World, is_connected, peer_of, record_secrets, unread, until, virtual

from bt_selfsecure.node.damaged_rows import QUEUES
from bt_selfsecure.node.haoxiao.kept import stored_messages
from bt_selfsecure.node.journal import DamagedError, Journal, PeerRow
from bt_selfsecure.node.journal_file import address_number
from bt_selfsecure.node.messages import Joiner, parse, split
from bt_selfsecure.node.set_aside import FILE

BOB, CAROL = ADDRESSES["bob"], ADDRESSES["carol"]
TO_BOB = [b"one fragment", bytes(range(200)) * 2, b"the third"]
"""Of one, five and one fragment; Carol's stand between them."""
SIZE = 100


def filled(directory: Path) -> None:
    journal = Journal(directory, sync_each=True)
    for address in (BOB, CAROL):
        journal.keep(address, lambda address=address: PeerRow(f"record of {address}", '{"key": {}}', True))
        for piece in (b"half", b"received"):
            journal.insert(address, "partial", address, piece)
        for message in (b"first", b"second"):
            journal.insert(address, "inbox", address, 1, 1.5, message)
    for message in TO_BOB:
        for fragment in split(message, 0, SIZE):
            journal.insert(BOB, "outbox", BOB, fragment)
        journal.insert(CAROL, "outbox", CAROL, next(split(b"to Carol", 0, SIZE)))
    journal.commit()
    journal.close()


def messages_of(fragments: Iterable[tuple[int, bytes]]) -> list[bytes]:
    """What a peer would join."""
    joiner = Joiner()
    parsed = (parse(fragment) for _, fragment in fragments)
    joined = (joiner.add(fragment) for fragment in parsed if fragment)
    return [message for message in joined if message is not None]


def rows_of(directory: Path, table: str) -> int:
    with contextlib.closing(sqlite3.connect(directory / FILE)) as database, database:
        return int(database.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("table", "column"), CELLS)
def test_a_damaged_cell_costs_that_record_alone_and_is_told_without_its_content(
    tmp_path: Path, table: str, column: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    filled(tmp_path / "whole")
    for row in range(rows_of(tmp_path / "whole", table)):
        directory = tmp_path / str(row)
        shutil.copytree(tmp_path / "whole", directory)
        damage(directory, table, column, row, kind)
        caplog.clear()
        journal = Journal(directory, sync_each=True)
        lost_peers = []
        for address in (BOB, CAROL):
            try:
                assert journal.peer(address) == PeerRow(f"record of {address}", '{"key": {}}', True)
            except DamagedError as error:
                lost_peers.append(str(error))
        (for_bob, of_bob), (for_carol, of_carol) = (stored_messages(journal, address) for address in (BOB, CAROL))
        to_bob, to_carol = messages_of(for_bob), messages_of(for_carol)
        pieces = [piece for address in (BOB, CAROL) for piece in journal.partial(address)]
        inbox = [message for *_, message in journal.inbox()]
        assert set(to_bob) <= set(TO_BOB)
        assert set(to_carol) <= {b"to Carol"}
        assert set(inbox) <= {b"first", b"second"}
        lost = len(TO_BOB) - len(to_bob), 3 - len(to_carol)
        assert len(lost_peers) == (table == "peer")
        assert "record of" not in str(lost_peers)
        assert sum(lost) == of_bob + of_carol == (table == "outbox")
        assert len(pieces) == 4 - 2 * (table == "partial")
        assert len(inbox) == 4 - (table == "inbox")
        journal.close()
        assert bool(caplog.messages) == (table != "peer")
        assert all("dropped" in text for text in caplog.messages)


def test_a_damaged_row_is_gone_with_the_next_commit_and_told_once(tmp_path: Path) -> None:
    filled(tmp_path)
    damage(tmp_path, "inbox", "message", 1, "ones")
    for damaged in (1, 0):
        journal = Journal(tmp_path, sync_each=True)
        assert len(journal.damaged) == damaged
        assert len(journal.inbox()) == 3
        journal.close()


def test_a_damaged_counter_gives_no_number_out_twice(tmp_path: Path) -> None:
    filled(tmp_path)
    with contextlib.closing(sqlite3.connect(tmp_path / FILE)) as database, database:
        database.execute("UPDATE sqlite_sequence SET seq = NULL WHERE name = 'outbox'")
        database.execute("UPDATE sqlite_sequence SET seq = ? WHERE name = 'inbox'", ((1 << 63) - 1,))
    journal = Journal(tmp_path, sync_each=True)
    assert journal.insert(BOB, "outbox", BOB, b"\2") > max(number for number, _ in journal.outbox(BOB))
    assert journal.insert(BOB, "inbox", BOB, 1, 1.5, b"new") > max(number for number, *_ in journal.inbox())
    journal.commit()
    journal.close()


@pytest.mark.parametrize("gone", range(5))
def test_a_message_of_which_a_part_is_gone_without_a_trace_is_dropped_and_counted(tmp_path: Path, gone: int) -> None:
    """But for its first parts, which may have been sent."""
    filled(tmp_path)
    with contextlib.closing(sqlite3.connect(tmp_path / FILE)) as database, database:
        numbers = [row[0] for row in database.execute("SELECT id FROM outbox WHERE peer = ? ORDER BY id", (BOB,))]
        database.execute("DELETE FROM outbox WHERE id = ?", (numbers[1 + gone],))
    with contextlib.closing(Journal(tmp_path, sync_each=True)) as journal:
        fragments, dropped = stored_messages(journal, BOB)
        assert messages_of(fragments) == [TO_BOB[0], TO_BOB[2]]
        assert dropped == (gone > 0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("column", ["peer", "record", "digest"])
def test_a_damaged_group_is_told_dropped_and_costs_no_other(tmp_path: Path, column: str, kind: str) -> None:
    with contextlib.closing(Journal(tmp_path, sync_each=True)) as journal:
        for number in (2, 4):
            journal.replace("group_state", number, BOB, f"record of {number}")
        journal.commit()
    damage(tmp_path, "group_state", column, 0, kind)
    for is_told in (True, False):
        with contextlib.closing(Journal(tmp_path, sync_each=True)) as journal:
            assert journal.groups() == [(4, BOB, "record of 4")]
            assert ["what was kept of a group was damaged" in note for note in journal.notes] == [True] * is_told
            journal.commit()


@pytest.mark.parametrize("number", [(1 << 62) - 1, 1 << 62, (1 << 63) - 1])
def test_a_damaged_number_of_a_row_is_not_counted_on_from(tmp_path: Path, number: int) -> None:
    filled(tmp_path)
    with contextlib.closing(sqlite3.connect(tmp_path / FILE)) as database, database:
        for table in QUEUES:
            database.execute(f"UPDATE {table} SET id = ? WHERE id = (SELECT max(id) FROM {table})", (number,))
    for lost in (len(QUEUES), 0):
        with contextlib.closing(Journal(tmp_path, sync_each=True)) as journal:
            assert len(journal.damaged) == lost
            added = journal.insert(BOB, "inbox", BOB, 1, 1.5, b"new")
            journal.commit()
            assert (added, b"new") in [(number, message) for number, *_, message in journal.inbox()]
            assert journal.trouble == ""


DAVE = ADDRESSES["dave"]
"""Configured, and never met."""
NUMBERS = {
    "a stranger's": lambda number: number ^ 1 << 47,
    "another peer's": lambda number: address_number(DAVE),
    "the first": lambda number: 0,
    "the last": lambda number: (1 << 48) - 1,
    "beyond all addresses": lambda number: number | 1 << 60,
    "negative": lambda number: number - (1 << 63),
}
"""What a damaged address of a peer's row is then."""


def readdress(directory: Path, address: str, number: int, *, record: str = "") -> None:
    """Change the address of this peer's row, and its record, if there is one."""
    with contextlib.closing(sqlite3.connect(directory / FILE)) as database, database:
        database.execute("UPDATE peer SET id = ? WHERE id = ?", (number, address_number(address)))
        database.execute("UPDATE peer SET record = ? WHERE id = ? AND ? != ''", (record, number, record))


def damage_told(journal: Journal) -> dict[str, bool]:
    """To whom it is told that what was kept of them is damaged."""
    told = {}
    for name in ("bob", "carol", "dave"):
        try:
            journal.peer(ADDRESSES[name])
        except DamagedError:
            told[name] = True
        else:
            told[name] = False
    return told


@pytest.mark.parametrize("kind", NUMBERS)
def test_a_damaged_address_of_a_peer_is_told_of_the_peer_whose_row_it_was(tmp_path: Path, kind: str) -> None:
    filled(tmp_path)
    readdress(tmp_path, BOB, NUMBERS[kind](address_number(BOB)))
    for told in (True, False):
        with contextlib.closing(Journal(tmp_path, sync_each=True, peers=(BOB, CAROL, DAVE))) as journal:
            assert damage_told(journal) == {"bob": told, "carol": False, "dave": False}
            assert [row.peer for row in journal.damaged] == [BOB] * told


@pytest.mark.parametrize("kind", NUMBERS)
def test_a_peers_row_that_nobody_can_tell_whose_it_was_is_told_of_all_that_have_none(tmp_path: Path, kind: str) -> None:
    filled(tmp_path)
    readdress(tmp_path, BOB, NUMBERS[kind](address_number(BOB)), record="another")
    with contextlib.closing(Journal(tmp_path, sync_each=True, peers=(BOB, CAROL, DAVE))) as journal:
        told = damage_told(journal)
        assert not told["carol"]
        assert told["dave"]
        assert told["bob"] == (kind != "another peer's")


@pytest.mark.parametrize("table", ["outbox", "partial", "inbox"])
def test_a_message_whose_damaged_peer_is_another_one_is_told_of_the_one_that_it_was_of(
    tmp_path: Path, table: str
) -> None:
    filled(tmp_path)
    with contextlib.closing(sqlite3.connect(tmp_path / FILE)) as database, database:
        (number,) = database.execute(f"SELECT max(id) FROM {table} WHERE peer = ?", (BOB,)).fetchone()
        database.execute(f"UPDATE {table} SET peer = ? WHERE id = ?", (DAVE, number))
    with contextlib.closing(Journal(tmp_path, sync_each=True, peers=(BOB, CAROL, DAVE))) as journal:
        assert [(row.table, row.id, row.peer) for row in journal.damaged] == [(table, number, BOB)]
        assert stored_messages(journal, BOB)[1] == (table == "outbox")
        assert [stored_messages(journal, address)[1] for address in (CAROL, DAVE)] == [0, 0]


def of_format_1(directory: Path) -> None:
    fixture = Path(__file__).parent / "fixtures" / "journal-1.sql"
    directory.mkdir()
    with contextlib.closing(sqlite3.connect(directory / FILE)) as database, database:
        database.executescript(fixture.read_text())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("column", ["address", "record", "facts", "synchronised"])
def test_a_damaged_peer_of_format_1_is_no_reason_not_to_start(tmp_path: Path, column: str, kind: str) -> None:
    of_format_1(tmp_path / "alice")
    with contextlib.closing(sqlite3.connect(tmp_path / "alice" / FILE)) as database, database:
        old = database.execute(f"SELECT {column} FROM peer").fetchone()[0]
        new = KINDS[kind](old.encode() if isinstance(old, str) else old)
        place = "CAST(? AS TEXT)" if isinstance(new, bytes) else "?"
        (declared,) = database.execute("SELECT sql FROM sqlite_master WHERE name = 'peer'").fetchone()
        loose = "CREATE TABLE peer (address PRIMARY KEY, record, facts, synchronised)"
        database.execute("PRAGMA writable_schema = ON")
        database.execute("UPDATE sqlite_master SET sql = ? WHERE name = 'peer'", (loose,))
        database.execute("PRAGMA writable_schema = RESET")
        database.execute(f"UPDATE peer SET {column} = {place}", (new,))
        database.execute("PRAGMA writable_schema = ON")
        database.execute("UPDATE sqlite_master SET sql = ? WHERE name = 'peer'", (declared,))
        database.execute("PRAGMA writable_schema = RESET")
    world = World(tmp_path)

    async def main() -> None:
        alice = await world.start("alice", "bob")
        bob = await world.start("bob", "alice")
        await until(lambda: is_connected(alice, "bob") and is_connected(bob, "alice"), 300)
        await world.close()

    virtual(main())


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """State of Alice, who has keys with Bob and Carol, messages for both and from both; and theirs."""
    folder = tmp_path_factory.mktemp("lived")
    world = World(folder)

    async def main() -> None:
        alice = await world.start("alice", "bob", "carol")
        bob, carol = await world.start("bob", "alice"), await world.start("carol", "alice")
        await until(lambda: is_connected(alice, "bob") and is_connected(alice, "carol"))
        for node in (bob, carol):
            await node.send("alice", b"to alice", until="acknowledged")
        await world.stop("bob")
        await world.stop("carol")
        for name in ("bob", "carol"):
            for number in range(3):
                await alice.send(name, b"%d for %s " % (number, name.encode()) * 500)
        await world.close()

    virtual(main())
    journal = Journal(folder / "alice", sync_each=True)
    journal.insert(BOB, "partial", BOB, b"half received")
    journal.commit()
    journal.close()
    return folder


@pytest.mark.parametrize(("number", "cell"), list(enumerate(CELLS)))
def test_a_node_with_a_damaged_cell_starts_tells_it_and_has_all_its_peers_again(
    lived: Path, tmp_path: Path, number: int, cell: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    table, column = cell
    for name in ("alice", "bob", "carol"):
        shutil.copytree(lived / name, tmp_path / name)
    kind = list(KINDS)[number % len(KINDS)]
    damage(tmp_path / "alice", table, column, 0, kind)
    world = World(tmp_path)
    sent = {name: [b"%d for %s " % (number, name.encode()) * 500 for number in range(3)] for name in ("bob", "carol")}

    async def main() -> None:
        alice = await world.start("alice", "bob", "carol")
        told = json.dumps(alice.status())
        bob, carol = await world.start("bob", "alice"), await world.start("carol", "alice")
        await until(lambda: is_connected(alice, "bob") and is_connected(alice, "carol"), 900)
        for name in ("bob", "carol"):
            await alice.send(name, b"at last", until="acknowledged")
        came = {name: [*await unread(node)] for name, node in (("bob", bob), ("carol", carol))}
        lost = {name: [message for message in sent[name] if message not in came[name]] for name in sent}
        assert all(set(came[name]) <= {*sent[name], b"at last"} for name in sent)
        assert len(lost["bob"]) <= (table in ("peer", "outbox"))
        assert lost["carol"] == []
        if table == "peer":
            assert "damaged on the disk" in told
            assert peer_of(alice, "bob")["counts"]["dropped"] == 2, "one to Bob, and one from him"
            assert "what was kept of bob was damaged on the disk, and a message that was under way is lost" in " ".join(
                alice.status()["problems"]
            )
            assert len(lost["bob"]) == 1
        else:
            (problem,) = [text for text in alice.status()["problems"] if "damaged on the disk" in text]
            assert f"(1 {QUEUES[table]}: bob)" in problem
            assert f"a message {QUEUES[table]} ({BOB}) was damaged" in caplog.text
            assert peer_of(alice, "bob")["counts"]["dropped"] == (table in ("outbox", "partial"))
        assert peer_of(alice, "carol")["counts"]["dropped"] == 0
        secrets = record_secrets(alice, "bob") + record_secrets(alice, "carol")
        assert not [secret for secret in secrets if secret in caplog.text or secret in told]
        await world.close()

    with caplog.at_level(logging.DEBUG):
        virtual(main())
    with contextlib.closing(sqlite3.connect(lived / "alice" / FILE)) as database, database:
        stored = [text for row in database.execute("SELECT record FROM peer") for text in row]
    keys = [
        key for text in stored for key in (json.loads(text)["sending"]["key"], json.loads(text)["receiving"]["key"])
    ]
    assert keys
    assert not [key for key in keys if key[:16] in caplog.text]
    assert "for bob" not in caplog.text


@pytest.mark.parametrize("kind", NUMBERS)
def test_a_node_names_the_peer_whose_address_was_damaged_and_has_it_again(
    lived: Path, tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("alice", "bob", "carol"):
        shutil.copytree(lived / name, tmp_path / name)
    readdress(tmp_path / "alice", BOB, NUMBERS[kind](address_number(BOB)))
    world = World(tmp_path)

    async def main() -> None:
        alice = await world.start("alice", "bob", "carol", "dave")
        (problem,) = [text for text in alice.status()["problems"] if "damaged" in text]
        assert problem.startswith("what was kept of bob was damaged")
        assert "damaged" in peer_of(alice, "bob")["trouble"]
        assert [peer_of(alice, name)["counts"]["dropped"] for name in ("bob", "carol", "dave")] == [2, 0, 0]
        await world.start("bob", "alice")
        await until(lambda: is_connected(alice, "bob"), 900)
        assert "bob: what was kept of this peer is damaged" in caplog.text
        await world.close()

    virtual(main())
