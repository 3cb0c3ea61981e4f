"""What a thief of the disk finds of keys and messages that are no more, in every byte of the files."""

from __future__ import annotations

import asyncio
import json
import random
import re
import shutil
import sqlite3
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from amounts import at_length
from node_world import ADDRESSES, World, connected, read, virtual
from two_daemons import WAITS, QuickNodes, start, wait_until

from bt_selfsecure.node.erasing import IDLE_S, PATIENCE_S, RETRY_S
from bt_selfsecure.node.haoxiao import peer_session
from bt_selfsecure.node.journal import Journal
from bt_selfsecure.node.lazy_commits import COMMIT_S
from bt_selfsecure.node.noted import PeerRow
from bt_selfsecure.node.service import Node
from bt_selfsecure.node.set_aside import FILE, LOG
from bt_selfsecure.protocols.haoxiao.record import SessionRecord

A = ADDRESSES["alice"]
ENDS = "alice", "bob"
ROUNDS = 400
W = 32
DURABILITIES = pytest.mark.parametrize("durability", ["every-message", "every-W"])


def every_byte(folder: Path) -> bytes:
    return b"\0".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def found(data: bytes, secrets: set[bytes]) -> set[bytes]:
    """Those that stand there as bytes or in hexadecimal."""
    runs = b"\0".join(run.lower() for run in re.findall(rb"[0-9a-fA-F]{16,}", data))
    return {secret for secret in secrets if secret in data or secret.hex().encode() in runs}


def halves(keys: set[bytes]) -> set[bytes]:
    """Half a key is a find, too."""
    return {key[start : start + 16] for key in keys for start in (0, 16)}


def secrets_of(record: SessionRecord) -> set[bytes]:
    """What the record needs: K_i, K_{i-1}, checkpoints, offers and continuity keys of both directions."""
    told = json.loads(record.to_json())
    hexadecimal = [*told.get("continuity", [])]
    for direction in (told["sending"], told["receiving"]):
        hexadecimal += [direction["key"], direction["offer"], *direction["checkpoints"]]
        hexadecimal += [direction.get("previous", ""), direction.get("begun_with", "")]
    return {bytes.fromhex(text) for text in hexadecimal if text}


def record_of(node: Node) -> SessionRecord:
    (peer,) = node._peers.values()
    record: SessionRecord = peer._machine.session.session.record  # type: ignore[attr-defined]
    return record


def kept_in(directory: Path) -> set[bytes]:
    """What the newest state on the disk needs, of a node that has ended."""
    with closing(sqlite3.connect(directory / FILE)) as database:
        rows = database.execute("SELECT record FROM peer").fetchall()
    return set[bytes]().union(*(secrets_of(SessionRecord.from_json(text)) for (text,) in rows))


def stolen(folder: Path, copy: Path) -> None:
    """All files, as they are now."""
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("*.sock"))


def mark_of(number: int) -> bytes:
    return b"SECRET-%06d" % number


def message(number: int) -> bytes:
    """Of any rest of two marks one is whole."""
    return mark_of(number) * (3 + number * 37 % 90)


class Truth:
    """Every key that two nodes ever had, by the round in which it was seen last, and who deletes what."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.last_seen: dict[bytes, int] = {}
        self.k0: set[bytes] = set()
        take_key = peer_session.PeerSession.take_key

        def spy(session: Any, event: Any, *others: Any) -> None:
            self.k0.add(event.k0)
            take_key(session, event, *others)

        monkeypatch.setattr(peer_session.PeerSession, "take_key", spy)

    def note(self, node: Node, number: int) -> None:
        for secret in secrets_of(record_of(node)):
            self.last_seen[secret] = number

    def dead_before(self, number: int) -> set[bytes]:
        return self.k0 | {secret for secret, last in self.last_seen.items() if last < number}


@DURABILITIES
def test_a_thief_finds_no_dead_key_and_no_delivered_message_in_any_byte_of_the_files(
    tmp_path: Path, durability: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While messages pass, none that is older than W rounds, or in `every-W` than two checkpoints; when the node has
    nothing to do, after `kill -9` then and after a stop, none at all."""
    old = W if durability == "every-message" else 2 * W
    truth = Truth(monkeypatch)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("SQLITE_TMPDIR", str(temporary))
    world = World(tmp_path / "nodes", session__durability=durability, session__checkpoint_rounds=W)
    (tmp_path / "nodes").mkdir()

    def looked_for(copies: Path, when: int) -> None:
        dead, delivered = truth.dead_before(when), {mark_of(number) for number in range(when)}
        for name in ENDS:
            data = every_byte(copies / name)
            assert found(data, halves(dead - kept_in(copies / name))) == set(), (name, copies.name)
            assert found(data, delivered) == set(), (name, copies.name)

    async def main() -> None:
        async with world.pair() as (alice, bob):
            await connected(alice, bob)
            for number in range(ROUNDS):
                for node in (alice, bob):
                    truth.note(node, number)
                if number % 4 == 1:
                    await bob.send("alice", message(number), until="acknowledged")
                    assert await read(alice, 1) == [message(number)]
                else:
                    await alice.send("bob", message(number), until="acknowledged")
                    assert await read(bob, 1) == [message(number)]
                if number % 97 == 96:
                    stolen(world.folder, tmp_path / f"after {number}")
                    looked_for(tmp_path / f"after {number}", number - old)
            await asyncio.sleep(2 * IDLE_S + 1)
            assert len(truth.last_seen) > ROUNDS
            for node in (alice, bob):
                truth.note(node, ROUNDS)
            stolen(world.folder, tmp_path / "killed")  # as kill -9 leaves it
            assert any((tmp_path / "killed" / name / LOG).exists() for name in ENDS)
            looked_for(tmp_path / "killed", ROUNDS)
        stolen(world.folder, tmp_path / "stopped")
        looked_for(tmp_path / "stopped", ROUNDS)
        assert list(temporary.iterdir()) == []

    virtual(main())


MARK = re.compile(rb"mark-(\d{7})")


def marked(number: int, length: int) -> bytes:
    return (b"mark-%07d" % number) * (length // 12 + 1)


@pytest.mark.parametrize("seed", range(4))
def test_no_rest_of_a_deleted_row_stays_in_a_page_however_the_rows_came_and_went(tmp_path: Path, seed: int) -> None:
    """SQLite's `secure_delete` alone leaves some where it rebuilds a page."""
    draw = random.Random(seed)
    journal = Journal(tmp_path, sync_each=False)
    rows: dict[tuple[str, int], int] = {}
    kept: dict[str, int] = {}
    peers = [f"B8:27:EB:00:00:{number:02X}" for number in range(12)]
    for number in range(1, 2001):
        length = draw.choice((20, 100, 300, 900, 3000, 6000))
        match draw.choice(("bring", "bring", "delete", "delete", "keep")):
            case "bring":
                table = draw.choice(("outbox", "inbox"))
                values = (0, 0.0) if table == "inbox" else ()
                rows[table, journal.insert(A, table, A, *values, marked(number, length))] = number
            case "delete" if rows:
                (table, row) = min(rows) if seed % 2 else draw.choice(list(rows))
                del rows[table, row]
                journal.delete(A, table, row)
            case _:
                peer = draw.choice(peers)
                kept[peer] = number
                text = marked(number, length).decode()
                journal.keep(peer, lambda text=text: PeerRow(text, "{}", True))
        if draw.random() < 0.7:
            journal.commit()
        if number % 50 == 0:
            journal.commit()
            assert journal.erase(room=draw.choice((0.0, 1.5))) == ""
            there = {int(digits) for digits in MARK.findall(every_byte(tmp_path))}
            assert there == {*rows.values(), *kept.values()}
    journal.close()


@pytest.mark.parametrize("durability", ["every-message", at_length("every-W")])
@pytest.mark.timeout(120)
def test_a_thief_of_the_disk_of_a_daemon_that_was_killed_finds_what_is_alive_alone(
    tmp_path: Path, loopback_host: str, durability: str
) -> None:
    """Real daemons and `kill -9`: at rest, and in the middle of messages and then at the next start."""
    nodes = QuickNodes(tmp_path, 0.05, loopback_host, (5700, 5701))
    for name in ENDS:
        config = nodes.config(name)
        settings = f'\ndurability = "{durability}"\ncheckpoint_rounds = 16\n'
        config.write_text(config.read_text().replace("\n[session]\n", f"\n[session]{settings}"))
    keys: set[bytes] = set()

    def look(name: str) -> None:
        with (
            suppress(sqlite3.Error),
            closing(sqlite3.connect(f"file:{tmp_path / name / FILE}?mode=ro", uri=True)) as db,
        ):
            keys.update(
                *(secrets_of(SessionRecord.from_json(text)) for (text,) in db.execute("SELECT record FROM peer"))
            )

    def talk(first: int, count: int) -> None:
        for number in range(first, first + count):
            nodes.client("alice").send("bob", message(number), until="acknowledged", timeout=60)
            for received in nodes.client("bob").receive():
                assert received.message == message(number)
                nodes.client("bob").acknowledge(received.id)
            for name in ENDS:
                look(name)

    def is_read() -> bool:
        """Whether all has come; what a crash has made undone comes again."""
        for received in nodes.client("bob").receive():
            nodes.client("bob").acknowledge(received.id)
        queues = [nodes.client(name).peers()[0]["queues"] for name in ENDS]
        return not any(queue["outbox"] or queue["inbox"] for queue in queues)

    def wait_for_rest() -> None:
        """Until what is lazy is on the disk, and the logs are empty."""
        time.sleep(COMMIT_S + WAITS["node.erasing"]["IDLE_S"])
        wait_until(lambda: not any((tmp_path / name / LOG).stat().st_size for name in ENDS))

    def assert_erased(delivered: int) -> None:
        for name in ENDS:
            data = every_byte(tmp_path / name)
            alive = kept_in(tmp_path / name)
            assert alive & keys
            assert found(data, halves(keys - alive)) == set(), name
            assert found(data, {mark_of(number) for number in range(delivered)}) == set(), name

    try:
        start(nodes)
        talk(0, 40)
        wait_for_rest()
        for name in ENDS:
            nodes.kill(name)
        assert_erased(40)
        start(nodes)
        talk(40, 5)
        for name in ENDS:
            nodes.kill(name)
        start(nodes)
        wait_until(is_read)
        wait_for_rest()
        for name in ENDS:
            nodes.kill(name)
        assert_erased(45)
        assert len(keys) > (45 if durability == "every-message" else 10)
    finally:
        nodes.stop()


def test_a_program_that_keeps_the_journal_from_being_erased_is_told_until_it_ends(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(tmp_path)

    async def main() -> None:
        async with world.pair() as (alice, bob):
            await connected(alice, bob)
            with closing(sqlite3.connect(tmp_path / "bob" / FILE, isolation_level=None)) as reader:
                reader.execute("BEGIN")
                reader.execute("SELECT count(*) FROM peer").fetchone()
                await alice.send("bob", message(0), until="acknowledged")
                assert await read(bob, 1) == [message(0)]
                await asyncio.sleep(IDLE_S + 5)
                assert bob.status()["problems"] == []
                await asyncio.sleep(PATIENCE_S)
                (problem,) = bob.status()["problems"]
                assert "can't be taken out of the journal: another program reads the journal: end it" in problem
                assert found(every_byte(tmp_path / "bob"), {mark_of(0)})
            await asyncio.sleep(RETRY_S)
            assert bob.status()["problems"] == []
            assert not found(every_byte(tmp_path / "bob"), {mark_of(0)})

    virtual(main())
    assert len([text for text in caplog.messages if "can't be taken out" in text]) == 1


def test_what_an_older_version_has_left_in_the_files_is_gone_when_the_node_has_started(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "older", sync_each=True)
    journal._database.execute("PRAGMA secure_delete = OFF")
    rows = [journal.insert(A, "outbox", A, marked(number, 900)) for number in range(40)]
    journal.commit()
    for row in rows:
        journal.delete(A, "outbox", row)
    journal.commit()
    journal._database.execute("PRAGMA wal_checkpoint")
    shutil.copytree(tmp_path / "older", tmp_path / "bob")
    journal.close()
    assert MARK.search((tmp_path / "bob" / FILE).read_bytes())
    world = World(tmp_path)

    async def main() -> None:
        await world.start("bob", "alice")
        await asyncio.sleep(1)
        assert not MARK.search(every_byte(tmp_path / "bob"))
        await world.close()

    virtual(main())
